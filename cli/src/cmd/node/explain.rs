//! `meshc explain --live`: what the kernel's maps say of a flow.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mesh_bpf::flow::{Direction, Flow, Identity};
use mesh_bpf::image::{MapImage, ProfileId, SourceId};
use mesh_bpf::membership::Membership;
use mesh_bpf::prefix::Prefix;
use mesh_compiler::asked::{Found, MemberName, Names, Other, Who};
use mesh_compiler::ast::Asked;
use mesh_compiler::diag::Diagnostic;
use mesh_compiler::explain::{
    Accelerated, ByAddress, Cause, Explanation, explain_image, look_up, with_addresses,
};
use mesh_compiler::hir::region::AddressRange;
use mesh_compiler::parse::parse_flow;
use mesh_compiler::resolve::Services;
use mesh_compiler::source::Sources;
use mesh_runtime::{Family, Key, Member, Origin, Port, Runtime, Unheard, hex};
use serde_json::{Value, json};

use crate::args::Explain;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::live::{image, no_policy, paused};
use crate::node::{failure, open};
use crate::output::Output;
use crate::places::{Locations, Places};
use crate::render::explanation::{Fact, Shown, answer};
use crate::{render, sidecars};

/// Explains a flow from the live tables alone: no policy is read.
pub fn run(output: &Output, args: &Explain) -> Result<Exit, Failure> {
    let Some((flow, paths)) = args.arguments.split_last() else {
        return Err(Failure::usage("no flow was given"));
    };
    if !paths.is_empty() {
        return Err(Failure::usage("`--live` asks the kernel's maps, so it takes a flow and no policy"));
    }
    let runtime = open(&args.instance)?;
    let live = runtime.live().map_err(failure)?.ok_or_else(no_policy)?;
    let (image, tables) = (image(&live.tables)?, live.tables);
    let places = Places::kept(&runtime, &hex(&tables.digest()));
    let people = People::of(&image, runtime.members().map_err(failure)?, places.services());
    let mut sources = Sources::default();
    let (id, _) = sources.add("<flow>", flow.as_bytes().to_vec());
    let found = |asked: &Asked| people.names.find(asked, args.mesh.as_deref());
    let named = parse_flow(id, flow).and_then(|asked| Ok((found(&asked).map_err(|one| vec![one])?, asked)));
    let (named, asked) = match named {
        Ok(named) => named,
        Err(found) => return Ok(refused(output, &sources, &found)),
    };
    let nodes = runtime.node_addresses().map_err(failure)?;
    let question = Question::of(&image, &people, nodes, (named, &asked));
    let explained = question.explained().ok_or_else(|| {
        Failure::cannot("damaged", "the live tables do not answer")
            .help("`meshc apply --repair` rewrites them")
    })?;
    let hits = runtime.hits().map_err(failure)?;
    let all = runtime.unheard(&image).map_err(failure)?;
    let unheard: Vec<Unheard> = all.iter().filter(|it| question.comes_to(it, &explained)).cloned().collect();
    let more = [
        ("member", question.member.map_or(Value::Null, |member| member_object(member, question.workload))),
        ("unheard", sidecars::unheard(&unheard)),
        ("paused", live.paused.into()),
    ];
    let other = if question.flow.direction == Direction::Outbound { &asked.to } else { &asked.from };
    let shown = Shown {
        locations: Locations::Kept(&places),
        asked: flow,
        other: sources.slice(other.span()),
        direction: question.flow.direction,
    };
    let facts = |found: &Explanation| question.facts(&runtime, found, &hits, &all);
    let exit = answer(output, &shown, &explained, facts, &more)?;
    if live.paused {
        output.warn(&paused(live.generation));
    }
    for warning in sidecars::warnings(&unheard) {
        output.warn(&warning);
    }
    Ok(exit)
}

fn refused(output: &Output, sources: &Sources, found: &[Diagnostic]) -> Exit {
    output.print_diagnostics(&render::text(output, sources, found));
    Exit::Usage
}

/// Everybody whom a flow may be about.
struct People {
    names: Names,
    members: Vec<Member>,
}

