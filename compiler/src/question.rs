//! Questions about flows, as tests and `explain` ask them, and the concrete flows that each stands for.
//!
//! A workload stands for each of its members and for all their addresses. Where those are prefixes, one
//! address of each piece that no rule's prefix cuts is enough: all others are decided alike.

use std::collections::BTreeSet;
use std::net::IpAddr;

use mesh_bpf::flow::{Direction, Flow, Identity, Protocol};
use mesh_bpf::prefix::Prefix;
use mesh_bpf::selector::Endpoint;

use crate::asked::{MemberName, Names, Other, Who};
use crate::ast::Asked;
use crate::diag::Diagnostic;
use crate::hir::region::{AddressRange, applies, cells};
use crate::hir::{Peer, Program, TestLine, WorkloadId};
use crate::resolve::Services;

/// A flow as a policy names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whose decision is asked for.
    pub workload: WorkloadId,
    /// Which of its decisions.
    pub direction: Direction,
    /// The other end.
    pub peer: OtherEnd,
    /// The one member that is asked about; none for all of the workload.
    pub member: Option<Endpoint>,
    /// The protocol.
    pub protocol: Protocol,
    /// The destination port.
    pub port: u16,
    /// Who opens it, and whether the node is at the other end.
    pub identity: Identity,
}

/// The other end of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OtherEnd {
    /// One of these addresses.
    Addresses(Vec<IpAddr>),
    /// A workload: all addresses of its members.
    Workload(WorkloadId),
    /// Somebody whose addresses are not known.
    Unknown,
    /// The node, whatever addresses it has.
    Node,
}

/// Addresses that no rule cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The addresses.
    pub range: AddressRange,
    /// Whether they are the asking member's own.
    pub own: bool,
}

impl Question {
    /// That of a flow that people ask for.
    ///
    /// # Errors
    /// A name that nobody has, or several; a flow without a member.
    pub fn of_asked(
        program: &Program,
        members: &Members,
        asked: &Asked,
        mesh: Option<&str>,
    ) -> Result<Self, Diagnostic> {
        let (names, endpoints) = names(program, members);
        let found = names.find(asked, mesh)?;
        let id = |at: usize| WorkloadId(u32::try_from(at).unwrap_or(u32::MAX));
        let endpoint = |at: usize| endpoints.get(at).copied();
        let peer = match found.other {
            Other::Address(address) => OtherEnd::Addresses(vec![address]),
            Other::Service(addresses) => OtherEnd::Addresses(addresses),
            Other::Member(Who::Workload(workload)) => OtherEnd::Workload(id(workload)),
            Other::Member(Who::Member { member, .. }) => {
                match endpoint(member).map(|endpoint| endpoint.addresses.clone()) {
                    Some(addresses) if !addresses.is_empty() => OtherEnd::Addresses(addresses),
                    _ => OtherEnd::Unknown,
                }
            }
            Other::Node => OtherEnd::Node,
        };
        let (workload, member) = match found.who {
            Who::Workload(workload) => (workload, None),
            Who::Member { member, workload } => (workload, endpoint(member).cloned()),
        };
        Ok(Self {
            workload: id(workload),
            direction: found.direction,
            peer,
            member,
            protocol: asked.protocol,
            port: asked.port,
            identity: found.identity,
        })
    }

    /// That of a line of a test; none where nobody knows the addresses of a service in it.
    #[must_use]
    pub fn of_test(program: &Program, line: &TestLine) -> Option<Self> {
        Some(Self {
            workload: line.workload,
            direction: line.direction,
            peer: match line.peer {
                Peer::Address(address) => OtherEnd::Addresses(vec![address]),
                Peer::Service(service) => {
                    let known = program.services.get(service.index())?.addresses.as_ref()?;
                    OtherEnd::Addresses(known.iter().filter_map(|prefix| prefix.first()).collect())
                }
                Peer::Workload(workload) => OtherEnd::Workload(workload),
                Peer::Node => OtherEnd::Node,
            },
            member: None,
            protocol: line.protocol,
            port: line.port,
            identity: line.identity.clone(),
        })
    }

    /// The flows that it stands for: at least one, but for a service without addresses. `members` are the endpoints that fall under each
    /// workload, as far as an inventory tells.
    #[must_use]
    pub fn flows(&self, program: &Program, members: &Members) -> Vec<Flow> {
        if self.peer == OtherEnd::Node {
            let pieces = self.unknown(program, members).into_iter();
            return pieces.map(|range| self.flow(range.first_address(), false)).collect();
        }
        let mut addresses: BTreeSet<IpAddr> =
            self.known(program, members).iter().map(|range| range.first_address()).collect();
        if addresses.is_empty() && !matches!(self.peer, OtherEnd::Addresses(_)) {
            addresses.extend(unnamed(program, self.workload, self.direction));
        }
        let mut flows = Vec::new();
        for address in addresses {
            flows.extend(
                self.ownership(program, members, address).into_iter().map(|own| self.flow(address, own)),
            );
        }
        flows
    }

    /// The addresses that it stands for, cut where rules cut them: all that a member can have where none is known.
    #[must_use]
    pub fn pieces(&self, program: &Program, members: &Members) -> Vec<Piece> {
        let known = self.known(program, members);
        if known.is_empty() {
            let pieces = self.unknown(program, members).into_iter();
            return pieces.map(|range| Piece { range, own: false }).collect();
        }
        let own = |range: AddressRange| {
            let own = self.ownership(program, members, range.first_address());
            own.into_iter().map(move |own| Piece { range, own })
        };
        known.into_iter().flat_map(own).collect()
    }

