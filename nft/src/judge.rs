//! What a ruleset does with a flow, by its own data model: what the kernel would do with the messages made of it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use mesh_bpf::flow::{Direction, Flow, Identity, Protocol, Verdict};
use mesh_bpf::selector::{LOOPBACK, interface_covers};

use crate::ruleset::{Action, ChainId, Counter, CounterId, End, Family, Key, Kind, Match, Rule, Ruleset};
use crate::scene::{Cgroup, Scene};

/// What a ruleset makes of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What happens.
    pub verdict: Verdict,
    /// What is counted. None where nobody's rules were asked.
    pub counter: Option<Counter>,
}

/// What is known of a packet. The first that is asked and not known ends the walk.
#[derive(Clone, Debug)]
pub(crate) struct Facts<'f> {
    pub(crate) direction: Direction,
    pub(crate) part: Part,
    pub(crate) kind: Kind,
    pub(crate) process: Option<&'f Process>,
    /// The interface that it goes by.
    pub(crate) interface: &'f str,
    /// The other end: where an outbound packet goes to, where an inbound one comes from.
    pub(crate) address: Remote,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) port: Option<u16>,
}

/// What is known of the address of the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remote {
    Unknown,
    Is(IpAddr),
    /// It was asked for, and may be no more: what is found from here on holds for many.
    Settled,
}

/// Which part of a connection a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The first.
    First,
    /// The first, where BPF programs have led the connection to a sidecar.
    Led,
    /// Another.
    Later,
    /// Another of a connection that conntrack does not know.
    MidStream,
}

/// Who made its socket, as the kernel tells in the namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) user: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) cgroups: BTreeSet<Cgroup>,
}

/// The next rule to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    place: Place,
    rule: usize,
    /// What was counted on the way.
    counted: Option<CounterId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Output,
    Prerouting,
    Chain(ChainId),
}

impl At {
    pub(crate) const fn hook(direction: Direction) -> Self {
        let place = match direction {
            Direction::Outbound => Place::Output,
            Direction::Inbound => Place::Prerouting,
        };
        Self { place, rule: 0, counted: None }
    }

    pub(crate) const fn chain(chain: ChainId) -> Self {
        Self { place: Place::Chain(chain), rule: 0, counted: None }
    }

    /// The chain, unless it is one of those at hooks.
    pub(crate) const fn within(self) -> Option<ChainId> {
        match self.place {
            Place::Chain(chain) => Some(chain),
            Place::Output | Place::Prerouting => None,
        }
    }
}

/// Where a walk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Walk {
    /// At a rule that asks what is not known.
    Asks(At),
    /// At its end, with what was counted.
    Ended(Ended, Option<CounterId>),
}

/// How a walk ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ended {
    Accepted,
    /// Goes straight, and is offered to the namespace itself.
    Offered(ChainId),
    Dropped,
    Reset,
    Unreachable,
    Redirected(u16),
    /// In no way that a ruleset may.
    Lost,
}

impl Ended {
    /// The verdict. None where there is none.
    pub(crate) const fn verdict(self) -> Option<Verdict> {
        Some(match self {
            Self::Accepted | Self::Offered(_) => Verdict::Excluded,
            Self::Dropped | Self::Reset | Self::Unreachable => Verdict::Denied,
            Self::Redirected(port) => Verdict::Redirected { port, transparent: false },
            Self::Lost => return None,
        })
    }
}

/// More rules than any way through a ruleset has: those of a map are one.
const LONGEST: usize = 1 << 20;

impl Ruleset {
    /// What it does with a flow of one of the scene's residents. Whether the address is an own one, or the node's, is known
    /// by the scene. None where the ruleset is damaged, which the proof excludes, or there is no such resident.
    #[must_use]
    pub fn judge(&self, scene: &Scene, resident: usize, flow: &Flow, identity: &Identity) -> Option<Judged> {
        let mut process = Process {
            user: identity.uid.and_then(|id| scene.users.one(id)),
            group: identity.gid.and_then(|id| scene.groups.one(id)),
            cgroups: scene.cgroups_of(identity.cgroup.as_deref()),
        };
        process.cgroups.extend(scene.residents.get(resident)?.cgroup);
        let facts = Facts {
            direction: flow.direction,
            part: Part::First,
            kind: Kind::Local,
            process: Some(&process),
            interface: identity.interface.as_deref().unwrap_or(LOOPBACK),
            address: Remote::Is(flow.address),
            protocol: Some(flow.protocol),
            port: Some(flow.port),
        };
        match self.walk(At::hook(flow.direction), &facts) {
            Walk::Ended(ended, counter) => {
                let counter = counter.and_then(|counter| self.counter(counter));
                Some(Judged { verdict: ended.verdict()?, counter })
            }
            Walk::Asks(_) => None,
        }
    }

