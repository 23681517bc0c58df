//! The process axis: users, groups and cgroups, and how what rules name cuts them.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::flow::Identity;
use mesh_bpf::image::IdRange;

use crate::Who;

/// The sets of these that some process is within, each with such a process.
///
/// Every stretch of ids that no range cuts is looked at, and every path that is named: what covers a cgroup is what
/// covers the deepest named path that does.
#[must_use]
pub fn kinds_of_processes<'p>(named: &BTreeSet<&'p Who>) -> BTreeMap<BTreeSet<&'p Who>, Identity> {
    let users = ids(named.iter().filter_map(|who| who.uid));
    let groups = ids(named.iter().filter_map(|who| who.gid));
    let paths: BTreeSet<Option<&String>> =
        named.iter().filter_map(|who| who.cgroup.as_ref()).map(Some).chain([None]).collect();
    let users = alike(named, users.into_iter().map(|uid| Identity { uid, ..Identity::default() }));
    let groups = alike(named, groups.into_iter().map(|gid| Identity { gid, ..Identity::default() }));
    let paths =
        alike(named, paths.into_iter().map(|path| Identity { cgroup: path.cloned(), ..Identity::default() }));
    let mut kinds = BTreeMap::new();
    for user in &users {
        for group in &groups {
            for path in &paths {
                let identity = Identity { uid: user.uid, gid: group.gid, cgroup: path.cgroup.clone() };
                let within = named.iter().copied().filter(|who| who.holds(&identity)).collect();
                kinds.entry(within).or_insert(identity);
            }
        }
    }
    kinds
}

/// An id of every stretch that no range cuts; `None`, which is no id, comes first.
#[must_use]
pub fn ids(ranges: impl Iterator<Item = IdRange>) -> BTreeSet<Option<u32>> {
    let cuts = ranges.flat_map(|range| [Some(range.first), range.last.checked_add(1)]);
    cuts.flatten().map(Some).chain([None]).collect()
}

/// Those of identities, each known on one side alone, that are within different sides.
fn alike(named: &BTreeSet<&Who>, identities: impl Iterator<Item = Identity>) -> Vec<Identity> {
    let mut known: BTreeMap<Vec<[bool; 3]>, Identity> = BTreeMap::new();
    for identity in identities {
        known.entry(named.iter().map(|who| sides(who, &identity)).collect()).or_insert(identity);
    }
    known.into_values().collect()
}

/// Whether a process is within what is named of users, of groups and of cgroups.
#[must_use]
pub fn sides(who: &Who, identity: &Identity) -> [bool; 3] {
    let one = |uid, gid, cgroup| Who { uid, gid, cgroup }.holds(identity);
    [one(who.uid, None, None), one(None, who.gid, None), one(None, None, who.cgroup.clone())]
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
    }
}
