//! The axes beside addresses: users, groups and cgroups of processes, and the node at the other end; and how what rules
//! name cuts them.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::flow::Identity;
use mesh_bpf::image::IdRange;

use crate::Who;

/// Where users, groups, cgroups and other ends are cut.
#[derive(Clone, Debug, Default)]
pub struct Cuts {
    /// Of every stretch of user ids that no range cuts one; `None`, which is no id, comes first.
    uids: BTreeSet<Option<u32>>,
    /// The same of group ids.
    gids: BTreeSet<Option<u32>>,
    /// Every path, and none: what covers a cgroup is what covers the deepest of these paths that does.
    paths: BTreeSet<Option<String>>,
    /// Whether the node is at the other end: no, and yes where something asks.
    nodes: BTreeSet<bool>,
}

impl Cuts {
    /// At what rules name, and at the bounds of other ids and paths; at the node where `node` says so.
    pub fn at<'p>(
        named: &BTreeSet<&Who>,
        uids: impl Iterator<Item = IdRange>,
        gids: impl Iterator<Item = IdRange>,
        paths: impl Iterator<Item = &'p String>,
        node: bool,
    ) -> Self {
        let written = named.iter().filter_map(|who| who.cgroup.as_ref()).cloned();
        Self {
            uids: ids(named.iter().filter_map(|who| who.uid).chain(uids)),
            gids: ids(named.iter().filter_map(|who| who.gid).chain(gids)),
            paths: written.chain(paths.cloned()).map(Some).chain([None]).collect(),
            nodes: BTreeSet::from([false, node || named.iter().any(|who| who.node)]),
        }
    }

    /// The kinds of who is at the ends, each with one of it. `alike` is the same for what is known of a process on one
    /// side alone (its user, its group or its cgroup) where that tells no kinds apart.
    pub fn kinds<A: Ord, K: Ord>(
        self,
        alike: impl Fn(&Identity) -> A,
        kind: impl Fn(&Identity) -> K,
    ) -> BTreeMap<K, Identity> {
        let distinct = |identities: &mut dyn Iterator<Item = Identity>| -> Vec<Identity> {
            let mut known = BTreeMap::new();
            for identity in identities {
                known.entry(alike(&identity)).or_insert(identity);
            }
            known.into_values().collect()
        };
        let none = Identity::default;
        let users = distinct(&mut self.uids.into_iter().map(|uid| Identity { uid, ..none() }));
        let groups = distinct(&mut self.gids.into_iter().map(|gid| Identity { gid, ..none() }));
        let paths = distinct(&mut self.paths.into_iter().map(|cgroup| Identity { cgroup, ..none() }));
        let mut kinds = BTreeMap::new();
        for user in &users {
            for group in &groups {
                for path in &paths {
                    for &node in &self.nodes {
                        let identity = Identity {
                            uid: user.uid,
                            gid: group.gid,
                            cgroup: path.cgroup.clone(),
                            interface: None,
                            node,
                        };
                        kinds.entry(kind(&identity)).or_insert(identity);
                    }
                }
            }
        }
        kinds
    }
}

/// The sets of these that somebody is within, each with one who is.
#[must_use]
pub fn kinds_of_processes<'p>(named: &BTreeSet<&'p Who>) -> BTreeMap<BTreeSet<&'p Who>, Identity> {
    let cuts = Cuts::at(named, std::iter::empty(), std::iter::empty(), std::iter::empty(), false);
    cuts.kinds(|identity| sides(named, identity), |identity| holding(named, identity))
}

/// Those of what is named that hold who is at the ends.
#[must_use]
pub fn holding<'p>(named: &BTreeSet<&'p Who>, identity: &Identity) -> BTreeSet<&'p Who> {
    named.iter().copied().filter(|who| who.holds(identity)).collect()
}

/// For each of what is named, whether a process is within its users, its groups and its cgroups.
#[must_use]
pub fn sides(named: &BTreeSet<&Who>, identity: &Identity) -> Vec<[bool; 3]> {
    let one = |uid, gid, cgroup| Who { uid, gid, cgroup, node: false }.holds(identity);
    let sides = |who: &&Who| {
        [one(who.uid, None, None), one(None, who.gid, None), one(None, None, who.cgroup.clone())]
    };
    named.iter().map(sides).collect()
}

/// An id of every stretch that no range cuts; `None`, which is no id, comes first.
#[must_use]
pub fn ids(ranges: impl Iterator<Item = IdRange>) -> BTreeSet<Option<u32>> {
    let cuts = ranges.flat_map(|range| [Some(range.first), range.last.checked_add(1)]);
    cuts.flatten().map(Some).chain([None]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_process_is_found_once_with_one_of_it() {
        let range = |first, last| Some(IdRange { first, last });
        let users = Who { uid: range(10, 20), ..Who::EVERYBODY };
        let some = Who { uid: range(15, 30), gid: range(5, 5), ..Who::EVERYBODY };
        let (outer, inner) = ("/a".to_owned(), "/a/b".to_owned());
        let outer = Who { cgroup: Some(outer), ..Who::EVERYBODY };
        let inner = Who { cgroup: Some(inner), ..Who::EVERYBODY };
        let named = BTreeSet::from([&users, &some, &outer, &inner]);
        let kinds = kinds_of_processes(&named);
        for (within, identity) in &kinds {
            let holding: BTreeSet<&Who> = named.iter().copied().filter(|who| who.holds(identity)).collect();
            assert_eq!(*within, holding, "{identity:?}");
        }
        // Of users and groups: none, the first, both, the second; each outside, within the outer, within both.
        assert_eq!(kinds.len(), 4 * 3);
        assert!(kinds.contains_key(&BTreeSet::new()));
        // Each at the node or not.
        let node = Who { node: true, ..Who::EVERYBODY };
        let there = Who { node: true, ..users.clone() };
        let named = BTreeSet::from([&users, &node, &there]);
        let kinds = kinds_of_processes(&named);
        assert_eq!(kinds.len(), 2 * 2);
        assert!(kinds.contains_key(&named));
        assert!(kinds.iter().all(|(within, identity)| within.contains(&node) == identity.node));
    }
}
