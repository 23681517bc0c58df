//! Whether an identity is exempt.

use mesh_bpf::flow::Identity;
use mesh_bpf::selector::cgroup_covers;
use mesh_hir::item;
use mesh_hir::region::applies;
use mesh_hir::{Exempt, Exempted, Program, WorkloadId};

/// The index of the exemption that covers `identity`: of several the deepest cgroup, else the least text.
#[must_use]
pub fn exempt_by(program: &Program, workload: WorkloadId, identity: &Identity) -> Option<usize> {
    let scope = |exempt: &Exempt| program.scopes.get(exempt.scope.index());
    (program.exempts.iter().enumerate())
        .filter(|(_, exempt)| scope(exempt).is_some_and(|scope| applies(scope, workload)))
        .filter(|(_, exempt)| covers(&exempt.who, identity))
        .min_by_key(|(index, exempt)| {
            let name = scope(exempt).map_or("", |scope| scope.name.as_str());
            let source = item::exempt_source(name, &exempt.who);
            (kind(&exempt.who), std::cmp::Reverse(depth(&exempt.who)), source.head, source.scope, *index)
        })
        .map(|(index, _)| index)
}

/// Whether the identity falls under this exemption.
fn covers(who: &Exempted, identity: &Identity) -> bool {
    match who {
        Exempted::Uid(range) => identity.uid.is_some_and(|id| range.contains(id)),
        Exempted::Gid(range) => identity.gid.is_some_and(|id| range.contains(id)),
        Exempted::Cgroup(path) => {
            identity.cgroup.as_deref().is_some_and(|cgroup| cgroup_covers(path, cgroup))
        }
    }
}

/// The order in which the programs look: uid, gid, cgroup.
const fn kind(who: &Exempted) -> u8 {
    match who {
        Exempted::Uid(_) => 0,
        Exempted::Gid(_) => 1,
        Exempted::Cgroup(_) => 2,
    }
}

const fn depth(who: &Exempted) -> usize {
    match who {
        Exempted::Uid(_) | Exempted::Gid(_) => 0,
        Exempted::Cgroup(path) => path.len(),
    }
}
