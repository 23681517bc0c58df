//! Helps readers of accelerated connections that stall.

use crate::acceleration;
use crate::error::Result;
use crate::runtime::Runtime;
use crate::stuck_reader::StuckReader;
use crate::system::System;

impl<S: System> Runtime<S> {
    /// Helps readers of accelerated connections that stall, and says whom. Costs a look at a small map where
    /// there are none.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn rescue(&self) -> Result<Vec<StuckReader>> {
        acceleration::rescue(self.node())
    }

    /// Whether anything is accelerated, so that readers may have to be helped.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn accelerates(&self) -> Result<bool> {
        acceleration::works(self.node())
    }
}
