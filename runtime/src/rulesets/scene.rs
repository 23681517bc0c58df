//! What a ruleset depends on beside the policy: who is in a namespace, and by which numbers they are known there.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mesh_bpf::abi::NO_PROFILE;
use mesh_bpf::image::ProfileId;
use mesh_bpf::map::Table;
use mesh_bpf::membership::Membership;
use mesh_bpf::tables::Tables;
use mesh_nft::{Cgroup, Resident, Ruleset, Scene};

use crate::error::{Error, Result};
use crate::member::{Key, Member, Origin};
use crate::members::{files, node_addresses};
use crate::node::Node;
use crate::system::System;

/// A policy with what the node says of it.
pub(crate) struct Stage<'a> {
    pub(crate) tables: &'a Tables,
    pub(crate) membership: &'a Membership,
    node: BTreeSet<IpAddr>,
    cgroups: BTreeMap<String, Cgroup>,
    /// The cgroups of members, by path.
    members: BTreeMap<String, Cgroup>,
    /// Paths that the policy names and that are not there.
    pub(crate) missing: Vec<String>,
    /// What was proved already.
    proved: RefCell<Vec<Scene>>,
}

impl<'a> Stage<'a> {
    pub(crate) fn new<S: System>(
        node: Node<'_, S>,
        tables: &'a Tables,
        membership: &'a Membership,
    ) -> Result<Self> {
        let asks = node_addresses::are_asked(tables.get(Table::Profiles));
        let own = if asks { node_addresses::found(node.system)? } else { BTreeSet::new() };
        let members = membership.workloads.iter().flat_map(|workload| &workload.selector.cgroups);
        let mut missing = BTreeSet::new();
        let cgroups = found(node, membership.named_cgroups(), &mut missing)?;
        let members = found(node, members, &mut missing)?;
        let (missing, proved) = (missing.into_iter().collect(), RefCell::default());
        Ok(Self { tables, membership, node: own, cgroups, members, missing, proved })
    }

    /// Proves that the ruleset of a namespace decides as the policy; once for each scene.
    pub(crate) fn prove(&self, scene: &Scene, ruleset: &Ruleset, namespace: &str) -> Result<()> {
        if !self.proved.borrow().contains(scene) {
            mesh_nft::prove(self.tables, scene, ruleset).map_err(|found| Error::Unproved {
                namespace: namespace.to_owned(),
                what: found.to_string(),
            })?;
            self.proved.borrow_mut().push(scene.clone());
        }
        Ok(())
    }

    /// The cgroups of members that the policy names, by path with their ids.
    pub(crate) fn member_cgroups(&self) -> impl Iterator<Item = (&String, u64)> {
        self.members.iter().map(|(path, cgroup)| (path, cgroup.id))
    }

    fn around(&self, residents: Vec<Resident>) -> Scene {
        Scene { residents, node: self.node.clone(), cgroups: self.cgroups.clone(), ..Scene::default() }
    }

    /// That of a pod; `None` where no workload selects it.
    pub(crate) fn pod(&self, member: &Member) -> Result<Option<Scene>> {
        let (profile, _) = member.profile(Some(self.membership))?;
        let own = member.own().iter().map(IpAddr::to_canonical).collect();
        let resident = Resident { profile: ProfileId(profile), own, cgroup: None };
        Ok((profile != NO_PROFILE).then(|| self.around(vec![resident])))
    }

    /// That of the host.
    pub(crate) fn host<S: System>(&self, node: Node<'_, S>) -> Result<Scene> {
        let mut residents = Vec::new();
        for (path, &cgroup) in &self.members {
            let member = Member::selected(0, Key::Cgroup(cgroup.id), path);
            residents.push((member.profile(Some(self.membership))?.0, cgroup));
        }
        for member in files::members_by_cgroup(node)? {
            let (Origin::Run { .. }, Key::Cgroup(id), Some(path)) =
                (&member.origin, member.key, &member.cgroup)
            else {
                continue;
            };
            if node.system.inode(&node.instance.cgroup_dir(path))? == Some(id) {
                residents.push((member.profile(Some(self.membership))?.0, Cgroup { level: level(path), id }));
            }
        }
        residents.retain(|(profile, _)| *profile != NO_PROFILE);
        residents.sort_by_key(|(_, cgroup)| *cgroup);
        let residents = residents.into_iter();
        let residents = residents.map(|(profile, cgroup)| Resident {
            profile: ProfileId(profile),
            own: BTreeSet::new(),
            cgroup: Some(cgroup),
        });
        Ok(self.around(residents.collect()))
    }
}

/// The cgroups that are there of those with these paths.
fn found<'p, S: System>(
    node: Node<'_, S>,
    paths: impl Iterator<Item = &'p String>,
    missing: &mut BTreeSet<String>,
) -> Result<BTreeMap<String, Cgroup>> {
    let mut found = BTreeMap::new();
    for path in paths.collect::<BTreeSet<_>>() {
        match node.system.inode(&node.instance.cgroup_dir(path))? {
            Some(id) => drop(found.insert(path.clone(), Cgroup { level: level(path), id })),
            None => drop(missing.insert(path.clone())),
        }
    }
    Ok(found)
}

/// How many parts a path has: the root has none.
fn level(path: &str) -> u32 {
    path.split('/').filter(|part| !part.is_empty()).fold(0, |level, _| level + 1)
}
