//! `meshc status`: what is live on this node.

use std::fmt::Write;

use mesh_bpf::image::{MapImage, SourceKind};
use mesh_bpf::item::counter_key;
use mesh_runtime::{Held, Owner, State, Status as Found, Unheard, hex, items};
use serde_json::{Value, json};

use crate::args::Status;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::live::image;
use crate::node::{failure, open};
use crate::output::Output;
use crate::places::Places;
use crate::render::acceleration::{self, Items};
use crate::render::drift;
use crate::render::section::section;
use crate::sidecars;

/// One item with its hits, as status shows it.
struct Row {
    text: String,
    scope: String,
    /// File and line, where the policy was applied from its source.
    place: Option<(String, u32)>,
    hits: u64,
}

/// Prints the status.
pub fn run(output: &Output, args: &Status) -> Result<Exit, Failure> {
    let runtime = open(&args.instance)?;
    let status = runtime.status().map_err(failure)?;
    // Where the live policy cannot be read, the drift says why.
    let (rows, accelerates, unheard, held) = match runtime.live().ok().flatten() {
        Some(live) => {
            let image = image(&live.tables)?;
            let places = Places::kept(&runtime, &hex(&live.tables.digest()));
            let unheard = runtime.unheard(&image).map_err(failure)?;
            let held = runtime.held(&image).map_err(failure)?;
            (rows(&image, &status, &places), acceleration::items(&image), unheard, held)
        }
        None => (Vec::new(), Items::new(), Vec::new(), Vec::new()),
    };
    let agent = agent(runtime.instance());
    let mut found = answer(&status, &rows, &accelerates);
    if let Some(found) = found.as_object_mut() {
        found.insert("agent".into(), agent.clone());
        found.insert("unheard".into(), sidecars::unheard(&unheard));
        found.insert("held".into(), sidecars::held(&held));
        found.insert("not_taken".into(), sidecars::not_taken(&runtime.not_taken().map_err(failure)?));
    }
    output.answer(&found, || text(&status, &rows, &accelerates, (&unheard, &held)) + &words(&agent));
    let is_refused = agent.get("refused").is_some_and(Value::is_string);
    let is_well = status.drift.is_empty()
        && status.failed.is_empty()
        && !is_refused
        && unheard.is_empty()
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
            Some(Row {
                text: if source.kind == SourceKind::BuiltIn {
                    format!("built-in: {}", source.head)
                } else {
                    source.text(item.prefix)
                },
                scope: source.scope.clone(),
                place: places.find(key).map(|(file, line)| (file.to_owned(), line)),
                hits: item.hits,
            })
        })
        .collect();
    rows.sort_by(|a, b| b.hits.cmp(&a.hits).then_with(|| (&a.scope, &a.text).cmp(&(&b.scope, &b.text))));
    rows
}

fn answer(status: &Found, rows: &[Row], accelerates: &Items) -> Value {
    let head = &status.head;
    json!({
        "state": head.state.word(),
        "generation": head.generation,
        "digest": head.digest,
        "owner": match head.owner { Owner::Cli => "cli", Owner::Agent => "agent" },
        "meshes": status.meshes,
        "programs": status.programs.iter().map(|program| json!({
            "name": program.name, "id": program.id, "attached_to": program.attached_to,
        })).collect::<Vec<_>>(),
        "members_total": status.members.len(),
        "members": status.members.iter().map(|member| json!({
            "name": member.name, "workload": member.workload, "addresses": member.addresses, "own": member.own,
            "cgroup": member.cgroup,
        })).collect::<Vec<_>>(),
        "maps": status.maps.iter().map(|map| json!({
            "name": map.name, "entries": map.entries, "capacity": map.capacity,
        })).collect::<Vec<_>>(),
        "rules": rows.iter().map(|row| json!({
            "text": row.text, "scope": row.scope, "hits": row.hits,
            "file": row.place.as_ref().map(|(file, _)| file), "line": row.place.as_ref().map(|(_, line)| line),
        })).collect::<Vec<_>>(),
        "counters": status.counters.iter().map(|(counter, value)| json!({
            "name": counter.word(), "value": value,
        })).collect::<Vec<_>>(),
        "observers": status.observers,
        "foreign": status.foreign.iter().map(|(hook, program)| json!({
            "hook": hook.word(), "name": program.name, "id": program.id,
        })).collect::<Vec<_>>(),
        "acceleration": acceleration::answer(&status.acceleration, accelerates),
        "drift": drift::answer(&status.drift),
        "failed": status.failed.iter().map(|failed| json!({
            "name": failed.pod.name, "namespace": failed.pod.namespace, "why": failed.why,
            "container": failed.pod.attachment.as_ref().map(|attachment| &attachment.container),
            "started": failed.started, "at": failed.at,
        })).collect::<Vec<_>>(),
    })
}

fn text(status: &Found, rows: &[Row], accelerates: &Items, (unheard, held): (&[Unheard], &[Held])) -> String {
    let head = &status.head;
    let mut out = String::new();
    let digest = head.digest.get(..12).unwrap_or(&head.digest);
    let _ = match head.state {
        State::None => writeln!(out, "no policy is live"),
        State::Unfinished => {
            writeln!(out, "a command was killed; the next `apply` or `detach --all` goes on with it")
        }
        State::Active | State::Paused => writeln!(
            out,
            "{}: generation {} ({digest}), applied by the {}, meshes: {}",
            head.state.word(),
            head.generation,
            head.owner,
            status.meshes.join(", "),
        ),
    };
    if status.observers > 0 {
        let _ = writeln!(out, "observers: {}", status.observers);
    }
    section(&mut out, "members", &status.members, |member| {
        let workload = member.workload.as_deref().unwrap_or("(no workload of the live policy)");
        format!("{}  {workload}", member.cgroup.as_deref().unwrap_or(&member.name))
    });
    section(&mut out, "decisions", rows, |row| {
        let scope = if row.scope.is_empty() { String::new() } else { format!("{}: ", row.scope) };
        let place = row.place.as_ref().map_or_else(String::new, |(file, line)| format!("  {file}:{line}"));
        format!(
            "{:>8}  {scope}{}{place}",
            row.hits,
            if row.text.is_empty() { "no rule matched" } else { &row.text }
        )
    });
    section(&mut out, "programs", &status.programs, |program| {
        let place = program
            .attached_to
            .as_ref()
            .map_or("nowhere: its cgroup is gone".into(), |place| place.display().to_string());
        format!("{:<17} {place}", program.name)
    });
    section(&mut out, "maps", &status.maps, |map| {
        format!("{:<17} {} of {}", map.name, map.entries, map.capacity)
    });
    let counted: Vec<_> = status.counters.iter().filter(|(_, value)| *value > 0).collect();
    section(&mut out, "counters", &counted, |(counter, value)| format!("{:<17} {value}", counter.word()));
    section(&mut out, "pods that could not be attached", &status.failed, |failed| {
        let became = if failed.started { "started outside the mesh" } else { "refused" };
        format!("{}: {became}: {}", failed.pod.name, failed.why)
    });
    section(&mut out, "programs of others on the same hooks", &status.foreign, |(hook, program)| {
        format!("{:<17} {} (program {})", hook.word(), program.name, program.id)
    });
    acceleration::text(&mut out, &status.acceleration, accelerates);
    section(&mut out, "sidecars that do not listen", unheard, sidecars::unheard_text);
    section(&mut out, "ports of sidecars that others hold", held, sidecars::held_text);
    section(&mut out, "drift", &status.drift, drift::text);
    out
}
