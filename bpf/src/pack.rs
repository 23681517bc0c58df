//! A map image as the tables that the programs read.
//!
//! # The tables, worked by hand
//! A member connects to 10.0.3.9 port 3306. Its profile's line in *profiles* names the root line of the tree
//! on IPv4 addresses in *trees*; the keys of that tree are the first addresses of stretches that one
//! node serves. The walk ends at a leaf, and the line behind it has the node: 10.0.0.0/8, say. Where all ports of
//! TCP are alike there, its line in *nodes* says the rest: excluded, by source 4, and the key of the counter of the item.
//! Else it names the root of the port tree in *ports*, whose walk ends at an index into *decisions*: excluded, by
//! source 4, whose own prefix is 0 steps above, and the stable hash of source 4; with the prefix of the node that
//! many steps above it keys the counter.
//!
//! For IPv6 the first tree is on the high 64 bits, and its walk ends at an index into *spans*, whose value is the
//! node. Where prefixes longer than /64 share them, the span has the bit `SPAN_SUBTREE` and names the root of a tree
//! on the low 64 bits.
//!
//! Where rules name identities, the line of the profile has three trees more. Its user, its group and its deepest
//! cgroup that a rule names each put a process into a part, and the parts together into a cell: cell = (user × groups +
//! group) × cgroups + cgroup, of which the first two trees, on ids, give the products and the map of cgroups the rest.
//! The third, on cells, gives the line that is gone on with: the profile's own, or that of a class, which stands in
//! *profiles* behind those of all profiles and has other roots. Where rules say `to node`, there are twice as many cells:
//! cell × 2, and 1 more if the destination is one of the node's addresses. Where rules say `from node`, the tree on cells
//! has one key more, the last there is, with the line for what comes from such an address.

use std::collections::BTreeMap;

use bytemuck::Zeroable;
use serde::{Deserialize, Serialize};

use crate::abi::{self, NO_PARENT, PortLine, SPAN_SUBTREE, TreeLine};
use crate::classes;
use crate::flow::Protocol;
use crate::flow::{Direction, Verdict};
use crate::image::{
    Classes, Decision, IdRange, MapImage, Node, PortTable, Profile, ProfileId, Side, SourceId, SourceKind,
    parents,
};
use crate::item::{counter_key, wire};
use crate::map::Table;
use crate::ports::PortRange;
use crate::prefix::{Prefix, mask32, mask128};
use crate::selector::Selector;
use crate::sink::{Compared, Expected, Form, Sink, Written};
use crate::tables::{Damaged, TableData, Tables};
use crate::tree;

/// Lines that a table can have: a map of 1 GiB.
pub const MAX_LINES: usize = 1 << 24;

/// An image that no tables can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpackable {
    /// A table would be too large.
    #[error("the table `{}` needs {needed} lines of 64 bytes, and {limit} is the limit", .table.word())]
    OverCapacity {
        /// Which.
        table: Table,
        /// Lines needed.
        needed: usize,
        /// Lines possible.
        limit: usize,
    },
    /// The image breaks a rule of its own form.
    #[error("the image is malformed: {0}")]
    Malformed(&'static str),
}

/// What user space reads of a generation and the programs do not: the table *names*, in postcard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Names {
    pub(crate) meshes: Vec<String>,
    pub(crate) sources: Vec<SourceText>,
    pub(crate) profiles: Vec<ProfileNames>,
    pub(crate) workloads: Vec<(String, u32, Selector)>,
    /// One for each profile, or none at all where no profile has classes; written behind the rest, and only where
    /// there are some.
    #[serde(skip)]
    pub(crate) classes: Vec<ClassNames>,
    /// Interfaces that each profile exempts, or none at all where no profile does; written behind the classes, and only
    /// where there are some.
    #[serde(skip)]
    pub(crate) interfaces: Vec<InterfaceNames>,
    /// The same of what comes from the node, behind those.
    #[serde(skip)]
    pub(crate) from_node: Vec<Option<SideNames>>,
}

/// The interfaces that a profile exempts, with the source of each.
pub(crate) type InterfaceNames = Vec<(String, u32)>;

