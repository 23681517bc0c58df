//! What acceleration did so far: facts, which whoever shows them puts into words. They are the same in a build that has
//! no acceleration, and so has none of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use mesh_bpf::abi::SendPath;

use crate::stuck_reader::StuckReader;

/// What `FIONREAD` tells of accelerated sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counting {
    /// Nothing is accelerated.
    #[default]
    Unused,
    /// What is there: this kernel counts it.
    Right,
    /// What is there: this kernel miscounts it, and its answer is repaired.
    Repaired,
    /// The bytes of one way only; readers that were told too little are known.
    Noticed,
    /// The bytes of one way only.
    Wrong,
}

impl Counting {
    /// The word in JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Right => "right",
            Self::Repaired => "repaired",
            Self::Noticed => "noticed",
            Self::Wrong => "wrong",
        }
    }
}

/// Bytes and messages by the way that they took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carriage {
    /// Bytes past the stack.
    pub fast_bytes: u64,
    /// Bytes through the stack.
    pub slow_bytes: u64,
    /// Messages by path; paths that none took are left out.
    pub messages: BTreeMap<SendPath, u64>,
}

/// What one `accelerate` item did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ItemCarriage {
    /// Chosen connections that are open.
    pub open: u64,
    /// Chosen connections that were closed.
    pub closed: u64,
    /// All of them together.
    pub carriage: Carriage,
}

/// A chosen connection that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairStatus {
    /// The key of its item's counters: the stable hash of the source.
    pub item: u64,
    /// The connecting end.
    pub client: SocketAddr,
    /// The accepting end.
    pub server: SocketAddr,
    /// The port that was dialled.
    pub port: u16,
    /// Whether both ends are on this node and chosen.
    pub paired: bool,
    /// What it carried so far.
    pub carriage: Carriage,
}

/// A program that was seen to splice from connections of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpliceReaderStatus {
    /// The name of the task that did so first.
    pub name: String,
    /// The inode of the program's file.
    pub inode: u64,
    /// The device of that file system, as the kernel numbers it.
    pub device: u32,
    /// How often it was noticed.
    pub times: u64,
}

/// Readers that ask `FIONREAD`, on a kernel that tells them too little.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FionreadReaderStatus {
    /// The name of the task that did so first.
    pub name: String,
    /// Cookie of the network namespace and port that they accept connections on; `None`: the program, as reader of
    /// connections that it opens.
    pub port: Option<(u64, u16)>,
    /// How often one was told too little.
    pub times: u64,
}

/// What acceleration did so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acceleration {
    /// By the key of the item's counters.
    pub items: BTreeMap<u64, ItemCarriage>,
    /// Open connections, by their ends.
    pub pairs: Vec<PairStatus>,
    /// Programs that splice from connections of the mesh: nothing is sent to them past the stack.
    pub splice_readers: Vec<SpliceReaderStatus>,
    /// Whether a process is kept from `splice` where it would not see unread bytes; `false` also where nothing is
    /// accelerated.
    pub refuses_splice: bool,
    /// What `FIONREAD` tells of accelerated sockets.
    pub counting: Counting,
    /// Readers that were told too little by it: they are not accelerated.
    pub fionread_readers: Vec<FionreadReaderStatus>,
    /// Stalled readers.
    pub stuck: Vec<StuckReader>,
}