    /// Walks from a rule, as far as what is known leads.
    pub(crate) fn walk(&self, from: At, facts: &Facts<'_>) -> Walk {
        let mut at = from;
        for _ in 0..LONGEST {
            let Some(rules) = self.rules(at.place) else { return Walk::Ended(Ended::Lost, at.counted) };
            let Some(rule) = rules.get(at.rule) else {
                // The end of a base chain is its policy; chains that are gone to do not return.
                let is_base = at.within().is_none() || at.counted.is_none();
                return Walk::Ended(if is_base { Ended::Accepted } else { Ended::Lost }, at.counted);
            };
            match matches(rule, facts) {
                None => return Walk::Asks(at),
                Some(false) => at.rule += 1,
                Some(true) => match self.act(rule, facts, &mut at.counted) {
                    Acted::Asks => return Walk::Asks(at),
                    Acted::Next => at.rule += 1,
                    Acted::Goes(chain) if at.counted.is_some() => {
                        return Walk::Ended(Ended::Offered(chain), at.counted);
                    }
                    Acted::Goes(chain) => at = At::chain(chain),
                    Acted::Ends(ended) => return Walk::Ended(ended, at.counted),
                },
            }
        }
        Walk::Ended(Ended::Lost, at.counted)
    }

    fn rules(&self, place: Place) -> Option<&[Rule]> {
        Some(match place {
            Place::Output => self.base.as_ref().map_or(&[], |base| base.output.as_slice()),
            Place::Prerouting => self.base.as_ref().map_or(&[], |base| base.prerouting.as_slice()),
            Place::Chain(chain) => &self.chain(chain)?.rules,
        })
    }

    fn act(&self, rule: &Rule, facts: &Facts<'_>, counted: &mut Option<CounterId>) -> Acted {
        match rule.action {
            Action::Accept => Acted::Ends(Ended::Accepted),
            Action::Drop => Acted::Ends(Ended::Dropped),
            Action::Reset if facts.protocol == Some(Protocol::Tcp) => Acted::Ends(Ended::Reset),
            Action::Reset => Acted::Ends(Ended::Lost),
            Action::Unreachable => Acted::Ends(Ended::Unreachable),
            Action::Redirect(port) => Acted::Ends(Ended::Redirected(port)),
            Action::Goto(chain) => Acted::Goes(chain),
            Action::Count(counter) => match counted.replace(counter) {
                None => Acted::Next,
                Some(_) => Acted::Ends(Ended::Lost),
            },
            Action::Look(key, map) => match (self.map(map), found(key, facts)) {
                (None, _) | (_, Found::Never) => Acted::Ends(Ended::Lost),
                (_, Found::Unknown) => Acted::Asks,
                (_, Found::Nothing) => Acted::Next,
                (Some(map), _) if map.key != key.key_type() => Acted::Ends(Ended::Lost),
                (Some(map), Found::Key(key)) => map.find(key).map_or(Acted::Next, Acted::Goes),
            },
        }
    }
}

enum Acted {
    Asks,
    Next,
    Goes(ChainId),
    Ends(Ended),
}

/// What a packet has of a key.
enum Found {
    Key(u128),
    /// It has none: the rule does not hold.
    Nothing,
    Unknown,
    /// A ruleset may not ask it here.
    Never,
}

/// Whether all matches of a rule hold. None where it is not known.
fn matches(rule: &Rule, facts: &Facts<'_>) -> Option<bool> {
    for matched in &rule.matches {
        if !holds(matched, facts)? {
            return Some(false);
        }
    }
    Some(true)
}

fn holds(matched: &Match, facts: &Facts<'_>) -> Option<bool> {
    Some(match matched {
        Match::New(is) => (facts.part != Part::Later) == *is,
        Match::MidStream => facts.part == Part::MidStream && facts.protocol? == Protocol::Tcp,
        Match::Protocol(protocol) => facts.protocol? == *protocol,
        Match::Led(protocol, _) => facts.part == Part::Led && facts.protocol? == *protocol,
        Match::Interface { pattern, is, .. } => {
            let name = facts.interface;
            let covers = interface_covers(pattern, name) || (pattern == LOOPBACK && name == LOOPBACK);
            covers == *is
        }
        Match::Destined(kind) => facts.direction == Direction::Inbound && facts.kind == *kind,
    })
}

fn found(key: Key, facts: &Facts<'_>) -> Found {
    let process = |of: fn(&Process) -> Option<u128>| match facts.process {
        None => Found::Never,
        Some(process) => of(process).map_or(Found::Nothing, Found::Key),
    };
    match key {
        Key::Address(end, family) => {
            let other = match facts.direction {
                Direction::Outbound => End::Destination,
                Direction::Inbound => End::Source,
            };
            match facts.address {
                _ if end != other => Found::Never,
                Remote::Settled => Found::Never,
                Remote::Unknown => Found::Unknown,
                Remote::Is(IpAddr::V4(address)) if family == Family::V4 => {
                    Found::Key(address.to_bits().into())
                }
                Remote::Is(IpAddr::V6(address)) if family == Family::V6 => Found::Key(address.to_bits()),
                Remote::Is(_) => Found::Nothing,
            }
        }
        Key::Port(protocol) => match (facts.protocol, facts.port) {
            (Some(known), _) if known != protocol => Found::Nothing,
            (Some(_), Some(port)) => Found::Key(port.into()),
            _ => Found::Unknown,
        },
        Key::User => process(|process| process.user.map(u128::from)),
        Key::Group => process(|process| process.group.map(u128::from)),
        Key::Cgroup(level) => match facts.process {
            None => Found::Never,
            Some(process) => {
                let at = process.cgroups.iter().find(|cgroup| cgroup.level == level);
                at.map_or(Found::Nothing, |cgroup| Found::Key(cgroup.id.into()))
            }
        },
    }
}
