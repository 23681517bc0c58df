//! How rules that name processes or the node cut a side of a profile: into parts of users, groups, cgroups and other
//! ends, and into classes of flows that the same rules are about.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use mesh_bpf::flow::Identity;
use mesh_bpf::image::{Classes, IdRange};
use mesh_bpf::intern::Interner;
use mesh_bpf::selector::cgroup_covers;

use super::items::{EVERYBODY, GroupId, Groups, Items, WhoId};
use super::placement::Placed;
use crate::hir::Who;
use crate::ir::{ItemId, Side};

/// How many outbound classes a profile may have, beside the one of flows that no rule names.
pub(crate) const CLASSES: usize = 64;

/// The classes of a profile, before anything is decided in them.
#[derive(Default)]
pub(crate) struct Processes {
    /// Without sides.
    parts: Classes<Side>,
    /// For each class from 1 on, whose boxes take part.
    classes: Vec<BTreeSet<WhoId>>,
}

/// There are more than [`CLASSES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

/// Who boxes name, with their numbers.
type Named<'a> = [(WhoId, &'a Who)];

impl Processes {
    /// The classes that boxes placed on a side make.
    pub(crate) fn of(items: &Items, groups: &Groups, placed: &[Placed]) -> Result<Self, TooMany> {
        if items.whos.len() <= 1 {
            return Ok(Self::default());
        }
        let distinct: BTreeSet<GroupId> = placed.iter().map(|placed| placed.group).collect();
        let boxes = distinct.into_iter().flat_map(|group| groups.get(group)).map(|&item| items.who(item));
        let named: BTreeSet<WhoId> = boxes.filter(|&who| who != EVERYBODY).collect();
        let named: Vec<(WhoId, &Who)> =
            named.into_iter().filter_map(|who| Some((who, items.whos.get(who as usize)?))).collect();
        if named.is_empty() { Ok(Self::default()) } else { Self::cut(&named) }
    }

    fn cut(named: &Named<'_>) -> Result<Self, TooMany> {
        let uids = Parts::of_ids(named, |who| who.uid);
        let gids = Parts::of_ids(named, |who| who.gid);
        let cgroups = Parts::of_cgroups(named);
        let node = named.iter().any(|(_, who)| who.node);
        let ends = if node { &[false, true][..] } else { &[false] };
        let mut classes: Interner<BTreeSet<WhoId>> = Interner::default();
        classes.intern(BTreeSet::new());
        let mut cells = Vec::new();
        for uid in uids.distinct.values() {
            for gid in gids.distinct.values() {
                for (cgroup, &at_node) in cgroups
                    .distinct
                    .values()
                    .iter()
                    .flat_map(|cgroup| ends.iter().map(move |end| (cgroup, end)))
                {
                    let holds = |&(number, who): &(WhoId, &Who)| {
                        let within = (who.uid.is_none() || uid.contains(&number))
                            && (who.gid.is_none() || gid.contains(&number))
                            && (who.cgroup.is_none() || cgroup.contains(&number))
                            && (!who.node || at_node);
                        within.then_some(number)
                    };
                    cells.push(classes.intern(named.iter().filter_map(holds).collect()));
                    if classes.values().len() > CLASSES + 1 {
                        return Err(TooMany);
                    }
                }
            }
        }
        let classes = classes.into_values().into_iter().skip(1).collect();
        let (uids, gids, cgroups) = (uids.ids, gids.ids, cgroups.paths);
        let parts = Classes { uids, gids, cgroups, node, cells, ..Classes::default() };
        Ok(Self { parts, classes })
    }

    /// How many classes there are beside that of flows which no rule names.
    pub(crate) fn len(&self) -> usize {
        self.classes.len()
    }

    /// Who is at the ends of a flow of a class.
    pub(crate) fn example(&self, class: usize) -> Identity {
        let cell =
            (0..).zip(&self.parts.cells).find(|&(_, &of)| of as usize == class).map_or(0, |(cell, _)| cell);
        let [uid, gid, cgroup, node] = self.parts.parts_at(cell);
        let first = |ids: &[(IdRange, u32)], part: u32| {
            ids.iter().find(|&&(_, of)| of == part).map(|(range, _)| range.first)
        };
        let path = self.parts.cgroups.iter().find(|&&(_, of)| of == cgroup);
        Identity {
            uid: first(&self.parts.uids, uid),
            gid: first(&self.parts.gids, gid),
            cgroup: path.map(|(path, _)| path.clone()),
            interface: None,
            node: node != 0,
        }
    }