impl Names {
    /// From the table.
    pub(crate) fn read(table: &TableData) -> Result<Self, Damaged> {
        let damaged = |what| Damaged { table: Table::Names, what };
        let (mut names, rest): (Self, _) =
            postcard::take_from_bytes(table.bytes()).map_err(|_| damaged("it cannot be read"))?;
        if rest.is_empty() {
            return Ok(names);
        }
        let (classes, rest) =
            postcard::take_from_bytes(rest).map_err(|_| damaged("its classes cannot be read"))?;
        names.classes = classes;
        if !rest.is_empty() {
            let (interfaces, rest) = postcard::take_from_bytes(rest)
                .map_err(|_| damaged("its exempt interfaces cannot be read"))?;
            names.interfaces = interfaces;
            if !rest.is_empty() {
                names.from_node = postcard::from_bytes(rest)
                    .map_err(|_| damaged("what comes from the node cannot be read"))?;
            }
        }
        let count = names.profiles.len();
        if names.classes.len() != count {
            return Err(damaged("it has not the classes of each profile"));
        }
        if !names.interfaces.is_empty() && names.interfaces.len() != count {
            return Err(damaged("it has not the exempt interfaces of each profile"));
        }
        if !names.from_node.is_empty() && names.from_node.len() != count {
            return Err(damaged("it has not what comes from the node for each profile"));
        }
        Ok(names)
    }

    fn write(&self) -> postcard::Result<Vec<u8>> {
        let bytes = postcard::to_stdvec(self)?;
        let from_node = self.from_node.iter().any(Option::is_some);
        let interfaces = self.interfaces.iter().any(|of| !of.is_empty());
        let classes = self.classes.iter().any(|classes| *classes != ClassNames::default());
        if !classes && !interfaces && !from_node {
            return Ok(bytes);
        }
        let bytes = postcard::to_extend(&self.classes, bytes)?;
        if !interfaces && !from_node {
            return Ok(bytes);
        }
        let bytes = postcard::to_extend(&self.interfaces, bytes)?;
        if from_node { postcard::to_extend(&self.from_node, bytes) } else { Ok(bytes) }
    }

    /// Where the lines of each profile's classes begin, how many there are of outbound flows, and whether one more is
    /// there for what comes from the node.
    pub(crate) fn class_lines(&self) -> Vec<ClassLines> {
        let count = |len| u32::try_from(len).unwrap_or(u32::MAX);
        let mut first = count(self.profiles.len());
        let mut lines = Vec::with_capacity(self.profiles.len());
        for at in 0..self.profiles.len() {
            let outbound = self.classes.get(at).map_or(0, |classes| count(classes.nodes.len()));
            let from_node = self.from_node.get(at).is_some_and(Option::is_some);
            lines.push(ClassLines { first, outbound, from_node });
            first = first.saturating_add(outbound).saturating_add(u32::from(from_node));
        }
        lines
    }
}

/// The lines of the classes of one profile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClassLines {
    /// Where they begin.
    pub(crate) first: u32,
    /// How many there are of outbound flows.
    pub(crate) outbound: u32,
    /// Whether the next one is that of what comes from the node.
    pub(crate) from_node: bool,
}

impl ClassLines {
    /// The line of a class from 1 on.
    pub(crate) fn line(self, direction: Direction, class: u32) -> Option<u32> {
        let at = class.checked_sub(1)?;
        match direction {
            Direction::Outbound => (at < self.outbound).then(|| self.first.saturating_add(at)),
            Direction::Inbound => {
                (self.from_node && at == 0).then(|| self.first.saturating_add(self.outbound))
            }
        }
    }
}

/// The texts of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceText {
    pub(crate) scope: String,
    pub(crate) head: String,
    /// 0 none, 1 `to`, 2 `from`.
    pub(crate) preposition: u8,
    pub(crate) tail: String,
}

/// What belongs to a profile beside its line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProfileNames {
    pub(crate) name: String,
    /// How many nodes each list has: outbound tree and own, inbound tree and own. They follow one
    /// another in the table of nodes.
    pub(crate) nodes: [u32; 4],
    /// Who made each of those nodes.
    pub(crate) node_sources: Vec<u32>,
    pub(crate) exempt_cgroups: Vec<(String, u32)>,
}

/// What belongs to the classes of a profile beside their lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClassNames {
    /// The paths that tell classes apart, each with its part.
    pub(crate) cgroups: Vec<(String, u32)>,
    /// How many nodes the lists of each class have: outbound tree and own. They follow those of the profile.
    pub(crate) nodes: Vec<[u32; 2]>,
    /// Who made each of those nodes.
    pub(crate) node_sources: Vec<u32>,
}

/// What belongs to a side beside its roots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SideNames {
    /// How many nodes its lists have: tree and own. They follow those of the classes.
    pub(crate) nodes: [u32; 2],
    /// Who made each of those nodes.
    pub(crate) node_sources: Vec<u32>,
}

/// Packs an image.
///
/// # Errors
/// Where a table cannot hold it, or the image is malformed. Canonical images are never malformed.
pub fn pack(image: &MapImage) -> Result<Tables, Unpackable> {
    pack_within(image, MAX_LINES)
}

