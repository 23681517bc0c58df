//! Names of classes: what users, groups and cgroups they are, and whether the node is at the other end.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::flow::Direction;
use mesh_bpf::image::{Classes, IdRange};

use crate::hir::NODE;

/// Parts of users, of groups, of cgroups and of other ends.
type Sides = [BTreeSet<u32>; 4];

/// The name of a class, in two parts. Two classes of one profile have two names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClassName {
    /// `uid 1000-1999`, `uid 1000 and gid other, uid other and gid 7`; nothing for all processes.
    pub(crate) processes: String,
    /// `to node`, `not to node`, `from node`; nothing where that tells nothing, or is told with the processes.
    pub(crate) node: String,
}

impl ClassName {
    /// As it stands behind a flow: `as uid 1000`, `to node`, `as uid 1000 to node`.
    #[must_use]
    pub(crate) fn clause(&self) -> String {
        let processes =
            if self.processes.is_empty() { String::new() } else { format!("as {}", self.processes) };
        join([processes, self.node.clone()])
    }
}

/// The name of a class of outbound flows, or with `from` in front of the node of inbound ones.
#[must_use]
pub(crate) fn class_name<S>(classes: &Classes<S>, direction: Direction, class: u32) -> ClassName {
    let blocks = blocks(classes, class);
    let processes = |[uid, gid, cgroup, _]: &Sides| {
        let told = [uid, gid, cgroup].into_iter().enumerate();
        told.filter_map(|(side, parts)| side_text(classes, side, parts)).collect::<Vec<_>>().join(" and ")
    };
    let node = |[_, _, _, node]: &Sides| match (classes.node, node.contains(&0), node.contains(&1)) {
        (true, false, true) => format!("{} {NODE}", direction.preposition()),
        (true, true, false) => format!("not {} {NODE}", direction.preposition()),
        _ => String::new(),
    };
    let ends: BTreeSet<String> = blocks.iter().map(node).collect();
    if ends.len() <= 1 {
        let processes: Vec<String> = blocks.iter().map(processes).collect();
        return ClassName { processes: processes.join(", "), node: ends.into_iter().collect() };
    }
    let told: Vec<String> = blocks.iter().map(|block| join([processes(block), node(block)])).collect();
    ClassName { processes: told.join(", "), node: String::new() }
}

/// A class of a profile: `uid 1000-1999`, `to node`, `uid 1000 to node`, `from node`.
#[must_use]
pub(crate) fn class_text<S>(classes: &Classes<S>, direction: Direction, class: u32) -> String {
    let ClassName { processes, node } = class_of_profile(classes, direction, class);
    if processes.is_empty() && node.is_empty() { "everybody".to_owned() } else { join([processes, node]) }
}

/// The name of a class of a profile.
#[must_use]
pub(crate) fn class_of_profile<S>(classes: &Classes<S>, direction: Direction, class: u32) -> ClassName {
    match direction {
        Direction::Outbound => class_name(classes, direction, class),
        Direction::Inbound => {
            let node = if class == 0 { String::new() } else { format!("{} {NODE}", direction.preposition()) };
            ClassName { node, ..ClassName::default() }
        }
    }
}

fn join(words: [String; 2]) -> String {
    let told: Vec<String> = words.into_iter().filter(|words| !words.is_empty()).collect();
    told.join(" ")
}

/// The cells of a class, those that differ on one side alone together.
fn blocks<S>(classes: &Classes<S>, class: u32) -> Vec<Sides> {
    let cells = (0u32..).zip(&classes.cells).filter(|&(_, &of)| of == class).map(|(cell, _)| cell);
    let mut blocks: Vec<Sides> =
        cells.map(|cell| classes.parts_at(cell).map(|part| BTreeSet::from([part]))).collect();
    for side in [3, 2, 1, 0] {
        let mut joined: BTreeMap<Sides, BTreeSet<u32>> = BTreeMap::new();
        for mut block in blocks {
            let parts = block.get_mut(side).map(std::mem::take).unwrap_or_default();
            joined.entry(block).or_default().extend(parts);
        }
        let whole = |(mut block, parts): (Sides, BTreeSet<u32>)| {
            if let Some(slot) = block.get_mut(side) {
                *slot = parts;
            }
            block
        };
        blocks = joined.into_iter().map(whole).collect();
    }
    blocks
}

