//! Which items are written at which prefix, scope by scope.

use mesh_bpf::flow::Direction;
use mesh_bpf::prefix::Prefix;

use super::items::{GroupId, Items};
use super::mutant::mutated;
use crate::hir::{Program, ScopeId};

/// A prefix, and the items of one rule that name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Placed {
    pub(crate) prefix: Prefix,
    pub(crate) group: GroupId,
}

/// What is placed, for each direction and scope: sorted and distinct.
pub(crate) struct Placement {
    lists: [Vec<Vec<Placed>>; 2],
}

impl Placement {
    /// Sorts every rule's addresses, once for all profiles.
    pub(crate) fn of(program: &Program, items: &Items) -> Self {
        let mut lists = [0, 1].map(|_| vec![Vec::new(); program.scopes.len()]);
        for (rule, &group) in program.rules.iter().zip(&items.group_of_rule) {
            let Some(list) =
                lists.get_mut(rule.direction as usize).and_then(|l| l.get_mut(rule.scope.index()))
            else {
                continue;
            };
            if rule.addresses.is_empty() && !mutated("placement::of") {
                list.push(Placed { prefix: Prefix::Any, group });
            }
            list.extend(rule.addresses.iter().map(|item| Placed { prefix: item.prefix, group }));
        }
        for list in lists.iter_mut().flatten() {
            list.sort_unstable();
            list.dedup();
        }
        Self { lists }
    }

    /// What these scopes place, in order of prefix.
    pub(crate) fn merged(&self, direction: Direction, scopes: &[ScopeId]) -> Vec<Placed> {
        let [outbound, inbound] = &self.lists;
        let lists = match direction {
            Direction::Outbound => outbound,
            Direction::Inbound => inbound,
        };
        let mut merged = Vec::new();
        let scopes = if mutated("placement::merged") { scopes.get(..1).unwrap_or_default() } else { scopes };
        for list in scopes.iter().filter_map(|scope| lists.get(scope.index())) {
            merged.extend_from_slice(list);
        }
        // Stable sorting finds the sorted runs and merges them.
        merged.sort();
        merged
    }
}
