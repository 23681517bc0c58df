//! In what the kernel's members are not those that are registered, in words.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::abi::{self, NO_PROFILE};
use mesh_bpf::membership::Membership;

use super::registry::{Registry, entry, is_stale, own_entries, own_keys};
use crate::attach::pod;
use crate::error::Result;
use crate::instance::Instance;
use crate::maps::room;
use crate::maps::set::Set;
use crate::maps::slot::PerSlot;
use crate::member::{Key, Member};
use crate::members::{addresses, files, reserved_ports};
use crate::system::System;

/// Members whose entries are not what the live policy says, in words; and cgroups that it names which are
/// gone, or were made again and are not registered.
pub(crate) fn drift<S: System>(
    store: &S,
    instance: &Instance,
    set: &Set<S>,
    slot: u32,
    policy: &Membership,
) -> Result<Vec<String>> {
    let mut drift = Vec::new();
    let registry = Registry { store, instance, set };
    let (paths, missing) = registry.cgroups_of(PerSlot::of(0, Some(policy), None))?;
    drift.extend(missing.iter().map(|path| format!("the cgroup `{path}` does not exist")));
    let mut known: BTreeSet<Key> = paths.values().copied().map(Key::Cgroup).collect();
    let mut members = files::members(store, instance)?;
    known.extend(members.iter().map(|member| member.key));
    // A cgroup that was made again joined by itself, and its member's record is of the one before.
    members.retain(|member| !is_stale(member, &paths));
    let recorded: BTreeSet<Key> = members.iter().map(|member| member.key).collect();
    let unrecorded = paths.iter().filter(|(_, id)| !recorded.contains(&Key::Cgroup(**id)));
    members.extend(unrecorded.map(|(path, &id)| Member::selected(0, Key::Cgroup(id), path)));
    let full = room::full(store, instance)?;
    for member in &members {
        drift.extend(registry.fault(member, slot, policy)?);
        let number = registry.found(member.key)?.map_or(member.id, |found| found.id);
        let words = full.get(&number).into_iter().flatten();
        drift.extend(words.map(|words| format!("the member `{}` {words}", member.name)));
        drift.extend(addresses::moves(store, member)?);
        drift.extend(reserved_ports::fault(store, instance, member)?);
    }
    for key in registry.keys()?.into_iter().filter(|key| !known.contains(key)) {
        drift.push(format!("the kernel has a member `{key}` that is not registered"));
    }
    let wanted = own_entries(&members);
    let own: BTreeMap<Vec<u8>, Vec<u8>> = store.entries(&set.own)?.into_iter().collect();
    for member in &members {
        if own_keys(member).iter().any(|key| {
            let key = bytemuck::bytes_of(key);
            own.get(key) != wanted.get(key)
        }) {
            drift.push(format!("the kernel does not know all addresses of the member `{}`", member.name));
        }
    }
    let strange = own.keys().filter(|key| !wanted.contains_key(*key)).count();
    if strange > 0 {
        drift.push(format!("the kernel knows {strange} addresses that no member has"));
    }
    for name in store.list(&instance.moving())?.unwrap_or_default() {
        if let Ok(key) = name.parse::<Key>() {
            drift.push(format!(
                "a command that ended was attaching, changing or detaching `{key}`; the next one finishes it"
            ));
        }
    }
    Ok(drift)
}

impl<S: System> Registry<'_, S> {
    /// In what the kernel's entry of a member is not what the live policy says, in words.
    pub(crate) fn fault(&self, member: &Member, slot: u32, policy: &Membership) -> Result<Option<String>> {
        let name = &member.name;
        let Some(found) = self.found(member.key)? else {
            return Ok(Some(format!("the member `{name}` has no entry in the kernel")));
        };
        let (profile, _) = member.profile(Some(policy)).unwrap_or((NO_PROFILE, NO_PROFILE));
        let whence = self.whence(member, None)?;
        let expected =
            entry(member, Some(found), PerSlot::of(slot, Some(policy), None), whence).unwrap_or(found);
        if found.profile.get(slot as usize) != Some(&profile) {
            return Ok(Some(format!("the member `{name}` does not have the profile of its workload")));
        }
        // A cgroup that is made at a path which a policy names joins by itself, with the number of that path.
        let expected = match member.key {
            Key::Netns(_) => expected,
            Key::Cgroup(_) => abi::Member { id: found.id, ..expected },
        };
        if found != expected {
            return Ok(Some(format!("the kernel's entry of the member `{name}` is not what is registered")));
        }
        pod::fault(self.store, self.instance, member)
    }
}
