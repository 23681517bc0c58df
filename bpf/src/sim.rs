//! The programs' decision, in Rust, over the tables that they read: no kernel needed.
//!
//! It takes every step that `programs/policy.h` takes, in the same order, so that a difference between the
//! two is a bug in one of them; tests drive both with the same flows.

use std::net::IpAddr;

use crate::abi::{self, NO_PARENT, PORT_DEPTH, PortLine, SPAN_SUBTREE, TREE_DEPTH, TreeLine, UP_MAX};
use crate::flow::{Direction, Flow, Identity, Protocol, Verdict};
use crate::image::{Decision, IdRange, ProfileId, SourceId};
use crate::item::counter_key;
use crate::map::Table;
use crate::pack::{ClassLines, Names, Ports, high, low};
use crate::ports::PortRange;
use crate::prefix::Prefix;
use crate::selector::{deepest, interface_by};
use crate::tables::{Damaged, Tables};
use crate::tree;
use crate::unpack::{from_wire, prefix};

/// The tables as the programs see them.
pub struct Sim<'a> {
    profiles: &'a [abi::Profile],
    trees: &'a [TreeLine],
    spans: &'a [u32],
    nodes: &'a [abi::Node],
    ports: &'a [PortLine],
    decisions: &'a [abi::Decision],
    sources: &'a [abi::Source],
    exempt_cgroups: Vec<Vec<(String, u32)>>,
    exempt_interfaces: Vec<Vec<(String, u32)>>,
    /// For each profile, paths that tell its classes apart, each with its part.
    class_cgroups: Vec<Vec<(String, u32)>>,
    class_lines: Vec<ClassLines>,
}

/// What came out for a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// The identity is exempt.
    Exempt(SourceId),
    /// The policy's tables decided.
    Policy(Hit),
}

/// A decision, and where it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// What happens.
    pub verdict: Verdict,
    /// Which item decided, without its address.
    pub source: SourceId,
    /// The item's own address.
    pub item: Prefix,
    /// The deciding node: an index into the table of nodes.
    pub node: u32,
    /// Its prefix.
    pub prefix: Prefix,
    /// The key of the item's counter.
    pub counter: u64,
}

impl Decided {
    /// The bare verdict: exempt traffic goes straight.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        match self {
            Self::Exempt(_) => Verdict::Excluded,
            Self::Policy(hit) => hit.verdict,
        }
    }
}

/// Which tree of a profile: those on all addresses, or those on a member's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeOf {
    /// The profile.
    pub profile: ProfileId,
    /// The class of the flow: 0 for the profile's own side.
    pub class: u32,
    /// Its side.
    pub direction: Direction,
    /// The member's own addresses.
    pub own: bool,
}

/// What decisions about a profile's flows depend on beside the flow: who opens it, what it goes by, whether the node is
/// at the other end. Classes themselves are told by [`Sim::class_of`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldApart<'a> {
    /// User ids that are exempt: sorted, disjoint.
    pub exempt_users: Vec<(IdRange, SourceId)>,
    /// The same of groups.
    pub exempt_groups: Vec<(IdRange, SourceId)>,
    /// Cgroup paths that are exempt, with the source of each.
    pub exempt_cgroups: &'a [(String, u32)],
    /// Patterns of interfaces that are exempt, with the source of each.
    pub exempt_interfaces: &'a [(String, u32)],
    /// The first of each range of user ids that are of one class, all else being equal. None where no class depends on them.
    pub class_users: Vec<u32>,
    /// The same of groups.
    pub class_groups: Vec<u32>,
    /// Cgroup paths that the class depends on, with the part of each.
    pub class_cgroups: &'a [(String, u32)],
    /// Whether the class of outbound flows depends on whether they go to the node.
    pub to_node: bool,
    /// Whether the class of inbound flows depends on whether they come from it.
    pub from_node: bool,
}

