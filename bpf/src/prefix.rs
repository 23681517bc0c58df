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

/// Addresses that only rules whose own addresses lie inside them can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Apart {
    /// The member itself.
    Loopback,
    /// Whoever listens: multicast and broadcast.
    Multicast,
    /// IPv6 addresses that mean something on one link only.
    LinkLocal,
}

impl Apart {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Loopback, Self::Multicast, Self::LinkLocal];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Multicast => "multicast",
            Self::LinkLocal => "link-local",
        }
    }

    /// Its prefixes.
    #[must_use]
    pub const fn prefixes(self) -> &'static [Prefix] {
        match self {
            Self::Loopback => &[
                Prefix::V4 { bits: 0, len: 32 },
                Prefix::V4 { bits: 0x7f00_0000, len: 8 },
                Prefix::V6 { bits: 0, len: 128 },
                Prefix::V6 { bits: 1, len: 128 },
            ],
            Self::Multicast => &[
                Prefix::V4 { bits: 0xe000_0000, len: 4 },
                Prefix::V4 { bits: u32::MAX, len: 32 },
                Prefix::V6 { bits: 0xff << 120, len: 8 },
            ],
            Self::LinkLocal => &[Prefix::V6 { bits: 0xfe80 << 112, len: 10 }],
        }
    }
}

impl Prefix {
    /// The prefixes of all that is [`Apart`].
    pub fn all_apart() -> impl Iterator<Item = Self> {
        Apart::ALL.into_iter().flat_map(Apart::prefixes).copied()
    }

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

    /// The addresses apart that it lies inside of, if any. No prefix lies inside of two.
    #[must_use]
    pub fn apart(self) -> Option<Apart> {
        Apart::ALL.into_iter().find(|apart| apart.prefixes().iter().any(|prefix| prefix.covers(self)))
    }

    /// Whether it lies inside of loopback.
    #[must_use]
    pub fn is_loopback(self) -> bool {
        self.apart() == Some(Apart::Loopback)
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
    fn a_prefix_is_a_network_from_its_first_address_on() {
        for text in ["10.1.0.0/16", "fd00:1::/32"] {
            let net: IpNet = text.parse().unwrap();
            assert_eq!((prefix(text).net(), prefix(text).first()), (Some(net), Some(net.addr())));
        }
        assert_eq!((Prefix::Any.net(), Prefix::Any.first()), (None, None));
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

    #[test]
    fn what_is_apart_is_what_the_language_lists() {
        for (inside, apart) in [
            ("224.0.0.0/4", Apart::Multicast),
            ("239.255.255.255/32", Apart::Multicast),
            ("255.255.255.255/32", Apart::Multicast),
            ("ff00::/8", Apart::Multicast),
            ("ff02::fb/128", Apart::Multicast),
            ("fe80::/10", Apart::LinkLocal),
            ("febf::1/128", Apart::LinkLocal),
        ] {
            assert_eq!(prefix(inside).apart(), Some(apart), "{inside}");
        }
        for outside in ["224.0.0.0/3", "240.0.0.0/4", "255.255.255.254/31", "fe00::/7", "fec0::/10", "::/0"] {
            assert_eq!(prefix(outside).apart(), None, "{outside}");
        }
        assert_eq!(Prefix::Any.apart(), None);
        let mapped = Prefix::host("::ffff:224.0.0.251".parse().unwrap());
        assert_eq!(mapped.apart(), Some(Apart::Multicast));
    }

    #[test]
    fn a_shortened_prefix_is_the_one_around_it() {
        assert_eq!(prefix("10.1.2.0/24").shortened(12), Some(prefix("10.0.0.0/12")));
        assert_eq!(prefix("10.1.2.0/24").shortened(24), Some(prefix("10.1.2.0/24")));
        assert_eq!(prefix("10.1.2.0/24").shortened(25), None);
        assert_eq!(prefix("fd00:1:2::/48").shortened(32), Some(prefix("fd00:1::/32")));
        assert_eq!(prefix("fd00:1:2::/48").shortened(48), Some(prefix("fd00:1:2::/48")));
        assert_eq!(prefix("fd00:1:2::/48").shortened(49), None);
        assert_eq!(Prefix::Any.shortened(0), None);
    }
}
