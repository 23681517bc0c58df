//! Why a flow is decided as it is: the rule, what it beat, and the entries of the maps that decide.
//!
//! Data only; how it looks is decided elsewhere. With a program at hand the evaluator gives the reasons
//! and the map image the entries. Without one ([`explain_image`]), as for what a kernel holds, the image
//! gives both, as far as it knows them: it keeps no rule that decides nothing.

mod image;
#[cfg(test)]
mod tests;
mod why;

pub use image::{ByAddress, Found, look_up};
pub use why::{Narrower, Respect, Why};

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use mesh_bpf::flow::{Direction, Flow, Identity, Protocol, Verdict};
use mesh_bpf::image::{MapImage, ProfileId, Source, SourceId, SourceKind};
use mesh_bpf::item::counter_key;
use mesh_bpf::prefix::Prefix;
use mesh_bpf::selector::Selector;

use crate::eval::{self, Decider, Item};
use crate::hir::item;
use crate::hir::region::{AddressRange, applies, join};
use crate::hir::{AddressItem, Exempted, NameId, Program, RuleId, WorkloadId};
use crate::question::{Members, OtherEnd, Piece, Question, workload_at};
use crate::source::Span;

/// A decision with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The flow.
    pub flow: Flow,
    /// Whether its address is one of the node.
    pub node: bool,
    /// What happens.
    pub verdict: Verdict,
    /// Whether its bytes go past the TCP/IP stack on at least one way between an application and a
    /// sidecar, or between two sidecars.
    pub accelerated: Accelerated,
    /// What decided: of equal items the one with the least text.
    pub cause: Cause,
    /// The other items that say the same and that nothing beats.
    pub also: Vec<Reason>,
    /// Items that match and do not decide.
    pub beaten: Vec<Beaten>,
    /// Exemptions of interfaces by which it would be left alone, where none was asked for.
    pub interfaces: Vec<Reason>,
    /// What was looked up in the maps, in order.
    pub entries: Vec<EntryText>,
    /// The addresses that are decided so, where not just one was asked for.
    pub holds: Option<Holds>,
}

/// Whether a connection is accelerated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accelerated {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// Nobody can tell: it is where the other end's address is that of a member of one of these workloads, and addresses
    /// do not select those.
    If(Vec<String>),
}

impl Accelerated {
    /// Whether it is; `None` where nobody can tell.
    #[must_use]
    pub const fn known(&self) -> Option<bool> {
        match self {
            Self::Yes => Some(true),
            Self::No => Some(false),
            Self::If(_) => None,
        }
    }
}

impl From<bool> for Accelerated {
    fn from(is: bool) -> Self {
        if is { Self::Yes } else { Self::No }
    }
}

/// The addresses of the other end for which an answer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holds {
    /// All of them.
    pub ranges: Vec<AddressRange>,
    /// Where any address may be the other end's, and that is shorter: all but these.
    pub but: Option<Vec<AddressRange>>,
}

/// An item that matches and does not decide.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Beaten {
    /// The item.
    pub rule: Reason,
    /// What beat it.
    pub by: Cause,
    /// Why that did.
    pub why: Why,
}

/// What decides a flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// No rule matches.
    NoRule,
    /// The language itself: `loopback`, `own-address`, `sidecar-port` and others: see [`item::BuiltIn`].
    BuiltIn(String),
    /// An `exempt` item.
    Exempt(Reason),
    /// An item of a rule.
    Rule(Reason),
}

impl Cause {
    /// Its rule decides by other items of it as well.
    const fn has_more(&mut self) {
        if let Self::Rule(reason) = self {
            reason.are_more = true;
        }
    }
}

/// An item as people read it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    /// `exclude outbound tcp 3306`
    pub text: String,
    /// Where it is written: empty at top level, `bookstore`, `bookstore/cart`.
    pub scope: String,
    /// The statement, where the source is at hand.
    pub span: Option<Span>,
    /// Its parts that stand elsewhere, where the source is at hand.
    pub elsewhere: Vec<Elsewhere>,
    /// It stands for more items of its rule.
    pub are_more: bool,
    /// The key of its counter.
    pub counter: u64,
}

