//! Rulesets of nftables, by `NETLINK_NETFILTER`.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::path::Path;

use mesh_nft::Batch;
use rustix::net::sockopt::set_socket_send_buffer_size_force;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};

use super::conntrack;
use super::enter::{inside, open_netns};
use super::kernel::Kernel;
use super::netfilter::{General, netfilter};
use super::netlink::{ACK, DUMP, ask, attribute, errors};
use super::step::at;
use crate::system::nftables::{Kind, content, number};
use crate::system::{Held, Rulesets, SysError, SysResult, Tracked};

const NFTABLES: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8;
pub(super) const GET_CHAINS: u16 = NFTABLES | libc::NFT_MSG_GETCHAIN as u16;
const GET_RULES: u16 = NFTABLES | libc::NFT_MSG_GETRULE as u16;
const GET_SETS: u16 = NFTABLES | libc::NFT_MSG_GETSET as u16;
const GET_GENERATION: u16 = NFTABLES | libc::NFT_MSG_GETGEN as u16;
const GET_OBJECTS: u16 = NFTABLES | libc::NFT_MSG_GETOBJ as u16;

/// `NFPROTO_INET`.
const INET: u8 = libc::NFPROTO_INET as u8;
/// `NFTA_GEN_ID`, `NFTA_OBJ_DATA` and `NFTA_COUNTER_PACKETS`, which libc has not.
const GENERATION_ID: u16 = 1;
const OBJECT_DATA: u16 = 4;
const COUNTER_PACKETS: u16 = 2;

/// What the kernel adds to each message that waits to be read.
const OVERHEAD: usize = 1 << 12;

impl Rulesets for Kernel {
    fn commit(&self, netns: &Path, cookie: u64, batch: &Batch) -> SysResult<()> {
        let file = at("opening", netns, open_netns(netns, cookie))?;
        let refused = at("sending a ruleset to", netns, inside(&file, || commit(batch)))?;
        let Some((sequence, cause)) = refused else { return Ok(()) };
        let log = batch.step(sequence).map_or_else(String::new, ToString::to_string);
        Err(SysError { log, ..SysError::new("loading a ruleset", netns.display().to_string(), cause) })
    }

    fn commits(&self, netns: &Path, cookie: u64) -> SysResult<u32> {
        let file = at("opening", netns, open_netns(netns, cookie))?;
        at("looking at the rulesets of", netns, inside(&file, generation))
    }

    fn table(&self, netns: &Path, cookie: u64, table: &str) -> SysResult<Option<Held>> {
        let file = at("opening", netns, open_netns(netns, cookie))?;
        at("looking at the rulesets of", netns, inside(&file, || held(table)))
    }

    fn chains(&self, netns: &Path, cookie: u64, table: &str) -> SysResult<Vec<String>> {
        let file = at("opening", netns, open_netns(netns, cookie))?;
        let look = || Ok(chains(&netfilter()?, table)?.into_iter().map(|(name, _)| name).collect());
        at("looking at the rulesets of", netns, inside(&file, look))
    }

    fn packets(&self, netns: &Path, cookie: u64, table: &str) -> SysResult<BTreeMap<String, u64>> {
        let file = at("opening", netns, open_netns(netns, cookie))?;
        at("reading the counters of", netns, inside(&file, || packets(&netfilter()?, table)))
    }

    fn tracked(&self, netns: &Path, cookie: u64) -> SysResult<Vec<Tracked>> {
        let file = at("opening", netns, open_netns(netns, cookie))?;
        at("looking at the connections of", netns, inside(&file, || conntrack::tracked(&netfilter()?)))
    }

    fn forget(&self, netns: &Path, cookie: u64, connections: &[Tracked]) -> SysResult<()> {
        let file = at("opening", netns, open_netns(netns, cookie))?;
        let forget = || conntrack::forget(&netfilter()?, connections);
        at("forgetting connections of", netns, inside(&file, forget))
    }
}

