//! Who falls under which workload: the part of an image that the runtime needs for endpoints that come
//! and go, without reading the rest.

use crate::image::{MapImage, ProfileId, SourceId, Workload};
use crate::map::Table;
use crate::pack::Names;
use crate::selector::{Endpoint, Narrowness};
use crate::tables::{Damaged, TableData};

/// The workloads of a policy with their selectors, and the cgroups that its profiles exempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Names of the meshes, sorted.
    pub meshes: Vec<String>,
    /// Sorted by name.
    pub workloads: Vec<Workload>,
    /// Absolute cgroup v2 paths, by profile.
    pub exempt_cgroups: Vec<(ProfileId, String, SourceId)>,
}

/// An endpoint that two workloads select, neither more narrowly than the other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{endpoint}` is selected by `{first}` and by `{second}`, neither of which is narrower")]
pub struct Ambiguous {
    /// The endpoint's name.
    pub endpoint: String,
    /// A workload.
    pub first: String,
    /// Another.
    pub second: String,
}

impl Membership {
    /// That of an image.
    #[must_use]
    pub fn of(image: &MapImage) -> Self {
        let exempt = (0..).zip(&image.profiles).flat_map(|(id, profile)| {
            let cgroups = profile.exempt.cgroups.iter();
            cgroups.map(move |(path, source)| (ProfileId(id), path.clone(), *source))
        });
        Self {
            meshes: image.meshes.clone(),
            workloads: image.workloads.clone(),
            exempt_cgroups: exempt.collect(),
        }
    }

    /// That of a generation, from its table *names* alone.
    ///
    /// # Errors
    /// Where the table cannot be read.
    pub fn read(names: &TableData) -> Result<Self, Damaged> {
        let names: Names = postcard::from_bytes(names.bytes())
            .map_err(|_| Damaged { table: Table::Names, what: "it cannot be read" })?;
        let exempt = (0..).zip(names.profiles).flat_map(|(id, profile)| {
            let cgroups = profile.exempt_cgroups.into_iter();
            cgroups.map(move |(path, source)| (ProfileId(id), path, SourceId(source)))
        });
        Ok(Self {
            meshes: names.meshes,
            exempt_cgroups: exempt.collect(),
            workloads: (names.workloads.into_iter())
                .map(|(name, profile, selector)| Workload { name, selector, profile: ProfileId(profile) })
                .collect(),
        })
    }

    /// The workload of this name: `mesh/workload`, or the workload's own where only one mesh has it.
    #[must_use]
    pub fn workload(&self, name: &str) -> Option<&Workload> {
        let exact = self.workloads.iter().find(|workload| workload.name == name);
        exact.or_else(|| {
            let mut named = (self.workloads.iter())
                .filter(|workload| workload.name.rsplit_once('/').is_some_and(|(_, own)| own == name));
            named.next().filter(|_| named.next().is_none())
        })
    }

    /// The narrowest workload that selects an endpoint.
    ///
    /// # Errors
    /// Where there are two and neither is narrower.
    pub fn classify(&self, endpoint: &Endpoint) -> Result<Option<&Workload>, Ambiguous> {
        let mut selected = (self.workloads.iter())
            .filter_map(|workload| Some((workload, workload.selector.select(endpoint)?)));
        let Some(mut best) = selected.next() else { return Ok(None) };
        let mut beaten = Vec::new();
        for next in selected {
            let (winner, loser) = if is_narrower(next, best) { (next, best) } else { (best, next) };
            beaten.push(loser);
            best = winner;
        }
        match beaten.into_iter().find(|&loser| !is_narrower(best, loser)) {
            None => Ok(Some(best.0)),
            Some((rival, _)) => Err(Ambiguous {
                endpoint: endpoint.name.clone(),
                first: best.0.name.clone(),
                second: rival.name.clone(),
            }),
        }
    }
}

/// Longer prefix, deeper cgroup, the same conditions and more; and not all of them equal.
fn is_narrower(a: (&Workload, Narrowness), b: (&Workload, Narrowness)) -> bool {
    let places = a.1.depth >= b.1.depth && a.1.prefix >= b.1.prefix;
    let equal = a.1 == b.1 && b.0.selector.asks_all_of(&a.0.selector);
    places && a.0.selector.asks_all_of(&b.0.selector) && !equal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selector::{Condition, Selector, Subject};

    fn workload(name: &str, selector: Selector) -> Workload {
        Workload { name: name.into(), selector, profile: ProfileId(0) }
    }

    fn cgroups(paths: &[&str]) -> Selector {
        Selector { cgroups: paths.iter().map(|&path| path.into()).collect(), ..Selector::default() }
    }

    fn label(key: &str) -> Selector {
        let subject = Subject::Label(key.into());
        Selector {
            conditions: vec![Condition { subject, values: vec![], negated: false }],
            ..Selector::default()
        }
    }

    fn name(found: Result<Option<&Workload>, Ambiguous>) -> Option<String> {
        found.unwrap().map(|workload| workload.name.clone())
    }

    #[test]
    fn the_deeper_cgroup_wins_and_any_is_last() {
        let policy = Membership {
            workloads: vec![
                workload("m/all", Selector::default()),
                workload("m/deep", cgroups(&["/a/b"])),
                workload("m/wide", cgroups(&["/a"])),
            ],
            ..Membership::default()
        };
        let at = |path: &str| Endpoint { cgroup: Some(path.into()), ..Endpoint::default() };
        assert_eq!(name(policy.classify(&at("/a/b/c"))).as_deref(), Some("m/deep"));
        assert_eq!(name(policy.classify(&at("/a/c"))).as_deref(), Some("m/wide"));
        assert_eq!(name(policy.classify(&at("/c"))).as_deref(), Some("m/all"));
    }

    #[test]
    fn two_labels_are_ambiguous() {
        let policy = Membership {
            workloads: vec![workload("m/a", label("a")), workload("m/b", label("b"))],
            ..Membership::default()
        };
        let labels = [("a".into(), String::new()), ("b".into(), String::new())].into();
        let both = Endpoint { name: "x".into(), labels, ..Endpoint::default() };
        assert_eq!(
            policy.classify(&both).unwrap_err().to_string(),
            "`x` is selected by `m/a` and by `m/b`, neither of which is narrower"
        );
        let one = Endpoint { labels: [("a".into(), String::new())].into(), ..Endpoint::default() };
        assert_eq!(name(policy.classify(&one)).as_deref(), Some("m/a"));
        assert_eq!(name(policy.classify(&Endpoint::default())), None);
    }
}
