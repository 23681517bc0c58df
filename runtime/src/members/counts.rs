//! What was decided for members: the programs count by member and slot, and what members that are none any more had
//! counted is kept here by workload.
//!
//! An entry counts for one workload. It goes when its member leaves, or falls under another workload in its slot: no
//! program counts in a slot that is being filled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use mesh_bpf::abi::{self, CgroupPath, MemberCounts, MemberCountsKey, NamedCgroup, workload_hash};
use serde::{Deserialize, Serialize};

use super::decisions::Decisions;
use super::registry::{Policies, Registry};
use crate::error::Result;
use crate::maps::pinned::PinnedMaps;
use crate::member::{Member, Origin};
use crate::node::Node;
use crate::state::record;
use crate::system::System;

/// Beside the members' files.
const PAST: &str = "past-decisions";

/// An entry: for which workload it counts, and the sums over all processors.
fn counted(value: &[u8]) -> (u64, Decisions) {
    let mut sum = Decisions::default();
    let mut workload = 0;
    for counts in value.chunks_exact(size_of::<MemberCounts>()).map(bytemuck::pod_read_unaligned) {
        sum.add(&Decisions::of(&counts));
        workload = counts.workload;
    }
    (workload, sum)
}

/// What members that are none any more had counted.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Past {
    /// The kernel's id of the map that it comes from: with that it ends.
    map: u32,
    /// By [`workload_hash`].
    workloads: BTreeMap<u64, Decisions>,
}

fn file<S: System>(node: Node<'_, S>) -> PathBuf {
    node.instance.members().join(PAST)
}

fn past<S: System>(node: Node<'_, S>, map: &S::Map) -> Result<Past> {
    let map = node.system.map_info(map)?.id;
    let known = record::read::<Past>(node.system, &file(node))?.filter(|past| past.map == map);
    Ok(known.unwrap_or(Past { map, workloads: BTreeMap::new() }))
}

/// All decisions that were counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    members: BTreeMap<(u32, u64), Decisions>,
    workloads: BTreeMap<u64, Decisions>,
}

impl Counted {
    /// Reads them; `None` where the maps are of a build that did not count.
    pub(crate) fn read<S: System>(node: Node<'_, S>, maps: &PinnedMaps<S>) -> Result<Option<Self>> {
        let Some(map) = &maps.member_counts else { return Ok(None) };
        let mut all = Self { members: BTreeMap::new(), workloads: past(node, map)?.workloads };
        for (key, value) in node.system.entries(map)? {
            let Ok(key) = bytemuck::try_pod_read_unaligned::<MemberCountsKey>(&key) else { continue };
            let (workload, decisions) = counted(&value);
            all.members.entry((key.member, workload)).or_default().add(&decisions);
            all.workloads.entry(workload).or_default().add(&decisions);
        }
        Ok(Some(all))
    }

    /// Those of a member, since it falls under this workload.
    pub(crate) fn of_member(&self, number: u32, workload: &str) -> Decisions {
        self.members.get(&(number, workload_hash(workload))).copied().unwrap_or_default()
    }

    /// Those of a workload: of its members, and of those that were.
    pub(crate) fn of_workload(&self, workload: &str) -> Decisions {
        self.workloads.get(&workload_hash(workload)).copied().unwrap_or_default()
    }
}