impl People {
    fn of(image: &MapImage, mut members: Vec<Member>, services: Services) -> Self {
        let membership = Membership::of(image);
        let place = |member: &Member| {
            let workload = member.workload(&membership).ok().flatten()?;
            image.workloads.iter().position(|known| known.name == workload.name)
        };
        // A cgroup that only a policy before named is no member any more.
        members.retain(|member| member.origin != Origin::Selector || place(member).is_some());
        let name = |member: &Member| MemberName {
            name: member.name.clone(),
            namespace: member.namespace.clone(),
            cgroup: member.cgroup.clone(),
            workload: place(member),
        };
        let names = Names {
            workloads: image.workloads.iter().map(|workload| workload.name.clone()).collect(),
            members: members.iter().map(name).collect(),
            services,
        };
        Self { names, members }
    }

    fn of_workload(&self, workload: usize) -> Vec<&Member> {
        let named = self.members.iter().zip(&self.names.members);
        named.filter(|(_, name)| name.workload == Some(workload)).map(|(member, _)| member).collect()
    }
}

/// A flow by the names of the live image and its members.
struct Question<'a> {
    image: &'a MapImage,
    workload: &'a str,
    profile: ProfileId,
    /// The member that is asked about, if it is one.
    member: Option<&'a Member>,
    /// Those that it is about.
    members: Vec<&'a Member>,
    /// Without its address.
    flow: Flow,
    identity: Identity,
    /// The one address that is asked about.
    address: Option<IpAddr>,
    /// The addresses of the other end; nothing where they are not known.
    ranges: Vec<AddressRange>,
    /// The node's own addresses.
    nodes: BTreeSet<IpAddr>,
    /// The profile of the other end, where it is a member.
    peer: Option<ProfileId>,
}

impl<'a> Question<'a> {
    fn of(
        image: &'a MapImage,
        people: &'a People,
        nodes: BTreeSet<IpAddr>,
        (found, asked): (Found, &Asked),
    ) -> Self {
        let Found { who, direction, other, identity } = found;
        let members = |who| match who {
            Who::Workload(workload) => people.of_workload(workload),
            Who::Member { member, .. } => people.members.get(member).into_iter().collect(),
        };
        let workload = |who| match who {
            Who::Workload(workload) | Who::Member { workload, .. } => image.workloads.get(workload),
        };
        let member = match who {
            Who::Workload(_) => None,
            Who::Member { member, .. } => people.members.get(member),
        };
        let host = |address: &IpAddr| AddressRange::of(Prefix::host(*address));
        let (address, ranges, peer) = match other {
            Other::Address(address) => {
                let holder = people.members.iter().position(|member| member.own().contains(&address));
                let holder = holder.and_then(|at| people.names.members.get(at)?.workload);
                let peer = holder.and_then(|at| image.workloads.get(at)).map(|workload| workload.profile);
                (Some(address), Vec::new(), peer)
            }
            Other::Service(addresses) => (None, addresses.iter().filter_map(host).collect(), None),
            Other::Node => (None, nodes.iter().filter_map(host).collect(), None),
            Other::Member(other) => {
                let known = members(other);
                let mut ranges: BTreeSet<AddressRange> =
                    known.iter().flat_map(|member| member.own()).filter_map(host).collect();
                if let (Who::Workload(_), Some(workload)) = (other, workload(other))
                    && workload.selector.is_by_address()
                {
                    ranges.extend(workload.selector.addresses.iter().copied().filter_map(AddressRange::of));
                }
                (None, ranges.into_iter().collect(), workload(other).map(|workload| workload.profile))
            }
        };
        let (workload, profile) = workload(who)
            .map_or(("", ProfileId::default()), |workload| (workload.name.as_str(), workload.profile));
        let unspecified = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        let Asked { protocol, port, .. } = *asked;
        let flow = Flow { direction, protocol, address: unspecified, port, own: false };
        Self {
            image,
            workload,
            profile,
            member,
            members: members(who),
            flow,
            identity,
            address,
            ranges,
            nodes,
            peer,
        }
    }

