//! What a server sees of a connection that reached it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use serde::{Deserialize, Serialize};

use crate::errno::Errno;
use crate::raw;

/// Linux's `SO_ORIGINAL_DST` and `IP6T_SO_ORIGINAL_DST`, which are the same number at two levels.
const ORIGINAL_DESTINATION: i32 = 80;

/// The level at which a proxy asks for the original destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    /// `SOL_IP`, whose answer is a `sockaddr_in` of 16 bytes.
    V4,
    /// `SOL_IPV6`, whose answer is a `sockaddr_in6` of 28 bytes.
    V6,
}

impl Level {
    fn number(self) -> i32 {
        match self {
            Self::V4 => libc::SOL_IP,
            Self::V6 => libc::SOL_IPV6,
        }
    }

    fn length(self) -> u32 {
        match self {
            Self::V4 => 16,
            Self::V6 => 28,
        }
    }
}

/// One connection, as the server that accepted it sees it. A server of the testbed greets with this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// The name that the server was given.
    pub who: String,
    /// `getsockname` of the accepted socket.
    pub local: SocketAddr,
    /// `getpeername` of the accepted socket.
    pub peer: SocketAddr,
    /// `SO_ORIGINAL_DST`, or why there is none.
    pub original4: Result<SocketAddr, Errno>,
    /// `IP6T_SO_ORIGINAL_DST`, or why there is none.
    pub original6: Result<SocketAddr, Errno>,
}

impl Arrival {
    /// Asks the kernel all there is to ask about an accepted connection.
    ///
    /// # Errors
    /// If the connection is already gone.
    pub fn of(stream: &TcpStream, who: &str) -> io::Result<Self> {
        Ok(Self {
            who: who.to_owned(),
            local: stream.local_addr()?,
            peer: stream.peer_addr()?,
            original4: original_destination(stream.as_fd(), Level::V4),
            original6: original_destination(stream.as_fd(), Level::V6),
        })
    }

    /// The original destination, whichever level knew it, v4-mapped addresses as v4.
    pub fn original(&self) -> Option<SocketAddr> {
        let known = self.original4.or(self.original6).ok()?;
        Some(SocketAddr::new(known.ip().to_canonical(), known.port()))
    }
}

/// Asks an accepted socket where its client wanted to go, as a transparent proxy does.
///
/// # Errors
/// What the kernel answered: `ENOENT` or `ENOPROTOOPT` where nobody redirected, `EOPNOTSUPP` for the level
/// of the other family.
pub fn original_destination(fd: BorrowedFd<'_>, level: Level) -> Result<SocketAddr, Errno> {
    let answer = raw_option(fd, level.number(), ORIGINAL_DESTINATION, level.length())?;
    decode(&answer).ok_or(Errno(libc::EPROTO))
}

/// `getsockopt` with any level, option and length, for what no proxy should ask.
///
/// # Errors
/// What the kernel answered.
pub fn raw_option(fd: BorrowedFd<'_>, level: i32, option: i32, length: u32) -> Result<Vec<u8>, Errno> {
    raw::socket_option(fd, level, option, length).map_err(Errno::from)
}

/// `setsockopt` with any level, option and value.
///
/// # Errors
/// What the kernel answered.
pub fn set_raw_option(fd: BorrowedFd<'_>, level: i32, option: i32, value: &[u8]) -> Result<(), Errno> {
    raw::set_socket_option(fd, level, option, value).map_err(Errno::from)
}

/// Reads a `sockaddr_in` or `sockaddr_in6`: family in the machine's order, port and address in the network's.
fn decode(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(field(bytes, 0)?));
    let port = u16::from_be_bytes(field(bytes, 2)?);
    match family {
        libc::AF_INET => Some(SocketAddr::new(Ipv4Addr::from(field::<4>(bytes, 4)?).into(), port)),
        libc::AF_INET6 => {
            let (ip, scope) = (Ipv6Addr::from(field::<16>(bytes, 8)?), u32::from_ne_bytes(field(bytes, 24)?));
            Some(SocketAddrV6::new(ip, port, 0, scope).into())
        }
        _ => None,
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_are_read() {
        let mut v4 = vec![2, 0, 0x0c, 0xea, 10, 0, 3, 9];
        v4.resize(16, 0);
        assert_eq!(decode(&v4), Some("10.0.3.9:3306".parse().unwrap()));
        let mut v6 = vec![10, 0, 0, 80, 0, 0, 0, 0, 0xfd];
        v6.resize(23, 0);
        v6.push(9);
        v6.resize(28, 0);
        assert_eq!(decode(&v6), Some("[fd00::9]:80".parse().unwrap()));
        v6[24..].copy_from_slice(&3u32.to_ne_bytes());
        assert_eq!(decode(&v6), Some("[fd00::9%3]:80".parse().unwrap()));
        assert_eq!(decode(&v6[..20]), None);
        assert_eq!(decode(&[1, 0, 0, 0]), None);
    }
}
