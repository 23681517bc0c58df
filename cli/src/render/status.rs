//! `meshc status` for people: what is live, what is wrong, then a row a workload. Lists come when they are asked for.

use std::collections::BTreeMap;
use std::fmt::Write;

use mesh_runtime::{Decisions, Held, MemberStatus, Sidecars, State, Status as Found};

use super::acceleration::{self, Items};
use super::citation::cited;
use super::drift;
use super::section::section;
use super::table::{self, Apart, Cell};
use super::time;
use crate::args::Status as Details;
use crate::places::Place;
use crate::sidecars;

/// Rules that are shown without being asked for.
const FREQUENT: usize = 10;

/// One item with its hits.
pub struct Row {
    /// The rule with the item's prefix.
    pub text: String,
    /// The workload or mesh that it stands in.
    pub scope: String,
    /// What it makes of connections, for sums.
    pub verdict: &'static str,
    /// File and line, where the policy was applied from its source.
    pub place: Option<Place>,
    /// How often it decided.
    pub hits: u64,
}

/// What is to be shown.
pub struct Shown<'a> {
    /// Which lists are asked for.
    pub details: &'a Details,
    /// What was found.
    pub status: &'a Found,
    /// Nftables decides, and not BPF programs.
    pub by_rulesets: bool,
    /// Columns of the terminal; none in a pipe.
    pub columns: Option<usize>,
    /// Milliseconds since boot.
    pub now: u64,
    /// What waits to be confirmed; a line, or nothing.
    pub pending: String,
    /// What the agent says of itself.
    pub agent: String,
    /// Rules by hits, the most first.
    pub rows: &'a [Row],
    /// What the live policy accelerates.
    pub accelerates: &'a Items,
    /// Which sidecars listen, and which do not.
    pub sidecars: &'a Sidecars,
    /// Ports of sidecars that others hold.
    pub held: &'a [Held],
    /// Kubernetes services that the live policy names and that have no address.
    pub empty: &'a [String],
    /// Exemptions of interfaces that no member has.
    pub absent: &'a [String],
}

/// All of it.
pub fn text(shown: &Shown<'_>) -> String {
    let Shown { details, status, .. } = shown;
    let mut out = head(shown);
    out.push_str(&shown.pending);
    if status.observers > 0 {
        let _ = writeln!(out, "observers: {}", status.observers);
    }
    if shown.by_rulesets && !status.rulesets.is_empty() {
        let count = status.rulesets.len();
        let namespaces = if count == 1 { "namespace" } else { "namespaces" };
        let _ = writeln!(out, "decided by nftables, in {count} network {namespaces}");
    }
    if !shown.by_rulesets
        && !status.keeps_decisions
        && matches!(status.head.state, State::Active | State::Paused)
    {
        out.push_str("decisions are not kept: `observe --since` has nothing to tell\n");
    }
    out.push_str(&shown.agent);
    problems(&mut out, shown);
    section(&mut out, "services without an address, for which no rule acts now", shown.empty, String::clone);
    section(&mut out, "exempt interfaces that no member has now", shown.absent, String::clone);
    interfaces(&mut out, shown);
    workloads(&mut out, shown);
    decisions(&mut out, shown);
    if let Some(found) = &status.acceleration {
        acceleration::text(&mut out, found, shown.accelerates);
    }
    if details.members || details.verbose {
        members(&mut out, shown);
    }
    kernel(&mut out, shown);
    out
}

fn head(shown: &Shown<'_>) -> String {
    let (head, record) = (&shown.status.head, shown.status.record.as_ref());
    let digest = head.digest.get(..12).unwrap_or(&head.digest);
    let meshes = shown.status.meshes.join(", ");
    match head.state {
        State::None => "no policy is live\n".into(),
        State::Unfinished => {
            "a command was killed; the next `apply` or `detach --all` goes on with it\n".into()
        }
        State::Active | State::Paused => format!(
            "{}: generation {} ({digest}), meshes: {meshes}\napplied {}by the {}{}\n",
            head.state.word(),
            head.generation,
            record.map_or_else(String::new, |record| format!("{} ", time::seconds(record.applied))),
            head.owner,
            record.map_or_else(String::new, |record| format!(": {}", record.origin)),
        ),
    }
}

/// What somebody has to do something about.
fn problems(out: &mut String, shown: &Shown<'_>) {
    section(out, "drift", &shown.status.drift, drift::text);
    section(out, "pods that could not be attached", &shown.status.failed, |failed| {
        let became = if failed.started { "started outside the mesh" } else { "refused" };
        format!("{}: {became}: {}", failed.pod.name, failed.why)
    });
    section(out, "sidecars that do not listen", &shown.sidecars.unheard, sidecars::unheard_text);
    section(out, "ports of sidecars that others hold", shown.held, sidecars::held_text);
}

