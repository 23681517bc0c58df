//! For whom a ruleset is made: who is in a network namespace, and what its names mean there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mesh_bpf::image::{IdRange, ProfileId};
use mesh_bpf::selector::cgroup_covers;

/// One network namespace: a pod's, or the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scene {
    /// A pod is one resident without a cgroup; the host has one for each cgroup of a workload. None: the ruleset decides
    /// nothing.
    pub residents: Vec<Resident>,
    /// The node's own addresses: what `to node` and `from node` mean.
    pub node: BTreeSet<IpAddr>,
    /// Of the cgroups that the policy names (to exempt them, or in `as`) those that exist, by path.
    pub cgroups: BTreeMap<String, Cgroup>,
    /// How user ids are numbered in the namespace.
    pub users: IdMap,
    /// How group ids are.
    pub groups: IdMap,
    /// Whether BPF programs decide here too: what they lead to a sidecar is left alone.
    pub beside_bpf: bool,
}

/// One member in a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// What it is decided by.
    pub profile: ProfileId,
    /// Its own addresses.
    pub own: BTreeSet<IpAddr>,
    /// The cgroup that its processes are in, or below. None for a pod: all that is in the namespace.
    pub cgroup: Option<Cgroup>,
}

/// A cgroup of the version 2 hierarchy, as the kernel compares it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cgroup {
    /// How deep it is: the components of its path. The root's is 0.
    pub level: u32,
    /// Its id. One that is made again at the same path has another.
    pub id: u64,
}

impl Scene {
    /// Those of the named cgroups that a process at `path` is in.
    pub(crate) fn cgroups_of(&self, path: Option<&str>) -> BTreeSet<Cgroup> {
        let covers = |named: &str| path.is_some_and(|path| cgroup_covers(named, path));
        self.cgroups.iter().filter(|(named, _)| covers(named)).map(|(_, &cgroup)| cgroup).collect()
    }

    /// The named cgroups among some, with what belongs to each; those that do not exist have no processes.
    pub(crate) fn existing<'p, T: Copy>(
        &'p self,
        named: &'p [(String, T)],
    ) -> impl Iterator<Item = (Cgroup, T)> + 'p {
        named.iter().filter_map(|(path, what)| Some((*self.cgroups.get(path)?, *what)))
    }
}

/// How ids of a user namespace are numbered outside: a pod may have users of its own, and nftables compares ids as they
/// are in the user namespace that owns the network namespace. Policies name those of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMap(Vec<Extent>);

/// Ids that are numbered alike, but for where they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    inside: u32,
    outside: u32,
    count: u32,
}

impl Default for IdMap {
    fn default() -> Self {
        Self(vec![Extent { inside: 0, outside: 0, count: u32::MAX }])
    }
}

impl IdMap {
    /// Reads `/proc/PID/uid_map` or `gid_map` of a process in the namespace. None where it is no such text.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let extent = |line: &str| {
            let mut words = line.split_ascii_whitespace().map(|word| word.parse().ok());
            let [inside, outside, count] = [words.next()??, words.next()??, words.next()??];
            let fits = |first: u32| count > 0 && first.checked_add(count).is_some();
            (fits(inside) && fits(outside) && words.next().is_none()).then_some(Extent {
                inside,
                outside,
                count,
            })
        };
        text.lines().map(extent).collect::<Option<Vec<_>>>().map(Self)
    }

    /// What a range of ids outside is inside: in pieces, and without those that are not there.
    pub(crate) fn inside(&self, range: IdRange) -> Vec<IdRange> {
        let piece = |extent: &Extent| {
            let last = extent.outside.saturating_add(extent.count - 1);
            let (first, last) = (range.first.max(extent.outside), range.last.min(last));
            let inside = |id: u32| extent.inside.saturating_add(id - extent.outside);
            (first <= last).then(|| IdRange { first: inside(first), last: inside(last) })
        };
        self.0.iter().filter_map(piece).collect()
    }

    /// What one id outside is inside.
    pub(crate) fn one(&self, id: u32) -> Option<u32> {
        self.inside(IdRange { first: id, last: id }).first().map(|range| range.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_namespace() {
        let map =
            IdMap::read("         0     100000      65536\n     70000       1000          1\n").unwrap();
        assert_eq!(map.one(101_500), Some(1500));
        assert_eq!(map.one(1500), None);
        assert_eq!(map.one(1000), Some(70_000));
        let pieces = map.inside(IdRange { first: 900, last: 100_002 });
        assert_eq!(pieces, [IdRange { first: 0, last: 2 }, IdRange { first: 70_000, last: 70_000 }]);
        let all = IdRange { first: 0, last: u32::MAX - 1 };
        assert_eq!(IdMap::default().inside(all), [all]);
        assert_eq!(IdMap::read("0 0 4294967295\n"), Some(IdMap::default()));
        for text in ["0 0", "0 0 0", "1 0 4294967295", "0 0 1 1", "a b c"] {
            assert_eq!(IdMap::read(text), None, "{text}");
        }
    }
}
