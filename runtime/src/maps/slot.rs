//! The policy tables of a slot: read back, and written.

use std::collections::BTreeMap;
use std::mem::offset_of;

use mesh_bpf::abi::{LINE, ManifestHeader, Node};
use mesh_bpf::map::{self, TABLES, Table};
use mesh_bpf::tables::{Manifest, TableData, Tables, is_known};

use crate::error::{Error, Result};
use crate::maps::pinned::PinnedMaps;
use crate::system::{SysResult, System};

/// What belongs to the two slots, in their order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PerSlot<T>([Option<T>; 2]);

impl<T> PerSlot<T> {
    /// What belongs to `slot`, and to the other one.
    pub(crate) fn of(slot: u32, this: Option<T>, other: Option<T>) -> Self {
        Self(if slot == 0 { [this, other] } else { [other, this] })
    }
}

impl<T> IntoIterator for PerSlot<T> {
    type Item = Option<T>;
    type IntoIter = std::array::IntoIter<Option<T>, 2>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The first line of a manifest: the part that every version can read.
pub(crate) fn header<S: System>(system: &S, tables: &S::Map, slot: u32) -> Result<Option<ManifestHeader>> {
    let Some(map) = table(system, tables, slot, Table::Manifest)? else { return Ok(None) };
    let bytes = system.content(&map, LINE)?;
    Ok(bytemuck::try_pod_read_unaligned(&bytes).ok())
}

/// The manifest of a slot.
pub(crate) fn manifest<S: System>(system: &S, maps: &PinnedMaps<S>, slot: u32) -> Result<Manifest> {
    let found = header(system, &maps.tables, slot)?;
    if let Some(found) = found.map(|header| header.policy_abi).filter(|&found| !is_known(found)) {
        return Err(Error::OtherAbi { found });
    }
    let data = read(system, maps, slot, Table::Manifest, LINE * (1 + TABLES))?;
    Ok(Manifest::read(&data)?)
}

/// One table of a slot, as its manifest describes it.
pub(crate) fn read_table<S: System>(
    system: &S,
    maps: &PinnedMaps<S>,
    slot: u32,
    manifest: &Manifest,
    table: Table,
) -> Result<TableData> {
    let bytes = usize::try_from(manifest.table(table).bytes).unwrap_or(usize::MAX);
    read(system, maps, slot, table, bytes)
}

/// All tables of a slot but the manifest.
pub(crate) fn read_tables<S: System>(
    system: &S,
    maps: &PinnedMaps<S>,
    slot: u32,
    manifest: &Manifest,
) -> Result<Tables> {
    let mut tables = Tables::default();
    for table in Table::ALL.into_iter().filter(|&table| table != Table::Manifest) {
        tables.set(table, read_table(system, maps, slot, manifest, table)?);
    }
    Ok(tables)
}

/// The map of one table of a slot; `None` where the slot has none.
pub(crate) fn table<S: System>(
    system: &S,
    tables: &S::Map,
    slot: u32,
    table: Table,
) -> Result<Option<S::Map>> {
    let Some(id) = system.lookup(tables, &table.index(slot).to_ne_bytes())? else { return Ok(None) };
    let id = id.try_into().map_or(0, u32::from_ne_bytes);
    Ok(system.map_by_id(id)?)
}

fn read<S: System>(
    system: &S,
    maps: &PinnedMaps<S>,
    slot: u32,
    which: Table,
    bytes: usize,
) -> Result<TableData> {
    let missing = || Error::MissingTable(which.word());
    let map = table(system, &maps.tables, slot, which)?.ok_or_else(missing)?;
    if system.map_info(&map)?.capacity as usize * LINE < bytes {
        return Err(missing());
    }
    let mut content = system.content(&map, bytes)?;
    if which == Table::Nodes {
        forget_tallies(&mut content);
    }
    Ok(TableData::from_bytes(&content))
}

/// How often nodes decided is no part of the policy.
fn forget_tallies(nodes: &mut [u8]) {
    for record in nodes.chunks_exact_mut(size_of::<Node>()) {
        if let Some(tally) = record.get_mut(offset_of!(Node, tally)..) {
            tally.fill(0);
        }
    }
}

/// The counts that nodes hold, by the keys of their items.
fn tallies<S: System>(system: &S, nodes: &S::Map) -> Result<Vec<(u64, u64)>> {
    let capacity = system.map_info(nodes)?.capacity as usize * LINE;
    let content = system.content(nodes, capacity)?;
    let records = content.chunks_exact(size_of::<Node>()).map(bytemuck::pod_read_unaligned::<Node>);
    let counted = records.flat_map(|node| node.decision.into_iter().zip(node.tally));
    Ok(counted.filter(|&(_, count)| count > 0).map(|(it, count)| (it.key, count.into())).collect())
}

/// The tables of nodes of both slots, each once, and none of another version.
fn all_nodes<S: System>(system: &S, tables: &S::Map) -> Result<BTreeMap<u32, S::Map>> {
    let mut found = BTreeMap::new();
    for slot in [0, 1] {
        if header(system, tables, slot)?.is_none_or(|header| !is_known(header.policy_abi)) {
            continue;
        }
        if let Some(map) = table(system, tables, slot, Table::Nodes)? {
            found.insert(system.map_info(&map)?.id, map);
        }
    }
    Ok(found)
}

/// Counts that are not in the map of counters yet.
pub(crate) fn uncollected<S: System>(system: &S, tables: &S::Map) -> Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    for nodes in all_nodes(system, tables)?.values() {
        found.extend(tallies(system, nodes)?);
    }
    Ok(found)
}

/// Puts maps into a free slot, and adds what the nodes there counted to the counters of their items. Whoever is killed
/// between loses that.
pub(crate) fn put<S: System>(system: &S, maps: &PinnedMaps<S>, elements: &[(u32, &S::Map)]) -> Result<()> {
    let before = all_nodes(system, &maps.tables)?;
    system.put_maps(&maps.tables, elements)?;
    let after = all_nodes(system, &maps.tables)?;
    for (_, gone) in before.iter().filter(|(id, _)| !after.contains_key(*id)) {
        system.add_hits(&maps.hits, &tallies(system, gone)?)?;
    }
    Ok(())
}

/// A map with the content of one table, read back and closed to writing. The slot will own it: it is not pinned.
pub(crate) fn make<S: System>(system: &S, which: Table, data: &TableData) -> Result<S::Map> {
    let mut map = filled(system, data);
    for _ in 0..RETRIES {
        match map {
            Err(cause) if cause.errno() == Some(EBUSY) => map = filled(system, data),
            _ => break,
        }
    }
    let map = map?;
    if system.holds(&map, data.padded())? { Ok(map) } else { Err(Error::Altered(which.word())) }
}

/// How often a table is recreated where a child of this process has a part in it.
const RETRIES: usize = 20;
const EBUSY: i32 = 16;

/// Fails with `EBUSY` where another thread forked just while the table was mapped: the child has the
/// mapping too, and keeps the map writable until it executes or ends.
fn filled<S: System>(system: &S, data: &TableData) -> SysResult<S::Map> {
    let lines = u32::try_from(data.line_count()).unwrap_or(u32::MAX);
    let map = system.create_map(&map::INNER, lines, None)?;
    system.fill(&map, data.padded())?;
    system.freeze(&map)?;
    Ok(map)
}
