//! The file of each endpoint that is registered in this boot. Files of another boot mean nothing, since cookies and
//! ids start again.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::member::{Key, Member};
use crate::node::Node;
use crate::state::record;
use crate::system::System;

const NEXT_ID: &str = "next-id";

/// How many that have left are remembered. What they did is not remembered for long either.
const LEFT: u32 = 512;

/// The file of one.
pub(crate) fn place<S: System>(node: Node<'_, S>, key: Key) -> PathBuf {
    node.instance.members().join(key.to_string())
}

/// Every endpoint that is registered in this boot, by key.
pub(crate) fn members<S: System>(node: Node<'_, S>) -> Result<Vec<Member>> {
    members_with(node, |_| true)
}

/// Those that are known by their cgroup. The others, of which there may be many more, are not read.
pub(crate) fn members_by_cgroup<S: System>(node: Node<'_, S>) -> Result<Vec<Member>> {
    members_with(node, |key| matches!(key, Key::Cgroup(_)))
}

fn members_with<S: System>(node: Node<'_, S>, is_wanted: impl Fn(Key) -> bool) -> Result<Vec<Member>> {
    let mut members = Vec::new();
    for name in node.system.list(&node.instance.members())?.unwrap_or_default() {
        if name.parse::<Key>().is_ok_and(&is_wanted) {
            members.extend(record::read::<Member>(node.system, &node.instance.members().join(name))?);
        }
    }
    members.sort_by_key(|member| member.key);
    Ok(members)
}

/// Keeps the file of one that has left, in the place of one that left long before.
pub(crate) fn keep_left<S: System>(node: Node<'_, S>, member: &Member, file: &Path) -> Result<()> {
    node.system.create_dir(&node.instance.left())?;
    let place = node.instance.left().join((member.id % LEFT).to_string());
    Ok(node.system.rename(file, &place, false)?)
}

/// Those that have left, as far as they are remembered.
pub(crate) fn left<S: System>(node: Node<'_, S>) -> Result<Vec<Member>> {
    let mut members = Vec::new();
    for name in node.system.list(&node.instance.left())?.unwrap_or_default() {
        members.extend(record::read::<Member>(node.system, &node.instance.left().join(name)).ok().flatten());
    }
    Ok(members)
}

/// A number that no endpoint had in this boot.
pub(crate) fn new_id<S: System>(node: Node<'_, S>) -> Result<u32> {
    let file = node.instance.members().join(NEXT_ID);
    let id = record::read::<u32>(node.system, &file)?.unwrap_or(1);
    record::write(node.system, &file, &(id.saturating_add(1)), false)?;
    Ok(id)
}

/// Makes the directory of this boot's members, and forgets those of others.
pub(crate) fn create_dir<S: System>(node: Node<'_, S>) -> Result<()> {
    let dir = node.instance.members();
    if node.system.inode(&node.instance.moving())?.is_some() {
        return Ok(());
    }
    let Some(all) = dir.parent() else { return Ok(()) };
    node.system.create_dir(all)?;
    for boot in node.system.list(all)?.unwrap_or_default() {
        record::forget_boot(node.system, &all.join(boot))?;
    }
    node.system.create_dir(&dir)?;
    Ok(node.system.create_dir(&node.instance.moving())?)
}
