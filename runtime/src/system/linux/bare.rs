//! Programs that do nothing, to see whether a kernel takes them.

use std::io;
use std::os::fd::OwnedFd;

use mesh_bpf::program::{Hook, PROBES};

use super::small;

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
        self.load_function("probe_nothing")
    }

    /// Loads one that asks for the cookie of the network namespace.
    pub(crate) fn load_asking_for_netns(self) -> io::Result<OwnedFd> {
        self.load_function("probe_netns_cookie")
    }

    fn load_function(self, function: &str) -> io::Result<OwnedFd> {
        small::load("mesh_doctor", self.hook(), &small::code(PROBES, function, &[])?)
    }
}
