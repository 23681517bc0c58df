//! Whether `FIONREAD` counts what is unread of a socket in a map of sockets: the bytes that came through the stack, and
//! those that came past it.

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use mesh_bpf::abi::PROBE_READER;
use mesh_bpf::program::Hook;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionread;

use super::super::enter::apart;
use super::super::map::KernelMap;
use super::super::new_network::new_network;
use super::super::syscall;
use super::charging::{map_of_sockets, to_reader};

/// How long a message within the machine may take.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
const LONG: [u8; 10] = [1; 10];
const SHORT: [u8; 1000] = [2; 1000];

/// Sends messages both ways in a network namespace of its own, and asks how much there is. With `sockets`, a map that a
/// program repairs the answers for, in that map.
///
/// # Errors
/// What the kernel says where it cannot be tried.
pub(crate) fn counts_all(sockets: Option<&KernelMap>) -> io::Result<bool> {
    apart(|| {
        new_network(&[])?;
        match sockets {
            Some(map) => send_and_ask(map.fd.as_fd()),
            None => send_and_ask(map_of_sockets("mesh_count")?.as_fd()),
        }
    })
}

fn send_and_ask(sockets: BorrowedFd<'_>) -> io::Result<bool> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (reader, _) = listener.accept()?;
    let enter = |key: u64, socket: &TcpStream| {
        // Of maps whose values are shorter the first half is taken.
        syscall::update(sockets, &key.to_ne_bytes(), &i64::from(socket.as_raw_fd()).to_ne_bytes())
    };
    let program = to_reader("mesh_count", sockets)?;
    syscall::attach_program(program.as_fd(), sockets, Hook::Message as u32)?;
    enter(PROBE_READER, &reader)?;
    // Who sends is not in the map yet.
    sender.write_all(&LONG)?;
    poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&PATIENCE))?;
    if ioctl_fionread(&reader)? != LONG.len() as u64 {
        return Ok(false);
    }
    enter(PROBE_READER + 1, &sender)?;
    sender.write_all(&SHORT)?;
    Ok(ioctl_fionread(&reader)? == (LONG.len() + SHORT.len()) as u64)
}
