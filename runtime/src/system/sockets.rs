//! Sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use mesh_bpf::abi::{Flow, Listening};

use super::error::SysResult;
use super::maps::Maps;

/// What the programs noted with a socket of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// A member opened it.
    Opened(Flow),
    /// A socket that was known accepted it.
    Accepted(Accepted),
}

/// A connection that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The cookie of the network namespace.
    pub netns: u64,
    /// Where the connection comes from; never v4-mapped.
    pub remote: SocketAddr,
    /// What was dialled; never v4-mapped.
    pub local: SocketAddr,
    /// Who accepted it.
    pub by: Listening,
}

/// A socket that waits for connections or datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// For datagrams.
    pub is_udp: bool,
    /// Where.
    pub at: SocketAddr,
    /// It is on all IPv6 addresses, and takes what comes by IPv4 too.
    pub takes_v4: bool,
    /// The user that made it.
    pub uid: u32,
    /// The number of its inode.
    pub inode: u64,
}

/// A process that has a socket open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holds {
    /// Its id.
    pub process: u32,
    /// Its name, as it is to be shown.
    pub name: String,
    /// The group that made the socket.
    pub gid: u32,
    /// The path of its cgroup.
    pub cgroup: String,
}

/// What the runtime asks and does to sockets.
pub trait Sockets: Maps {
    /// A connected socket.
    type Socket;

    /// The sockets that wait for connections or datagrams in a network namespace, with the same precaution.
    ///
    /// # Errors
    /// What the kernel says; `ESTALE` where it is another.
    fn waiting(&self, netns: &Path, cookie: u64) -> SysResult<Vec<Waits>>;
    /// Who has sockets with these inodes open: of each one process, as far as it can be found.
    ///
    /// # Errors
    /// If processes cannot be looked at.
    fn holders(&self, inodes: &BTreeSet<u64>) -> SysResult<BTreeMap<u64, Holds>>;
    /// Whether connections can be closed here. Minimum kernel 4.5, with `CONFIG_INET_DIAG_DESTROY`.
    ///
    /// # Errors
    /// What the kernel says.
    fn can_close(&self) -> SysResult<bool>;
    /// Every TCP connection of this machine that has a value in one of two maps of socket storage. Minimum kernel
    /// 5.14.
    ///
    /// # Errors
    /// What the kernel says.
    fn connections(&self, flows: &Self::Map, listening: &Self::Map) -> SysResult<Vec<(Noted, Self::Socket)>>;
    /// Closes connections, so that both ends are told; how many were still there.
    ///
    /// # Errors
    /// What the kernel says; then some may be closed.
    fn close(&self, sockets: &[Self::Socket]) -> SysResult<usize>;
    /// A TCP socket by the cookie of its network namespace, the ends of its connection, its own first, and its own
    /// cookie; `None` where the namespace is gone.
    ///
    /// # Errors
    /// What the kernel says.
    fn socket(
        &self,
        netns: u64,
        ends: (SocketAddr, SocketAddr),
        cookie: u64,
    ) -> SysResult<Option<Self::Socket>>;
}
