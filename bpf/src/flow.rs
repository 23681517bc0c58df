//! Flows, and what may be decided about one.

use std::fmt;
use std::net::IpAddr;

/// Which end of a connection the member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Direction {
    /// The member opens it.
    Outbound = 0,
    /// The member receives it.
    Inbound = 1,
}

impl Direction {
    /// Both directions, in the order in which profiles keep them.
    pub const ALL: [Self; 2] = [Self::Outbound, Self::Inbound];

    /// The word of the language that precedes an address: `to` or `from`.
    #[must_use]
    pub const fn preposition(self) -> &'static str {
        match self {
            Self::Outbound => "to",
            Self::Inbound => "from",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        })
    }
}

/// The transport protocols that a policy speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// RFC 9293.
    Tcp = 0,
    /// RFC 768.
    Udp = 1,
}

impl Protocol {
    /// Both protocols, in the order in which a node keeps their port tables.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// What happens to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It goes straight through, untouched.
    Excluded,
    /// The sidecar gets it.
    Redirected {
        /// The sidecar's port on loopback, host byte order, never 0.
        port: u16,
        /// The sidecar's own address on the accepted socket is the original destination.
        transparent: bool,
    },
    /// `connect` fails with a permission error; an inbound connection is refused.
    Denied,
}

impl Verdict {
    /// The sidecar's port, if the flow is redirected.
    #[must_use]
    pub const fn port(self) -> Option<u16> {
        match self {
            Self::Redirected { port, .. } => Some(port),
            Self::Excluded | Self::Denied => None,
        }
    }

    /// The bare word: `excluded`, `redirected` or `denied`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Excluded => "excluded",
            Self::Redirected { .. } => "redirected",
            Self::Denied => "denied",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        if let Self::Redirected { port, transparent } = self {
            write!(f, " {port}")?;
            if *transparent {
                f.write_str(" transparent")?;
            }
        }
        Ok(())
    }
}

/// One concrete flow of a member, as far as a rule can tell flows apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// Which end the member is.
    pub direction: Direction,
    /// The transport protocol.
    pub protocol: Protocol,
    /// Outbound: the destination. Inbound: the source. Never v4-mapped.
    pub address: IpAddr,
    /// The destination port in both directions, host byte order.
    pub port: u16,
    /// Whether `address` is one of the member's own addresses.
    pub own: bool,
}

/// Who is at the ends of a flow: the process that opens it, for `exempt` and `as`, and whether the node itself is at the
/// other one; and what the flow goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// Real user id.
    pub uid: Option<u32>,
    /// Real group id.
    pub gid: Option<u32>,
    /// Absolute cgroup v2 path.
    pub cgroup: Option<String>,
    /// The interface of the member that the flow goes by, of either direction, for `exempt`.
    pub interface: Option<String>,
    /// Whether the address of the flow is one of the node itself.
    pub node: bool,
}

impl Identity {
    /// What tests write behind a flow: ` as uid 1000 gid 5 cgroup "/a" by interface "net1"`. Nothing where nothing is
    /// known.
    #[must_use]
    pub fn clause(&self) -> String {
        let uid = self.uid.map(|id| format!(" uid {id}"));
        let gid = self.gid.map(|id| format!(" gid {id}"));
        let cgroup = self.cgroup.as_ref().map(|path| format!(" cgroup \"{path}\""));
        let all: String = [uid, gid, cgroup].into_iter().flatten().collect();
        let by = self.interface.as_ref().map(|name| format!(" by interface \"{name}\"")).unwrap_or_default();
        if all.is_empty() { by } else { format!(" as{all}{by}") }
    }
}
