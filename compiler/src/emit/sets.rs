//! Sets by what is in them: lists of addresses and ports have the names of the sets and services that they are made of.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use mesh_bpf::image::Side;
use mesh_bpf::prefix::{Apart, Prefix};

use super::names::mesh;
use super::services::{Services, Within};
use super::toml::{Quoted, write_array};
use crate::hir::{Program, ServiceId, item};

/// So many addresses stand in a line. Of more there is a list, named by a digest of what is in it.
const IN_LINE: usize = 4;

/// The sets of a policy, and the services that it names; sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    sets: Vec<NamedSet>,
    services: Vec<NamedService>,
}

/// A Kubernetes service.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedService {
    /// With its namespace: `shop/cart`.
    pub name: String,
    /// Its addresses, sorted and distinct.
    pub addresses: Vec<Prefix>,
}

/// One set. One of its lists is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedSet {
    /// `private`, or `bookstore/private` where a mesh declares it.
    pub name: String,
    /// Its prefixes, sorted and distinct, without those of services.
    pub addresses: Vec<Prefix>,
    /// Services whose addresses it has too, sorted and distinct.
    pub services: Vec<String>,
    /// Its ports, an item each, sorted and distinct: `tcp 3306`, `udp`, `tcp not 25, 80`.
    pub ports: Vec<String>,
}

impl Sets {
    /// All sets of a program.
    #[must_use]
    pub fn of(program: &Program) -> Self {
        let service = |id: &ServiceId| program.services.get(id.index()).map(|service| service.name.clone());
        let sets = program.sets.iter().map(|set| NamedSet {
            name: set.name.clone(),
            addresses: set.addresses.iter().map(|item| item.prefix).collect(),
            services: set.services.iter().filter_map(service).collect(),
            ports: set.ports.iter().map(port_item).collect(),
        });
        let services = program.services.iter().map(|service| NamedService {
            name: service.name.clone(),
            addresses: service.addresses.clone().unwrap_or_default(),
        });
        Self::new(sets.collect()).with_services(services.collect())
    }

    /// The same, with services that were kept.
    #[must_use]
    pub fn with_services(self, mut services: Vec<NamedService>) -> Self {
        services.sort_unstable();
        Self { services, ..self }
    }

    /// Sets that were kept.
    #[must_use]
    pub fn new(mut sets: Vec<NamedSet>) -> Self {
        for set in &mut sets {
            set.addresses.sort_unstable();
            set.addresses.dedup();
            set.ports.sort_unstable();
            set.ports.dedup();
        }
        sets.retain(|set| !set.addresses.is_empty() || !set.services.is_empty() || !set.ports.is_empty());
        sets.sort_unstable();
        Self { sets, services: Vec::new() }
    }

    /// Services that the policy names.
    pub fn services(&self) -> std::slice::Iter<'_, NamedService> {
        self.services.iter()
    }

    /// All addresses of a set, also those of services.
    #[must_use]
    pub fn addresses_of<'s>(&'s self, set: &'s NamedSet) -> Vec<&'s Prefix> {
        let mut all: Vec<&Prefix> = set.addresses.iter().collect();
        if set.services.is_empty() {
            return all;
        }
        let find = |name: &String| self.services.binary_search_by(|service| service.name.cmp(name)).ok();
        let services = set.services.iter().filter_map(find).filter_map(|at| self.services.get(at));
        all.extend(services.flat_map(|service| &service.addresses));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, NamedSet> {
        self.sets.iter()
    }

    /// A section for each, whether or not a rule names it: so one that begins to be used changes no line of another.
    pub(super) fn write(&self, text: &mut String) {
        for set in &self.sets {
            let _ = writeln!(text, "\n[set.{}]", Quoted(&set.name));
            write_array(text, "addresses", &set.addresses);
            write_array(text, "services", &set.services);
            write_array(text, "ports", &set.ports);
        }
    }
}

fn port_item(item: &crate::hir::PortItem) -> String {
    let mut text = item.protocol.to_string();
    item::write_ports(&mut text, &item.ports);
    text
}

