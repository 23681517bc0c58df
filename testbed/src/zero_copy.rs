//! Sending without a copy: the kernel reads the caller's memory, and says when it is done with it.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg};
use rustix::net::SendFlags;

use crate::{Errno, raw};

/// `SO_EE_ORIGIN_ZEROCOPY`.
const ORIGIN_ZERO_COPY: u8 = 5;

/// Lets a socket send without a copy (`SO_ZEROCOPY`).
///
/// # Errors
/// What the kernel answered.
pub fn allow_zero_copy(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let one = 1_u32.to_ne_bytes();
    raw::set_socket_option(fd, libc::SOL_SOCKET, libc::SO_ZEROCOPY, &one).map_err(Errno::from)
}

/// One call of `send` with `MSG_ZEROCOPY`; returns how much of the bytes it took.
///
/// # Errors
/// What the kernel answered.
pub fn send_zero_copy(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    let flags = SendFlags::from_bits_retain(libc::MSG_ZEROCOPY.cast_unsigned());
    Ok(rustix::net::send(fd, bytes, flags).map_err(io::Error::from)?)
}

/// Which of the calls, counted from 0, the kernel is done with, as it says it next; none where it says nothing now.
///
/// # Errors
/// What the kernel answered; `EPROTO` if that is of another kind.
pub fn zero_copied(fd: BorrowedFd<'_>) -> Result<Option<(u32, u32)>, Errno> {
    let mut room = nix::cmsg_space!([u8; 128]);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let mut nothing: [IoSliceMut<'_>; 0] = [];
    let heard = match recvmsg::<SockaddrIn>(fd.as_raw_fd(), &mut nothing, Some(&mut room), flags) {
        Err(nix::errno::Errno::EAGAIN) => return Ok(None),
        heard => heard.map_err(io::Error::from)?,
    };
    for message in heard.cmsgs().map_err(io::Error::from)? {
        let (ControlMessageOwned::Ipv4RecvErr(said, _) | ControlMessageOwned::Ipv6RecvErr(said, _)) = message
        else {
            continue;
        };
        if said.ee_origin == ORIGIN_ZERO_COPY {
            return Ok(Some((said.ee_info, said.ee_data)));
        }
    }
    Err(Errno(libc::EPROTO))
}
