//! What happens to a flow, and why.

use std::fmt::Write;

use mesh_bpf::flow::Direction;
use mesh_compiler::explain::{Accelerated, Beaten, Cause, Explanation, Reason, Why};
use mesh_compiler::hir::NODE;
use mesh_compiler::hir::item::{BuiltIn, verb};
use mesh_compiler::hir::region::AddressRange;
use mesh_compiler::testing::may_be;
use serde_json::{Value, json};

use super::citation;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::places::Locations;
use crate::tint::Tint;

/// What acceleration does not promise, for whoever reads an accelerated connection.
const LIMITS: [&str; 3] = [
    "message by message: only where both ends are on one node, and bytes cannot overtake others",
    "not towards a reader that uses `splice`, MSG_WAITALL or SO_RCVLOWAT, nor with urgent data, MSG_ZEROCOPY, kTLS or MPTCP",
    "what a reader sees that turns to one of these in mid-connection, or asks FIONREAD (nginx): docs/acceleration.md",
];

/// What an explanation is shown with.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Where rules are written.
    pub locations: Locations<'a>,
    /// The flow as it was asked for.
    pub asked: &'a str,
    /// The words of its other end.
    pub other: &'a str,
    /// Which of the member's decisions it asks for.
    pub direction: Direction,
}

/// What else is known of an answer: a key for scripts, and words for people.
pub struct Fact {
    /// The key.
    pub key: &'static str,
    /// Its value.
    pub value: Value,
    /// A line, or nothing.
    pub text: String,
}

/// So many addresses are listed for people.
const LISTED: usize = 8;

/// Several answers where a workload has several addresses and they are decided differently. `more` is for scripts.
pub fn answer(
    output: &Output,
    shown: &Shown<'_>,
    found: &[Explanation],
    facts: impl Fn(&Explanation) -> Vec<Fact>,
    more: &[(&str, Value)],
) -> Result<Exit, Failure> {
    let found: Vec<(&Explanation, Vec<Fact>)> = found.iter().map(|found| (found, facts(found))).collect();
    let Some(((first, known), others)) = found.split_first() else {
        return Err(Failure::refused(
            "no-member",
            format!("`{}`: the workload has no member that is known", shown.asked),
        )
        .help("name its endpoints in an inventory (`--inventory`), or ask for an address"));
    };
    let mut object = object(shown, first, known);
    if let (false, Some(fields)) = (others.is_empty(), object.as_object_mut()) {
        let others: Vec<_> = others.iter().map(|(other, known)| self::object(shown, other, known)).collect();
        fields.insert("others".into(), others.into());
    }
    if let Some(fields) = object.as_object_mut() {
        fields.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    }
    output.tinted(&object, Tint::Verdicts, || {
        found.iter().map(|(found, known)| text(shown, found, known)).collect()
    });
    Ok(Exit::Done)
}

fn object(shown: &Shown<'_>, found: &Explanation, facts: &[Fact]) -> Value {
    let locations = shown.locations;
    let address = found.holds.is_none().then_some(found.flow.address);
    let ranges = found.holds.as_ref().map(|holds| &holds.ranges);
    let is_accelerated = found.accelerated == Accelerated::Yes;
    let mut object = json!({
        "flow": shown.asked,
        "address": address,
        "addresses": ranges.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "own": found.flow.own,
        "node": found.node,
        "verdict": found.verdict.word(),
        "port": found.verdict.port(),
        "accelerated": found.accelerated.known(),
        "limits": if is_accelerated { &LIMITS[..] } else { &[] },
        "rule": cause_object(locations, &found.cause),
        "also": found.also.iter().map(|also| reason_object(locations, also)).collect::<Vec<_>>(),
        "beaten": found.beaten.iter().map(|beaten| json!({
            "rule": reason_object(locations, &beaten.rule), "by": cause_object(locations, &beaten.by),
            "reason": why_object(&beaten.why),
        })).collect::<Vec<_>>(),
        "exempt_interfaces": found.interfaces.iter().map(|it| reason_object(locations, it)).collect::<Vec<_>>(),
        "entries": found.entries.iter().map(|entry| json!({
            "map": entry.map, "key": entry.key, "value": entry.value,
        })).collect::<Vec<_>>(),
    });
    if let Some(fields) = object.as_object_mut() {
        fields.extend(facts.iter().map(|fact| (fact.key.to_owned(), fact.value.clone())));
    }
    object
}

/// For which addresses an answer holds.
fn addresses(shown: &Shown<'_>, found: &Explanation) -> String {
    let own = match (found.flow.own, found.node && shown.other != NODE) {
        (true, _) => ", the member's own",
        (false, true) => ", the node's",
        (false, false) => "",
    };
    let Some(holds) = &found.holds else { return format!("{}{own}", found.flow.address) };
    let listed = |ranges: &[AddressRange]| {
        let mut all: Vec<String> = ranges.iter().take(LISTED).map(ToString::to_string).collect();
        if ranges.len() > LISTED {
            all.push(format!("{} more", ranges.len() - LISTED));
        }
        all.join(", ")
    };
    match holds.but.as_deref() {
        Some([]) => format!("any address of {}{own}", shown.other),
        Some(but) => format!("any address of {} but {}{own}", shown.other, listed(but)),
        None => format!("{}{own}", listed(&holds.ranges)),
    }
}