impl<S: System> Registry<'_, S> {
    /// Makes the programs count for a member as each policy that is given says: under the workload that its entry names.
    pub(super) fn count(&self, member: &abi::Member, policies: Policies<'_>) -> Result<()> {
        let Some(map) = &self.maps.member_counts else { return Ok(()) };
        for ((slot, policy), &place) in (0u32..).zip(policies).zip(&member.workload) {
            let Some(policy) = policy else { continue };
            let key = MemberCountsKey { member: member.id, slot };
            let workload = policy.workloads.get(place as usize).map(|workload| workload_hash(&workload.name));
            let found = self.node.system.lookup(map, bytemuck::bytes_of(&key))?;
            let before = found.as_deref().map(|value| counted(value).0);
            if before == workload {
                continue;
            }
            if before.is_some() {
                self.retire(map, &key)?;
            }
            let Some(workload) = workload else { continue };
            let none = MemberCounts { workload, ..MemberCounts::default() };
            let made = self.node.system.update(map, bytemuck::bytes_of(&key), bytemuck::bytes_of(&none));
            match made {
                // Who finds no room is a member all the same, and what is not counted is.
                Err(cause) if cause.errno() == Some(libc::E2BIG) => {}
                made => made?,
            }
        }
        Ok(())
    }

    /// Counts no more for a member that left. The counts of a cgroup that a policy names are those of its path: it may
    /// be made again at any time.
    pub(super) fn count_no_more(&self, number: u32, member: Option<&Member>) -> Result<()> {
        let Some(map) = &self.maps.member_counts else { return Ok(()) };
        let path = member.filter(|member| member.origin == Origin::Selector);
        let path = path.and_then(|member| member.cgroup.as_deref());
        if path.and_then(CgroupPath::of).is_none() {
            self.retire_both(map, number)?;
        }
        Ok(())
    }

    /// The same of a path that no policy names any more.
    pub(super) fn count_no_path(&self, number: u32) -> Result<()> {
        self.maps.member_counts.as_ref().map_or(Ok(()), |map| self.retire_both(map, number))
    }

    fn retire_both(&self, map: &S::Map, member: u32) -> Result<()> {
        for slot in [0, 1] {
            self.retire(map, &MemberCountsKey { member, slot })?;
        }
        Ok(())
    }

    /// Adds what an entry counted to what is past of its workload. Whoever is killed before that is kept loses it.
    fn retire(&self, map: &S::Map, key: &MemberCountsKey) -> Result<()> {
        let Some(value) = self.node.system.lookup(map, bytemuck::bytes_of(key))? else { return Ok(()) };
        self.node.system.delete(map, bytemuck::bytes_of(key))?;
        let (workload, decisions) = counted(&value);
        if decisions != Decisions::default() {
            self.left.borrow_mut().entry(workload).or_default().add(&decisions);
        }
        Ok(())
    }

    /// Keeps what members that left had counted: once a command, however many they are.
    fn keep_past(&self, wanted: Option<&BTreeSet<u64>>) -> Result<()> {
        let left = self.left.take();
        let Some(map) = self.maps.member_counts.as_ref().filter(|_| !left.is_empty() || wanted.is_some())
        else {
            return Ok(());
        };
        let mut past = past(self.node, map)?;
        let before = past.workloads.len();
        for (workload, decisions) in &left {
            past.workloads.entry(*workload).or_default().add(decisions);
        }
        if let Some(wanted) = wanted {
            past.workloads.retain(|workload, _| wanted.contains(workload));
        }
        if !left.is_empty() || past.workloads.len() < before {
            record::write(self.node.system, &file(self.node), &past, false)?;
        }
        Ok(())
    }

    /// Forgets what nobody asks for: entries of members that a killed command did not finish, and what is past of
    /// workloads that neither policy has.
    pub(super) fn tidy_counts(&self, policies: Policies<'_>) -> Result<()> {
        let (Some(map), system) = (&self.maps.member_counts, self.node.system) else { return Ok(()) };
        let mut numbers = BTreeSet::new();
        for entries in [&self.maps.endpoints, &self.maps.cgroups] {
            let members = system.entries(entries)?.into_iter();
            let members = members.filter_map(|(_, value)| bytemuck::try_pod_read_unaligned(&value).ok());
            numbers.extend(members.map(|member: abi::Member| member.id));
        }
        let paths = system.entries(&self.maps.cgroup_paths)?.into_iter();
        let paths = paths.filter_map(|(_, value)| bytemuck::try_pod_read_unaligned(&value).ok());
        numbers.extend(paths.map(|path: NamedCgroup| path.becomes.id));
        for (key, _) in system.entries(map)? {
            let Ok(key) = bytemuck::try_pod_read_unaligned::<MemberCountsKey>(&key) else { continue };
            if !numbers.contains(&key.member) {
                self.retire(map, &key)?;
            }
        }
        let policies: Vec<_> = policies.into_iter().flatten().collect();
        if policies.len() < 2 {
            return Ok(());
        }
        let workloads = policies.iter().flat_map(|policy| &policy.workloads);
        let wanted: BTreeSet<u64> = workloads.map(|workload| workload_hash(&workload.name)).collect();
        self.keep_past(Some(&wanted))
    }
}

impl<S: System> Drop for Registry<'_, S> {
    fn drop(&mut self) {
        // Ignored: a command that did what it was asked for does not fail for what was counted before.
        drop(self.keep_past(None));
    }
}
