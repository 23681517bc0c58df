//! What acceleration carried: read from the programs' books.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bytemuck::{AnyBitPattern, try_pod_read_unaligned};
use mesh_bpf::abi::{Carried, Half, Pair, WAYS, Way};
use mesh_bpf::map::{CARRIED, PAIRS};

use crate::error::Result;
use crate::instance::Instance;
use crate::store::Store;

/// Bytes and messages by the way that they took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carriage {
    /// Bytes past the stack.
    pub short_bytes: u64,
    /// Bytes through the stack.
    pub long_bytes: u64,
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

/// What acceleration did so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acceleration {
    /// By the key of the item's counters.
    pub items: BTreeMap<u64, ItemCarriage>,
    /// Open connections, by their ends.
    pub pairs: Vec<PairStatus>,
}

impl Carriage {
    fn add(&mut self, short: u64, long: u64, messages: &[u64; WAYS]) {
        self.short_bytes += short;
        self.long_bytes += long;
        for (&way, &count) in Way::ALL.iter().zip(messages) {
            if count > 0 {
                *self.messages.entry(way).or_default() += count;
            }
        }
    }

    fn add_half(&mut self, half: &Half) {
        self.add(half.short_bytes, half.long_bytes, &half.messages);
    }
}

/// Reads the books.
pub(crate) fn read<S: Store>(store: &S, instance: &Instance) -> Result<Acceleration> {
    let mut found = Acceleration::default();
    for (key, carried) in values::<Carried, S>(store, instance, CARRIED.name)? {
        let item = found.items.entry(key).or_default();
        item.closed += carried.pairs;
        item.carriage.add(carried.short_bytes, carried.long_bytes, &carried.messages);
    }
    for (_, pair) in values::<Pair, S>(store, instance, PAIRS.name)? {
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
    Ok(found)
}

fn values<T: AnyBitPattern, S: Store>(store: &S, instance: &Instance, name: &str) -> Result<Vec<(u64, T)>> {
    let Some(map) = store.open_map(&instance.maps().join(name))? else { return Ok(Vec::new()) };
    let entry = |(key, value): (Vec<u8>, Vec<u8>)| {
        let key = u64::from_ne_bytes(key.try_into().ok()?);
        Some((key, try_pod_read_unaligned(&value).ok()?))
    };
    Ok(store.entries(&map)?.into_iter().filter_map(entry).collect())
}

fn address(words: [u32; 4], port: u16) -> SocketAddr {
    let bytes: [u8; 16] = bytemuck::cast(words);
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical(), port)
}
