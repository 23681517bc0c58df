//! The data model of a ruleset: what can be written as netlink messages, as text, and be judged.

use mesh_bpf::flow::Protocol;

/// What is loaded into one network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// What the two base chains have. None where nobody is decided about.
    pub(crate) base: Option<Base>,
    /// All other chains; an id is the place of one.
    pub(crate) chains: Vec<Chain>,
    /// Maps to chains; an id is the place of one.
    pub(crate) maps: Vec<Map>,
    /// What decisions count; an id is the place of one.
    pub(crate) counters: Vec<Counter>,
}

/// Rules of the base chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) output: Vec<Rule>,
    pub(crate) prerouting: Vec<Rule>,
}

/// Place of a [`Chain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChainId(pub(crate) u32);

/// Place of a [`Map`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MapId(pub(crate) u32);

/// Place of a [`Counter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CounterId(pub(crate) u32);

/// Rules, of which the first that ends the walk counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    /// What it is for, for those who read the ruleset.
    pub(crate) comment: String,
    pub(crate) rules: Vec<Rule>,
}

/// What is done where all matches hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rule {
    pub(crate) matches: Vec<Match>,
    pub(crate) action: Action,
}

/// What a packet is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Match {
    /// Conntrack takes it for the first of a flow, or not.
    New(bool),
    /// It is a segment of TCP other than a first SYN: a connection that was open before conntrack was switched on.
    MidStream,
    /// Its protocol.
    Protocol(Protocol),
    /// It goes to this port, which is a sidecar's: BPF programs have led it there.
    Led(Protocol, u16),
    /// The interface that it comes in or goes out by. The pattern is a name, or with `*` at the end the beginning of names.
    Interface { way: Way, pattern: String, is: bool },
    /// What kind of address its destination is here.
    Destined(Kind),
}

/// Which interface of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    In,
    Out,
}

/// Kinds of addresses, as routes tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Local,
    Broadcast,
    Multicast,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    /// Goes straight. It ends the walk, as all below but [`Action::Count`].
    Accept,
    /// Goes nowhere.
    Drop,
    /// TCP: a segment with RST is the answer.
    Reset,
    /// ICMP says that the port is unreachable.
    Unreachable,
    /// Goes to a port of this namespace.
    Redirect(u16),
    /// Goes on with another chain, and does not come back.
    Goto(ChainId),
    /// Goes on with the chain that a map has for it; with the next rule where it has none.
    Look(Key, MapId),
    /// Counts, and goes on with the next rule.
    Count(CounterId),
}

/// What of a packet is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// The address of this end or the other, of one family.
    Address(End, Family),
    /// The destination port of one protocol: nothing is found for another.
    Port(Protocol),
    /// Who made the socket.
    User,
    /// The same, of groups.
    Group,
    /// The cgroup of the socket, or the one above it at this level.
    Cgroup(u32),
}

/// An end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Source,
    Destination,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Of what type the keys of a map are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum KeyType {
    Address(Family),
    Port,
    User,
    Group,
    Cgroup,
}

impl Key {
    pub(crate) const fn key_type(self) -> KeyType {
        match self {
            Self::Address(_, family) => KeyType::Address(family),
            Self::Port(_) => KeyType::Port,
            Self::User => KeyType::User,
            Self::Group => KeyType::Group,
            Self::Cgroup(_) => KeyType::Cgroup,
        }
    }
}

impl KeyType {
    /// The bytes of a key.
    pub(crate) const fn len(self) -> usize {
        match self {
            Self::Address(Family::V4) | Self::User | Self::Group => 4,
            Self::Address(Family::V6) => 16,
            Self::Port => 2,
            Self::Cgroup => 8,
        }
    }

    /// The last key there is.
    pub(crate) const fn max(self) -> u128 {
        match self.len() {
            2 => u16::MAX as u128,
            4 => u32::MAX as u128,
            8 => u64::MAX as u128,
            _ => u128::MAX,
        }
    }
}

/// Keys with the chain of each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Map {
    pub(crate) key: KeyType,
    /// Whether an element can be more than one key.
    pub(crate) interval: bool,
    /// Sorted and disjoint.
    pub(crate) elements: Elements,
}

/// Elements of a map: there may be hundreds of thousands, so addresses of IPv4 take no more than they need.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Elements {
    Narrow(Vec<Element<u32>>),
    Wide(Vec<Element<u128>>),
}

/// Keys that one chain is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element<K> {
    pub(crate) first: K,
    pub(crate) last: K,
    pub(crate) chain: ChainId,
}

