//! Whether addresses are translated in a network namespace: `NETLINK_NETFILTER`, and the tables of before.
//!
//! Where they are, the kernel compares the socket of each packet that opens a connection with the packet's source, and a
//! listening socket has none: it takes away what an interface's program gave the packet to, whether a rule matches or not.

use std::fs;
use std::io;

use super::netfilter::{General, netfilter_if_any};
use super::netlink::{DUMP, ask, find};

const GET_CHAINS: u16 = (libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_GETCHAIN) as u16;
/// `NFTA_CHAIN_TYPE`, which libc has not.
const CHAIN_TYPE: u16 = 7;

/// In this thread's namespace.
pub(super) fn translates() -> io::Result<bool> {
    Ok(has_old_table("ip_tables_names")? || has_old_table("ip6_tables_names")? || has_chain()?)
}

/// The names of iptables' own tables, as far as they are there.
fn has_old_table(names: &str) -> io::Result<bool> {
    match fs::read_to_string(format!("/proc/thread-self/net/{names}")) {
        Ok(names) => Ok(names.lines().any(|name| name == "nat")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A chain of nftables that translates; iptables makes those, too, in most places.
fn has_chain() -> io::Result<bool> {
    let Some(socket) = netfilter_if_any()? else { return Ok(false) };
    let mut any = false;
    let request = General::of(0);
    let asked = ask(&socket, GET_CHAINS, DUMP, &request, &[], |message| {
        let attributes = message.get(size_of::<General>()..).unwrap_or_default();
        any |= find(attributes, CHAIN_TYPE).is_some_and(|kind| kind.starts_with(b"nat"));
    });
    match asked {
        // A kernel without nftables.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => Ok(false),
        asked => asked.map(|()| any),
    }
}
