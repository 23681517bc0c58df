//! In what the kernel's members are not those that are registered.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::abi::{self, NO_PROFILE};
use mesh_bpf::membership::Membership;

use super::registry::{Registry, entry, is_stale, own_entries, own_keys};
use crate::attach::pod;
use crate::drift::Drift;
use crate::error::Result;
use crate::maps::pinned::PinnedMaps;
use crate::maps::quota;
use crate::maps::slot::PerSlot;
use crate::member::{Key, Member};
use crate::members::{addresses, files, reserved_ports};
use crate::node::Node;
use crate::system::System;

/// Members whose entries are not what the live policy says; and cgroups that it names which are gone, or were made
/// again and are not registered.
pub(crate) fn drift<S: System>(
    node: Node<'_, S>,
    maps: &PinnedMaps<S>,
    slot: u32,
    policy: &Membership,
) -> Result<Vec<Drift>> {
    let mut drift = Vec::new();
    let registry = Registry::new(node, maps);
    let (paths, missing) = registry.cgroups_of(PerSlot::of(0, Some(policy), None))?;
    drift.extend(missing.into_iter().map(Drift::CgroupMissing));
    let mut known: BTreeSet<Key> = paths.values().copied().map(Key::Cgroup).collect();
    let mut members = files::members(node)?;
    known.extend(members.iter().map(|member| member.key));
    // A cgroup that was made again joined by itself, and its member's record is of the one before.
    members.retain(|member| !is_stale(member, &paths));
    let recorded: BTreeSet<Key> = members.iter().map(|member| member.key).collect();
    let unrecorded = paths.iter().filter(|(_, id)| !recorded.contains(&Key::Cgroup(**id)));
    members.extend(unrecorded.map(|(path, &id)| Member::selected(0, Key::Cgroup(id), path)));
    let full = quota::full(node)?;
    for member in &members {
        drift.extend(registry.drift_of(member, slot, policy)?);
        let number = registry.found(member.key)?.map_or(member.id, |found| found.id);
        if registry.has_other_interfaces(member, number, slot, policy)? {
            drift.push(Drift::MemberInterfaces(member.name.clone()));
        }
        let exempt = registry.exempt_interfaces_of(member, policy)?;
        if exempt.is_some_and(|exempt| exempt.has_too_many) {
            drift.push(Drift::MemberRoutesMany(member.name.clone()));
        }
        drift.extend(full.get(&number).into_iter().flatten().map(|full| full.of(&member.name)));
        drift.extend(addresses::moves(node.system, member)?);
        drift.extend(reserved_ports::drift_of(node, member)?);
    }
    let strange = registry.keys()?.into_iter().filter(|key| !known.contains(key));
    drift.extend(strange.map(Drift::MemberUnregistered));
    let wanted = own_entries(&members);
    let own: BTreeMap<Vec<u8>, Vec<u8>> = node.system.entries(&maps.own)?.into_iter().collect();
    for member in &members {
        if own_keys(member).iter().any(|key| {
            let key = bytemuck::bytes_of(key);
            own.get(key) != wanted.get(key)
        }) {
            drift.push(Drift::MemberAddressesMissing(member.name.clone()));
        }
    }
    let strange = own.keys().filter(|key| !wanted.contains_key(*key)).count();
    if strange > 0 {
        drift.push(Drift::AddressesUnregistered(strange));
    }
    for name in node.system.list(&node.instance.moving())?.unwrap_or_default() {
        if let Ok(key) = name.parse::<Key>() {
            drift.push(Drift::CommandUnfinished(key));
        }
    }
    Ok(drift)
}

impl<S: System> Registry<'_, S> {
    /// In what the kernel's entry of a member is not what the live policy says.
    pub(crate) fn drift_of(&self, member: &Member, slot: u32, policy: &Membership) -> Result<Option<Drift>> {
        let name = || member.name.clone();
        let Some(found) = self.found(member.key)? else {
            return Ok(Some(Drift::MemberMissing(name())));
        };
        let (profile, _) = member.profile(Some(policy)).unwrap_or((NO_PROFILE, NO_PROFILE));
        let whence = self.whence(member, None)?;
        let expected =
            entry(member, Some(found), PerSlot::of(slot, Some(policy), None), whence).unwrap_or(found);
        if found.profile.get(slot as usize) != Some(&profile) {
            return Ok(Some(Drift::MemberProfile(name())));
        }
        // A cgroup that is made at a path which a policy names joins by itself, with the number of that path.
        let expected = match member.key {
            Key::Netns(_) => expected,
            Key::Cgroup(_) => abi::Member { id: found.id, ..expected },
        };
        if found != expected {
            return Ok(Some(Drift::MemberChanged(name())));
        }
        pod::drift_of(self.node, member)
    }
}
