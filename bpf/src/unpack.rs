//! The map image of tables: what a kernel or an artifact holds, as people can read it.
//!
//! Nothing is believed: every reference is checked, and in the end the image is packed again and must give
//! the very same records, so that tables which could not have come from [`pack`](crate::pack::pack) are refused.

use std::collections::BTreeMap;

use crate::abi::{self, PORT_DEPTH, PortLine, TREE_DEPTH, TreeLine};
use crate::flow::{Direction, Verdict};
use crate::image::{
    Acceleration, Classes, Decision, Exempt, IdRange, MapImage, Node, PortTable, PortTableId, Profile,
    ProfileId, Side, Source, SourceId, SourceKind, Workload,
};
use crate::map::Table;
use crate::pack::{
    ClassLines, ClassNames, MAX_LINES, Names, Ports, ProfileNames, SideNames, SourceText, difference,
    from_words,
};
use crate::ports::PortRange;
use crate::prefix::Prefix;
use crate::tables::{Damaged, Tables};
use crate::tree;

/// Unpacks tables.
///
/// # Errors
/// Where they are not what `pack` makes of any image.
pub fn unpack(tables: &Tables) -> Result<MapImage, Damaged> {
    let names = Names::read(tables.get(Table::Names))?;
    let mut reader = Reader::new(tables);
    let mut nodes = tables.get(Table::Nodes).records::<abi::Node>();
    let mut profiles = Vec::new();
    let (mut classes, mut from_node) = (names.classes.iter(), names.from_node.iter());
    let mut interfaces = names.interfaces.iter();
    let lines = names.class_lines().into_iter();
    for (((at, profile), line), lines) in
        (0..).zip(&names.profiles).zip(tables.get(Table::Profiles).records()).zip(lines)
    {
        let mut profile = reader.profile(profile, line, &mut nodes)?;
        if let Some(names) = classes.next() {
            let from_node = from_node.next().and_then(Option::as_ref);
            profile.classes = reader.classes((names, from_node), line, (at, lines), &mut nodes)?;
        }
        let interfaces = interfaces.next().into_iter().flatten();
        profile.exempt.interfaces =
            interfaces.map(|(pattern, source)| (pattern.clone(), SourceId(*source))).collect();
        profiles.push(profile);
    }
    let sources = named_sources(tables, &names)?;
    let workloads = (names.workloads.into_iter())
        .map(|(name, profile, selector)| Workload { name, selector, profile: ProfileId(profile) })
        .collect();
    let image =
        MapImage { meshes: names.meshes, sources, port_tables: reader.port_tables, profiles, workloads };
    match difference(&image, tables) {
        Ok(None) => Ok(image),
        Ok(Some(table)) => Err(Damaged { table, what: "it does not agree with the other tables" }),
        Err(_) => Err(Damaged { table: Table::Names, what: "the tables are no image" }),
    }
}

/// The sources of the tables alone, without what is decided where.
///
/// # Errors
/// Where they cannot be read.
pub fn sources(tables: &Tables) -> Result<Vec<Source>, Damaged> {
    named_sources(tables, &Names::read(tables.get(Table::Names))?)
}

fn named_sources(tables: &Tables, names: &Names) -> Result<Vec<Source>, Damaged> {
    let records: &[abi::Source] = tables.get(Table::Sources).records();
    (names.sources.iter().zip(records))
        .map(|(text, record)| {
            let SourceText { scope, head, preposition, tail } = text.clone();
            let damaged = |what| Damaged { table: Table::Sources, what };
            let kind = match record.kind {
                0 => SourceKind::NoRule,
                1 => SourceKind::BuiltIn,
                2 => SourceKind::Exempt,
                3 => SourceKind::Rule,
                4 => SourceKind::Accelerate,
                _ => return Err(damaged("a source has an unknown kind")),
            };
            let direction = match preposition {
                0 => None,
                1 => Some(Direction::Outbound),
                _ => Some(Direction::Inbound),
            };
            Ok(Source { kind, scope, head, direction, tail })
        })
        .collect()
}

struct Reader<'a> {
    trees: &'a [TreeLine],
    spans: &'a [u32],
    ports: &'a [PortLine],
    decisions: &'a [abi::Decision],
    port_tables: Vec<PortTable>,
    known: BTreeMap<Ports, PortTableId>,
    /// How many more cells there may be.
    cells: u64,
    /// Neighbours mostly have the same port table.
    last: Option<(Ports, PortTableId)>,
}

