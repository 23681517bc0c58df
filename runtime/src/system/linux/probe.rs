//! What only a look at a machine needs: file systems that nobody sees.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya_obj::generated::bpf_map_info;
use mesh_bpf::map::MapDef;
use mesh_bpf::program::{Hook, OBJECT};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::kernel::Kernel;
use super::load::{Tried, pinned, try_load};
use super::map::KernelMap;
use super::new_network::LOOPBACK;
use super::step::on;
use super::syscall;
use crate::system::{Maps, SysResult};

/// A mounted file system without a place: nobody else sees it, and it goes with its descriptor. Minimum kernel 5.2.
#[derive(Debug)]
pub(crate) struct Detached(OwnedFd);

impl Detached {
    /// An empty one of a type.
    pub(crate) fn new(kind: &str) -> io::Result<Self> {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(context.as_fd())?;
        let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        Ok(Self(mount))
    }

    /// Its root, for this process.
    pub(crate) fn root(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

impl Kernel {
    /// Every program, or why the kernel refuses it; maps by their pins.
    pub(crate) fn try_programs(&self, maps: &Path) -> SysResult<Tried> {
        try_load(OBJECT, &pinned(maps))
    }

    /// Whether the kernel lets this process use objects that it has: it looks at the descriptor, which is none of
    /// an object, only where it does.
    #[expect(clippy::unused_self, reason = "every effect on the kernel goes through it")]
    pub(crate) fn may_use_pins(&self) -> bool {
        let Ok(file) = std::fs::File::open("/dev/null") else { return false };
        syscall::info::<bpf_map_info>(file.as_fd())
            .is_err_and(|error| error.raw_os_error() != Some(libc::EPERM))
    }

    /// Attaches a bare program to this thread's network namespace.
    pub(crate) fn attach_here(&self, program: &OwnedFd) -> io::Result<OwnedFd> {
        let here = std::fs::File::open("/proc/thread-self/ns/net")?;
        syscall::link(program.as_fd(), Some(here.as_fd()), Hook::SkLookup as u32)
    }

    /// Attaches a bare program to the loopback interface of this thread's namespace.
    pub(crate) fn attach_loopback(&self, program: &OwnedFd) -> io::Result<OwnedFd> {
        syscall::link_interface(program.as_fd(), LOOPBACK, Hook::TcxIngress as u32)
    }

    /// A map that is made while no memory may be locked: refused where the kernel counts maps as such.
    pub(crate) fn unlocked_map(&self, def: &MapDef) -> SysResult<KernelMap> {
        on("lowering", "RLIMIT_MEMLOCK", without_locked_memory(|| self.create_map(def, def.capacity, None)))?
    }
}

/// Runs `body` while this process may not lock any memory; the limit is as before afterwards.
fn without_locked_memory<T>(body: impl FnOnce() -> T) -> io::Result<T> {
    let limit = getrlimit(Resource::Memlock);
    setrlimit(Resource::Memlock, Rlimit { current: Some(0), ..limit })?;
    let result = body();
    setrlimit(Resource::Memlock, limit)?;
    Ok(result)
}