    /// Whether the other end is known by addresses.
    #[must_use]
    pub fn is_known(&self, program: &Program, members: &Members) -> bool {
        !self.known(program, members).is_empty()
    }

    /// The flow with one of its addresses.
    #[must_use]
    pub const fn flow(&self, address: IpAddr, own: bool) -> Flow {
        let Self { direction, protocol, port, .. } = *self;
        Flow { direction, protocol, address, port, own }
    }

    fn known(&self, program: &Program, members: &Members) -> Vec<AddressRange> {
        let host = |address: &IpAddr| AddressRange::of(Prefix::host(*address));
        match &self.peer {
            OtherEnd::Addresses(addresses) => addresses.iter().filter_map(host).collect(),
            OtherEnd::Workload(peer) => addresses(program, members, self.workload, self.direction, *peer),
            OtherEnd::Unknown | OtherEnd::Node => Vec::new(),
        }
    }

    fn unknown(&self, program: &Program, members: &Members) -> Vec<AddressRange> {
        let is_node = self.peer == OtherEnd::Node;
        let mut cuts: Vec<Prefix> =
            prefixes(program, self.workload, self.direction).chain(Prefix::all_apart()).collect();
        if is_node {
            cuts.extend(self.own(program, members));
        }
        cuts.sort_unstable();
        cuts.dedup();
        let ranges = cells(&cuts).into_iter().map(|cell| cell.range);
        let may_be = |address: IpAddr| {
            let is_others = || self.ownership(program, members, address).contains(&false);
            Prefix::host(address).apart().is_none() && (!is_node || is_others())
        };
        ranges.filter(|range| may_be(range.first_address())).collect()
    }

    /// The addresses that may be the asking member's own, as far as they are known.
    fn own(&self, program: &Program, members: &Members) -> Vec<Prefix> {
        let known = self.member.as_ref().map_or(members.of(self.workload), std::slice::from_ref);
        let selected = program.workloads.get(self.workload.index()).map(|workload| &workload.selector);
        let selected = selected.into_iter().flat_map(|selector| &selector.addresses).copied();
        let hosts = known.iter().flat_map(|member| &member.addresses).map(|&address| Prefix::host(address));
        hosts.chain(selected).collect()
    }

    fn ownership(&self, program: &Program, members: &Members, address: IpAddr) -> Vec<bool> {
        match &self.member {
            Some(member) => vec![member.addresses.contains(&address)],
            None => ownership(program, members, self.workload, address),
        }
    }
}

/// The endpoints of an inventory that fall under each workload, and its services.
#[derive(Clone, Debug, Default)]
pub struct Members {
    by_workload: Vec<Vec<Endpoint>>,
    services: Services,
}

impl Members {
    /// From the endpoints of each workload of a program, in its order.
    #[must_use]
    pub const fn new(by_workload: Vec<Vec<Endpoint>>) -> Self {
        Self { by_workload, services: Services::new() }
    }

    /// The same, with services.
    #[must_use]
    pub fn with_services(self, services: Services) -> Self {
        Self { services, ..self }
    }

    /// The addresses of services.
    #[must_use]
    pub const fn services(&self) -> &Services {
        &self.services
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

/// All that may be named: the workloads of a program in its order, and the endpoints of an inventory.
fn names<'m>(program: &Program, members: &'m Members) -> (Names, Vec<&'m Endpoint>) {
    let mut names = Names { services: members.services.clone(), ..Names::default() };
    let mut endpoints = Vec::new();
    for (at, workload) in program.workloads.iter().enumerate() {
        let mesh = program.meshes.get(workload.mesh.index()).map_or("", |mesh| mesh.name.as_str());
        names.workloads.push(format!("{mesh}/{}", workload.name));
        for endpoint in members.by_workload.get(at).into_iter().flatten() {
            names.members.push(MemberName {
                name: endpoint.name.clone(),
                namespace: endpoint.namespace.clone(),
                cgroup: endpoint.cgroup.clone(),
                workload: Some(at),
            });
            endpoints.push(endpoint);
        }
    }
    (names, endpoints)
}

/// Addresses of `peer`'s members, in pieces that the rules of `asked` cut.
fn addresses(
    program: &Program,
    members: &Members,
    asked: WorkloadId,
    direction: Direction,
    peer: WorkloadId,
) -> Vec<AddressRange> {
    let known = members.of(peer).iter().flat_map(|member| &member.addresses);
    let mut found: BTreeSet<AddressRange> =
        known.filter_map(|&address| AddressRange::of(Prefix::host(address))).collect();
    let selector = program.workloads.get(peer.index()).map(|workload| &workload.selector);
    if let Some(selector) = selector.filter(|selector| selector.is_by_address()) {
        let mut cuts: Vec<Prefix> = prefixes(program, asked, direction).collect();
        // Narrower workloads take their addresses away.
        cuts.extend(program.workloads.iter().flat_map(|workload| &workload.selector.addresses));
        cuts.sort_unstable();
        cuts.dedup();
        let pieces = cells(&cuts).into_iter().map(|cell| cell.range);
        let within = |range: &AddressRange| {
            let first = range.first_address();
            selector.addresses.iter().any(|prefix| prefix.contains(first))
                && workload_at(program, members, first) == Some(peer)
        };
        found.extend(pieces.filter(within));
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
