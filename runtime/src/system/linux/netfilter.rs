//! What every message of `NETLINK_NETFILTER` begins with, and the socket for it.

use std::io;
use std::os::fd::OwnedFd;

use bytemuck::{Pod, Zeroable};
use rustix::net::{AddressFamily, SocketType, netlink, socket};

/// `struct nfgenmsg`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct General {
    family: u8,
    version: u8,
    resource: [u8; 2],
}

impl General {
    /// Of a family: `NFPROTO_*`, or `AF_*`; 0 for all.
    pub(super) fn of(family: u8) -> Self {
        Self { family, ..Self::zeroed() }
    }
}

/// A socket in this thread's namespace; `None` where the kernel has no netfilter.
pub(super) fn netfilter_if_any() -> io::Result<Option<OwnedFd>> {
    match socket(AddressFamily::NETLINK, SocketType::RAW, Some(netlink::NETFILTER)) {
        Err(rustix::io::Errno::PROTONOSUPPORT) => Ok(None),
        made => Ok(Some(made?)),
    }
}

/// The same where there must be one.
pub(super) fn netfilter() -> io::Result<OwnedFd> {
    netfilter_if_any()?.ok_or_else(|| rustix::io::Errno::PROTONOSUPPORT.into())
}