/// A row for each workload that has members, or had: who they are, and what was decided for them.
fn workloads(out: &mut String, shown: &Shown<'_>) {
    const TITLES: [&str; 7] =
        ["WORKLOAD", "MEMBERS", "SIDECAR", "REDIRECTED", "EXCLUDED", "DENIED", "LAST DENIED"];
    let mut rows = vec![TITLES.map(str::to_owned)];
    let nobodys = shown.status.members.iter().filter(|member| member.workload.is_none()).count();
    if nobodys > 0 {
        let none = "-".to_owned();
        let [a, b, c, d, e] = std::array::from_fn(|_| none.clone());
        rows.push(["(no workload)".into(), nobodys.to_string(), a, b, c, d, e]);
    }
    for workload in &shown.status.workloads {
        let [redirected, excluded, denied, last] = workload.decisions.map_or_else(
            || std::array::from_fn(|_| "-".to_owned()),
            |it| {
                let last = it.denied_at.map_or_else(|| "-".into(), |at| ago(shown, at));
                [it.redirected.to_string(), it.excluded.to_string(), it.denied.to_string(), last]
            },
        );
        rows.push([
            workload.name.clone(),
            workload.members.to_string(),
            sidecar(shown.status, shown.sidecars, &workload.name).text(),
            redirected,
            excluded,
            denied,
            last,
        ]);
    }
    if rows.len() == 1 {
        return;
    }
    out.push('\n');
    let cells: Vec<[Cell<'_>; 7]> = (rows.into_iter())
        .map(|[name, members, sidecar, redirected, excluded, denied, last]| {
            let number = |text: String| Cell::new(text).right();
            let [members, redirected, excluded, denied] = [members, redirected, excluded, denied].map(number);
            [Cell::new(name), members, Cell::new(sidecar), redirected, excluded, denied, Cell::new(last)]
        })
        .collect();
    out.push_str(&table::text(&cells, shown.columns, Apart::First));
}

/// What is not followed of members' routes; of each member, where members are asked for, which interfaces are exempt.
fn interfaces(out: &mut String, shown: &Shown<'_>) {
    let is_asked = shown.details.members || shown.details.verbose;
    let exempt = shown.status.members.iter().filter_map(|member| Some((member, member.exempt.as_ref()?)));
    let rows: Vec<String> = exempt
        .filter(|(_, exempt)| is_asked || exempt.special > 0)
        .map(|(member, exempt)| {
            let names = exempt.interfaces.iter().filter(|(_, is_exempt)| *is_exempt);
            let names: Vec<&str> = names.map(|(name, _)| name.as_str()).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let routes = match exempt.routes {
                0 => String::new(),
                1 => ", with 1 prefix of its routes".to_owned(),
                count => format!(", with {count} prefixes of its routes"),
            };
            let special = match exempt.special {
                0 => String::new(),
                1 => "; 1 rule or route that looks at more than the destination is not followed".to_owned(),
                count => format!(
                    "; {count} rules and routes that look at more than the destination are not followed"
                ),
            };
            let name = member.cgroup.as_deref().unwrap_or(&member.name);
            format!("{name}: {names}{routes}{special}")
        })
        .collect();
    section(out, "exempt interfaces", &rows, String::clone);
}

/// A row for each member: its workload, and what was decided for it.
fn members(out: &mut String, shown: &Shown<'_>) {
    let rows: Vec<[Cell<'_>; 3]> = (shown.status.members.iter())
        .map(|member| {
            let workload = member.workload.as_deref().unwrap_or("(no workload of the live policy)");
            let decided = member.decisions.as_ref().map(|it| decided(shown, it)).unwrap_or_default();
            [member.cgroup.as_deref().unwrap_or(&member.name).into(), workload.into(), Cell::new(decided)]
        })
        .collect();
    let wide = shown.columns.map(|columns| columns.saturating_sub(2));
    let text = table::text(&rows, wide, Apart::Last);
    let lines: Vec<&str> = text.lines().collect();
    section(out, "members", &lines, |line| (*line).to_owned());
}

fn ago(shown: &Shown<'_>, at: u64) -> String {
    time::ago(shown.now.saturating_sub(at))
}

/// What was decided for a member: `12 redirected, 3 denied (the last 3 min ago)`.
fn decided(shown: &Shown<'_>, decisions: &Decisions) -> String {
    let verdicts = [
        (decisions.redirected, "redirected"),
        (decisions.excluded, "excluded"),
        (decisions.exempt, "exempt"),
        (decisions.denied, "denied"),
    ];
    let parts = verdicts.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> = parts.map(|(count, verdict)| format!("{count} {verdict}")).collect();
    let last = decisions.denied_at.map(|at| format!(" (the last {})", ago(shown, at)));
    format!("{}{}", parts.join(", "), last.unwrap_or_default())
}

/// Whether the sidecars of a workload's members listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sidecar {
    /// Nobody knows: it has no pods, or they need none, or cannot be asked.
    Unknown,
    /// All do.
    Listens,
    /// So many of so many do not.
    Silent(usize, usize),
}

impl Sidecar {
    /// The word of JSON.
    pub const fn word(self) -> Option<&'static str> {
        match self {
            Self::Unknown => None,
            Self::Listens => Some("listens"),
            Self::Silent(..) => Some("silent"),
        }
    }

    fn text(self) -> String {
        match self {
            Self::Unknown => "-".into(),
            Self::Listens => "ok".into(),
            Self::Silent(silent, members) if silent == members => "does not listen".into(),
            Self::Silent(silent, members) => format!("{silent} of {members} do not listen"),
        }
    }
}

