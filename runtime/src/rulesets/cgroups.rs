//! The files of cgroups that a policy names. They decide nothing: the host's ruleset has the cgroups themselves.

use std::collections::BTreeSet;

use super::scene::Stage;
use crate::error::Result;
use crate::member::{Key, Member, Origin};
use crate::members::files;
use crate::node::Node;
use crate::state::record;
use crate::system::System;

/// Brings them in line with a policy. How many were changed.
pub(crate) fn register<S: System>(node: Node<'_, S>, stage: &Stage<'_>) -> Result<usize> {
    let wanted: BTreeSet<(&String, u64)> = stage.member_cgroups().collect();
    let mut known = BTreeSet::new();
    let mut changed = 0;
    for member in files::members_by_cgroup(node)? {
        let (Origin::Selector, Key::Cgroup(id), Some(path)) = (&member.origin, member.key, &member.cgroup)
        else {
            continue;
        };
        if wanted.contains(&(path, id)) {
            known.insert(id);
        } else {
            files::keep_left(node, &member, &files::place(node, member.key))?;
            changed += 1;
        }
    }
    for (path, id) in wanted.into_iter().filter(|(_, id)| !known.contains(id)) {
        let key = Key::Cgroup(id);
        let member = Member::selected(files::new_id(node)?, key, path);
        record::write(node.system, &files::place(node, key), &member, false)?;
        changed += 1;
    }
    Ok(changed)
}
