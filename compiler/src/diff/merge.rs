//! Merges pieces of flow space into the fewest lines.

use std::collections::BTreeMap;

use mesh_bpf::ports::{PortRange, PortSet};
use mesh_bpf::prefix::{Apart, Prefix};

use crate::hir::region::{AddressRange, Family, join};

/// Ports × addresses that have something in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Patch {
    /// The addresses: sorted ranges that neither overlap nor touch.
    pub addresses: Vec<AddressRange>,
    /// The ports.
    pub ports: PortSet,
}

/// Merges disjoint pieces, each a range of addresses with some ports: once address by address (addresses
/// with the same ports make a patch), once port by port, and gives back whichever is less.
#[must_use]
pub fn merge(pieces: &[(AddressRange, PortSet)]) -> Vec<Patch> {
    let by_address = by_address(pieces);
    let by_port = by_port(pieces);
    let mut least = if by_port.len() < by_address.len() { by_port } else { by_address };
    least.sort();
    least
}

fn by_address(pieces: &[(AddressRange, PortSet)]) -> Vec<Patch> {
    let mut patches: BTreeMap<&PortSet, Vec<AddressRange>> = BTreeMap::new();
    for (range, ports) in pieces.iter().filter(|(_, ports)| !ports.is_empty()) {
        patches.entry(ports).or_default().push(*range);
    }
    patches
        .into_iter()
        .map(|(ports, ranges)| Patch { addresses: join(ranges), ports: ports.clone() })
        .collect()
}

fn by_port(pieces: &[(AddressRange, PortSet)]) -> Vec<Patch> {
    // Addresses by distinct set of ports first: their number is what the ports are cut into.
    let by_address = by_address(pieces);
    let ranges = || by_address.iter().flat_map(|patch| patch.ports.ranges());
    let mut cuts: Vec<u32> =
        ranges().flat_map(|range| [u32::from(range.first), u32::from(range.last) + 1]).collect();
    cuts.sort_unstable();
    cuts.dedup();
    let mut patches: BTreeMap<Vec<AddressRange>, Vec<PortRange>> = BTreeMap::new();
    for (&first, &end) in cuts.iter().zip(cuts.iter().skip(1)) {
        let (Ok(first), Ok(last)) = (u16::try_from(first), u16::try_from(end - 1)) else { continue };
        let here = by_address.iter().filter(|patch| patch.ports.contains(first));
        let addresses = join(here.flat_map(|patch| patch.addresses.iter().copied()).collect());
        if !addresses.is_empty() {
            patches.entry(addresses).or_default().push(PortRange { first, last });
        }
    }
    let patch =
        |(addresses, ports): (_, Vec<PortRange>)| Patch { addresses, ports: ports.into_iter().collect() };
    patches.into_iter().map(patch).collect()
}

/// Everything that is not in `ranges`, which are joined.
#[must_use]
pub fn complement(ranges: &[AddressRange], within: &[AddressRange]) -> Vec<AddressRange> {
    let mut rest = Vec::new();
    for whole in within {
        let mut next = Some(whole.first);
        let inside = |range: &&AddressRange| {
            range.family == whole.family && range.last >= whole.first && range.first <= whole.last
        };
        for range in ranges.iter().filter(inside) {
            if let (Some(first), Some(last)) = (next, range.first.checked_sub(1))
                && first <= last
            {
                rest.push(AddressRange { family: whole.family, first, last });
            }
            next = range.last.checked_add(1);
        }
        if let Some(first) = next.filter(|&first| first <= whole.last) {
            rest.push(AddressRange { family: whole.family, first, last: whole.last });
        }
    }
    rest
}

/// Addresses as people write them: prefixes, `any`, words for what is apart, and what is left out after `but`
/// where that is shorter. A rule without addresses reaches `any but loopback, multicast, link-local`.
#[must_use]
pub fn addresses_text(ranges: &[AddressRange]) -> String {
    let everything = Family::ALL.map(AddressRange::all);
    if ranges == everything {
        return "any".to_owned();
    }
    if let Some(apart) = Apart::ALL.into_iter().find(|apart| apart_ranges(*apart) == ranges) {
        return apart.word().to_owned();
    }
    let mut texts = vec![list(ranges), but("any", &everything, ranges)];
    if let Some(hull) = hull(ranges) {
        let range: Vec<AddressRange> = AddressRange::of(hull).into_iter().collect();
        texts.push(but(&hull.to_string(), &range, ranges));
    }
    texts.into_iter().min_by_key(|(items, _)| *items).map_or_else(String::new, |(_, text)| text)
}

/// What is apart, as ranges.
fn apart_ranges(apart: Apart) -> Vec<AddressRange> {
    join(apart.prefixes().iter().copied().filter_map(AddressRange::of).collect())
}

