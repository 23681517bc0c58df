//! Where a process lives: its namespace, its cgroup, its user.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::process::Command;
use std::sync::Arc;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use crate::{Cgroup, Netns, netns, raw};

/// Where a process lives. What is not named stays as it is for the test.
#[derive(Clone, Debug, Default)]
pub struct Place {
    netns: Option<Arc<File>>,
    cgroup: Option<Arc<File>>,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Place {
    /// Where the test itself lives.
    pub fn here() -> Self {
        Self::default()
    }

    /// In this network namespace.
    #[must_use]
    pub fn netns(mut self, netns: &Netns) -> Self {
        self.netns = Some(netns.handle());
        self
    }

    /// In this cgroup.
    #[must_use]
    pub fn cgroup(mut self, cgroup: &Cgroup) -> Self {
        self.cgroup = Some(cgroup.members());
        self
    }

    /// As this user, without further groups.
    #[must_use]
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// As this group, without further groups.
    #[must_use]
    pub fn gid(mut self, gid: u32) -> Self {
        self.gid = Some(gid);
        self
    }

    /// A command that will run here, from its first instruction on.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let place = self.clone();
        raw::before_exec(&mut command, move || place.enter());
        command
    }

    /// Moves the calling process here; it must have one thread, as after a fork.
    ///
    /// System calls only, so that it may run between fork and exec. The user comes last: it would not be
    /// allowed the rest.
    pub(crate) fn enter(&self) -> io::Result<()> {
        if let Some(members) = &self.cgroup {
            (&**members).write_all(b"0")?;
        }
        if let Some(handle) = &self.netns {
            netns::enter(handle)?;
        }
        if self.uid.is_some() || self.gid.is_some() {
            set_thread_groups(&[])?;
        }
        if let Some(gid) = self.gid {
            set_thread_gid(Gid::from_raw(gid))?;
        }
        if let Some(uid) = self.uid {
            set_thread_uid(Uid::from_raw(uid))?;
        }
        Ok(())
    }
}

/// Moves the calling process, which must have one thread, into a user namespace of its own. It is nobody there until somebody
/// writes its `uid_map`.
///
/// # Errors
/// If the kernel makes none.
pub fn leave_users() -> io::Result<()> {
    Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)?)
}

/// Makes the calling process, which must have one thread, act as a user of its namespace; as root it may go on to others.
///
/// # Errors
/// If it is not root there.
pub fn act_as(user: u32) -> io::Result<()> {
    let root = Uid::ROOT;
    rustix::thread::set_thread_res_uid(root, root, root)?;
    Ok(rustix::thread::set_thread_res_uid(root, Uid::from_raw(user), root)?)
}