/// Packs an image into tables of at most this many lines; [`MAX_LINES`] is what the kernel's maps hold.
///
/// # Errors
/// As [`pack`].
pub fn pack_within(image: &MapImage, limit: usize) -> Result<Tables, Unpackable> {
    let mut packer = Packer::<Written>::default();
    let names = packer.image(image)?;
    let mut tables = packer.finish();
    tables.set(Table::Names, TableData::from_bytes(&names));
    check_capacity(&tables, limit)?;
    Ok(tables)
}

/// The first table that is not what [`pack`] makes of an image, if any.
///
/// # Errors
/// As [`pack`].
pub(crate) fn difference(image: &MapImage, tables: &Tables) -> Result<Option<Table>, Unpackable> {
    check_capacity(tables, MAX_LINES)?;
    let mut packer = Packer::<Compared<'_>>::new(tables);
    let names = packer.image(image)?;
    let same = |table| match table {
        Table::Manifest => tables.get(table).bytes().is_empty(),
        Table::Names => *tables.get(table).bytes() == *names,
        packed => packer.came(packed, tables),
    };
    Ok(Table::ALL.into_iter().find(|&table| !same(table)))
}

fn check_capacity(tables: &Tables, limit: usize) -> Result<(), Unpackable> {
    for table in Table::ALL {
        let needed = tables.get(table).line_count();
        if needed > limit {
            return Err(Unpackable::OverCapacity { table, needed, limit });
        }
    }
    Ok(())
}

fn source_text(source: &crate::image::Source) -> SourceText {
    let preposition = match source.direction {
        None => 0,
        Some(Direction::Outbound) => 1,
        Some(Direction::Inbound) => 2,
    };
    SourceText {
        scope: source.scope.clone(),
        head: source.head.clone(),
        preposition,
        tail: source.tail.clone(),
    }
}

fn sources(image: &MapImage) -> Vec<abi::Source> {
    (image.sources.iter())
        .map(|source| abi::Source {
            hash: source.stable_hash(),
            kind: source.kind as u8,
            ..abi::Source::zeroed()
        })
        .collect()
}

/// What is decided by port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ports {
    /// The same at every port.
    Alike(Decision),
    /// What the tree with this root line says.
    Tree(u32),
}

/// The tables while they grow, or while they are compared.
struct Packer<F: Form> {
    profiles: F::Of<abi::Profile>,
    trees: F::Of<TreeLine>,
    spans: F::Of<u32>,
    nodes: F::Of<abi::Node>,
    ports: F::Of<PortLine>,
    decisions: F::Of<abi::Decision>,
    sources: Vec<abi::Source>,
    port_tables: Vec<Ports>,
    /// Lines of classes, which follow those of all profiles.
    classes: Vec<abi::Profile>,
    /// How many cells they have: each may be a stretch of a tree, and whoever reads them back makes a list of all.
    cells: usize,
}

impl Default for Packer<Written> {
    fn default() -> Self {
        Self {
            profiles: Vec::new(),
            trees: Vec::new(),
            spans: Vec::new(),
            nodes: Vec::new(),
            ports: Vec::new(),
            decisions: Vec::new(),
            sources: Vec::new(),
            port_tables: Vec::new(),
            classes: Vec::new(),
            cells: 0,
        }
    }
}

impl Packer<Written> {
    fn finish(self) -> Tables {
        let mut tables = Tables::default();
        tables.set(Table::Profiles, TableData::from_records(&self.profiles));
        tables.set(Table::Trees, TableData::from_records(&self.trees));
        tables.set(Table::Spans, TableData::from_records(&self.spans));
        tables.set(Table::Nodes, TableData::from_records(&self.nodes));
        tables.set(Table::Ports, TableData::from_records(&self.ports));
        tables.set(Table::Decisions, TableData::from_records(&self.decisions));
        tables.set(Table::Sources, TableData::from_records(&self.sources));
        tables
    }
}

impl<'a> Packer<Compared<'a>> {
    fn new(tables: &'a Tables) -> Self {
        Self {
            profiles: Expected::new(tables.get(Table::Profiles).records()),
            trees: Expected::new(tables.get(Table::Trees).records()),
            spans: Expected::new(tables.get(Table::Spans).records()),
            nodes: Expected::new(tables.get(Table::Nodes).records()),
            ports: Expected::new(tables.get(Table::Ports).records()),
            decisions: Expected::new(tables.get(Table::Decisions).records()),
            sources: Vec::new(),
            port_tables: Vec::new(),
            classes: Vec::new(),
            cells: 0,
        }
    }

