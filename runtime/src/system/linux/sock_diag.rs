//! Sockets of every network namespace, and what our programs keep with them: `NETLINK_SOCK_DIAG`.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use aya_obj::generated::{
    BPF_TCP_CLOSE, BPF_TCP_CLOSE_WAIT, BPF_TCP_ESTABLISHED, BPF_TCP_FIN_WAIT1, BPF_TCP_FIN_WAIT2,
    BPF_TCP_LISTEN, BPF_TCP_SYN_SENT,
};
use bytemuck::{Pod, Zeroable};
use mesh_bpf::abi::{Flow, Listening};
use rustix::net::{AddressFamily, SocketType, netlink, socket};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::enter::apart;
use super::netlink::{ACK, DUMP, ask, attribute, find, first};
use super::proc::namespaces;
use super::syscall;
use crate::system::{Accepted, Noted, Waits};

// From linux/sock_diag.h and linux/inet_diag.h; libc has none of them.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const REQ_SK_BPF_STORAGES: u16 = 2;
const REQ_MAP_FD: u16 = 1;
const INET_DIAG_SKV6ONLY: u16 = 11;
const INET_DIAG_SK_BPF_STORAGES: u16 = 20;
const SK_DIAG_BPF_STORAGE: u16 = 1;
const STORAGE_MAP_VALUE: u16 = 3;

const AF_INET: u8 = libc::AF_INET as u8;
const AF_INET6: u8 = libc::AF_INET6 as u8;
const TCP: u8 = libc::IPPROTO_TCP as u8;
const UDP: u8 = libc::IPPROTO_UDP as u8;

/// States of connections that are open, a bit each.
const OPEN: u32 = 1 << BPF_TCP_ESTABLISHED as u32
    | 1 << BPF_TCP_SYN_SENT as u32
    | 1 << BPF_TCP_FIN_WAIT1 as u32
    | 1 << BPF_TCP_FIN_WAIT2 as u32
    | 1 << BPF_TCP_CLOSE_WAIT as u32;
const LISTENING: u32 = 1 << BPF_TCP_LISTEN as u32;
/// What a datagram socket is that is not connected.
const UNCONNECTED: u32 = 1 << BPF_TCP_CLOSE as u32;

