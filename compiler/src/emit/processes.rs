//! Names of classes of processes: what users, groups and cgroups they are.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::image::{Classes, IdRange};

/// Parts of users, of groups and of cgroups.
type Sides = [BTreeSet<u32>; 3];

/// The processes of a class: `uid 1000-1999`, `uid 1000 and gid other, uid other and gid 7`. Two classes of one profile
/// have two names.
#[must_use]
pub(crate) fn class_text<S>(classes: &Classes<S>, class: u32) -> String {
    let text = |sides: &Sides| {
        let told = sides.iter().enumerate().filter_map(|(side, parts)| side_text(classes, side, parts));
        told.collect::<Vec<_>>().join(" and ")
    };
    let told: Vec<String> = blocks(classes, class).iter().map(text).collect();
    match told.as_slice() {
        [only] if only.is_empty() => "everybody".to_owned(),
        _ => told.join(", "),
    }
}

/// The cells of a class, those that differ on one side alone together.
fn blocks<S>(classes: &Classes<S>, class: u32) -> Vec<Sides> {
    let cells = (0u32..).zip(&classes.cells).filter(|&(_, &of)| of == class).map(|(cell, _)| cell);
    let mut blocks: Vec<Sides> =
        cells.map(|cell| classes.parts_at(cell).map(|part| BTreeSet::from([part]))).collect();
    for side in [2, 1, 0] {
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
        Classes { uids: ids(uids), gids: ids(gids), cgroups, cells: cells.to_vec(), sides: Vec::new() }
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
}