impl ToldApart<'_> {
    /// Whether a decision depends on who opens the flow.
    #[must_use]
    pub const fn by_process(&self) -> bool {
        let exempt = !self.exempt_users.is_empty()
            || !self.exempt_groups.is_empty()
            || !self.exempt_cgroups.is_empty();
        let classed =
            !self.class_users.is_empty() || !self.class_groups.is_empty() || !self.class_cgroups.is_empty();
        exempt || classed
    }
}

/// Addresses that one node serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressSpan {
    /// The first address.
    pub first: IpAddr,
    /// The last address, of the same family.
    pub last: IpAddr,
    /// The node: an index into the table of nodes.
    pub node: u32,
}

impl<'a> Sim<'a> {
    /// Reads the tables.
    ///
    /// # Errors
    /// Where the names cannot be read.
    pub fn new(tables: &'a Tables) -> Result<Self, Damaged> {
        let names = Names::read(tables.get(Table::Names))?;
        Ok(Self {
            class_lines: names.class_lines(),
            class_cgroups: names.classes.into_iter().map(|classes| classes.cgroups).collect(),
            profiles: tables.get(Table::Profiles).records(),
            trees: tables.get(Table::Trees).records(),
            spans: tables.get(Table::Spans).records(),
            nodes: tables.get(Table::Nodes).records(),
            ports: tables.get(Table::Ports).records(),
            decisions: tables.get(Table::Decisions).records(),
            sources: tables.get(Table::Sources).records(),
            exempt_cgroups: names.profiles.into_iter().map(|profile| profile.exempt_cgroups).collect(),
            exempt_interfaces: names.interfaces,
        })
    }

    /// Decides one flow of a member. `None` where a table does not answer, which the proof excludes.
    #[must_use]
    pub fn decide(&self, profile: ProfileId, flow: &Flow, identity: &Identity) -> Option<Decided> {
        if flow.direction == Direction::Outbound
            && let Some(source) = self.exempt(profile, identity)?
        {
            return Some(Decided::Exempt(source));
        }
        if let Some(source) = self.exempt_interface(profile, flow, identity)? {
            return Some(Decided::Exempt(source));
        }
        let class = self.class_of(profile, flow.direction, identity)?;
        let tree = TreeOf { profile, class, direction: flow.direction, own: flow.own };
        let node = self.node_of(tree, flow.address)?;
        let record = self.nodes.get(node as usize)?;
        let own = wire_of(record, flow.protocol);
        let wire = match own.verdict {
            abi::VERDICT_BY_PORT => {
                let at = tree::find(self.ports, own.source, flow.port, PORT_DEPTH)?;
                *self.decisions.get(at as usize)?
            }
            _ => own,
        };
        let decision = from_wire(wire)?;
        let item = self.item(node, decision.up)?;
        let counter = match own.verdict {
            abi::VERDICT_BY_PORT => counter_key(wire.key, item),
            _ => wire.key,
        };
        let (verdict, source) = (decision.verdict, decision.source);
        Some(Decided::Policy(Hit { verdict, source, item, node, prefix: prefix(record)?, counter }))
    }

    /// The prefix `up` steps above a node.
    fn item(&self, node: u32, up: u8) -> Option<Prefix> {
        prefix(self.nodes.get(self.climb(node, up)? as usize)?)
    }

    fn hash(&self, source: SourceId) -> Option<u64> {
        self.sources.get(source.0 as usize).map(|source| source.hash)
    }

    fn exempt(&self, profile: ProfileId, identity: &Identity) -> Option<Option<SourceId>> {
        let line = self.profiles.get(profile.0 as usize)?;
        for (root, id) in [(line.exempt_uid, identity.uid), (line.exempt_gid, identity.gid)] {
            if let Some(id) = id
                && root != 0
            {
                let source = *self.spans.get(tree::find(self.trees, root, id.into(), TREE_DEPTH)? as usize)?;
                if source != 0 {
                    return Some(Some(SourceId(source)));
                }
            }
        }
        let paths = self.exempt_cgroups.get(profile.0 as usize)?;
        Some(deepest(paths, identity.cgroup.as_deref()).map(|&(_, source)| SourceId(source)))
    }

