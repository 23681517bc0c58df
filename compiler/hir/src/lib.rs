//! The high-level representation: what a program says, with every name resolved.
//!
//! Imports are merged, groups and sets are expanded into what they stand for, literals are values. What
//! is gone: text names as references, groups and sets as anything but declarations, the order of files
//! and statements (nothing below may depend on it).
//!
//! Rules keep their lists in factored form: a rule stands for one *box* for every choice of one
//! [`PortItem`], one [`AddressItem`] (no addresses stand for [`Prefix::Any`]) and one [`WhoItem`] (none stands for
//! everybody), within its scope.
//!
//! This crate is what lowering and proof have in common: what was written ([`Program`]), where ([`span`]), how
//! an item is called ([`item`]) and how addresses are cut into pieces ([`region`]). It decides nothing, so that
//! those two can be held against each other.

pub mod item;
pub mod region;
pub mod span;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use mesh_bpf::flow::{Direction, Identity, Protocol, Verdict};
use mesh_bpf::image::IdRange;
use mesh_bpf::ports::{PortRange, PortSet};
use mesh_bpf::prefix::Prefix;
use mesh_bpf::selector::{Selector, cgroup_covers};

use crate::span::Span;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl $name {
            /// As an index into its arena.
            #[must_use]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id!(
    /// A mesh of [`Program::meshes`].
    MeshId
);
id!(
    /// A workload of [`Program::workloads`].
    WorkloadId
);
id!(
    /// A group of [`Program::groups`].
    GroupId
);
id!(
    /// A scope of [`Program::scopes`].
    ScopeId
);
id!(
    /// A rule of [`Program::rules`].
    RuleId
);
id!(
    /// A Kubernetes service of [`Program::services`].
    ServiceId
);
id!(
    /// A name of [`Program::names`].
    NameId
);

impl NameId {
    /// That of an item that stands in its rule itself.
    pub const WRITTEN_OUT: Self = Self(u32::MAX);
}

/// All files given and imported, as one program.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Meshes, sorted by name.
    pub meshes: Vec<Mesh>,
    /// Workloads of all meshes, sorted by mesh and name.
    pub workloads: Vec<Workload>,
    /// Groups of all meshes.
    pub groups: Vec<Group>,
    /// Sets, sorted by name. No rule refers to them: text that people read names them.
    pub sets: Vec<NamedSet>,
    /// Kubernetes services that something names, sorted by name. Rules have their addresses as plain ones.
    pub services: Vec<Service>,
    /// The names by which rules stand for items that are written elsewhere: of sets, workloads and groups, each once. A
    /// service, which is written nowhere, is `service shop/cart` here.
    pub names: Vec<String>,
    /// Scopes in which something is written, each once; the first is the top level.
    pub scopes: Vec<Scope>,
    /// Rules, in no order that means anything.
    pub rules: Vec<Rule>,
    /// `exempt` items.
    pub exempts: Vec<Exempt>,
    /// `on` statements.
    pub ons: Vec<On>,
    /// `accelerate` statements.
    pub accelerations: Vec<Acceleration>,
    /// Tests of all meshes.
    pub tests: Vec<Test>,
}

/// A mesh: all blocks of one name.
#[derive(Clone, Debug)]
pub struct Mesh {
    /// Its name.
    pub name: String,
    /// The name in its first block.
    pub span: Span,
}

/// A workload.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The mesh that it is part of.
    pub mesh: MeshId,
    /// Its name, without the mesh.
    pub name: String,
    /// Compiled selectors; canonical (sorted, distinct).
    pub selector: Selector,
    /// The name where it is declared.
    pub span: Span,
    /// Each selector line.
    pub selector_spans: Vec<Span>,
}

/// A group, expanded.
#[derive(Clone, Debug)]
pub struct Group {
    /// The mesh that it is part of.
    pub mesh: MeshId,
    /// Its name.
    pub name: String,
    /// All its workloads, through other groups, sorted and distinct.
    pub members: Vec<WorkloadId>,
    /// The name where it is declared.
    pub span: Span,
}

