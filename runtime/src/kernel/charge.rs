//! Whether bytes that go from socket to socket past the stack are charged to the reader's buffer. Where they are not,
//! nothing makes a sender wait for a reader that never reads, until the memory is full.

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use mesh_bpf::program::Hook;

use super::sys;

/// `BPF_MAP_TYPE_SOCKHASH`.
const SOCKHASH: u32 = 18;
/// `BPF_PROG_TYPE_SK_MSG`.
const SK_MSG: u32 = 16;
/// `bpf_msg_redirect_hash`.
const REDIRECT: i32 = 71;
/// The key of the socket that gets what is sent.
const READER: i32 = 1;
const MESSAGE: [u8; 1024] = [7; 1024];

/// Sends a message from socket to socket in a network namespace of its own, and looks where it was charged. Minimum
/// kernel 6.13, or 6.12.8.
///
/// # Errors
/// What the kernel says, or that it does not.
pub(crate) fn is_charged() -> io::Result<()> {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| sys::new_network().and_then(|()| send_and_look()));
        inside.join().unwrap_or_else(|_| Err(io::Error::other("the thread ended")))
    })
}

fn send_and_look() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (reader, _) = listener.accept()?;
    let sockets = sys::create_map(sys::NewMap {
        name: "mesh_charge",
        kind: SOCKHASH,
        key: 8,
        value: 4,
        capacity: 2,
        flags: 0,
        inner: None,
        types: None,
    })?;
    let (kind, hook) = (SK_MSG, Hook::Message as u32);
    let program =
        sys::NewProgram { name: "mesh_charge", kind, hook, code: &to_reader(&sockets), types: None };
    let program = sys::load_program(&program, &mut [])?;
    sys::attach_program(program.as_fd(), sockets.as_fd(), Hook::Message as u32)?;
    for (key, socket) in [(READER, &reader), (READER + 1, &sender)] {
        sys::update(sockets.as_fd(), &i64::from(key).to_ne_bytes(), &socket.as_raw_fd().to_ne_bytes())?;
    }
    sender.write_all(&MESSAGE)?;
    if received(reader.as_fd())? != 0 {
        return Err(io::Error::other("a message did not take the short way"));
    }
    if charged(reader.as_fd())? < MESSAGE.len() as u64 {
        return Err(io::Error::other(
            "bytes of the short way are not charged to their reader: one that never reads would fill the memory",
        ));
    }
    Ok(())
}

/// `return bpf_msg_redirect_hash(msg, &sockets, &READER, BPF_F_INGRESS)`
fn to_reader(sockets: &OwnedFd) -> [u64; 9] {
    [
        // *(u64 *)(r10 - 8) = READER; r3 = r10 - 8
        instruction(0x7a, 10, -8, READER),
        instruction(0xbf, 0xa3, 0, 0),
        instruction(0x07, 3, 0, -8),
        // r2 = the map, in two parts
        instruction(0x18, 0x12, 0, sockets.as_raw_fd()),
        0,
        instruction(0xb7, 4, 0, 1),
        instruction(0x85, 0, 0, REDIRECT),
        // Whatever it says, the message goes on; exit
        instruction(0xb7, 0, 0, 1),
        instruction(0x95, 0, 0, 0),
    ]
}

/// `struct bpf_insn`: code, registers (source above destination), offset, immediate value.
fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> u64 {
    let (offset, immediate) = (offset.cast_unsigned(), immediate.cast_unsigned());
    u64::from(code) | u64::from(registers) << 8 | u64::from(offset) << 16 | u64::from(immediate) << 32
}

/// Bytes that came by the stack: `tcpi_bytes_received`.
fn received(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut info = [0; 136];
    sys::socket_option(socket, libc::SOL_TCP, libc::TCP_INFO, &mut info)?;
    Ok(super::u64_at(&info, 128))
}

/// Bytes that count against the socket's receive buffer: `SK_MEMINFO_RMEM_ALLOC`.
fn charged(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut info = [0; 4];
    sys::socket_option(socket, libc::SOL_SOCKET, libc::SO_MEMINFO, &mut info)?;
    Ok(super::u32_at(&info, 0).into())
}