/// A part of an item for which its rule has a name only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Elsewhere {
    /// Which part.
    pub part: Part,
    /// The name in the rule: of a set, a workload or a group, or `service shop/cart`.
    pub name: String,
    /// The words that it stands for; for a service the rule.
    pub span: Span,
}

/// Parts of an item for which names may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `tcp 3306`
    Ports,
    /// `10.0.3.0/24`
    Address,
}

impl Part {
    /// Both, in the order in which they are written.
    pub const ALL: [Self; 2] = [Self::Ports, Self::Address];

    /// Where it stands in the text of an item, or of several that differ in their addresses.
    #[must_use]
    pub fn within(self, text: &str) -> Option<Range<usize>> {
        let after = |words: [&str; 2]| words.into_iter().find_map(|word| Some(text.find(word)? + word.len()));
        let address = after([" to ", " from "]);
        let end = text.find(" as ").or_else(|| text.find(" -> ")).unwrap_or(text.len());
        match self {
            Self::Ports => {
                let before = [" to ", " from "].into_iter().find_map(|word| text.find(word));
                Some(after([" outbound ", " inbound "])?..before.unwrap_or(end))
            }
            Self::Address => address.map(|address| address..end),
        }
    }
}

/// The parts for which these names stand.
pub(crate) fn elsewhere(program: &Program, parts: [Option<(NameId, Span)>; 2]) -> Vec<Elsewhere> {
    let part = |(part, named): (Part, Option<(NameId, Span)>)| {
        let (by, span) = named?;
        Some(Elsewhere { part, name: program.names.get(by.index())?.clone(), span })
    };
    Part::ALL.into_iter().zip(parts).filter_map(part).collect()
}

/// An entry of a map as people read it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryText {
    /// The map, as the compiled output names it.
    pub map: String,
    /// Profile, direction and what is looked up.
    pub key: String,
    /// What is found.
    pub value: String,
}

/// Explains every flow that a question stands for.
#[must_use]
pub fn explain(
    program: &Program,
    image: &MapImage,
    members: &Members,
    question: &Question,
) -> Vec<Explanation> {
    let pieces = question.pieces(program, members);
    if let (OtherEnd::Addresses(addresses), [_]) = (&question.peer, pieces.as_slice())
        && let [address] = addresses.as_slice()
    {
        let own = pieces.iter().map(|piece| question.flow(address.to_canonical(), piece.own));
        return own.map(|flow| explain_flow(program, image, members, question, &flow)).collect();
    }
    let profile = profile_of(program, image, question.workload);
    // A set may cut addresses into very many pieces, and each takes a look at all rules.
    let is_each = pieces.len() <= EXPLAINED;
    let by_address = |own| ByAddress::new(image, profile?, &question.flow(ANY, own), &question.identity);
    let deciders = [false, true].map(by_address);
    let mut found: Vec<(Explanation, Vec<AddressRange>)> = Vec::new();
    let mut known: HashMap<(bool, Option<(Verdict, SourceId)>), usize> = HashMap::new();
    for Piece { range, own } in pieces {
        let decided = deciders.get(usize::from(own)).and_then(|by| by.as_ref()?.at(range.first_address()));
        let known_at = known.get(&(own, decided)).copied().filter(|_| !is_each);
        if let Some((other, ranges)) = known_at.and_then(|at| found.get_mut(at)) {
            other.cause.has_more();
            ranges.push(range);
            continue;
        }
        let flow = question.flow(range.first_address(), own);
        let explanation = explain_flow(program, image, members, question, &flow);
        match found.iter_mut().find(|(other, _)| is_each && alike(other, &explanation)) {
            Some((other, ranges)) => {
                if other.cause != explanation.cause {
                    other.cause.has_more();
                }
                ranges.push(range);
            }
            None => {
                known.insert((own, decided), found.len());
                found.push((explanation, vec![range]));
            }
        }
    }
    with_addresses(found, question.is_known(program, members))
}

/// Pieces of addresses up to which each is looked at with all of its reasons.
const EXPLAINED: usize = 1024;

