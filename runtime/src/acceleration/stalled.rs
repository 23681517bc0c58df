//! Readers of the fast path that wait for bytes which are there: named, and helped.
//!
//! One that stalled in `splice` cannot be given its bytes: its connection is closed, and both ends are told. One that
//! `FIONREAD` told too little needs only to look again: its connection leaves the map of accelerated sockets, by which
//! the kernel counts right from then on, and its reader is woken.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::abi::{self, STALLED_BY_FIONREAD, Unread};
use mesh_bpf::map::STALLED_READERS;

use super::entries;
use crate::error::Result;
use crate::maps::pinned::ControlMap;
use crate::node::Node;
use crate::stuck_reader::{Rescue, StallReason, StuckReader};
use crate::system::{SysError, System};

/// How long a reader that stalled in `splice` may still come back by plain calls, in milliseconds.
const PATIENCE: u64 = 1000;
/// The same for one that was told too little, where it cannot be woken.
const LONG_PATIENCE: u64 = 10_000;
/// How long a message may be on its way over the fast path, in milliseconds.
const ON_ITS_WAY: u64 = 20;

/// Stalled readers at this moment.
pub(crate) fn stuck<S: System>(node: Node<'_, S>) -> Result<Vec<StuckReader>> {
    let (mut noted, _) = noted(node)?;
    noted.retain(waits);
    Ok(noted)
}

/// Whether there are bytes that it does not see. What came through the stack is seen by `splice`.
fn waits(one: &StuckReader) -> bool {
    match one.why {
        StallReason::Splices => one.short > 0,
        StallReason::Counts => one.unread > 0,
    }
}

/// Those of which a note was taken, whose connections are open; and whether the kernel tells what they have not read.
fn noted<S: System>(node: Node<'_, S>) -> Result<(Vec<StuckReader>, bool)> {
    let notes = entries::values::<abi::StalledReader, S>(node, STALLED_READERS.name)?;
    if notes.is_empty() {
        return Ok((Vec::new(), true));
    }
    let cookies: Vec<u64> = notes.iter().map(|(cookie, _)| *cookie).collect();
    let (unread, is_told) = match node.system.unread(&node.instance.maps(), &cookies) {
        Err(cause) if cause.is_refusal() => (Vec::new(), false),
        unread => (unread?, true),
    };
    let unread: BTreeMap<u64, Unread> = unread.into_iter().map(|one| (one.cookie, one)).collect();
    let pairs = entries::values::<abi::Pair, S>(node, mesh_bpf::map::PAIRS.name)?;
    let mut found = Vec::new();
    for (cookie, note) in notes {
        let end = |(_, pair): &(u64, abi::Pair)| {
            let role = pair.ends.iter().position(|end| end.sock != 0 && end.cookie == cookie)?;
            Some((role, *pair))
        };
        let Some((role, pair)) = pairs.iter().find_map(end) else { continue };
        let unread = unread.get(&cookie).copied().unwrap_or_default();
        let why = if note.why == STALLED_BY_FIONREAD { StallReason::Counts } else { StallReason::Splices };
        found.push(StuckReader {
            name: entries::name(note.name),
            process: note.process,
            netns: note.netns,
            cookie,
            client: entries::address(pair.client, pair.client_port),
            server: entries::address(pair.server, pair.server_port),
            accepts: role == 1,
            why,
            unread: u64::from(unread.slow_bytes) + u64::from(unread.fast_bytes),
            short: unread.fast_bytes.into(),
            milliseconds: node.system.clock().saturating_sub(note.since / 1_000_000),
            rescue: Rescue::None,
        });
    }
    found.sort_by_key(|stuck| (stuck.server, stuck.client));
    Ok((found, is_told))
}

pub(crate) fn rescue<S: System>(node: Node<'_, S>) -> Result<Vec<StuckReader>> {
    if ControlMap::open(node)?.is_none() {
        return Ok(Vec::new());
    }
    let (mut noted, is_told) = noted(node)?;
    let released = release(node, &noted)?;
    let mut failed = None;
    for one in &mut noted {
        if released.contains(&one.cookie) {
            one.rescue = Rescue::Released;
        } else if !is_told {
            // It may have read everything: it is neither forgotten nor closed.
        } else if !waits(one) && one.milliseconds >= PATIENCE {
            forget(node, one.cookie)?;
        } else if is_hopeless(one) {
            match close(node.system, one) {
                Ok(()) => one.rescue = Rescue::Closed,
                // It does not keep the others from being helped.
                Err(error) => failed = Some(error),
            }
        }
    }
    noted.retain(|one| one.rescue != Rescue::None);
    match failed {
        Some(error) if noted.is_empty() => Err(error),
        _ => Ok(noted),
    }
}

/// Whether nothing but an end of its connection will wake it.
fn is_hopeless(one: &StuckReader) -> bool {
    waits(one)
        && match one.why {
            StallReason::Splices => one.milliseconds >= PATIENCE,
            // Only what comes through the stack can be used to wake it.
            StallReason::Counts => one.unread == one.short && one.milliseconds >= LONG_PATIENCE,
        }
}

fn forget<S: System>(node: Node<'_, S>, cookie: u64) -> Result<()> {
    let Some(notes) = node.system.open_map(&node.instance.maps().join(STALLED_READERS.name))? else {
        return Ok(());
    };
    Ok(node.system.delete(&notes, &cookie.to_ne_bytes())?)
}

/// Lets those leave that were told too little; their cookies.
fn release<S: System>(node: Node<'_, S>, stuck: &[StuckReader]) -> Result<BTreeSet<u64>> {
    let counted = || stuck.iter().filter(|one| one.why == StallReason::Counts);
    let namespaces: BTreeSet<u64> = counted().map(|one| one.netns).collect();
    if namespaces.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut places = Vec::new();
    for cookie in namespaces {
        places.extend(node.system.find_netns(cookie)?.map(|path| (path, cookie)));
    }
    // First nothing more is sent to them past the stack, then they leave.
    for _ in 0..2 {
        for (netns, cookie) in &places {
            node.system.release(&node.instance.maps(), netns, *cookie)?;
        }
        node.system.sleep(ON_ITS_WAY);
    }
    let left = entries::values::<abi::StalledReader, S>(node, STALLED_READERS.name)?;
    let left: BTreeSet<u64> = left.into_iter().map(|(cookie, _)| cookie).collect();
    Ok(counted().map(|one| one.cookie).filter(|cookie| !left.contains(cookie)).collect())
}

fn close<S: System>(system: &S, one: &StuckReader) -> Result<()> {
    let (client, server) = (one.client, one.server);
    let ends = if one.accepts { (server, client) } else { (client, server) };
    let socket = system.socket(one.netns, ends, one.cookie)?;
    let closed = socket.map_or(Ok(0), |socket| system.close(&[socket]))?;
    let gone = || SysError::new("closing", format!("{client} -> {server}"), std::io::ErrorKind::NotFound);
    // It may have closed by itself; then it is not named the next time.
    if closed == 0 && one.milliseconds > LONG_PATIENCE { Err(gone().into()) } else { Ok(()) }
}