    /// The parts, what was decided in each class, and about what comes from the node.
    pub(crate) fn with_sides(self, sides: Vec<Side>, from_node: Option<Side>) -> Classes<Side> {
        Classes { sides, from_node, ..self.parts }
    }

    /// What is placed for a class; 0 is that of flows which no rule names.
    pub(crate) fn placed<'a>(
        &self,
        class: usize,
        items: &Items,
        groups: &mut Groups,
        placed: &'a [Placed],
    ) -> Cow<'a, [Placed]> {
        if self.classes.is_empty() {
            return Cow::Borrowed(placed);
        }
        let named = class.checked_sub(1).and_then(|at| self.classes.get(at));
        let takes_part = |item: &ItemId| {
            let who = items.who(*item);
            who == EVERYBODY || named.is_some_and(|named| named.contains(&who))
        };
        let mut known: HashMap<GroupId, GroupId> = HashMap::new();
        let mut left = Vec::with_capacity(placed.len());
        for &Placed { prefix, group } in placed {
            let group = *known.entry(group).or_insert_with(|| {
                let set = groups.get(group).iter().copied().filter(takes_part).collect();
                groups.intern(set)
            });
            if group != groups.nothing() {
                left.push(Placed { prefix, group });
            }
        }
        Cow::Owned(left)
    }
}

/// How the processes that are named cut one side.
struct Parts {
    /// For each part those whose own side holds it. No id is in all that is named, so the first is empty.
    distinct: Interner<BTreeSet<WhoId>>,
    ids: Vec<(IdRange, u32)>,
    paths: Vec<(String, u32)>,
}

impl Parts {
    fn new() -> Self {
        let mut distinct = Interner::default();
        distinct.intern(BTreeSet::new());
        Self { distinct, ids: Vec::new(), paths: Vec::new() }
    }

    fn of_ids(named: &Named<'_>, side: impl Fn(&Who) -> Option<IdRange>) -> Self {
        let mut changes: BTreeMap<u64, Vec<(bool, WhoId)>> = BTreeMap::new();
        for &(number, who) in named {
            if let Some(range) = side(who) {
                changes.entry(range.first.into()).or_default().push((true, number));
                changes.entry(u64::from(range.last) + 1).or_default().push((false, number));
            }
        }
        let mut parts = Self::new();
        let mut active = BTreeSet::new();
        let ends: Vec<u64> = changes.keys().copied().skip(1).collect();
        for ((first, changes), end) in changes.into_iter().zip(ends) {
            for (begins, number) in changes {
                if begins {
                    active.insert(number)
                } else {
                    active.remove(&number)
                };
            }
            let part = parts.distinct.intern(active.clone());
            if let (Ok(first), Ok(last)) = (u32::try_from(first), u32::try_from(end - 1))
                && part != 0
            {
                // Where two stretches touch, somebody's range begins or ends: they are never one part.
                parts.ids.push((IdRange { first, last }, part));
            }
        }
        parts
    }