    /// The exemption of the interface that a flow goes by. What a member receives from an address of its own came in by
    /// loopback.
    fn exempt_interface(
        &self,
        profile: ProfileId,
        flow: &Flow,
        identity: &Identity,
    ) -> Option<Option<SourceId>> {
        let line = self.profiles.get(profile.0 as usize)?;
        let is_within = flow.direction == Direction::Inbound && flow.own;
        if line.flags & abi::PROFILE_EXEMPT_INTERFACES == 0 || is_within {
            return Some(None);
        }
        let patterns = self.exempt_interfaces.get(profile.0 as usize)?;
        let found = interface_by(patterns, identity.interface.as_deref());
        Some(found.map(|&(_, source)| SourceId(source)))
    }

    /// The class of who is at the ends of a flow, of which there are none but 0 where no rule of the profile names an
    /// identity or the node. `None` where a table does not answer.
    #[must_use]
    pub fn class_of(&self, profile: ProfileId, direction: Direction, identity: &Identity) -> Option<u32> {
        let line = self.profiles.get(profile.0 as usize)?;
        let lines = *self.class_lines.get(profile.0 as usize)?;
        if direction == Direction::Inbound {
            if line.flags & abi::PROFILE_FROM_NODE == 0 || !identity.node {
                return Some(0);
            }
            let found = tree::find_narrow(self.trees, line.class_cells, abi::CELL_FROM_NODE)?;
            return (Some(found) == lines.line(direction, 1)).then_some(1);
        }
        if line.class_cells == 0 {
            return Some(0);
        }
        let mut cell = 0u32;
        for (root, id) in [(line.class_uid, identity.uid), (line.class_gid, identity.gid)] {
            if let Some(id) = id
                && root != 0
            {
                cell = cell.checked_add(tree::find_narrow(self.trees, root, id)?)?;
            }
        }
        if line.flags & abi::PROFILE_CLASS_CGROUPS != 0 {
            let cgroups = self.class_cgroups.get(profile.0 as usize)?;
            let part = deepest(cgroups, identity.cgroup.as_deref()).map_or(0, |&(_, part)| part);
            let each = if line.flags & abi::PROFILE_TO_NODE != 0 { 2 } else { 1 };
            cell = cell.checked_add(part.checked_mul(each)?)?;
        }
        if line.flags & abi::PROFILE_TO_NODE != 0 && identity.node {
            cell = cell.checked_add(1)?;
        }
        let found = tree::find_narrow(self.trees, line.class_cells, cell)?;
        if found == profile.0 {
            return Some(0);
        }
        found.checked_sub(lines.first).filter(|&class| class < lines.outbound)?.checked_add(1)
    }

    /// The last class of a profile's flows; 0 where there is no other. `None` where there is no such profile.
    #[must_use]
    pub fn classes(&self, profile: ProfileId, direction: Direction) -> Option<u32> {
        let lines = self.class_lines.get(profile.0 as usize)?;
        Some(match direction {
            Direction::Outbound => lines.outbound,
            Direction::Inbound => lines.from_node.into(),
        })
    }

