//! What goes wrong with a command, and what became of it.

use std::process::ExitStatus;

use crate::errno::Errno;

/// On which side of a call a command is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the kernel has done anything.
    Before,
    /// When the kernel has done it all and the command has not seen the result.
    After,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing; the calls are only counted.
    None,
    /// `SIGKILL` to the whole command at the call of this number, the first being 1.
    Kill(usize, Moment),
    /// The call of this number is not made and returns an error. Only on x86-64.
    Fail(usize, Errno),
}

/// What became of a command.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The calls it made of those that count, by name; the last one is where it was killed.
    pub calls: Vec<&'static str>,
    /// Whether the fault struck: not where the command made fewer calls.
    pub struck: bool,
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}
