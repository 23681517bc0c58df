//! A command as a member of the mesh, in a cgroup of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use mesh_bpf::map::Table;

use crate::attach::inbound;
use crate::error::{Error, Result};
use crate::generation::session;
use crate::generation::session::membership;
use crate::instance::Instance;
use crate::maps::set::Set;
use crate::maps::slot;
use crate::members::registry::{self, Key, Member, Origin, Registry};
use crate::runtime::Runtime;
use crate::state::lock::lock;
use crate::system::linux::Kernel;
use crate::system::{Fault, Process, Store};

/// A cgroup whose processes are members of a workload.
#[derive(Debug)]
pub struct Joined {
    /// Its folder.
    pub cgroup: PathBuf,
    key: Key,
}

impl<S: Store> Runtime<S> {
    /// Makes a cgroup whose processes are members of a workload of the live policy. [`Runtime::leave`]
    /// removes it; where that never happens, the next command does, once this process has ended and the
    /// cgroup is empty.
    ///
    /// # Errors
    /// Where no policy is live, or it has no such workload.
    pub fn join(&self, workload: &str) -> Result<Joined> {
        let (store, instance) = (&self.store, &self.instance);
        let maps = instance.maps();
        let _lock = lock(store, instance, &self.options, &maps, false)?.ok_or(Error::NoPolicy)?;
        let set = Set::open(store, instance)?.ok_or(Error::NoPolicy)?;
        let live = session::live(store, &set)?.ok_or(Error::NoPolicy)?;
        let policy = membership(store, &set, &live)?;
        if policy.workload(workload).is_none() {
            let known = policy.workloads.iter().map(|workload| workload.name.clone()).collect();
            return Err(Error::UnknownWorkload { name: workload.into(), known });
        }
        let registry = Registry { store, instance, set: &set };
        registry.recover()?;
        sweep(&registry)?;
        registry::make_folder(store, instance)?;
        let id = registry::new_id(store, instance)?;
        let process = store.this_process();
        let cgroup =
            instance.cgroup.join(format!("{}{}-{}-{id}", prefix(instance), process.pid, process.start));
        store.make_folder(&cgroup)?;
        let number = store.inode(&cgroup)?.ok_or_else(|| Error::NotACgroup(cgroup.clone()))?;
        let key = Key::Cgroup(number);
        let origin = Origin::Run { workload: workload.into(), process };
        let member = member(instance, id, key, origin, &cgroup);
        registry.join(&member, crate::commands::apply::in_slot(live.slot(), Some(&policy), None))?;
        let profiles = slot::read_table(store, &set, live.slot(), &live.manifest, Table::Profiles)?;
        let member = [member];
        if inbound::is_for_host(&profiles, &policy, &member) {
            let has_rules = || inbound::rules_are_for_host(&profiles, &policy, &member);
            inbound::attach_host_for_command(store, instance, &set.control, has_rules)?;
        }
        Ok(Joined { cgroup, key })
    }

    /// Removes what [`Runtime::join`] made. Its processes have ended.
    ///
    /// # Errors
    /// What the kernel says; the next command tries again.
    pub fn leave(&self, joined: &Joined) -> Result<()> {
        let (store, instance) = (&self.store, &self.instance);
        // After `detach --all` there is no registry to leave.
        if let Some(_lock) = lock(store, instance, &self.options, &instance.maps(), false)?
            && let Some(set) = Set::open(store, instance)?
        {
            let registry = Registry { store, instance, set: &set };
            registry.recover()?;
            registry.leave(joined.key)?;
            leave_host(&registry)?;
        } else {
            store.remove(&instance.members().join(joined.key.to_string()))?;
        }
        Ok(store.remove_folder(&joined.cgroup)?)
    }
}

impl Runtime<Kernel> {
    /// Starts a command as a member of a workload, with our standard streams.
    ///
    /// # Errors
    /// As [`Runtime::join`]; or where the command cannot be started.
    pub fn start(&self, joined: &Joined, command: Command) -> Result<Child> {
        Ok(self.store.spawn_in(command, &joined.cgroup)?)
    }

