//! Who opens a flow: exempt processes, and those that rules with `as` tell apart.

use mesh_bpf::flow::{Direction, Identity};
use mesh_bpf::image::{IdRange, SourceId};
use mesh_bpf::sim::ToldApart;
use mesh_bpf::tables::Damaged;

use super::builder::goto;
use super::lowering::Lowering;
use crate::ruleset::{ChainId, Element, End, Key, Rule};
use crate::scene::{Cgroup, IdMap, Resident};
use crate::unsupported::SILENT;

impl Lowering<'_> {
    /// Leaves exempt processes alone: by user, then group, then the deepest cgroup.
    pub(super) fn exempt_processes(&mut self, told: &ToldApart<'_>) -> Result<Vec<Rule>, Damaged> {
        let mut rules = Vec::new();
        let scene = self.scene;
        for (key, ids, map) in
            [(Key::User, &told.exempt_users, &scene.users), (Key::Group, &told.exempt_groups, &scene.groups)]
        {
            let mut ranges = Vec::new();
            for &(range, SourceId(source)) in ids {
                ranges.push((range, self.exempt(source)?));
            }
            rules.extend(self.by_id(key, map, ranges));
        }
        let mut cgroups = Vec::new();
        for (cgroup, source) in scene.existing(told.exempt_cgroups) {
            cgroups.push((cgroup, self.exempt(source)?));
        }
        rules.extend(self.by_cgroup(cgroups));
        Ok(rules)
    }

    fn by_id(&mut self, key: Key, map: &IdMap, ranges: Vec<(IdRange, ChainId)>) -> Option<Rule> {
        let mut elements: Vec<_> = (ranges.into_iter())
            .flat_map(|(range, chain)| map.inside(range).into_iter().map(move |range| (range, chain)))
            .map(|(IdRange { first, last }, chain)| Element { first: first.into(), last: last.into(), chain })
            .collect();
        elements.sort();
        self.builder.look(key, true, elements.into_iter())
    }

    /// The chain of the class of whoever opens a flow: first by user, then by group, by cgroup, and by the other end.
    /// What is the same for all users is no map of users.
    pub(super) fn class(
        &mut self,
        resident: &Resident,
        told: &ToldApart<'_>,
        classes: &[ChainId],
    ) -> Result<ChainId, Damaged> {
        let asked = Asked { resident, told, classes };
        let mut who = Identity::default();
        self.by_user(&asked, &mut who)
    }

    fn by_user(&mut self, asked: &Asked<'_>, who: &mut Identity) -> Result<ChainId, Damaged> {
        who.uid = None;
        let rest = self.by_group(asked, who)?;
        let mut ranges = Vec::new();
        for range in ranges_of(&asked.told.class_users) {
            who.uid = Some(range.first);
            ranges.push((range, self.by_group(asked, who)?));
        }
        Ok(self.by_ids(Key::User, ranges, rest))
    }

    fn by_group(&mut self, asked: &Asked<'_>, who: &mut Identity) -> Result<ChainId, Damaged> {
        who.gid = None;
        let rest = self.by_cgroups(asked, who)?;
        let mut ranges = Vec::new();
        for range in ranges_of(&asked.told.class_groups) {
            who.gid = Some(range.first);
            ranges.push((range, self.by_cgroups(asked, who)?));
        }
        Ok(self.by_ids(Key::Group, ranges, rest))
    }

    fn by_ids(&mut self, key: Key, mut ranges: Vec<(IdRange, ChainId)>, rest: ChainId) -> ChainId {
        ranges.retain(|&(_, chain)| chain != rest);
        let scene = self.scene;
        let map = if key == Key::User { &scene.users } else { &scene.groups };
        let mut rules: Vec<Rule> = self.by_id(key, map, ranges).into_iter().collect();
        rules.push(goto(rest));
        self.builder.chain("by process", rules)
    }

    fn by_cgroups(&mut self, asked: &Asked<'_>, who: &mut Identity) -> Result<ChainId, Damaged> {
        who.cgroup = None;
        let rest = self.by_other_end(asked, who)?;
        let scene = self.scene;
        let mut cgroups: Vec<(Cgroup, ChainId)> = Vec::new();
        for (path, _) in asked.told.class_cgroups {
            let Some(&cgroup) = scene.cgroups.get(path) else { continue };
            who.cgroup = Some(path.clone());
            cgroups.push((cgroup, self.by_other_end(asked, who)?));
        }
        // A cgroup like those around it still ends the search: one above it may be another.
        if cgroups.iter().all(|&(_, chain)| chain == rest) {
            return Ok(rest);
        }
        let mut rules = self.by_cgroup(cgroups);
        rules.push(goto(rest));
        Ok(self.builder.chain("by cgroup", rules))
    }

    fn by_other_end(&mut self, asked: &Asked<'_>, who: &mut Identity) -> Result<ChainId, Damaged> {
        let mut of = |node| {
            who.node = node;
            let class = self.sim.class_of(asked.resident.profile, Direction::Outbound, who)?;
            asked.classes.get(class as usize).copied()
        };
        let [other, node] = [of(false).ok_or(SILENT)?, of(true).ok_or(SILENT)?];
        Ok(self.by_node(End::Destination, node, other))
    }
}

/// What classes are asked for.
struct Asked<'a> {
    resident: &'a Resident,
    told: &'a ToldApart<'a>,
    classes: &'a [ChainId],
}

/// Ranges by where each begins, up to the last id there is.
fn ranges_of(firsts: &[u32]) -> impl Iterator<Item = IdRange> + '_ {
    let lasts = firsts.iter().skip(1).map(|&next| next.saturating_sub(1)).chain([u32::MAX]);
    firsts.iter().zip(lasts).map(|(&first, last)| IdRange { first, last })
}
