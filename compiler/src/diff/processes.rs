//! The processes of a member, cut as two policies cut them together.

use std::collections::BTreeSet;

use mesh_bpf::flow::Identity;
use mesh_bpf::image::{Classes, IdRange};
use mesh_bpf::intern::Interner;

use super::Processes;
use crate::emit::class_text;
use crate::hir::region::ids;

/// Processes as two policies cut them.
pub(super) struct Joint {
    /// The class of a process under the old policy and under the new one: each pair that some process is in. That of
    /// processes which neither policy names comes first.
    pub(super) pairs: Vec<[u32; 2]>,
    /// A process of each.
    examples: Vec<Identity>,
    /// Parts of both policies; its classes are the pairs.
    whole: Classes<()>,
}

impl Joint {
    /// The processes that are in these pairs of classes.
    pub(super) fn named(&self, pairs: &BTreeSet<usize>) -> Processes {
        let within = |pair: &u32| u32::from(pairs.contains(&(*pair as usize)));
        let cells = self.whole.cells.iter().map(within).collect();
        let text = class_text(&Classes { cells, ..self.whole.clone() }, 1);
        let example = pairs.first().and_then(|&pair| self.examples.get(pair)).cloned();
        Processes { text, example: example.unwrap_or_default() }
    }
}

/// Cuts processes wherever one of two policies does.
pub(super) fn joint(old: &Classes, new: &Classes) -> Joint {
    let parts = |identity: &Identity| [old.parts_of(identity), new.parts_of(identity)];
    let of_both = |side: usize, identity: Identity| {
        let [old, new] = parts(&identity);
        (old.get(side).copied().unwrap_or(0), new.get(side).copied().unwrap_or(0))
    };
    let mut whole = Classes::<()>::default();
    let mut examples: [Vec<Identity>; 3] = [0, 1, 2].map(|_| vec![Identity::default()]);
    let [users, groups, cgroups] = &mut examples;
    let user = |uid: Option<u32>| Identity { uid, ..Identity::default() };
    let group = |gid: Option<u32>| Identity { gid, ..Identity::default() };
    whole.uids = cut(&old.uids, &new.uids, |id| of_both(0, user(id)), |id| users.push(user(id)));
    whole.gids = cut(&old.gids, &new.gids, |id| of_both(1, group(id)), |id| groups.push(group(id)));
    let paths: BTreeSet<&String> = old.cgroups.iter().chain(&new.cgroups).map(|(path, _)| path).collect();
    for (part, path) in (1u32..).zip(paths) {
        whole.cgroups.push((path.clone(), part));
        cgroups.push(Identity { cgroup: Some(path.clone()), ..Identity::default() });
    }
    let mut pairs = Interner::default();
    let mut found: Vec<Identity> = Vec::new();
    for user in &*users {
        for group in &*groups {
            for cgroup in &*cgroups {
                let example = Identity {
                    uid: user.uid,
                    gid: group.gid,
                    cgroup: cgroup.cgroup.clone(),
                    interface: None,
                };
                let pair = pairs.intern([old.class_of(&example), new.class_of(&example)]);
                whole.cells.push(pair);
                if pair as usize == found.len() {
                    found.push(example);
                }
            }
        }
    }
    Joint { pairs: pairs.into_values(), examples: found, whole }
}

/// The ids that either side cuts, each with its part of both; an id of every part that is new is told.
fn cut(
    old: &[(IdRange, u32)],
    new: &[(IdRange, u32)],
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
