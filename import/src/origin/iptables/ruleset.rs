//! Tables of packet filters as they were read, whichever program listed them: chains, rules, what each asks and does.

use std::collections::BTreeMap;

use ipnet::IpNet;
use mesh_bpf::flow::{Direction, Protocol};
use mesh_compiler::diag::{Code, Diagnostic};
use mesh_compiler::source::Span;

use crate::settings::Setting;
use crate::value::Range;

/// The families whose packets go through a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// Both.
    Both,
}

/// Where the kernel calls a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// What arrives, before it is known for whom it is.
    Prerouting,
    /// What arrives for this machine.
    Input,
    /// What processes send.
    Output,
    /// What is passed on, and what leaves: nothing is decided there about a connection of a member.
    Elsewhere,
}

impl Hook {
    /// The direction of the flows that a chain there decides about.
    pub const fn direction(self) -> Option<Direction> {
        match self {
            Self::Prerouting | Self::Input => Some(Direction::Inbound),
            Self::Output => Some(Direction::Outbound),
            Self::Elsewhere => None,
        }
    }
}

/// A chain.
#[derive(Clone, Debug)]
pub struct Chain {
    /// The family of its table.
    pub family: Family,
    /// The name of its table.
    pub table: String,
    /// Where the kernel calls it, and in which order among others there; `None` for one that rules jump to.
    pub hook: Option<(Hook, i64)>,
    /// Whether what reaches its end is dropped.
    pub drops: bool,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name and text.
    pub setting: Setting,
    /// What must hold, all of it.
    pub matches: Vec<Match>,
    /// What it does then.
    pub target: Target,
}

/// What a rule asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// Whether the protocol is one of these.
    Protocol(Vec<Protocol>),
    /// Whether the destination's port is in one of these.
    Port(Vec<Range<u16>>, Is),
    /// Whether the source lies in one of these.
    Source(Vec<IpNet>, Is),
    /// Whether the destination lies in one of these.
    Destination(Vec<IpNet>, Is),
    /// Whether the destination is an address of this machine.
    LocalDestination(Is),
    /// Whether the process is of one of these users.
    User(Vec<Range<u32>>, Is),
    /// Whether it is of one of these groups.
    Group(Vec<Range<u32>>, Is),
    /// Whether it is in one of these cgroups.
    Cgroup(Vec<String>, Is),
    /// Whether a packet came in by this interface. A last `*` stands for any rest.
    Arrives(String, Is),
    /// Whether it leaves by this interface, likewise.
    Leaves(String, Is),
    /// Whether it has a mark that nobody sets unasked.
    Marked(Is),
    /// Whether it belongs to a connection that is there already.
    Known(Is),
    /// Always.
    Always,
    /// Something that a policy has no words for, and what that is.
    Unknown(&'static str),
}

/// Whether something is asked, or its opposite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    /// It.
    So,
    /// Its opposite.
    Not,
}

impl Is {
    /// The opposite, where that is asked.
    pub const fn not(is_not: bool) -> Self {
        if is_not { Self::Not } else { Self::So }
    }
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nothing more is looked at in its table.
    Accept,
    /// Back to the rule behind the one that led here.
    Return,
    /// The packet is lost, or refused.
    Drop,
    /// To this port of this machine.
    Redirect(u16),
    /// To a chain of its table, and back at its end.
    Jump(String),
    /// To a chain of its table, and from its end to where this one would return to.
    Goto(String),
    /// Nothing that decides; and why not, where that is to be said.
    Nothing(Option<&'static str>),
    /// Something that a policy has no words for, and what that is.
    Unknown(&'static str),
}

/// All chains, by family, table and name.
#[derive(Debug, Default)]
pub struct Ruleset {
    /// The chains.
    pub chains: BTreeMap<(Family, String, String), Chain>,
}

impl Ruleset {
    /// A chain that is jumped to from another.
    pub fn named(&self, from: &Chain, name: &str) -> Option<&Chain> {
        self.chains.get(&(from.family, from.table.clone(), name.to_owned()))
    }

    /// The chains that packets of a family go through in a direction, in the order in which they do.
    pub fn ways(&self, family: Family, direction: Direction) -> Vec<&Chain> {
        let of = |chain: &&Chain| chain.family == family || chain.family == Family::Both;
        let mut ways: Vec<(&Chain, (Hook, i64))> = (self.chains.values().filter(of))
            .filter_map(|chain| Some((chain, chain.hook?)))
            .filter(|(_, (hook, _))| hook.direction() == Some(direction))
            .collect();
        ways.sort_by_key(|(_, order)| *order);
        ways.into_iter().map(|(chain, _)| chain).collect()
    }

    /// All rules.
    pub fn rules(&self) -> impl Iterator<Item = (&Chain, &Rule)> {
        self.chains.values().flat_map(|chain| chain.rules.iter().map(move |rule| (chain, rule)))
    }
}

/// That a file is no listing, and why.
pub fn refused(span: Span, why: &str) -> Diagnostic {
    Diagnostic::new(Code::BadRuleset, "this file is no listing of a packet filter's rules")
        .label(span, why)
        .help("give what `iptables-save`, `ip6tables-save` or `nft -j list ruleset` prints")
}
