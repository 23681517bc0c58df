//! The canonical text of one item: a box as compiled output, `explain` and counters name it.
//!
//! Text is all that this module makes of a rule. It decides nothing, so that lowering and the evaluator may
//! both use it and still be independent of each other.

use std::fmt::Write as _;

use mesh_bpf::flow::{Direction, Protocol, Verdict};
use mesh_bpf::image::{Source, SourceKind};
use mesh_bpf::prefix::{Apart, Prefix};

use crate::{Exempted, NODE, PortItem, Ports, Program, Rule, Who};

/// What the language itself decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BuiltIn {
    /// A loopback address that no rule names.
    Loopback,
    /// A multicast or broadcast address that no rule names.
    Multicast,
    /// A link-local address that no rule names.
    LinkLocal,
    /// One of the member's own addresses that no rule names.
    OwnAddress,
    /// An inbound connection to a port that the workload redirects to.
    SidecarPort,
    /// What comes from elsewhere to a port that only outbound redirects of the workload lead to, and that no
    /// rule opens.
    OutboundPort,
}

impl BuiltIn {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Loopback,
        Self::Multicast,
        Self::LinkLocal,
        Self::OwnAddress,
        Self::SidecarPort,
        Self::OutboundPort,
    ];

    /// What decides where no rule reaches addresses apart.
    #[must_use]
    pub const fn of_apart(apart: Apart) -> Self {
        match apart {
            Apart::Loopback => Self::Loopback,
            Apart::Multicast => Self::Multicast,
            Apart::LinkLocal => Self::LinkLocal,
        }
    }

    /// The word that stands for it in the compiled output.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Loopback => Apart::Loopback.word(),
            Self::Multicast => Apart::Multicast.word(),
            Self::LinkLocal => Apart::LinkLocal.word(),
            Self::OwnAddress => "own-address",
            Self::SidecarPort => "sidecar-port",
            Self::OutboundPort => "outbound-port",
        }
    }

    /// As a source of the map image.
    #[must_use]
    pub fn source(self) -> Source {
        Source { kind: SourceKind::BuiltIn, head: self.word().to_owned(), ..Source::default() }
    }
}

/// The source of the box that `rule`, one of its port items and one of its processes stand for, without its address.
#[must_use]
pub fn rule_source(program: &Program, rule: &Rule, ports: &PortItem, who: &Who) -> Source {
    let scope = program.scopes.get(rule.scope.index()).map_or("", |scope| scope.name.as_str());
    source(scope, rule.always, rule.direction, rule.verdict, ports.protocol, &ports.ports, who)
}

/// The source of one box, without its address.
#[must_use]
pub fn source(
    scope: &str,
    always: bool,
    direction: Direction,
    verdict: Verdict,
    protocol: Protocol,
    ports: &Ports,
    who: &Who,
) -> Source {
    let mut head = String::with_capacity(40);
    if always {
        head.push_str("always ");
    }
    head.push_str(verb(verdict));
    // Writing to a string does not fail.
    let _ = write!(head, " {direction} {protocol}");
    write_ports(&mut head, ports);
    Source {
        kind: SourceKind::Rule,
        scope: scope.to_owned(),
        head,
        direction: Some(direction),
        tail: tail(direction, verdict, who),
    }
}

/// The source of an `exempt` item.
#[must_use]
pub fn exempt_source(scope: &str, who: &Exempted) -> Source {
    let head = match who {
        Exempted::Uid(range) => format!("exempt uid {range}"),
        Exempted::Gid(range) => format!("exempt gid {range}"),
        Exempted::Cgroup(path) => format!("exempt cgroup \"{path}\""),
        Exempted::Interface(name) => format!("exempt interface \"{name}\""),
    };
    Source { kind: SourceKind::Exempt, scope: scope.to_owned(), head, ..Source::default() }
}

/// What orders items of equal verdict: their text without address and, of equal texts, the longer prefix,
/// then the scope. The least one is credited with a flow.
///
/// The address comes second so that the order is the same for every prefix with the same rules.
#[must_use]
pub fn order(source: &Source, prefix: Prefix) -> (&str, &str, std::cmp::Reverse<(bool, u8)>, &str) {
    let length = match prefix {
        Prefix::Any => (false, 0),
        Prefix::V4 { len, .. } | Prefix::V6 { len, .. } => (true, len),
    };
    (&source.head, &source.tail, std::cmp::Reverse(length), &source.scope)
}

