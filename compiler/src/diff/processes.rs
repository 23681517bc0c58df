//! The processes of a member and the other ends of its flows, cut as two policies cut them together.

use std::collections::BTreeSet;

use mesh_bpf::flow::{Direction, Identity};
use mesh_bpf::image::{Classes, IdRange};
use mesh_bpf::intern::Interner;

use super::Ends;
use crate::emit::{ClassName, class_name};
use crate::hir::region::ids;

/// Who is at the ends, as two policies cut them.
pub(super) struct Joint {
    /// The class of a flow under the old policy and under the new one: each pair that some flow is in. That of flows which
    /// neither policy names comes first.
    pub(super) pairs: Vec<[u32; 2]>,
    /// Who is at the ends of a flow of each.
    examples: Vec<Identity>,
    /// Parts of both policies; its classes are the pairs.
    whole: Classes<()>,
    direction: Direction,
}

impl Joint {
    /// Who is in these pairs of classes.
    pub(super) fn named(&self, pairs: &BTreeSet<usize>) -> Ends {
        let within = |pair: &u32| u32::from(pairs.contains(&(*pair as usize)));
        let cells = self.whole.cells.iter().map(within).collect();
        let ClassName { processes, node } =
            class_name(&Classes { cells, ..self.whole.clone() }, self.direction, 1);
        let example = pairs.first().and_then(|&pair| self.examples.get(pair)).cloned();
        Ends { processes, node, example: example.unwrap_or_default() }
    }
}

/// Cuts wherever one of two policies does.
pub(super) fn joint(direction: Direction, old: &Classes, new: &Classes) -> Joint {
    let opens = direction == Direction::Outbound;
    let nobody = Classes::default();
    let [old_parts, new_parts] = [old, new].map(|classes| if opens { classes } else { &nobody });
    let parts = |identity: &Identity| [old_parts.parts_of(identity), new_parts.parts_of(identity)];
    let of_both = |side: usize, identity: Identity| {
        let [old, new] = parts(&identity);
        (old.get(side).copied().unwrap_or(0), new.get(side).copied().unwrap_or(0))
    };
    let mut whole = Classes::<()>::default();
    let mut examples: [Vec<Identity>; 3] = [0, 1, 2].map(|_| vec![Identity::default()]);
    let [users, groups, cgroups] = &mut examples;
    let user = |uid: Option<u32>| Identity { uid, ..Identity::default() };
    let group = |gid: Option<u32>| Identity { gid, ..Identity::default() };
    let (uids, gids) = ([&old_parts.uids, &new_parts.uids], [&old_parts.gids, &new_parts.gids]);
    whole.uids = cut(uids, |id| of_both(0, user(id)), |id| users.push(user(id)));
    whole.gids = cut(gids, |id| of_both(1, group(id)), |id| groups.push(group(id)));
    let paths = old_parts.cgroups.iter().chain(&new_parts.cgroups);
    let paths: BTreeSet<&String> = paths.map(|(path, _)| path).collect();
    whole.node = [old, new].iter().any(|one| if opens { one.node } else { one.from_node.is_some() });
    let ends = if whole.node { &[false, true][..] } else { &[false] };
    for (part, path) in (1u32..).zip(paths) {
        whole.cgroups.push((path.clone(), part));
        cgroups.push(Identity { cgroup: Some(path.clone()), ..Identity::default() });
    }
    let mut pairs = Interner::default();
    let mut found: Vec<Identity> = Vec::new();
    for user in &*users {
        for group in &*groups {
            for (cgroup, &node) in cgroups.iter().flat_map(|it| ends.iter().map(move |end| (it, end))) {
                let example = Identity {
                    uid: user.uid,
                    gid: group.gid,
                    cgroup: cgroup.cgroup.clone(),
                    interface: None,
                    node,
                };
                let pair = pairs.intern([old, new].map(|classes| classes.class_of(direction, &example)));
                whole.cells.push(pair);
                if pair as usize == found.len() {
                    found.push(example);
                }
            }
        }
    }
    Joint { pairs: pairs.into_values(), examples: found, whole, direction }
}

/// The ids that either side cuts, each with its part of both; an id of every part that is new is told.
fn cut(
    [old, new]: [&Vec<(IdRange, u32)>; 2],
    of_both: impl Fn(Option<u32>) -> (u32, u32),
    mut is_new: impl FnMut(Option<u32>),
) -> Vec<(IdRange, u32)> {
    let mut parts = Interner::default();
    parts.intern((0, 0));
    let mut known = 1;
    let mut found: Vec<(IdRange, u32)> = Vec::new();
    let starts: Vec<u32> =
        ids(old.iter().chain(new).map(|&(range, _)| range)).into_iter().flatten().collect();
    let ends = starts.iter().skip(1).map(|next| next.saturating_sub(1)).chain([u32::MAX]);
    for (&first, last) in starts.iter().zip(ends) {
        let part = parts.intern(of_both(Some(first)));
        if part == known {
            known += 1;
            is_new(Some(first));
        }
        if part != 0 {
            found.push((IdRange { first, last }, part));
        }
    }
    found
}
