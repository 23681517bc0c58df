//! Who falls under which workload: the part of an image that the runtime needs for endpoints that come
//! and go, without reading the rest.

use std::collections::{BTreeMap, HashMap};

use crate::image::{MapImage, ProfileId, SourceId, Workload};
use crate::pack::Names;
use crate::prefix::Prefix;
use crate::selector::{Condition, Endpoint, Narrowness, Selector, Subject};
use crate::tables::{Damaged, TableData};

/// The workloads of a policy with their selectors, and the cgroups and interfaces that its profiles exempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Names of the meshes, sorted.
    pub meshes: Vec<String>,
    /// Sorted by name.
    pub workloads: Vec<Workload>,
    /// Absolute cgroup v2 paths, by profile.
    pub exempt_cgroups: Vec<(ProfileId, String, SourceId)>,
    /// The same of those that tell classes of processes apart, with the part that each is in.
    pub class_cgroups: Vec<(ProfileId, String, u32)>,
    /// Names of interfaces and beginnings of names, by profile: sorted, as in an image.
    pub exempt_interfaces: BTreeMap<ProfileId, Vec<(String, SourceId)>>,
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
        let classes = (0..).zip(&image.profiles).flat_map(|(id, profile)| {
            let cgroups = profile.classes.cgroups.iter();
            cgroups.map(move |(path, part)| (ProfileId(id), path.clone(), *part))
        });
        let interfaces =
            (0..).zip(&image.profiles).map(|(id, profile)| (id, profile.exempt.interfaces.clone()));
        Self {
            meshes: image.meshes.clone(),
            exempt_interfaces: by_profile(interfaces),
            workloads: image.workloads.clone(),
            exempt_cgroups: exempt.collect(),
            class_cgroups: classes.collect(),
        }
    }

    /// That of a generation, from its table *names* alone.
    ///
    /// # Errors
    /// Where the table cannot be read.
    pub fn read(names: &TableData) -> Result<Self, Damaged> {
        let names = Names::read(names)?;
        let exempt = (0..).zip(names.profiles).flat_map(|(id, profile)| {
            let cgroups = profile.exempt_cgroups.into_iter();
            cgroups.map(move |(path, source)| (ProfileId(id), path, SourceId(source)))
        });
        let classes = (0..).zip(names.classes).flat_map(|(id, classes)| {
            classes.cgroups.into_iter().map(move |(path, part)| (ProfileId(id), path, part))
        });
        let interfaces = (0..).zip(names.interfaces).map(|(id, patterns)| {
            let patterns = patterns.into_iter().map(|(pattern, source)| (pattern, SourceId(source)));
            (id, patterns.collect())
        });
        Ok(Self {
            meshes: names.meshes,
            exempt_interfaces: by_profile(interfaces),
            exempt_cgroups: exempt.collect(),
            class_cgroups: classes.collect(),
            workloads: (names.workloads.into_iter())
                .map(|(name, profile, selector)| Workload { name, selector, profile: ProfileId(profile) })
                .collect(),
        })
    }

    /// The cgroups that it names beside those of its workloads.
    pub fn named_cgroups(&self) -> impl Iterator<Item = &String> {
        let exempt = self.exempt_cgroups.iter().map(|(_, path, _)| path);
        exempt.chain(self.class_cgroups.iter().map(|(_, path, _)| path))
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
        narrowest(&self.workloads, endpoint)
    }

    /// For many endpoints: each is compared only with workloads that name something of it.
    #[must_use]
    pub fn classifier(&self) -> Classifier<'_> {
        Classifier::of(&self.workloads)
    }
}

/// Profiles that exempt no interface are none of them.
fn by_profile(
    all: impl Iterator<Item = (u32, Vec<(String, SourceId)>)>,
) -> BTreeMap<ProfileId, Vec<(String, SourceId)>> {
    all.filter(|(_, patterns)| !patterns.is_empty()).map(|(id, patterns)| (ProfileId(id), patterns)).collect()
}