    fn of_cgroups(named: &Named<'_>) -> Self {
        let paths: BTreeSet<&str> = named.iter().filter_map(|(_, who)| who.cgroup.as_deref()).collect();
        let mut parts = Self::new();
        for path in paths {
            let covers = |who: &Who| who.cgroup.as_deref().is_some_and(|wider| cgroup_covers(wider, path));
            let holding = named.iter().filter(|(_, who)| covers(who)).map(|&(number, _)| number).collect();
            let part = parts.distinct.intern(holding);
            parts.paths.push((path.to_owned(), part));
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use mesh_bpf::flow::Direction;

    use super::*;

    fn range(first: u32, last: u32) -> IdRange {
        IdRange { first, last }
    }

    fn user(first: u32, last: u32) -> Who {
        Who { uid: Some(range(first, last)), ..Who::EVERYBODY }
    }

    fn cut(whos: &[Who]) -> Result<Processes, TooMany> {
        let named: Vec<(WhoId, &Who)> = (1..).zip(whos).collect();
        Processes::cut(&named)
    }

    #[test]
    fn every_process_is_in_the_class_of_those_that_hold_it() {
        let group = Who { gid: Some(range(7, 7)), ..Who::EVERYBODY };
        let both = Who { uid: Some(range(0, 5)), gid: Some(range(0, 9)), ..Who::EVERYBODY };
        let cgroup = |path: &str| Who { cgroup: Some(path.into()), ..Who::EVERYBODY };
        let whos = [user(0, 9), user(5, u32::MAX), group, both, cgroup("/a"), cgroup("/a/b")];
        let Ok(processes) = cut(&whos) else { panic!("too many") };
        let known =
            |values: &[u32]| -> Vec<Option<u32>> { values.iter().copied().map(Some).chain([None]).collect() };
        for uid in known(&[0, 4, 5, 6, 9, 10, 4_000_000_000, u32::MAX]) {
            for gid in known(&[0, 6, 7, 8, 9, 10]) {
                for cgroup in ["/", "/a", "/a/b/c", "/ab"].map(Some).into_iter().chain([None]) {
                    let identity =
                        Identity { uid, gid, cgroup: cgroup.map(Into::into), interface: None, node: false };
                    let holding: BTreeSet<WhoId> = (1..)
                        .zip(&whos)
                        .filter(|(_, who)| who.holds(&identity))
                        .map(|(number, _)| number)
                        .collect();
                    let class = processes.parts.class_of(Direction::Outbound, &identity) as usize;
                    let found = class.checked_sub(1).and_then(|at| processes.classes.get(at)).cloned();
                    assert_eq!(found.unwrap_or_default(), holding, "{identity:?}");
                }
            }
        }
    }

    #[test]
    fn users_that_the_same_rules_name_are_one_part() {
        let whos = [user(1, 3), user(4, 6), user(1, 6)];
        let Ok(processes) = cut(&whos) else { panic!("too many") };
        assert_eq!(processes.parts.uids, [(range(1, 3), 1), (range(4, 6), 2)]);
        let Ok(processes) = cut(&[user(1, 6)]) else { panic!("too many") };
        assert_eq!(processes.parts.uids, [(range(1, 6), 1)]);
        assert_eq!(processes.parts.cells, [0, 1]);
    }

    #[test]
    fn the_example_of_a_class_is_in_it() {
        let group = Who { gid: Some(range(7, 7)), ..Who::EVERYBODY };
        let cgroup = Who { cgroup: Some("/a".into()), ..user(3, 9) };
        let Ok(processes) = cut(&[user(0, 4), group, cgroup]) else { panic!("too many") };
        assert!(processes.len() > 3);
        for class in 0..=processes.len() {
            let example = processes.example(class);
            let found = processes.parts.class_of(Direction::Outbound, &example);
            assert_eq!(found as usize, class, "{example:?}");
        }
    }

    #[test]
    fn the_node_cuts_every_part_in_two() {
        let node = |who: Who| Who { node: true, ..who };
        let Ok(processes) = cut(&[user(5, 5), node(Who::EVERYBODY), node(user(5, 9))]) else {
            panic!("too many")
        };
        assert_eq!(processes.parts.parts(), [3, 1, 1, 2]);
        for (uid, at_node, within) in [
            (None, false, &[][..]),
            (None, true, &[2]),
            (Some(5), false, &[1]),
            (Some(5), true, &[1, 2, 3]),
            (Some(7), false, &[]),
            (Some(7), true, &[2, 3]),
        ] {
            let identity = Identity { uid, node: at_node, ..Identity::default() };
            let class = processes.parts.class_of(Direction::Outbound, &identity) as usize;
            let found = class.checked_sub(1).and_then(|at| processes.classes.get(at)).cloned();
            assert_eq!(found.unwrap_or_default(), within.iter().copied().collect(), "{identity:?}");
            let example = processes.example(class);
            assert_eq!(processes.parts.class_of(Direction::Outbound, &example) as usize, class);
        }
        // Both ends of 32 users and of everybody else.
        let users = |n: u32| (1..=n).map(|id| user(id, id)).chain([node(Who::EVERYBODY)]).collect::<Vec<_>>();
        assert_eq!(cut(&users(31)).map(|processes| processes.len()), Ok(63));
        assert_eq!(cut(&users(32)).map(|processes| processes.len()), Err(TooMany));
    }

    #[test]
    fn there_are_at_most_so_many_classes() {
        let users = |n: u32| (1..=n).map(|id| user(id, id)).collect::<Vec<_>>();
        let limit = u32::try_from(CLASSES).unwrap_or_default();
        assert_eq!(cut(&users(limit)).map(|processes| processes.len()), Ok(CLASSES));
        assert_eq!(cut(&users(limit + 1)).map(|processes| processes.len()), Err(TooMany));
    }
}
