//! Who else translates addresses in this thread's network namespace.

use std::{fs, io};

use mesh_nft::TableName;

use super::netfilter::{General, netfilter_if_any};
use super::netlink::{DUMP, ask};
use super::rulesets::GET_CHAINS;
use crate::system::nftables::{Kind, content, number, word};

// From linux/netfilter/nf_tables.h; libc has them as numbers of another type.
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;

/// `NF_IP_PRI_NAT_DST`: where iptables translates destinations.
const DESTINATIONS: i32 = -100;

/// A chain that may translate where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Translation {
    /// Its priority: the lowest comes first.
    pub priority: i32,
    /// The table, with its family: `ip nat`.
    pub table: String,
    /// The chain's name.
    pub chain: String,
}

impl Translation {
    /// Whether it comes before the chains in which a ruleset of ours decides.
    #[must_use]
    pub const fn is_first(&self) -> bool {
        self.priority < mesh_nft::PRIORITY
    }
}

/// The chains of others at the hooks where destinations are translated, in their order: those that are in no table of an
/// instance.
///
/// # Errors
/// What the kernel says.
pub(crate) fn translations() -> io::Result<Vec<Translation>> {
    let mut found = Vec::new();
    if let Some(socket) = netfilter_if_any()? {
        let listed = ask(&socket, GET_CHAINS, DUMP, &General::of(0), &[], |message| {
            let (Some(&family), Some(attributes)) = (message.first(), message.get(size_of::<General>()..))
            else {
                return;
            };
            found.extend(translation(family, attributes));
        });
        match listed {
            // A kernel without nf_tables.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {}
            listed => listed?,
        }
    }
    found.retain(|other| {
        let (_, table) = other.table.split_once(' ').unwrap_or_default();
        !TableName::is_one(table)
    });
    // The kernel does not list the chains of iptables' older kind with the others.
    for (file, family) in [("/proc/net/ip_tables_names", "ip"), ("/proc/net/ip6_tables_names", "ip6")] {
        let names = fs::read_to_string(file).unwrap_or_default();
        if names.lines().any(|name| name == "nat") {
            let table = format!("{family} nat (iptables-legacy)");
            let chain =
                |name: &str| Translation { priority: DESTINATIONS, table: table.clone(), chain: name.into() };
            found.extend(["OUTPUT", "PREROUTING"].map(chain));
        }
    }
    found.sort();
    Ok(found)
}

/// What a message says of a chain; `None` where it is none that translates destinations.
fn translation(family: u8, attributes: &[u8]) -> Option<Translation> {
    let family = match i32::from(family) {
        libc::NFPROTO_INET => "inet",
        libc::NFPROTO_IPV4 => "ip",
        libc::NFPROTO_IPV6 => "ip6",
        _ => return None,
    };
    let hook = content(attributes, CHAIN_HOOK)?;
    let number_of = |kind: u16| number(hook, kind).and_then(|number| u32::try_from(number).ok());
    let is_destination = matches!(
        i32::try_from(number_of(HOOK_NUMBER)?),
        Ok(libc::NF_INET_PRE_ROUTING | libc::NF_INET_LOCAL_OUT)
    );
    (is_destination && word(attributes, CHAIN_TYPE) == Some("nat")).then_some(())?;
    Some(Translation {
        priority: number_of(HOOK_PRIORITY)?.cast_signed(),
        table: format!("{family} {}", Kind::Chain.table(attributes)?),
        chain: Kind::Chain.name(attributes)?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::netlink::attribute;
    use super::*;

    fn chain(kind: &str, hook: i32, priority: i32) -> Vec<u8> {
        let hook =
            [attribute(HOOK_NUMBER, &hook.to_be_bytes()), attribute(HOOK_PRIORITY, &priority.to_be_bytes())];
        let named = |kind, name: &str| attribute(kind, format!("{name}\0").as_bytes());
        [named(1, "nat"), named(3, "OUTPUT"), attribute(CHAIN_HOOK, &hook.concat()), named(CHAIN_TYPE, kind)]
            .concat()
    }

    #[test]
    fn chains_that_translate_destinations_are_read() {
        let family = u8::try_from(libc::NFPROTO_IPV4).unwrap();
        let read = |kind, hook| translation(family, &chain(kind, hook, -100));
        let expected = Translation { priority: -100, table: "ip nat".into(), chain: "OUTPUT".into() };
        assert_eq!(read("nat", libc::NF_INET_LOCAL_OUT), Some(expected));
        assert!(read("nat", libc::NF_INET_PRE_ROUTING).is_some());
        assert_eq!(read("nat", libc::NF_INET_POST_ROUTING), None);
        assert_eq!(read("filter", libc::NF_INET_LOCAL_OUT), None);
        assert_eq!(translation(family, &[1, 2, 3]), None);
    }
}
