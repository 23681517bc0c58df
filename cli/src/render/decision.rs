//! One decision: for people in columns, for scripts as an object.

use std::net::IpAddr;

use mesh_bpf::flow::Verdict;
use mesh_bpf::image::SourceKind;
use mesh_bpf::text::one_line;
use mesh_runtime::{Decided, Peer, Reason};
use serde_json::{Value, json};

use super::citation;
use super::table::{Cell, Columns};
use super::time::{self, Zone};
use crate::output::{Output, Painted};
use crate::places::Place;
use crate::tint::Color;
use crate::wrap::wrap;

/// So wide a terminal has rule and process beside the flow; a narrower one has them below it.
const WIDE: usize = 140;
/// No name makes a column of all rows wider.
const BOUND: usize = 48;
/// What the columns are at least, so that few rows are wider than those before them.
const LEAST: [usize; 5] = [
    0,
    "redirected".len(),
    "mesh/workload".len(),
    "outbound tcp -> 10.0.0.0:443".len(),
    "command[1234567] uid 0".len(),
];

/// A decision with what is known beside it.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was decided.
    pub decided: Box<Decided>,
    /// File and line of the rule.
    pub place: Option<Place>,
    /// Whether somebody listens where it was sent; none where that was not asked.
    pub heard: Option<bool>,
}

/// How rows are written for people.
#[derive(Debug)]
pub struct Layout {
    zone: Zone,
    dated: bool,
    /// Columns of the terminal where rule and process have a line of their own.
    below: Option<usize>,
    columns: Columns,
}

impl Layout {
    /// For a terminal, or for something else. What is of the past has its date.
    pub fn new(output: &Output, zone: Zone, dated: bool) -> Self {
        let below = output.columns.filter(|columns| *columns < WIDE);
        Self { zone, dated, below, columns: Columns::new(&LEAST, BOUND) }
    }

    /// The titles.
    pub fn head(&mut self, out: &mut Painted, now: u64) {
        let time = format!("TIME {}", self.zone.offset(now));
        let titles = [time.as_str(), "VERDICT", "MEMBER", "FLOW", "PROCESS", "RULE"];
        let titles = titles.map(|title| Cell::new(title.to_owned()).colored(Color::Bold));
        self.fit_time(now);
        self.columns.fit(&titles);
        self.columns.put(out, titles.get(..self.beside()).unwrap_or_default());
        out.end_line();
    }

    /// How many cells stand beside each other.
    fn beside(&self) -> usize {
        match self.below {
            None => 6,
            Some(wide) if self.columns.total_of(4) > wide => 3,
            Some(_) => 4,
        }
    }

    /// Makes room for a time, which is as wide as any other.
    fn fit_time(&mut self, now: u64) {
        self.columns.fit(&[Cell::new(self.zone.clock(now, self.dated))]);
    }

    /// Makes room for a row.
    pub fn fit(&mut self, row: &Row) {
        let cells = self.cells(row);
        self.columns.fit(&cells);
    }

    /// Adds a row.
    pub fn put(&mut self, out: &mut Painted, row: &Row) {
        let cells = self.cells(row);
        self.columns.fit(&cells);
        let beside = self.beside();
        self.columns.put(out, cells.get(..beside).unwrap_or_default());
        let Some(wide) = self.below else { return out.end_line() };
        out.end_line();
        if let Some(flow) = cells.get(3).filter(|_| beside == 3) {
            out.push(&" ".repeat(self.columns.indent()));
            self.columns.put(out, std::slice::from_ref(flow));
            out.end_line();
        }
        let by = process(&row.decided).map_or_else(String::new, |by| format!("  {by}"));
        let below = format!("{}{by}", reason(&row.decided, row.place.as_ref()));
        let below = format!("{:indent$}{}", "", one_line(&below), indent = self.columns.indent());
        for line in wrap(&below, wide).lines() {
            out.paint(Some(Color::Dim), line);
            out.end_line();
        }
    }

