//! Programs that do nothing, to see whether a kernel takes them.

use std::io;
use std::os::fd::OwnedFd;

use aya_obj::generated::bpf_func_id;
use mesh_bpf::program::Hook;

use super::asm::{self, EXIT, R0, call, set};

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

const NETNS_COOKIE: i32 = bpf_func_id::BPF_FUNC_get_netns_cookie as i32;

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
