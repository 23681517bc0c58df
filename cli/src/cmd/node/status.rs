//! `meshc status`: what is live on this node.

use std::collections::BTreeMap;
use std::fmt::Write;

use mesh_bpf::flow::Verdict;
use mesh_bpf::image::{MapImage, SourceId, SourceKind};
use mesh_bpf::item::counter_key;
use mesh_bpf::prefix::Prefix;
use mesh_bpf::selector::interface_covers;
use mesh_runtime::{
    Backend, Decisions, Kernel, MemberStatus, Runtime, Sidecars, State, Status as Found, hex, items,
};
use serde_json::{Value, json};

use crate::args::Status;
use crate::confirmation;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::live::image;
use crate::node::{failure, open};
use crate::output::Output;
use crate::places::Places;
use crate::render::acceleration::{self, Items};
use crate::render::status::{Row, Shown};
use crate::render::{self, citation, drift, time};
use crate::sidecars;
use crate::tint::Tint;

/// Prints the status.
pub fn run(output: &Output, args: &Status) -> Result<Exit, Failure> {
    let runtime = open(&args.instance)?;
    let status = runtime.status().map_err(failure)?;
    // Where the live policy cannot be read, the drift says why.
    let (rows, accelerates, sidecars, held, empty, absent) = match runtime.live().ok().flatten() {
        Some(live) => {
            let image = image(&live.tables)?;
            let places = Places::kept(&runtime, &hex(&live.tables.digest()));
            let sidecars = runtime.sidecars(&image).map_err(failure)?;
            let held = runtime.held(&image).map_err(failure)?;
            let services = places.services().into_iter().filter(|(_, addresses)| addresses.is_empty());
            let empty: Vec<String> = services.map(|(name, _)| name).collect();
            let absent = absent(&image, &status);
            (rows(&image, &status, &places), acceleration::items(&image), sidecars, held, empty, absent)
        }
        None => (Vec::new(), Items::new(), Sidecars::default(), Vec::new(), Vec::new(), Vec::new()),
    };
    let agent = agent(runtime.instance());
    let mut found = answer(&runtime, &status, &rows, &accelerates);
    if let Some(found) = found.as_object_mut() {
        found.insert("confirm".into(), confirmation::answer(&runtime, status.waiting.as_ref()));
        found.insert("agent".into(), agent.clone());
        found.insert("workloads".into(), workloads(&runtime, &status, &sidecars));
        found.insert("unheard".into(), sidecars::unheard(&sidecars.unheard));
        found.insert("held".into(), sidecars::held(&held));
        found.insert("empty_services".into(), json!(empty));
        found.insert("absent_interfaces".into(), json!(absent));
        found.insert("not_taken".into(), sidecars::not_taken(&runtime.not_taken().map_err(failure)?));
    }
    output.tinted(&found, Tint::Verdicts, || {
        render::status::text(&Shown {
            details: args,
            status: &status,
            by_rulesets: runtime.instance().backend == Backend::Nft,
            columns: output.columns,
            now: runtime.clock(),
            pending: confirmation::text(&runtime, status.waiting.as_ref()),
            agent: words(&agent),
            rows: &rows,
            accelerates: &accelerates,
            sidecars: &sidecars,
            held: &held,
            empty: &empty,
            absent: &absent,
        })
    });
    let is_refused = ["refused", "cluster"].iter().any(|key| agent.get(key).is_some_and(Value::is_string));
    let is_well = status.drift.is_empty()
        && status.failed.is_empty()
        && !is_refused
        && sidecars.unheard.is_empty()
        && held.is_empty()
        && status.head.state != State::Unfinished;
    let different = args.check && !is_well;
    Ok(if different { Exit::Different } else { Exit::Done })
}

/// What the instance's agent says of itself; null where none runs.
fn agent(instance: &mesh_runtime::Instance) -> Value {
    #[cfg(feature = "node")]
    if let Some(report) = crate::agent_client::report(instance) {
        return json!(report);
    }
    let _ = instance;
    Value::Null
}

fn words(agent: &Value) -> String {
    let Some(pid) = agent.get("pid") else { return String::new() };
    let dir = agent.get("directory").and_then(Value::as_str).unwrap_or("(no directory)");
    let mut out = format!("\nagent: process {pid}, policy from {dir}\n");
    if let Some(why) = agent.get("refused").and_then(Value::as_str) {
        let _ = writeln!(out, "  the policy there is refused, and what is live stays live: {why}");
    }
    if let Some(why) = agent.get("cluster").and_then(Value::as_str) {
        let _ = writeln!(out, "  its inventory cannot be read, and what it said before is kept: {why}");
    }
    if agent.get("waiting").and_then(Value::as_bool) == Some(true) {
        let _ = writeln!(
            out,
            "  waits: another policy was applied by hand; `meshc resume` hands over to the agent"
        );
    }
    out
}

fn rows(image: &MapImage, status: &Found, places: &Places) -> Vec<Row> {
    let mut rows: Vec<Row> = items(image, &status.hits)
        .into_iter()
        .filter_map(|item| {
            let source = image.sources.get(item.source)?;
            let hash = source.stable_hash();
            let key = if source.kind == SourceKind::Exempt { hash } else { counter_key(hash, item.prefix) };
            let text = match source.kind {
                SourceKind::BuiltIn => format!("built-in: {}", source.head),
                _ => source.text(item.prefix),
            };
            Some(Row {
                place: places.find(key, &text),
                text,
                scope: source.scope.clone(),
                verdict: match source.kind {
                    SourceKind::BuiltIn => "built-in",
                    SourceKind::NoRule => "by no rule",
                    _ => item.verdict.map_or("exempt", Verdict::word),
                },
                hits: item.hits,
            })
        })
        .collect();
    rows.sort_by(|a, b| b.hits.cmp(&a.hits).then_with(|| (&a.scope, &a.text).cmp(&(&b.scope, &b.text))));
    rows
}

