//! The ways out of a network namespace: its interfaces, and where the routes of its tables `local` and `main` lead. Asked
//! of `NETLINK_ROUTE`, and put together as the kernel looks routes up where there are only the rules that each namespace
//! begins with: first `local`, then `main`, the longest prefix, of equal ones the lowest metric.
//!
//! What looks at more than the destination (rules of their own, a type of service, the source, further tables) is counted.

use std::collections::BTreeMap;
use std::io;

use bytemuck::Zeroable;
use mesh_bpf::prefix::Prefix;
use mesh_bpf::selector::LOOPBACK;
use rustix::net::{AddressFamily, SocketType, socket};

use super::netlink::{DUMP, ask, find};
use super::route::{AF_INET, AF_INET6, Route, address};
use crate::system::Network;

/// More routes of a namespace are not looked at.
const MOST: usize = 1 << 16;
/// So often is asked while they change.
const TRIES: usize = 8;

const CLONED: u32 = libc::RTM_F_CLONED;
// From linux/rtnetlink.h; libc has none of them.
/// A way that a route leads by is not there.
const DEAD: u8 = 1;
/// The attribute with the object that says where a route leads.
const NEXT_HOP: u16 = 30;
// Attributes of rules, from linux/fib_rules.h.
const FRA_PRIORITY: u16 = 6;
const FRA_TABLE: u16 = 15;

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Way {
    prefix: Prefix,
    is_local: bool,
    metric: u32,
    interfaces: Vec<u32>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Way(Way),
    /// It looks at more than the destination.
    Special,
    /// Nothing that decides where a packet goes.
    Nothing,
}

/// The ways out of this thread's namespace.
pub(super) fn network() -> io::Result<Network> {
    for _ in 0..TRIES {
        match look() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            found => return found,
        }
    }
    Err(io::Error::from_raw_os_error(libc::EAGAIN))
}

fn look() -> io::Result<Network> {
    let mut network = Network::default();
    for interface in &nix::net::if_::if_nameindex()? {
        let name = interface.name().to_string_lossy();
        if name != LOOPBACK {
            network.interfaces.insert(interface.index(), name.into_owned());
        }
    }
    let (mut ways, mut count) = (Vec::new(), 0usize);
    for family in [AF_INET, AF_INET6] {
        dump(libc::RTM_GETRULE, family, |message| network.special += usize::from(is_special_rule(message)))?;
        dump(libc::RTM_GETROUTE, family, |message| match said(message) {
            Said::Way(way) => {
                count += 1;
                if count <= MOST {
                    ways.push(way);
                }
            }
            Said::Special => network.special += 1,
            Said::Nothing => {}
        })?;
    }
    network.has_too_many = count > MOST;
    if !network.has_too_many {
        network.routes = put_together(ways)
            .into_iter()
            .map(|(prefix, way)| (prefix, way.interfaces.into_iter().collect()))
            .collect();
    }
    Ok(network)
}

/// Lists what there is of a family; nothing where the kernel has no such family.
fn dump(kind: u16, family: u8, message: impl FnMut(&[u8])) -> io::Result<()> {
    // Protocol 0: `NETLINK_ROUTE`.
    let netlink = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    let request = Route { family, ..Route::zeroed() };
    match ask(&netlink, kind, DUMP, &request, &[], message) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT)) => Ok(()),
        asked => asked,
    }
}

/// The routes that the kernel would find, by prefix.
fn put_together(ways: Vec<Way>) -> BTreeMap<Prefix, Way> {
    let (mut local, mut main) = (BTreeMap::new(), BTreeMap::new());
    for way in ways {
        let table: &mut BTreeMap<Prefix, Way> = if way.is_local { &mut local } else { &mut main };
        let is_v6 = matches!(way.prefix, Prefix::V6 { .. });
        match table.get_mut(&way.prefix) {
            Some(known) if known.metric < way.metric => {}
            // The kernel chooses between them by what it knows of the neighbours.
            Some(known) if known.metric == way.metric && is_v6 => known.interfaces.extend(way.interfaces),
            // Of IPv4 the first counts.
            Some(known) if known.metric == way.metric => {}
            _ => drop(table.insert(way.prefix, way)),
        }
    }
    // What `local` has an answer for is never looked up in `main`, however long the prefix there is.
    main.retain(|prefix, _| !lies_in(*prefix, &local));
    main.append(&mut local);
    main
}

fn lies_in(prefix: Prefix, table: &BTreeMap<Prefix, Way>) -> bool {
    let len = prefix.length().unwrap_or_default();
    (0..=len).any(|len| prefix.shortened(len).is_some_and(|wider| table.contains_key(&wider)))
}

