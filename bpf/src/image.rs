//! The map image: what a policy means, in the shape that the kernel's tables hold.
//!
//! This is where compiler and runtime meet. The compiler lowers a policy to a [`MapImage`]; its text
//! form is what people review. [`pack`](crate::pack) turns it into tables of 64-byte lines that
//! the BPF programs read, and [`unpack`](crate::unpack) gets the same image back from those tables, so
//! that what a kernel holds can be printed, compared and explained without any file beside it.
//!
//! # Items and nodes
//! A rule is shorthand for one box an item (workloads × ports × one address prefix). The image keeps
//! an item in two halves, so that a list of 100,000 prefixes with the same rule is one port table and not
//! 100,000: a [`Source`] is the item without its address, and the address is the prefix of the [`Node`]
//! that is [`Decision::up`] steps above the node whose port table holds the decision.
//!
//! An image is *canonical* (see [`MapImage::canonical`]): equal policies have equal images and equal bytes.

use std::collections::BTreeMap;
use std::fmt;

use crate::flow::{Direction, Identity, Protocol, Verdict};
use crate::ports::PortRange;
use crate::prefix::Prefix;
use crate::selector::{Selector, deepest};

/// Index into [`MapImage::sources`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u32);

/// Index into [`MapImage::port_tables`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortTableId(pub u32);

/// Index into [`MapImage::profiles`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileId(pub u32);

/// One policy, as the kernel holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapImage {
    /// Names of the meshes, sorted.
    pub meshes: Vec<String>,
    /// Everything that can have decided a flow, sorted.
    pub sources: Vec<Source>,
    /// Port tables, each stored once, in the order of their first use.
    pub port_tables: Vec<PortTable>,
    /// Profiles, sorted by name.
    pub profiles: Vec<Profile>,
    /// Workloads, sorted by name.
    pub workloads: Vec<Workload>,
}

/// A workload: who is in it, and which profile its members fall under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Workload {
    /// `mesh/workload`.
    pub name: String,
    /// Which endpoints are its members.
    pub selector: Selector,
    /// What its members are decided by.
    pub profile: ProfileId,
}

/// All that is decided about the members of workloads with equal rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Profile {
    /// The scopes that wrote it, such as `bookstore+storefront/cart`.
    pub name: String,
    /// Connections that a member opens, then those it receives; see [`Direction::ALL`].
    pub sides: [Side; 2],
    /// Whose outbound traffic is never touched.
    pub exempt: Exempt,
    /// What is decided otherwise about connections of some processes.
    pub classes: Classes,
    /// `on missing-sidecar refuse` (the default) rather than `pass`.
    pub missing_sidecar_refuse: bool,
    /// `on failed-attach refuse` (the default) rather than `start`.
    pub failed_attach_refuse: bool,
    /// Which connections exchange bytes past the TCP/IP stack.
    pub acceleration: Acceleration,
}

/// One direction of a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Side {
    /// The prefixes that occur, in the order of [`Prefix`]; the first is [`Prefix::Any`]. The deciding
    /// node of an address is the longest prefix that holds it.
    pub tree: Vec<Node>,
    /// The same for a member's own addresses: only `Any` and host prefixes.
    pub own: Vec<Node>,
}

/// One prefix with its ports resolved in full: what it inherits, what beats what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// The addresses.
    pub prefix: Prefix,
    /// The item that made it: the least of those that name this prefix; the built-in for a node that no
    /// rule wrote.
    pub source: SourceId,
    /// TCP, then UDP; see [`Protocol::ALL`].
    pub ports: [PortTableId; 2],
}

/// Decisions for every port.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortTable {
    /// Where each stretch of equal decisions begins; the first begins at 0, and neighbours differ.
    pub stretches: Vec<(u16, Decision)>,
}

/// What happens to a flow, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decision {
    /// What happens.
    pub verdict: Verdict,
    /// Which item decided, without its address.
    pub source: SourceId,
    /// How many steps above the deciding node the item's own prefix is: 0 where it is the node's.
    pub up: u8,
}

/// What kind of thing decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SourceKind {
    /// No rule matched.
    #[default]
    NoRule = 0,
    /// The language itself: addresses apart, own addresses, sidecar ports.
    BuiltIn = 1,
    /// An `exempt` item.
    Exempt = 2,
    /// An item of a rule.
    Rule = 3,
    /// An item of `accelerate`.
    Accelerate = 4,
}

