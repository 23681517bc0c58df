//! How often each item decided: counters of all namespaces, and what those had counted that are gone.

use std::collections::BTreeMap;

use mesh_nft::Counter;

use super::live::table;
use super::target::Target;
use crate::error::Result;
use crate::node::Node;
use crate::state::record;
use crate::system::System;

/// The file, beside those of the members, of what counters had counted that are gone.
const GONE: &str = "hits";

/// Counts by the name of the counter.
type Counts = BTreeMap<String, u64>;

fn file<S: System>(node: Node<'_, S>) -> std::path::PathBuf {
    node.instance.members().join(GONE)
}

/// Keeps what the counters of a namespace have counted, before its table goes. Whoever is killed between counts it
/// twice.
pub(crate) fn keep<S: System>(node: Node<'_, S>, target: &Target) -> Result<()> {
    let counted = node.system.packets(&target.netns, target.cookie, table(node.instance).as_str())?;
    if counted.values().all(|count| *count == 0) {
        return Ok(());
    }
    let mut gone: Counts = record::read(node.system, &file(node)).ok().flatten().unwrap_or_default();
    add(&mut gone, counted);
    record::write(node.system, &file(node), &gone, false)
}

fn add(all: &mut Counts, counted: Counts) {
    for (name, count) in counted {
        if count > 0 {
            let sum = all.entry(name).or_default();
            *sum = sum.saturating_add(count);
        }
    }
}

/// Forgets what was counted.
pub(crate) fn forget<S: System>(node: Node<'_, S>) -> Result<()> {
    Ok(node.system.remove(&file(node))?)
}

/// Counts by the keys of items. What all items of a source count together is told of the source.
pub(crate) fn all<S: System>(node: Node<'_, S>) -> Result<BTreeMap<u64, u64>> {
    let mut all: Counts = record::read(node.system, &file(node)).ok().flatten().unwrap_or_default();
    for target in Target::all(node)? {
        match node.system.packets(&target.netns, target.cookie, table(node.instance).as_str()) {
            Ok(counted) => add(&mut all, counted),
            // It ended just now.
            Err(cause) if cause.has_ended() => {}
            Err(cause) => return Err(cause.into()),
        }
    }
    let mut by_key = BTreeMap::new();
    for (name, count) in all {
        if let Some(counter) = Counter::parse(&name) {
            let sum: &mut u64 = by_key.entry(counter.key).or_default();
            *sum = sum.saturating_add(count);
        }
    }
    Ok(by_key)
}
