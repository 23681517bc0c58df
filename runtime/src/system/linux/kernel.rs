//! The machine that we run on.

use std::borrow::Cow;
use std::fs;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;

use mesh_bpf::map::EVENT;
use mesh_bpf::program::{Inbound, OBJECT};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::time::{ClockId, clock_gettime};

use super::address_changes::Changes;
use super::enter::open_netns;
use super::map::KernelMap;
use super::prefetch::{make, wait};
use super::ring::Ring;
use super::step::{at, on};
use super::syscall::{self, RecentPlaces, Watches};
use crate::system::{Maps, Prepared, SysError, SysResult};

/// The kernel that we run on.
#[derive(Debug)]
pub struct Kernel {
    pub(super) cpus: Option<usize>,
    pub(super) programs: Cow<'static, [u8]>,
}

impl Default for Kernel {
    fn default() -> Self {
        Self::new()
    }
}

impl Kernel {
    /// The kernel that we run on.
    #[must_use]
    pub fn new() -> Self {
        Self { cpus: possible_cpus(), programs: Cow::Borrowed(OBJECT) }
    }

    /// The kernel that we run on, with programs of another build: an object file.
    #[must_use]
    pub fn with_programs(object: Vec<u8>) -> Self {
        Self { programs: Cow::Owned(object), ..Self::new() }
    }

    /// Begins to make the maps and programs of a first apply.
    pub(crate) fn make_ahead(&self, by: Inbound) -> Prepared<Self> {
        let programs = self.programs.clone();
        Prepared::making(thread::Builder::new().spawn(move || make(&programs, by)))
    }

    /// Begins to wait for the programs that run now.
    #[expect(clippy::unused_self, reason = "every effect on the kernel goes through it")]
    pub(crate) fn wait_ahead(&self, maps: &Path) -> Prepared<Self> {
        wait(maps).map_or_else(Prepared::default, Prepared::waiting)
    }

    /// Starts a command in a cgroup of the version 2 hierarchy.
    ///
    /// # Errors
    /// Where the cgroup cannot be joined or the command cannot be started.
    pub fn spawn_in(&self, command: Command, cgroup: &Path) -> SysResult<Child> {
        let name = command.get_program().to_string_lossy().into_owned();
        let procs = cgroup.join("cgroup.procs");
        let procs = at("opening", &procs, File::options().write(true).open(&procs))?;
        syscall::spawn_in(command, procs.into()).map_err(|cause| SysError::new("starting", name, cause))
    }

    /// Changes of the addresses of a network namespace, after making sure that the file still stands for the one with
    /// this cookie.
    ///
    /// # Errors
    /// What the kernel says; `ESTALE` where it is another.
    pub fn changes(&self, netns: &Path, cookie: u64) -> SysResult<Changes> {
        let file = at("opening", netns, open_netns(netns, cookie))?;
        at("listening to the addresses of", netns, Changes::of(&file))
    }

    /// The watches, mapped.
    pub(crate) fn watches(&self, map: &KernelMap) -> SysResult<Watches> {
        on("mapping the map", &map.info.name, Watches::new(map.fd.as_fd()))
    }

    /// The last decisions, mapped.
    pub(crate) fn recent_places(&self, map: &KernelMap) -> SysResult<RecentPlaces> {
        on("mapping the map", &map.info.name, RecentPlaces::new(map.fd.as_fd()))
    }

    /// A new ring buffer of this many bytes, and its reading end.
    pub(crate) fn ring(&self, bytes: u32) -> SysResult<(KernelMap, Ring)> {
        let map = self.create_map(&EVENT, bytes, None)?;
        let ring = on("mapping the map", EVENT.name, Ring::new(map.fd.as_fd()))?;
        Ok((map, ring))
    }

    /// Puts one map into a map of maps.
    pub(crate) fn put_map(&self, outer: &KernelMap, index: u32, map: &KernelMap) -> SysResult<()> {
        let fd = map.fd.as_raw_fd();
        self.update(outer, &index.to_ne_bytes(), &fd.to_ne_bytes())
    }

    /// Nanoseconds since boot, sleep included, as the programs count them.
    pub(crate) fn nanoseconds(&self) -> u64 {
        let now = clock_gettime(ClockId::Boottime);
        now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
    }

    /// Microseconds since 1970 at the boot, as the wall clock has it now.
    pub(crate) fn booted(&self) -> u64 {
        let now = clock_gettime(ClockId::Realtime);
        let now = now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000;
        now.saturating_sub(self.nanoseconds() / 1_000)
    }

    /// What can be read once this process was asked to end.
    pub(crate) fn endings(&self) -> SysResult<OwnedFd> {
        on("taking over", "SIGINT and SIGTERM", endings())
    }
}

/// Where the kernel says how many CPUs there may ever be.
pub(super) const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

/// How many CPUs there may ever be: the values of maps per CPU have that many parts, and the kernel writes all of them.
/// `None` where it does not say.
fn possible_cpus() -> Option<usize> {
    cpus_in(&fs::read_to_string(POSSIBLE_CPUS).ok()?)
}

/// How many numbers a list such as `0-3,8` has. Counted from 0, so that it is never less than the kernel's own count.
fn cpus_in(list: &str) -> Option<usize> {
    let last = list.trim().rsplit(['-', ',']).next()?.parse::<usize>().ok()?;
    last.checked_add(1)
}

/// From now on these signals do not end this process.
fn endings() -> io::Result<OwnedFd> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    signals.thread_block()?;
    Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?.into())
}
