//! Messages of netlink for netfilter, and what the kernel answers.

use std::io::{self, IoSlice};
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::net::sockopt::{Timeout, set_socket_send_buffer_size_force, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, netlink, recv, send,
    sendmsg, socket_with,
};

use crate::Netns;

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
const ERROR: u16 = 2;
const DONE: u16 = 3;
const MULTI: u16 = 2;

/// Sends pieces as one datagram, and gives back the first answer: the number of the message that it is about, and the error,
/// 0 for none.
///
/// # Errors
/// If the kernel does not answer.
pub fn obey<'b>(netns: &Netns, pieces: impl Iterator<Item = &'b [u8]>) -> io::Result<(u32, i32)> {
    let pieces: Vec<&[u8]> = pieces.collect();
    netns.run(|| obey_here(&pieces))?
}

/// The same in the namespace of the calling thread.
///
/// # Errors
/// As [`obey`].
pub fn obey_here(pieces: &[&[u8]]) -> io::Result<(u32, i32)> {
    let socket = netfilter()?;
    set_socket_send_buffer_size_force(&socket, pieces.iter().map(|piece| piece.len()).sum::<usize>() * 2)?;
    let parts: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    sendmsg(&socket, &parts, &mut SendAncillaryBuffer::default(), SendFlags::empty())?;
    let answer = receive(&socket)?;
    let number = |at: usize| answer.get(at..).and_then(<[u8]>::first_chunk).copied();
    let (Some(sequence), Some(error)) = (number(8), number(16)) else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    Ok((u32::from_ne_bytes(sequence), -i32::from_ne_bytes(error)))
}

/// Sends a request, and gives back its answer to the end: one datagram behind the other.
///
/// # Errors
/// If the kernel does not answer.
pub fn ask(netns: &Netns, request: &[u8]) -> io::Result<Vec<u8>> {
    netns.run(|| ask_here(request))?
}

/// The same in the namespace of the calling thread.
///
/// # Errors
/// As [`ask`].
pub fn ask_here(request: &[u8]) -> io::Result<Vec<u8>> {
    let socket = netfilter()?;
    send(&socket, request, SendFlags::empty())?;
    let mut all = Vec::new();
    loop {
        let datagram = receive(&socket)?;
        let ends =
            messages(&datagram).any(|(kind, flags)| [ERROR, DONE].contains(&kind) || flags & MULTI == 0);
        all.extend(datagram);
        if ends {
            return Ok(all);
        }
    }
}

fn netfilter() -> io::Result<OwnedFd> {
    let netfilter = Some(netlink::NETFILTER);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, netfilter)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    Ok(socket)
}

fn receive(socket: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 1 << 16];
    let (received, _) = recv(socket, &mut buffer[..], RecvFlags::empty())?;
    buffer.truncate(received.next_multiple_of(4));
    Ok(buffer)
}

/// The type and the flags of each message.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u16)> {
    std::iter::from_fn(move || {
        let (&len, rest) = bytes.split_first_chunk()?;
        let (&kind, rest) = rest.split_first_chunk()?;
        let (&flags, _) = rest.split_first_chunk()?;
        bytes = bytes.get((u32::from_ne_bytes(len) as usize).next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes(kind), u16::from_ne_bytes(flags)))
    })
}