/// A Kubernetes service.
#[derive(Clone, Debug)]
pub struct Service {
    /// With its namespace: `shop/cart`.
    pub name: String,
    /// Its cluster addresses and endpoints, sorted and distinct; none where nobody knows them.
    pub addresses: Option<Vec<Prefix>>,
    /// Where it is named, sorted: the word `service` and its name.
    pub uses: Vec<Span>,
}

impl Service {
    /// How text names it beside addresses and sets. No name of a set has a space.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{SERVICE} {}", self.name)
    }
}

/// The word before the name of a service.
pub const SERVICE: &str = "service";

impl Program {
    /// How many rules are written: one that names the node beside addresses is two of [`Self::rules`].
    #[must_use]
    pub fn written_rules(&self) -> usize {
        self.rules.iter().map(|rule| rule.span).collect::<BTreeSet<_>>().len()
    }

    /// The service that the words at `span` name.
    #[must_use]
    pub fn service_at(&self, span: Span) -> Option<&Service> {
        self.services.iter().find(|service| service.uses.binary_search(&span).is_ok())
    }

    /// Whether the addresses of all services are known.
    #[must_use]
    pub fn knows_all_services(&self) -> bool {
        self.services.iter().all(|service| service.addresses.is_some())
    }

    /// The service that an item of a rule is of, if the rule itself names it.
    #[must_use]
    pub fn service_named(&self, by: NameId) -> Option<&str> {
        self.names.get(by.index())?.strip_prefix(SERVICE)?.strip_prefix(' ')
    }
}

/// A set, expanded. One of its lists is empty.
#[derive(Clone, Debug)]
pub struct NamedSet {
    /// `private`, or `bookstore/private` where a mesh declares it.
    pub name: String,
    /// Its addresses, without those of services.
    pub addresses: List<AddressItem>,
    /// Services that it has the addresses of, sorted and distinct.
    pub services: Vec<ServiceId>,
    /// Its ports.
    pub ports: List<PortItem>,
}

/// Where a rule is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// How far it reaches.
    pub level: Level,
    /// As compiled output names it: empty, `bookstore`, `bookstore+storefront` or `bookstore/cart`.
    pub name: String,
    /// The workloads that it covers, sorted and distinct.
    pub members: Vec<WorkloadId>,
}

/// Levels of scope, widest first. A wider level is wider whoever it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Outside of every mesh.
    Top,
    /// In a mesh.
    Mesh,
    /// In a `for`; two of them compare by their members.
    For,
    /// In a workload.
    Workload,
}

impl Scope {
    /// Whether `other` is the same scope or lies within this one.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.level < other.level
            || (self.level == other.level
                && other.members.iter().all(|member| self.members.binary_search(member).is_ok()))
    }
}

/// A rule in factored form.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Where it is written.
    pub scope: ScopeId,
    /// Rules without it do not take part where it matches.
    pub always: bool,
    /// Which connections.
    pub direction: Direction,
    /// What shall happen to them.
    pub verdict: Verdict,
    /// One for each box in ports; never empty.
    pub ports: List<PortItem>,
    /// One for each box in addresses; empty means [`Prefix::Any`].
    pub addresses: List<AddressItem>,
    /// One for each box in processes; empty means everybody. Inbound there is none but the node. What a statement says
    /// of the node and of addresses are two of these, with one span.
    pub who: List<WhoItem>,
    /// The whole statement.
    pub span: Span,
}

impl Rule {
    /// The processes of its boxes, each with its place in [`Self::who`].
    pub fn whos(&self) -> impl Iterator<Item = (Option<u32>, &Who)> + Clone {
        let everybody = self.who.is_empty().then_some((None, &Who::EVERYBODY));
        everybody.into_iter().chain((0u32..).zip(&*self.who).map(|(index, item)| (Some(index), &item.who)))
    }

