//! Rulesets of nftables, and what the kernel keeps of connections that went through them, in network namespaces.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use mesh_nft::Batch;

use super::error::SysResult;

/// A table of a network namespace: what is in it, by name. Elements of maps are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Its chains, each with its handle and those of its rules in order.
    pub chains: BTreeMap<String, (u64, Vec<u64>)>,
    /// Its sets and maps, with their handles.
    pub sets: BTreeMap<String, u64>,
    /// Its counters, with the packets that each has counted.
    pub counters: BTreeMap<String, u64>,
}

/// A connection that the kernel tracks in a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// A flow of datagrams.
    pub is_udp: bool,
    /// Where its first packet came from.
    pub source: SocketAddr,
    /// Where its first packet was sent to, before anything was translated.
    pub destination: SocketAddr,
    /// Where answers come from: another than `destination` where that was translated.
    pub answered_by: SocketAddr,
    /// What tells it from others, as the kernel wrote it.
    pub key: Vec<u8>,
}

/// What the runtime does to rulesets. Each step makes sure that the file still stands for the network namespace with
/// this cookie; `ESTALE` where it is another.
pub trait Rulesets {
    /// Sends a batch of nf_tables: all of it is done at once, or nothing.
    ///
    /// # Errors
    /// What the kernel says, with the message that it refuses.
    fn commit(&self, netns: &Path, cookie: u64, batch: &Batch) -> SysResult<()>;
    /// The number of the last commit to any table of the namespace.
    ///
    /// # Errors
    /// What the kernel says.
    fn commits(&self, netns: &Path, cookie: u64) -> SysResult<u32>;
    /// A table of the family `inet`; `None` where there is none.
    ///
    /// # Errors
    /// What the kernel says.
    fn table(&self, netns: &Path, cookie: u64, table: &str) -> SysResult<Option<Held>>;
    /// The chains of such a table by name, and nothing else of it: none where there is no table.
    ///
    /// # Errors
    /// What the kernel says.
    fn chains(&self, netns: &Path, cookie: u64, table: &str) -> SysResult<Vec<String>>;
    /// The counters of such a table, with the packets that each has counted.
    ///
    /// # Errors
    /// What the kernel says.
    fn packets(&self, netns: &Path, cookie: u64, table: &str) -> SysResult<BTreeMap<String, u64>>;
    /// The connections that the kernel tracks: TCP, and flows of datagrams.
    ///
    /// # Errors
    /// What the kernel says.
    fn tracked(&self, netns: &Path, cookie: u64) -> SysResult<Vec<Tracked>>;
    /// Forgets some of them: the next packet of each is its first. One that has ended is no error.
    ///
    /// # Errors
    /// What the kernel says.
    fn forget(&self, netns: &Path, cookie: u64, connections: &[Tracked]) -> SysResult<()>;
}