/// Names of lists, by the sets and services that they are made of.
pub(super) struct Namer<'a> {
    addresses: Index<'a, Prefix>,
    ports: Index<'a, String>,
    services: Services<'a>,
}

impl<'a> Namer<'a> {
    pub(super) fn of(sets: &'a Sets) -> Self {
        let built_in = |apart: Apart| Indexed {
            mesh: None,
            name: apart_name(apart).to_owned(),
            items: apart.prefixes().iter().collect(),
            whole: false,
        };
        let mut addresses: Vec<_> = Apart::ALL.map(built_in).into();
        let mut ports = Vec::new();
        for set in sets.iter() {
            let mesh = set.name.split_once('/').map(|(mesh, _)| mesh);
            let (items, whole) = (sets.addresses_of(set), !set.services.is_empty());
            // A member's own addresses are single ones.
            let hosts: Vec<&Prefix> = items.iter().copied().filter(|prefix| prefix.is_host()).collect();
            if !hosts.is_empty() && hosts.len() < items.len() {
                addresses.push(Indexed { mesh, name: format!("hosts of {}", set.name), items: hosts, whole });
            }
            addresses.push(Indexed { mesh, name: set.name.clone(), items, whole });
            ports.push(Indexed {
                mesh,
                name: set.name.clone(),
                items: set.ports.iter().collect(),
                whole: false,
            });
        }
        let (addresses, ports) = (Index::of(addresses), Index::of(ports));
        let known = sets.services().map(|it| (it.name.as_str(), it.addresses.as_slice()));
        Self { addresses, ports, services: Services::of(known) }
    }

    /// The services in one direction of a profile, or of a class of its processes.
    pub(super) fn within(&self, sides: &[&Side]) -> Within {
        self.services.within(sides)
    }

    /// Addresses of a profile, which must be sorted and distinct: `10.9.0.0/16, private but 10.0.0.0/8`. Nothing but
    /// [`Prefix::Any`] is `any`.
    pub(super) fn addresses(
        &self,
        profile: &str,
        prefixes: &[Prefix],
        within: &Within,
        lists: &mut Lists,
    ) -> String {
        let (mut named, mut rest) = self.addresses.cover(mesh(profile), prefixes);
        let services = self.services.cover(within, &mut rest);
        if !services.is_empty() {
            named.extend(services);
            named.sort_unstable();
        }
        lists.items(&rest).into_iter().chain(named).collect::<Vec<_>>().join(", ")
    }

    /// Items of ports: sets, and what is in none of them.
    pub(super) fn ports<'i>(&self, profile: &str, items: &'i [String]) -> (Vec<String>, Vec<&'i String>) {
        self.ports.cover(mesh(profile), items)
    }
}

const fn apart_name(apart: Apart) -> &'static str {
    match apart {
        Apart::Loopback => "built-in loopback",
        Apart::Multicast => "built-in multicast",
        Apart::LinkLocal => "built-in link-local",
    }
}

/// Sets by their items.
struct Index<'a, T> {
    sets: Vec<Indexed<'a, T>>,
    /// Every item with a set that has it, sorted.
    by_item: Vec<(&'a T, usize)>,
}

struct Indexed<'a, T> {
    /// The mesh whose rules can name it; none for those of all.
    mesh: Option<&'a str>,
    name: String,
    /// Sorted and distinct.
    items: Vec<&'a T>,
    /// It stands for all its items only: some are of services, and none of those is told by itself.
    whole: bool,
}

impl<'a, T: Ord + std::fmt::Display> Index<'a, T> {
    fn of(sets: Vec<Indexed<'a, T>>) -> Self {
        let each = (0..).zip(&sets).flat_map(|(index, set)| set.items.iter().map(move |&item| (item, index)));
        let mut by_item: Vec<_> = each.collect();
        // It is made of sorted runs, which a stable sort only merges.
        by_item.sort();
        Self { sets, by_item }
    }

