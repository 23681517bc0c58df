//! The one form of a map image: equal policies have equal images, and so equal bytes.

use std::collections::BTreeMap;

use crate::image::{Decision, MapImage, PortTable, PortTableId, Profile, ProfileId, Side, Source, SourceId};
use crate::intern::Interner;

impl MapImage {
    /// The same image in its one form: profiles and workloads by name, sources sorted and only those
    /// in use, port tables without equal neighbours, each once, in the order of their first use
    /// (profiles in order; outbound, inbound, classes; tree, own addresses; nodes in order; TCP, UDP).
    #[must_use]
    pub fn canonical(mut self) -> Self {
        self.meshes.sort_unstable();
        self.meshes.dedup();
        self.sort_profiles();
        self.workloads.sort_unstable();
        for table in &mut self.port_tables {
            table.merge();
        }
        self.share_port_tables();
        self.renumber_sources();
        self
    }

    fn sort_profiles(&mut self) {
        for side in self.profiles.iter_mut().flat_map(sides) {
            for nodes in [&mut side.tree, &mut side.own] {
                if !nodes.is_sorted_by_key(|node| node.prefix) {
                    nodes.sort_by_key(|node| node.prefix);
                }
            }
        }
        let mut order: Vec<usize> = (0..self.profiles.len()).collect();
        order.sort_by(|&a, &b| name(&self.profiles, a).cmp(name(&self.profiles, b)));
        let mut renumbered = vec![ProfileId::default(); order.len()];
        for (new, &old) in (0u32..).zip(&order) {
            if let Some(slot) = renumbered.get_mut(old) {
                *slot = ProfileId(new);
            }
        }
        let new_id = |old: ProfileId| renumbered.get(old.0 as usize).copied().unwrap_or(old);
        for workload in &mut self.workloads {
            workload.profile = new_id(workload.profile);
        }
        for profile in &mut self.profiles {
            let peers = std::mem::take(&mut profile.acceleration.peers);
            profile.acceleration.peers =
                peers.into_iter().map(|(peer, ports)| (new_id(peer), ports)).collect();
        }
        self.profiles.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// Keeps one of equal port tables, in the order of first use. Sources keep their numbers: equal
    /// sources must have equal numbers before tables can be compared.
    fn share_port_tables(&mut self) {
        let same = first_of_equal(&self.sources);
        for (_, decision) in self.port_tables.iter_mut().flat_map(|table| &mut table.stretches) {
            decision.source = at(&same, decision.source.0).map_or(decision.source, SourceId);
        }
        let mut tables: Vec<Option<PortTable>> =
            std::mem::take(&mut self.port_tables).into_iter().map(Some).collect();
        let mut numbers: Vec<u32> = vec![0; tables.len()];
        let mut kept = Interner::default();
        for id in table_uses(&mut self.profiles) {
            let index = id.0 as usize;
            if let (Some(number), Some(table)) =
                (numbers.get_mut(index), tables.get_mut(index).and_then(Option::take))
            {
                *number = kept.intern(table);
            }
            *id = at(&numbers, id.0).map_or(*id, PortTableId);
        }
        self.port_tables = kept.into_values();
    }

    /// Sorts the sources, and drops those that nothing refers to and all but one of equal ones. "No rule",
    /// which is always there, comes first.
    fn renumber_sources(&mut self) {
        let mut used = vec![false; self.sources.len()];
        for id in source_uses(&mut self.profiles, &mut self.port_tables) {
            if let Some(slot) = used.get_mut(id.0 as usize) {
                *slot = true;
            }
        }
        let no_rule = Source::default();
        let used = self.sources.iter().zip(&used).filter(|(_, used)| **used).map(|(source, _)| source);
        let mut sorted: BTreeMap<&Source, u32> = used.chain([&no_rule]).map(|source| (source, 0)).collect();
        for (new, number) in (0u32..).zip(sorted.values_mut()) {
            *number = new;
        }
        let renumbered: Vec<u32> =
            self.sources.iter().map(|source| sorted.get(source).copied().unwrap_or_default()).collect();
        for id in source_uses(&mut self.profiles, &mut self.port_tables) {
            *id = at(&renumbered, id.0).map_or(*id, SourceId);
        }
        self.sources = sorted.into_keys().cloned().collect();
    }
}

impl PortTable {
    /// Makes one of neighbouring stretches with equal decisions.
    pub fn merge(&mut self) {
        self.stretches.dedup_by_key(|&mut (_, decision)| decision);
    }
}

fn name(profiles: &[Profile], index: usize) -> &str {
    profiles.get(index).map_or("", |profile| profile.name.as_str())
}

fn at(numbers: &[u32], index: u32) -> Option<u32> {
    numbers.get(index as usize).copied()
}

/// For each source, a number that equal ones share.
fn first_of_equal(sources: &[Source]) -> Vec<u32> {
    let mut numbers = Interner::default();
    let mut first: Vec<u32> = Vec::new();
    (0u32..)
        .zip(sources)
        .map(|(index, source)| {
            let number = numbers.intern(source) as usize;
            if number == first.len() {
                first.push(index);
            }
            at(&first, u32::try_from(number).unwrap_or(index)).unwrap_or(index)
        })
        .collect()
}

/// Every side of a profile: outbound, inbound, then those of its classes.
fn sides(profile: &mut Profile) -> impl Iterator<Item = &mut Side> {
    profile.sides.iter_mut().chain(&mut profile.classes.sides).chain(&mut profile.classes.from_node)
}

/// Every use of a port table, in canonical order.
fn table_uses(profiles: &mut [Profile]) -> impl Iterator<Item = &mut PortTableId> {
    (profiles.iter_mut().flat_map(sides))
        .flat_map(|side| side.tree.iter_mut().chain(&mut side.own))
        .flat_map(|node| &mut node.ports)
}

/// Every use of a source.
fn source_uses<'a>(
    profiles: &'a mut [Profile],
    tables: &'a mut [PortTable],
) -> impl Iterator<Item = &'a mut SourceId> {
    let decisions = tables.iter_mut().flat_map(|table| &mut table.stretches);
    let in_tables = decisions.map(|(_, Decision { source, .. })| source);
    in_tables.chain(profiles.iter_mut().flat_map(|profile| {
        let classes = profile.classes.sides.iter_mut().chain(&mut profile.classes.from_node);
        let sides = profile.sides.iter_mut().chain(classes);
        let nodes = sides.flat_map(|side| side.tree.iter_mut().chain(&mut side.own));
        let exempt = &mut profile.exempt;
        let ids = exempt.uids.iter_mut().chain(&mut exempt.gids).map(|(_, source)| source);
        let local = profile.acceleration.local.iter_mut();
        let ports = local.chain(profile.acceleration.peers.values_mut().flatten()).map(|(_, source)| source);
        (nodes.map(|node| &mut node.source))
            .chain(ids)
            .chain(exempt.cgroups.iter_mut().chain(&mut exempt.interfaces).map(|(_, source)| source))
            .chain(ports)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Verdict;
    use crate::image::{Classes, Node, SourceKind, Workload};
    use crate::prefix::Prefix;

    fn source(head: &str) -> Source {
        Source { kind: SourceKind::Rule, head: head.into(), ..Source::default() }
    }

    fn table(source: u32) -> PortTable {
        let decision = Decision { verdict: Verdict::Denied, source: SourceId(source), up: 0 };
        PortTable { stretches: vec![(0, decision), (7, decision)] }
    }

    fn profile(name: &str, tables: [u32; 2], source: u32) -> Profile {
        let ports = tables.map(PortTableId);
        let side = Side {
            tree: vec![Node { prefix: Prefix::Any, source: SourceId(source), ports }],
            own: Vec::new(),
        };
        let classes =
            Classes { sides: vec![side.clone()], from_node: Some(side.clone()), ..Classes::default() };
        Profile { name: name.into(), sides: [side, Side::default()], classes, ..Profile::default() }
    }

    fn workload(name: &str, profile: u32) -> Workload {
        Workload {
            name: name.into(),
            selector: crate::selector::Selector::default(),
            profile: ProfileId(profile),
        }
    }

    #[test]
    fn order_of_numbers_does_not_matter() {
        let one = MapImage {
            sources: vec![source("b"), source("unused"), source("a"), source("b")],
            port_tables: vec![table(2), table(0), table(3)],
            profiles: vec![profile("q", [1, 0], 2), profile("p", [1, 2], 0)],
            workloads: vec![workload("m/y", 0), workload("m/x", 1)],
            ..MapImage::default()
        };
        let other = MapImage {
            sources: vec![Source::default(), source("a"), source("b")],
            port_tables: vec![table(2), table(1)],
            profiles: vec![profile("p", [0, 0], 2), profile("q", [0, 1], 1)],
            workloads: vec![workload("m/x", 0), workload("m/y", 1)],
            ..MapImage::default()
        };
        let canonical = one.canonical();
        assert_eq!(canonical, other.canonical());
        assert_eq!(canonical.port_tables.len(), 2);
        for Profile { sides: [side, _], classes, .. } in &canonical.profiles {
            assert_eq!((&classes.sides[0], classes.from_node.as_ref()), (side, Some(side)));
        }
        assert_eq!(canonical.port_tables[0].stretches.len(), 1);
        assert_eq!(canonical.source(SourceId(0)), &Source::default());
        assert_eq!(canonical.clone().canonical(), canonical);
    }
}
