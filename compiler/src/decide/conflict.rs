//! Redirects that tie, each pair of items with one concrete flow.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mesh_bpf::flow::{Direction, Flow, Identity};
use mesh_bpf::prefix::Prefix;

use super::boxes::Contender;
use super::items::Items;
use super::ports::Tie;
use super::profiles::Class;
use super::tree::TiedNode;
use crate::hir::region::AddressRange;
use crate::hir::{Program, WorkloadId};
use crate::ir::{Item, ItemId, Node, Side};

/// Two redirects that tie at a flow and lead to different places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// A workload whose flow it is.
    pub workload: WorkloadId,
    /// The flow.
    pub flow: Flow,
    /// A process that opens it.
    pub identity: Identity,
    /// The first item, without its address, and the address.
    pub one: (Item, Prefix),
    /// The other.
    pub other: (Item, Prefix),
}

/// Conflicts found so far, one for each pair of items.
#[derive(Default)]
pub(crate) struct Conflicts {
    found: BTreeMap<(ItemId, ItemId), Conflict>,
}

impl Conflicts {
    /// Takes the ties of one direction of a profile, where they are about any flow at all: a node whose
    /// children hold all of its addresses decides nothing.
    pub(crate) fn note(
        &mut self,
        items: &Items,
        class: &Class,
        (direction, identity): (Direction, Identity),
        side: &Side,
        tied: &[TiedNode],
    ) {
        let Some(&workload) = class.members.first() else { return };
        for node in tied {
            let nodes = if node.own { &side.own } else { &side.tree };
            let new = node.ties.iter().any(|tie| !self.found.contains_key(&key(tie)));
            let Some(address) = new.then(|| free_address(nodes, node.node)).flatten() else { continue };
            for tie in &node.ties {
                let identity = identity.clone();
                let witness = Witness { workload, direction, identity, address, own: node.own };
                self.insert(items, nodes, node.node, tie, &witness);
            }
        }
    }

    /// All conflicts, in an order that depends on what is written alone.
    pub(crate) fn finish(self, program: &Program) -> Vec<Conflict> {
        let mut conflicts: Vec<Conflict> = self.found.into_values().collect();
        let scope = |item: &Item| program.scopes.get(item.scope.index()).map(|scope| scope.name.clone());
        conflicts.sort_by_cached_key(|conflict| {
            (scope(&conflict.one.0), scope(&conflict.other.0), conflict.workload, conflict.flow)
        });
        conflicts
    }

    fn insert(&mut self, items: &Items, nodes: &[Node], node: usize, tie: &Tie, witness: &Witness) {
        let side = |one: Contender| {
            let item = items.items.get(one.item.0 as usize)?.clone();
            Some((item, ancestor(nodes, node, one.depth, witness.own)?))
        };
        let (Some(one), Some(other)) = (side(tie.one), side(tie.other)) else { return };
        let flow = Flow {
            direction: witness.direction,
            protocol: one.0.protocol,
            address: witness.address,
            port: tie.port,
            own: witness.own,
        };
        let Witness { workload, ref identity, .. } = *witness;
        let conflict = || Conflict { workload, flow, identity: identity.clone(), one, other };
        self.found.entry(key(tie)).or_insert_with(conflict);
    }
}

/// A flow of a tie, but for its port and protocol.
struct Witness {
    workload: WorkloadId,
    direction: Direction,
    identity: Identity,
    address: IpAddr,
    own: bool,
}

fn key(tie: &Tie) -> (ItemId, ItemId) {
    (tie.one.item.min(tie.other.item), tie.one.item.max(tie.other.item))
}

/// An address that `node` decides: one that none of its children holds.
fn free_address(nodes: &[Node], node: usize) -> Option<IpAddr> {
    let prefix = nodes.get(node)?.prefix;
    let children = nodes.get(node + 1..)?.iter().map(|node| node.prefix);
    let whole = match AddressRange::of(prefix) {
        Some(range) => vec![range],
        None => crate::hir::region::Family::ALL.map(AddressRange::all).to_vec(),
    };
    whole.into_iter().find_map(|range| {
        let mut next = range.first;
        let within = children.clone().filter_map(AddressRange::of);
        for child in
            within.filter(|child| child.family == range.family).take_while(|child| child.first <= range.last)
        {
            if child.first > next {
                break;
            }
            next = next.max(child.last.checked_add(1)?);
        }
        (next <= range.last).then(|| range.family.address(next))
    })
}

/// The prefix `depth` nodes below the root on the way to `node`. What is apart has roots of its own.
fn ancestor(nodes: &[Node], node: usize, depth: u8, own: bool) -> Option<Prefix> {
    let prefix = nodes.get(node)?.prefix;
    let apart = prefix.apart().filter(|_| !own);
    let mut way: Vec<Prefix> = (nodes.get(..=node)?.iter().map(|node| node.prefix))
        .filter(|above| above.covers(prefix) && (apart.is_none() || above.apart() == apart))
        .collect();
    way.sort_unstable();
    way.get(usize::from(depth)).copied()
}