    /// The sets of a mesh that sorted items are made of, larger ones first, and the items of none.
    fn cover<'i>(&self, mesh: &str, items: &'i [T]) -> (Vec<String>, Vec<&'i T>) {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        let mut ahead = self.by_item.as_slice();
        for item in items {
            ahead = from(ahead, |&(other, _)| other < item);
            for &(_, set) in ahead.iter().take_while(|&&(other, _)| other == item) {
                *counts.entry(set).or_default() += 1;
            }
        }
        let mut found: Vec<_> = (counts.into_iter())
            .filter_map(|(set, count)| Some((count, self.sets.get(set)?)))
            .filter(|(_, set)| set.mesh.is_none_or(|of| of == mesh))
            .filter(|(count, set)| match set.whole {
                true => *count == set.items.len(),
                false => is_nearly_all(*count, set.items.len()),
            })
            .collect();
        found.sort_by_key(|&(count, set)| (std::cmp::Reverse(count), &set.name));
        let mut left: Vec<&T> = items.iter().collect();
        let mut names = Vec::new();
        for (_, set) in found {
            let before = left.len();
            let mut ahead = set.items.as_slice();
            left.retain(|item| !is_next(&mut ahead, item));
            if left.len() < before {
                names.push(set.without_others(items));
            }
        }
        names.sort_unstable();
        (names, left)
    }
}

/// What is left of sorted items from the first that is not `before`. The items passed are few mostly, so the steps
/// begin small and double.
fn from<I>(items: &[I], before: impl Fn(&I) -> bool) -> &[I] {
    let mut step = 1;
    while items.get(step - 1).is_some_and(&before) {
        step *= 2;
    }
    // All up to half a step are before it.
    let (passed, end) = (step / 2, step.min(items.len()));
    let within = items.get(passed..end).unwrap_or_default().partition_point(before);
    items.get(passed + within..).unwrap_or_default()
}

/// Whether `item` is among sorted items that are ahead. What comes before it is passed.
fn is_next<T: Ord>(ahead: &mut &[&T], item: &T) -> bool {
    *ahead = from(ahead, |&other| other < item);
    ahead.first().is_some_and(|&other| other == item)
}

/// Whether so many items of a set are best told by what is missing.
fn is_nearly_all(count: usize, of: usize) -> bool {
    of - count <= (of / 4).min(3)
}

impl<T: Ord + std::fmt::Display> Indexed<'_, T> {
    /// Its name, and what is not among sorted items.
    fn without_others(&self, items: &[T]) -> String {
        let mut ahead = items;
        let is_missing = |item: &&&T| {
            ahead = from(ahead, |other| other < **item);
            ahead.first() != Some(**item)
        };
        let missing: Vec<String> = self.items.iter().filter(is_missing).map(ToString::to_string).collect();
        if missing.is_empty() {
            self.name.clone()
        } else {
            format!("{} but {}", self.name, missing.join(", "))
        }
    }
}

/// Lists that are of no set and too long for a line, in the order of their first use.
#[derive(Debug, Default)]
pub(super) struct Lists {
    known: BTreeSet<String>,
    all: Vec<(String, Vec<Prefix>)>,
}

impl Lists {
    /// What is not among these.
    pub(super) fn others(&self) -> Self {
        Self { known: self.known.clone(), all: Vec::new() }
    }

    fn items(&mut self, prefixes: &[&Prefix]) -> Vec<String> {
        if prefixes.len() <= IN_LINE {
            return prefixes.iter().map(ToString::to_string).collect();
        }
        let prefixes: Vec<Prefix> = prefixes.iter().map(|&&prefix| prefix).collect();
        let name = format!("list {}", digest(&prefixes));
        if self.known.insert(name.clone()) {
            self.all.push((name.clone(), prefixes));
        }
        vec![name]
    }

    /// What is in each, a prefix a line.
    pub(super) fn write(&self, text: &mut String) {
        for (name, prefixes) in &self.all {
            write_array(text, &Quoted(name).to_string(), prefixes);
        }
    }
}

/// A name that is of this list alone, and stays as long as the list does.
fn digest(prefixes: &[Prefix]) -> String {
    let mut hasher = blake3::Hasher::new();
    for prefix in prefixes {
        hasher.update(prefix.to_string().as_bytes()).update(b"\n");
    }
    hasher.finalize().to_hex().chars().take(12).collect()
}
