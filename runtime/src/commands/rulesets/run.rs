//! A command as a member: its cgroup is in the host's ruleset.

use crate::commands::run::Joined;
use crate::error::{Error, Result};
use crate::members::{command_cgroups, files};
use crate::rulesets::registry;
use crate::rulesets::session::Session;
use crate::runtime::Runtime;
use crate::state::record;
use crate::system::System;

impl<S: System> Runtime<S> {
    pub(crate) fn join_rulesets(&self, workload: &str) -> Result<Joined> {
        let node = self.node();
        let session = Session::begin(node, &self.options)?.ok_or(Error::NoPolicy)?;
        let live = session.live()?.ok_or(Error::NoPolicy)?;
        if live.membership.workload(workload).is_none() {
            let known = live.membership.workloads.iter().map(|workload| workload.name.clone()).collect();
            return Err(Error::UnknownWorkload { name: workload.into(), known });
        }
        if !node.is_cgroup()? {
            return Err(Error::NotACgroup(node.instance.cgroup.clone()));
        }
        let (cgroup, member) = command_cgroups::make(node, workload)?;
        let key = member.key;
        // The host's ruleset is made of these files. Whoever is killed now starts no command.
        record::write(node.system, &files::place(node, key), &member, false)?;
        if let Err(error) = registry::bring_host(node, &live) {
            let _ = registry::leave(node, key);
            let _ = node.system.remove_dir(&cgroup);
            return Err(error);
        }
        Ok(Joined { cgroup, key })
    }

    pub(crate) fn leave_rulesets(&self, joined: &Joined) -> Result<()> {
        let node = self.node();
        match Session::begin(node, &self.options)? {
            Some(_session) => registry::leave(node, joined.key)?,
            None => node.system.remove(&files::place(node, joined.key))?,
        }
        Ok(node.system.remove_dir(&joined.cgroup)?)
    }
}
