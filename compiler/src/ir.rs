//! The intermediate representation: for each profile and direction a prefix tree whose nodes have every
//! port decided, each with the item that decides it.
//!
//! What is gone: groups, sets, lists, precedence. What is left: longest-prefix match, then one look-up of the
//! port. Names are still those of the policy; the map image has the kernel's shape.

use mesh_bpf::flow::{Direction, Protocol, Verdict};
use mesh_bpf::image::{Acceleration, Classes, Exempt, Source};
use mesh_bpf::prefix::Prefix;

use crate::hir::item::BuiltIn;
use crate::hir::{Ports, ScopeId, Who, WorkloadId};

/// Index into [`Ir::items`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId(pub u32);

/// Index into [`Ir::tables`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u32);

/// A program, decided.
#[derive(Clone, Debug, Default)]
pub struct Ir {
    /// The distinct boxes of all rules, without their addresses.
    pub items: Vec<Item>,
    /// Distinct port tables.
    pub tables: Vec<PortIntervals>,
    /// One for each set of workloads with equal rules.
    pub profiles: Vec<Profile>,
    /// Which profile each workload of the program falls under.
    pub profile_of: Vec<u32>,
    /// Sources of exemptions and accelerations, which their profiles refer to by index.
    pub sources: Vec<Source>,
}

/// A box without its address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item {
    /// Where it is written.
    pub scope: ScopeId,
    /// Items without it do not take part where it matches.
    pub always: bool,
    /// Which connections.
    pub direction: Direction,
    /// What shall happen to them.
    pub verdict: Verdict,
    /// The protocol.
    pub protocol: Protocol,
    /// The ports.
    pub ports: Ports,
    /// Whose sockets, and whether the node is at the other end.
    pub who: Who,
}

/// Where each stretch of equal outcomes begins. The first begins at 0, so that port 0, which no rule
/// can name, is decided as port 1.
pub type PortIntervals = Vec<(u16, Outcome)>;

/// What happens to a flow, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Outcome {
    /// What happens.
    pub verdict: Verdict,
    /// What decided.
    pub decider: Decider,
    /// How many nodes above the deciding one the item is written.
    pub up: u8,
}

/// What decides a flow that is not exempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decider {
    /// No rule matches.
    NoRule,
    /// The language itself.
    BuiltIn(BuiltIn),
    /// This item.
    Item(ItemId),
}

/// What workloads with equal rules share.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The scopes that wrote it: `bookstore+storefront/cart`.
    pub name: String,
    /// The workloads that fall under it, sorted.
    pub members: Vec<WorkloadId>,
    /// Outbound, inbound.
    pub sides: [Side; 2],
    /// For processes that rules name, and for the node at the other end.
    pub classes: Classes<Side>,
    /// Identities that are not touched; its sources index [`Ir::sources`].
    pub exempt: Exempt,
    /// `on missing-sidecar`
    pub missing_sidecar_refuse: bool,
    /// `on failed-attach`
    pub failed_attach_refuse: bool,
    /// Accelerated connections; its sources index [`Ir::sources`] and its peers [`Ir::profiles`].
    pub acceleration: Acceleration,
}

/// One direction of a profile.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// All prefixes that occur, in pre-order.
    pub tree: Vec<Node>,
    /// The same for a member's own addresses.
    pub own: Vec<Node>,
}

/// A prefix with its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// The addresses.
    pub prefix: Prefix,
    /// The item with the least text of those that name this prefix.
    pub least: Decider,
    /// TCP, UDP.
    pub tables: [TableId; 2],
}

/// Arenas hold fewer than 2³² things: a program of that many would not fit into memory.
pub(crate) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