    fn came(&self, table: Table, tables: &Tables) -> bool {
        let bytes = tables.get(table).bytes().len();
        match table {
            Table::Profiles => self.profiles.came(bytes),
            Table::Trees => self.trees.came(bytes),
            Table::Spans => self.spans.came(bytes),
            Table::Nodes => self.nodes.came(bytes),
            Table::Ports => self.ports.came(bytes),
            Table::Decisions => self.decisions.came(bytes),
            Table::Sources => *tables.get(table) == TableData::from_records(&self.sources),
            Table::Manifest | Table::Names => false,
        }
    }
}

impl<F: Form> Packer<F> {
    /// All of an image; returns its names, encoded.
    fn image(&mut self, image: &MapImage) -> Result<Vec<u8>, Unpackable> {
        if image.source(SourceId(0)).kind != SourceKind::NoRule || image.sources.is_empty() {
            return Err(Unpackable::Malformed("source 0 is not `no rule`"));
        }
        // Root 0 is no tree.
        self.trees.push(TreeLine::zeroed());
        self.ports.push(PortLine::zeroed());
        self.sources = sources(image);
        for table in &image.port_tables {
            let ports = self.port_table(table)?;
            self.port_tables.push(ports);
        }
        let mut names = Names { meshes: image.meshes.clone(), ..Names::default() };
        let answers = image.profiles.iter().any(|profile| profile.decides_outbound(image, Protocol::Udp));
        let common = if answers { abi::PROFILE_SOME_ANSWER } else { 0 };
        for (at, profile) in (0u32..).zip(&image.profiles) {
            let mut line = abi::Profile::zeroed();
            names.profiles.push(self.profile(&mut line, profile, image, common)?);
            let (classes, from_node) = self.classes(at, &mut line, &profile.classes, image)?;
            names.classes.push(classes);
            names.from_node.push(from_node);
            let interfaces = profile.exempt.interfaces.iter();
            names.interfaces.push(interfaces.map(|(name, source)| (name.clone(), source.0)).collect());
            self.profiles.push(line);
        }
        for line in std::mem::take(&mut self.classes) {
            self.profiles.push(line);
        }
        names.sources = image.sources.iter().map(source_text).collect();
        names.workloads =
            (image.workloads.iter()).map(|w| (w.name.clone(), w.profile.0, w.selector.clone())).collect();
        names.write().map_err(|_| Unpackable::Malformed("its names cannot be written"))
    }

    fn port_table(&mut self, table: &PortTable) -> Result<Ports, Unpackable> {
        if let [(0, decision)] = *table.stretches {
            return Ok(Ports::Alike(decision));
        }
        if table.stretches.first().is_none_or(|&(first, _)| first != 0) {
            return Err(Unpackable::Malformed("a port table does not begin at port 0"));
        }
        let stretches: Vec<_> =
            table.stretches.iter().map(|&(first, decision)| (first, self.shared(decision))).collect();
        self.decision_tree(&stretches).map(Ports::Tree)
    }

    /// A decision that nodes share: they add their prefixes.
    fn shared(&self, decision: Decision) -> abi::Decision {
        wire_decision(decision, self.hash(decision.source))
    }

    fn hash(&self, source: SourceId) -> u64 {
        self.sources.get(source.0 as usize).map_or(0, |source| source.hash)
    }

    fn decision_tree(&mut self, stretches: &[(u16, abi::Decision)]) -> Result<u32, Unpackable> {
        tree::build(&mut self.ports, &mut self.decisions, stretches)
            .ok_or_else(|| over(Table::Ports, self.ports.len()))
    }

    fn tree(&mut self, stretches: &[(u64, u32)]) -> Result<u32, Unpackable> {
        tree::build(&mut self.trees, &mut self.spans, stretches)
            .ok_or_else(|| over(Table::Trees, self.trees.len()))
    }

    /// A tree on IPv4 addresses.
    fn narrow_tree(&mut self, stretches: &[(u32, u32)]) -> Result<u32, Unpackable> {
        tree::build_narrow(&mut self.trees, stretches).ok_or_else(|| over(Table::Trees, self.trees.len()))
    }

