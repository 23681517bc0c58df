//! Address prefixes of the policy's flow space.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A set of addresses that a rule or a node of a profile's tree can name.
///
/// The derived order is the pre-order of the tree: a prefix comes before all that it covers, and
/// `Any` before everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Prefix {
    /// Every address of both families: wider than `0.0.0.0/0` and `::/0`, each of which is its own
    /// family only.
    Any,
    /// IPv4 addresses.
    V4 {
        /// The network address, host byte order, host bits zero.
        bits: u32,
        /// Prefix length, 0 to 32.
        len: u8,
    },
    /// IPv6 addresses.
    V6 {
        /// The network address, host byte order, host bits zero.
        bits: u128,
        /// Prefix length, 0 to 128.
        len: u8,
    },
}

impl Prefix {
    /// The prefixes that only rules whose own addresses lie inside them can reach: loopback.
    pub const LOOPBACK: [Self; 4] = [
        Self::V4 { bits: 0, len: 32 },
        Self::V4 { bits: 0x7f00_0000, len: 8 },
        Self::V6 { bits: 0, len: 128 },
        Self::V6 { bits: 1, len: 128 },
    ];

    /// The prefix that is one address. A v4-mapped address is an IPv4 address.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4 { bits: v4.to_bits(), len: 32 },
            IpAddr::V6(v6) => Self::V6 { bits: v6.to_bits(), len: 128 },
        }
    }

    /// Whether `address` lies in it. A v4-mapped address is an IPv4 address.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        self.covers(Self::host(address))
    }

    /// Whether every address of `other` lies in it (a prefix covers itself).
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::V4 { bits, len }, Self::V4 { bits: other, len: longer }) => {
                len <= longer && (bits ^ other) & mask32(len) == 0
            }
            (Self::V6 { bits, len }, Self::V6 { bits: other, len: longer }) => {
                len <= longer && (bits ^ other) & mask128(len) == 0
            }
            _ => false,
        }
    }

    /// Whether it is exactly one address.
    #[must_use]
    pub const fn is_host(self) -> bool {
        matches!(self, Self::V4 { len: 32, .. } | Self::V6 { len: 128, .. })
    }

    /// Whether it lies inside one of the [`LOOPBACK`](Self::LOOPBACK) prefixes.
    #[must_use]
    pub fn is_loopback(self) -> bool {
        Self::LOOPBACK.iter().any(|loopback| loopback.covers(self))
    }

    /// The first address, or `None` for `Any`.
    #[must_use]
    pub const fn first(self) -> Option<IpAddr> {
        match self {
            Self::Any => None,
            Self::V4 { bits, .. } => Some(IpAddr::V4(Ipv4Addr::from_bits(bits))),
            Self::V6 { bits, .. } => Some(IpAddr::V6(Ipv6Addr::from_bits(bits))),
        }
    }

    /// Its leading bits, or `None` for `Any`.
    #[must_use]
    pub const fn length(self) -> Option<u8> {
        match self {
            Self::Any => None,
            Self::V4 { len, .. } | Self::V6 { len, .. } => Some(len),
        }
    }

    /// The prefix of `len` bits around it, or `None` where it has fewer itself.
    #[must_use]
    pub const fn shortened(self, len: u8) -> Option<Self> {
        match self {
            Self::V4 { bits, len: own } if len <= own => Some(Self::V4 { bits: bits & mask32(len), len }),
            Self::V6 { bits, len: own } if len <= own => Some(Self::V6 { bits: bits & mask128(len), len }),
            _ => None,
        }
    }

    /// As a network, or `None` for `Any`.
    #[must_use]
    pub fn net(self) -> Option<IpNet> {
        match self {
            Self::Any => None,
            Self::V4 { bits, len } => Ipv4Net::new(Ipv4Addr::from_bits(bits), len).ok().map(IpNet::V4),
            Self::V6 { bits, len } => Ipv6Net::new(Ipv6Addr::from_bits(bits), len).ok().map(IpNet::V6),
        }
    }
}

/// The `len` leading bits of an IPv4 address.
#[must_use]
pub const fn mask32(len: u8) -> u32 {
    if len == 0 { 0 } else { u32::MAX << (32 - len as u32) }
}

/// The `len` leading bits of an IPv6 address.
#[must_use]
pub const fn mask128(len: u8) -> u128 {
    if len == 0 { 0 } else { u128::MAX << (128 - len as u32) }
}

impl From<IpNet> for Prefix {
    fn from(net: IpNet) -> Self {
        match net {
            IpNet::V4(net) => Self::V4 { bits: net.network().to_bits(), len: net.prefix_len() },
            IpNet::V6(net) => Self::V6 { bits: net.network().to_bits(), len: net.prefix_len() },
        }
    }
}

/// As a policy writes it: one address without its length, `any` for [`Prefix::Any`].
impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Any => f.write_str("any"),
            Self::V4 { bits, len: 32 } => write!(f, "{}", Ipv4Addr::from_bits(bits)),
            Self::V4 { bits, len } => write!(f, "{}/{len}", Ipv4Addr::from_bits(bits)),
            Self::V6 { bits, len: 128 } => write!(f, "{}", Ipv6Addr::from_bits(bits)),
            Self::V6 { bits, len } => write!(f, "{}/{len}", Ipv6Addr::from_bits(bits)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse::<IpNet>().unwrap().into()
    }

    #[test]
    fn any_is_wider_than_both_families() {
        assert!(Prefix::Any.covers(prefix("0.0.0.0/0")));
        assert!(Prefix::Any.covers(prefix("::/0")));
        assert!(!prefix("::/0").covers(Prefix::Any));
    }

    #[test]
    fn the_v6_default_does_not_hold_v4() {
        assert!(!prefix("::/0").contains("10.0.0.1".parse().unwrap()));
        assert!(prefix("0.0.0.0/0").contains("::ffff:10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn order_is_pre_order() {
        let mut all = [prefix("10.0.0.0/8"), prefix("::/0"), prefix("10.0.0.0/16"), Prefix::Any];
        all.sort();
        assert_eq!(all.map(|p| p.to_string()), ["any", "10.0.0.0/8", "10.0.0.0/16", "::/0"]);
    }

    #[test]
    fn loopback_is_only_what_the_language_lists() {
        assert!(prefix("127.3.0.0/16").is_loopback());
        assert!(prefix("0.0.0.0/32").is_loopback());
        assert!(!prefix("0.0.0.0/31").is_loopback());
        assert!(!prefix("::2/128").is_loopback());
    }
}
