//! Connections that the kernel tracks: `linux/netfilter/nfnetlink_conntrack.h`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use super::netfilter::General;
use super::netlink::{ACK, DUMP, ask, attribute, find};
use crate::system::Tracked;
use crate::system::nftables::number;

const CONNTRACK: u16 = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8;
const GET: u16 = CONNTRACK | 1;
const DELETE: u16 = CONNTRACK | 2;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
/// An attribute that holds attributes.
const NESTED: u16 = libc::NLA_F_NESTED as u16;

/// Two ends, and what carries data between them.
struct Tuple {
    protocol: u8,
    source: SocketAddr,
    destination: SocketAddr,
}

pub(super) fn tracked(socket: &OwnedFd) -> io::Result<Vec<Tracked>> {
    let mut found = Vec::new();
    ask(socket, GET, DUMP, &General::of(0), &[], |message| {
        let attributes = message.get(size_of::<General>()..).unwrap_or_default();
        found.extend(connection(attributes));
    })?;
    Ok(found)
}

fn connection(attributes: &[u8]) -> Option<Tracked> {
    let original = find(attributes, TUPLE_ORIGINAL)?;
    let (there, back) = (tuple(original)?, tuple(find(attributes, TUPLE_REPLY)?)?);
    let is_udp = match i32::from(there.protocol) {
        libc::IPPROTO_TCP => false,
        libc::IPPROTO_UDP => true,
        _ => return None,
    };
    // Its number tells it from another one with the same ends that begins meanwhile.
    let mut key = attribute(TUPLE_ORIGINAL | NESTED, original);
    for kind in [ID, ZONE] {
        key.extend(find(attributes, kind).map(|content| attribute(kind, content)).unwrap_or_default());
    }
    Some(Tracked {
        is_udp,
        source: there.source,
        destination: there.destination,
        answered_by: back.source,
        key,
    })
}

fn tuple(attributes: &[u8]) -> Option<Tuple> {
    let (ip, protocol) = (find(attributes, TUPLE_IP)?, find(attributes, TUPLE_PROTOCOL)?);
    let v4 = |kind| Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(find(ip, kind)?).ok()?)));
    let v6 = |kind| Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(find(ip, kind)?).ok()?)));
    let port = |kind| u16::try_from(number(protocol, kind)?).ok();
    let &[number] = find(protocol, PROTOCOL_NUMBER)? else { return None };
    Some(Tuple {
        protocol: number,
        source: SocketAddr::new(v4(1).or_else(|| v6(3))?, port(SOURCE_PORT)?),
        destination: SocketAddr::new(v4(2).or_else(|| v6(4))?, port(DESTINATION_PORT)?),
    })
}

pub(super) fn forget(socket: &OwnedFd, connections: &[Tracked]) -> io::Result<()> {
    for connection in connections {
        let family = if connection.source.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let request = General::of(family as u8);
        match ask(socket, DELETE, ACK, &request, &connection.key, |_| {}) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            done => done?,
        }
    }
    Ok(())
}
