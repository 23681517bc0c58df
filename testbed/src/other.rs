//! Other ways to the network than a process's own calls on its own sockets.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use socket2::SockAddr;

use crate::{Errno, raw};

/// How a ring of io_uring is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// By the process itself, in the call that submits.
    Entered,
    /// By a thread of the kernel that reads what the process writes (`IORING_SETUP_SQPOLL`).
    Polled,
}

impl Ring {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Entered, Self::Polled];

    fn setup(self) -> u32 {
        match self {
            Self::Entered => 0,
            Self::Polled => 2,
        }
    }

    /// `connect` by a ring.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn connect(self, fd: BorrowedFd<'_>, to: SocketAddr) -> Result<(), Errno> {
        Ok(raw::connect_by_ring(self.setup(), fd, &SockAddr::from(to))?)
    }

    /// `sendmsg` by a ring.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn send(self, fd: BorrowedFd<'_>, to: SocketAddr, payload: &[u8]) -> Result<(), Errno> {
        Ok(raw::send_by_ring(self.setup(), fd, &SockAddr::from(to), payload)?)
    }
}

/// One call of `sendmmsg` with a datagram to each of these; how many were sent.
///
/// # Errors
/// What the kernel answered where none was.
pub fn send_many(fd: BorrowedFd<'_>, to: &[SocketAddr], payload: &[u8]) -> Result<usize, Errno> {
    let to: Vec<_> = to.iter().copied().map(SockAddr::from).collect();
    Ok(raw::send_many(fd, &to, payload)?)
}

/// Hands a socket over to another process (`SCM_RIGHTS`).
///
/// # Errors
/// If the other end is gone.
pub fn send_socket(way: &UnixStream, socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let sockets = [socket];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&sockets));
    sendmsg(way, &[IoSlice::new(b"s")], &mut control, SendFlags::empty())?;
    Ok(())
}

/// Takes a socket that another process hands over.
///
/// # Errors
/// If the other end is gone, or sends something else.
pub fn receive_socket(way: &UnixStream) -> Result<OwnedFd, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(way, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::empty())?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut sockets) = message
            && let Some(socket) = sockets.next()
        {
            return Ok(socket);
        }
    }
    Err(io::Error::from_raw_os_error(libc::EPROTO).into())
}