/// Users, groups or cgroups of these parts; nothing for all of them.
fn side_text<S>(classes: &Classes<S>, side: usize, parts: &BTreeSet<u32>) -> Option<String> {
    let ids = |ids: &[(IdRange, u32)], wanted: &dyn Fn(u32) -> bool| {
        let mut joined: Vec<IdRange> = Vec::new();
        for &(range, _) in ids.iter().filter(|&&(_, part)| wanted(part)) {
            match joined.last_mut() {
                Some(last) if last.last.checked_add(1) == Some(range.first) => last.last = range.last,
                _ => joined.push(range),
            }
        }
        joined.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let items = |wanted: &dyn Fn(u32) -> bool| match side {
        0 => ids(&classes.uids, wanted),
        1 => ids(&classes.gids, wanted),
        _ => {
            let paths = classes.cgroups.iter().filter(|&&(_, part)| wanted(part));
            paths.map(|(path, _)| format!("\"{path}\"")).collect()
        }
    };
    let kind = ["uid", "gid", "cgroup"].get(side).copied().unwrap_or_default();
    let left_out = items(&|part| !parts.contains(&part));
    let named = items(&|part| parts.contains(&part));
    match (parts.contains(&0), named.as_slice(), left_out.as_slice()) {
        (true, _, []) => None,
        (true, [], _) => Some(format!("{kind} other")),
        (true, _, left_out) => Some(format!("{kind} not {}", left_out.join(", "))),
        (false, named, _) => Some(format!("{kind} {}", named.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(
        uids: &[(u32, u32, u32)],
        gids: &[(u32, u32, u32)],
        paths: &[&str],
        cells: &[u32],
    ) -> Classes<()> {
        let ids = |ids: &[(u32, u32, u32)]| {
            ids.iter().map(|&(first, last, part)| (IdRange { first, last }, part)).collect()
        };
        let cgroups = (1..).zip(paths).map(|(part, path)| ((*path).to_owned(), part)).collect();
        Classes { uids: ids(uids), gids: ids(gids), cgroups, cells: cells.to_vec(), ..Classes::default() }
    }

    fn class_text(classes: &Classes<()>, class: u32) -> String {
        super::class_text(classes, Direction::Outbound, class)
    }

    #[test]
    fn a_class_is_named_by_what_tells_it_apart() {
        let users = classes(&[(5, 5, 1), (9, 12, 1), (20, 20, 2)], &[], &[], &[0, 1, 2]);
        assert_eq!(class_text(&users, 1), "uid 5, 9-12");
        assert_eq!(class_text(&users, 2), "uid 20");
        assert_eq!(class_text(&users, 0), "uid other");
        let both = classes(&[(5, 5, 1)], &[(7, 7, 1)], &["/a"], &[0, 0, 1, 1, 2, 2, 3, 4]);
        assert_eq!(class_text(&both, 1), "uid other and gid 7");
        assert_eq!(class_text(&both, 2), "uid 5 and gid other");
        assert_eq!(class_text(&both, 3), "uid 5 and gid 7 and cgroup other");
        assert_eq!(class_text(&both, 4), "uid 5 and gid 7 and cgroup \"/a\"");
        let either = classes(&[(5, 5, 1)], &[(7, 7, 1)], &[], &[0, 1, 1, 1]);
        assert_eq!(class_text(&either, 1), "uid 5, uid other and gid 7");
        let two = classes(&[(5, 5, 1), (9, 9, 2)], &[], &[], &[0, 0, 1]);
        assert_eq!(class_text(&two, 0), "uid not 9");
        let touching = classes(&[(5, 5, 1), (6, 6, 2), (7, 8, 1)], &[], &[], &[0, 1, 1]);
        assert_eq!(class_text(&touching, 1), "uid 5-8");
        let whole = classes(&[(5, 5, 1)], &[(7, 7, 1)], &[], &[0, 0, 1, 1]);
        assert_eq!(class_text(&whole, 1), "uid 5");
    }

    #[test]
    fn the_node_is_told_beside_the_processes() {
        let node = |classes: Classes<()>| Classes { node: true, ..classes };
        let only = node(classes(&[], &[], &[], &[0, 1]));
        assert_eq!(class_text(&only, 1), "to node");
        assert_eq!(class_name(&only, Direction::Outbound, 1).clause(), "to node");
        let both = node(classes(&[(5, 5, 1)], &[], &[], &[0, 1, 2, 3]));
        assert_eq!(class_text(&both, 1), "uid other to node");
        assert_eq!(class_text(&both, 2), "uid 5 not to node");
        assert_eq!(class_name(&both, Direction::Outbound, 3).clause(), "as uid 5 to node");
        let either = node(classes(&[(5, 5, 1)], &[], &[], &[0, 1, 1, 1]));
        assert_eq!(class_text(&either, 1), "uid 5, uid other to node");
        let from = Classes { from_node: Some(()), ..classes(&[], &[], &[], &[]) };
        assert_eq!(super::class_text(&from, Direction::Inbound, 1), "from node");
    }
}
