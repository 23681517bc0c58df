//! The evaluator: what a policy means for one flow, straight from the law of deciding.
//!
//! It collects the boxes that match, drops those that a narrower one beats, and takes the strongest verdict
//! that remains. It is simple on purpose: the proof holds what lowering made against it.

mod by_port;
mod contest;
mod exempt;

pub use crate::bounds::Respects;
pub use by_port::{Stretch, Winner, at, by_port, join};
pub use contest::{Contender, Contest, Why, contest};
pub use exempt::exempt_by;

use std::collections::BTreeSet;

use mesh_bpf::flow::{Direction, Flow, Identity, Protocol, Verdict};
use mesh_bpf::image::Source;
use mesh_bpf::ports::{PortRange, PortSet};
use mesh_bpf::prefix::Prefix;
use mesh_hir::item::{self, BuiltIn};
use mesh_hir::region::{applies, real_ports};
use mesh_hir::{Program, Rule, RuleId, WorkloadId};

use crate::bounds::{FlowBox, reaches};

/// One item of a rule: one box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item {
    /// The rule.
    pub rule: RuleId,
    /// Which of its ports.
    pub port: u32,
    /// Which of its addresses; `None` where it has none.
    pub address: Option<u32>,
    /// Which of its processes; `None` where it names none.
    pub who: Option<u32>,
}

/// What decided a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decider {
    /// No rule matched.
    NoRule,
    /// The language itself.
    BuiltIn(BuiltIn),
    /// This one of [`Program::exempts`].
    Exempt(usize),
    /// An item of a rule.
    Item(Item),
}

/// The decision about one flow, with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// What happens.
    pub verdict: Verdict,
    /// What it is credited to: the least text among equal winners.
    pub decider: Decider,
    /// The other winners of equal verdict.
    pub also: Vec<Item>,
    /// Items that matched and did not decide, with what beat each and why.
    pub beaten: Vec<(Item, Decider, Why)>,
    /// Redirects that tie with the winner and lead elsewhere: the policy is in error.
    pub conflict: Vec<Item>,
}

/// A box that matches a flow, with what is needed to compare it.
struct Match {
    item: Item,
    source: Source,
    prefix: Prefix,
    ports: PortSet,
}

/// Decides one flow of a member of `workload`. Does not check the program.
#[must_use]
pub fn evaluate(program: &Program, workload: WorkloadId, flow: &Flow, identity: &Identity) -> Evaluation {
    if let Some(index) = exempt_by(program, workload, flow, identity) {
        return Evaluation::plain(Verdict::Excluded, Decider::Exempt(index));
    }
    let (matches, apart) = collect(program, workload, flow, identity);
    let Closed { matches, redirects, outsiders, belongs } = close(program, workload, flow, matches);
    let default = match (belongs, redirects.is_empty()) {
        (true, _) => (Verdict::Denied, Decider::BuiltIn(BuiltIn::OutboundPort)),
        (false, false) => (Verdict::Excluded, Decider::BuiltIn(BuiltIn::SidecarPort)),
        (false, true) => (Verdict::Excluded, built_in(flow).map_or(Decider::NoRule, Decider::BuiltIn)),
    };
    let mut evaluation = judge(program, &matches, default);
    let by = |built_in, beaten: Vec<Item>| {
        beaten.into_iter().map(move |item| (item, Decider::BuiltIn(built_in), Why::BuiltIn(built_in)))
    };
    evaluation.beaten.extend(by(BuiltIn::SidecarPort, redirects));
    evaluation.beaten.extend(by(BuiltIn::OutboundPort, outsiders));
    evaluation.beaten.extend(built_in(flow).into_iter().flat_map(|built_in| by(built_in, apart.clone())));
    evaluation
}

/// Ports that a workload redirects to, by any rule that reaches it.
#[must_use]
pub fn sidecar_ports(program: &Program, workload: WorkloadId) -> BTreeSet<u16> {
    let reaching = rules_of(program, workload);
    reaching.filter_map(|(_, rule)| rule.verdict.port()).collect()
}

/// Ports that belong to the members of a workload: outbound redirects of this protocol lead to them, and no
/// inbound redirect of it does.
#[must_use]
pub fn outbound_ports(program: &Program, workload: WorkloadId, protocol: Protocol) -> PortSet {
    let led_to = |direction| {
        let rules = rules_of(program, workload).filter(move |(_, rule)| rule.direction == direction);
        let of_protocol =
            rules.filter(move |(_, rule)| rule.ports.iter().any(|item| item.protocol == protocol));
        of_protocol.filter_map(|(_, rule)| rule.verdict.port()).collect::<BTreeSet<u16>>()
    };
    let inbound = led_to(Direction::Inbound);
    led_to(Direction::Outbound).difference(&inbound).copied().map(PortRange::single).collect()
}

/// What is built in about the address of a flow.
fn built_in(flow: &Flow) -> Option<BuiltIn> {
    let apart = Prefix::host(flow.address).apart().map(BuiltIn::of_apart);
    if flow.own { Some(BuiltIn::OwnAddress) } else { apart }
}

impl Evaluation {
    const fn plain(verdict: Verdict, decider: Decider) -> Self {
        Self { verdict, decider, also: Vec::new(), beaten: Vec::new(), conflict: Vec::new() }
    }
}