/// One item of a rule, without its address.
///
/// `head` and `tail` are canonical text of one box: `exclude outbound tcp 3306`, and ` -> 15001
/// transparent` (with its leading space) or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// What it is.
    pub kind: SourceKind,
    /// Where it is written: empty at top level, a mesh, `mesh+group` or `mesh/workload`.
    pub scope: String,
    /// The text before the address.
    pub head: String,
    /// The preposition before the address: `to` or `from`; none where an item has no address.
    pub direction: Option<Direction>,
    /// The text after the address.
    pub tail: String,
}

impl Source {
    /// The text of the item whose address is `prefix`.
    #[must_use]
    pub fn text(&self, prefix: Prefix) -> String {
        match (self.direction, prefix) {
            (None, _) | (_, Prefix::Any) => format!("{}{}", self.head, self.tail),
            (Some(direction), prefix) => {
                format!("{} {} {prefix}{}", self.head, direction.preposition(), self.tail)
            }
        }
    }

    /// The same, with its scope: `m/cart: exclude outbound tcp 11211`.
    #[must_use]
    pub fn credit(&self, prefix: Prefix) -> String {
        match (self.kind, self.scope.as_str()) {
            (SourceKind::NoRule, _) => "no rule".to_owned(),
            (SourceKind::BuiltIn, _) => format!("built-in: {}", self.head),
            (_, "") => format!("top level: {}", self.text(prefix)),
            (_, scope) => format!("{scope}: {}", self.text(prefix)),
        }
    }

    /// A number that stays the same as long as scope and text do: it keys the counters, which survive
    /// generations. The first 8 bytes of a BLAKE3 digest, little-endian.
    #[must_use]
    pub fn stable_hash(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        for part in [self.scope.as_bytes(), self.head.as_bytes(), self.tail.as_bytes()] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        hasher.update(&[self.kind as u8]);
        let digest = *hasher.finalize().as_bytes();
        u64::from_le_bytes([
            digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
        ])
    }
}

/// Identities whose outbound traffic is never touched, and interfaces by which none is, not even by `always`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exempt {
    /// User ids: sorted, disjoint.
    pub uids: Vec<(IdRange, SourceId)>,
    /// Group ids: sorted, disjoint.
    pub gids: Vec<(IdRange, SourceId)>,
    /// Absolute cgroup v2 paths, sorted; each covers its descendants.
    pub cgroups: Vec<(String, SourceId)>,
    /// Names of interfaces, or with `*` at the end the beginning of names, sorted. Inbound traffic that comes in by one is
    /// not touched either. See [`interface_by`](crate::selector::interface_by).
    pub interfaces: Vec<(String, SourceId)>,
}

/// Decisions that depend on who is at the ends. Rules that name identities (`as`) cut all processes into parts, by user,
/// group and cgroup, and rules `to node` all addresses into those of the node and all others; outbound flows that the
/// same rules are about are a class, with trees of its own. What comes from the node has trees of its own where a rule
/// says `from node`.
///
/// Empty where no rule names an identity or the node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Classes<S = Side> {
    /// User ids with the part that they are in, from 1: sorted, disjoint, neighbours joined. All others, and an id
    /// that is not known, are in part 0.
    pub uids: Vec<(IdRange, u32)>,
    /// Group ids, in the same manner.
    pub gids: Vec<(IdRange, u32)>,
    /// Absolute cgroup v2 paths with their part, from 1, sorted. The deepest path that covers a process counts.
    pub cgroups: Vec<(String, u32)>,
    /// Whether it tells classes apart that the node is at the other end: it is in part 1 then, others in part 0.
    pub node: bool,
    /// The class of each combination of parts; see [`Classes::cell`]. None where there are no outbound classes.
    pub cells: Vec<u32>,
    /// What is decided in class 1, 2, … Class 0 is [`Profile::sides`]: no rule names these flows.
    pub sides: Vec<S>,
    /// What is decided about flows that come from the node, where a rule names it: class 1 of inbound flows.
    pub from_node: Option<S>,
}

impl<S> Default for Classes<S> {
    fn default() -> Self {
        Self {
            uids: Vec::new(),
            gids: Vec::new(),
            cgroups: Vec::new(),
            node: false,
            cells: Vec::new(),
            sides: Vec::new(),
            from_node: None,
        }
    }
}