/// The workloads of a policy by one thing that each asks for.
#[derive(Debug)]
pub struct Classifier<'m> {
    workloads: &'m [Workload],
    by_value: HashMap<(&'m Subject, &'m str), Vec<usize>>,
    by_prefix: HashMap<Prefix, Vec<usize>>,
    /// Lengths that `by_prefix` knows.
    lengths: Vec<u8>,
    by_cgroup: HashMap<&'m str, Vec<usize>>,
    /// Workloads that ask for nothing by name.
    others: Vec<usize>,
    /// Subjects that `by_value` knows.
    keys: Vec<&'m Subject>,
}

impl<'m> Classifier<'m> {
    fn of(workloads: &'m [Workload]) -> Self {
        let named = |workload: &'m Workload| {
            workload.selector.conditions.iter().filter(|one| !one.negated && !one.values.is_empty())
        };
        let mut uses: HashMap<(&Subject, &str), usize> = HashMap::new();
        for condition in workloads.iter().flat_map(named) {
            for value in &condition.values {
                *uses.entry((&condition.subject, value)).or_default() += 1;
            }
        }
        let mut this = Self {
            workloads,
            by_value: HashMap::new(),
            by_prefix: HashMap::new(),
            lengths: Vec::new(),
            by_cgroup: HashMap::new(),
            others: Vec::new(),
            keys: Vec::new(),
        };
        for (index, workload) in workloads.iter().enumerate() {
            // What the fewest ask for tells most.
            let cost = |condition: &&Condition| -> usize {
                condition
                    .values
                    .iter()
                    .filter_map(|value| uses.get(&(&condition.subject, value.as_str())))
                    .sum()
            };
            let Selector { addresses, cgroups, .. } = &workload.selector;
            if let Some(condition) = named(workload).min_by_key(cost) {
                for value in &condition.values {
                    this.by_value.entry((&condition.subject, value)).or_default().push(index);
                }
            } else if addresses.is_empty() && cgroups.is_empty() {
                this.others.push(index);
            } else {
                addresses.iter().for_each(|&prefix| this.by_prefix.entry(prefix).or_default().push(index));
                cgroups.iter().for_each(|path| this.by_cgroup.entry(path).or_default().push(index));
            }
        }
        let mut keys: Vec<&Subject> = this.by_value.keys().map(|&(subject, _)| subject).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut lengths: Vec<u8> = this.by_prefix.keys().filter_map(|prefix| prefix.length()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        Self { keys, lengths, ..this }
    }

    /// The same as [`Membership::classify`].
    ///
    /// # Errors
    /// Where there are two and neither is narrower.
    pub fn classify(&self, endpoint: &Endpoint) -> Result<Option<&'m Workload>, Ambiguous> {
        let mut near = self.others.clone();
        for subject in &self.keys {
            let value = subject.of(endpoint);
            near.extend(value.and_then(|value| self.by_value.get(&(*subject, value))).into_iter().flatten());
        }
        if !self.by_prefix.is_empty() {
            for host in endpoint.addresses.iter().map(|&address| Prefix::host(address)) {
                let around = self.lengths.iter().filter_map(|&len| self.by_prefix.get(&host.shortened(len)?));
                near.extend(around.flatten());
            }
        }
        if let Some(cgroup) = endpoint.cgroup.as_deref().filter(|_| !self.by_cgroup.is_empty()) {
            let paths = cgroup.match_indices('/').filter_map(|(at, _)| cgroup.get(..at.max(1)));
            let paths = paths.chain([cgroup]);
            near.extend(paths.filter_map(|path| self.by_cgroup.get(path)).flatten());
        }
        near.sort_unstable();
        near.dedup();
        narrowest(near.into_iter().filter_map(|index| self.workloads.get(index)), endpoint)
    }
}

/// The narrowest of `workloads` that selects an endpoint.
fn narrowest<'m>(
    workloads: impl IntoIterator<Item = &'m Workload>,
    endpoint: &Endpoint,
) -> Result<Option<&'m Workload>, Ambiguous> {
    let mut selected =
        (workloads.into_iter()).filter_map(|workload| Some((workload, workload.selector.select(endpoint)?)));
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

