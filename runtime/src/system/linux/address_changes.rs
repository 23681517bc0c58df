//! Changes of the interfaces and addresses in a network namespace, and of the routes, which choose between them:
//! `NETLINK_ROUTE`.
//!
//! The socket is one of rustix's, as those for `sock_diag` are: what it is told is not even read, since a change that
//! was told and one that was lost are both answered by reading all addresses again. A crate that takes such messages
//! apart would have nothing to do.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libc::{RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE, RTMGRP_LINK};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use super::enter::inside;

const GROUPS: u32 =
    (RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE)
        .cast_unsigned();

/// So much is taken at a time: whoever never stops changing addresses must not keep us from everything else.
const AT_A_TIME: usize = 256;

/// Tells of changes of the interfaces, addresses and routes in a namespace, from when it was made. As long as it is there, so is the namespace.
#[derive(Debug)]
pub struct Changes(OwnedFd);

impl Changes {
    pub(super) fn of(netns: &File) -> io::Result<Self> {
        inside(netns, || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            // `NETLINK_ROUTE` is protocol 0.
            let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
            bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
            Ok(Self(socket))
        })
    }

    /// Whether anything changed since this was last asked, or may have. Does not wait.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn happened(&self) -> io::Result<bool> {
        let mut happened = false;
        for _ in 0..AT_A_TIME {
            match recv(&self.0, &mut [0; 64][..], RecvFlags::TRUNC) {
                // The kernel had more to tell than there was room for.
                Ok(_) | Err(Errno::NOBUFS) => happened = true,
                Err(Errno::WOULDBLOCK) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(happened)
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