    /// Ports and processes of its boxes: each is there at each of its addresses.
    pub fn boxes(&self) -> impl Iterator<Item = (&PortItem, &Who)> {
        self.ports.iter().flat_map(|ports| self.whos().map(move |(_, who)| (ports, who)))
    }

    /// The processes of one of its boxes.
    #[must_use]
    pub fn who_at(&self, place: Option<u32>) -> &Who {
        place.and_then(|place| self.who.get(place as usize)).map_or(&Who::EVERYBODY, |item| &item.who)
    }
}

/// Who is at the ends of a connection, as far as a box tells them apart: the process that opens it, and whether the
/// node itself is at the other end. A side that is not named is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who {
    /// Real user ids.
    pub uid: Option<IdRange>,
    /// Real group ids.
    pub gid: Option<IdRange>,
    /// A cgroup and its descendants: an absolute cgroup v2 path.
    pub cgroup: Option<String>,
    /// The addresses of the node alone, in the place of a prefix.
    pub node: bool,
}

impl Who {
    /// Every process, and what no process opens; to and from everywhere.
    pub const EVERYBODY: Self = Self { uid: None, gid: None, cgroup: None, node: false };

    /// Whether no side is named.
    #[must_use]
    pub const fn is_everybody(&self) -> bool {
        !self.node && self.is_every_process()
    }

    /// Whether no side of processes is named.
    #[must_use]
    pub const fn is_every_process(&self) -> bool {
        matches!(self, Self { uid: None, gid: None, cgroup: None, .. })
    }

    /// Whether each side of `other` lies within the same side of this one.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        fn ids(wider: Option<IdRange>, inner: Option<IdRange>) -> bool {
            wider.is_none_or(|wider| inner.is_some_and(|inner| wider.covers(inner)))
        }
        let cgroups = self
            .cgroup
            .as_deref()
            .is_none_or(|wider| other.cgroup.as_deref().is_some_and(|inner| cgroup_covers(wider, inner)));
        ids(self.uid, other.uid) && ids(self.gid, other.gid) && cgroups && (!self.node || other.node)
    }

    /// Whether who is at the ends is one of these. What is not known of a process is on no side that is named.
    #[must_use]
    pub fn holds(&self, identity: &Identity) -> bool {
        let id = |range: Option<IdRange>, id: Option<u32>| {
            range.is_none_or(|range| id.is_some_and(|id| range.contains(id)))
        };
        let cgroup = self
            .cgroup
            .as_deref()
            .is_none_or(|path| identity.cgroup.as_deref().is_some_and(|cgroup| cgroup_covers(path, cgroup)));
        let node = !self.node || identity.node;
        id(self.uid, identity.uid) && id(self.gid, identity.gid) && cgroup && node
    }
}

/// The word that stands for the addresses of the node.
pub const NODE: &str = "node";

/// Its processes, `uid 1000-1999 and gid 5`; nothing for all.
impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut between = "";
        for (kind, range) in [("uid", self.uid), ("gid", self.gid)] {
            if let Some(range) = range {
                write!(f, "{between}{kind} {range}")?;
                between = " and ";
            }
        }
        match &self.cgroup {
            Some(path) => write!(f, "{between}cgroup \"{path}\""),
            None => Ok(()),
        }
    }
}

/// One choice of what a rule's `as` names, and of the node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WhoItem {
    /// Who is at the ends.
    pub who: Who,
    /// The words of user, group, cgroup and node.
    pub spans: [Option<Span>; 4],
}

impl WhoItem {
    /// Nothing is named.
    pub const EVERYBODY: Self = Self { who: Who::EVERYBODY, spans: [None; 4] };
}

/// Items of a rule. Rules that name the same sets share them: a set of 100,000 prefixes that a thousand rules
/// name is there once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T>(Arc<[T]>);

