//! What an apply did.

use mesh_compiler::diff::EntryChanges;
use mesh_runtime::{Applied, Difference, Unheard};
use serde_json::json;

use super::moves::Changes;
use super::size::size;
use super::warning;
use crate::cautions::Caution;
use crate::output::Output;
use crate::sidecars;

/// Says it, with its warnings. What the policy itself is to be cautioned about was said to people before.
pub fn report(
    output: &Output,
    applied: &Applied,
    cautions: &[Caution],
    compile: u128,
    entries: &EntryChanges,
    unheard: &[Unheard],
    changes: Option<&Changes>,
) {
    // Scripts find all of it in the answer.
    if !output.is_json() {
        for text in applied.warnings.iter().map(warning::text).chain(sidecars::warnings(unheard)) {
            output.warn(&text);
        }
        for path in &applied.missing_cgroups {
            output.warn(&format!("the cgroup `{path}` does not exist yet; it joins when it is made"));
        }
    }
    let warnings =
        cautions.iter().map(|it| (it.code, it.text.clone())).chain(warning::coded(&applied.warnings));
    let [wait, write, commit] = applied.milliseconds;
    let mut answer = json!({
        "generation": applied.generation,
        "digest": applied.digest,
        "changed": applied.changed,
        "paused": applied.paused,
        "bytes": applied.written.iter().map(|(_, bytes)| bytes).sum::<usize>(),
        "tables": applied.written.iter().map(|(table, _)| table).collect::<Vec<_>>(),
        "entries": {
            "added": entries.added.len(), "removed": entries.removed.len(), "changed": entries.changed.len(),
        },
        "namespaces": applied.namespaces,
        "differences": applied.differences.iter().map(|it| it.code()).collect::<Vec<_>>(),
        "members_changed": applied.members_changed,
        "missing_cgroups": applied.missing_cgroups,
        "closed": applied.closed,
        "warnings": warnings.map(|(code, text)| json!({ "code": code, "text": text })).collect::<Vec<_>>(),
        "unheard": sidecars::unheard(unheard),
        "milliseconds": { "compile": compile, "wait": wait, "write": write, "commit": commit },
    });
    if let (Some(fields), Some(changes)) = (answer.as_object_mut(), changes) {
        fields.extend(changes.answer());
    }
    output.answer(&answer, || {
        let more = if output.verbose { details(applied, compile, unheard) } else { String::new() };
        text(applied) + &more + &moved(applied, changes)
    });
}

/// What was written, and what took how long.
fn details(applied: &Applied, compile: u128, unheard: &[Unheard]) -> String {
    let [wait, write, commit] = applied.milliseconds;
    let tables: String = applied
        .written
        .iter()
        .map(|(table, bytes)| format!("  {table:<10} {:>12}\n", size(*bytes)))
        .collect();
    format!(
        "{tables}digest {}\n{} members changed, {} sidecars do not listen\ncompiled in {compile} ms, waited {wait} ms, \
         wrote {write} ms, committed in {commit} ms\n",
        applied.digest,
        applied.members_changed,
        unheard.len()
    )
}

/// Who joined and who left, and the way back.
fn moved(applied: &Applied, changes: Option<&Changes>) -> String {
    // The same policy may come with other labels of namespaces.
    let Some(changes) = changes else { return String::new() };
    let undo = if applied.changed && changes.takes_away() { "`meshc rollback` undoes it\n" } else { "" };
    changes.text(true) + undo
}

/// What looks otherwise than by BPF programs, a line each.
fn differences(applied: &Applied) -> String {
    let one = |it: &Difference| {
        let words = match it {
            Difference::DeniedOutbound => {
                "a denied `connect` of TCP ends with ECONNREFUSED, not EPERM; of datagrams only sending is refused"
            }
            Difference::DatagramFlows => {
                "datagrams are decided once a flow: answers pass, and are not decided themselves"
            }
            Difference::SocketMaker => {
                "`as` and exempt users, groups and cgroups go by who made a socket, and by its ids for files"
            }
            Difference::RedirectedOutbound => {
                "a redirected connection keeps the member's address; without a route, or bound to a device or to loopback, \
                 it fails"
            }
            Difference::RedirectedInbound => {
                "a sidecar must listen on the interface's address or on all, and sees its own port in `getsockname`"
            }
            Difference::HostItself => "a workload of the host is not offered what comes from the host itself",
        };
        format!("  {words}\n")
    };
    let lines: String = applied.differences.iter().map(one).collect();
    if lines.is_empty() { lines } else { format!("{OTHERWISE}\n{lines}") }
}

const OTHERWISE: &str = "it decides as BPF programs do, but not all looks alike (docs/nftables.md):";

fn text(applied: &Applied) -> String {
    let digest = applied.digest.get(..12).unwrap_or(&applied.digest);
    let paused = if applied.paused { " (paused: `meshc resume` brings it back)" } else { "" };
    let closed = applied.closed.map_or_else(String::new, |closed| match closed {
        1 => "1 connection that it decides otherwise was closed\n".to_owned(),
        closed => format!("{closed} connections that it decides otherwise were closed\n"),
    });
    if !applied.changed {
        return format!(
            "nothing to do: generation {} ({digest}) is this policy{paused}\n{closed}",
            applied.generation
        );
    }
    if let Some(count) = applied.namespaces {
        let namespaces = if count == 1 { "namespace" } else { "namespaces" };
        return format!(
            "applied generation {} ({digest}): rulesets of nftables in {count} network {namespaces}{paused}\n{closed}{}",
            applied.generation,
            differences(applied)
        );
    }
    let bytes: usize = applied.written.iter().map(|(_, bytes)| bytes).sum();
    format!(
        "applied generation {} ({digest}): {} of {} tables written, {}{paused}\n{closed}",
        applied.generation,
        applied.written.len(),
        mesh_bpf::map::TABLES,
        size(bytes),
    )
}
