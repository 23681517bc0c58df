//! What another mesh does to a flow, as it orders it: layers, of which the first that matches decides.
//!
//! A policy has no order; the narrower rule wins. [`resolve`] makes rules of layers that mean the same: what lies within
//! something that was looked at first is left out, and where something comes before what would win where both meet, a
//! rule for both says so.

mod resolve;
mod side;

use std::net::IpAddr;

use ipnet::IpNet;
use mesh_bpf::flow::{Direction, Protocol};

pub use self::resolve::{Dead, Resolved, resolve};
pub use self::side::{Item, disjoint};
use self::side::{Side, meet};
use crate::value::Range;

/// What happens to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It goes straight.
    Exclude,
    /// It goes to this port of the sidecar.
    Redirect(u16),
    /// It is refused.
    Deny,
}

impl Verdict {
    /// Whether it goes to a sidecar.
    #[must_use]
    pub const fn is_redirect(self) -> bool {
        matches!(self, Self::Redirect(_))
    }

    /// Whether it wins where neither of two rules is narrower, as a policy has it. Of two redirects neither does.
    const fn beats(self, other: Self) -> bool {
        match self {
            Self::Deny => !matches!(other, Self::Deny),
            Self::Exclude => other.is_redirect(),
            Self::Redirect(_) => false,
        }
    }
}

/// Whose connections a rule is about: of processes that are in each of these lists. None are all.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Of these users.
    pub users: Vec<Range<u32>>,
    /// Of these groups.
    pub groups: Vec<Range<u32>>,
    /// In these cgroups.
    pub cgroups: Vec<String>,
}

impl Owner {
    /// These users.
    #[must_use]
    pub fn users(users: Vec<Range<u32>>) -> Self {
        Self { users, ..Self::default() }
    }

    /// These groups.
    #[must_use]
    pub fn groups(groups: Vec<Range<u32>>) -> Self {
        Self { groups, ..Self::default() }
    }

    /// Whether it is everybody.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty() && self.cgroups.is_empty()
    }
}

/// A rule: all combinations of its items.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// Which end the member is.
    pub direction: Direction,
    /// What happens.
    pub verdict: Verdict,
    /// At least one.
    pub protocols: Vec<Protocol>,
    /// None are all.
    pub ports: Vec<Range<u16>>,
    /// None are all, of both families.
    pub addresses: Vec<IpNet>,
    /// Whose.
    pub owner: Owner,
}

/// A rule at its place in the order, and the setting that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What it does.
    pub rule: Rule,
    /// What a comment says of it.
    pub cite: String,
}

/// A flow as a test asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Which end the member is.
    pub direction: Direction,
    /// Its protocol.
    pub protocol: Protocol,
    /// The other end.
    pub address: IpAddr,
    /// The destination's port.
    pub port: u16,
    /// The user that opens it; `None` for one that no rule names.
    pub user: Option<u32>,
    /// Its group, likewise.
    pub group: Option<u32>,
}

impl Rule {
    /// A rule about TCP.
    #[must_use]
    pub fn tcp(direction: Direction, verdict: Verdict) -> Self {
        let protocols = vec![Protocol::Tcp];
        Self {
            direction,
            verdict,
            protocols,
            ports: Vec::new(),
            addresses: Vec::new(),
            owner: Owner::default(),
        }
    }

    /// The same about these ports.
    #[must_use]
    pub fn ports(mut self, ports: Vec<Range<u16>>) -> Self {
        self.ports = ports;
        self
    }

    /// The same about these addresses.
    #[must_use]
    pub fn addresses(mut self, addresses: Vec<IpNet>) -> Self {
        self.addresses = addresses;
        self
    }

    /// The same about these processes.
    #[must_use]
    pub fn owner(mut self, owner: Owner) -> Self {
        self.owner = owner;
        self
    }

    /// The same in TCP and UDP.
    #[must_use]
    pub fn both(mut self) -> Self {
        self.protocols = vec![Protocol::Tcp, Protocol::Udp];
        self
    }

    /// Whether it is about all TCP connections of its direction.
    #[must_use]
    pub fn is_catch_all(&self) -> bool {
        let all = self.ports.is_empty() && self.addresses.is_empty() && self.owner.is_all();
        all && self.protocols.contains(&Protocol::Tcp)
    }

    /// How many items it has.
    #[must_use]
    pub fn size(&self) -> usize {
        let Owner { users, groups, cgroups } = &self.owner;
        [
            self.protocols.len(),
            self.ports.len(),
            self.addresses.len(),
            users.len(),
            groups.len(),
            cgroups.len(),
        ]
        .map(|side| side.max(1))
        .iter()
        .fold(1, |size, side| size.saturating_mul(*side))
    }

