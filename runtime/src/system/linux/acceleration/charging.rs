//! Whether bytes that go from socket to socket past the stack are charged to the reader's buffer. Where they are not,
//! nothing makes a sender wait for a reader that never reads, until the memory is full.

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use mesh_bpf::abi::PROBE_READER;
use mesh_bpf::map::MapKind;
use mesh_bpf::program::{Hook, PROBES};

use super::super::enter::apart;
use super::super::new_network::new_network;
use super::super::{small, syscall};

const MESSAGE: [u8; 1024] = [7; 1024];

/// Sends a message from socket to socket in a network namespace of its own, and looks where it was charged. Minimum
/// kernel 6.13, or 6.12.8.
///
/// # Errors
/// What the kernel says, or that it does not.
pub(crate) fn is_charged() -> io::Result<()> {
    apart(|| new_network(&[]).and_then(|()| send_and_look()))
}

fn send_and_look() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (reader, _) = listener.accept()?;
    let sockets = map_of_sockets("mesh_charge")?;
    let program = to_reader("mesh_charge", sockets.as_fd())?;
    syscall::attach_program(program.as_fd(), sockets.as_fd(), Hook::Message as u32)?;
    for (key, socket) in [(PROBE_READER, &reader), (PROBE_READER + 1, &sender)] {
        syscall::update(sockets.as_fd(), &key.to_ne_bytes(), &socket.as_raw_fd().to_ne_bytes())?;
    }
    sender.write_all(&MESSAGE)?;
    if received(reader.as_fd())? != 0 {
        return Err(io::Error::other("a message did not take the fast path"));
    }
    if charged(reader.as_fd())? < MESSAGE.len() as u64 {
        return Err(io::Error::other(
            "bytes of the fast path are not charged to their reader: one that never reads would fill the memory",
        ));
    }
    Ok(())
}

/// A map for two sockets.
pub(super) fn map_of_sockets(name: &str) -> io::Result<OwnedFd> {
    syscall::create_map(syscall::NewMap {
        name,
        kind: MapKind::SockHash as u32,
        key: 8,
        value: 4,
        capacity: 2,
        flags: 0,
        inner: None,
        types: None,
    })
}

/// Loads a program that sends what comes to a map's sockets to the one at [`PROBE_READER`].
pub(super) fn to_reader(name: &str, sockets: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let code = small::code(PROBES, "probe_redirect", &[("probed_sockets", sockets)])?;
    small::load(name, Hook::Message, &code)
}

/// Bytes that came by the stack.
fn received(socket: BorrowedFd<'_>) -> io::Result<u64> {
    // Where `tcpi_bytes_received` is in `struct tcp_info`; libc's ends before it.
    const AT: usize = 128;
    let mut info = [0; AT + 8];
    syscall::socket_option(socket, libc::SOL_TCP, libc::TCP_INFO, &mut info)?;
    Ok(info.last_chunk().copied().map_or(0, u64::from_ne_bytes))
}

/// Bytes that count against the socket's receive buffer: `SK_MEMINFO_RMEM_ALLOC`, the first.
fn charged(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut info = [0; 4];
    syscall::socket_option(socket, libc::SOL_SOCKET, libc::SO_MEMINFO, &mut info)?;
    Ok(u32::from_ne_bytes(info).into())
}
