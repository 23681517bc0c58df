//! A network namespace that nobody else is in.

use std::io;

use bytemuck::{Pod, Zeroable};
use nix::sched::{CloneFlags, unshare};
use rustix::net::{AddressFamily, SocketType, socket};

use super::netlink::{ACK, ask};

/// The first interface of every network namespace.
pub(super) const LOOPBACK: u32 = 1;
const UP: u32 = libc::IFF_UP as u32;

/// `struct ifinfomsg`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Interface {
    family: u8,
    pad: u8,
    kind: u16,
    index: u32,
    flags: u32,
    change: u32,
}

/// Moves this thread to a new network namespace, whose loopback is up.
pub(crate) fn new_network() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    // Protocol 0: `NETLINK_ROUTE`.
    let netlink = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    let up = Interface { index: LOOPBACK, flags: UP, change: UP, ..Interface::zeroed() };
    ask(&netlink, libc::RTM_NEWLINK, ACK, &up, &[], |_| {})
}
