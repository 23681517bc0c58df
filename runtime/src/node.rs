//! An instance on a machine, as everything below the commands takes it.

use crate::instance::Instance;

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
