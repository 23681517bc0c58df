//! The file of each endpoint that is registered in this boot. Files of another boot mean nothing, since cookies and
//! ids start again.

use crate::error::Result;
use crate::instance::Instance;
use crate::member::{Key, Member};
use crate::state::record;
use crate::system::System;

const NEXT_ID: &str = "next-id";

/// Every endpoint that is registered in this boot, by key.
pub(crate) fn members<S: System>(store: &S, instance: &Instance) -> Result<Vec<Member>> {
    members_with(store, instance, |_| true)
}

/// Those that are known by their cgroup. The others, of which there may be many more, are not read.
pub(crate) fn members_by_cgroup<S: System>(store: &S, instance: &Instance) -> Result<Vec<Member>> {
    members_with(store, instance, |key| matches!(key, Key::Cgroup(_)))
}

fn members_with<S: System>(
    store: &S,
    instance: &Instance,
    is_wanted: impl Fn(Key) -> bool,
) -> Result<Vec<Member>> {
    let mut members = Vec::new();
    for name in store.list(&instance.members())?.unwrap_or_default() {
        if name.parse::<Key>().is_ok_and(&is_wanted) {
            members.extend(record::read::<Member>(store, &instance.members().join(name))?);
        }
    }
    members.sort_by_key(|member| member.key);
    Ok(members)
}

/// A number that no endpoint had in this boot.
pub(crate) fn new_id<S: System>(store: &S, instance: &Instance) -> Result<u32> {
    let file = instance.members().join(NEXT_ID);
    let id = record::read::<u32>(store, &file)?.unwrap_or(1);
    record::write(store, &file, &(id.saturating_add(1)), false)?;
    Ok(id)
}

/// Makes the directory of this boot's members, and forgets those of others.
pub(crate) fn create_dir<S: System>(store: &S, instance: &Instance) -> Result<()> {
    let dir = instance.members();
    if store.inode(&instance.moving())?.is_some() {
        return Ok(());
    }
    let Some(all) = dir.parent() else { return Ok(()) };
    store.create_dir(all)?;
    for boot in store.list(all)?.unwrap_or_default() {
        record::forget_boot(store, &all.join(boot))?;
    }
    store.create_dir(&dir)?;
    Ok(store.create_dir(&instance.moving())?)
}
