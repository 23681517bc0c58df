//! What acceleration carried: read from the programs' byte counters.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use mesh_bpf::abi::{Asker, Carried, Half, Pair, Program, Splicer, WAYS, Way};
use mesh_bpf::map::{ASKERS, CARRIED, PAIRS, SPLICERS};

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
pub struct SplicerStatus {
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
pub struct AskerStatus {
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
    pub splicers: Vec<SplicerStatus>,
    /// Whether a process is kept from `splice` where it would not see unread bytes; `false` also where nothing is
    /// accelerated.
    pub refuses_splice: bool,
    /// What `FIONREAD` tells of accelerated sockets.
    pub counting: Counting,
    /// Readers that were told too little by it: they are not accelerated.
    pub askers: Vec<AskerStatus>,
    /// Stalled readers.
    pub stuck: Vec<StuckReader>,
}

impl Carriage {
    fn add(&mut self, short: u64, long: u64, messages: &[u64; WAYS]) {
        self.fast_bytes += short;
        self.slow_bytes += long;
        for (&way, &count) in Way::ALL.iter().zip(messages) {
            if count > 0 {
                *self.messages.entry(way).or_default() += count;
            }
        }
    }

    fn add_half(&mut self, half: &Half) {
        self.add(half.fast_bytes, half.slow_bytes, &half.messages);
    }
}

/// Reads the byte counters; which readers stall is known to `rescue`.
pub(crate) fn read<S: System>(node: Node<'_, S>) -> Result<Acceleration> {
    let mut found = Acceleration::default();
    for (key, carried) in values::<Carried, S>(node, CARRIED.name)? {
        let item = found.items.entry(key).or_default();
        item.closed += carried.pairs;
        item.carriage.add(carried.fast_bytes, carried.slow_bytes, &carried.messages);
    }
    for (_, pair) in values::<Pair, S>(node, PAIRS.name)? {
        let item = found.items.entry(pair.item).or_default();
        item.open += 1;
        let mut carriage = Carriage::default();
        for half in &pair.half {
            item.carriage.add_half(half);
            carriage.add_half(half);
        }
        found.pairs.push(PairStatus {
            item: pair.item,
            client: address(pair.client, pair.client_port),
            server: address(pair.server, pair.server_port),
            port: pair.port,
            paired: pair.half.iter().all(|half| half.sock != 0),
            carriage,
        });
    }
    found.pairs.sort_by_key(|pair| (pair.server, pair.client));
    for (program, splicer) in entries::<Program, Splicer, S>(node, SPLICERS.name)? {
        found.splicers.push(SplicerStatus {
            name: name(splicer.name),
            inode: program.inode,
            device: program.device,
            times: splicer.times,
        });
    }
    found.splicers.sort_by(|a, b| a.name.cmp(&b.name).then(a.inode.cmp(&b.inode)));
    for (asker, first) in entries::<Asker, Splicer, S>(node, ASKERS.name)? {
        found.askers.push(AskerStatus {
            name: name(first.name),
            port: u16::try_from(asker.number)
                .ok()
                .filter(|_| asker.is_program == 0)
                .map(|port| (asker.place, port)),
            times: first.times,
        });
    }
    found.askers.sort_by(|a, b| a.name.cmp(&b.name).then(a.port.cmp(&b.port)));
    found.refuses_splice = accelerators::refuses_splice(node)?;
    found.counting = accelerators::counting(node)?;
    Ok(found)
}
