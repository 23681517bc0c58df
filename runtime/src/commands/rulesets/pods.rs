//! Pods come and go: a pod has its ruleset before it is a member.

use std::collections::BTreeMap;

use crate::commands::failed;
use crate::commands::namespaces::relabel_with;
use crate::commands::pods::rest;
use crate::commands::transition::Move;
use crate::drift::PodFault;
use crate::error::Result;
use crate::member::{Key, Member};
use crate::members::pod::{Labels, Pod, PodAttached, PodSelector};
use crate::members::{addresses, files, node_addresses};
use crate::rulesets::live::Live;
use crate::rulesets::load::{self, Version};
use crate::rulesets::registry;
use crate::rulesets::scene::Stage;
use crate::rulesets::session::Session;
use crate::rulesets::target::Target;
use crate::runtime::Runtime;
use crate::state::record;
use crate::system::System;

impl<S: System> Runtime<S> {
    pub(crate) fn attach_rulesets(&self, pod: &Pod, key: Key, deadline: u64) -> Result<PodAttached> {
        let node = self.node();
        let session = Session::create(node, &self.options)?;
        self.in_time(deadline)?;
        let live = session.live()?;
        let member = self.member(pod, key)?;
        let workload = self.put_rulesets(&member, live.as_ref())?;
        failed::attached(node, pod)?;
        Ok(PodAttached { key, workload })
    }

    /// Registers a member as what is live wants it, or leaves it what it was. Returns its workload.
    fn put_rulesets(&self, member: &Member, live: Option<&Live>) -> Result<Option<String>> {
        let node = self.node();
        let workload = live.map_or(Ok(None), |live| member.workload(&live.membership))?;
        let workload = workload.map(|workload| workload.name.clone());
        match live {
            Some(_) => registry::join(node, member, live).inspect_err(|_| drop(registry::recover(node)))?,
            // What is live next finds it.
            None => record::write(node.system, &files::place(node, member.key), member, false)?,
        }
        Ok(workload)
    }

    pub(crate) fn detach_pod_rulesets(&self, which: &PodSelector, deadline: u64) -> Result<bool> {
        let node = self.node();
        let session = Session::begin(node, &self.options)?;
        self.in_time(deadline)?;
        if let PodSelector::Container { container, .. } = which {
            failed::gone(node, container)?;
        }
        let Some(member) = self.find(which)? else { return Ok(false) };
        let live = session.as_ref().map_or(Ok(None), |_| registry::live_if_kept(node))?;
        match rest(which, &member) {
            Some(rest) => drop(self.put_rulesets(&rest, live.as_ref())?),
            None => {
                files::create_dir(node)?;
                registry::leave(node, member.key)?;
            }
        }
        Ok(true)
    }

    pub(crate) fn label_namespaces_rulesets(&self, told: &BTreeMap<String, Labels>) -> Result<Vec<Move>> {
        let node = self.node();
        let session = Session::create(node, &self.options)?;
        let live = session.live()?;
        let put = |member: &Member| self.put_rulesets(member, live.as_ref()).map(drop);
        let recover = || registry::recover(node);
        relabel_with(node, live.as_ref().map(|live| &live.membership), told, false, (put, recover))
    }

    /// In what a pod that is registered is not as it should be.
    pub(crate) fn check_rulesets(&self, member: &Member) -> Result<Vec<PodFault>> {
        let node = self.node();
        let Some(live) = crate::rulesets::live::live(node)? else { return Ok(Vec::new()) };
        let Some(target) = Target::of(node, member)? else { return Ok(Vec::new()) };
        let stage = Stage::new(node, &live.tables, &live.membership)?;
        let Some(scene) = stage.pod(member)? else { return Ok(Vec::new()) };
        let fault = load::fault(node, &target, &scene, (&live.tables, Version::of_live(&live)))?;
        Ok(fault
            .map(|fault| PodFault::from(super::status::drift_of(&target.name, fault)))
            .into_iter()
            .collect())
    }

    pub(crate) fn follow_rulesets(&self, key: Key) -> Result<bool> {
        let node = self.node();
        let Some(_session) = Session::begin(node, &self.options)? else { return Ok(false) };
        let Some(member) = self.find(&PodSelector::Key(key))? else { return Ok(false) };
        let Some(member) = addresses::moved(node.system, &member)? else { return Ok(false) };
        let live = registry::live_if_kept(node)?;
        self.put_rulesets(&member, live.as_ref())?;
        Ok(true)
    }

    /// Brings rules about the node in line with its addresses: whether they were not, or `None` where there are none.
    pub(crate) fn follow_node_rulesets(&self) -> Result<Option<bool>> {
        let Some(session) = Session::begin(self.node(), &self.options)? else { return Ok(None) };
        let Some(live) = registry::live_if_kept(session.node)? else { return Ok(None) };
        if !node_addresses::are_asked(live.tables.get(mesh_bpf::map::Table::Profiles)) {
            return Ok(None);
        }
        Ok(Some(crate::rulesets::namespaces::align(session.node, &live)?.changed > 0))
    }
}