    /// `common` are the flags that all profiles of the image have.
    fn profile(
        &mut self,
        line: &mut abi::Profile,
        profile: &Profile,
        image: &MapImage,
        common: u32,
    ) -> Result<ProfileNames, Unpackable> {
        let mut nodes = [0; 4];
        let mut node_sources = Vec::new();
        let lists = profile.sides.iter().flat_map(|side| [&side.tree, &side.own]);
        let [tree_out, tree_in] = &mut line.tree;
        let [own_out, own_in] = &mut line.own;
        for ((list, roots), count) in lists.zip([tree_out, own_out, tree_in, own_in]).zip(&mut nodes) {
            *roots = self.address_trees(list)?;
            *count = u32::try_from(list.len()).map_err(|_| over(Table::Nodes, list.len()))?;
            node_sources.extend(list.iter().map(|node| node.source.0));
        }
        line.exempt_uid = self.id_tree(&profile.exempt.uids)?;
        line.exempt_gid = self.id_tree(&profile.exempt.gids)?;
        line.flags = flags(profile, image) | common;
        line.accelerate_local = self.acceleration(&profile.acceleration.local)?;
        line.accelerate_peers = self.peers(&profile.acceleration.peers)?;
        let exempt_cgroups =
            profile.exempt.cgroups.iter().map(|(path, source)| (path.clone(), source.0)).collect();
        Ok(ProfileNames { name: profile.name.clone(), nodes, node_sources, exempt_cgroups })
    }

    /// The classes of the profile at `at`, whose own `line` is filled in but for these.
    fn classes(
        &mut self,
        at: u32,
        line: &mut abi::Profile,
        classes: &Classes,
        image: &MapImage,
    ) -> Result<(ClassNames, Option<SideNames>), Unpackable> {
        if *classes == Classes::default() {
            return Ok((ClassNames::default(), None));
        }
        let [uid, gid] = classes::units(classes).map_err(Unpackable::Malformed)?;
        self.cells += classes.cells.len();
        if self.cells > MAX_LINES {
            return Err(over(Table::Trees, self.cells));
        }
        let behind = image.profiles.len() + self.classes.len();
        let first = u32::try_from(behind).map_err(|_| over(Table::Profiles, behind))?;
        line.class_uid = self.part_tree(&classes.uids, uid)?;
        line.class_gid = self.part_tree(&classes.gids, gid)?;
        let mut cells = if classes.cells.is_empty() { vec![(0, at)] } else { Vec::new() };
        for (cell, &class) in (0u32..).zip(&classes.cells) {
            let line = class.checked_sub(1).map_or(at, |class| first.saturating_add(class));
            if cells.last().is_none_or(|&(_, last)| last != line) {
                cells.push((cell, line));
            }
        }
        if classes.from_node.is_some() {
            let behind = u32::try_from(classes.sides.len()).unwrap_or(u32::MAX);
            cells.push((abi::CELL_FROM_NODE, first.saturating_add(behind)));
        }
        line.class_cells = self.narrow_tree(&cells)?;
        let mut names = ClassNames { cgroups: classes.cgroups.clone(), ..ClassNames::default() };
        for side in &classes.sides {
            let mut class = *line;
            let [tree, _] = &mut class.tree;
            let [own, _] = &mut class.own;
            let of_side = self.side(side, [tree, own])?;
            names.nodes.push(of_side.nodes);
            names.node_sources.extend(of_side.node_sources);
            self.classes.push(class);
        }
        let Some(side) = &classes.from_node else { return Ok((names, None)) };
        let mut class = *line;
        let [_, tree] = &mut class.tree;
        let [_, own] = &mut class.own;
        let from_node = self.side(side, [tree, own])?;
        self.classes.push(class);
        Ok((names, Some(from_node)))
    }

    /// Both trees of a side, whose roots are put into a line.
    fn side(&mut self, side: &Side, roots: [&mut [u32; 2]; 2]) -> Result<SideNames, Unpackable> {
        let mut names = SideNames { nodes: [0; 2], node_sources: Vec::new() };
        for ((list, roots), count) in [&side.tree, &side.own].into_iter().zip(roots).zip(&mut names.nodes) {
            *roots = self.address_trees(list)?;
            *count = u32::try_from(list.len()).map_err(|_| over(Table::Nodes, list.len()))?;
            names.node_sources.extend(list.iter().map(|node| node.source.0));
        }
        Ok(names)
    }

    /// A tree on ids, whose values are what the part that an id is in adds to the number of a cell.
    fn part_tree(&mut self, ranges: &[(IdRange, u32)], unit: u32) -> Result<u32, Unpackable> {
        if ranges.is_empty() {
            return Ok(0);
        }
        let mut stretches = vec![(0, 0)];
        for &(range, part) in ranges {
            put(&mut stretches, range.first, part * unit);
            if let Some(next) = range.last.checked_add(1) {
                put(&mut stretches, next, 0);
            }
        }
        self.narrow_tree(&stretches)
    }