    /// What is decided: an answer for all addresses that are decided alike.
    fn explained(&self) -> Option<Vec<Explanation>> {
        let by_address = |node: bool| {
            let identity = Identity { node, ..self.identity.clone() };
            let by = |own| ByAddress::new(self.image, self.profile, &Flow { own, ..self.flow }, &identity);
            Some([by(false)?, by(true)?])
        };
        let (elsewhere, at_node) = (by_address(false)?, by_address(true)?);
        let [others, _] = if self.identity.node { &at_node } else { &elsewhere };
        let pieces: Vec<AddressRange> = match self.address {
            Some(address) => AddressRange::of(Prefix::host(address)).into_iter().collect(),
            None if self.ranges.is_empty() => others.pieces().collect(),
            None => self.ranges.iter().flat_map(|&range| cut(others, range)).collect(),
        };
        let mut found: Vec<(Explanation, Vec<AddressRange>)> = Vec::new();
        let mut known: BTreeMap<(bool, bool, SourceId), usize> = BTreeMap::new();
        let peer = self.peer.filter(|&peer| self.redirects_back(peer));
        for range in pieces {
            let address = range.first_address();
            let node = self.identity.node || (range.first == range.last && self.nodes.contains(&address));
            let [others, own] = if node { &at_node } else { &elsewhere };
            let identity = Identity { node, ..self.identity.clone() };
            for is_own in self.ownership(address) {
                let (_, source) = (if is_own { own } else { others }).at(address)?;
                let key = (node, is_own, source);
                if let Some((_, ranges)) = known.get(&key).and_then(|&at| found.get_mut(at)) {
                    ranges.push(range);
                    continue;
                }
                let flow = Flow { address, own: is_own, ..self.flow };
                let explained = explain_image(self.image, self.profile, peer, &flow, &identity)?;
                known.insert(key, found.len());
                found.push((explained, vec![range]));
            }
        }
        if self.address.is_some() {
            return Some(found.into_iter().map(|(explained, _)| explained).collect());
        }
        Some(with_addresses(found, !self.ranges.is_empty()))
    }

    /// Whether an address is a member's own: both, where it is one member's and not another's.
    fn ownership(&self, address: IpAddr) -> BTreeSet<bool> {
        let own: BTreeSet<bool> = self.members.iter().map(|member| member.own().contains(&address)).collect();
        if own.is_empty() { BTreeSet::from([false]) } else { own }
    }

    /// Whether the other end's sidecar gets these connections, too.
    fn redirects_back(&self, peer: ProfileId) -> bool {
        let direction = match self.flow.direction {
            Direction::Outbound => Direction::Inbound,
            Direction::Inbound => Direction::Outbound,
        };
        let back = Flow { direction, ..self.flow };
        let redirected = |address: IpAddr| {
            let found = look_up(self.image, peer, &Flow { address, ..back }, &Identity::default());
            found.is_some_and(|found| found.verdict.port().is_some())
        };
        let mut own = self.members.iter().flat_map(|member| member.own()).peekable();
        if own.peek().is_some() {
            return own.all(|&address| redirected(address));
        }
        let pieces = ByAddress::new(self.image, peer, &back, &Identity::default());
        pieces.is_some_and(|by| by.pieces().all(|range| redirected(range.first_address())))
    }

    /// Whether connections of the workload are accelerated at all.
    fn may_accelerate(&self) -> bool {
        let profile = self.image.profile(self.profile);
        profile.is_some_and(|it| !it.acceleration.local.is_empty() || !it.acceleration.peers.is_empty())
    }

    /// Where a sidecar is needed for an answer.
    fn port(&self, found: &Explanation) -> Option<Port> {
        let Flow { direction, protocol, address, .. } = found.flow;
        // The flow has one family, whichever end is named.
        Some(Port { direction, protocol, family: Family::of(address), port: found.verdict.port()? })
    }

    /// Whether one of the answers comes to a sidecar that does not listen.
    fn comes_to(&self, it: &Unheard, explained: &[Explanation]) -> bool {
        self.is_asked(it) && explained.iter().any(|found| self.port(found) == Some(it.port))
    }

    fn is_asked(&self, it: &Unheard) -> bool {
        let is_member = |member: &Member| (&member.name, &member.namespace) == (&it.member, &it.namespace);
        it.workload == self.workload && self.member.is_none_or(is_member)
    }

