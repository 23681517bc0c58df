//! `meshc observe`: decisions as they happen.

mod filter;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mesh_bpf::image::SourceKind;
use mesh_runtime::{Decided, Filter, ObserverEvent, Reason, State, VerdictFilter};
use serde_json::{Value, json};

use crate::args::{Observe, Verdict};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::{failure, open};
use crate::output::Output;
use crate::places::{Place, Places};
use crate::render::{citation, time};
use crate::sidecars::Heard;

/// Prints decisions until as many came as were asked for, the reader goes away, or the process is asked to end.
pub fn run(output: &Output, args: &Observe) -> Result<Exit, Failure> {
    let runtime = open(&args.instance)?;
    let mut observer = runtime.observe(wanted(args)?, args.buffer).map_err(failure)?;
    if !observer.knows_workload() {
        output.warn("the live policy has no workload of that name; its decisions are shown once one has");
    }
    let head = runtime.head().map_err(failure)?;
    if head.state == State::Paused {
        output.warn(&format!(
            "generation {} is paused: connections go straight, and nothing is decided until `meshc resume`",
            head.generation
        ));
    }
    output.info("observing; Ctrl-C ends it");
    let mut lines = Lines::default();
    let mut heard = Heard::default();
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        match observer.wait().map_err(failure)? {
            ObserverEvent::Decision(decided) => {
                let file = observer.digest(decided.generation).map(|digest| runtime.instance().lines(digest));
                let place = lines.place(&decided, file.as_deref());
                let heard = heard.of(&runtime, &decided);
                if !output.stream(&object(&decided, place.as_ref(), heard), || {
                    line(&decided, place.as_ref(), heard)
                }) {
                    break;
                }
                left -= 1;
            }
            ObserverEvent::Lost(lost) => {
                missed(
                    output,
                    &json!({ "lost": lost }),
                    &format!(
                        "{lost} {} not shown: the buffer was full (a narrower filter, or a larger `--buffer`, shows more)",
                        if lost == 1 { "decision is" } else { "decisions are" }
                    ),
                );
            }
            ObserverEvent::Gap => missed(
                output,
                &json!({ "lost": null }),
                "this process was stopped for too long; what was decided meanwhile is not shown",
            ),
            ObserverEvent::Ended => break,
        }
    }
    Ok(Exit::Done)
}

fn wanted(args: &Observe) -> Result<Filter, Failure> {
    let flow = args.filter.as_deref().map(filter::parse).transpose()?.unwrap_or_default();
    let verdict = |verdict: &Verdict| match verdict {
        Verdict::Redirected => VerdictFilter::Redirected,
        Verdict::Excluded => VerdictFilter::Excluded,
        Verdict::Denied => VerdictFilter::Denied,
        Verdict::Exempt => VerdictFilter::Exempt,
    };
    Ok(Filter {
        verdicts: args.verdicts.iter().map(verdict).collect(),
        member: args.member.clone(),
        uid: args.uid,
        rule: args.rule.clone(),
        ..flow
    })
}

/// What cannot be shown is said where it is missing: between the others for scripts, beside them for people.
fn missed(output: &Output, object: &Value, text: &str) {
    if output.is_json() {
        output.json(object);
    } else {
        output.print_error(&format!("warning: {text}"));
    }
}

/// File and line of every item of the policy that decided last, read again when an apply has written them.
#[derive(Default)]
struct Lines {
    file: Option<PathBuf>,
    written: Option<SystemTime>,
    places: Places,
}

impl Lines {
    fn place(&mut self, decided: &Decided, file: Option<&Path>) -> Option<Place> {
        let file = file?;
        let written = std::fs::metadata(file).and_then(|file| file.modified()).ok();
        if self.file.as_deref() != Some(file) || self.written != written {
            self.file = Some(file.into());
            self.written = written;
            self.places = Places::decode(&std::fs::read(file).unwrap_or_default());
        }
        match &decided.reason {
            Reason::Item { key, text, .. } => self.places.find(*key, text),
            Reason::Unknown => None,
        }
    }
}

fn object(decided: &Decided, place: Option<&Place>, heard: Option<bool>) -> Value {
    let (mesh, workload) = names(decided);
    let by = decided.process.as_ref();
    json!({
        "time": time::micros(decided.time),
        "workload": workload, "mesh": mesh, "member": decided.member,
        "pid": by.map(|by| by.pid), "uid": by.map(|by| by.uid), "command": by.map(|by| by.name.as_str()),
        "direction": decided.direction.to_string(), "protocol": decided.protocol.to_string(),
        "source": end(decided.source.0, decided.source.1),
        "destination": end(decided.destination.0, Some(decided.destination.1)),
        "verdict": decided.verdict.word(), "port": decided.verdict.port(), "heard": heard,
        "rule": rule(&decided.reason, place),
        "generation": decided.generation,
    })
}

/// As `explain` has it: null where none matched.
fn rule(reason: &Reason, place: Option<&Place>) -> Value {
    let at = citation::object(place);
    match reason {
        Reason::Unknown => json!({ "unknown": "the generation is not kept any more" }),
        Reason::Item { kind: SourceKind::NoRule, .. } => Value::Null,
        Reason::Item { kind: SourceKind::BuiltIn, text, .. } => json!({ "built_in": text }),
        Reason::Item { kind: SourceKind::Exempt, scope, text, .. } => {
            json!({ "exempt": text, "scope": scope, "file": at.get("file"), "line": at.get("line") })
        }
        Reason::Item { scope, text, .. } => {
            let rule = [("text", text), ("scope", scope)].map(|(key, it)| (key.to_owned(), json!(it)));
            at.into_iter().chain(rule).collect()
        }
    }
}

fn names(decided: &Decided) -> (Option<&str>, Option<&str>) {
    match decided.workload.as_deref().map(|name| name.rsplit_once('/').unwrap_or(("", name))) {
        Some((mesh, workload)) => (Some(mesh), Some(workload)),
        None => (None, None),
    }
}

/// `10.0.3.9:443`; without a port that is not known; nothing where the address is not.
fn end(address: Option<IpAddr>, port: Option<u16>) -> Option<String> {
    match (address?, port) {
        (address, Some(port)) => Some(std::net::SocketAddr::new(address, port).to_string()),
        (address, None) => Some(address.to_string()),
    }
}

fn line(decided: &Decided, place: Option<&Place>, heard: Option<bool>) -> String {
    let who = decided.workload.as_deref().or(decided.member.as_deref()).unwrap_or("?");
    let by = decided
        .process
        .as_ref()
        .map_or_else(String::new, |by| format!(" {}[{}] uid {}", by.name, by.pid, by.uid));
    let source =
        end(decided.source.0, decided.source.1).map_or_else(String::new, |source| format!(" {source}"));
    let destination = end(decided.destination.0, Some(decided.destination.1));
    let destination = destination.unwrap_or_else(|| format!("port {}", decided.destination.1));
    let reason = match &decided.reason {
        Reason::Unknown => format!("generation {}, which is not kept any more", decided.generation),
        Reason::Item { kind: SourceKind::NoRule, .. } => "no rule matched".into(),
        Reason::Item { kind: SourceKind::BuiltIn, text, .. } => format!("built-in: {text}"),
        item @ Reason::Item { .. } => citation::cited(&item.line(), place),
    };
    let time = time::micros(decided.time);
    let nobody = if heard == Some(false) { ", where nobody listens" } else { "" };
    format!(
        "{} {who}{by}  {} {}{source} -> {destination}  {}{nobody}  {reason}\n",
        time.get(11..23).unwrap_or(&time),
        decided.direction,
        decided.protocol,
        decided.verdict,
    )
}