    /// Appends the nodes of one list and returns the roots of its trees: IPv4, IPv6.
    fn address_trees(&mut self, list: &[Node]) -> Result<[u32; 2], Unpackable> {
        if list.first().is_none_or(|node| node.prefix != Prefix::Any) {
            return Err(Unpackable::Malformed("a side does not begin with the prefix `any`"));
        }
        let base = u32::try_from(self.nodes.len()).map_err(|_| over(Table::Nodes, self.nodes.len()))?;
        let parents: Vec<Option<u32>> = parents(list).into_iter().collect();
        for at in 0..list.len() {
            let record = self.node(base, list, &parents, at)?;
            self.nodes.push(record);
        }
        if self.nodes.len() >= SPAN_SUBTREE as usize {
            return Err(over(Table::Nodes, self.nodes.len()));
        }
        let v4 = flatten(base, list, |prefix| match prefix {
            Prefix::V4 { bits, len } => Some((u64::from(bits), u64::from(bits | !mask32(len)))),
            _ => None,
        });
        // What follows a prefix that ends with the last address is no address.
        let v4: Vec<(u32, u32)> =
            v4.into_iter().filter_map(|(first, node)| Some((u32::try_from(first).ok()?, node))).collect();
        let v6 = flatten(base, list, |prefix| match prefix {
            Prefix::V6 { bits, len } => Some((bits, bits | !mask128(len))),
            _ => None,
        });
        let v6 = self.split(&v6)?;
        Ok([self.narrow_tree(&v4)?, self.tree(&v6)?])
    }

    /// The node at `at` of a list whose first one gets the number `base`.
    fn node(
        &self,
        base: u32,
        list: &[Node],
        parents: &[Option<u32>],
        at: usize,
    ) -> Result<abi::Node, Unpackable> {
        let no_node = || Unpackable::Malformed("a node or its parent is not there");
        let node = list.get(at).ok_or_else(no_node)?;
        let parent = *parents.get(at).ok_or_else(no_node)?;
        let (address, len, family) = wire(node.prefix);
        let mut decision = [abi::Decision::zeroed(); 2];
        for (decision, table) in decision.iter_mut().zip(node.ports) {
            let ports = *(self.port_tables.get(table.0 as usize))
                .ok_or(Unpackable::Malformed("a node names a port table that is not there"))?;
            *decision = match ports {
                Ports::Tree(root) => {
                    abi::Decision { source: root, verdict: abi::VERDICT_BY_PORT, ..abi::Decision::zeroed() }
                }
                Ports::Alike(alike) => {
                    let item = climb(list, parents, at, alike.up).ok_or_else(no_node)?;
                    wire_decision(alike, counter_key(self.hash(alike.source), item))
                }
            };
        }
        let parent = parent.map_or(NO_PARENT, |parent| base + parent);
        let node =
            abi::Node { address: words(address), len, family, parent, decision, ..abi::Node::zeroed() };
        Ok(node)
    }

    /// Stretches of IPv6 addresses as stretches of their high halves, with subtrees on the low halves
    /// where a stretch begins in the middle of one.
    fn split(&mut self, stretches: &[(u128, u32)]) -> Result<Vec<(u64, u32)>, Unpackable> {
        let mut out: Vec<(u64, u32)> = Vec::new();
        let mut force = 0;
        for group in stretches.chunk_by(|(a, _), (b, _)| high(*a) == high(*b)) {
            let [(begin, node), ..] = group else { continue };
            let half = high(*begin);
            if group.len() == 1 && low(*begin) == 0 {
                put(&mut out, half, *node);
                force = *node;
                continue;
            }
            let mut inner: Vec<(u64, u32)> = Vec::with_capacity(group.len() + 1);
            if low(*begin) != 0 {
                inner.push((0, force));
            }
            inner.extend(group.iter().map(|&(begin, node)| (low(begin), node)));
            force = inner.last().map_or(force, |&(_, node)| node);
            let root = self.tree(&inner)?;
            put(&mut out, half, root | SPAN_SUBTREE);
            if let Some(next) = half.checked_add(1) {
                put(&mut out, next, force);
            }
        }
        Ok(out)
    }

    fn id_tree(&mut self, ranges: &[(IdRange, SourceId)]) -> Result<u32, Unpackable> {
        if ranges.is_empty() {
            return Ok(0);
        }
        let mut stretches = vec![(0, 0)];
        for &(range, source) in ranges {
            put(&mut stretches, range.first.into(), source.0);
            put(&mut stretches, u64::from(range.last) + 1, 0);
        }
        self.tree(&stretches)
    }