/// `struct inet_diag_sockid`. Ports and addresses are those of the socket's own end, then of the other.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct SocketId {
    ports: [[u8; 2]; 2],
    addresses: [[u8; 16]; 2],
    device: u32,
    cookie: [u32; 2],
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Request {
    family: u8,
    protocol: u8,
    extensions: u8,
    pad: u8,
    states: u32,
    id: SocketId,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Found {
    family: u8,
    state: u8,
    timer: u8,
    retransmits: u8,
    id: SocketId,
    rest: [u32; 5],
}

/// A TCP socket that can be closed.
#[derive(Debug)]
pub struct KernelSocket {
    netns: Arc<File>,
    family: u8,
    id: SocketId,
}

impl KernelSocket {
    /// The one with this cookie, of the connection between these ends, its own first.
    pub(super) fn new(netns: File, (local, remote): (SocketAddr, SocketAddr), cookie: u64) -> Self {
        let family = if local.is_ipv4() && remote.is_ipv4() { AF_INET } else { AF_INET6 };
        let address = |end: SocketAddr| {
            let mut bytes = [0; 16];
            match end.ip() {
                IpAddr::V4(v4) if family == AF_INET => {
                    bytes.iter_mut().zip(v4.octets()).for_each(|(to, byte)| *to = byte);
                    bytes
                }
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            }
        };
        let id = SocketId {
            ports: [local.port().to_be_bytes(), remote.port().to_be_bytes()],
            addresses: [address(local), address(remote)],
            device: 0,
            cookie: bytemuck::cast(cookie),
        };
        Self { netns: Arc::new(netns), family, id }
    }
}

/// Every connected TCP socket that has a value in one of the socket storage maps, that of [`Flow`]s and that of
/// [`Listening`]. Of datagram sockets the kernel does not tell what is kept. Minimum kernel 5.14.
pub(super) fn connections(maps: [BorrowedFd<'_>; 2]) -> io::Result<Vec<(Noted, KernelSocket)>> {
    let mut connections = Vec::new();
    for netns in namespaces()?.into_iter().map(Arc::new) {
        let found = inside(&netns, |socket| {
            let cookie = syscall::netns_cookie(socket.as_fd())?;
            let mut found = Vec::new();
            for family in [AF_INET, AF_INET6] {
                dump(socket, family, maps, cookie, &mut found)?;
            }
            Ok(found)
        })?;
        let socket = |(noted, family, id)| (noted, KernelSocket { netns: Arc::clone(&netns), family, id });
        connections.extend(found.into_iter().map(socket));
    }
    Ok(connections)
}

/// Closes connections, both ends being told; how many were still there.
pub(super) fn close(sockets: &[KernelSocket]) -> io::Result<usize> {
    let mut closed = 0;
    let mut rest = sockets;
    while let Some(first) = rest.first() {
        let count = rest.iter().take_while(|socket| Arc::ptr_eq(&socket.netns, &first.netns)).count();
        let (here, others) = rest.split_at(count);
        closed += inside(&first.netns, |socket| {
            let mut closed = 0;
            for one in here {
                match destroy(socket, one.family, one.id) {
                    Ok(()) => closed += 1,
                    Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(closed)
        })?;
        rest = others;
    }
    Ok(closed)
}

/// Whether this kernel closes connections when it is asked to (`CONFIG_INET_DIAG_DESTROY`): one that does not
/// exist is asked for.
pub(super) fn can_close() -> io::Result<bool> {
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, Some(netlink::SOCK_DIAG))?;
    match destroy(&socket, AF_INET, SocketId::zeroed()) {
        Ok(()) => Ok(true),
        // Where TCP itself cannot be asked about, there is no handler to be found either: ENOENT, as for a
        // connection that does not exist. A dump of it tells.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            Ok(ask(&socket, SOCK_DIAG_BY_FAMILY, DUMP, &request(AF_INET, SocketId::zeroed()), &[], |_| {})
                .is_ok())
        }
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether any TCP socket listens in this thread's network namespace. Looks at those that listen only.
pub(super) fn somebody_listens() -> io::Result<bool> {
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, Some(netlink::SOCK_DIAG))?;
    let mut any = false;
    for family in [AF_INET, AF_INET6] {
        let request = Request { states: LISTENING, ..request(family, SocketId::zeroed()) };
        ask(&socket, SOCK_DIAG_BY_FAMILY, DUMP, &request, &[], |_| any = true)?;
    }
    Ok(any)
}

/// Every socket that waits for TCP connections or, unconnected, for datagrams in a network namespace.
pub(super) fn waiting(netns: &File) -> io::Result<Vec<Waits>> {
    inside(netns, |socket| {
        let mut found = Vec::new();
        for (protocol, states) in [(TCP, LISTENING), (UDP, UNCONNECTED)] {
            for family in [AF_INET, AF_INET6] {
                let request = Request { protocol, states, ..request(family, SocketId::zeroed()) };
                ask(socket, SOCK_DIAG_BY_FAMILY, DUMP, &request, &[], |message| {
                    let Some((head, attributes)) = message.split_at_checked(size_of::<Found>()) else {
                        return;
                    };
                    let Ok(head) = bytemuck::try_pod_read_unaligned::<Found>(head) else { return };
                    let [at, _] = ends(&head);
                    let only_v6 = find(attributes, INET_DIAG_SKV6ONLY).is_some_and(|only| only != [0]);
                    let takes_v4 = head.family == AF_INET6 && at.ip().is_unspecified() && !only_v6;
                    let [.., uid, inode] = head.rest;
                    let inode = inode.into();
                    found.push(Waits { is_udp: protocol == UDP, at, takes_v4, uid, inode });
                })?;
            }
        }
        Ok(found)
    })
}

/// Asks on a thread of its own inside a namespace, so that ours stays where it is.
fn inside<T: Send>(netns: &File, ask: impl FnOnce(&OwnedFd) -> io::Result<T> + Send) -> io::Result<T> {
    apart(|| {
        move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
        ask(&socket(AddressFamily::NETLINK, SocketType::RAW, Some(netlink::SOCK_DIAG))?)
    })
}

fn request(family: u8, id: SocketId) -> Request {
    Request { family, protocol: TCP, extensions: 0, pad: 0, states: OPEN, id }
}

fn destroy(socket: &OwnedFd, family: u8, id: SocketId) -> io::Result<()> {
    ask(socket, SOCK_DESTROY, ACK, &request(family, id), &[], |_| {})
}

fn dump(
    socket: &OwnedFd,
    family: u8,
    maps: [BorrowedFd<'_>; 2],
    netns: u64,
    found: &mut Vec<(Noted, u8, SocketId)>,
) -> io::Result<()> {
    let maps = maps.map(|map| attribute(REQ_MAP_FD, &map.as_raw_fd().unsigned_abs().to_ne_bytes())).concat();
    let storages = attribute(REQ_SK_BPF_STORAGES, &maps);
    ask(socket, SOCK_DIAG_BY_FAMILY, DUMP, &request(family, SocketId::zeroed()), &storages, |message| {
        let Some((head, attributes)) = message.split_at_checked(size_of::<Found>()) else { return };
        let Ok(head) = bytemuck::try_pod_read_unaligned::<Found>(head) else { return };
        if let Some(noted) = noted(netns, &head, attributes) {
            found.push((noted, head.family, head.id));
        }
    })
}

/// What a socket's attributes say that the maps keep for it.
fn noted(netns: u64, head: &Found, attributes: &[u8]) -> Option<Noted> {
    let mut storages = find(attributes, INET_DIAG_SK_BPF_STORAGES)?;
    let mut by = None;
    while let Some((SK_DIAG_BPF_STORAGE, storage, rest)) = first(storages) {
        storages = rest;
        let value = find(storage, STORAGE_MAP_VALUE)?;
        // Their sizes tell the two apart.
        if let Ok(flow) = bytemuck::try_pod_read_unaligned::<Flow>(value) {
            let bound = head.id.device;
            let device = if bound == 0 { flow.device } else { bound };
            return Some(Noted::Opened(Flow { device, ..flow }));
        }
        by = bytemuck::try_pod_read_unaligned::<Listening>(value).ok();
    }
    let [local, remote] = ends(head);
    Some(Noted::Accepted(Accepted { netns, remote, local, by: by? }))
}

/// The socket's own end, and the other one.
fn ends(head: &Found) -> [SocketAddr; 2] {
    let SocketId { ports: [port, other_port], addresses: [address, other_address], .. } = head.id;
    [(port, address), (other_port, other_address)].map(|(port, bytes)| {
        let [a, b, c, d, ..] = bytes;
        let v4 = head.family == AF_INET;
        let address = if v4 { IpAddr::from([a, b, c, d]) } else { IpAddr::from(bytes).to_canonical() };
        SocketAddr::new(address, u16::from_be_bytes(port))
    })
}