impl<'a> Reader<'a> {
    fn new(tables: &'a Tables) -> Self {
        Self {
            trees: tables.get(Table::Trees).records(),
            spans: tables.get(Table::Spans).records(),
            ports: tables.get(Table::Ports).records(),
            decisions: tables.get(Table::Decisions).records(),
            port_tables: Vec::new(),
            known: BTreeMap::new(),
            cells: MAX_LINES as u64,
            last: None,
        }
    }

    fn profile(
        &mut self,
        names: &ProfileNames,
        line: &abi::Profile,
        nodes: &mut &[abi::Node],
    ) -> Result<Profile, Damaged> {
        let mut makers = names.node_sources.iter();
        let mut lists: [Vec<Node>; 4] = Default::default();
        for (list, &count) in lists.iter_mut().zip(&names.nodes) {
            *list = self.list(count, &mut makers, nodes)?;
        }
        let [outbound, own_outbound, inbound, own_inbound] = lists;
        Ok(Profile {
            name: names.name.clone(),
            sides: [Side { tree: outbound, own: own_outbound }, Side { tree: inbound, own: own_inbound }],
            exempt: Exempt {
                uids: self.ids(line.exempt_uid)?,
                gids: self.ids(line.exempt_gid)?,
                cgroups: (names.exempt_cgroups.iter())
                    .map(|(path, source)| (path.clone(), SourceId(*source)))
                    .collect(),
                interfaces: Vec::new(),
            },
            missing_sidecar_refuse: line.flags & abi::PROFILE_MISSING_SIDECAR_REFUSE != 0,
            failed_attach_refuse: line.flags & abi::PROFILE_FAILED_ATTACH_REFUSE != 0,
            acceleration: Acceleration {
                local: self.accelerated(line.accelerate_local)?,
                peers: self.peers(line.accelerate_peers)?,
            },
            classes: Classes::default(),
        })
    }

