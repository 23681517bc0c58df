//! A difference between two policies.

use std::collections::BTreeMap;
use std::fmt::Write;

use mesh_bpf::flow::{Direction, Verdict};
use mesh_bpf::ports::{PortRange, PortSet};
use mesh_bpf::prefix::Prefix;
use mesh_compiler::diff::{
    Cause, Difference, Ends, EntryChange, EntryChanges, FlowChange, MemberChangeKind, addresses_text,
};
use mesh_compiler::emit::Sets;
use mesh_compiler::hir::region::{AddressRange, join};
use mesh_compiler::hir::{NODE, SERVICE};
use serde_json::{Map, Value, json};

use super::citation;
use crate::places::Place;

/// What is told beside a difference.
#[derive(Debug, Default)]
pub struct Beside {
    /// By flow change, as far as they were looked for.
    causes: Vec<Vec<CauseAt>>,
    /// Names of sets by what is in them.
    sets: BTreeMap<Vec<AddressRange>, String>,
}

/// What makes flows change, and where that is written.
#[derive(Debug)]
pub struct CauseAt {
    /// The rule.
    pub cause: Cause,
    /// Where that is, where the source is known.
    pub place: Option<Place>,
}

impl Beside {
    /// Causes by flow change, and the sets and services of both policies.
    pub fn new<'a>(causes: Vec<Vec<CauseAt>>, policies: impl Iterator<Item = &'a Sets>) -> Self {
        let mut names = BTreeMap::new();
        for policy in policies {
            let sets = policy.iter().map(|set| (policy.addresses_of(set), set.name.clone()));
            let label = |name: &String| format!("{SERVICE} {name}");
            let services = policy.services().map(|it| (it.addresses.iter().collect(), label(&it.name)));
            for (addresses, name) in services.chain(sets).filter(|(addresses, _)| addresses.len() > 1) {
                let ranges = addresses.into_iter().copied().filter_map(AddressRange::of);
                names.insert(join(ranges.collect()), name);
            }
        }
        Self { causes, sets: names }
    }

    fn causes(&self, change: usize) -> &[CauseAt] {
        self.causes.get(change).map_or(&[], Vec::as_slice)
    }

    fn set(&self, change: &FlowChange) -> Option<&str> {
        self.sets.get(&change.patch.addresses).map(String::as_str)
    }
}

/// The JSON of a difference.
pub fn object(difference: &Difference, beside: &Beside, entries: bool) -> Map<String, Value> {
    let flows = difference.flows.iter().enumerate();
    let flows: Vec<Value> =
        flows.map(|(at, change)| flow_object(change, beside.causes(at), beside.set(change))).collect();
    let EntryChanges { added, removed, changed } = &difference.entries;
    let exemptions: Vec<Value> = (difference.exemptions.iter())
        .map(|change| json!({ "workload": change.workload, "identity": change.identity, "exempt": change.exempt }))
        .collect();
    let members: Vec<Value> = (difference.members.iter())
        .map(|change| {
            let from = match &change.what {
                MemberChangeKind::Renamed(from) => Some(from),
                _ => None,
            };
            json!({ "workload": change.workload, "change": change.what.words(), "renamed_from": from })
        })
        .collect();
    let texts = |prefixes: &[Prefix]| prefixes.iter().map(ToString::to_string).collect::<Vec<_>>();
    let services: Vec<Value> = (difference.services.iter())
        .map(|it| json!({ "name": it.name, "added": texts(&it.added), "removed": texts(&it.removed) }))
        .collect();
    let mut object = Map::new();
    object.insert("equal".into(), difference.is_empty().into());
    object.insert("flows".into(), flows.into());
    object.insert("exemptions".into(), exemptions.into());
    object.insert("members".into(), members.into());
    object.insert("services".into(), services.into());
    object.insert(
        "entries".into(),
        json!({ "added": added.len(), "removed": removed.len(), "changed": changed.len() }),
    );
    if entries {
        object.insert("entry_changes".into(), lines(&difference.entries).map(entry_object).collect());
    }
    object
}

fn entry_object((_, entry): (&str, &EntryChange)) -> Value {
    let value = |text: &String| Some(text).filter(|text| !text.is_empty()).cloned();
    let EntryChange { map, key, before, after } = entry;
    json!({ "map": map, "key": key, "before": value(before), "after": value(after) })
}