fn said(message: &[u8]) -> Said {
    let Some((head, attributes)) = message.split_at_checked(size_of::<Route>()) else { return Said::Nothing };
    let Ok(head) = bytemuck::try_pod_read_unaligned::<Route>(head) else { return Said::Nothing };
    let word =
        |kind: u16| find(attributes, kind).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    let table = word(libc::RTA_TABLE).unwrap_or_else(|| head.table.into());
    let is_local = table == u32::from(libc::RT_TABLE_LOCAL);
    if head.flags & (CLONED | u32::from(DEAD)) != 0 {
        return Said::Nothing;
    }
    // Nobody asks other tables, but by rules that are counted.
    if !is_local && table != u32::from(libc::RT_TABLE_MAIN) {
        let is_asked = table == u32::from(libc::RT_TABLE_DEFAULT);
        return if is_asked { Said::Special } else { Said::Nothing };
    }
    if head.tos != 0 || head.source_len != 0 {
        return Said::Special;
    }
    let Some(prefix) = prefix(head, find(attributes, libc::RTA_DST)) else { return Said::Nothing };
    let several = find(attributes, libc::RTA_MULTIPATH);
    // It is named by its number alone where `nexthop_compat_mode` is off.
    if word(libc::RTA_OIF).is_none() && several.is_none() && word(NEXT_HOP).is_some() {
        return Said::Special;
    }
    let interfaces = match head.kind {
        libc::RTN_UNICAST | libc::RTN_BROADCAST | libc::RTN_MULTICAST => {
            several.map_or_else(|| word(libc::RTA_OIF).into_iter().collect(), next_hops)
        }
        // It stays inside, or goes nowhere.
        _ => Vec::new(),
    };
    Said::Way(Way { prefix, is_local, metric: word(libc::RTA_PRIORITY).unwrap_or_default(), interfaces })
}

fn prefix(head: Route, destination: Option<&[u8]>) -> Option<Prefix> {
    let whole = match (head.family, destination) {
        (_, Some(bytes)) => Prefix::host(address(bytes)?),
        (AF_INET, None) => Prefix::V4 { bits: 0, len: 32 },
        (AF_INET6, None) => Prefix::V6 { bits: 0, len: 128 },
        _ => return None,
    };
    whole.shortened(head.destination_len)
}

/// The interfaces of several ways (`struct rtnexthop`), but for those that are not there.
fn next_hops(mut bytes: &[u8]) -> Vec<u32> {
    let mut interfaces = Vec::new();
    while let Some(&[a, b, flags, _, i0, i1, i2, i3]) = bytes.first_chunk::<8>() {
        let len = usize::from(u16::from_ne_bytes([a, b]));
        if flags & DEAD == 0 {
            interfaces.push(u32::from_ne_bytes([i0, i1, i2, i3]));
        }
        // One that is shorter than its head would be read for ever.
        bytes = bytes.get(len.max(8).next_multiple_of(4)..).unwrap_or_default();
    }
    interfaces
}

/// Whether it is none of the rules that each namespace begins with: `local`, `main` and `default` for everybody.
fn is_special_rule(message: &[u8]) -> bool {
    let Some((head, attributes)) = message.split_at_checked(size_of::<Route>()) else { return false };
    let Ok(head) = bytemuck::try_pod_read_unaligned::<Route>(head) else { return false };
    let word =
        |kind: u16| find(attributes, kind).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    let table = word(FRA_TABLE).unwrap_or_else(|| head.table.into());
    let place = (word(FRA_PRIORITY).unwrap_or_default(), table);
    let first = [
        (0, u32::from(libc::RT_TABLE_LOCAL)),
        (0x7ffe, u32::from(libc::RT_TABLE_MAIN)),
        (0x7fff, u32::from(libc::RT_TABLE_DEFAULT)),
    ];
    !first.contains(&place) || head.destination_len != 0 || head.source_len != 0
}