    /// What else the node knows: whom it is about, how often that was decided, whether the sidecar listens.
    fn facts(
        &self,
        runtime: &Runtime,
        found: &Explanation,
        hits: &BTreeMap<u64, u64>,
        unheard: &[Unheard],
    ) -> Vec<Fact> {
        let mut facts = Vec::new();
        if let Some(member) = self.member {
            let text = format!("member {}, in {}", full_name(member), self.workload);
            facts.push(Fact { key: "member", value: member_object(member, self.workload), text });
        }
        let counter = match &found.cause {
            Cause::Rule(reason) | Cause::Exempt(reason) => Some(reason.counter),
            Cause::NoRule | Cause::BuiltIn(_) => None,
        };
        let hits = counter.map(|counter| hits.get(&counter).copied().unwrap_or_default());
        let text = hits.map_or_else(String::new, |hits| format!("hits  {hits}"));
        facts.push(Fact { key: "hits", value: hits.into(), text });
        if let Some(port) = self.port(found) {
            let listens: Vec<(&Member, Option<bool>)> = self
                .members
                .iter()
                .map(|&member| (member, listens(runtime, member, port, unheard)))
                .collect();
            let value = listens.iter().map(|(member, listens)| {
                json!({ "member": member.name, "namespace": member.namespace, "listens": listens })
            });
            facts.push(Fact { key: "sidecars", value: value.collect(), text: sidecars_text(port, &listens) });
            if found.accelerated == Accelerated::No && self.may_accelerate() {
                let text = "not accelerated: its bytes go through the TCP/IP stack".into();
                facts.push(Fact { key: "accelerated", value: false.into(), text });
            }
        }
        facts
    }
}

/// The pieces of a range.
fn cut(by: &ByAddress<'_>, range: AddressRange) -> Vec<AddressRange> {
    if range.first == range.last {
        return vec![range];
    }
    by.pieces()
        .filter(|piece| {
            piece.family == range.family && piece.first <= range.last && range.first <= piece.last
        })
        .map(|piece| AddressRange {
            family: range.family,
            first: piece.first.max(range.first),
            last: piece.last.min(range.last),
        })
        .collect()
}

/// Whether somebody listens in a member, as far as that can be told: processes of a cgroup may be in any namespace.
fn listens(runtime: &Runtime, member: &Member, port: Port, unheard: &[Unheard]) -> Option<bool> {
    let is_silent = unheard
        .iter()
        .any(|it| it.member == member.name && it.namespace == member.namespace && it.port == port);
    match member.key {
        _ if is_silent => Some(false),
        Key::Netns(cookie) => runtime.is_heard(cookie, port).ok().flatten(),
        Key::Cgroup(_) => None,
    }
}

fn sidecars_text(port: Port, listens: &[(&Member, Option<bool>)]) -> String {
    let of = |wanted: Option<bool>| -> Vec<String> {
        listens
            .iter()
            .filter(|(_, listens)| *listens == wanted)
            .map(|(member, _)| full_name(member))
            .collect()
    };
    let (silent, heard, unknown) = (of(Some(false)), of(Some(true)), of(None));
    let number = port.port;
    match (silent.as_slice(), heard.as_slice(), unknown.as_slice()) {
        ([], [], []) => format!("sidecar port {number}: the workload has no member here"),
        ([], [one], []) => format!("sidecar listens on port {number} in {one}"),
        ([], all, []) => format!("sidecar listens on port {number} in all {} members", all.len()),
        ([], _, unknown) => format!("sidecar port {number}: not known of {}", shortened(unknown)),
        (silent, ..) => format!("sidecar port {number}: nobody listens in {}", shortened(silent)),
    }
}

/// The first few of them.
fn shortened(names: &[String]) -> String {
    let told: Vec<&str> = names.iter().take(4).map(String::as_str).collect();
    match names.len().saturating_sub(told.len()) {
        0 => told.join(", "),
        more => format!("{} and {more} more", told.join(", ")),
    }
}

fn full_name(member: &Member) -> String {
    match (&member.namespace, &member.cgroup) {
        (Some(namespace), _) => format!("{namespace}/{}", member.name),
        (None, Some(cgroup)) => cgroup.clone(),
        (None, None) => member.name.clone(),
    }
}

fn member_object(member: &Member, workload: &str) -> Value {
    json!({
        "name": member.name, "namespace": member.namespace, "cgroup": member.cgroup, "workload": workload,
    })
}
