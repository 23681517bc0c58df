//! An instance on a machine: what every command is a method of.

use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::node::Node;
use crate::system::System;
use crate::system::linux::Kernel;

/// What holds for every command of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Milliseconds to wait for another command's lock.
    pub lock_timeout: u64,
    /// How this command is called, for whoever waits for it.
    pub command: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { lock_timeout: 10_000, command: "meshc".into() }
    }
}

/// One instance on one machine.
#[derive(Debug)]
pub struct Runtime<S: System = Kernel> {
    pub(crate) system: S,
    pub(crate) instance: Instance,
    pub(crate) options: Options,
}

impl Runtime<Kernel> {
    /// The instance on the kernel that we run on. Touches nothing.
    ///
    /// # Errors
    /// Where the instance's name cannot be the name of a pin.
    pub fn open(instance: Instance, options: Options) -> Result<Self> {
        Self::on(Kernel::new(), instance, options)
    }
}

impl<S: System> Runtime<S> {
    /// The instance on another kernel, such as one that fails when a test asks it to.
    ///
    /// # Errors
    /// Where the instance's name cannot be the name of a pin.
    pub fn on(system: S, instance: Instance, options: Options) -> Result<Self> {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if instance.name.is_empty() || instance.name.len() > 64 || !instance.name.chars().all(fits) {
            return Err(Error::BadName(instance.name));
        }
        Ok(Self { system, instance, options })
    }

    /// Which instance it is.
    #[must_use]
    pub const fn instance(&self) -> &Instance {
        &self.instance
    }

    /// What its commands go through.
    pub const fn system(&self) -> &S {
        &self.system
    }

    /// Both together.
    pub(crate) const fn node(&self) -> Node<'_, S> {
        Node { system: &self.system, instance: &self.instance }
    }
}
