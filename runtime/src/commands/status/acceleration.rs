//! What acceleration carried: read from the programs' byte counters.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use mesh_bpf::abi::{Executable, FionreadReader, Pair, PairEnd, PairTotals, SpliceReader, WAYS, Way};
use mesh_bpf::map::{FIONREAD_READER, PAIR_TOTALS, PAIRS, SPLICE_READERS};

use crate::attach::accelerators::{self, Counting};
use crate::error::Result;
use crate::maps::entries::{address, entries, name, values};
use crate::node::Node;
use crate::stuck_reader::StuckReader;
use crate::system::System;

/// Bytes and messages by the way that they took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carriage {
    /// Bytes past the stack.
    pub fast_bytes: u64,
    /// Bytes through the stack.
    pub slow_bytes: u64,
    /// Messages by way; ways that none took are left out.
    pub messages: BTreeMap<Way, u64>,
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

impl Carriage {
    fn add(&mut self, fast: u64, slow: u64, messages: &[u64; WAYS]) {
        self.fast_bytes += fast;
        self.slow_bytes += slow;
        for (&way, &count) in Way::ALL.iter().zip(messages) {
            if count > 0 {
                *self.messages.entry(way).or_default() += count;
            }
        }
    }

    fn add_end(&mut self, end: &PairEnd) {
        self.add(end.fast_bytes, end.slow_bytes, &end.messages);
    }
}

/// Reads the byte counters; which readers stall is known to `rescue`.
pub(crate) fn read<S: System>(node: Node<'_, S>) -> Result<Acceleration> {
    let mut found = Acceleration::default();
    for (key, closed) in values::<PairTotals, S>(node, PAIR_TOTALS.name)? {
        let item = found.items.entry(key).or_default();
        item.closed += closed.pairs;
        item.carriage.add(closed.fast_bytes, closed.slow_bytes, &closed.messages);
    }
    for (_, pair) in values::<Pair, S>(node, PAIRS.name)? {
        let item = found.items.entry(pair.item).or_default();
        item.open += 1;
        let mut carriage = Carriage::default();
        for end in &pair.ends {
            item.carriage.add_end(end);
            carriage.add_end(end);
        }
        found.pairs.push(PairStatus {
            item: pair.item,
            client: address(pair.client, pair.client_port),
            server: address(pair.server, pair.server_port),
            port: pair.port,
            paired: pair.ends.iter().all(|end| end.sock != 0),
            carriage,
        });
    }
    found.pairs.sort_by_key(|pair| (pair.server, pair.client));
    for (program, reader) in entries::<Executable, SpliceReader, S>(node, SPLICE_READERS.name)? {
        found.splice_readers.push(SpliceReaderStatus {
            name: name(reader.name),
            inode: program.inode,
            device: program.device,
            times: reader.times,
        });
    }
    found.splice_readers.sort_by(|a, b| a.name.cmp(&b.name).then(a.inode.cmp(&b.inode)));
    for (reader, first) in entries::<FionreadReader, SpliceReader, S>(node, FIONREAD_READER.name)? {
        found.fionread_readers.push(FionreadReaderStatus {
            name: name(first.name),
            port: u16::try_from(reader.number)
                .ok()
                .filter(|_| reader.is_program == 0)
                .map(|port| (reader.place, port)),
            times: first.times,
        });
    }
    found.fionread_readers.sort_by(|a, b| a.name.cmp(&b.name).then(a.port.cmp(&b.port)));
    found.refuses_splice = accelerators::refuses_splice(node)?;
    found.counting = accelerators::counting(node)?;
    Ok(found)
}