/// Stands for addresses where none is asked about.
const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Says for each answer for which addresses it holds.
#[must_use]
pub fn with_addresses(found: Vec<(Explanation, Vec<AddressRange>)>, are_known: bool) -> Vec<Explanation> {
    let all: Vec<Vec<AddressRange>> = found.iter().map(|(_, ranges)| join(ranges.clone())).collect();
    let others = |at: usize| {
        let others = all.iter().enumerate().filter(|&(other, _)| other != at);
        join(others.flat_map(|(_, ranges)| ranges).copied().collect())
    };
    let told = found.into_iter().enumerate().map(|(at, (explanation, _))| {
        let ranges = all.get(at).cloned().unwrap_or_default();
        let others = if are_known { Vec::new() } else { others(at) };
        let but = (!are_known && others.len() < ranges.len()).then_some(others);
        Explanation { holds: Some(Holds { ranges, but }), ..explanation }
    });
    told.collect()
}

/// Whether two answers differ in nothing but the addresses that a set has for their rules.
fn alike(one: &Explanation, other: &Explanation) -> bool {
    let reason = |reason: &Reason| {
        let named = reason.elsewhere.iter().any(|it| it.part == Part::Address);
        let mut text = reason.text.clone();
        if let Some(range) = Part::Address.within(&text).filter(|_| named) {
            text.replace_range(range, "");
        }
        (text, reason.scope.clone(), reason.span)
    };
    let cause = |cause: &Cause| match cause {
        Cause::Rule(rule) => Some(reason(rule)),
        _ => None,
    };
    let same_cause = |one: &Cause, other: &Cause| match (cause(one), cause(other)) {
        (None, None) => one == other,
        (one, other) => one == other,
    };
    let same_beaten = |one: &Beaten, other: &Beaten| {
        reason(&one.rule) == reason(&other.rule)
            && same_cause(&one.by, &other.by)
            && std::mem::discriminant(&one.why) == std::mem::discriminant(&other.why)
    };
    (one.verdict, &one.accelerated, one.flow.own) == (other.verdict, &other.accelerated, other.flow.own)
        && same_cause(&one.cause, &other.cause)
        && one.also.iter().map(reason).eq(other.also.iter().map(reason))
        && one.beaten.len() == other.beaten.len()
        && one.beaten.iter().zip(&other.beaten).all(|(one, other)| same_beaten(one, other))
}

/// Explains one flow of an image: that of a kernel, or of an artifact. `profile` is that of the member.
/// `None` where the image is not whole.
#[must_use]
pub fn explain_image(
    image: &MapImage,
    profile: ProfileId,
    peer: Option<ProfileId>,
    flow: &Flow,
    identity: &Identity,
) -> Option<Explanation> {
    let found = look_up(image, profile, flow, identity)?;
    let source = image.source(found.source);
    let reason = || Reason::of_source(source, found.item, None);
    let cause = match source.kind {
        SourceKind::NoRule | SourceKind::Accelerate => Cause::NoRule,
        SourceKind::BuiltIn => Cause::BuiltIn(source.head.clone()),
        SourceKind::Exempt => Cause::Exempt(reason()),
        SourceKind::Rule => Cause::Rule(reason()),
    };
    let redirected = found.verdict.port().is_some() && flow.protocol == Protocol::Tcp;
    let accelerated = redirected
        && image.profile(profile).is_some_and(|of| {
            let ports =
                [Some(&of.acceleration.local), peer.and_then(|peer| of.acceleration.peers.get(&peer))];
            ports.into_iter().flatten().flatten().any(|(range, _)| range.contains(flow.port))
        });
    let interfaces = may_go_by(flow, identity, &cause).then(|| of_image(image, profile));
    Some(Explanation {
        flow: *flow,
        node: identity.node,
        verdict: found.verdict,
        accelerated: accelerated.into(),
        cause,
        also: Vec::new(),
        beaten: Vec::new(),
        interfaces: interfaces.unwrap_or_default(),
        entries: found.entries,
        holds: None,
    })
}

