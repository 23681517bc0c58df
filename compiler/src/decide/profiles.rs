//! Which workloads have equal rules, and what such a profile is called.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::flow::{Direction, Protocol};
use mesh_bpf::ports::{PortRange, PortSet};

use super::parties::Parties;
use crate::hir::region::applies;
use crate::hir::{Event, Level, Program, ScopeId, WorkloadId};

/// Workloads with equal rules.
pub(crate) struct Class {
    /// The scopes that wrote them: `bookstore+storefront/cart`.
    pub(crate) name: String,
    pub(crate) members: Vec<WorkloadId>,
    /// The scopes that write something for them.
    pub(crate) scopes: Vec<ScopeId>,
}

/// Puts workloads with the same writing scopes together. Does not look at what is written.
///
/// A profile is named by its mesh, then by each group or list of workloads that something is written for,
/// then by the workload whose own block writes something.
pub(crate) fn classes(program: &Program, parties: &Parties) -> Vec<Class> {
    let reaching = reaching_scopes(program);
    let mut classes: BTreeMap<String, Class> = BTreeMap::new();
    for (workload, scopes) in (0u32..).map(WorkloadId).zip(reaching) {
        let name = name(program, parties, workload, &scopes);
        let class = classes.entry(name.clone()).or_insert(Class { name, members: Vec::new(), scopes });
        class.members.push(workload);
    }
    classes.into_values().collect()
}

/// For each workload the scopes that cover it and in which something is written.
fn reaching_scopes(program: &Program) -> Vec<Vec<ScopeId>> {
    let written: BTreeSet<ScopeId> = (program.rules.iter().map(|rule| rule.scope))
        .chain(program.exempts.iter().map(|exempt| exempt.scope))
        .chain(program.ons.iter().map(|on| on.scope))
        .collect();
    let mut reaching = vec![Vec::new(); program.workloads.len()];
    for id in written {
        let Some(scope) = program.scopes.get(id.index()) else { continue };
        if scope.level == Level::Top {
            reaching.iter_mut().for_each(|scopes| scopes.push(id));
        }
        for member in scope.members.iter().filter(|_| scope.level != Level::Top) {
            if let Some(scopes) = reaching.get_mut(member.index()) {
                scopes.push(id);
            }
        }
    }
    reaching
}

fn name(program: &Program, parties: &Parties, id: WorkloadId, scopes: &[ScopeId]) -> String {
    let Some((workload, mesh)) = program
        .workloads
        .get(id.index())
        .and_then(|workload| Some((workload, program.meshes.get(workload.mesh.index())?)))
    else {
        return String::new();
    };
    let mut groups: BTreeSet<&str> = parties.names_of(id).collect();
    let mut alone = parties.is_alone(id);
    for scope in scopes.iter().filter_map(|scope| program.scopes.get(scope.index())) {
        match scope.level {
            Level::Top | Level::Mesh => {}
            Level::For => {
                groups.insert(scope.name.strip_prefix(mesh.name.as_str()).unwrap_or(&scope.name));
            }
            Level::Workload => alone = true,
        }
    }
    let mut name: String = std::iter::once(mesh.name.as_str()).chain(groups).collect();
    if alone {
        name.push('/');
        name.push_str(&workload.name);
    }
    name
}

/// Where a redirect leads to: its direction, a protocol that it is about, and the port.
pub(crate) type Target = (Direction, Protocol, u16);

/// For each scope where its redirects lead to.
pub(crate) fn redirect_targets(program: &Program) -> Vec<BTreeSet<Target>> {
    let mut targets = vec![BTreeSet::new(); program.scopes.len()];
    for rule in &program.rules {
        if let (Some(port), Some(targets)) = (rule.verdict.port(), targets.get_mut(rule.scope.index())) {
            targets.extend(rule.ports.iter().map(|item| (rule.direction, item.protocol, port)));
        }
    }
    targets
}

/// Ports of a profile's sidecars.
pub(crate) struct SidecarPorts {
    /// All that the profile redirects to: there nothing is redirected inbound.
    pub(crate) all: PortSet,
    /// For TCP and UDP, those that only outbound redirects lead to: what comes from elsewhere is let in there only
    /// by rules for them alone.
    pub(crate) outbound: [PortSet; 2],
}

/// Ports that a profile with these scopes redirects to.
pub(crate) fn sidecar_ports(targets: &[BTreeSet<Target>], scopes: &[ScopeId]) -> SidecarPorts {
    let of_scopes = scopes.iter().filter_map(|scope| targets.get(scope.index())).flatten();
    let targets: BTreeSet<Target> = of_scopes.copied().collect();
    let ports = targets.iter().map(|&(_, _, port)| port).collect::<BTreeSet<u16>>();
    SidecarPorts {
        all: ports.into_iter().map(PortRange::single).collect(),
        outbound: Protocol::ALL.map(|protocol| outbound_only(&targets, protocol)),
    }
}

/// Ports that outbound redirects of a protocol lead to and inbound ones do not.
fn outbound_only(targets: &BTreeSet<Target>, protocol: Protocol) -> PortSet {
    let led_to = |&(direction, of, port): &Target| {
        let inbound = (Direction::Inbound, protocol, port);
        let is_only = !targets.contains(&inbound);
        (direction == Direction::Outbound && of == protocol && is_only).then_some(port)
    };
    targets.iter().filter_map(led_to).map(PortRange::single).collect()
}

/// What `on` says for a profile: the innermost wins, and of equally inner ones `refuse`, the default.
pub(crate) fn refuses(program: &Program, member: WorkloadId, event: Event) -> bool {
    let ons: Vec<_> = (program.ons.iter())
        .filter(|on| on.event == event)
        .filter_map(|on| Some((program.scopes.get(on.scope.index())?, on.refuse)))
        .filter(|(scope, _)| applies(scope, member))
        .collect();
    let mut innermost = (ons.iter())
        .filter(|(scope, _)| !ons.iter().any(|(other, _)| scope.covers(other) && !other.covers(scope)))
        .peekable();
    innermost.peek().is_none() || innermost.any(|&(_, refuse)| refuse)
}
