//! A network namespace that nobody else is in.

use std::io;
use std::net::IpAddr;

use bytemuck::{Pod, Zeroable};
use nix::sched::{CloneFlags, unshare};
use rustix::net::{AddressFamily, SocketType, socket};

use super::netlink::{ACK, ask, attribute};
use super::route::{AF_INET, AF_INET6};

/// The first interface of every network namespace.
pub(super) const LOOPBACK: u32 = 1;
const CREATE: u16 = libc::NLM_F_CREATE as u16;
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

/// `struct ifaddrmsg`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Address {
    family: u8,
    prefix_length: u8,
    flags: u8,
    scope: u8,
    index: u32,
}

/// Moves this thread to a new network namespace, whose loopback is up and has some addresses beside its own.
pub(crate) fn new_network(addresses: &[IpAddr]) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    // Protocol 0: `NETLINK_ROUTE`.
    let netlink = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    let up = Interface { index: LOOPBACK, flags: UP, change: UP, ..Interface::zeroed() };
    ask(&netlink, libc::RTM_NEWLINK, ACK, &up, &[], |_| {})?;
    for address in addresses {
        let (family, prefix_length, bytes) = match address {
            IpAddr::V4(address) => (AF_INET, 32, address.octets().to_vec()),
            IpAddr::V6(address) => (AF_INET6, 128, address.octets().to_vec()),
        };
        let request = Address { family, prefix_length, index: LOOPBACK, ..Address::zeroed() };
        let own = [attribute(libc::IFA_LOCAL, &bytes), attribute(libc::IFA_ADDRESS, &bytes)].concat();
        ask(&netlink, libc::RTM_NEWADDR, ACK | CREATE, &request, &own, |_| {})?;
    }
    Ok(())
}