/// Whether they do. Those of cgroups are known by the connections that they did not take.
pub fn sidecar(status: &Found, sidecars: &Sidecars, workload: &str) -> Sidecar {
    let members: Vec<&MemberStatus> =
        status.members.iter().filter(|member| member.workload.as_deref() == Some(workload)).collect();
    let is_silent = |member: &MemberStatus| {
        sidecars.unheard.iter().any(|it| it.workload == workload && it.member == member.name)
    };
    let is_heard =
        |member: &MemberStatus| sidecars.heard.contains(&(workload.to_owned(), member.name.clone()));
    let mut pods = members.iter().filter(|member| member.cgroup.is_none()).peekable();
    match members.iter().filter(|member| is_silent(member)).count() {
        // Nobody says that one listens where nobody could be asked, or nothing is sent.
        0 if pods.peek().is_some() && pods.all(|pod| is_heard(pod)) => Sidecar::Listens,
        0 => Sidecar::Unknown,
        silent => Sidecar::Silent(silent, members.len()),
    }
}

/// How often each verdict was given, and which rules gave it.
fn decisions(out: &mut String, shown: &Shown<'_>) {
    let rows = shown.rows;
    if rows.is_empty() {
        return;
    }
    let are_all = shown.details.rules || shown.details.verbose;
    let least = if are_all { rows.len() } else { FREQUENT.min(rows.len()) };
    section(
        out,
        &format!("decisions ({})", totals(shown.rows)),
        rows.get(..least).unwrap_or_default(),
        |row| {
            let scope = if row.scope.is_empty() { String::new() } else { format!("{}: ", row.scope) };
            let text = if row.text.is_empty() { "no rule matched" } else { &row.text };
            format!("{:>8}  {scope}{}", row.hits, cited(text, row.place.as_ref()))
        },
    );
    if rows.len() > least {
        let _ = writeln!(out, "  and {} more: `--rules` lists them", rows.len() - least);
    }
}

/// How often each verdict was given: `12 redirected, 3 denied`.
fn totals(rows: &[Row]) -> String {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for row in rows {
        *sums.entry(row.verdict).or_default() += row.hits;
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    match sums.as_slice() {
        [] => "none yet".into(),
        _ => sums.iter().map(|(verdict, sum)| format!("{sum} {verdict}")).collect::<Vec<_>>().join(", "),
    }
}

/// What is in the kernel: in a line, or list by list.
fn kernel(out: &mut String, shown: &Shown<'_>) {
    let Shown { details, status, .. } = shown;
    if details.programs || details.verbose {
        section(out, "programs", &status.programs, |program| {
            let place = (program.attached_to.as_ref())
                .map_or("nowhere: its cgroup is gone".into(), |place| place.display().to_string());
            format!("{:<17} {place}", program.name)
        });
    }
    if details.programs || details.verbose {
        section(out, "rulesets", &status.rulesets, |ruleset| {
            let paused = if ruleset.paused { ", paused" } else { "" };
            let generation = ruleset
                .generation
                .map_or("none".into(), |generation| format!("generation {generation}{paused}"));
            format!("{:<17} {generation}, commit {}", ruleset.namespace, ruleset.commits)
        });
    }
    if details.maps || details.verbose {
        section(out, "maps", &status.maps, |map| {
            format!("{:<17} {} of {}", map.name, map.entries, map.capacity)
        });
    }
    if details.counters || details.verbose {
        let counted: Vec<_> = status.counters.iter().filter(|(_, value)| *value > 0).collect();
        section(out, "counters", &counted, |(counter, value)| format!("{:<17} {value}", counter.word()));
    }
    section(out, "programs of others on the same hooks", &status.foreign, |(hook, program)| {
        format!("{:<17} {} (program {})", hook.word(), program.name, program.id)
    });
    let fullest = status
        .maps
        .iter()
        .filter(|map| !map.name.starts_with("table "))
        .max_by_key(|map| (map.entries.saturating_mul(1000)) / map.capacity.max(1));
    if let (false, Some(map)) = (details.verbose, fullest) {
        let _ = writeln!(
            out,
            "\n{} programs; the fullest map is `{}`, {} of {}\nmore: --members --rules --programs --maps --counters, \
             or -v for all",
            status.programs.len(),
            map.name,
            map.entries,
            map.capacity
        );
    }
}