fn explain_flow(
    program: &Program,
    image: &MapImage,
    members: &Members,
    question: &Question,
    flow: &Flow,
) -> Explanation {
    let workload = question.workload;
    let evaluation = eval::evaluate(program, workload, flow, &question.identity);
    let profile = profile_of(program, image, workload);
    let found = profile.and_then(|profile| look_up(image, profile, flow, &question.identity));
    let cause = cause(program, evaluation.decider);
    let interfaces = may_go_by(flow, &question.identity, &cause).then(|| of_program(program, workload));
    Explanation {
        flow: *flow,
        node: question.identity.node,
        verdict: evaluation.verdict,
        accelerated: accelerated(program, image, members, question, flow, evaluation.verdict),
        cause,
        interfaces: interfaces.unwrap_or_default(),
        also: evaluation.also.iter().filter_map(|&item| reason(program, item)).collect(),
        beaten: why::beaten(program, workload, flow, &evaluation),
        entries: found.map_or_else(Vec::new, |found| found.entries),
        holds: None,
    }
}

/// The profile of a workload of the program that the image was made of.
#[must_use]
pub fn profile_of(program: &Program, image: &MapImage, workload: WorkloadId) -> Option<ProfileId> {
    let workload = program.workloads.get(workload.index())?;
    let mesh = program.meshes.get(workload.mesh.index())?;
    image.workload(&format!("{}/{}", mesh.name, workload.name)).map(|workload| workload.profile)
}

/// Whether a redirected flow is accelerated between the member and its sidecar, or between its sidecar and
/// that of the workload at the other end, which must redirect it too.
pub(crate) fn accelerated(
    program: &Program,
    image: &MapImage,
    members: &Members,
    question: &Question,
    flow: &Flow,
    verdict: Verdict,
) -> Accelerated {
    let workload = question.workload;
    if verdict.port().is_none() || flow.protocol != Protocol::Tcp {
        return Accelerated::No;
    }
    let Some(profile) = profile_of(program, image, workload).and_then(|id| image.profile(id)) else {
        return Accelerated::No;
    };
    let chosen =
        |ports: &[(mesh_bpf::ports::PortRange, _)]| ports.iter().any(|(range, _)| range.contains(flow.port));
    if chosen(&profile.acceleration.local) {
        return Accelerated::Yes;
    }
    let is_between = |other: WorkloadId| {
        let ports =
            profile_of(program, image, other).and_then(|other| profile.acceleration.peers.get(&other));
        ports.is_some_and(|ports| chosen(ports)) && redirects_back(program, members, workload, other, flow)
    };
    let known = match question.peer {
        // What the node itself opens or receives has no sidecar.
        OtherEnd::Node => return Accelerated::No,
        OtherEnd::Workload(other) => Some(other),
        _ => workload_at(program, members, flow.address),
    };
    if let Some(other) = known {
        return is_between(other).into();
    }
    let mut may_be = Vec::new();
    for (id, other) in (0u32..).map(WorkloadId).zip(&program.workloads) {
        let Selector { addresses, cgroups, .. } = &other.selector;
        let may_have = match addresses.as_slice() {
            // Processes of a cgroup have no addresses of their own.
            [] => cgroups.is_empty(),
            all => all.iter().any(|prefix| prefix.contains(flow.address)),
        };
        // Where an inventory names some, it names all.
        if may_have && members.of(id).is_empty() && is_between(id) {
            let mesh = program.meshes.get(other.mesh.index()).map_or("", |mesh| mesh.name.as_str());
            may_be.push(format!("{mesh}/{}", other.name));
        }
    }
    if may_be.is_empty() { Accelerated::No } else { Accelerated::If(may_be) }
}

/// Whether the workload at the other end redirects the flow as well.
fn redirects_back(
    program: &Program,
    members: &Members,
    workload: WorkloadId,
    other: WorkloadId,
    flow: &Flow,
) -> bool {
    let direction = match flow.direction {
        Direction::Outbound => Direction::Inbound,
        Direction::Inbound => Direction::Outbound,
    };
    let question = Question {
        workload: other,
        direction,
        peer: OtherEnd::Workload(workload),
        member: None,
        protocol: flow.protocol,
        port: flow.port,
        identity: Identity::default(),
    };
    question
        .flows(program, members)
        .iter()
        .all(|flow| eval::evaluate(program, other, flow, &Identity::default()).verdict.port().is_some())
}

