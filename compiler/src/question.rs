//! Questions about flows, as tests and `explain` ask them, and the concrete flows that each stands for.
//!
//! A workload stands for each of its members and for all their addresses. Where those are prefixes, one
//! address of each piece that no rule's prefix cuts is enough: all others are decided alike.

use std::collections::BTreeSet;
use std::net::IpAddr;

use mesh_bpf::flow::{Direction, Flow, Identity, Protocol};
use mesh_bpf::prefix::Prefix;
use mesh_bpf::selector::Endpoint;

use crate::hir::region::{AddressRange, applies, cells};
use crate::hir::{Peer, Program, TestLine, WorkloadId};

/// A flow as a policy names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whose decision is asked for.
    pub workload: WorkloadId,
    /// Which of its decisions.
    pub direction: Direction,
    /// The other end.
    pub peer: Peer,
    /// The protocol.
    pub protocol: Protocol,
    /// The destination port.
    pub port: u16,
    /// Who opens it.
    pub identity: Identity,
}

impl Question {
    /// That of a line of a test.
    #[must_use]
    pub fn of_test(line: &TestLine) -> Self {
        Self {
            workload: line.workload,
            direction: line.direction,
            peer: line.peer.clone(),
            protocol: line.protocol,
            port: line.port,
            identity: line.identity.clone(),
        }
    }

    /// The flows that it stands for: at least one. `members` are the endpoints that fall under each
    /// workload, as far as an inventory tells.
    #[must_use]
    pub fn flows(&self, program: &Program, members: &Members) -> Vec<Flow> {
        let addresses = match self.peer {
            Peer::Address(address) => vec![address.to_canonical()],
            Peer::Workload(peer) => addresses(program, members, self.workload, self.direction, peer),
        };
        let mut flows = Vec::new();
        for address in addresses {
            for own in ownership(program, members, self.workload, address) {
                let Self { direction, protocol, port, .. } = *self;
                flows.push(Flow { direction, protocol, address, port, own });
            }
        }
        flows
    }
}

/// The endpoints of an inventory that fall under each workload.
#[derive(Clone, Debug, Default)]
pub struct Members {
    by_workload: Vec<Vec<Endpoint>>,
}

impl Members {
    /// From the endpoints of each workload of a program, in its order.
    #[must_use]
    pub const fn new(by_workload: Vec<Vec<Endpoint>>) -> Self {
        Self { by_workload }
    }

    /// The endpoints of a workload.
    #[must_use]
    pub fn of(&self, workload: WorkloadId) -> &[Endpoint] {
        self.by_workload.get(workload.index()).map_or(&[], Vec::as_slice)
    }
}

/// The workload that an address belongs to, as far as selectors by address tell.
#[must_use]
pub fn workload_at(program: &Program, members: &Members, address: IpAddr) -> Option<WorkloadId> {
    let known = (0u32..).map(WorkloadId).zip(&program.workloads);
    let held = |id: WorkloadId| members.of(id).iter().any(|member| member.addresses.contains(&address));
    if let Some((id, _)) = known.clone().find(|&(id, _)| held(id)) {
        return Some(id);
    }
    let by_address = known.filter(|(_, workload)| workload.selector.is_by_address());
    let matching = by_address.flat_map(|(id, workload)| {
        let prefixes = workload.selector.addresses.iter().filter(|prefix| prefix.contains(address));
        prefixes.map(move |&prefix| (length(prefix), id))
    });
    matching.max_by_key(|&(length, _)| length).map(|(_, id)| id)
}

/// Addresses of `peer`'s members, one for each piece that the rules of `asked` cut.
fn addresses(
    program: &Program,
    members: &Members,
    asked: WorkloadId,
    direction: Direction,
    peer: WorkloadId,
) -> Vec<IpAddr> {
    let mut found: BTreeSet<IpAddr> =
        members.of(peer).iter().flat_map(|member| &member.addresses).map(IpAddr::to_canonical).collect();
    let selector = program.workloads.get(peer.index()).map(|workload| &workload.selector);
    if let Some(selector) = selector.filter(|selector| selector.is_by_address()) {
        let mut cuts: Vec<Prefix> = prefixes(program, asked, direction).collect();
        // Narrower workloads take their addresses away.
        cuts.extend(program.workloads.iter().flat_map(|workload| &workload.selector.addresses));
        cuts.sort_unstable();
        cuts.dedup();
        let pieces = cells(&cuts).into_iter().map(|cell| cell.range.first_address());
        let within = |address: &IpAddr| selector.addresses.iter().any(|prefix| prefix.contains(*address));
        found.extend(pieces.filter(within).filter(|&at| workload_at(program, members, at) == Some(peer)));
    }
    if found.is_empty() {
        found.extend(unnamed(program, asked, direction));
    }
    found.into_iter().collect()
}

/// An address that no rule of `workload` names; of the widest prefix where all are named.
fn unnamed(program: &Program, workload: WorkloadId, direction: Direction) -> Option<IpAddr> {
    let mut named: Vec<Prefix> =
        prefixes(program, workload, direction).chain(Prefix::all_apart()).chain([Prefix::Any]).collect();
    named.sort_unstable();
    named.dedup();
    let cells = cells(&named);
    let shallowest = cells.iter().min_by_key(|cell| {
        cell.deepest.and_then(|index| named.get(index)).map(|&prefix| (prefix != Prefix::Any, length(prefix)))
    });
    shallowest.map(|cell| middle(cell.range))
}

fn prefixes(
    program: &Program,
    workload: WorkloadId,
    direction: Direction,
) -> impl Iterator<Item = Prefix> + '_ {
    (program.rules.iter())
        .filter(move |rule| rule.direction == direction)
        .filter(move |rule| {
            program.scopes.get(rule.scope.index()).is_some_and(|scope| applies(scope, workload))
        })
        .flat_map(|rule| rule.addresses.iter().map(|item| item.prefix))
}

fn middle(range: AddressRange) -> IpAddr {
    range.family.address(range.first + (range.last - range.first) / 2)
}

const fn length(prefix: Prefix) -> u8 {
    match prefix {
        Prefix::Any => 0,
        Prefix::V4 { len, .. } => len + 96,
        Prefix::V6 { len, .. } => len,
    }
}

/// Whether an address is the asking member's own: both, where it is one member's and not another's.
fn ownership(program: &Program, members: &Members, workload: WorkloadId, address: IpAddr) -> Vec<bool> {
    let endpoints = members.of(workload);
    let mut both: BTreeSet<bool> =
        endpoints.iter().map(|member| member.addresses.contains(&address)).collect();
    if both.is_empty() {
        let selector = program.workloads.get(workload.index()).map(|workload| &workload.selector);
        let selected = selector.filter(|s| s.is_by_address()).map_or(&[][..], |s| &s.addresses);
        let own = selected.contains(&Prefix::host(address));
        let others =
            selected.iter().any(|&prefix| prefix != Prefix::host(address) && same_family(prefix, address));
        both.insert(own);
        if own && others {
            both.insert(false);
        }
    }
    both.into_iter().collect()
}

const fn same_family(prefix: Prefix, address: IpAddr) -> bool {
    matches!((prefix, address), (Prefix::V4 { .. }, IpAddr::V4(_)) | (Prefix::V6 { .. }, IpAddr::V6(_)))
}