    /// What decisions about a profile's flows depend on beside the flow. `None` where a table does not answer.
    #[must_use]
    pub fn told_apart(&self, profile: ProfileId) -> Option<ToldApart<'_>> {
        let line = self.profiles.get(profile.0 as usize)?;
        let at = profile.0 as usize;
        let classed = |root| match root {
            0 => Some(Vec::new()),
            root => Some(tree::narrow_stretches(self.trees, root)?.iter().map(|&(first, _)| first).collect()),
        };
        Some(ToldApart {
            exempt_users: self.exempt_ids(line.exempt_uid)?,
            exempt_groups: self.exempt_ids(line.exempt_gid)?,
            exempt_cgroups: self.exempt_cgroups.get(at)?,
            exempt_interfaces: self.exempt_interfaces.get(at).map_or(&[], Vec::as_slice),
            class_users: classed(line.class_uid)?,
            class_groups: classed(line.class_gid)?,
            class_cgroups: self.class_cgroups.get(at).map_or(&[], Vec::as_slice),
            to_node: line.flags & abi::PROFILE_TO_NODE != 0,
            from_node: line.flags & abi::PROFILE_FROM_NODE != 0,
        })
    }

    fn exempt_ids(&self, root: u32) -> Option<Vec<(IdRange, SourceId)>> {
        if root == 0 {
            return Some(Vec::new());
        }
        let id = |id| u32::try_from(id).unwrap_or(u32::MAX);
        let stretches = self.stretches(root, u64::from(u32::MAX))?;
        Some(
            (stretches.into_iter())
                .filter(|&(.., source)| source != 0)
                .map(|(first, last, source)| (IdRange { first: id(first), last: id(last) }, SourceId(source)))
                .collect(),
        )
    }

    /// The line of a class.
    fn line(&self, TreeOf { profile, class, direction, .. }: TreeOf) -> Option<&abi::Profile> {
        if class == 0 {
            return self.profiles.get(profile.0 as usize);
        }
        let lines = self.class_lines.get(profile.0 as usize)?;
        self.profiles.get(lines.line(direction, class)? as usize)
    }

    fn roots(&self, tree: TreeOf) -> Option<(u32, u32)> {
        let line = self.line(tree)?;
        let [[out4, out6], [in4, in6]] = if tree.own { line.own } else { line.tree };
        Some(match tree.direction {
            Direction::Outbound => (out4, out6),
            Direction::Inbound => (in4, in6),
        })
    }

    fn node_of(&self, tree: TreeOf, address: IpAddr) -> Option<u32> {
        let (v4, v6) = self.roots(tree)?;
        let span =
            |root, key| self.spans.get(tree::find(self.trees, root, key, TREE_DEPTH)? as usize).copied();
        match address.to_canonical() {
            IpAddr::V4(address) => tree::find_narrow(self.trees, v4, address.to_bits()),
            IpAddr::V6(address) => {
                let address = address.to_bits();
                let node = span(v6, high(address))?;
                if node & SPAN_SUBTREE == 0 { Some(node) } else { span(node & !SPAN_SUBTREE, low(address)) }
            }
        }
    }

    fn climb(&self, node: u32, up: u8) -> Option<u32> {
        let mut at = node;
        for _ in 0..u32::from(up).min(UP_MAX) {
            at = self.nodes.get(at as usize)?.parent;
            if at == NO_PARENT {
                return None;
            }
        }
        Some(at)
    }

    /// Reads one tree back: every address of both families, in order, with the node that serves it. `None`
    /// where it is no tree.
    #[must_use]
    pub fn address_spans(&self, tree: TreeOf) -> Option<Vec<AddressSpan>> {
        let (v4, v6) = self.roots(tree)?;
        let mut spans = Vec::new();
        let narrow = tree::narrow_stretches(self.trees, v4)?;
        let lasts = narrow.iter().skip(1).map(|&(next, _)| next.saturating_sub(1)).chain([u32::MAX]);
        for (&(first, node), last) in narrow.iter().zip(lasts) {
            spans.push(AddressSpan { first: IpAddr::V4(first.into()), last: IpAddr::V4(last.into()), node });
        }
        for (first, last, node) in self.stretches(v6, u64::MAX)? {
            let address = |high: u64, low: u64| IpAddr::V6((u128::from(high) << 64 | u128::from(low)).into());
            if node & SPAN_SUBTREE == 0 {
                spans.push(AddressSpan { first: address(first, 0), last: address(last, u64::MAX), node });
                continue;
            }
            if first != last {
                return None;
            }
            for (low, end, node) in self.stretches(node & !SPAN_SUBTREE, u64::MAX)? {
                spans.push(AddressSpan { first: address(first, low), last: address(first, end), node });
            }
        }
        Some(spans)
    }

    fn stretches(&self, root: u32, max: u64) -> Option<Vec<(u64, u64, u32)>> {
        let found = tree::stretches(self.trees, root, 0, TREE_DEPTH)?;
        let lasts = found.iter().skip(1).map(|&(next, _)| next.saturating_sub(1)).chain([max]);
        (found.iter().zip(lasts))
            .map(|(&(first, at), last)| Some((first, last, *self.spans.get(at as usize)?)))
            .collect()
    }

    /// What is decided by port at a node: equal ones are equal tables. `None` where there is none, or the key of its
    /// counter is not that of its item.
    #[must_use]
    pub fn ports(&self, node: u32, protocol: Protocol) -> Option<Ports> {
        let wire = wire_of(self.nodes.get(node as usize)?, protocol);
        if wire.verdict == abi::VERDICT_BY_PORT {
            return Some(Ports::Tree(wire.source));
        }
        let decision = from_wire(wire)?;
        let key = counter_key(self.hash(decision.source)?, self.item(node, decision.up)?);
        (wire.key == key).then_some(Ports::Alike(decision))
    }

    /// A node's prefix and the node above it. `None` where there is no such node.
    #[must_use]
    pub fn node(&self, node: u32) -> Option<(Prefix, Option<u32>)> {
        let record = self.nodes.get(node as usize)?;
        Some((prefix(record)?, Some(record.parent).filter(|&parent| parent != NO_PARENT)))
    }

    /// Reads one port table back: every port, in order, with what is decided. `None` where it is none, or the hash of
    /// a decision is not that of its source.
    #[must_use]
    pub fn port_ranges(&self, ports: Ports) -> Option<Vec<(PortRange, Decision)>> {
        let root = match ports {
            Ports::Alike(decision) => return Some(vec![(PortRange::ALL, decision)]),
            Ports::Tree(root) => root,
        };
        let found = tree::stretches(self.ports, root, 0, PORT_DEPTH)?;
        let lasts = found.iter().skip(1).map(|&(next, _)| next.saturating_sub(1)).chain([u16::MAX]);
        (found.iter().zip(lasts))
            .map(|(&(first, at), last)| {
                let wire = *self.decisions.get(at as usize)?;
                let decision = from_wire(wire)?;
                (wire.key == self.hash(decision.source)?).then_some((PortRange { first, last }, decision))
            })
            .collect()
    }
}