    fn acceleration(&mut self, ranges: &[(PortRange, SourceId)]) -> Result<u32, Unpackable> {
        if ranges.is_empty() {
            return Ok(0);
        }
        let decision = |verdict, source: SourceId| abi::Decision {
            key: self.hash(source),
            source: source.0,
            port: 0,
            verdict,
            up: 0,
        };
        let mut stretches = vec![(0, decision(abi::VERDICT_EXCLUDED, SourceId(0)))];
        for &(range, source) in ranges {
            put(&mut stretches, range.first, decision(abi::VERDICT_ACCELERATED, source));
            if let Some(next) = range.last.checked_add(1) {
                put(&mut stretches, next, decision(abi::VERDICT_EXCLUDED, SourceId(0)));
            }
        }
        self.decision_tree(&stretches)
    }

    fn peers(&mut self, peers: &BTreeMap<ProfileId, Vec<(PortRange, SourceId)>>) -> Result<u32, Unpackable> {
        if peers.is_empty() {
            return Ok(0);
        }
        let mut stretches = vec![(0, 0)];
        for (peer, ranges) in peers {
            let root = self.acceleration(ranges)?;
            put(&mut stretches, peer.0.into(), root);
            put(&mut stretches, u64::from(peer.0) + 1, 0);
        }
        self.tree(&stretches)
    }
}

fn over(table: Table, needed: usize) -> Unpackable {
    Unpackable::OverCapacity { table, needed, limit: MAX_LINES }
}

fn flags(profile: &Profile, image: &MapImage) -> u32 {
    let flag = |set: bool, flag: u32| if set { flag } else { 0 };
    flag(profile.missing_sidecar_refuse, abi::PROFILE_MISSING_SIDECAR_REFUSE)
        | flag(profile.failed_attach_refuse, abi::PROFILE_FAILED_ATTACH_REFUSE)
        | flag(!profile.exempt.cgroups.is_empty(), abi::PROFILE_EXEMPT_CGROUPS)
        | flag(profile.decides_inbound(image, Protocol::Tcp), abi::PROFILE_INBOUND)
        | flag(profile.has_inbound_rules(image), abi::PROFILE_INBOUND_RULES)
        | flag(profile.decides_inbound(image, Protocol::Udp), abi::PROFILE_INBOUND_DATAGRAMS)
        | flag(profile.decides_outbound(image, Protocol::Udp), abi::PROFILE_ANSWERS)
        | flag(!profile.classes.cgroups.is_empty(), abi::PROFILE_CLASS_CGROUPS)
        | flag(!profile.exempt.interfaces.is_empty(), abi::PROFILE_EXEMPT_INTERFACES)
        | flag(profile.classes.node, abi::PROFILE_TO_NODE)
        | flag(profile.classes.from_node.is_some(), abi::PROFILE_FROM_NODE)
}

/// A stretch, or a new value for one that begins at the same key.
fn put<K: PartialEq, V>(stretches: &mut Vec<(K, V)>, begin: K, value: V) {
    match stretches.last_mut() {
        Some(last) if last.0 == begin => last.1 = value,
        _ => stretches.push((begin, value)),
    }
}

/// An address as a number.
trait Address: Copy + Ord + Default {
    /// The one after it.
    fn next(self) -> Option<Self>;
}

impl Address for u64 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Address for u128 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

/// Nested prefixes (in pre-order) as disjoint stretches: where each begins, and the innermost node there.
fn flatten<A: Address>(base: u32, list: &[Node], bounds: impl Fn(Prefix) -> Option<(A, A)>) -> Vec<(A, u32)> {
    let mut out = Vec::with_capacity(2 * list.len() + 1);
    out.push((A::default(), base));
    let mut open: Vec<(A, u32)> = Vec::new();
    for (node, index) in list.iter().zip(base..) {
        let Some((first, last)) = bounds(node.prefix) else { continue };
        close(&mut out, &mut open, base, |end| end < first);
        put(&mut out, first, index);
        open.push((last, index));
    }
    close(&mut out, &mut open, base, |_| true);
    out
}

/// Ends the open prefixes whose last address has been passed: what is around them goes on.
fn close<A: Address>(
    out: &mut Vec<(A, u32)>,
    open: &mut Vec<(A, u32)>,
    base: u32,
    is_over: impl Fn(A) -> bool,
) {
    while let Some((last, _)) = open.pop_if(|&mut (last, _)| is_over(last)) {
        if let Some(next) = last.next() {
            put(out, next, open.last().map_or(base, |&(_, node)| node));
        }
    }
}