/// Each with its sign.
fn lines(entries: &EntryChanges) -> impl Iterator<Item = (&'static str, &EntryChange)> {
    let EntryChanges { added, removed, changed } = entries;
    (removed.iter().map(|entry| ("-", entry)))
        .chain(changed.iter().map(|entry| ("~", entry)))
        .chain(added.iter().map(|entry| ("+", entry)))
}

fn flow_object(change: &FlowChange, causes: &[CauseAt], set: Option<&str>) -> Value {
    let verdict = |verdict: Verdict| json!({ "verdict": verdict.word(), "port": verdict.port() });
    json!({
        "workload": short(&change.workload),
        "mesh": change.workload.split('/').next(),
        "direction": change.direction.to_string(),
        "protocol": change.protocol.to_string(),
        "ports": ports(&change.patch.ports),
        "addresses": addresses_text(&change.patch.addresses),
        "set": set,
        "own": change.own,
        "as": change.who.as_ref().map(|who| &who.processes).filter(|words| !words.is_empty()),
        "node": change.who.as_ref().map(|who| &who.node).filter(|words| !words.is_empty()),
        "causes": causes.iter().map(cause_object).collect::<Vec<_>>(),
        "before": verdict(change.before),
        "after": verdict(change.after),
    })
}

fn cause_object(told: &CauseAt) -> Value {
    let mut object = citation::object(told.place.as_ref());
    object.insert("text".into(), told.cause.text.clone().into());
    object.insert("gone".into(), told.cause.gone.into());
    object.into()
}

fn short(workload: &str) -> &str {
    workload.rsplit_once('/').map_or(workload, |(_, name)| name)
}

fn ports(ports: &PortSet) -> String {
    let all = PortSet::from(PortRange { first: 1, last: u16::MAX });
    if *ports == all { "any".into() } else { ports.to_string() }
}

/// A difference for people: who, which flows and why, then entries if they are asked for.
pub fn text(difference: &Difference, beside: &Beside, entries: bool) -> String {
    if difference.is_empty() {
        return "no change\n".into();
    }
    let mut out = parts(difference, beside).concat();
    if difference.flows.is_empty() {
        out.push_str("no flow changes its verdict\n");
    }
    let EntryChanges { added, removed, changed } = &difference.entries;
    let total = added.len() + removed.len() + changed.len();
    if !entries {
        if total > 0 {
            let _ = writeln!(out, "entries that change: {total} (`--entries` shows them)");
        }
        return out;
    }
    let _ =
        writeln!(out, "entries: {} added, {} removed, {} changed", added.len(), removed.len(), changed.len());
    for (sign, EntryChange { key, before, after, .. }) in lines(&difference.entries) {
        let _ = match sign {
            "-" => writeln!(out, "  - {key} = {before}"),
            "+" => writeln!(out, "  + {key} = {after}"),
            _ => writeln!(out, "  ~ {key} = {before} -> {after}"),
        };
    }
    out
}

/// The flows that change, as a page has them.
pub fn changes(difference: &Difference, beside: &Beside) -> Vec<mesh_view::Change> {
    let change = |(at, change): (usize, &FlowChange)| mesh_view::Change {
        workload: change.workload.clone(),
        direction: change.direction.to_string(),
        protocol: change.protocol.to_string(),
        addresses: beside.set(change).map_or_else(|| addresses_text(&change.patch.addresses), str::to_owned),
        ports: ports_text(&change.patch.ports).trim_start().to_owned(),
        own: change.own,
        who: change.who.as_ref().map_or_else(String::new, Ends::clause),
        before: change.before.to_string(),
        after: change.after.to_string(),
        causes: beside.causes(at).iter().map(|told| cause_text(told).trim_start().to_owned()).collect(),
        example: example(change),
    };
    difference.flows.iter().enumerate().map(change).collect()
}

/// One of the flows of a change, as it is asked for.
fn example(change: &FlowChange) -> String {
    let FlowChange { workload, patch, protocol, who, .. } = change;
    let first =
        || patch.addresses.first().map_or_else(String::new, |range| range.first_address().to_string());
    let node = who.as_ref().is_some_and(|who| who.example.node);
    let address = if node { NODE.to_owned() } else { first() };
    let port = patch.ports.ranges().first().map_or(1, |range| range.first.max(1));
    let who = who.as_ref().map_or_else(String::new, |who| who.example.clause());
    match change.direction {
        Direction::Outbound => format!("{workload} -> {address} {protocol} {port}{who}"),
        Direction::Inbound => format!("{address} -> {workload} {protocol} {port}"),
    }
}