/// ` tcp 80`, ` tcp` and ` tcp not 25, 80` without the protocol: nothing for all ports.
pub fn write_ports(text: &mut String, ports: &Ports) {
    let _ = match ports {
        Ports::All => Ok(()),
        Ports::Range(range) => write!(text, " {range}"),
        Ports::Not(others) => write!(text, " not {others}"),
    };
}

/// The word by which a rule asks for a verdict.
#[must_use]
pub const fn verb(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Excluded => "exclude",
        Verdict::Redirected { .. } => "redirect",
        Verdict::Denied => "deny",
    }
}

/// The node stands here, where an item has no prefix.
fn tail(direction: Direction, verdict: Verdict, who: &Who) -> String {
    let mut tail = if who.node { format!(" {} {NODE}", direction.preposition()) } else { String::new() };
    if !who.is_every_process() {
        // Writing to a string does not fail.
        let _ = write!(tail, " as {who}");
    }
    if let Verdict::Redirected { port, transparent } = verdict {
        let transparent = if transparent { " transparent" } else { "" };
        // Writing to a string does not fail.
        let _ = write!(tail, " -> {port}{transparent}");
    }
    tail
}

#[cfg(test)]
mod tests {
    use mesh_bpf::image::IdRange;
    use mesh_bpf::ports::PortRange;

    use super::*;

    #[test]
    fn text_is_the_box_alone() {
        let verdict = Verdict::Redirected { port: 15443, transparent: true };
        let ports = Ports::Range(PortRange::single(443));
        let source =
            |who: &Who| source("m/cart", true, Direction::Outbound, verdict, Protocol::Tcp, &ports, who);
        let prefix = Prefix::V4 { bits: 0x0a00_0000, len: 8 };
        let everybody = source(&Who::EVERYBODY);
        assert_eq!(
            everybody.text(prefix),
            "always redirect outbound tcp 443 to 10.0.0.0/8 -> 15443 transparent"
        );
        assert_eq!(everybody.text(Prefix::Any), "always redirect outbound tcp 443 -> 15443 transparent");
        let user = source(&Who { uid: Some(IdRange { first: 5, last: 9 }), ..Who::EVERYBODY });
        assert_eq!(
            user.text(prefix),
            "always redirect outbound tcp 443 to 10.0.0.0/8 as uid 5-9 -> 15443 transparent"
        );
        let node = source(&Who { uid: Some(IdRange { first: 5, last: 9 }), node: true, ..Who::EVERYBODY });
        assert_eq!(
            node.text(Prefix::Any),
            "always redirect outbound tcp 443 to node as uid 5-9 -> 15443 transparent"
        );
    }

    #[test]
    fn who_is_exempt_in_two_scopes_is_counted_in_each() {
        let root = Exempted::Uid(IdRange { first: 0, last: 0 });
        let [cart, till] = ["m/cart", "m/till"].map(|scope| exempt_source(scope, &root));
        assert_eq!(cart.text(Prefix::Any), till.text(Prefix::Any));
        assert_ne!(cart.stable_hash(), till.stable_hash());
    }

    #[test]
    fn not_keeps_its_list_in_one_item() {
        let others = [25, 80].map(PortRange::single).into_iter().collect();
        let source = source(
            "",
            false,
            Direction::Inbound,
            Verdict::Excluded,
            Protocol::Tcp,
            &Ports::Not(others),
            &Who::EVERYBODY,
        );
        assert_eq!(source.text(Prefix::Any), "exclude inbound tcp not 25, 80");
    }

    #[test]
    fn of_equal_texts_the_longer_prefix_comes_first() {
        let source = source(
            "",
            false,
            Direction::Outbound,
            Verdict::Excluded,
            Protocol::Tcp,
            &Ports::All,
            &Who::EVERYBODY,
        );
        let short = Prefix::V4 { bits: 0, len: 0 };
        let long = Prefix::V4 { bits: 0, len: 9 };
        assert!(order(&source, long) < order(&source, short));
        assert!(order(&source, short) < order(&source, Prefix::Any));
    }
}