impl<T> List<T> {
    /// Equal for lists that are shared, and for no others of one program.
    #[must_use]
    pub fn key(&self) -> usize {
        if self.is_empty() { 0 } else { self.0.as_ptr().addr() }
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> From<Vec<T>> for List<T> {
    fn from(items: Vec<T>) -> Self {
        Self(items.into())
    }
}

impl<T> std::ops::Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<'l, T> IntoIterator for &'l List<T> {
    type Item = &'l T;
    type IntoIter = std::slice::Iter<'l, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// One item of a rule's ports. `any 80` is two of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortItem {
    /// The protocol.
    pub protocol: Protocol,
    /// The ports.
    pub ports: Ports,
    /// The words that say so: the item in this rule or in a set; the rule's verb where nothing was written.
    pub span: Span,
    /// The name in the rule that stands for it.
    pub by: NameId,
}

/// Ports of one box.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ports {
    /// No ports were written.
    All,
    /// One port or one range, as written.
    Range(PortRange),
    /// `not …`: all but these.
    Not(PortSet),
}

impl Ports {
    /// As a set.
    #[must_use]
    pub fn set(&self) -> PortSet {
        match self {
            Self::All => PortSet::all(),
            Self::Range(range) => (*range).into(),
            Self::Not(others) => others.complement(),
        }
    }
}

/// One item of a rule's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressItem {
    /// Never [`Prefix::Any`].
    pub prefix: Prefix,
    /// The words that say so: the item in this rule, in a set, or in the workload's selector.
    pub span: Span,
    /// The name in the rule that stands for it.
    pub by: NameId,
}

/// One `exempt` item.
#[derive(Clone, Debug)]
pub struct Exempt {
    /// Where it is written.
    pub scope: ScopeId,
    /// Who is exempt.
    pub who: Exempted,
    /// The item.
    pub span: Span,
}

/// Who is exempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exempted {
    /// Real user ids.
    Uid(IdRange),
    /// Real group ids.
    Gid(IdRange),
    /// A cgroup and its descendants.
    Cgroup(String),
    /// What goes by an interface of the member, or with `*` at the end by any whose name begins so.
    Interface(String),
}

/// One `on` statement.
#[derive(Clone, Debug)]
pub struct On {
    /// Where it is written.
    pub scope: ScopeId,
    /// What happens.
    pub event: Event,
    /// `refuse` rather than `pass` or `start`.
    pub refuse: bool,
    /// The whole statement.
    pub span: Span,
}

/// What `on` can answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// An inbound connection is to be redirected and no sidecar listens.
    MissingSidecar,
    /// A pod cannot be meshed.
    FailedAttach,
}

/// One `accelerate` statement.
#[derive(Clone, Debug)]
pub struct Acceleration {
    /// The mesh that it is written in.
    pub mesh: MeshId,
    /// Between whom.
    pub form: AccelerationForm,
    /// TCP only; the port is the one dialled.
    pub ports: Vec<PortItem>,
    /// The whole statement.
    pub span: Span,
}

/// Between whom a connection is accelerated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccelerationForm {
    /// An application and its own sidecar, over loopback, for these workloads.
    Local(Vec<WorkloadId>),
    /// The sidecars of one of the first and one of the second, in either direction. `within G` is G with
    /// itself, `all` the whole mesh with itself.
    Between(Vec<WorkloadId>, Vec<WorkloadId>),
}

/// One `test` block.
#[derive(Clone, Debug)]
pub struct Test {
    /// The mesh that it is written in.
    pub mesh: MeshId,
    /// Its name.
    pub name: String,
    /// Its lines.
    pub lines: Vec<TestLine>,
    /// The name where it is written.
    pub span: Span,
}

/// One line of a test: a flow and what is expected.
#[derive(Clone, Debug)]
pub struct TestLine {
    /// The workload whose decision is asked for. All its members must agree.
    pub workload: WorkloadId,
    /// Which of its decisions.
    pub direction: Direction,
    /// The other end: every address must agree.
    pub peer: Peer,
    /// The protocol.
    pub protocol: Protocol,
    /// The destination port.
    pub port: u16,
    /// `as …`
    pub identity: Identity,
    /// What must come out.
    pub expected: Expected,
    /// The flow as written.
    pub span: Span,
    /// The expectation as written.
    pub expected_span: Span,
}

