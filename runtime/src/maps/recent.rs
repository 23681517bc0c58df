//! Whether programs keep the last decisions, and what they are told of who looks.

use mesh_bpf::abi;

use super::pinned::{ControlMap, PinnedMaps};
use crate::error::Result;
use crate::node::Node;
use crate::state::record;
use crate::system::{System, Word};

/// Notes whether decisions are to be kept, where that is said.
pub(crate) fn note<S: System>(node: Node<'_, S>, wanted: Option<bool>) -> Result<()> {
    let file = node.instance.keep_decisions_file();
    match wanted {
        Some(wanted) if wanted != is_noted(node)? => record::write(node.system, &file, &wanted, false),
        _ => Ok(()),
    }
}

/// Whether decisions are to be kept: they are, unless somebody said otherwise.
fn is_noted<S: System>(node: Node<'_, S>) -> Result<bool> {
    Ok(record::read(node.system, &node.instance.keep_decisions_file())?.unwrap_or(true))
}

/// Makes the programs do what was noted. What was kept goes when nothing is kept any more.
pub(crate) fn follow<S: System>(node: Node<'_, S>, maps: &PinnedMaps<S>) -> Result<()> {
    let wanted = is_noted(node)?;
    if wanted == is_kept(node.system, &maps.control) {
        return Ok(());
    }
    turn(node.system, &maps.control, abi::OBSERVE_RECENT, wanted)?;
    if let Some(recent) = maps.recent.as_ref().filter(|_| !wanted) {
        // A program that began before may still write.
        maps.grace_period(node.system)?;
        node.system.fill(recent, &vec![0; size_of::<abi::Recent>() * abi::RECENT as usize])?;
    }
    Ok(())
}

/// Whether the programs keep decisions.
pub(crate) fn is_kept<S: System>(system: &S, control: &ControlMap<S>) -> bool {
    control.load(system).observe & abi::OBSERVE_RECENT != 0
}

/// Turns the programs' eyes to a watch, or to what is kept, or away from it.
pub(crate) fn turn<S: System>(system: &S, control: &ControlMap<S>, bit: u64, on: bool) -> Result<()> {
    loop {
        let old = control.load(system).observe;
        let new = if on { old | bit } else { old & !bit };
        if control.exchange(system, Word::Observe, old, new)? {
            return Ok(());
        }
    }
}