    /// The next `count` nodes.
    fn list<'m>(
        &mut self,
        count: u32,
        makers: &mut impl Iterator<Item = &'m u32>,
        nodes: &mut &[abi::Node],
    ) -> Result<Vec<Node>, Damaged> {
        let (these, rest) = nodes
            .split_at_checked(count as usize)
            .ok_or(Damaged { table: Table::Nodes, what: "it is shorter than the profiles say" })?;
        *nodes = rest;
        these.iter().zip(makers).map(|(record, &source)| self.node(record, SourceId(source))).collect()
    }

    /// The classes of the profile whose line is at `at`, in their own lines.
    fn classes(
        &mut self,
        (names, from_node): (&ClassNames, Option<&SideNames>),
        line: &abi::Profile,
        (at, lines): (u32, ClassLines),
        nodes: &mut &[abi::Node],
    ) -> Result<Classes, Damaged> {
        if line.class_cells == 0 {
            return Ok(Classes::default());
        }
        let mut makers = names.node_sources.iter();
        let mut sides = Vec::new();
        for &[tree, own] in &names.nodes {
            let tree = self.list(tree, &mut makers, nodes)?;
            sides.push(Side { tree, own: self.list(own, &mut makers, nodes)? });
        }
        let mut from_node_side = None;
        if let Some(SideNames { nodes: [tree, own], node_sources }) = from_node {
            let mut makers = node_sources.iter();
            let tree = self.list(*tree, &mut makers, nodes)?;
            from_node_side = Some(Side { tree, own: self.list(*own, &mut makers, nodes)? });
        }
        let many = Damaged { table: Table::Trees, what: "there are more classes than any tables hold" };
        let node = line.flags & abi::PROFILE_TO_NODE != 0;
        let cgroups = 1 + names.cgroups.iter().map(|&(_, part)| u64::from(part)).max().unwrap_or(0);
        let cgroups = cgroups * (1 + u64::from(node));
        let (gids, groups) = self.parts(line.class_gid, cgroups)?;
        let below = groups.checked_mul(cgroups).ok_or_else(|| many.clone())?;
        let (uids, users) = self.parts(line.class_uid, below)?;
        let count = users.checked_mul(below).ok_or_else(|| many.clone())?;
        self.cells = self.cells.checked_sub(count).ok_or(many)?;
        let mut found = tree::narrow_stretches(self.trees, line.class_cells)
            .ok_or(Damaged { table: Table::Trees, what: "classes are no tree" })?;
        let behind = lines.line(Direction::Inbound, 1).map(|line| (abi::CELL_FROM_NODE, line));
        if behind.is_some() && found.pop() != behind {
            return Err(Damaged { table: Table::Trees, what: "it has no line for what comes from the node" });
        }
        let ends = found.iter().skip(1).map(|&(next, _)| u64::from(next)).chain([count]);
        let mut cells = Vec::new();
        for (&(_, found), end) in found.iter().zip(ends).filter(|_| !sides.is_empty()) {
            let class = match found.checked_sub(lines.first) {
                Some(class) if class < lines.outbound => class.checked_add(1),
                _ => Some(0).filter(|_| found == at),
            };
            let class =
                class.ok_or(Damaged { table: Table::Profiles, what: "it has no line for a class" })?;
            let end = usize::try_from(end.min(count)).unwrap_or(usize::MAX);
            cells.resize(end.max(cells.len()), class);
        }
        let cgroups = names.cgroups.clone();
        Ok(Classes { uids, gids, cgroups, node, cells, sides, from_node: from_node_side })
    }

    /// Ranges of ids with their parts, each of which adds `unit` once more to the number of a cell; and how many parts
    /// there are.
    fn parts(&self, root: u32, unit: u64) -> Result<(Vec<(IdRange, u32)>, u64), Damaged> {
        if root == 0 {
            return Ok((Vec::new(), 1));
        }
        let damaged = || Damaged { table: Table::Trees, what: "ids of classes are no tree" };
        let found = tree::narrow_stretches(self.trees, root).ok_or_else(damaged)?;
        let ends = found.iter().skip(1).map(|&(next, _)| next.saturating_sub(1)).chain([u32::MAX]);
        let (mut ranges, mut last_part) = (Vec::new(), 0);
        for (&(first, value), last) in found.iter().zip(ends) {
            let part = u32::try_from(u64::from(value) / unit).map_err(|_| damaged())?;
            last_part = last_part.max(part);
            if value != 0 {
                ranges.push((IdRange { first, last }, part));
            }
        }
        Ok((ranges, 1 + u64::from(last_part)))
    }

    fn node(&mut self, record: &abi::Node, source: SourceId) -> Result<Node, Damaged> {
        let prefix =
            prefix(record).ok_or(Damaged { table: Table::Nodes, what: "a node has no valid prefix" })?;
        let [tcp, udp] = record.decision;
        Ok(Node { prefix, source, ports: [self.port_table(tcp)?, self.port_table(udp)?] })
    }

    fn port_table(&mut self, wire: abi::Decision) -> Result<PortTableId, Damaged> {
        let ports = match wire.verdict {
            abi::VERDICT_BY_PORT => Ports::Tree(wire.source),
            _ => Ports::Alike(
                from_wire(wire)
                    .ok_or(Damaged { table: Table::Nodes, what: "a decision has an unknown verdict" })?,
            ),
        };
        if let Some((_, id)) = self.last.filter(|&(last, _)| last == ports) {
            return Ok(id);
        }
        let id = match self.known.get(&ports) {
            Some(&id) => id,
            None => self.new_port_table(ports)?,
        };
        self.last = Some((ports, id));
        Ok(id)
    }

    fn new_port_table(&mut self, ports: Ports) -> Result<PortTableId, Damaged> {
        let mut stretches = Vec::new();
        match ports {
            Ports::Alike(decision) => stretches.push((0, decision)),
            Ports::Tree(root) => {
                for (first, decision) in self.decisions_of(root)? {
                    let decision = from_wire(decision).ok_or(Damaged {
                        table: Table::Decisions,
                        what: "a decision has an unknown verdict",
                    })?;
                    stretches.push((first, decision));
                }
            }
        }
        let id = PortTableId(u32::try_from(self.port_tables.len()).unwrap_or(u32::MAX));
        self.port_tables.push(PortTable { stretches });
        self.known.insert(ports, id);
        Ok(id)
    }

    fn decisions_of(&self, root: u32) -> Result<Vec<(u16, abi::Decision)>, Damaged> {
        (tree::stretches(self.ports, root, 0, PORT_DEPTH).into_iter().flatten())
            .map(|(first, at)| Some((first, *self.decisions.get(at as usize)?)))
            .collect::<Option<Vec<_>>>()
            .filter(|stretches| !stretches.is_empty())
            .ok_or(Damaged { table: Table::Ports, what: "a port table is no tree" })
    }

    fn stretches(&self, root: u32) -> Result<Vec<(u64, u32)>, Damaged> {
        (tree::stretches(self.trees, root, 0, TREE_DEPTH).into_iter().flatten())
            .map(|(first, at)| Some((first, *self.spans.get(at as usize)?)))
            .collect::<Option<Vec<_>>>()
            .filter(|stretches| !stretches.is_empty())
            .ok_or(Damaged { table: Table::Trees, what: "a list is no tree" })
    }

    fn ids(&self, root: u32) -> Result<Vec<(IdRange, SourceId)>, Damaged> {
        if root == 0 {
            return Ok(Vec::new());
        }
        let stretches = self.stretches(root)?;
        let ends =
            stretches.iter().skip(1).map(|&(next, _)| next.saturating_sub(1)).chain([u64::from(u32::MAX)]);
        let id = |id| u32::try_from(id).unwrap_or(u32::MAX);
        Ok((stretches.iter().zip(ends))
            .filter(|&(&(_, source), _)| source != 0)
            .map(|(&(first, source), last)| (IdRange { first: id(first), last: id(last) }, SourceId(source)))
            .collect())
    }

    fn accelerated(&self, root: u32) -> Result<Vec<(PortRange, SourceId)>, Damaged> {
        if root == 0 {
            return Ok(Vec::new());
        }
        let stretches = self.decisions_of(root)?;
        let ends = stretches.iter().skip(1).map(|&(next, _)| next.saturating_sub(1)).chain([u16::MAX]);
        Ok((stretches.iter().zip(ends))
            .filter(|((_, decision), _)| decision.verdict == abi::VERDICT_ACCELERATED)
            .map(|(&(first, decision), last)| (PortRange { first, last }, SourceId(decision.source)))
            .collect())
    }

    fn peers(&self, root: u32) -> Result<BTreeMap<ProfileId, Vec<(PortRange, SourceId)>>, Damaged> {
        if root == 0 {
            return Ok(BTreeMap::new());
        }
        (self.stretches(root)?.into_iter())
            .filter(|&(_, ports)| ports != 0)
            .map(|(peer, ports)| {
                Ok((ProfileId(u32::try_from(peer).unwrap_or(u32::MAX)), self.accelerated(ports)?))
            })
            .collect()
    }
}