/// What changes beside flows, a line each.
pub fn notes(difference: &Difference) -> Vec<String> {
    let lines = around(difference);
    lines.map(|line| line.trim_end().to_owned()).collect()
}

/// What changes, each with what makes it change: lines that belong together.
pub(super) fn parts(difference: &Difference, beside: &Beside) -> Vec<String> {
    let flows = alike(&difference.flows).into_iter().map(|(workloads, at, change)| {
        let flow = flow_text(&workloads.join(", "), change, beside.set(change));
        let causes = beside.causes(at).iter().map(|told| cause_text(told) + "\n");
        format!("{flow}\n{}", causes.collect::<String>())
    });
    around(difference).chain(flows).collect()
}

/// What changes beside flows: members, services, exemptions.
fn around(difference: &Difference) -> impl Iterator<Item = String> {
    let members = difference.members.iter();
    let members = members.map(|change| format!("workload {} {}\n", change.workload, change.what.words()));
    let exemptions = difference.exemptions.iter().map(|change| {
        let becomes = if change.exempt { "becomes exempt" } else { "is no longer exempt" };
        format!("{} outbound as {}: {becomes}\n", change.workload, change.identity)
    });
    let services = difference.services.iter().map(|it| {
        let signed = |sign, prefixes: &[Prefix]| {
            prefixes.iter().map(move |prefix| format!("{sign}{prefix}")).collect::<Vec<_>>()
        };
        let all = [signed('-', &it.removed), signed('+', &it.added)].concat();
        format!("{SERVICE} {}: {}\n", it.name, all.join(", "))
    });
    members.chain(services).chain(exemptions)
}

fn cause_text(told: &CauseAt) -> String {
    let why = if told.cause.gone { "without" } else { "by" };
    format!("    {why} {}", citation::cited(&told.cause.text, told.place.as_ref()))
}

/// Changes that are the same for several workloads, each once, with the place of the first; in the order of the first of them.
fn alike(flows: &[FlowChange]) -> Vec<(Vec<&str>, usize, &FlowChange)> {
    let mut found: Vec<(Vec<&str>, usize, &FlowChange)> = Vec::new();
    let mut places = BTreeMap::new();
    for (at, change) in flows.iter().enumerate() {
        let FlowChange { workload, direction, protocol, patch, own, who, before, after, .. } = change;
        let place =
            *places.entry((direction, protocol, patch, own, who, before, after)).or_insert(found.len());
        match found.get_mut(place) {
            Some((workloads, ..)) => workloads.push(workload),
            None => found.push((vec![workload], at, change)),
        }
    }
    found
}

fn flow_text(workloads: &str, change: &FlowChange, set: Option<&str>) -> String {
    let ports = ports_text(&change.patch.ports);
    let own = if change.own { "its own " } else { "" };
    let ends = change.who.as_ref();
    let processes = ends.map(|who| who.processes.as_str()).filter(|words| !words.is_empty());
    let who = processes.map_or_else(String::new, |words| format!(" as {words}"));
    let addresses = set.map_or_else(|| addresses_text(&change.patch.addresses), str::to_owned);
    let addresses = format!("{} {own}{addresses}", change.direction.preposition());
    let place = match ends.map_or("", |who| who.node.as_str()) {
        "" => addresses,
        node if addresses_text(&change.patch.addresses) == EVERYWHERE => node.to_owned(),
        node => format!("{node}, {addresses}"),
    };
    format!(
        "{workloads} {} {}{ports} {place}{who}: {} → {}",
        change.direction, change.protocol, change.before, change.after,
    )
}

/// The addresses that a rule without any reaches.
const EVERYWHERE: &str = "any but loopback, multicast, link-local";

/// With a space before it; nothing for all ports. What is left out is said where that is shorter.
fn ports_text(ports: &PortSet) -> String {
    let all = PortSet::from(PortRange { first: 1, last: u16::MAX });
    let others = ports.complement().intersection(&all);
    if others.is_empty() {
        String::new()
    } else if others.ranges().len() < ports.ranges().len() {
        format!(" all ports but {others}")
    } else {
        format!(" {ports}")
    }
}