impl Map {
    /// A map of elements that are sorted and disjoint.
    pub(crate) fn new(key: KeyType, interval: bool, elements: impl Iterator<Item = Element<u128>>) -> Self {
        let narrow = |Element { first, last, chain }: Element<u128>| Element {
            first: u32::try_from(first).unwrap_or(u32::MAX),
            last: u32::try_from(last).unwrap_or(u32::MAX),
            chain,
        };
        let elements = if key.len() <= 4 {
            Elements::Narrow(elements.map(narrow).collect())
        } else {
            Elements::Wide(elements.collect())
        };
        Self { key, interval, elements }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.elements {
            Elements::Narrow(elements) => elements.len(),
            Elements::Wide(elements) => elements.len(),
        }
    }

    pub(crate) fn elements(&self) -> impl Iterator<Item = Element<u128>> + '_ {
        (0..self.len()).filter_map(|at| self.element(at))
    }

    fn element(&self, at: usize) -> Option<Element<u128>> {
        match &self.elements {
            Elements::Narrow(elements) => elements.get(at).map(|&Element { first, last, chain }| Element {
                first: first.into(),
                last: last.into(),
                chain,
            }),
            Elements::Wide(elements) => elements.get(at).copied(),
        }
    }

    /// Those of its elements that another map has not: both are in order.
    pub(crate) fn without(&self, other: &Self) -> impl Iterator<Item = Element<u128>> {
        let mut others = other.elements().peekable();
        self.elements().filter(move |element| {
            while others.next_if(|other| other < element).is_some() {}
            others.peek() != Some(element)
        })
    }

    /// The chain of a key.
    pub(crate) fn find(&self, key: u128) -> Option<ChainId> {
        let after = match &self.elements {
            Elements::Narrow(elements) => {
                elements.partition_point(|element| u128::from(element.first) <= key)
            }
            Elements::Wide(elements) => elements.partition_point(|element| element.first <= key),
        };
        let element = self.element(after.checked_sub(1)?)?;
        (key <= element.last).then_some(element.chain)
    }
}

/// What one named counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Counter {
    /// An item, or more of them.
    pub kind: CounterKind,
    /// Its key.
    pub key: u64,
}

/// How exactly decisions are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CounterKind {
    /// By item: the key is that of [`counter_key`](mesh_bpf::item::counter_key).
    Item,
    /// All items of a source together, of which there are too many: the key is the source's
    /// [`stable_hash`](mesh_bpf::image::Source::stable_hash).
    Source,
}

impl Counter {
    /// Its name in the kernel.
    #[must_use]
    pub fn name(self) -> String {
        let kind = match self.kind {
            CounterKind::Item => 'h',
            CounterKind::Source => 's',
        };
        format!("{kind}{:016x}", self.key)
    }

    /// The counter of this name. None where it is another's.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (kind, hex) = match (name.strip_prefix('h'), name.strip_prefix('s')) {
            (Some(hex), _) => (CounterKind::Item, hex),
            (_, Some(hex)) => (CounterKind::Source, hex),
            _ => return None,
        };
        let counter = Self { kind, key: u64::from_str_radix(hex, 16).ok()? };
        (counter.name() == name).then_some(counter)
    }
}

impl Ruleset {
    /// What its decisions count.
    #[must_use]
    pub fn counters(&self) -> &[Counter] {
        &self.counters
    }

    /// Whether it decides anything.
    #[must_use]
    pub const fn decides(&self) -> bool {
        self.base.is_some()
    }

    /// How many elements all its maps have.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.maps.iter().map(Map::len).sum()
    }

    pub(crate) fn chain(&self, id: ChainId) -> Option<&Chain> {
        self.chains.get(id.0 as usize)
    }

    pub(crate) fn map(&self, id: MapId) -> Option<&Map> {
        self.maps.get(id.0 as usize)
    }

    pub(crate) fn counter(&self, id: CounterId) -> Option<Counter> {
        self.counters.get(id.0 as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_read_from_its_name_and_from_no_other() {
        for kind in [CounterKind::Item, CounterKind::Source] {
            let counter = Counter { kind, key: 0x0123_4567_89ab_cdef };
            assert_eq!(Counter::parse(&counter.name()), Some(counter));
        }
        for other in ["h1", "h0123456789ABCDEF", "x0123456789abcdef", ""] {
            assert_eq!(Counter::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_map_finds_keys_at_the_ends_of_its_elements_and_none_between() {
        let element = |first, last, chain| Element { first, last, chain: ChainId(chain) };
        for key in [KeyType::Port, KeyType::Address(Family::V6)] {
            let elements = [element(0, 5, 1), element(6, 9, 2), element(20, key.max(), 3)];
            let map = Map::new(key, true, elements.into_iter());
            let found = [0, 5, 6, 9, 10, 19, 20, key.max()].map(|key| map.find(key).map(|chain| chain.0));
            assert_eq!(found, [Some(1), Some(1), Some(2), Some(2), None, None, Some(3), Some(3)]);
        }
    }
}