impl<S> Classes<S> {
    /// The same classes, with what is decided in each made into something else.
    pub fn map<T>(self, mut of: impl FnMut(S) -> T) -> Classes<T> {
        let Self { uids, gids, cgroups, node, cells, sides, from_node } = self;
        let sides = sides.into_iter().map(&mut of).collect();
        Classes { uids, gids, cgroups, node, cells, sides, from_node: from_node.map(of) }
    }

    /// What is decided in the classes of a direction, from class 1 on.
    pub fn of(&self, direction: Direction) -> &[S] {
        match direction {
            Direction::Outbound => &self.sides,
            Direction::Inbound => self.from_node.as_slice(),
        }
    }

    /// How many parts of users, groups, cgroups and other ends there are.
    #[must_use]
    pub fn parts(&self) -> [u32; 4] {
        let parts = |last: Option<u32>| last.map_or(1, |last| last.saturating_add(1));
        [
            parts(self.uids.iter().map(|&(_, part)| part).max()),
            parts(self.gids.iter().map(|&(_, part)| part).max()),
            parts(self.cgroups.iter().map(|&(_, part)| part).max()),
            1 + u32::from(self.node),
        ]
    }

    /// The combination of parts that stands at a place of [`Self::cells`].
    #[must_use]
    pub fn parts_at(&self, cell: u32) -> [u32; 4] {
        let [_, gids, cgroups, nodes] = self.parts();
        let process = cell / nodes;
        [process / cgroups / gids, process / cgroups % gids, process % cgroups, cell % nodes]
    }

    /// Where a combination of parts stands in [`Self::cells`]: ordered by user, then group, then cgroup, then other end.
    #[must_use]
    pub fn cell(&self, [uid, gid, cgroup, node]: [u32; 4]) -> u64 {
        let [_, gids, cgroups, nodes] = self.parts().map(u64::from);
        ((u64::from(uid) * gids + u64::from(gid)) * cgroups + u64::from(cgroup)) * nodes + u64::from(node)
    }

    /// The class of who is at the ends of a flow.
    #[must_use]
    pub fn class_of(&self, direction: Direction, identity: &Identity) -> u32 {
        if direction == Direction::Inbound {
            return u32::from(identity.node && self.from_node.is_some());
        }
        let cell = self.cell(self.parts_of(identity));
        usize::try_from(cell).ok().and_then(|cell| self.cells.get(cell)).copied().unwrap_or(0)
    }

    /// The parts that its user, group, cgroup and other end are in.
    #[must_use]
    pub fn parts_of(&self, identity: &Identity) -> [u32; 4] {
        let of = |ids: &[(IdRange, u32)], id: Option<u32>| {
            id.and_then(|id| ids.iter().find(|(range, _)| range.contains(id))).map_or(0, |&(_, part)| part)
        };
        let cgroup = deepest(&self.cgroups, identity.cgroup.as_deref()).map_or(0, |&(_, part)| part);
        let node = u32::from(self.node && identity.node);
        [of(&self.uids, identity.uid), of(&self.gids, identity.gid), cgroup, node]
    }
}

/// An inclusive range of user or group ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdRange {
    /// The first id.
    pub first: u32,
    /// The last id, not below `first`.
    pub last: u32,
}

impl IdRange {
    /// Whether an id is one of these.
    #[must_use]
    pub const fn contains(self, id: u32) -> bool {
        self.first <= id && id <= self.last
    }

    /// Whether all of `other` are these.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// Which TCP connections are accelerated, by the port that was dialled. Ranges are sorted and disjoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acceleration {
    /// A member and its own sidecar.
    pub local: Vec<(PortRange, SourceId)>,
    /// The sidecars of a member of this profile and of one of another, in both profiles.
    pub peers: BTreeMap<ProfileId, Vec<(PortRange, SourceId)>>,
}

impl PortTable {
    /// The decision for `port`, and the stretch of ports around it with the same decision.
    #[must_use]
    pub fn lookup(&self, port: u16) -> Option<(PortRange, Decision)> {
        let after = self.stretches.partition_point(|&(first, _)| first <= port);
        let (first, decision) = *self.stretches.get(after.checked_sub(1)?)?;
        let last = self.stretches.get(after).map_or(u16::MAX, |&(next, _)| next.saturating_sub(1));
        Some((PortRange { first, last }, decision))
    }

