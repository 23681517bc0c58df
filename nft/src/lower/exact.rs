//! Which decisions are counted by item: those of sources that have few. A rule over a list of 100,000 prefixes is one
//! counter, since each counter is a chain, and each chain that differs takes the maps of ports that lead to it along.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::abi;
use mesh_bpf::flow::{Direction, Protocol};
use mesh_bpf::image::{Decision, SourceId};
use mesh_bpf::map::Table;
use mesh_bpf::pack::Ports;
use mesh_bpf::ports::PortRange;
use mesh_bpf::prefix::Prefix;
use mesh_bpf::sim::{Sim, TreeOf};
use mesh_bpf::tables::{Damaged, Tables};

use crate::scene::Scene;
use crate::unsupported::SILENT;

/// Items that a source may have, to be counted one by one.
const ITEMS: usize = 64;

/// The sources whose items are counted together, and what was read on the way.
pub(super) struct Exact {
    together: BTreeSet<SourceId>,
    tables: Read,
}

/// Tables of ports that were read.
type Read = BTreeMap<Ports, PortTable>;

/// One of them.
struct PortTable {
    ranges: Vec<(PortRange, Decision)>,
    /// The sources in it, each with the steps to its items: once.
    decided: Vec<(SourceId, u8)>,
}

impl Exact {
    /// Looks at every node that anybody in the scene is decided by.
    pub(super) fn of(sim: &Sim<'_>, tables: &Tables, scene: &Scene) -> Result<Self, Damaged> {
        let mut seen = vec![false; tables.get(Table::Nodes).records::<abi::Node>().len()];
        let (mut together, mut read) = (BTreeSet::new(), BTreeMap::new());
        let mut items: BTreeMap<SourceId, BTreeSet<Prefix>> = BTreeMap::new();
        for tree in trees(sim, scene)? {
            for span in sim.address_spans(tree).ok_or(SILENT)? {
                let seen = seen.get_mut(span.node as usize).ok_or(SILENT)?;
                if std::mem::replace(seen, true) {
                    continue;
                }
                for protocol in Protocol::ALL {
                    let ports = sim.ports(span.node, protocol).ok_or(SILENT)?;
                    for &(source, up) in &table(&mut read, sim, ports)?.decided {
                        if together.contains(&source) {
                            continue;
                        }
                        let of = items.entry(source).or_default();
                        of.insert(item(sim, span.node, up).ok_or(SILENT)?);
                        if of.len() > ITEMS {
                            together.insert(source);
                        }
                    }
                }
            }
        }
        Ok(Self { together, tables: read })
    }

    /// A table that was read.
    pub(super) fn ranges(&self, ports: Ports) -> &[(PortRange, Decision)] {
        self.tables.get(&ports).map_or(&[], |table| &table.ranges)
    }

    /// The sources in a table that was read, with the steps to their items.
    pub(super) fn decided(&self, ports: Ports) -> &[(SourceId, u8)] {
        self.tables.get(&ports).map_or(&[], |table| &table.decided)
    }

    /// Whether the items of a source are counted one by one.
    pub(super) fn is_exact(&self, source: SourceId) -> bool {
        !self.together.contains(&source)
    }
}

fn table<'r>(read: &'r mut Read, sim: &Sim<'_>, ports: Ports) -> Result<&'r PortTable, Damaged> {
    Ok(match read.entry(ports) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => {
            let ranges = sim.port_ranges(ports).ok_or(SILENT)?;
            let decided: BTreeSet<_> =
                ranges.iter().map(|(_, decision)| (decision.source, decision.up)).collect();
            entry.insert(PortTable { ranges, decided: decided.into_iter().collect() })
        }
    })
}

/// The prefix of the item of a decision at a node.
pub(super) fn item(sim: &Sim<'_>, node: u32, up: u8) -> Option<Prefix> {
    let mut at = node;
    for _ in 0..up {
        at = sim.node(at)?.1?;
    }
    Some(sim.node(at)?.0)
}

/// Every tree that somebody in the scene is decided by, once.
fn trees(sim: &Sim<'_>, scene: &Scene) -> Result<Vec<TreeOf>, Damaged> {
    let profiles: BTreeSet<_> = scene.residents.iter().map(|resident| resident.profile).collect();
    let mut trees = Vec::new();
    for profile in profiles {
        for direction in Direction::ALL {
            for class in 0..=sim.classes(profile, direction).ok_or(SILENT)? {
                trees.extend([false, true].map(|own| TreeOf { profile, class, direction, own }));
            }
        }
    }
    Ok(trees)
}
