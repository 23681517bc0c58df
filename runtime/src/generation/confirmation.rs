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

/// Notes that a generation is to be taken back within so many milliseconds; written before it is live, so that it is not
/// forgotten.
pub(crate) fn wait_for<S: System>(
    node: Node<'_, S>,
    within: Option<u64>,
    generation: u64,
    back_to: u64,
) -> Result<()> {
    let Some(within) = within else { return Ok(()) };
    let waiting = PendingConfirmation {
        generation,
        back_to,
        deadline: node.system.clock().saturating_add(within),
        boot_id: node.instance.boot_id.clone(),
    };
    record::write(node.system, &node.instance.confirm(), &waiting, true)
}

/// Forgets that an earlier generation was to be confirmed, now that this one is live.
pub(crate) fn supersede<S: System>(node: Node<'_, S>, generation: u64) -> Result<()> {
    match read(node)? {
        Some(waiting) if waiting.generation != generation => {
            Ok(node.system.remove(&node.instance.confirm())?)
        }
        _ => Ok(()),
    }
}

pub(crate) fn read<S: System>(node: Node<'_, S>) -> Result<Option<PendingConfirmation>> {
    record::read(node.system, &node.instance.confirm())
}