/// The prefix `up` steps above a node of a list.
fn climb(list: &[Node], parents: &[Option<u32>], at: usize, up: u8) -> Option<Prefix> {
    let mut at = at;
    for _ in 0..up {
        at = (*parents.get(at)?)? as usize;
    }
    list.get(at).map(|node| node.prefix)
}

/// A decision as the programs read it.
#[must_use]
pub(crate) fn wire_decision(decision: Decision, key: u64) -> abi::Decision {
    let (verdict, port) = match decision.verdict {
        Verdict::Excluded => (abi::VERDICT_EXCLUDED, 0),
        Verdict::Denied => (abi::VERDICT_DENIED, 0),
        Verdict::Redirected { port, transparent: false } => (abi::VERDICT_REDIRECTED, port),
        Verdict::Redirected { port, transparent: true } => {
            (abi::VERDICT_REDIRECTED | abi::VERDICT_TRANSPARENT, port)
        }
    };
    abi::Decision { key, source: decision.source.0, port, verdict, up: decision.up }
}

pub(crate) const fn high(address: u128) -> u64 {
    (address >> 64) as u64
}

pub(crate) const fn low(address: u128) -> u64 {
    address as u64
}

/// An address as four words in network order.
#[must_use]
pub fn words(address: u128) -> [u32; 4] {
    bytemuck::cast(address.to_be_bytes())
}

/// The address of four words in network order.
#[must_use]
pub fn from_words(words: [u32; 4]) -> u128 {
    u128::from_be_bytes(bytemuck::cast(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Verdict;
    use crate::image::{Exempt, PortTableId, Side};
    use crate::prefix::Prefix;

    #[test]
    fn each_thing_that_a_profile_does_has_a_flag_of_its_own() {
        let table =
            |verdict| PortTable { stretches: vec![(0, Decision { verdict, source: SourceId(0), up: 0 })] };
        let source = crate::image::Source { kind: crate::image::SourceKind::Rule, ..Default::default() };
        let image = MapImage {
            sources: vec![source],
            port_tables: vec![table(Verdict::Excluded), table(Verdict::Denied)],
            ..MapImage::default()
        };
        let side = |ports: [u32; 2]| {
            let ports = ports.map(PortTableId);
            let node = Node { prefix: Prefix::Any, source: SourceId(0), ports };
            Side { tree: vec![node], own: vec![node] }
        };
        let profile =
            |outbound, inbound| Profile { sides: [side(outbound), side(inbound)], ..Profile::default() };
        let quiet = || profile([0, 0], [0, 0]);
        let cgroup = || Exempt { cgroups: vec![("/a".into(), SourceId(0))], ..Exempt::default() };
        for (profile, expected) in [
            (quiet(), 0),
            (Profile { missing_sidecar_refuse: true, ..quiet() }, abi::PROFILE_MISSING_SIDECAR_REFUSE),
            (Profile { failed_attach_refuse: true, ..quiet() }, abi::PROFILE_FAILED_ATTACH_REFUSE),
            (Profile { exempt: cgroup(), ..quiet() }, abi::PROFILE_EXEMPT_CGROUPS),
            (
                Profile {
                    exempt: Exempt { interfaces: vec![("net1".into(), SourceId(0))], ..Exempt::default() },
                    ..quiet()
                },
                abi::PROFILE_EXEMPT_INTERFACES,
            ),
            (
                Profile {
                    classes: Classes { cgroups: vec![("/a".into(), 1)], ..Classes::default() },
                    ..quiet()
                },
                abi::PROFILE_CLASS_CGROUPS,
            ),
            (profile([0, 0], [1, 0]), abi::PROFILE_INBOUND | abi::PROFILE_INBOUND_RULES),
            (profile([0, 0], [0, 1]), abi::PROFILE_INBOUND_DATAGRAMS | abi::PROFILE_INBOUND_RULES),
            (profile([0, 1], [0, 0]), abi::PROFILE_ANSWERS),
            (profile([1, 0], [0, 0]), 0),
            (
                Profile {
                    missing_sidecar_refuse: true,
                    failed_attach_refuse: true,
                    exempt: cgroup(),
                    ..profile([0, 1], [1, 1])
                },
                abi::PROFILE_MISSING_SIDECAR_REFUSE
                    | abi::PROFILE_FAILED_ATTACH_REFUSE
                    | abi::PROFILE_EXEMPT_CGROUPS
                    | abi::PROFILE_INBOUND
                    | abi::PROFILE_INBOUND_RULES
                    | abi::PROFILE_INBOUND_DATAGRAMS
                    | abi::PROFILE_ANSWERS,
            ),
        ] {
            assert_eq!(flags(&profile, &image), expected, "{profile:?}");
        }
    }
}
