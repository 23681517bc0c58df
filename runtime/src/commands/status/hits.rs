//! How often each item decided.

use std::collections::BTreeMap;

use mesh_bpf::flow::{Direction, Verdict};
use mesh_bpf::image::MapImage;
use mesh_bpf::item::counter_key;
use mesh_bpf::prefix::Prefix;

use crate::error::Result;
use crate::system::System;

/// An item with how often it decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemHits {
    /// Index into the image's sources.
    pub source: usize,
    /// The item's address.
    pub prefix: Prefix,
    /// What it makes of connections; `None`: an exempt identity, whose are not touched.
    pub verdict: Option<Verdict>,
    /// Decisions since the maps were made.
    pub hits: u64,
}

/// Which items the counters are of. Counters of items that the image does not have (of earlier
/// generations) are left out.
#[must_use]
pub fn items(image: &MapImage, hits: &BTreeMap<u64, u64>) -> Vec<ItemHits> {
    let mut found: BTreeMap<(usize, Prefix), u64> = BTreeMap::new();
    if hits.is_empty() {
        return Vec::new();
    }
    each_item(image, |source, prefix, key| {
        if let Some(&hits) = hits.get(&key) {
            found.insert((source, prefix), hits);
        }
    });
    // Whatever an item's ports, its verdict is one.
    let decisions = image.port_tables.iter().flat_map(|table| &table.stretches);
    let verdicts: BTreeMap<usize, Verdict> =
        decisions.map(|(_, decision)| (decision.source.0 as usize, decision.verdict)).collect();
    let of = |source| verdicts.get(&source).copied();
    (found.into_iter())
        .map(|((source, prefix), hits)| ItemHits { source, prefix, verdict: of(source), hits })
        .collect()
}

/// Source, address and key of the counter of every item that decides something; of some more than once.
pub(crate) fn each_item(image: &MapImage, mut note: impl FnMut(usize, Prefix, u64)) {
    let hashes: Vec<u64> = image.sources.iter().map(mesh_bpf::image::Source::stable_hash).collect();
    // An exempt identity has no address, and its counter no prefix.
    for (source, &hash) in hashes.iter().enumerate() {
        note(source, Prefix::Any, hash);
    }
    let sides = image
        .profiles
        .iter()
        .flat_map(|profile| Direction::ALL.into_iter().flat_map(|direction| profile.trees(direction)));
    for nodes in sides.flat_map(|side| [&side.tree, &side.own]) {
        let parents = mesh_bpf::image::parents(nodes);
        for (index, node) in nodes.iter().enumerate() {
            for table in node.ports.iter().filter_map(|&id| image.port_table(id)) {
                for (_, decision) in &table.stretches {
                    let mut at = index;
                    for _ in 0..decision.up {
                        at = parents.get(at).copied().flatten().map_or(at, |parent| parent as usize);
                    }
                    let source = decision.source.0 as usize;
                    if let (Some(&hash), Some(item)) = (hashes.get(source), nodes.get(at)) {
                        note(source, item.prefix, counter_key(hash, item.prefix));
                    }
                }
            }
        }
    }
}

/// Counters by key, added up over CPUs. Keys have 4 or 8 bytes.
pub(crate) fn sums<S: System>(system: &S, map: &S::Map) -> Result<BTreeMap<u64, u64>> {
    let number = |bytes: &[u8]| match *bytes {
        [a, b, c, d] => u64::from(u32::from_ne_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        _ => 0,
    };
    let sum = |value: &[u8]| value.chunks_exact(8).map(number).fold(0, u64::wrapping_add);
    Ok((system.entries(map)?.iter()).map(|(key, value)| (number(key), sum(value))).collect())
}