/// Sends a batch. The kernel does all of it before `sendmsg` returns, and has answered then. `Some` with the number of the
/// first message that it refuses.
fn commit(batch: &Batch) -> io::Result<Option<(u32, io::Error)>> {
    let socket = netfilter()?;
    set_socket_send_buffer_size_force(&socket, batch.len() + OVERHEAD)?;
    let pieces: Vec<IoSlice<'_>> = batch.chunks().map(IoSlice::new).collect();
    sendmsg(&socket, &pieces, &mut SendAncillaryBuffer::default(), SendFlags::empty())?;
    let mut buffer = vec![0; 1 << 16];
    let mut is_done = false;
    loop {
        match recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Err(rustix::io::Errno::AGAIN) if is_done => return Ok(None),
            Err(rustix::io::Errno::AGAIN) => return Err(io::Error::other("the kernel did not answer")),
            Err(error) => return Err(error.into()),
            Ok((received, _)) => {
                for (sequence, error) in errors(buffer.get(..received).unwrap_or_default()) {
                    if let Some(error) = error {
                        return Ok(Some((sequence, error)));
                    }
                    is_done |= sequence == batch.acknowledged();
                }
            }
        }
    }
}

fn generation() -> io::Result<u32> {
    let mut found = None;
    ask(&netfilter()?, GET_GENERATION, ACK, &General::of(0), &[], |message| {
        let attributes = message.get(size_of::<General>()..).unwrap_or_default();
        found = found.or(number(attributes, GENERATION_ID));
    })?;
    let found = found.and_then(|number| u32::try_from(number).ok());
    found.ok_or_else(|| io::Error::other("the kernel does not tell how often rulesets were changed"))
}

/// Hands over the attributes of each thing of a kind in a table.
fn each(
    socket: &OwnedFd,
    operation: u16,
    kind: Kind,
    table: &str,
    mut found: impl FnMut(&str, u64, &[u8]),
) -> io::Result<()> {
    // Kernels look at the table's name for some kinds only.
    let mut name = table.as_bytes().to_vec();
    name.push(0);
    let request = General::of(INET);
    let asked = attribute(1, &name);
    ask(socket, operation, DUMP, &request, &asked, |message| {
        let attributes = message.get(size_of::<General>()..).unwrap_or_default();
        if kind.table(attributes) == Some(table)
            && let Some(name) = kind.name(attributes)
        {
            found(name, kind.handle(attributes).unwrap_or_default(), attributes);
        }
    })
}

fn chains(socket: &OwnedFd, table: &str) -> io::Result<Vec<(String, u64)>> {
    let mut chains = Vec::new();
    each(socket, GET_CHAINS, Kind::Chain, table, |name, handle, _| chains.push((name.to_owned(), handle)))?;
    Ok(chains)
}

fn packets(socket: &OwnedFd, table: &str) -> io::Result<BTreeMap<String, u64>> {
    let mut counters = BTreeMap::new();
    each(socket, GET_OBJECTS, Kind::Object, table, |name, _, attributes| {
        let data = content(attributes, OBJECT_DATA).unwrap_or_default();
        counters.extend(number(data, COUNTER_PACKETS).map(|packets| (name.to_owned(), packets)));
    })?;
    Ok(counters)
}

fn held(table: &str) -> io::Result<Option<Held>> {
    let socket = netfilter()?;
    let mut held = Held::default();
    for (name, handle) in chains(&socket, table)? {
        held.chains.insert(name, (handle, Vec::new()));
    }
    if held.chains.is_empty() {
        return Ok(None);
    }
    each(&socket, GET_RULES, Kind::Rule, table, |chain, handle, _| {
        if let Some((_, rules)) = held.chains.get_mut(chain) {
            rules.push(handle);
        }
    })?;
    each(&socket, GET_SETS, Kind::Set, table, |name, handle, _| {
        held.sets.insert(name.to_owned(), handle);
    })?;
    held.counters = packets(&socket, table)?;
    Ok(Some(held))
}
