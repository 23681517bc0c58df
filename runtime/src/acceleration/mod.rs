//! Acceleration: bytes of chosen TCP connections go from socket to socket, past the stack.
//!
//! A cargo feature. What is below is the same with and without it: whether a policy asks for it, and taking away what
//! another build attached. The rest is `enforced`, `programs`, `report` and `stalled`, or `none` in their place.

#[cfg(feature = "acceleration")]
mod enforced;
#[cfg(feature = "acceleration")]
mod entries;
mod facts;
#[cfg(not(feature = "acceleration"))]
mod none;
#[cfg(feature = "acceleration")]
mod programs;
#[cfg(feature = "acceleration")]
mod report;
#[cfg(feature = "acceleration")]
mod stalled;

use mesh_bpf::abi::LINE;
use mesh_bpf::map::ACCELERATED;

use crate::error::Result;
use crate::maps::pinned::ControlMap;
use crate::node::Node;
use crate::system::{System, Word};

#[cfg(feature = "acceleration")]
pub(crate) use enforced::{check, enforce, status, warnings, works};
pub use facts::{
    Acceleration, Carriage, Counting, FionreadReaderStatus, ItemCarriage, PairStatus, SpliceReaderStatus,
};
#[cfg(not(feature = "acceleration"))]
pub(crate) use none::{check, drain, enforce, missing, rescue, retire, status, unread, warnings, works};
#[cfg(feature = "acceleration")]
pub(crate) use programs::{drain, missing, retire, unread};
#[cfg(feature = "acceleration")]
pub(crate) use stalled::rescue;

/// Whether a policy accelerates anything, by its table of profiles.
pub(crate) fn wanted(profiles: &[u8]) -> bool {
    profiles.chunks_exact(LINE).any(|line| {
        bytemuck::try_pod_read_unaligned::<mesh_bpf::abi::Profile>(line)
            .is_ok_and(|profile| profile.accelerate_local != 0 || profile.accelerate_peers != 0)
    })
}

/// Detaches them: bytes go the slow path from now on.
pub(crate) fn detach<S: System>(node: Node<'_, S>) -> Result<()> {
    if let Some(sockets) = node.system.open_map(&node.instance.maps().join(ACCELERATED.name))? {
        node.system.detach_message(&sockets)?;
    }
    for name in node.system.list(&node.instance.accelerators())?.unwrap_or_default() {
        node.system.remove(&node.instance.accelerators().join(name))?;
    }
    node.system.remove_dir(&node.instance.accelerators())?;
    set_flags(node, 0)
}

/// Takes every socket out of the map, as if it had never been there: unread bytes of the fast path are lost.
pub(crate) fn release<S: System>(node: Node<'_, S>) -> Result<()> {
    if let Some(sockets) = node.system.open_map(&node.instance.maps().join(ACCELERATED.name))? {
        for (cookie, _) in node.system.entries(&sockets)? {
            node.system.delete(&sockets, &cookie)?;
        }
    }
    Ok(())
}

/// Tells the other programs what there is to look up.
fn set_flags<S: System>(node: Node<'_, S>, what: u64) -> Result<()> {
    let Some(control) = ControlMap::open(node)? else { return Ok(()) };
    loop {
        let old = control.load(node.system).acceleration;
        // The lower half is the programs' own.
        let new = old & u64::from(u32::MAX) | what << 32;
        if old == new || control.exchange(node.system, Word::Acceleration, old, new)? {
            return Ok(());
        }
    }
}