fn rules_of(program: &Program, workload: WorkloadId) -> impl Iterator<Item = (RuleId, &Rule)> {
    (0u32..).map(RuleId).zip(&program.rules).filter(move |(_, rule)| {
        program.scopes.get(rule.scope.index()).is_some_and(|scope| applies(scope, workload))
    })
}

/// The boxes that match the flow; and those that hold it but do not reach in there, since its address is apart
/// or one of the member's own.
fn collect(
    program: &Program,
    workload: WorkloadId,
    flow: &Flow,
    identity: &Identity,
) -> (Vec<Match>, Vec<Item>) {
    let (mut matches, mut apart) = (Vec::new(), Vec::new());
    for (id, rule) in rules_of(program, workload).filter(|(_, rule)| rule.direction == flow.direction) {
        let whos = rule.whos().filter(|(_, who)| who.holds(identity));
        let items = (0u32..).zip(&rule.ports).filter(|(_, item)| item.protocol == flow.protocol);
        for (port, port_item) in items.filter(|(_, item)| item.ports.set().contains(flow.port)) {
            for (address, prefix) in prefixes(rule).filter(|(_, prefix)| prefix.contains(flow.address)) {
                for (who, named) in whos.clone() {
                    let item = Item { rule: id, port, address, who };
                    if reaches(prefix, flow.address, flow.own) {
                        let source = item::rule_source(program, rule, port_item, named);
                        matches.push(Match { item, source, prefix, ports: real_ports(&port_item.ports) });
                    } else {
                        apart.push(item);
                    }
                }
            }
        }
    }
    (matches, apart)
}

/// The prefixes of a rule's boxes.
fn prefixes(rule: &Rule) -> impl Iterator<Item = (Option<u32>, Prefix)> {
    let any = rule.addresses.is_empty().then_some((None, Prefix::Any));
    any.into_iter().chain((0u32..).zip(&rule.addresses).map(|(index, item)| (Some(index), item.prefix)))
}

/// The boxes that match a flow, by whether they take part at its port.
#[derive(Default)]
struct Closed {
    /// Those that do.
    matches: Vec<Match>,
    /// Redirects to a port of a sidecar.
    redirects: Vec<Item>,
    /// Boxes that are not about the member's own ports alone.
    outsiders: Vec<Item>,
    /// Whether the flow comes from elsewhere to a port that belongs to the member.
    belongs: bool,
}

/// No port that the workload redirects to is redirected inbound. At one that belongs to the member, what
/// comes from elsewhere is let in only by a box whose ports all do.
fn close(program: &Program, workload: WorkloadId, flow: &Flow, matches: Vec<Match>) -> Closed {
    let mut closed = Closed { matches, ..Closed::default() };
    if flow.direction == Direction::Outbound {
        return closed;
    }
    let is_sidecars = sidecar_ports(program, workload).contains(&flow.port);
    let own_ports = outbound_ports(program, workload, flow.protocol);
    let elsewhere = !flow.own && !Prefix::host(flow.address).is_loopback();
    closed.belongs = elsewhere && own_ports.contains(flow.port);
    let belongs = closed.belongs;
    let matches = std::mem::take(&mut closed.matches);
    for found in matches {
        match program.rules.get(found.item.rule.index()).map(|rule| rule.verdict) {
            Some(Verdict::Redirected { .. }) if is_sidecars => closed.redirects.push(found.item),
            Some(Verdict::Excluded) if belongs && !own_ports.covers(&found.ports) => {
                closed.outsiders.push(found.item);
            }
            _ => closed.matches.push(found),
        }
    }
    closed
}

/// Applies the law to boxes that all match one flow.
fn judge(program: &Program, matches: &[Match], default: (Verdict, Decider)) -> Evaluation {
    let mut order: Vec<&Match> = matches.iter().collect();
    order.sort_by_key(|found| (item::order(&found.source, found.prefix), found.item));
    let contenders: Vec<Contender<'_>> = order.iter().filter_map(|found| contender(program, found)).collect();
    let contest = contest(&contenders);
    let item = |index: usize| order.get(index).map(|found| found.item);
    let Some((verdict, winner)) = contest.winner.and_then(|(verdict, index)| Some((verdict, item(index)?)))
    else {
        return Evaluation::plain(default.0, default.1);
    };
    Evaluation {
        verdict,
        decider: Decider::Item(winner),
        also: contest.also.iter().filter_map(|&index| item(index)).collect(),
        beaten: (contest.beaten.iter())
            .filter_map(|&(loser, by, why)| Some((item(loser)?, Decider::Item(item(by)?), why)))
            .collect(),
        conflict: contest.conflict.iter().filter_map(|&index| item(index)).collect(),
    }
}

fn contender<'p>(program: &'p Program, found: &'p Match) -> Option<Contender<'p>> {
    let rule = program.rules.get(found.item.rule.index())?;
    let scope = program.scopes.get(rule.scope.index())?;
    let who = rule.who_at(found.item.who);
    let bounds = FlowBox { scope, ports: &found.ports, prefix: found.prefix, who };
    Some(Contender { bounds, always: rule.always, verdict: rule.verdict })
}