/// Whether it matters by which interface a flow goes, and nobody said.
fn may_go_by(flow: &Flow, identity: &Identity, cause: &Cause) -> bool {
    let comes_from_within = flow.direction == Direction::Inbound && flow.own;
    identity.interface.is_none() && !comes_from_within && !matches!(cause, Cause::Exempt(_))
}

/// The interfaces that a program exempts of a workload.
fn of_program(program: &Program, workload: WorkloadId) -> Vec<Reason> {
    let all = program.exempts.iter().filter(|exempt| matches!(exempt.who, Exempted::Interface(_)));
    let mut all: Vec<Reason> = all
        .filter_map(|exempt| {
            let scope = program.scopes.get(exempt.scope.index()).filter(|scope| applies(scope, workload))?;
            let source = item::exempt_source(&scope.name, &exempt.who);
            Some(Reason::of_source(&source, Prefix::Any, Some(exempt.span)))
        })
        .collect();
    all.sort_by(|one, other| (&one.text, &one.scope).cmp(&(&other.text, &other.scope)));
    all.dedup_by(|one, other| (&one.text, &one.scope) == (&other.text, &other.scope));
    all
}

/// The same of a profile.
fn of_image(image: &MapImage, profile: ProfileId) -> Vec<Reason> {
    let interfaces = image.profile(profile).into_iter().flat_map(|profile| &profile.exempt.interfaces);
    interfaces.map(|(_, source)| Reason::of_source(image.source(*source), Prefix::Any, None)).collect()
}

/// What decided, in words.
#[must_use]
pub fn cause(program: &Program, decider: Decider) -> Cause {
    match decider {
        Decider::NoRule => Cause::NoRule,
        Decider::BuiltIn(built_in) => Cause::BuiltIn(built_in.word().to_owned()),
        Decider::Exempt(index) => program.exempts.get(index).map_or(Cause::NoRule, |exempt| {
            let scope = program.scopes.get(exempt.scope.index()).map_or("", |scope| scope.name.as_str());
            let source = item::exempt_source(scope, &exempt.who);
            Cause::Exempt(Reason::of_source(&source, Prefix::Any, Some(exempt.span)))
        }),
        Decider::Item(item) => reason(program, item).map_or(Cause::NoRule, Cause::Rule),
    }
}

/// An item, in words.
#[must_use]
pub fn reason(program: &Program, item: Item) -> Option<Reason> {
    let rule = rule(program, item.rule)?;
    let ports = rule.ports.get(item.port as usize)?;
    let address = match item.address {
        None => None,
        Some(index) => Some(rule.addresses.get(index as usize)?),
    };
    let source = item::rule_source(program, rule, ports, rule.who_at(item.who));
    let prefix = address.map_or(Prefix::Any, |address| address.prefix);
    let place = |address: &AddressItem| match program.service_named(address.by) {
        // Its addresses are written nowhere.
        Some(_) => rule.span,
        None => address.span,
    };
    let named = [Some((ports.by, ports.span)), address.map(|address| (address.by, place(address)))];
    Some(Reason {
        elsewhere: elsewhere(program, named),
        ..Reason::of_source(&source, prefix, Some(rule.span))
    })
}

fn rule(program: &Program, id: RuleId) -> Option<&crate::hir::Rule> {
    program.rules.get(id.index())
}

impl Reason {
    pub(crate) fn of_source(source: &Source, prefix: Prefix, span: Option<Span>) -> Self {
        let hash = source.stable_hash();
        let counter = if source.kind == SourceKind::Exempt { hash } else { counter_key(hash, prefix) };
        let (text, scope) = (source.text(prefix), source.scope.clone());
        Self { text, scope, span, elsewhere: Vec::new(), are_more: false, counter }
    }
}
