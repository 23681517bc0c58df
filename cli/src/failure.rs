//! Why a command could not do what it was asked to: what, where, why, and what to do.

use crate::exit::Exit;

/// A command's error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How the command ends.
    pub exit: Exit,
    /// A word for scripts.
    pub code: &'static str,
    /// One line: the thing and the cause.
    pub message: String,
    /// The next step.
    pub help: Option<String>,
}

impl Failure {
    /// Input that is refused.
    pub fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, code, message)
    }

    /// Wrong usage.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// Something that this machine does not let be done.
    pub fn cannot(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Exit::Cannot, code, message)
    }

    /// Any.
    pub fn new(exit: Exit, code: &'static str, message: impl Into<String>) -> Self {
        Self { exit, code, message: message.into(), help: None }
    }

    /// Adds the next step.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