    /// Runs a command as a member of a workload until it ends. What it leaves running in the background
    /// stays a member until that has ended too.
    ///
    /// # Errors
    /// As [`Runtime::start`].
    pub fn run(&self, workload: &str, command: Command) -> Result<ExitStatus> {
        let joined = self.join(workload)?;
        let status = self.start(&joined, command).and_then(|mut child| {
            Ok(child.wait().map_err(|cause| Fault::new("waiting for", workload, cause))?)
        });
        if !self.store.is_populated(&joined.cgroup)? {
            self.leave(&joined)?;
        }
        status
    }
}

/// Takes the host's program away where no command and no service of the live policy needs it. The registry's lock is
/// held.
pub(crate) fn leave_host<S: Store>(registry: &Registry<'_, S>) -> Result<()> {
    let Registry { store, instance, set } = *registry;
    if set.control.load(store).host == 0 {
        return Ok(());
    }
    let Some(live) = session::live(store, set)? else { return Ok(()) };
    let policy = membership(store, set, &live)?;
    let profiles = slot::read_table(store, set, live.slot(), &live.manifest, Table::Profiles)?;
    if inbound::is_for_host(&profiles, &policy, &registry::members_by_cgroup(store, instance)?) {
        return Ok(());
    }
    inbound::detach_host(store, instance, &set.control)
}

fn prefix(instance: &Instance) -> String {
    format!("meshc-{}-", instance.name)
}

fn member(instance: &Instance, id: u32, key: Key, origin: Origin, cgroup: &Path) -> Member {
    Member {
        id,
        key,
        origin,
        name: cgroup.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        namespace: None,
        labels: BTreeMap::new(),
        service_account: None,
        annotations: BTreeMap::new(),
        addresses: Vec::new(),
        followed: None,
        netns: None,
        sources: None,
        sandbox: None,
        cgroup: Some(instance.cgroup_path(cgroup)),
    }
}

/// The cgroups of commands whose maker has ended and in which nothing lives, with their ids.
fn dead(store: &impl Store, instance: &Instance) -> Result<Vec<(PathBuf, u64)>> {
    let mut dead = Vec::new();
    let prefix = prefix(instance);
    for name in store.list(&instance.cgroup)?.unwrap_or_default() {
        let Some(process) = name.strip_prefix(&prefix).and_then(maker) else { continue };
        let folder = instance.cgroup.join(&name);
        if !store.is_alive(process)
            && !store.is_populated(&folder)?
            && let Some(id) = store.inode(&folder)?
        {
            dead.push((folder, id));
        }
    }
    Ok(dead)
}

/// `PID-START-ID`
fn maker(rest: &str) -> Option<Process> {
    let mut numbers = rest.split('-');
    let process = Process { pid: numbers.next()?.parse().ok()?, start: numbers.next()?.parse().ok()? };
    numbers.next()?.parse::<u32>().ok()?;
    numbers.next().is_none().then_some(process)
}

/// Unregisters and removes the cgroups of commands that were killed. The registry's lock is held.
pub(crate) fn sweep<S: Store>(registry: &Registry<'_, S>) -> Result<()> {
    for (folder, id) in dead(registry.store, registry.instance)? {
        registry.leave(Key::Cgroup(id))?;
        registry.store.remove_folder(&folder)?;
    }
    Ok(())
}

/// The same where nothing is registered any more.
pub(crate) fn sweep_cgroups<S: Store>(store: &S, instance: &Instance) -> Result<()> {
    for (folder, id) in dead(store, instance)? {
        store.remove(&instance.members().join(Key::Cgroup(id).to_string()))?;
        store.remove_folder(&folder)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_cgroups_tell_who_made_them() {
        assert_eq!(maker("12-345-6"), Some(Process { pid: 12, start: 345 }));
        for other in ["12-345", "12-345-6-7", "x-345-6", "12-345-x"] {
            assert_eq!(maker(other), None, "{other}");
        }
    }
}