    /// Every stretch with its last port.
    pub fn ranges(&self) -> impl Iterator<Item = (PortRange, Decision)> + '_ {
        self.stretches.iter().enumerate().map(|(i, &(first, decision))| {
            let last = self.stretches.get(i + 1).map_or(u16::MAX, |&(next, _)| next.saturating_sub(1));
            (PortRange { first, last }, decision)
        })
    }
}

impl Profile {
    /// Whether any inbound flow of a member is not excluded.
    #[must_use]
    pub fn decides_inbound(&self, image: &MapImage, protocol: Protocol) -> bool {
        self.decided(Direction::Inbound, image, protocol).next().is_some()
    }

    /// Whether a rule, and not what is built in, decides that an inbound flow of a member is not excluded.
    #[must_use]
    pub fn has_inbound_rules(&self, image: &MapImage) -> bool {
        let is_rules = |decision: Decision| {
            image
                .sources
                .get(decision.source.0 as usize)
                .is_none_or(|source| source.kind != SourceKind::BuiltIn)
        };
        Protocol::ALL.into_iter().any(|protocol| {
            self.decided(Direction::Inbound, image, protocol).any(|(_, decision)| is_rules(decision))
        })
    }

    /// Whether any outbound flow of a member is not excluded.
    #[must_use]
    pub fn decides_outbound(&self, image: &MapImage, protocol: Protocol) -> bool {
        self.decided(Direction::Outbound, image, protocol).next().is_some()
    }

    /// Ports with every decision about a member's flows that does not exclude them, once for each node.
    pub fn decided(
        &self,
        direction: Direction,
        image: &MapImage,
        protocol: Protocol,
    ) -> impl Iterator<Item = (PortRange, Decision)> {
        let tables = self
            .trees(direction)
            .flat_map(|side| side.tree.iter().chain(&side.own))
            .map(move |node| node.table(protocol));
        let ranges = tables.filter_map(|table| image.port_table(table)).flat_map(PortTable::ranges);
        ranges.filter(|(_, decision)| decision.verdict != Verdict::Excluded)
    }

    /// One direction, for every class.
    pub fn trees(&self, direction: Direction) -> impl Iterator<Item = &Side> {
        std::iter::once(self.side(direction)).chain(self.classes.of(direction))
    }

    /// One direction, for flows of class 0.
    #[must_use]
    pub const fn side(&self, direction: Direction) -> &Side {
        let [outbound, inbound] = &self.sides;
        match direction {
            Direction::Outbound => outbound,
            Direction::Inbound => inbound,
        }
    }
}

impl Node {
    /// The port table of one protocol.
    #[must_use]
    pub const fn table(&self, protocol: Protocol) -> PortTableId {
        let [tcp, udp] = self.ports;
        match protocol {
            Protocol::Tcp => tcp,
            Protocol::Udp => udp,
        }
    }
}

/// The parent of every node: the nearest node before it whose prefix covers it. The first has none.
#[must_use]
pub fn parents(nodes: &[Node]) -> Vec<Option<u32>> {
    let mut open: Vec<(u32, Prefix)> = Vec::new();
    let mut parents = Vec::with_capacity(nodes.len());
    for (index, node) in (0u32..).zip(nodes) {
        while open.last().is_some_and(|&(_, prefix)| !prefix.covers(node.prefix)) {
            open.pop();
        }
        parents.push(open.last().map(|&(parent, _)| parent));
        open.push((index, node.prefix));
    }
    parents
}

impl MapImage {
    /// The source with this id. An id that is out of range is "no rule".
    #[must_use]
    pub fn source(&self, id: SourceId) -> &Source {
        static NO_RULE: Source = Source {
            kind: SourceKind::NoRule,
            scope: String::new(),
            head: String::new(),
            direction: None,
            tail: String::new(),
        };
        self.sources.get(id.0 as usize).unwrap_or(&NO_RULE)
    }

    /// The port table with this id.
    #[must_use]
    pub fn port_table(&self, id: PortTableId) -> Option<&PortTable> {
        self.port_tables.get(id.0 as usize)
    }

    /// The profile with this id.
    #[must_use]
    pub fn profile(&self, id: ProfileId) -> Option<&Profile> {
        self.profiles.get(id.0 as usize)
    }

    /// The workload of this name.
    #[must_use]
    pub fn workload(&self, name: &str) -> Option<&Workload> {
        let index = self.workloads.binary_search_by(|workload| workload.name.as_str().cmp(name)).ok()?;
        self.workloads.get(index)
    }
}
