//! The agent's page: what is live on this node, and what it asks for while it is open.

use std::collections::BTreeMap;

use mesh_bpf::image::{MapImage, SourceKind};
use mesh_bpf::item::counter_key;
use mesh_bpf::prefix::Prefix;
use mesh_bpf::text;
use mesh_bpf::unpack::unpack;
use mesh_node::agent::{Web, WebPage};
use mesh_runtime::{Runtime, State, Status, hex, items};
use serde_json::{Value, json};

use crate::live::policy;
use crate::page;
use crate::places::Places;
use crate::render::{citation, decision, drift};

/// So many rules and members are told, those that decide most first.
const TOLD: usize = 1000;

/// What the agent is handed.
pub fn web() -> Web {
    let mut shown: Option<(u64, WebPage)> = None;
    let mut known: Option<(u64, MapImage, Places)> = None;
    Web {
        page: Box::new(move |runtime| page_of(runtime, &mut shown)),
        live: Box::new(move |runtime| live(runtime, &mut known)),
        decision: |decided| {
            let row = decision::Row { decided: Box::new(decided.clone()), place: None, heard: None };
            text::json(decision::object(&row).to_string())
        },
    }
}

/// The page of what is live; made once for each generation.
fn page_of(runtime: &Runtime, shown: &mut Option<(u64, WebPage)>) -> Result<WebPage, String> {
    let said = |error: mesh_runtime::Error| error.to_string();
    let generation = runtime.head().map_err(said)?.generation;
    if let Some((_, page)) = shown.as_ref().filter(|(known, _)| *known == generation) {
        return Ok(page.clone());
    }
    let live = runtime.live().map_err(said)?;
    let generation = live.as_ref().map_or(0, |live| live.generation);
    let policy = live.map(|live| policy(runtime, live.tables)).transpose();
    let policy = policy.map_err(|failure| failure.message)?;
    let name = match generation {
        0 => "no policy is live".to_owned(),
        generation => format!("generation {generation}"),
    };
    let page = page::of_live(&name, policy.as_ref());
    let page = WebPage { html: page.html, policy: page.policy };
    *shown = Some((generation, page.clone()));
    Ok(page)
}

/// Who is a member, how often each rule decided, what drifted.
fn live(runtime: &Runtime, known: &mut Option<(u64, MapImage, Places)>) -> Result<String, String> {
    let said = |error: mesh_runtime::Error| error.to_string();
    let status = runtime.status().map_err(said)?;
    let generation = status.head.generation;
    if known.as_ref().map(|(known, ..)| *known) != Some(generation) {
        *known = match runtime.live().map_err(said)? {
            Some(live) => {
                let places = Places::kept(runtime, &hex(&live.tables.digest()));
                let image = unpack(&live.tables).map_err(|damaged| damaged.to_string())?;
                Some((live.generation, image, places))
            }
            None => None,
        };
    }
    let rules = known.as_ref().map_or_else(Vec::new, |(_, image, places)| rules(image, places, &status));
    let answer = json!({
        "generation": generation, "state": status.head.state.word(),
        "decides": status.head.state == State::Active,
        "members": members(&status), "workloads": workloads(&status), "rules": rules,
        "drift": status.drift.iter().map(drift::text).collect::<Vec<_>>(),
        "failed": status.failed.iter().map(|it| it.pod.name.as_str()).collect::<Vec<_>>(),
    });
    Ok(text::json(answer.to_string()))
}

/// Rules that decided something, their addresses added up, the most frequent first.
fn rules(image: &MapImage, places: &Places, status: &Status) -> Vec<Value> {
    let mut sums: BTreeMap<usize, (u64, u64, Prefix)> = BTreeMap::new();
    for item in items(image, &status.hits) {
        let (sum, most, prefix) = sums.entry(item.source).or_insert((0, 0, item.prefix));
        *sum += item.hits;
        if item.hits > *most {
            (*most, *prefix) = (item.hits, item.prefix);
        }
    }
    let mut rows: Vec<_> = sums.into_iter().collect();
    rows.sort_by_key(|&(source, (hits, ..))| (std::cmp::Reverse(hits), source));
    let row = |(source, (hits, _, prefix)): (usize, (u64, u64, Prefix))| {
        let source = image.sources.get(source)?;
        let hash = source.stable_hash();
        let key = if source.kind == SourceKind::Exempt { hash } else { counter_key(hash, prefix) };
        let place = places.find(key, &source.text(prefix));
        let text = match source.kind {
            SourceKind::BuiltIn => format!("built-in: {}", source.head),
            SourceKind::NoRule => "no rule matched".to_owned(),
            _ => source.text(Prefix::Any),
        };
        let place = place.as_ref().map(citation::at);
        Some(json!({ "text": text, "scope": source.scope, "hits": hits, "place": place }))
    };
    rows.into_iter().take(TOLD).filter_map(row).collect()
}

fn workloads(status: &Status) -> Vec<Value> {
    let row = |it: &mesh_runtime::WorkloadStatus| {
        let counts = it.decisions.unwrap_or_default();
        json!({
            "name": it.name, "members": it.members, "redirected": counts.redirected,
            "excluded": counts.excluded, "denied": counts.denied, "exempt": counts.exempt,
        })
    };
    status.workloads.iter().take(TOLD).map(row).collect()
}

fn members(status: &Status) -> Vec<Value> {
    let row = |it: &mesh_runtime::MemberStatus| {
        let addresses: Vec<String> = it.own.iter().map(ToString::to_string).collect();
        json!({ "name": it.name, "workload": it.workload, "addresses": addresses, "cgroup": it.cgroup })
    };
    status.members.iter().take(TOLD).map(row).collect()
}