const fn wire_of(node: &abi::Node, protocol: Protocol) -> abi::Decision {
    let [tcp, udp] = node.decision;
    match protocol {
        Protocol::Tcp => tcp,
        Protocol::Udp => udp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{MapImage, Node, PortTable, PortTableId, Profile, Side, Source};

    #[test]
    fn a_prefix_that_ends_with_the_last_address_reads_back() {
        let tree: Vec<Node> =
            [Prefix::Any, Prefix::V4 { bits: 0xff00_0000, len: 8 }, Prefix::V6 { bits: !0, len: 128 }]
                .map(|prefix| Node { prefix, source: SourceId(0), ports: [PortTableId(0); 2] })
                .into();
        let side = Side { own: tree.get(..1).unwrap().to_vec(), tree };
        let decision = Decision { verdict: Verdict::Excluded, source: SourceId(0), up: 0 };
        let image = MapImage {
            sources: vec![Source::default()],
            port_tables: vec![PortTable { stretches: vec![(0, decision)] }],
            profiles: vec![Profile { sides: [side.clone(), side], ..Profile::default() }],
            ..MapImage::default()
        };
        let tables = crate::pack::pack(&image).unwrap();
        let sim = Sim::new(&tables).unwrap();
        let tree = TreeOf { profile: ProfileId(0), class: 0, direction: Direction::Outbound, own: false };
        let spans = sim.address_spans(tree).unwrap();
        let ends: Vec<String> = spans.iter().map(|span| format!("{}-{}", span.first, span.last)).collect();
        assert_eq!(ends.first().unwrap(), "0.0.0.0-254.255.255.255");
        assert_eq!(ends.get(1).unwrap(), "255.0.0.0-255.255.255.255");
        assert_eq!(
            spans.last().map(|span| sim.node(span.node).unwrap().0),
            Some(Prefix::V6 { bits: !0, len: 128 })
        );
    }
}
