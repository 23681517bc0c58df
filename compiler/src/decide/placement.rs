//! Which items are written at which prefix, scope by scope.

use std::collections::HashMap;

use mesh_bpf::flow::Direction;
use mesh_bpf::prefix::Prefix;

use super::items::{GroupId, Groups, Items};
use crate::hir::{Program, Rule, ScopeId};

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
    pub(crate) fn of(program: &Program, items: &Items, groups: &mut Groups) -> Self {
        let mut lists = [0, 1].map(|_| vec![Vec::new(); program.scopes.len()]);
        for (rule, parts) in by_addresses(program, items) {
            let Some(list) =
                lists.get_mut(rule.direction as usize).and_then(|l| l.get_mut(rule.scope.index()))
            else {
                continue;
            };
            let group = groups.union(&parts);
            if rule.addresses.is_empty() {
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
        for list in scopes.iter().filter_map(|scope| lists.get(scope.index())) {
            merged.extend_from_slice(list);
        }
        // Stable sorting finds the sorted runs and merges them.
        merged.sort();
        merged
    }
}

/// Rules of one scope that share their addresses: the first of them, with the groups of all. A list that many
/// rules name is gone through once.
fn by_addresses<'p>(program: &'p Program, items: &Items) -> Vec<(&'p Rule, Vec<GroupId>)> {
    let mut found: Vec<(&Rule, Vec<GroupId>)> = Vec::new();
    let mut known = HashMap::new();
    for (rule, &group) in program.rules.iter().zip(&items.group_of_rule) {
        let key = (rule.direction, rule.scope, rule.addresses.key());
        let index = *known.entry(key).or_insert(found.len());
        match found.get_mut(index) {
            Some((_, groups)) => groups.push(group),
            None => found.push((rule, vec![group])),
        }
    }
    found
}
