//! A command as a member of the mesh, in a cgroup of its own.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};

use mesh_bpf::map::Table;

use crate::attach::host;
use crate::error::{Error, Result};
use crate::generation::host as host_program;
use crate::maps::live::{self, membership};
use crate::maps::pinned::PinnedMaps;
use crate::maps::slot::{self, PerSlot};
use crate::member::Key;
use crate::members::registry::Registry;
use crate::members::{command_cgroups, files};
use crate::runtime::Runtime;
use crate::state::lock::lock;
use crate::system::linux::Kernel;
use crate::system::{Files, SysError, System};

/// A cgroup whose processes are members of a workload.
#[derive(Debug)]
pub struct Joined {
    /// Its directory.
    pub cgroup: PathBuf,
    pub(super) key: Key,
}

impl<S: System> Runtime<S> {
    /// Makes a cgroup whose processes are members of a workload of the live policy. [`Runtime::leave`]
    /// removes it; where that never happens, the next command does, once this process has ended and the
    /// cgroup is empty.
    ///
    /// # Errors
    /// Where no policy is live, or it has no such workload.
    pub fn join(&self, workload: &str) -> Result<Joined> {
        if self.is_by_rulesets() {
            return self.join_rulesets(workload);
        }
        let node = self.node();
        let _lock = lock(node, &node.instance.maps(), self.options.lock_timeout)?.ok_or(Error::NoPolicy)?;
        let maps = PinnedMaps::open(node)?.ok_or(Error::NoPolicy)?;
        let live = live::live(node.system, &maps)?.ok_or(Error::NoPolicy)?;
        let policy = membership(node.system, &maps, &live)?;
        if policy.workload(workload).is_none() {
            let known = policy.workloads.iter().map(|workload| workload.name.clone()).collect();
            return Err(Error::UnknownWorkload { name: workload.into(), known });
        }
        if !node.is_cgroup()? {
            return Err(Error::NotACgroup(node.instance.cgroup.clone()));
        }
        let registry = Registry::new(node, &maps);
        registry.recover()?;
        command_cgroups::sweep(&registry)?;
        files::create_dir(node)?;
        let (cgroup, member) = command_cgroups::make(node, workload)?;
        let key = member.key;
        registry.join(&member, PerSlot::of(live.slot(), Some(&policy), None))?;
        let profiles = slot::read_table(node.system, &maps, live.slot(), &live.manifest, Table::Profiles)?;
        let member = [member];
        if host::is_wanted(&profiles, &policy, &member) {
            let has_rules = || host::rules_want_it(&profiles, &policy, &member);
            host::attach_for_command(node, &maps.control, has_rules)?;
        }
        Ok(Joined { cgroup, key })
    }

    /// Removes what [`Runtime::join`] made. Its processes have ended.
    ///
    /// # Errors
    /// What the kernel says; the next command tries again.
    pub fn leave(&self, joined: &Joined) -> Result<()> {
        if self.is_by_rulesets() {
            return self.leave_rulesets(joined);
        }
        let node = self.node();
        // After `detach --all` there is no registry to leave.
        if let Some(_lock) = lock(node, &node.instance.maps(), self.options.lock_timeout)?
            && let Some(maps) = PinnedMaps::open(node)?
        {
            let registry = Registry::new(node, &maps);
            registry.recover()?;
            registry.leave(joined.key)?;
            host_program::leave(&registry)?;
        } else {
            node.system.remove(&node.instance.members().join(joined.key.to_string()))?;
        }
        Ok(node.system.remove_dir(&joined.cgroup)?)
    }
}

impl Runtime<Kernel> {
    /// Starts a command as a member of a workload, with our standard streams.
    ///
    /// # Errors
    /// As [`Runtime::join`]; or where the command cannot be started.
    pub fn start(&self, joined: &Joined, command: Command) -> Result<Child> {
        let program = command.get_program().to_string_lossy().into_owned();
        self.system.spawn_in(command, &joined.cgroup).map_err(|cause| match cause.errno() {
            // Nothing of that name, or nothing that may be executed.
            Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::ENOEXEC) => {
                Error::CannotRun { program, cause: cause.source }
            }
            _ => cause.into(),
        })
    }

    /// Runs a command as a member of a workload until it ends. What it leaves running in the background
    /// stays a member until that has ended too.
    ///
    /// # Errors
    /// As [`Runtime::start`].
    pub fn run(&self, workload: &str, command: Command) -> Result<ExitStatus> {
        let joined = self.join(workload)?;
        let status = self.start(&joined, command).and_then(|mut child| {
            Ok(child.wait().map_err(|cause| SysError::new("waiting for", workload, cause))?)
        });
        if !self.system.is_populated(&joined.cgroup)? {
            self.leave(&joined)?;
        }
        status
    }
}
