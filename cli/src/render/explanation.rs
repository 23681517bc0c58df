//! What happens to a flow, and why.

use std::fmt::Write;

use mesh_bpf::flow::Direction;
use mesh_compiler::explain::{Cause, Explanation, Reason};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::places::Locations;

/// What acceleration does not promise, for whoever reads an accelerated connection.
const LIMITS: [&str; 3] = [
    "message by message: only where both ends are on one node, and bytes cannot overtake others",
    "not towards a reader that uses `splice`, MSG_WAITALL or SO_RCVLOWAT, nor with urgent data, MSG_ZEROCOPY, kTLS or MPTCP",
    "what a reader sees that turns to one of these in mid-connection, or asks FIONREAD (nginx): docs/acceleration.md",
];

/// Several where a workload has several addresses and they are decided differently. `more` is for scripts.
pub fn answer(
    output: &Output,
    locations: Locations<'_>,
    asked: &str,
    direction: Direction,
    found: &[Explanation],
    more: &[(&str, Value)],
) -> Result<Exit, Failure> {
    let Some((first, others)) = found.split_first() else {
        return Err(Failure::refused(
            "no-member",
            format!("`{asked}`: the workload has no member that is known"),
        )
        .help("name its endpoints in an inventory (`--inventory`), or ask for an address"));
    };
    let mut object = object(locations, asked, first);
    if let (false, Some(fields)) = (others.is_empty(), object.as_object_mut()) {
        let others: Vec<_> = others.iter().map(|other| self::object(locations, asked, other)).collect();
        fields.insert("others".into(), others.into());
    }
    if let Some(fields) = object.as_object_mut() {
        fields.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    }
    output.answer(&object, || found.iter().map(|found| text(locations, asked, direction, found)).collect());
    Ok(Exit::Done)
}

fn object(locations: Locations<'_>, asked: &str, found: &Explanation) -> Value {
    json!({
        "flow": asked,
        "address": found.flow.address,
        "verdict": found.verdict.word(),
        "port": found.verdict.port(),
        "accelerated": found.accelerated,
        "limits": if found.accelerated { &LIMITS[..] } else { &[] },
        "rule": cause_object(locations, &found.cause),
        "also": found.also.iter().map(|also| reason_object(locations, also)).collect::<Vec<_>>(),
        "beaten": found.beaten.iter().map(|(beaten, by)| json!({
            "rule": reason_object(locations, beaten), "by": cause_object(locations, by),
        })).collect::<Vec<_>>(),
        "entries": found.entries.iter().map(|entry| json!({
            "map": entry.map, "key": entry.key, "value": entry.value,
        })).collect::<Vec<_>>(),
    })
}

/// `rule` of a JSON answer: null where none matched.
pub fn cause_object(locations: Locations<'_>, cause: &Cause) -> Value {
    match cause {
        Cause::NoRule => Value::Null,
        Cause::BuiltIn(what) => json!({ "built_in": what }),
        Cause::Exempt(reason) => {
            json!({ "exempt": reason.text, "scope": reason.scope, "at": place(locations, reason) })
        }
        Cause::Rule(reason) => reason_object(locations, reason),
    }
}

fn reason_object(locations: Locations<'_>, reason: &Reason) -> Value {
    let (file, line) = locations.of(reason).unzip();
    json!({ "text": reason.text, "scope": reason.scope, "file": file, "line": line })
}

fn place(locations: Locations<'_>, reason: &Reason) -> Option<String> {
    locations.of(reason).map(|(file, line)| format!("{file}:{line}"))
}

fn text(locations: Locations<'_>, asked: &str, direction: Direction, found: &Explanation) -> String {
    let mut out = format!("{asked}\n  is {}", found.verdict);
    if found.accelerated {
        out.push_str(", accelerated");
    }
    let _ = writeln!(out, "  ({direction}, {})", found.flow.address);
    let _ = writeln!(out, "  by    {}", cause_text(locations, &found.cause));
    for also in &found.also {
        let _ = writeln!(out, "  also  {}", reason_text(locations, also));
    }
    for (beaten, by) in &found.beaten {
        let _ = writeln!(out, "  beat  {}", reason_text(locations, beaten));
        if *by != found.cause {
            let _ = writeln!(out, "          which lost to {}", cause_text(locations, by));
        }
    }
    for limit in LIMITS.iter().filter(|_| found.accelerated) {
        let _ = writeln!(out, "  limit {limit}");
    }
    for entry in &found.entries {
        let _ = writeln!(out, "  entry {} = {}", entry.key, entry.value);
    }
    out
}

/// What decided, for people.
pub fn cause_text(locations: Locations<'_>, cause: &Cause) -> String {
    match cause {
        Cause::NoRule => "no rule: what no rule matches is excluded".into(),
        Cause::BuiltIn(what) => format!("built-in: {what}"),
        Cause::Exempt(reason) | Cause::Rule(reason) => reason_text(locations, reason),
    }
}

fn reason_text(locations: Locations<'_>, reason: &Reason) -> String {
    let scope = if reason.scope.is_empty() { "top level" } else { &reason.scope };
    let place = place(locations, reason).map_or_else(String::new, |place| format!("  {place}"));
    format!("{scope}: {}{place}", reason.text)
}
