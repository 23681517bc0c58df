//! A generation that is taken back unless somebody confirms it.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::node::Node;
use crate::state::record;
use crate::system::System;

/// A generation that waits to be confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingConfirmation {
    /// It.
    pub generation: u64,
    /// The generation whose policy comes back; 0: nothing was live, and nothing will be.
    pub back_to: u64,
    /// Milliseconds since boot, on a clock that nobody sets.
    pub deadline: u64,
    /// The boot that it went live in.
    pub boot_id: String,
}

pub(crate) fn read<S: System>(node: Node<'_, S>) -> Result<Option<PendingConfirmation>> {
    record::read(node.system, &node.instance.confirm())
}