/// The other end of a tested flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// One address.
    Address(IpAddr),
    /// Every address of a service.
    Service(ServiceId),
    /// Every address of a workload's members.
    Workload(WorkloadId),
    /// The node: whatever addresses it has.
    Node,
}

/// What a test line expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// `redirected [PORT]`
    Redirected(Option<u16>),
    /// `excluded`
    Excluded,
    /// `denied`
    Denied,
    /// `accelerated` (true) or `not accelerated`.
    Accelerated(bool),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(uid: Option<(u32, u32)>, gid: Option<(u32, u32)>, cgroup: Option<&str>) -> Who {
        let range = |(first, last)| IdRange { first, last };
        Who { uid: uid.map(range), gid: gid.map(range), cgroup: cgroup.map(Into::into), node: false }
    }

    #[test]
    fn processes_lie_within_others_by_every_side() {
        let everybody = Who::EVERYBODY;
        let users = who(Some((1000, 1999)), None, None);
        let one = who(Some((1000, 1000)), Some((5, 5)), None);
        let below = who(None, None, Some("/a/b"));
        for (wider, inner, covers) in [
            (&everybody, &users, true),
            (&users, &everybody, false),
            (&users, &one, true),
            (&one, &users, false),
            (&users, &below, false),
            (&below, &users, false),
            (&who(None, None, Some("/a")), &below, true),
            (&who(None, None, Some("/a/b/c")), &below, false),
            (&who(Some((1001, 1999)), None, None), &one, false),
        ] {
            assert_eq!(wider.covers(inner), covers, "{wider} covers {inner}");
        }
        let node = Who { node: true, ..Who::EVERYBODY };
        let users_there = Who { node: true, ..users.clone() };
        for (wider, inner, covers) in [
            (&everybody, &node, true),
            (&node, &everybody, false),
            (&node, &users, false),
            (&users, &node, false),
            (&node, &users_there, true),
            (&users, &users_there, true),
            (&users_there, &users, false),
        ] {
            assert_eq!(wider.covers(inner), covers, "{wider:?} covers {inner:?}");
        }
    }

    #[test]
    fn the_node_is_at_the_other_end_or_not() {
        let node = Who { node: true, ..Who::EVERYBODY };
        let there = Identity { node: true, ..Identity::default() };
        assert!(node.holds(&there) && !node.holds(&Identity::default()));
        assert!(Who::EVERYBODY.holds(&there));
        assert!(!node.is_everybody() && node.is_every_process());
        assert_eq!(node.to_string(), "");
    }

    #[test]
    fn a_side_that_is_named_does_not_hold_who_is_not_known() {
        let nobody = Identity::default();
        assert!(Who::EVERYBODY.holds(&nobody));
        assert!(!who(Some((0, u32::MAX)), None, None).holds(&nobody));
        let known = Identity {
            uid: Some(7),
            gid: Some(8),
            cgroup: Some("/a/b".into()),
            interface: None,
            node: false,
        };
        for (one, holds) in [
            (who(Some((7, 7)), Some((8, 9)), Some("/a")), true),
            (who(Some((7, 7)), Some((9, 9)), None), false),
            (who(None, None, Some("/a/bc")), false),
            (who(Some((0, 6)), None, None), false),
        ] {
            assert_eq!(one.holds(&known), holds, "{one}");
        }
    }

    #[test]
    fn processes_are_written_as_rules_write_them() {
        let all = who(Some((1, 9)), Some((5, 5)), Some("/a b"));
        assert_eq!(all.to_string(), "uid 1-9 and gid 5 and cgroup \"/a b\"");
        assert_eq!(who(None, None, Some("/x")).to_string(), "cgroup \"/x\"");
        assert_eq!(Who::EVERYBODY.to_string(), "");
    }
}