/// The prefix of a node, `None` where it has host bits or an impossible length.
#[must_use]
pub fn prefix(node: &abi::Node) -> Option<Prefix> {
    let address = from_words(node.address);
    let prefix = match node.family {
        abi::FAMILY_ANY => Prefix::Any,
        abi::FAMILY_V4 => Prefix::V4 {
            bits: u32::try_from(address & u128::from(u32::MAX)).ok()?,
            len: node.len.checked_sub(96).filter(|&len| len <= 32)?,
        },
        abi::FAMILY_V6 => Prefix::V6 { bits: address, len: Some(node.len).filter(|&len| len <= 128)? },
        _ => return None,
    };
    (crate::item::wire(prefix) == (address, node.len, node.family)).then_some(prefix)
}

/// A decision as the programs read it, taken apart. `None` for a verdict that is no flow's.
#[must_use]
pub fn from_wire(decision: abi::Decision) -> Option<Decision> {
    let transparent = decision.verdict & abi::VERDICT_TRANSPARENT != 0;
    let verdict = match decision.verdict & !abi::VERDICT_TRANSPARENT {
        abi::VERDICT_EXCLUDED => Verdict::Excluded,
        abi::VERDICT_DENIED => Verdict::Denied,
        abi::VERDICT_REDIRECTED => Verdict::Redirected { port: decision.port, transparent },
        _ => return None,
    };
    Some(Decision { verdict, source: SourceId(decision.source), up: decision.up })
}
