//! Cgroups that policies name: members, and those whose processes are exempt or of a class.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::abi::{CgroupPath, ExemptKey, KEY_CLASS, NamedCgroup};
use mesh_bpf::membership::Membership;

use super::registry::{Policies, Refreshed, Registry, Whence, entry, is_stale};
use crate::error::Result;
use crate::maps::slot::PerSlot;
use crate::member::{Key, Member};
use crate::members::files;
use crate::system::System;

impl<S: System> Registry<'_, S> {
    /// The cgroups that the policies name, by path with their ids, and those that are not there.
    pub(super) fn cgroups_of(&self, policies: Policies<'_>) -> Result<(BTreeMap<String, u64>, Vec<String>)> {
        let workloads = policies.into_iter().flatten().flat_map(|policy| &policy.workloads);
        let paths: BTreeSet<&String> = workloads.flat_map(|workload| &workload.selector.cgroups).collect();
        let (mut found, mut missing) = (BTreeMap::new(), Vec::new());
        for path in paths {
            match self.node.system.inode(&self.node.instance.cgroup_dir(path))? {
                Some(id) => drop(found.insert(path.clone(), id)),
                None => missing.push(path.clone()),
            }
        }
        Ok((found, missing))
    }

    /// Tells the kernel what a cgroup becomes that is made at a path which a policy names. Returns the ids of
    /// the paths.
    pub(super) fn name_cgroups(
        &self,
        policies: Policies<'_>,
        host: Whence,
        refreshed: &mut Refreshed,
    ) -> Result<BTreeMap<String, u32>> {
        let map = &self.maps.cgroup_paths;
        let mut known: BTreeMap<Vec<u8>, NamedCgroup> = BTreeMap::new();
        for (key, value) in self.node.system.entries(map)? {
            known.extend(bytemuck::try_pod_read_unaligned(&value).ok().map(|value| (key, value)));
        }
        let mut ids = BTreeMap::new();
        for (path, named) in named(policies) {
            let key = CgroupPath::of(&path);
            let found = key.and_then(|key| known.remove(bytemuck::bytes_of(&key)));
            let id = match found {
                Some(found) => found.becomes.id,
                None => files::new_id(self.node)?,
            };
            let before = found.map(|found| found.becomes);
            let becomes = entry(&Member::selected(id, Key::Cgroup(0), &path), before, policies, host)?;
            let entry = NamedCgroup { becomes, ..named };
            if key.is_some() {
                self.count(&becomes, policies)?;
            }
            // One with a path too long for the kernel's table joins with the next apply.
            if let Some(key) = key.filter(|_| found != Some(entry)) {
                self.node.system.update(map, bytemuck::bytes_of(&key), bytemuck::bytes_of(&entry))?;
                refreshed.changed += 1;
            }
            ids.insert(path, id);
        }
        for (key, path) in &known {
            self.node.system.delete(map, key)?;
            self.count_no_path(path.becomes.id)?;
            refreshed.changed += 1;
        }
        Ok(ids)
    }

    /// Brings the ids of cgroups that are exempt or of a class in line with the policies.
    pub(super) fn exempt_ids(
        &self,
        policies: Policies<'_>,
        ids: &BTreeMap<String, u32>,
        refreshed: &mut Refreshed,
    ) -> Result<()> {
        let mut wanted: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let paths: BTreeSet<&String> =
            policies.into_iter().flatten().flat_map(Membership::named_cgroups).collect();
        for path in paths {
            match (self.node.system.inode(&self.node.instance.cgroup_dir(path))?, ids.get(path)) {
                (Some(cgroup), Some(id)) => {
                    wanted.insert(cgroup.to_ne_bytes().to_vec(), id.to_ne_bytes().to_vec());
                }
                _ => refreshed.missing.push(path.clone()),
            }
        }
        refreshed.changed += self.align(&self.maps.exempt_ids, wanted, |_| true)?;
        Ok(())
    }

    /// Brings the exemptions and classes of one slot in line with its policy.
    pub(super) fn exempt(
        &self,
        slot: u32,
        policy: &Membership,
        ids: &BTreeMap<String, u32>,
    ) -> Result<usize> {
        let mut wanted = BTreeMap::new();
        let exempt = policy.exempt_cgroups.iter().map(|(profile, path, source)| (profile.0, path, source.0));
        let classes =
            policy.class_cgroups.iter().map(|(profile, path, part)| (profile.0 | KEY_CLASS, path, *part));
        for (profile, path, value) in exempt.chain(classes) {
            if let Some(&id) = ids.get(path) {
                let key = ExemptKey { path: id.into(), profile, slot };
                wanted.insert(bytemuck::bytes_of(&key).to_vec(), value.to_ne_bytes().to_vec());
            }
        }
        let is_ours =
            |key: &[u8]| bytemuck::try_pod_read_unaligned::<ExemptKey>(key).is_ok_and(|key| key.slot == slot);
        self.align(&self.maps.exempt_cgroups, wanted, is_ours)
    }

    /// Whether a refresh for one policy would remove members.
    pub(crate) fn has_stale(&self, policy: &Membership) -> Result<bool> {
        let (paths, _) = self.cgroups_of(PerSlot::of(0, Some(policy), None))?;
        Ok(files::members(self.node)?.iter().any(|member| is_stale(member, &paths)))
    }
}

/// The cgroup paths that policies name, and whether their processes are members, or exempt or of a class.
fn named(policies: Policies<'_>) -> BTreeMap<String, NamedCgroup> {
    let mut paths: BTreeMap<String, NamedCgroup> = BTreeMap::new();
    for policy in policies.into_iter().flatten() {
        for path in policy.workloads.iter().flat_map(|workload| &workload.selector.cgroups) {
            paths.entry(path.clone()).or_default().member = 1;
        }
        for path in policy.named_cgroups() {
            paths.entry(path.clone()).or_default().exempt = 1;
        }
    }
    paths
}
