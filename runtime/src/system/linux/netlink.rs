//! Messages of netlink: one request, and the answers to it.
//!
//! `netlink-packet-sock-diag` 0.5 cannot carry the maps whose values a request asks for, and takes every answer apart
//! into a list of attributes on the heap. Without it, the framing alone would not pay for `netlink-packet-core`.

use std::io;
use std::os::fd::OwnedFd;

use bytemuck::{Pod, Zeroable};
use rustix::net::{RecvFlags, SendFlags, recv, send};

pub(super) use crate::system::nftables::{attribute as first, content as find};

pub(super) const ACK: u16 = libc::NLM_F_ACK as u16;
pub(super) const DUMP: u16 = libc::NLM_F_DUMP as u16;
const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const ERROR: u16 = libc::NLMSG_ERROR as u16;
const DONE: u16 = libc::NLMSG_DONE as u16;
/// What is listed changed meanwhile.
const CHANGED: u16 = libc::NLM_F_DUMP_INTR as u16;

/// `struct nlmsghdr`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Header {
    len: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
}

/// `struct nlattr`: length with the head, type; the next begins at a multiple of 4.
pub(super) fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + content.len()).unwrap_or(u16::MAX);
    let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Sends one request, and hands over each message of the answer until it ends. A list that changed while it was told is
/// [`io::ErrorKind::Interrupted`].
pub(super) fn ask(
    socket: &OwnedFd,
    kind: u16,
    flags: u16,
    request: &impl Pod,
    attributes: &[u8],
    mut message: impl FnMut(&[u8]),
) -> io::Result<()> {
    let request = bytemuck::bytes_of(request);
    let len = size_of::<Header>() + request.len() + attributes.len();
    let len = u32::try_from(len).map_err(io::Error::other)?;
    let header = Header { len, kind, flags: REQUEST | flags, sequence: 1, port: 0 };
    let bytes = [bytemuck::bytes_of(&header), request, attributes].concat();
    send(socket, &bytes, SendFlags::empty())?;
    let mut buffer = vec![0; 1 << 16];
    let mut has_changed = false;
    loop {
        let (received, _) = recv(socket, &mut buffer[..], RecvFlags::empty())?;
        let mut rest = buffer.get(..received).unwrap_or_default();
        while let Some((head, _)) = rest.split_at_checked(size_of::<Header>()) {
            let head: Header = bytemuck::try_pod_read_unaligned(head).map_err(|_| cut_off())?;
            let len = head.len as usize;
            let content = rest.get(size_of::<Header>()..len).ok_or_else(cut_off)?;
            has_changed |= head.flags & CHANGED != 0;
            match head.kind {
                DONE if has_changed => return Err(io::ErrorKind::Interrupted.into()),
                DONE | ERROR => return errno(content),
                _ => message(content),
            }
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// The messages of an answer that say what became of a request: its number, and the error if there is one.
pub(super) fn errors(mut answer: &[u8]) -> impl Iterator<Item = (u32, Option<io::Error>)> {
    std::iter::from_fn(move || {
        loop {
            let (head, _) = answer.split_at_checked(size_of::<Header>())?;
            let head: Header = bytemuck::try_pod_read_unaligned(head).ok()?;
            let content = answer.get(size_of::<Header>()..head.len as usize)?;
            answer = answer.get((head.len as usize).next_multiple_of(4)..).unwrap_or_default();
            if head.kind == ERROR {
                return Some((head.sequence, errno(content).err()));
            }
        }
    })
}

/// An answer ends with a negative error number, or 0.
fn errno(content: &[u8]) -> io::Result<()> {
    let number = content.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes);
    if number < 0 { Err(io::Error::from_raw_os_error(-number)) } else { Ok(()) }
}

fn cut_off() -> io::Error {
    io::Error::other("the kernel's answer is cut off")
}
