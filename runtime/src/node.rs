//! An instance on a machine, as everything below the commands takes it.

use crate::error::Result;
use crate::instance::Instance;
use crate::system::System;

/// Which instance, and the machine that it is on.
#[derive(Debug)]
pub(crate) struct Node<'a, S> {
    /// What every step goes through.
    pub(crate) system: &'a S,
    /// Where its pins and files are, and how it is to be.
    pub(crate) instance: &'a Instance,
}

// Both are references: what is derived would ask for a machine that can be copied.
impl<S> Clone for Node<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Node<'_, S> {}

impl<S: System> Node<'_, S> {
    /// Whether the cgroup is there that programs are attached to. Every one of the second version has this file, and none
    /// of the first.
    pub(crate) fn is_cgroup(&self) -> Result<bool> {
        Ok(self.system.inode(&self.instance.cgroup.join("cgroup.controllers"))?.is_some())
    }
}
