//! Sets by what is in them: lists of addresses and ports have the names of the sets that they are made of.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::hash::Hash;

use mesh_bpf::prefix::{Apart, Prefix};

use super::names::mesh;
use super::toml::{Quoted, write_array};
use crate::hir::{Program, item};

/// So many addresses stand in a line. Of more there is a list, named by a digest of what is in it.
const IN_LINE: usize = 4;

/// The sets of a policy, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sets(Vec<NamedSet>);

/// One set. One of its lists is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedSet {
    /// `private`, or `bookstore/private` where a mesh declares it.
    pub name: String,
    /// Its prefixes, sorted and distinct.
    pub addresses: Vec<Prefix>,
    /// Its ports, an item each, sorted and distinct: `tcp 3306`, `udp`, `tcp not 25, 80`.
    pub ports: Vec<String>,
}

impl Sets {
    /// All sets of a program.
    #[must_use]
    pub fn of(program: &Program) -> Self {
        let sets = program.sets.iter().map(|set| NamedSet {
            name: set.name.clone(),
            addresses: set.addresses.iter().map(|item| item.prefix).collect(),
            ports: set.ports.iter().map(port_item).collect(),
        });
        Self::new(sets.collect())
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
        sets.retain(|set| !set.addresses.is_empty() || !set.ports.is_empty());
        sets.sort_unstable();
        Self(sets)
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, NamedSet> {
        self.0.iter()
    }

    /// A section for each, whether or not a rule names it: so one that begins to be used changes no line of another.
    pub(super) fn write(&self, text: &mut String) {
        for set in &self.0 {
            let _ = writeln!(text, "\n[set.{}]", Quoted(&set.name));
            write_array(text, "addresses", &set.addresses);
            write_array(text, "ports", &set.ports);
        }
    }
}

fn port_item(item: &crate::hir::PortItem) -> String {
    let mut text = item.protocol.to_string();
    item::write_ports(&mut text, &item.ports);
    text
}

/// Names of lists, by the sets that they are made of.
pub(super) struct Namer<'a> {
    addresses: Index<'a, Prefix>,
    ports: Index<'a, String>,
}

impl<'a> Namer<'a> {
    pub(super) fn of(sets: &'a Sets) -> Self {
        let mut addresses = Index::default();
        for apart in Apart::ALL {
            addresses.add(None, apart_name(apart).to_owned(), apart.prefixes().iter().collect());
        }
        let mut ports = Index::default();
        for set in sets.iter() {
            let mesh = set.name.split_once('/').map(|(mesh, _)| mesh);
            // A member's own addresses are single ones.
            let hosts: Vec<&Prefix> = set.addresses.iter().filter(|prefix| prefix.is_host()).collect();
            if !hosts.is_empty() && hosts.len() < set.addresses.len() {
                addresses.add(mesh, format!("hosts of {}", set.name), hosts);
            }
            addresses.add(mesh, set.name.clone(), set.addresses.iter().collect());
            ports.add(mesh, set.name.clone(), set.ports.iter().collect());
        }
        Self { addresses, ports }
    }

    /// Addresses of a profile, which must be sorted and distinct: `10.9.0.0/16, private but 10.0.0.0/8`. Nothing but
    /// [`Prefix::Any`] is `any`.
    pub(super) fn addresses(&self, profile: &str, prefixes: &[Prefix], lists: &mut Lists) -> String {
        let (named, rest) = self.addresses.cover(mesh(profile), prefixes);
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
    by_item: HashMap<&'a T, Vec<usize>>,
}

struct Indexed<'a, T> {
    /// The mesh whose rules can name it; none for those of all.
    mesh: Option<&'a str>,
    name: String,
    items: Vec<&'a T>,
}

impl<T> Default for Index<'_, T> {
    fn default() -> Self {
        Self { sets: Vec::new(), by_item: HashMap::new() }
    }
}

impl<'a, T: Ord + Hash + std::fmt::Display> Index<'a, T> {
    fn add(&mut self, mesh: Option<&'a str>, name: String, items: Vec<&'a T>) {
        for &item in &items {
            self.by_item.entry(item).or_default().push(self.sets.len());
        }
        self.sets.push(Indexed { mesh, name, items });
    }

    /// The sets of a mesh that sorted items are made of, larger ones first, and the items of none.
    fn cover<'i>(&self, mesh: &str, items: &'i [T]) -> (Vec<String>, Vec<&'i T>) {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for &set in items.iter().filter_map(|item| self.by_item.get(item)).flatten() {
            *counts.entry(set).or_default() += 1;
        }
        let mut found: Vec<_> = (counts.into_iter())
            .filter_map(|(set, count)| Some((count, self.sets.get(set)?)))
            .filter(|(_, set)| set.mesh.is_none_or(|of| of == mesh))
            .filter(|(count, set)| is_nearly_all(*count, set.items.len()))
            .collect();
        found.sort_by_key(|&(count, set)| (std::cmp::Reverse(count), &set.name));
        let mut left: BTreeSet<&T> = items.iter().collect();
        let mut names = Vec::new();
        for (_, set) in found {
            let before = left.len();
            for item in &set.items {
                left.remove::<T>(item);
            }
            if left.len() < before {
                names.push(set.without_others(items));
            }
        }
        names.sort_unstable();
        (names, left.into_iter().collect())
    }
}

/// Whether so many items of a set are best told by what is missing.
fn is_nearly_all(count: usize, of: usize) -> bool {
    of - count <= (of / 4).min(3)
}

impl<T: Ord + std::fmt::Display> Indexed<'_, T> {
    /// Its name, and what is not among sorted items.
    fn without_others(&self, items: &[T]) -> String {
        let missing = self.items.iter().filter(|item| items.binary_search(item).is_err());
        let missing: Vec<String> = missing.map(ToString::to_string).collect();
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