    /// Whether each item of another lies in one of its own.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        Sides::of(self).cover(other)
    }

    /// The same in these protocols alone.
    #[must_use]
    pub fn of_protocols(&self, protocols: &[Protocol]) -> Self {
        let protocols =
            self.protocols.iter().copied().filter(|protocol| protocols.contains(protocol)).collect();
        Self { protocols, ..self.clone() }
    }

    /// What of it does not lie in another, item by item, as rules that have nothing in common.
    #[must_use]
    pub fn without(&self, other: &Self) -> Vec<Self> {
        Sides::of(other).cut(self).1
    }

    /// What both are about, with the verdict of the first; `None` where that is nothing.
    #[must_use]
    pub fn both_of(&self, other: &Self) -> Option<Self> {
        if self.direction != other.direction {
            return None;
        }
        let owner = Owner {
            users: meet(&self.owner.users, &other.owner.users)?,
            groups: meet(&self.owner.groups, &other.owner.groups)?,
            cgroups: meet(&self.owner.cgroups, &other.owner.cgroups)?,
        };
        Some(Self {
            direction: self.direction,
            verdict: self.verdict,
            protocols: meet(&self.protocols, &other.protocols)?,
            ports: meet(&self.ports, &other.ports)?,
            addresses: meet(&self.addresses, &other.addresses)?,
            owner,
        })
    }

    /// Whether it is about a flow. A flow is in no cgroup.
    #[must_use]
    pub fn matches(&self, flow: &Flow) -> bool {
        fn is_in<T: Ord + Copy>(ranges: &[Range<T>], asked: Option<T>) -> bool {
            ranges.is_empty()
                || asked
                    .is_some_and(|asked| ranges.iter().any(|&(first, last)| (first..=last).contains(&asked)))
        }
        is_in(&self.owner.users, flow.user)
            && is_in(&self.owner.groups, flow.group)
            && self.owner.cgroups.is_empty()
            && self.direction == flow.direction
            && self.protocols.contains(&flow.protocol)
            && is_in(&self.ports, Some(flow.port))
            && (self.addresses.is_empty() || self.addresses.iter().any(|net| net.contains(&flow.address)))
    }
}

/// The sides of a rule, to be asked what lies in them.
#[derive(Debug)]
struct Sides {
    direction: Direction,
    protocols: Side<Protocol>,
    ports: Side<Range<u16>>,
    addresses: Side<IpNet>,
    users: Side<Range<u32>>,
    groups: Side<Range<u32>>,
    cgroups: Side<String>,
}

impl Sides {
    fn of(rule: &Rule) -> Self {
        Self {
            direction: rule.direction,
            protocols: Side::new(&rule.protocols),
            ports: Side::new(&rule.ports),
            addresses: Side::new(&rule.addresses),
            users: Side::new(&rule.owner.users),
            groups: Side::new(&rule.owner.groups),
            cgroups: Side::new(&rule.owner.cgroups),
        }
    }

    /// Whether each combination of a rule's items lies in one of these.
    fn cover(&self, rule: &Rule) -> bool {
        self.direction == rule.direction
            && self.protocols.has_all(&rule.protocols)
            && self.ports.has_all(&rule.ports)
            && self.addresses.has_all(&rule.addresses)
            && self.users.has_all(&rule.owner.users)
            && self.groups.has_all(&rule.owner.groups)
            && self.cgroups.has_all(&rule.owner.cgroups)
    }

    /// The combinations of a rule's items that lie in some of these, and the others, as rules that have none in common.
    fn cut(&self, rule: &Rule) -> (Option<Rule>, Vec<Rule>) {
        let mut inside = rule.clone();
        let mut outside = Vec::new();
        let is_cut = self.direction == rule.direction
            && cut(&mut inside, &mut outside, &self.protocols, |rule| &mut rule.protocols)
            && cut(&mut inside, &mut outside, &self.ports, |rule| &mut rule.ports)
            && cut(&mut inside, &mut outside, &self.addresses, |rule| &mut rule.addresses)
            && cut(&mut inside, &mut outside, &self.users, |rule| &mut rule.owner.users)
            && cut(&mut inside, &mut outside, &self.groups, |rule| &mut rule.owner.groups)
            && cut(&mut inside, &mut outside, &self.cgroups, |rule| &mut rule.owner.cgroups);
        if is_cut { (Some(inside), outside) } else { (None, vec![rule.clone()]) }
    }
}

/// Cuts one side: what lies outside goes to the others, what lies inside stays. False where nothing lies inside.
fn cut<I: Item>(
    inside: &mut Rule,
    outside: &mut Vec<Rule>,
    side: &Side<I>,
    list: fn(&mut Rule) -> &mut Vec<I>,
) -> bool {
    let (own, others) = side.cut(list(inside));
    if let Some(others) = others {
        let mut rest = inside.clone();
        *list(&mut rest) = others;
        outside.push(rest);
    }
    let Some(own) = own else { return false };
    *list(inside) = own;
    true
}

/// What happens to a flow: by the first layer that matches, else it goes straight.
#[must_use]
pub fn decide(layers: &[Layer], flow: &Flow) -> Verdict {
    layers.iter().find(|layer| layer.rule.matches(flow)).map_or(Verdict::Exclude, |layer| layer.rule.verdict)
}

/// The setting alone, without its value.
#[must_use]
pub fn short(cite: &str) -> &str {
    cite.split_once(": ").map_or(cite, |(name, _)| name)
}

/// `80` or `80-90`.
#[must_use]
pub fn range<T: PartialEq + std::fmt::Display>((first, last): Range<T>) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// `10.0.0.0/8`, and an address without its length.
#[must_use]
pub fn prefix(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

/// What only rules whose own addresses lie inside decide about.
const APART: [&str; 8] = [
    "127.0.0.0/8",
    "0.0.0.0/32",
    "::1/128",
    "::/128",
    "224.0.0.0/4",
    "255.255.255.255/32",
    "ff00::/8",
    "fe80::/10",
];

/// Whether a prefix lies where only rules decide that name it.
#[must_use]
pub fn lies_apart(net: &IpNet) -> bool {
    APART.iter().filter_map(|apart| apart.parse::<IpNet>().ok()).any(|apart| apart.contains(net))
}
