//! What `meshc status` says of acceleration.

use std::collections::BTreeMap;
use std::fmt::Write;

use mesh_bpf::abi::SendPath;
use mesh_bpf::image::{MapImage, SourceKind};
use mesh_bpf::prefix::Prefix;
use mesh_runtime::{Acceleration, Carriage, PairStatus, Rescue, StallReason, StuckReader};
use serde_json::{Map, Value, json};

use super::section::section;

/// Scope and text of the live policy's `accelerate` items, by the key of their counters.
pub type Items = BTreeMap<u64, (String, String)>;

/// Pairs that the text shows; JSON has them all.
const SHOWN: usize = 20;

/// Those of an image.
pub fn items(image: &MapImage) -> Items {
    let accelerate = image.sources.iter().filter(|source| source.kind == SourceKind::Accelerate);
    accelerate
        .map(|source| (source.stable_hash(), (source.scope.clone(), source.text(Prefix::Any))))
        .collect()
}

/// The part of the answer in JSON.
pub fn answer(found: &Acceleration, items: &Items) -> Value {
    json!({
        "rules": rules(found, items).map(|(scope, text, of)| with(&of.carriage, json!({
            "text": text, "scope": scope, "open": of.open, "closed": of.closed,
        }))).collect::<Vec<_>>(),
        "pairs": found.pairs.iter().map(|pair| with(&pair.carriage, json!({
            "client": pair.client, "server": pair.server, "port": pair.port, "paired": pair.paired,
            "rule": items.get(&pair.item).map(|(_, text)| text),
        }))).collect::<Vec<_>>(),
        "splice_readers": found.splice_readers.iter().map(|it| json!({
            "name": it.name, "inode": it.inode, "device": it.device, "times": it.times,
        })).collect::<Vec<_>>(),
        "refuses_splice": found.refuses_splice,
        "fionread": found.counting.word(),
        "fionread_readers": found.fionread_readers.iter().map(|it| json!({
            "name": it.name, "netns": it.port.map(|(netns, _)| netns), "port": it.port.map(|(_, port)| port),
            "times": it.times,
        })).collect::<Vec<_>>(),
        "stuck": found.stuck.iter().map(|it| json!({
            "name": it.name, "pid": it.process, "client": it.client, "server": it.server,
            "end": if it.accepts { "server" } else { "client" }, "why": it.why.word(), "unread": it.unread,
            "milliseconds": it.milliseconds,
        })).collect::<Vec<_>>(),
    })
}

fn with(carriage: &Carriage, mut value: Value) -> Value {
    let messages: Map<String, Value> =
        carriage.messages.iter().map(|(path, count)| (path.word().to_owned(), json!(count))).collect();
    if let Some(object) = value.as_object_mut() {
        object.insert("fast_bytes".into(), json!(carriage.fast_bytes));
        object.insert("slow_bytes".into(), json!(carriage.slow_bytes));
        object.insert("messages".into(), messages.into());
    }
    value
}

/// The items of the live policy, also those that did nothing yet.
fn rules<'a>(
    found: &'a Acceleration,
    items: &'a Items,
) -> impl Iterator<Item = (&'a String, &'a String, mesh_runtime::ItemCarriage)> {
    items.iter().map(|(key, (scope, text))| (scope, text, found.items.get(key).cloned().unwrap_or_default()))
}

/// The part of the answer in text.
pub fn text(out: &mut String, found: &Acceleration, items: &Items) {
    let rules: Vec<_> = rules(found, items).collect();
    section(out, "acceleration", &rules, |(scope, text, of)| {
        format!("{scope}: {text}  {} open, {} closed: {}", of.open, of.closed, carried(&of.carriage))
    });
    let shown: Vec<&PairStatus> = found.pairs.iter().take(SHOWN).collect();
    section(out, "accelerated pairs", &shown, |pair| {
        let alone = if pair.paired { "" } else { " (the other end is not accelerated)" };
        format!("{} -> {} port {}{alone}: {}", pair.client, pair.server, pair.port, carried(&pair.carriage))
    });
    if found.pairs.len() > SHOWN {
        let _ = writeln!(out, "  and {} more: `--format json` has them all", found.pairs.len() - SHOWN);
    }
    if !items.is_empty() {
        section(out, "not accelerated, since they splice", &found.splice_readers, |it| {
            format!("{} (inode {}): noticed {} times", it.name, it.inode, it.times)
        });
        section(
            out,
            "not accelerated, since FIONREAD tells them too little",
            &found.fionread_readers,
            |it| {
                let place = it.port.map_or_else(
                    || "in connections that it opens".into(),
                    |(netns, port)| format!("at port {port} (namespace {netns})"),
                );
                format!("{} {place}: noticed {} times", it.name, it.times)
            },
        );
    }
    section(out, "stalled readers", &found.stuck, |it| format!("{}; {}", stuck_reader(it), advice(it.why)));
}

/// Who stalls, at which end of which connection, why, and what was done.
pub fn stuck_reader(reader: &StuckReader) -> String {
    let StuckReader { name, process, client, server, unread, .. } = reader;
    let side = if reader.accepts { "server" } else { "client" };
    let why = match reader.why {
        StallReason::Splices => format!("switched to `splice`, which does not see {unread} unread bytes"),
        StallReason::Counts => format!("FIONREAD under-reported, {unread} bytes unread"),
    };
    let done = match reader.rescue {
        Rescue::None => "",
        Rescue::Released => "; the connection is not accelerated any more, and its reader was woken",
        Rescue::Closed => "; the connection was closed, and both ends were told",
    };
    format!("`{name}` (pid {process}), {side} side of {client} -> {server}: {why}{done}")
}

/// What to do about one, where no agent does it.
const fn advice(why: StallReason) -> &'static str {
    match why {
        StallReason::Splices => {
            "`meshc apply --repair` closes the connection, and so does ending either program"
        }
        StallReason::Counts => "`meshc apply --repair` helps it",
    }
}

/// `12 bytes over the fast path, 3 over the slow path (new_reader 2)`: why messages took the slow path, the most
/// frequent reason first.
fn carried(carriage: &Carriage) -> String {
    let mut why: Vec<_> = carriage.messages.iter().filter(|(path, _)| **path != SendPath::Fast).collect();
    why.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let why: Vec<String> = why.iter().map(|(path, count)| format!("{} {count}", path.word())).collect();
    let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join(", ")) };
    format!(
        "{} bytes over the fast path, {} over the slow path{why}",
        carriage.fast_bytes, carriage.slow_bytes
    )
}
