//! Names of services in the compiled output, which never has their addresses: endpoints come and go, and no line of it
//! changes.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::image::{Side, parents};
use mesh_bpf::prefix::Prefix;

use crate::hir::SERVICE;

/// Services by their addresses.
pub(super) struct Services<'a> {
    all: Vec<(&'a str, &'a [Prefix])>,
    by_address: BTreeMap<Prefix, Vec<usize>>,
}

impl<'a> Services<'a> {
    /// Those with these names and addresses.
    pub(super) fn of(known: impl Iterator<Item = (&'a str, &'a [Prefix])>) -> Self {
        let all: Vec<(&str, &[Prefix])> = known.filter(|(_, addresses)| !addresses.is_empty()).collect();
        let mut by_address: BTreeMap<Prefix, Vec<usize>> = BTreeMap::new();
        for (at, (_, addresses)) in all.iter().enumerate() {
            for &address in *addresses {
                by_address.entry(address).or_default().push(at);
            }
        }
        Self { all, by_address }
    }

    /// What the trees of a direction say of them: rules name those that are there as a whole.
    pub(super) fn within(&self, sides: &[&Side]) -> Within {
        let mut within = Within::default();
        if self.all.is_empty() {
            return within;
        }
        let nodes = || sides.iter().flat_map(|side| &side.tree).map(|node| node.prefix);
        let written: BTreeSet<Prefix> =
            nodes().filter(|prefix| self.by_address.contains_key(prefix)).collect();
        within.named = (self.all.iter().enumerate())
            .filter(|(_, (_, addresses))| addresses.iter().all(|address| written.contains(address)))
            .map(|(at, _)| at)
            .collect();
        for side in sides {
            for (node, parent) in side.tree.iter().zip(parents(&side.tree)) {
                let of = self.by_address.get(&node.prefix).into_iter().flatten().copied();
                let of: Vec<usize> = of.filter(|service| within.named.contains(service)).collect();
                if of.is_empty() || within.of.contains_key(&node.prefix) {
                    continue;
                }
                let around = parent.and_then(|at| side.tree.get(at as usize));
                let around = around.map_or(Prefix::Any, |node| node.prefix);
                within.places.entry(of.clone()).or_default().entry(around).or_default().insert(node.prefix);
                within.of.insert(node.prefix, of);
            }
        }
        within
    }

    /// Takes addresses out of `left` that names of services stand for, and gives back those names.
    pub(super) fn cover(&self, within: &Within, left: &mut Vec<&Prefix>) -> Vec<String> {
        let mut names = Vec::new();
        let mut wanted: BTreeSet<Prefix> =
            left.iter().map(|prefix| **prefix).filter(|prefix| within.of.contains_key(prefix)).collect();
        if wanted.is_empty() {
            return names;
        }
        let all = wanted.clone();
        let mut whole: Vec<&(&str, &[Prefix])> = (within.named.iter())
            .filter_map(|&at| self.all.get(at))
            .filter(|(_, addresses)| addresses.iter().all(|address| all.contains(address)))
            .collect();
        whole.sort_by_key(|(name, addresses)| (std::cmp::Reverse(addresses.len()), *name));
        for (name, addresses) in whole {
            if addresses.iter().any(|address| wanted.contains(address)) {
                wanted.retain(|address| !addresses.contains(address));
                names.push(format!("{SERVICE} {name}"));
            }
        }
        for (of, places) in &within.places {
            let (named, others): (Vec<_>, Vec<_>) =
                places.iter().partition(|(_, addresses)| addresses.is_subset(&wanted));
            for (_, addresses) in &named {
                wanted.retain(|address| !addresses.contains(address));
            }
            if others.is_empty() {
                names.push(self.shared(within, of));
            } else {
                names.extend(named.into_iter().map(|(around, _)| match around {
                    Prefix::Any => format!("{} elsewhere", self.shared(within, of)),
                    around => format!("{} in {around}", self.shared(within, of)),
                }));
            }
        }
        left.retain(|prefix| !all.contains(prefix) || wanted.contains(prefix));
        names
    }

    /// The addresses that just these services have.
    fn shared(&self, within: &Within, of: &[usize]) -> String {
        let names: Vec<String> = (of.iter().filter_map(|&at| self.all.get(at)))
            .map(|(name, _)| format!("{SERVICE} {name}"))
            .collect();
        let shares = |one: usize| within.places.keys().any(|other| other.len() > 1 && other.contains(&one));
        let alone = if let [only] = *of
            && shares(only)
        {
            " alone"
        } else {
            ""
        };
        format!("{}{alone}", names.join(" & "))
    }
}

/// Services in the tree of one direction.
#[derive(Debug, Default)]
pub(super) struct Within {
    /// Those that have all their addresses there.
    named: BTreeSet<usize>,
    /// Addresses by the services that have them, and by the prefix around them.
    places: BTreeMap<Vec<usize>, BTreeMap<Prefix, BTreeSet<Prefix>>>,
    of: BTreeMap<Prefix, Vec<usize>>,
}
