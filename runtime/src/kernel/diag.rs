//! Sockets of every network namespace, and what our programs keep with them: `NETLINK_SOCK_DIAG`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use bytemuck::{Pod, Zeroable};
use mesh_bpf::abi::Flow;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, netlink, recv, send, socket};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

// From linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLA_TYPE_MASK: u16 = 0x3fff;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const REQ_SK_BPF_STORAGES: u16 = 2;
const REQ_MAP_FD: u16 = 1;
const INET_DIAG_SK_BPF_STORAGES: u16 = 20;
const SK_DIAG_BPF_STORAGE: u16 = 1;
const STORAGE_MAP_VALUE: u16 = 3;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
/// `ESTABLISHED`, `SYN_SENT`, `FIN_WAIT1`, `FIN_WAIT2` and `CLOSE_WAIT`, a bit each.
const OPEN: u32 = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 8;

/// `LISTEN`.
const LISTENING: u32 = 1 << 10;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Header {
    len: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
}

/// `struct inet_diag_sockid`: ports, addresses, device, cookie. Only ever handed back.
type SocketId = [u32; 12];

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

/// Every connected TCP socket that has a value in the socket storage map `flows`. Minimum kernel 5.6.
pub(super) fn connections(flows: BorrowedFd<'_>) -> io::Result<Vec<(Flow, KernelSocket)>> {
    let mut connections = Vec::new();
    for netns in namespaces()? {
        let found = inside(&netns, |socket| {
            let mut found = Vec::new();
            for family in [AF_INET, AF_INET6] {
                dump(socket, family, flows, &mut found)?;
            }
            Ok(found)
        })?;
        let socket = |(flow, family, id)| (flow, KernelSocket { netns: Arc::clone(&netns), family, id });
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
    match destroy(&socket, AF_INET, [0; 12]) {
        Ok(()) => Ok(true),
        // Where TCP itself cannot be asked about, there is no handler to be found either: ENOENT, as for a
        // connection that does not exist. A dump of it tells.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            Ok(ask(&socket, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, request(AF_INET, [0; 12]), &[], |_| {}).is_ok())
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
        let request = Request { states: LISTENING, ..request(family, [0; 12]) };
        ask(&socket, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, request, &[], |_| any = true)?;
    }
    Ok(any)
}

/// Every network namespace in which a process lives, and those that have a name. One that has neither can
/// still have sockets: they are not found.
fn namespaces() -> io::Result<Vec<Arc<File>>> {
    let mut found: BTreeMap<u64, Arc<File>> = BTreeMap::new();
    let kind = fs::metadata("/proc/self/ns/net")?.dev();
    let processes = fs::read_dir("/proc")?.flatten().map(|entry| entry.path().join("ns/net"));
    let named = fs::read_dir("/run/netns").into_iter().flatten().flatten().map(|entry| entry.path());
    let places: Vec<PathBuf> = processes.chain(named).collect();
    for place in places {
        // A process that has ended meanwhile has no namespace; and what has a name may be about to be made, or
        // be gone: then it is a plain file.
        let Ok(file) = File::open(&place) else { continue };
        let Ok(metadata) = file.metadata() else { continue };
        if metadata.dev() == kind {
            found.entry(metadata.ino()).or_insert_with(|| Arc::new(file));
        }
    }
    Ok(found.into_values().collect())
}

/// Asks on a thread of its own inside a namespace, so that ours stays where it is.
fn inside<T: Send>(netns: &File, ask: impl FnOnce(&OwnedFd) -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            match move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)) {
                Ok(()) => {}
                Err(error) => return Err(io::Error::from(error)),
            }
            ask(&socket(AddressFamily::NETLINK, SocketType::RAW, Some(netlink::SOCK_DIAG))?)
        });
        inside.join().unwrap_or_else(|_| Err(io::Error::other("the thread ended")))
    })
}

fn request(family: u8, id: SocketId) -> Request {
    Request { family, protocol: IPPROTO_TCP, extensions: 0, pad: 0, states: OPEN, id }
}

fn destroy(socket: &OwnedFd, family: u8, id: SocketId) -> io::Result<()> {
    ask(socket, SOCK_DESTROY, NLM_F_ACK, request(family, id), &[], |_| {})
}

fn dump(
    socket: &OwnedFd,
    family: u8,
    flows: BorrowedFd<'_>,
    found: &mut Vec<(Flow, u8, SocketId)>,
) -> io::Result<()> {
    let map = attribute(REQ_MAP_FD, &flows.as_raw_fd().unsigned_abs().to_ne_bytes());
    let storages = attribute(REQ_SK_BPF_STORAGES, &map);
    ask(socket, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, request(family, [0; 12]), &storages, |message| {
        let Some((head, attributes)) = message.split_at_checked(size_of::<Found>()) else { return };
        let Ok(head) = bytemuck::try_pod_read_unaligned::<Found>(head) else { return };
        if let Some(flow) = kept(attributes) {
            found.push((flow, head.family, head.id));
        }
    })
}

/// What a socket's attributes say that the map keeps for it.
fn kept(attributes: &[u8]) -> Option<Flow> {
    let storages = find(attributes, INET_DIAG_SK_BPF_STORAGES)?;
    let storage = find(storages, SK_DIAG_BPF_STORAGE)?;
    bytemuck::try_pod_read_unaligned(find(storage, STORAGE_MAP_VALUE)?).ok()
}

/// `struct nlattr`: length with the head, type; the next begins at a multiple of 4.
fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + content.len()).unwrap_or(u16::MAX);
    let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The content of the first attribute of a type.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (head, _) = attributes.split_at_checked(4)?;
        let [a, b, c, d] = head.try_into().ok()?;
        let (len, kind) = (usize::from(u16::from_ne_bytes([a, b])), u16::from_ne_bytes([c, d]));
        let content = attributes.get(4..len)?;
        if kind & NLA_TYPE_MASK == wanted {
            return Some(content);
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}

/// Sends one request, and hands over each message of the answer until it ends.
fn ask(
    socket: &OwnedFd,
    kind: u16,
    flags: u16,
    request: Request,
    attributes: &[u8],
    mut message: impl FnMut(&[u8]),
) -> io::Result<()> {
    let len = size_of::<Header>() + size_of::<Request>() + attributes.len();
    let len = u32::try_from(len).map_err(io::Error::other)?;
    let header = Header { len, kind, flags: NLM_F_REQUEST | flags, sequence: 1, port: 0 };
    let bytes = [bytemuck::bytes_of(&header), bytemuck::bytes_of(&request), attributes].concat();
    send(socket, &bytes, SendFlags::empty())?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let (received, _) = recv(socket, &mut buffer[..], RecvFlags::empty())?;
        let mut rest = buffer.get(..received).unwrap_or_default();
        while let Some((head, _)) = rest.split_at_checked(size_of::<Header>()) {
            let head: Header = bytemuck::try_pod_read_unaligned(head).map_err(|_| cut_off())?;
            let len = head.len as usize;
            let content = rest.get(size_of::<Header>()..len).ok_or_else(cut_off)?;
            match head.kind {
                NLMSG_DONE | NLMSG_ERROR => return errno(content),
                _ => message(content),
            }
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// An answer ends with a negative error number, or 0.
fn errno(content: &[u8]) -> io::Result<()> {
    let number = content.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes);
    if number < 0 { Err(io::Error::from_raw_os_error(-number)) } else { Ok(()) }
}

fn cut_off() -> io::Error {
    io::Error::other("the kernel's answer is cut off")
}
