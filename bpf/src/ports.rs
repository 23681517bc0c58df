//! Ports, ranges of ports and sets of them. Host byte order throughout.

use std::fmt;

/// An inclusive range of ports. Port 0 occurs only as the lower end of "every port".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port, not below `first`.
    pub last: u16,
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// One port.
    #[must_use]
    pub const fn single(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// Whether `port` lies in it.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// Whether every port of `other` lies in it.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// A set of ports, kept as sorted ranges that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortSet {
    ranges: Vec<PortRange>,
}

impl PortSet {
    /// Every port.
    #[must_use]
    pub fn all() -> Self {
        Self { ranges: vec![PortRange::ALL] }
    }

    /// The ranges, sorted, disjoint and not adjacent.
    #[must_use]
    pub fn ranges(&self) -> &[PortRange] {
        &self.ranges
    }

    /// Whether it has no port.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether it has every port.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.ranges == [PortRange::ALL]
    }

    /// Whether `port` is in it.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        let after = self.ranges.partition_point(|range| range.first <= port);
        after.checked_sub(1).and_then(|i| self.ranges.get(i)).is_some_and(|range| range.contains(port))
    }

    /// Whether every port of `other` is in it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.ranges.iter().all(|&range| {
            let after = self.ranges.partition_point(|own| own.first <= range.first);
            after.checked_sub(1).and_then(|i| self.ranges.get(i)).is_some_and(|own| own.covers(range))
        })
    }

    /// All ports that are not in it.
    #[must_use]
    pub fn complement(&self) -> Self {
        let mut ranges = Vec::with_capacity(self.ranges.len() + 1);
        let mut next = Some(0u16);
        for range in &self.ranges {
            if let (Some(first), Some(last)) = (next, range.first.checked_sub(1))
                && first <= last
            {
                ranges.push(PortRange { first, last });
            }
            next = range.last.checked_add(1);
        }
        ranges.extend(next.map(|first| PortRange { first, last: u16::MAX }));
        Self { ranges }
    }

    /// The ports in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let (mut left, mut right) = (self.ranges.iter().peekable(), other.ranges.iter().peekable());
        let mut ranges = Vec::new();
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            let (first, last) = (a.first.max(b.first), a.last.min(b.last));
            if first <= last {
                ranges.push(PortRange { first, last });
            }
            if a.last < b.last {
                left.next();
            } else {
                right.next();
            }
        }
        Self { ranges }
    }

    /// The ports in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.ranges.iter().chain(&other.ranges).copied().collect()
    }
}

impl From<PortRange> for PortSet {
    fn from(range: PortRange) -> Self {
        Self { ranges: vec![range] }
    }
}

impl FromIterator<PortRange> for PortSet {
    fn from_iter<I: IntoIterator<Item = PortRange>>(iter: I) -> Self {
        let mut all: Vec<PortRange> = iter.into_iter().collect();
        all.sort_unstable();
        let mut ranges: Vec<PortRange> = Vec::with_capacity(all.len());
        for range in all {
            match ranges.last_mut() {
                Some(last) if range.first <= last.last.saturating_add(1) => {
                    last.last = last.last.max(range.last)
                }
                _ => ranges.push(range),
            }
        }
        Self { ranges }
    }
}

/// `80, 443, 8000-8999`.
impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.ranges.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{range}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(u16, u16)]) -> PortSet {
        ranges.iter().map(|&(first, last)| PortRange { first, last }).collect()
    }

    #[test]
    fn touching_ranges_become_one() {
        assert_eq!(set(&[(80, 80), (81, 90), (85, 100)]).ranges(), [PortRange { first: 80, last: 100 }]);
    }

    #[test]
    fn a_range_is_a_set_of_its_ports() {
        let set = PortSet::from(PortRange { first: 80, last: 81 });
        assert_eq!(set, [80, 81].map(PortRange::single).into_iter().collect());
        assert!(set.contains(81) && !set.contains(82));
    }

    #[test]
    fn complement_twice_is_the_same() {
        for s in [set(&[]), PortSet::all(), set(&[(0, 5), (9, 9), (65535, 65535)]), set(&[(7, 7)])] {
            assert_eq!(s.complement().complement(), s);
            assert!(s.intersection(&s.complement()).is_empty());
            assert!(s.union(&s.complement()).is_all());
        }
    }

    #[test]
    fn covers_needs_every_port() {
        let not25 = set(&[(25, 25)]).complement();
        assert!(not25.covers(&set(&[(1, 24), (26, 26)])));
        assert!(!not25.covers(&set(&[(24, 26)])));
        assert!(PortSet::all().covers(&not25) && !not25.covers(&PortSet::all()));
    }

    #[test]
    fn all_is_nothing_less() {
        for s in [set(&[]), set(&[(0, 65534)]), set(&[(1, 65535)]), set(&[(0, 8), (10, 65535)])] {
            assert!(!s.is_all());
        }
    }
}