/// The smallest prefix around all ranges, if they are of one family.
fn hull(ranges: &[AddressRange]) -> Option<Prefix> {
    let (first, last) = (ranges.first()?, ranges.last()?);
    if first.family != last.family || ranges.len() == 1 && first.prefix().is_some() {
        return None;
    }
    let width = (first.first ^ last.last).checked_ilog2().map_or(0, |bit| u128::MAX >> (127 - bit));
    AddressRange { family: first.family, first: first.first & !width, last: last.last | width }.prefix()
}

/// How many prefixes or ranges, and their text.
fn list(ranges: &[AddressRange]) -> (usize, String) {
    let texts: Vec<String> = ranges.iter().map(AddressRange::to_string).collect();
    // A range that is no prefix reads worse than two that are.
    let odd = ranges.iter().filter(|range| range.prefix().is_none()).count();
    (texts.len() + odd, texts.join(", "))
}

/// `whole`, whose name this is, without what `ranges` leave out.
fn but(name: &str, whole: &[AddressRange], ranges: &[AddressRange]) -> (usize, String) {
    let mut left_out = complement(ranges, whole);
    let mut texts = Vec::new();
    for apart in Apart::ALL {
        let apart_ranges = apart_ranges(apart);
        let within = complement(&complement(&apart_ranges, whole), whole);
        if !within.is_empty() && complement(&left_out, &within).is_empty() {
            texts.push(apart.word().to_owned());
            left_out = complement(&apart_ranges, &left_out);
        }
    }
    let (items, text) = list(&left_out);
    // What is built in costs the reader nothing.
    let items = items + 1;
    texts.extend(Some(text).filter(|text| !text.is_empty()));
    (items, if texts.is_empty() { name.to_owned() } else { format!("{name} but {}", texts.join(", ")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> AddressRange {
        AddressRange::of(text.parse::<ipnet::IpNet>().unwrap().into()).unwrap()
    }

    fn ports(ranges: &[(u16, u16)]) -> PortSet {
        ranges.iter().map(|&(first, last)| PortRange { first, last }).collect()
    }

    fn lines(pieces: &[(&str, &[(u16, u16)])]) -> Vec<String> {
        let pieces: Vec<_> = pieces.iter().map(|(text, set)| (range(text), ports(set))).collect();
        merge(&pieces)
            .iter()
            .map(|patch| format!("{} to {}", patch.ports, addresses_text(&patch.addresses)))
            .collect()
    }

    #[test]
    fn neighbours_with_the_same_ports_are_one() {
        assert_eq!(
            lines(&[("10.0.0.0/9", &[(80, 80)]), ("10.128.0.0/9", &[(80, 80)]), ("11.0.0.0/8", &[(81, 81)])]),
            ["80 to 10.0.0.0/8", "81 to 11.0.0.0/8"]
        );
    }

    #[test]
    fn ports_come_first_where_that_is_less() {
        assert_eq!(
            lines(&[
                ("10.0.0.0/8", &[(1, 9)]),
                ("20.0.0.0/8", &[(1, 9), (20, 20)]),
                ("30.0.0.0/8", &[(1, 9), (30, 30)]),
                ("40.0.0.0/8", &[(1, 9), (20, 20), (30, 30)]),
            ]),
            [
                "1-9 to 10.0.0.0/8, 20.0.0.0/8, 30.0.0.0/8, 40.0.0.0/8",
                "20 to 20.0.0.0/8, 40.0.0.0/8",
                "30 to 30.0.0.0/8, 40.0.0.0/8",
            ]
        );
    }

    #[test]
    fn what_is_left_out_is_said_where_that_is_shorter() {
        let whole = [range("10.0.0.0/8")];
        let holes = join(vec![range("10.1.0.0/16"), range("10.9.0.0/16")]);
        assert_eq!(addresses_text(&complement(&holes, &whole)), "10.0.0.0/8 but 10.1.0.0/16, 10.9.0.0/16");
        let everything = Family::ALL.map(AddressRange::all);
        let apart: Vec<_> = Prefix::all_apart().filter_map(AddressRange::of).collect();
        let without = |holes: &[&str], whole: &[AddressRange]| {
            let holes = holes.iter().map(|text| range(text)).chain(apart.iter().copied()).collect();
            addresses_text(&complement(&join(holes), whole))
        };
        assert_eq!(addresses_text(&everything), "any");
        assert_eq!(without(&[], &everything), "any but loopback, multicast, link-local");
        assert_eq!(
            without(&["10.0.0.0/8"], &everything),
            "any but loopback, multicast, link-local, 10.0.0.0/8"
        );
        assert_eq!(without(&[], &[range("0.0.0.0/0")]), "0.0.0.0/0 but loopback, multicast");
        assert_eq!(
            without(&["2001:db8::/32"], &[range("::/0")]),
            "::/0 but loopback, multicast, link-local, 2001:db8::/32"
        );
        assert_eq!(addresses_text(&apart_ranges(Apart::Multicast)), "multicast");
        assert_eq!(addresses_text(&[range("fe80::/10")]), "link-local");
        assert_eq!(addresses_text(&[range("fe80::/64")]), "fe80::/64");
        assert_eq!(addresses_text(&[range("::/0")]), "::/0");
    }
}