    fn cells(&self, row: &Row) -> [Cell<'static>; 6] {
        let Row { decided, heard, .. } = row;
        let source = end(decided.source.0, decided.source.1).map_or_else(String::new, |it| format!(" {it}"));
        let destination = end(decided.destination.0, Some(decided.destination.1));
        let destination = destination.unwrap_or_else(|| format!("port {}", decided.destination.1));
        let sidecar = decided.verdict.port().map_or_else(String::new, |port| format!(" by {port}"));
        let nobody = if *heard == Some(false) { ", where nobody listens" } else { "" };
        let times = if decided.times > 1 { format!("  {} times", decided.times) } else { String::new() };
        let flow = format!(
            "{} {}{source} -> {destination}{sidecar}{nobody}{times}",
            decided.direction, decided.protocol
        );
        let flow = Cell::new(flow);
        [
            Cell::new(self.zone.clock(decided.time, self.dated)),
            verdict(decided.verdict),
            Cell::new(who(decided)),
            if nobody.is_empty() { flow } else { flow.colored(Color::Yellow) },
            Cell::new(process(decided).unwrap_or_default()).colored(Color::Dim),
            Cell::new(reason(decided, row.place.as_ref())).colored(Color::Dim),
        ]
    }
}

/// The process that asked.
fn process(decided: &Decided) -> Option<String> {
    let by = decided.process.as_ref()?;
    Some(format!("{}[{}] uid {}", by.name, by.pid, by.uid))
}

/// A verdict in its colour.
pub fn verdict(verdict: Verdict) -> Cell<'static> {
    Cell::new(verdict.word()).colored(match verdict {
        Verdict::Denied => Color::Red,
        Verdict::Redirected { .. } => Color::Green,
        Verdict::Excluded => Color::Cyan,
    })
}

/// Workload and member, or one of them where the other says no more.
pub fn who(decided: &Decided) -> String {
    named(decided.workload.as_deref(), decided.member.as_deref())
}

/// The same of the other end.
pub fn peer(peer: &Peer) -> String {
    named(peer.workload.as_deref(), Some(&peer.member))
}

fn named(workload: Option<&str>, member: Option<&str>) -> String {
    match (workload, member) {
        // Each has a cgroup of its own, whose name says nothing to people.
        (Some(workload), Some(member)) if mesh_runtime::is_of_a_command(member) => {
            format!("{workload} (run)")
        }
        (Some(workload), Some(member)) if workload.rsplit('/').next() != Some(member) => {
            format!("{workload} {member}")
        }
        (Some(one), _) | (None, Some(one)) => one.to_owned(),
        (None, None) => "?".to_owned(),
    }
}

/// What decided, with its line.
pub fn reason(decided: &Decided, place: Option<&Place>) -> String {
    match &decided.reason {
        Reason::Unknown => format!("generation {}, which is not kept any more", decided.generation),
        Reason::Item { kind: SourceKind::NoRule, .. } => "no rule matched".into(),
        Reason::Item { kind: SourceKind::BuiltIn, text, .. } => format!("built-in: {text}"),
        item @ Reason::Item { .. } => citation::cited(&item.line(), place),
    }
}

/// `10.0.3.9:443`; without a port that is not known; nothing where the address is not.
pub fn end(address: Option<IpAddr>, port: Option<u16>) -> Option<String> {
    match (address?, port) {
        (address, Some(port)) => Some(std::net::SocketAddr::new(address, port).to_string()),
        (address, None) => Some(address.to_string()),
    }
}

/// For scripts.
pub fn object(row: &Row) -> Value {
    let Row { decided, place, heard } = row;
    let (mesh, workload) = names(decided.workload.as_deref());
    let by = decided.process.as_ref();
    json!({
        "time": time::micros(decided.time), "times": decided.times,
        "workload": workload, "mesh": mesh, "member": decided.member,
        "pid": by.map(|by| by.pid), "uid": by.map(|by| by.uid), "command": by.map(|by| by.name.as_str()),
        "direction": decided.direction.to_string(), "protocol": decided.protocol.to_string(),
        "source": end(decided.source.0, decided.source.1),
        "destination": end(decided.destination.0, Some(decided.destination.1)),
        "peer": decided.peer.as_ref().map(peer_object),
        "verdict": decided.verdict.word(), "port": decided.verdict.port(), "heard": heard,
        "rule": rule(&decided.reason, place.as_ref()),
        "generation": decided.generation,
    })
}

/// The other end, for scripts.
pub fn peer_object(peer: &Peer) -> Value {
    let (mesh, workload) = names(peer.workload.as_deref());
    json!({ "workload": workload, "mesh": mesh, "member": peer.member })
}

/// As `explain` has it: null where none matched.
pub fn rule(reason: &Reason, place: Option<&Place>) -> Value {
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

/// Mesh and workload.
pub fn names(workload: Option<&str>) -> (Option<&str>, Option<&str>) {
    match workload.map(|name| name.rsplit_once('/').unwrap_or(("", name))) {
        Some((mesh, workload)) => (Some(mesh), Some(workload)),
        None => (None, None),
    }
}