/// Exemptions of interfaces that no member has now of those that they are about, where there are some.
fn absent(image: &MapImage, status: &Found) -> Vec<String> {
    let mut has: BTreeMap<SourceId, bool> = BTreeMap::new();
    for member in &status.members {
        let workload = member.workload.as_deref().and_then(|name| image.workload(name));
        let profile = workload.and_then(|workload| image.profile(workload.profile));
        let (Some(profile), Some(exempt)) = (profile, &member.exempt) else { continue };
        for (pattern, source) in &profile.exempt.interfaces {
            let is_there = exempt.interfaces.iter().any(|(name, _)| interface_covers(pattern, name));
            *has.entry(*source).or_default() |= is_there;
        }
    }
    let absent = has.into_iter().filter(|(_, is_there)| !is_there);
    absent.map(|(source, _)| image.source(source).credit(Prefix::Any)).collect()
}

/// Which interfaces of a member are exempt; null where the policy exempts none of its workload.
fn exempt(member: &MemberStatus) -> Value {
    let Some(exempt) = &member.exempt else { return Value::Null };
    let interfaces = exempt.interfaces.iter();
    let interfaces = interfaces.map(|(name, is_exempt)| json!({ "name": name, "exempt": is_exempt }));
    json!({
        "interfaces": interfaces.collect::<Vec<_>>(), "routes": exempt.routes,
        "special_routes": exempt.special, "too_many_routes": exempt.has_too_many,
    })
}

fn rule(row: &Row) -> Value {
    let mut rule = citation::object(row.place.as_ref());
    rule.insert("text".into(), row.text.clone().into());
    rule.insert("scope".into(), row.scope.clone().into());
    rule.insert("hits".into(), row.hits.into());
    rule.into()
}

fn workloads(runtime: &Runtime<Kernel>, status: &Found, sidecars: &Sidecars) -> Value {
    let all = status.workloads.iter().map(|workload| {
        json!({
            "name": workload.name, "members": workload.members,
            "sidecar": render::status::sidecar(status, sidecars, &workload.name).word(),
            "decisions": workload.decisions.as_ref().map(|it| decisions(runtime, it)),
        })
    });
    all.collect()
}

fn decisions(runtime: &Runtime<Kernel>, it: &Decisions) -> Value {
    let last = it.denied_at.map(|at| time::seconds(runtime.wall_clock_of(at)));
    json!({
        "redirected": it.redirected, "excluded": it.excluded, "denied": it.denied, "exempt": it.exempt,
        "last_denied": last,
    })
}

fn answer(runtime: &Runtime<Kernel>, status: &Found, rows: &[Row], accelerates: &Items) -> Value {
    let head = &status.head;
    let mut found = json!({
        "state": head.state.word(),
        "generation": head.generation,
        "digest": head.digest,
        "owner": head.owner.word(),
        "meshes": status.meshes,
        "backend": runtime.instance().backend.word(),
        "rulesets": status.rulesets.iter().map(|ruleset| json!({
            "namespace": ruleset.namespace, "generation": ruleset.generation, "paused": ruleset.paused,
            "commits": ruleset.commits,
        })).collect::<Vec<_>>(),
        "programs": status.programs.iter().map(|program| json!({
            "name": program.name, "id": program.id, "attached_to": program.attached_to,
        })).collect::<Vec<_>>(),
        "members_total": status.members.len(),
        "members": status.members.iter().map(|member| json!({
            "name": member.name, "workload": member.workload, "addresses": member.addresses, "own": member.own,
            "cgroup": member.cgroup, "decisions": member.decisions.as_ref().map(|it| decisions(runtime, it)), "exempt": exempt(member),
        })).collect::<Vec<_>>(),
        "maps": status.maps.iter().map(|map| json!({
            "name": map.name, "entries": map.entries, "capacity": map.capacity,
        })).collect::<Vec<_>>(),
        "rules": rows.iter().map(rule).collect::<Vec<_>>(),
        "counters": status.counters.iter().map(|(counter, value)| json!({
            "name": counter.word(), "value": value,
        })).collect::<Vec<_>>(),
        "observers": status.observers, "keeps_decisions": status.keeps_decisions,
        "foreign": status.foreign.iter().map(|(hook, program)| json!({
            "hook": hook.word(), "name": program.name, "id": program.id,
        })).collect::<Vec<_>>(),
        "acceleration": status.acceleration.as_ref().map(|it| acceleration::answer(it, accelerates)),
        "drift": drift::answer(&status.drift),
        "failed": status.failed.iter().map(|failed| json!({
            "name": failed.pod.name, "namespace": failed.pod.namespace, "why": failed.why,
            "container": failed.pod.attachment.as_ref().map(|attachment| &attachment.container),
            "started": failed.started, "at": failed.at,
        })).collect::<Vec<_>>(),
    });
    if let (None, Some(parts)) = (&status.acceleration, found.as_object_mut()) {
        parts.remove("acceleration");
    }
    found
}
