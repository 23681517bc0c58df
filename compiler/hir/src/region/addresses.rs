//! The address axis: families, ranges, and how prefixes cut it into cells.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mesh_bpf::prefix::{Prefix, mask32, mask128};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// 32-bit addresses.
    V4,
    /// 128-bit addresses.
    V6,
}

impl Family {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The highest address.
    #[must_use]
    pub const fn last(self) -> u128 {
        match self {
            Self::V4 => u32::MAX as u128,
            Self::V6 => u128::MAX,
        }
    }

    /// A number as an address.
    #[must_use]
    pub fn address(self, bits: u128) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX))),
            Self::V6 => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        }
    }
}

/// An inclusive range of addresses of one family, as numbers in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange {
    /// The family.
    pub family: Family,
    /// The first address.
    pub first: u128,
    /// The last address, not below `first`.
    pub last: u128,
}

impl AddressRange {
    /// Every address of a family.
    #[must_use]
    pub const fn all(family: Family) -> Self {
        Self { family, first: 0, last: family.last() }
    }

    /// The addresses of a prefix; `None` for `Any`, which has two families.
    #[must_use]
    pub const fn of(prefix: Prefix) -> Option<Self> {
        match prefix {
            Prefix::Any => None,
            Prefix::V4 { bits, len } => {
                let last = bits | !mask32(len);
                Some(Self { family: Family::V4, first: bits as u128, last: last as u128 })
            }
            Prefix::V6 { bits, len } => {
                Some(Self { family: Family::V6, first: bits, last: bits | !mask128(len) })
            }
        }
    }

    /// The prefix that is exactly this range, if one is.
    #[must_use]
    pub fn prefix(self) -> Option<Prefix> {
        let width = self.first ^ self.last;
        if width & width.wrapping_add(1) != 0 || self.first & width != 0 {
            return None;
        }
        let host_bits = u8::try_from(128 - width.leading_zeros()).ok()?;
        match self.family {
            Family::V4 => {
                let bits = u32::try_from(self.first).ok()?;
                Some(Prefix::V4 { bits, len: 32u8.checked_sub(host_bits)? })
            }
            Family::V6 => Some(Prefix::V6 { bits: self.first, len: 128 - host_bits }),
        }
    }

    /// The first address.
    #[must_use]
    pub fn first_address(self) -> IpAddr {
        self.family.address(self.first)
    }
}

/// A prefix where it is one, else `first-last`.
impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix() {
            Some(prefix) => write!(f, "{prefix}"),
            None => write!(f, "{}-{}", self.family.address(self.first), self.family.address(self.last)),
        }
    }
}

/// Sorts ranges and joins those that overlap or touch.
#[must_use]
pub fn join(mut ranges: Vec<AddressRange>) -> Vec<AddressRange> {
    ranges.sort_unstable();
    let mut joined: Vec<AddressRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.family == range.family && last.last.saturating_add(1) >= range.first => {
                last.last = last.last.max(range.last);
            }
            _ => joined.push(range),
        }
    }
    joined
}

/// A piece of the address axis that no prefix boundary cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Its addresses.
    pub range: AddressRange,
    /// Index of the longest of the prefixes that hold it; `None` where none does.
    pub deepest: Option<usize>,
}

/// Cuts the address axis at the boundaries of `prefixes`, which are sorted and distinct. The cells
/// are in order and cover both families.
#[must_use]
pub fn cells(prefixes: &[Prefix]) -> Vec<Cell> {
    let any = prefixes.iter().position(|&prefix| prefix == Prefix::Any);
    let mut cells = Vec::with_capacity(2 * prefixes.len() + 2);
    for family in Family::ALL {
        let mut cutter = Cutter { family, any, open: Vec::new(), next: Some(0), cells: &mut cells };
        for (index, &prefix) in prefixes.iter().enumerate() {
            if let Some(range) = AddressRange::of(prefix).filter(|range| range.family == family) {
                cutter.open(index, range);
            }
        }
        cutter.finish();
    }
    cells
}

struct Cutter<'a> {
    family: Family,
    any: Option<usize>,
    /// Prefixes that hold the next address: their last address and index.
    open: Vec<(u128, usize)>,
    /// Where the next cell begins; `None` past the last address.
    next: Option<u128>,
    cells: &'a mut Vec<Cell>,
}

impl Cutter<'_> {
    fn open(&mut self, index: usize, range: AddressRange) {
        while let Some(&(last, _)) = self.open.last()
            && last < range.first
        {
            self.close();
        }
        if let Some(before) = range.first.checked_sub(1) {
            self.cut(before);
        }
        self.open.push((range.last, index));
    }

    fn close(&mut self) {
        if let Some(&(last, _)) = self.open.last() {
            self.cut(last);
        }
        self.open.pop();
    }

    /// Ends a cell at `last`, if it is not empty.
    fn cut(&mut self, last: u128) {
        if let Some(first) = self.next.filter(|&first| first <= last) {
            let deepest = self.open.last().map(|&(_, index)| index).or(self.any);
            self.cells.push(Cell { range: AddressRange { family: self.family, first, last }, deepest });
            self.next = last.checked_add(1);
        }
    }

    fn finish(mut self) {
        while !self.open.is_empty() {
            self.close();
        }
        self.cut(self.family.last());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse::<ipnet::IpNet>().unwrap().into()
    }

    fn cut(prefixes: &[&str]) -> Vec<String> {
        let mut prefixes: Vec<Prefix> = prefixes.iter().map(|text| prefix(text)).collect();
        prefixes.push(Prefix::Any);
        prefixes.sort();
        let cells = cells(&prefixes);
        cells.iter().map(|cell| format!("{} in {}", cell.range, prefixes[cell.deepest.unwrap()])).collect()
    }

    #[test]
    fn a_range_is_a_prefix_only_where_it_is_aligned() {
        for text in ["0.0.0.0/0", "10.0.0.0/8", "10.0.0.1/32", "::/0", "fd00::/7", "::1/128"] {
            let text = prefix(text);
            assert_eq!(AddressRange::of(text).unwrap().prefix(), Some(text));
        }
        assert_eq!(AddressRange { family: Family::V4, first: 1, last: 2 }.prefix(), None);
        assert_eq!(AddressRange { family: Family::V4, first: 2, last: 5 }.prefix(), None);
    }

    #[test]
    fn cells_lie_between_the_boundaries() {
        assert_eq!(
            cut(&["10.0.0.0/8", "10.0.0.0/9", "10.255.255.255/32"]),
            [
                "0.0.0.0-9.255.255.255 in any",
                "10.0.0.0/9 in 10.0.0.0/9",
                "10.128.0.0-10.255.255.254 in 10.0.0.0/8",
                "10.255.255.255 in 10.255.255.255",
                "11.0.0.0-255.255.255.255 in any",
                "::/0 in any",
            ]
        );
    }

    #[test]
    fn a_prefix_that_its_children_cover_has_no_cell() {
        assert_eq!(
            cut(&["::/0", "::/1", "8000::/1"]),
            ["0.0.0.0/0 in any", "::/1 in ::/1", "8000::/1 in 8000::/1"]
        );
    }
}
