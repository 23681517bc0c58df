//! A difference between two policies.

use std::collections::BTreeMap;
use std::fmt::Write;

use mesh_bpf::flow::Verdict;
use mesh_bpf::ports::{PortRange, PortSet};
use mesh_compiler::diff::addresses_text;
use mesh_compiler::diff::{Difference, EntryChange, EntryChanges, FlowChange};
use serde_json::{Map, Value, json};

/// Lines of changed entries that text shows before it only counts the rest.
const SHOWN: usize = 40;

/// The JSON of a difference.
pub fn object(difference: &Difference) -> Map<String, Value> {
    let flows: Vec<Value> = difference.flows.iter().map(flow_object).collect();
    let EntryChanges { added, removed, changed } = &difference.entries;
    let exemptions: Vec<Value> = (difference.exemptions.iter())
        .map(|change| json!({ "workload": change.workload, "identity": change.identity, "exempt": change.exempt }))
        .collect();
    let members: Vec<Value> = (difference.members.iter())
        .map(|change| json!({ "workload": change.workload, "change": change.what.words() }))
        .collect();
    let mut object = Map::new();
    object.insert("equal".into(), difference.is_empty().into());
    object.insert("flows".into(), flows.into());
    object.insert("exemptions".into(), exemptions.into());
    object.insert("members".into(), members.into());
    object.insert(
        "entries".into(),
        json!({ "added": added.len(), "removed": removed.len(), "changed": changed.len() }),
    );
    object
}

fn flow_object(change: &FlowChange) -> Value {
    let verdict = |verdict: Verdict| json!({ "verdict": verdict.word(), "port": verdict.port() });
    json!({
        "workload": short(&change.workload),
        "mesh": change.workload.split('/').next(),
        "direction": change.direction.to_string(),
        "protocol": change.protocol.to_string(),
        "ports": ports(&change.patch.ports),
        "addresses": addresses_text(&change.patch.addresses),
        "own": change.own,
        "before": verdict(change.before),
        "after": verdict(change.after),
    })
}

fn short(workload: &str) -> &str {
    workload.rsplit_once('/').map_or(workload, |(_, name)| name)
}

fn ports(ports: &PortSet) -> String {
    let all = PortSet::from(PortRange { first: 1, last: u16::MAX });
    if *ports == all { "any".into() } else { ports.to_string() }
}

/// A difference for people: who, which flows, then entries.
pub fn text(difference: &Difference) -> String {
    if difference.is_empty() {
        return "no change\n".into();
    }
    let mut out = String::new();
    for change in &difference.members {
        let _ = writeln!(out, "workload {} {}", change.workload, change.what.words());
    }
    for change in &difference.exemptions {
        let becomes = if change.exempt { "becomes exempt" } else { "is no longer exempt" };
        let _ = writeln!(out, "{} outbound as {}: {becomes}", change.workload, change.identity);
    }
    for (workloads, change) in alike(&difference.flows) {
        let _ = writeln!(out, "{}", flow_text(&workloads.join(", "), change));
    }
    if difference.flows.is_empty() {
        out.push_str("no flow changes its verdict\n");
    }
    let EntryChanges { added, removed, changed } = &difference.entries;
    let _ =
        writeln!(out, "entries: {} added, {} removed, {} changed", added.len(), removed.len(), changed.len());
    let lines = (removed.iter().map(|entry| ("-", entry)))
        .chain(changed.iter().map(|entry| ("~", entry)))
        .chain(added.iter().map(|entry| ("+", entry)));
    let total = added.len() + removed.len() + changed.len();
    for (sign, entry) in lines.take(SHOWN) {
        let EntryChange { map, key, before, after } = entry;
        let _ = match sign {
            "-" => writeln!(out, "  - {map}: {key} = {before}"),
            "+" => writeln!(out, "  + {map}: {key} = {after}"),
            _ => writeln!(out, "  ~ {map}: {key} = {before} -> {after}"),
        };
    }
    if total > SHOWN {
        let _ = writeln!(out, "  and {} more", total - SHOWN);
    }
    out
}

/// Changes that are the same for several workloads, each once; in the order of the first of them.
fn alike(flows: &[FlowChange]) -> Vec<(Vec<&str>, &FlowChange)> {
    let mut found: Vec<(Vec<&str>, &FlowChange)> = Vec::new();
    let mut places = BTreeMap::new();
    for change in flows {
        let FlowChange { workload, direction, protocol, patch, own, before, after } = change;
        let place = *places.entry((direction, protocol, patch, own, before, after)).or_insert(found.len());
        match found.get_mut(place) {
            Some((workloads, _)) => workloads.push(workload),
            None => found.push((vec![workload], change)),
        }
    }
    found
}

fn flow_text(workloads: &str, change: &FlowChange) -> String {
    let ports = ports(&change.patch.ports);
    let ports = if ports == "any" { String::new() } else { format!(" {ports}") };
    let own = if change.own { "its own " } else { "" };
    format!(
        "{workloads} {} {}{ports} {} {own}{}: {} → {}",
        change.direction,
        change.protocol,
        change.direction.preposition(),
        addresses_text(&change.patch.addresses),
        change.before,
        change.after,
    )
}
