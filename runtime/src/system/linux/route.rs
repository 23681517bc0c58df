//! Where connections to others come from: `NETLINK_ROUTE` is asked as `connect` would ask, and nothing is sent.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytemuck::{Pod, Zeroable};
use rustix::net::{AddressFamily, SocketType, socket};

use super::netlink::{ACK, ask, attribute, find};

pub(super) const AF_INET: u8 = libc::AF_INET as u8;
pub(super) const AF_INET6: u8 = libc::AF_INET6 as u8;

/// Addresses that nobody has a route of their own for: what leads there is the way to the outside.
const OUTSIDE_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const OUTSIDE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);

/// `struct rtmsg`. A rule begins with as many fields of the same sizes (`struct fib_rule_hdr`).
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Route {
    pub(super) family: u8,
    pub(super) destination_len: u8,
    pub(super) source_len: u8,
    pub(super) tos: u8,
    pub(super) table: u8,
    pub(super) protocol: u8,
    pub(super) scope: u8,
    pub(super) kind: u8,
    pub(super) flags: u32,
}

/// The source that this thread's namespace would take for a connection to the outside, of each family; none where no
/// route leads there.
pub(super) fn sources() -> io::Result<(Option<Ipv4Addr>, Option<Ipv6Addr>)> {
    let v4 = match source(AF_INET, &OUTSIDE_V4.octets())? {
        Some(IpAddr::V4(v4)) => Some(v4),
        _ => None,
    };
    let v6 = match source(AF_INET6, &OUTSIDE_V6.octets())? {
        Some(IpAddr::V6(v6)) => Some(v6),
        _ => None,
    };
    Ok((v4, v6))
}

fn source(family: u8, destination: &[u8]) -> io::Result<Option<IpAddr>> {
    // Protocol 0: `NETLINK_ROUTE`.
    let netlink = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    let destination_len = u8::try_from(destination.len() * 8).unwrap_or_default();
    let request = Route { family, destination_len, ..Route::zeroed() };
    let mut source = None;
    let asked =
        ask(&netlink, libc::RTM_GETROUTE, ACK, &request, &attribute(libc::RTA_DST, destination), |message| {
            let attributes = message.get(size_of::<Route>()..).unwrap_or_default();
            source = find(attributes, libc::RTA_PREFSRC).and_then(address);
        });
    match asked {
        Ok(()) => Ok(source),
        // No route leads there, one that refuses does, or the kernel has no such family.
        Err(error) if error.raw_os_error().is_some() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