/// Longer prefix, deeper cgroup, the same conditions and more; and not all of them equal.
fn is_narrower(a: (&Workload, Narrowness), b: (&Workload, Narrowness)) -> bool {
    let places = a.1.depth >= b.1.depth && a.1.prefix >= b.1.prefix;
    let equal = a.1 == b.1 && b.0.selector.asks_all_of(&a.0.selector);
    places && a.0.selector.asks_all_of(&b.0.selector) && !equal
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// One of so many, differently each time it is asked.
    fn choose(seed: &mut u64, of: u64) -> u64 {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) % of
    }

    fn some_selector(seed: &mut u64) -> Selector {
        let mut selector = Selector::default();
        for _ in 0..choose(seed, 3) {
            let key = Subject::Label(format!("k{}", choose(seed, 2)));
            let of_namespace = Subject::NamespaceLabel(format!("k{}", choose(seed, 2)));
            let subject = [Subject::Namespace, key, Subject::ServiceAccount, Subject::Pod, of_namespace];
            let values = 0..choose(seed, 3);
            let values: Vec<String> = values.map(|_| format!("v{}", choose(seed, 3))).collect();
            let subject = subject[usize::try_from(choose(seed, 5)).unwrap()].clone();
            selector.conditions.push(Condition { subject, values, negated: choose(seed, 3) == 0 });
        }
        for _ in 0..choose(seed, 3) {
            let host = Prefix::V4 { bits: u32::try_from(choose(seed, 4)).unwrap() << 30 | 5, len: 32 };
            selector
                .addresses
                .extend(host.shortened([0, 1, 2, 31, 32][usize::try_from(choose(seed, 5)).unwrap()]));
        }
        for _ in 0..choose(seed, 2) {
            let path = ["/", "/a", "/a/b", "/ab", "/c"][usize::try_from(choose(seed, 5)).unwrap()];
            selector.cgroups.push(path.into());
        }
        selector
    }

    #[test]
    fn a_classifier_says_what_looking_at_every_workload_says() {
        let mut seed = 7;
        let (mut one, mut two) = (0, 0);
        for _ in 0..2000 {
            let workloads = 0..=choose(&mut seed, 6);
            let workloads =
                workloads.map(|n| workload(&format!("m/{n}"), some_selector(&mut seed))).collect();
            let policy = Membership { workloads, ..Membership::default() };
            let classifier = policy.classifier();
            for _ in 0..10 {
                let value =
                    |seed: &mut u64| Some(format!("v{}", choose(seed, 3))).filter(|value| value != "v2");
                let mut labels = || {
                    [0, 1].map(|n| Some((format!("k{n}"), value(&mut seed)?))).into_iter().flatten().collect()
                };
                let (labels, namespace_labels) = (labels(), labels());
                let bits = u32::try_from(choose(&mut seed, 4)).unwrap() << 30 | 5;
                let cgroup =
                    ["/", "/a", "/a/b/c", "/abc", ""][usize::try_from(choose(&mut seed, 5)).unwrap()];
                let endpoint = Endpoint {
                    name: format!("v{}", choose(&mut seed, 3)),
                    namespace: value(&mut seed),
                    labels,
                    namespace_labels: std::sync::Arc::new(namespace_labels),
                    service_account: value(&mut seed),
                    addresses: vec![std::net::Ipv4Addr::from_bits(bits).into()],
                    cgroup: Some(cgroup.to_owned()).filter(|cgroup| !cgroup.is_empty()),
                };
                let found = classifier.classify(&endpoint);
                one += usize::from(matches!(found, Ok(Some(_))));
                two += usize::from(found.is_err());
                assert_eq!(found, policy.classify(&endpoint), "{endpoint:?} in {policy:#?}");
            }
        }
        assert!(one > 1000 && two > 1000, "{one} {two}");
    }

    #[test]
    fn a_workload_is_found_by_its_name_alone_where_one_mesh_has_it() {
        let policy = Membership {
            workloads: ["shop/cart", "bank/cart", "shop/web"].map(|name| workload(name, label("app"))).into(),
            ..Membership::default()
        };
        let found = |name| policy.workload(name).map(|found| found.name.as_str());
        assert_eq!(found("web"), Some("shop/web"));
        assert_eq!(found("bank/cart"), Some("bank/cart"));
        assert_eq!((found("cart"), found("shop")), (None, None));
    }
}