/// `rule` of a JSON answer: null where none matched.
pub fn cause_object(locations: Locations<'_>, cause: &Cause) -> Value {
    match cause {
        Cause::NoRule => Value::Null,
        Cause::BuiltIn(what) => json!({ "built_in": what }),
        Cause::Exempt(reason) => {
            let at = locations.of(reason).map(|place| citation::at(&place));
            json!({ "exempt": reason.text, "scope": reason.scope, "at": at })
        }
        Cause::Rule(reason) => reason_object(locations, reason),
    }
}

fn reason_object(locations: Locations<'_>, reason: &Reason) -> Value {
    let mut object = citation::object(locations.of(reason).as_ref());
    object.insert("text".into(), reason.text.clone().into());
    object.insert("scope".into(), reason.scope.clone().into());
    object.into()
}

/// An answer for people.
pub fn said(shown: &Shown<'_>, found: &Explanation) -> String {
    text(shown, found, &[])
}

fn text(shown: &Shown<'_>, found: &Explanation, facts: &[Fact]) -> String {
    let Shown { locations, asked, direction, .. } = *shown;
    let mut out = format!("{asked}\n  is {}", found.verdict);
    let is_accelerated = found.accelerated == Accelerated::Yes;
    if is_accelerated {
        out.push_str(", accelerated");
    }
    let _ = writeln!(out, "  ({direction}, {})", addresses(shown, found));
    let _ = writeln!(out, "  by    {}", cause_text(locations, &found.cause));
    for also in &found.also {
        let _ = writeln!(out, "  also  {}", reason_text(locations, also));
    }
    for Beaten { rule, by, why } in &found.beaten {
        let _ = writeln!(out, "  beat  {}", reason_text(locations, rule));
        if *by != found.cause {
            let _ = writeln!(out, "          by {}", cause_text(locations, by));
        }
        let _ = writeln!(out, "          {}", why_text(why, "\n                    "));
    }
    for interface in &found.interfaces {
        let _ = writeln!(out, "  but   {}", reason_text(locations, interface));
        out.push_str("          leaves it alone where it goes by such an interface\n");
    }
    for fact in facts.iter().filter(|fact| !fact.text.is_empty()) {
        let _ = writeln!(out, "  {}", fact.text);
    }
    if let Accelerated::If(workloads) = &found.accelerated {
        let _ = writeln!(
            out,
            "  whether it is accelerated is not known here: {} (`--inventory` or `--live` does)",
            may_be(found.flow, workloads)
        );
    }
    for limit in LIMITS.iter().filter(|_| is_accelerated) {
        let _ = writeln!(out, "  limit {limit}");
    }
    for entry in &found.entries {
        let _ = writeln!(out, "  entry {} = {}", entry.key, entry.value);
    }
    out
}

fn why_object(why: &Why) -> Value {
    let mut object = json!({ "code": why_code(why), "text": why_text(why, " ") });
    if let (Why::Narrower(all), Some(object)) = (why, object.as_object_mut()) {
        let words: Vec<&str> = all.iter().map(|one| one.respect.word()).collect();
        object.insert("in".into(), words.into());
    }
    object
}

const fn why_code(why: &Why) -> &'static str {
    match why {
        Why::Exempt => "exempt",
        Why::Always => "always",
        Why::Narrower(_) => "narrower",
        Why::Stronger { .. } => "stronger",
        Why::BuiltIn(built_in) => built_in.word(),
    }
}

/// Why a rule lost, for people. `between` is what stands between several reasons.
fn why_text(why: &Why, between: &str) -> String {
    let inside = |what: &str| format!("{what}: only rules whose own addresses lie inside reach it");
    match why {
        Why::Exempt => "what is exempt passes all rules, also those with `always`".into(),
        Why::Always => "a rule with `always` passes all rules without".into(),
        Why::Narrower(all) => {
            let all: Vec<String> = all.iter().map(|it| format!("{} within {}", it.inner, it.outer)).collect();
            format!("narrower: {}", all.join(&format!(",{between}")))
        }
        Why::Stronger { verdict, than } => {
            format!("neither is narrower, and {} is stronger than {}", verb(*verdict), verb(*than))
        }
        Why::BuiltIn(BuiltIn::Loopback) => inside("a loopback address"),
        Why::BuiltIn(BuiltIn::Multicast) => inside("a multicast or broadcast address"),
        Why::BuiltIn(BuiltIn::LinkLocal) => inside("a link-local address"),
        Why::BuiltIn(BuiltIn::OwnAddress) => {
            "one of the member's own addresses: only rules that name just that one reach it".into()
        }
        Why::BuiltIn(BuiltIn::SidecarPort) => "a sidecar's port: nothing is redirected there".into(),
        Why::BuiltIn(BuiltIn::OutboundPort) => {
            "a port that only outbound redirects lead to: opened by `exclude` of just such ports".into()
        }
    }
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
    format!("{scope}: {}", citation::cited(&reason.text, locations.of(reason).as_ref()))
}
