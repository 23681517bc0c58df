//! Whether a flow is exempt: by the process that opens it, or by the interface that it goes by.

use mesh_bpf::flow::{Direction, Flow, Identity};
use mesh_bpf::selector::{LOOPBACK, cgroup_covers};
use mesh_hir::item;
use mesh_hir::region::applies;
use mesh_hir::{Exempt, Exempted, Program, WorkloadId};

/// The index of the exemption that covers a flow: of several the deepest cgroup or the longest name, else the least text.
#[must_use]
pub fn exempt_by(program: &Program, workload: WorkloadId, flow: &Flow, identity: &Identity) -> Option<usize> {
    let scope = |exempt: &Exempt| program.scopes.get(exempt.scope.index());
    (program.exempts.iter().enumerate())
        .filter(|(_, exempt)| scope(exempt).is_some_and(|scope| applies(scope, workload)))
        .filter(|(_, exempt)| covers(&exempt.who, flow, identity))
        .min_by_key(|(index, exempt)| {
            let name = scope(exempt).map_or("", |scope| scope.name.as_str());
            let source = item::exempt_source(name, &exempt.who);
            (kind(&exempt.who), std::cmp::Reverse(depth(&exempt.who)), source.head, source.scope, *index)
        })
        .map(|(index, _)| index)
}

/// Whether the flow falls under this exemption.
fn covers(who: &Exempted, flow: &Flow, identity: &Identity) -> bool {
    let opens = flow.direction == Direction::Outbound;
    match who {
        Exempted::Uid(range) => opens && identity.uid.is_some_and(|id| range.contains(id)),
        Exempted::Gid(range) => opens && identity.gid.is_some_and(|id| range.contains(id)),
        Exempted::Cgroup(path) => {
            opens && identity.cgroup.as_deref().is_some_and(|cgroup| cgroup_covers(path, cgroup))
        }
        Exempted::Interface(pattern) => {
            // What a member receives from an address of its own comes in by loopback.
            (opens || !flow.own) && identity.interface.as_deref().is_some_and(|name| matches(pattern, name))
        }
    }
}

/// Whether a name is the one that is written, or begins as is written before a `*`. Loopback leads nowhere else.
fn matches(pattern: &str, name: &str) -> bool {
    if name == LOOPBACK {
        return false;
    }
    match pattern.split_once('*') {
        Some((beginning, _)) => name.get(..beginning.len()) == Some(beginning),
        None => name == pattern,
    }
}

/// The order in which the programs look: uid, gid, cgroup, interface.
const fn kind(who: &Exempted) -> u8 {
    match who {
        Exempted::Uid(_) => 0,
        Exempted::Gid(_) => 1,
        Exempted::Cgroup(_) => 2,
        Exempted::Interface(_) => 3,
    }
}

/// A deeper cgroup says more; so does a whole name, and of beginnings the longer one.
fn depth(who: &Exempted) -> (bool, usize) {
    match who {
        Exempted::Uid(_) | Exempted::Gid(_) => (false, 0),
        Exempted::Cgroup(path) => (false, path.len()),
        Exempted::Interface(pattern) => (!pattern.ends_with('*'), pattern.len()),
    }
}
