//! Error numbers of the kernel.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// An error number of the kernel, as it travels between test and task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Errno(pub i32);

impl Errno {
    /// A policy denied it.
    pub const EPERM: Self = Self(libc::EPERM);
    /// Nobody listens there.
    pub const ECONNREFUSED: Self = Self(libc::ECONNREFUSED);
    /// Nobody answered in time.
    pub const ETIMEDOUT: Self = Self(libc::ETIMEDOUT);
    /// The connection was reset.
    pub const ECONNRESET: Self = Self(libc::ECONNRESET);
    /// What was asked for makes no sense, such as a source address that cannot reach the target.
    pub const EINVAL: Self = Self(libc::EINVAL);
    /// The kernel cannot take it now; it may be tried again.
    pub const ENOBUFS: Self = Self(libc::ENOBUFS);
    /// The address is not there, or all of the connection's four numbers are in use.
    pub const EADDRNOTAVAIL: Self = Self(libc::EADDRNOTAVAIL);
    /// No route leads there.
    pub const ENETUNREACH: Self = Self(libc::ENETUNREACH);
    /// No memory, or none that the caller may use.
    pub const ENOMEM: Self = Self(libc::ENOMEM);
    /// A map is full.
    pub const E2BIG: Self = Self(libc::E2BIG);
    /// Somebody else uses it.
    pub const EBUSY: Self = Self(libc::EBUSY);
    /// A signal came first.
    pub const EINTR: Self = Self(libc::EINTR);
    /// A disk is full.
    pub const ENOSPC: Self = Self(libc::ENOSPC);
}

impl From<io::Error> for Errno {
    /// The number; an error without one counts as `EIO`, a time-out as `ETIMEDOUT`.
    fn from(error: io::Error) -> Self {
        let timed_out = matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
            || error.raw_os_error() == Some(libc::EINPROGRESS);
        if timed_out { Self::ETIMEDOUT } else { Self(error.raw_os_error().unwrap_or(libc::EIO)) }
    }
}

impl From<rustix::io::Errno> for Errno {
    /// As of any other error with a number.
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl std::error::Error for Errno {}
