//! Who joins, leaves or changes workload when another policy goes live.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::binding;
use mesh_bpf::image::MapImage;
use mesh_bpf::map::Table;
use mesh_bpf::membership::Membership;
use mesh_bpf::tables::TableData;

use crate::error::Result;
use crate::maps::live::{live, names};
use crate::maps::pinned::PinnedMaps;
use crate::member::{Key, Member, Origin};
use crate::members::files;
use crate::members::pod::Labels;
use crate::runtime::Runtime;
use crate::system::System;

/// A member, or what becomes one, whose workload is another under another policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Move {
    /// The pod's name, or the path of a cgroup.
    pub name: String,
    /// The pod's Kubernetes namespace.
    pub namespace: Option<String>,
    /// Its workload under the live policy; none: it joins.
    pub from: Option<String>,
    /// Its workload under the other one; none: it leaves.
    pub to: Option<String>,
}

/// What another policy takes from, and gives to, what is live.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transition {
    /// Members whose workload changes, by name.
    pub moves: Vec<Move>,
    /// Rules with `always` that the other policy has not, with their scopes.
    pub lost_always: Vec<String>,
}

impl<S: System> Runtime<S> {
    /// What changes for members when a policy, which this is the image of, takes the place of the live one. What another
    /// version of meshc applied counts as no policy.
    ///
    /// # Errors
    /// Where the state directory or the kernel cannot be read.
    pub fn transition(&self, next: &MapImage) -> Result<Transition> {
        self.transition_told(next, &BTreeMap::new())
    }

    /// The same, where these namespaces get other labels with it.
    ///
    /// # Errors
    /// As [`Runtime::transition`].
    pub fn transition_told(&self, next: &MapImage, told: &BTreeMap<String, Labels>) -> Result<Transition> {
        let names = self.live_names();
        let before = names.as_ref().and_then(|names| Membership::read(names).ok());
        let bound = names.as_ref().and_then(|names| binding::read(names).ok()).unwrap_or_default();
        let kept = binding::of(next);
        let next = Membership::of(next);
        let mut members = files::members(self.node())?;
        members.extend(self.named_by(&next, &members)?);
        let mut moves: Vec<Move> = (members.iter())
            .filter_map(|member| {
                let from = before.as_ref().and_then(|before| workload(member, before));
                let to = match labels(member, told) {
                    Some(labels) => {
                        workload(&Member { namespace_labels: labels.clone(), ..member.clone() }, &next)
                    }
                    None => workload(member, &next),
                };
                let name = member.cgroup.as_ref().unwrap_or(&member.name).clone();
                (from != to).then(|| Move { name, namespace: member.namespace.clone(), from, to })
            })
            .collect();
        moves.sort();
        Ok(Transition { moves, lost_always: bound.difference(&kept).cloned().collect() })
    }

    /// The table of names of what is live; none where nothing is, or it cannot be read.
    fn live_names(&self) -> Option<TableData> {
        if self.is_by_rulesets() {
            let live = self.live_rulesets().ok()??;
            return Some(live.tables.get(Table::Names).clone());
        }
        let maps = PinnedMaps::open(self.node()).ok()??;
        let live = live(&self.system, &maps).ok()??;
        names(&self.system, &maps, &live).ok()
    }

    /// The cgroups that a policy makes members, and that are none yet.
    fn named_by(&self, policy: &Membership, members: &[Member]) -> Result<Vec<Member>> {
        let selected = members.iter().filter(|member| member.origin == Origin::Selector);
        let known: BTreeSet<&String> = selected.filter_map(|member| member.cgroup.as_ref()).collect();
        let named = policy.workloads.iter().flat_map(|workload| &workload.selector.cgroups);
        let new: BTreeSet<&String> = named.filter(|path| !known.contains(path)).collect();
        let mut found = Vec::new();
        for path in new {
            let id = self.system.inode(&self.instance.cgroup_dir(path))?;
            found.extend(id.map(|id| Member::selected(0, Key::Cgroup(id), path)));
        }
        Ok(found)
    }
}

/// What a pod's namespace is told to have.
fn labels<'t>(member: &Member, told: &'t BTreeMap<String, Labels>) -> Option<&'t Labels> {
    told.get(member.namespace.as_ref().filter(|_| member.origin == Origin::Attached)?)
}

/// The name of its workload; none where two select it, which an apply refuses.
fn workload(member: &Member, policy: &Membership) -> Option<String> {
    member.workload(policy).ok().flatten().map(|workload| workload.name.clone())
}