#[cfg(test)]
mod tests {
    use super::super::netlink::attribute;
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (address, len) = text.split_once('/').unwrap();
        Prefix::host(address.parse().unwrap()).shortened(len.parse().unwrap()).unwrap()
    }

    fn way(text: &str, metric: u32, interfaces: &[u32]) -> Way {
        Way { prefix: prefix(text), is_local: false, metric, interfaces: interfaces.to_vec() }
    }

    fn message(head: Route, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = bytemuck::bytes_of(&head).to_vec();
        attributes.iter().for_each(|(kind, content)| bytes.extend(attribute(*kind, content)));
        bytes
    }

    fn main_table(family: u8, destination_len: u8) -> Route {
        let table = libc::RT_TABLE_MAIN;
        Route { family, destination_len, table, kind: libc::RTN_UNICAST, ..Route::zeroed() }
    }

    #[test]
    fn the_lowest_metric_of_equal_prefixes_counts_and_of_ipv4_the_first() {
        let ways = vec![
            way("10.0.0.0/8", 100, &[2]),
            way("10.0.0.0/8", 50, &[3]),
            way("10.0.0.0/8", 50, &[4]),
            way("10.0.0.0/16", 200, &[5]),
            way("fd00::/8", 256, &[2]),
            way("fd00::/8", 256, &[3]),
            way("fd00::/8", 1024, &[4]),
        ];
        let found = put_together(ways);
        let of = |text: &str| found.get(&prefix(text)).unwrap().interfaces.clone();
        assert_eq!((of("10.0.0.0/8"), of("10.0.0.0/16")), (vec![3], vec![5]));
        assert_eq!(of("fd00::/8"), [2, 3]);
    }

    #[test]
    fn what_local_answers_is_not_looked_up_in_main() {
        let local = Way { is_local: true, ..way("127.0.0.0/8", 0, &[]) };
        let found = put_together(vec![way("127.0.0.1/32", 0, &[2]), local, way("0.0.0.0/0", 0, &[2])]);
        assert_eq!(found.len(), 2);
        assert!(!found.contains_key(&prefix("127.0.0.1/32")));
    }

    #[test]
    fn routes_are_read_with_their_interfaces() {
        let index = |number: u32| number.to_ne_bytes();
        let oif = |number| (libc::RTA_OIF, index(number));
        let (kind, bytes) = oif(7);
        let one = message(main_table(AF_INET, 24), &[(libc::RTA_DST, &[10, 1, 2, 0]), (kind, &bytes)]);
        assert_eq!(said(&one), Said::Way(way("10.1.2.0/24", 0, &[7])));
        let default = message(main_table(AF_INET6, 0), &[(kind, &bytes), (libc::RTA_PRIORITY, &index(1024))]);
        assert_eq!(said(&default), Said::Way(way("::/0", 1024, &[7])));
        // Two ways, of which one is dead, with a gateway behind the head.
        let hop = |flags: u8, number: u32, rest: &[u8]| {
            let len = u16::try_from(8 + rest.len()).unwrap();
            [&len.to_ne_bytes()[..], &[flags, 0], &number.to_ne_bytes(), rest].concat()
        };
        let hops = [hop(0, 2, &[0; 8]), hop(DEAD, 3, &[]), hop(0, 4, &[])].concat();
        let several = message(main_table(AF_INET, 0), &[(libc::RTA_MULTIPATH, &hops)]);
        assert_eq!(said(&several), Said::Way(way("0.0.0.0/0", 0, &[2, 4])));
        assert_eq!(next_hops(&[0; 24]), [0, 0, 0]);
    }

    #[test]
    fn what_looks_at_more_than_a_destination_is_special() {
        let index = 7u32.to_ne_bytes();
        let oif: (u16, &[u8]) = (libc::RTA_OIF, &index);
        let plain = main_table(AF_INET, 0);
        for (head, expected) in [
            (Route { tos: 4, ..plain }, Said::Special),
            (Route { source_len: 64, ..main_table(AF_INET6, 0) }, Said::Special),
            (Route { table: libc::RT_TABLE_DEFAULT, ..plain }, Said::Special),
            (Route { table: 100, ..plain }, Said::Nothing),
            (Route { flags: CLONED, ..plain }, Said::Nothing),
            (Route { flags: DEAD.into(), ..plain }, Said::Nothing),
            (Route { kind: libc::RTN_UNREACHABLE, ..plain }, Said::Way(way("0.0.0.0/0", 0, &[]))),
        ] {
            assert_eq!(said(&message(head, &[oif])), expected, "{head:?}");
        }
        assert_eq!(said(&message(plain, &[(NEXT_HOP, &index)])), Said::Special);
        assert_eq!(said(&[1, 2]), Said::Nothing);
    }

    #[test]
    fn rules_that_a_namespace_begins_with_are_not_special() {
        let rule = |table: u8, priority: u32, source_len: u8| {
            let head = Route { family: AF_INET, table, source_len, ..Route::zeroed() };
            is_special_rule(&message(head, &[(FRA_PRIORITY, &priority.to_ne_bytes())]))
        };
        assert!(!rule(libc::RT_TABLE_LOCAL, 0, 0) && !rule(libc::RT_TABLE_MAIN, 0x7ffe, 0));
        assert!(!rule(libc::RT_TABLE_DEFAULT, 0x7fff, 0));
        assert!(
            rule(100, 1000, 0)
                && rule(libc::RT_TABLE_MAIN, 1000, 32)
                && rule(libc::RT_TABLE_MAIN, 0x7ffe, 32)
        );
    }
}
