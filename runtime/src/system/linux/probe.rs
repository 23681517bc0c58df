//! What only a look at a machine needs: bare programs, file systems that nobody sees.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use mesh_bpf::map::MapDef;
use mesh_bpf::program::{Hook, OBJECT};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use super::asm::{self, EXIT, R0, call, set};
use super::{
    Kernel, KernelMap, LOOPBACK, Tried, TriedAccelerators, on, pinned, syscall, try_accelerators, try_load,
};
use crate::system::{Step, Store};

/// A kind of program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bare {
    /// `connect(2)`.
    SockAddr,
    /// TCP events.
    SockOps,
    /// `getsockopt(2)`.
    SockOpt,
    /// A packet on its way in.
    Classifier,
}

/// `bpf_get_netns_cookie`.
const NETNS_COOKIE: i32 = 122;

impl Bare {
    const fn hook(self) -> Hook {
        match self {
            Self::SockAddr => Hook::Connect4,
            Self::SockOps => Hook::SockOps,
            Self::SockOpt => Hook::GetSockOpt,
            Self::Classifier => Hook::TcxIngress,
        }
    }

    /// Loads one that does nothing.
    pub(crate) fn load(self) -> io::Result<OwnedFd> {
        self.load_code(&[set(R0, 1), EXIT])
    }

    /// Loads one that asks for the cookie of the network namespace.
    pub(crate) fn load_asking_for_netns(self) -> io::Result<OwnedFd> {
        // The context is still in the first argument.
        self.load_code(&[call(NETNS_COOKIE), set(R0, 1), EXIT])
    }

    fn load_code(self, instructions: &[u64]) -> io::Result<OwnedFd> {
        asm::load("mesh_doctor", self.hook(), instructions)
    }
}

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
    pub(crate) fn try_programs(&self, maps: &Path) -> Step<Tried> {
        try_load(OBJECT, &pinned(maps))
    }

    /// Every program of acceleration, or why the kernel refuses it.
    pub(crate) fn try_accelerators(&self, maps: &Path) -> Step<TriedAccelerators> {
        try_accelerators(OBJECT, maps)
    }

    /// Whether the kernel lets this process use objects that it has: it looks at the descriptor, which is none of
    /// an object, only where it does.
    #[expect(clippy::unused_self, reason = "every effect on the kernel goes through it")]
    pub(crate) fn may_use_pins(&self) -> bool {
        let Ok(file) = std::fs::File::open("/dev/null") else { return false };
        syscall::info(file.as_fd(), &mut [0; 8]).is_err_and(|error| error.raw_os_error() != Some(libc::EPERM))
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
    pub(crate) fn unlocked_map(&self, def: &MapDef) -> Step<KernelMap> {
        on(
            "lowering",
            "RLIMIT_MEMLOCK",
            syscall::without_locked_memory(|| self.create_map(def, def.capacity, None)),
        )?
    }
}
