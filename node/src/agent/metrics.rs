//! The page of metrics, in the text format of Prometheus. Everything that the kernel knows is read from the
//! kernel when the page is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write};
use std::sync::Mutex;

use mesh_bpf::abi::Counter;
use mesh_bpf::image::{MapImage, SourceKind};
use mesh_bpf::prefix::Prefix;
use mesh_bpf::unpack::unpack;
use mesh_runtime::{Error, NotTaken, Owner, Runtime, State, Status, Unheard, items};

use super::facts::Facts;

/// What is kept between two pages: the policy that the counters are of, which is long to read.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    image: Option<(u64, MapImage)>,
}

impl Metrics {
    /// The page.
    pub(super) fn page(&mut self, runtime: &Runtime, facts: &Mutex<Facts>) -> Result<String, Error> {
        let status = runtime.status()?;
        let generation = status.head.generation;
        if self.image.as_ref().map(|(known, _)| *known) != Some(generation) {
            self.image = match runtime.live()? {
                Some(live) => Some((live.generation, unpack(&live.tables)?)),
                None => None,
            };
        }
        let mut page = Page(String::new());
        policy(&mut page, &status);
        members(&mut page, &status);
        decisions(&mut page, &status);
        if let Some((_, image)) = &self.image {
            rules(&mut page, image, &status);
            sidecars(&mut page, &runtime.unheard(image)?, &runtime.not_taken()?);
        }
        maps(&mut page, &status);
        if let Ok(facts) = facts.lock() {
            agent(&mut page, &facts);
        }
        Ok(page.0)
    }
}

/// A page that is being written.
struct Page(String);

impl Page {
    /// Begins a metric.
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP meshc_{name} {help}\n# TYPE meshc_{name} {kind}");
    }

    /// One value of it.
    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<_> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "meshc_{name}{labels} {value}");
    }

    /// A metric of one value.
    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.metric(name, kind, help);
        self.value(name, &[], value);
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn policy(page: &mut Page, status: &Status) {
    let head = &status.head;
    page.one("generation", "gauge", "The live or paused generation, 0 for none.", head.generation);
    page.metric("state", "gauge", "1 for the state that the mesh is in.");
    for state in [State::None, State::Active, State::Paused, State::Unfinished] {
        page.value("state", &[("state", state.word())], u8::from(state == head.state));
    }
    page.metric("policy_info", "gauge", "Digest and owner of the live policy.");
    if head.generation != 0 {
        let owner = match head.owner {
            Owner::Cli => "cli",
            Owner::Agent => "agent",
        };
        page.value("policy_info", &[("digest", &head.digest), ("owner", owner)], 1);
    }
    page.one("drift", "gauge", "Things that are not as the live policy says.", status.drift.len());
}

fn members(page: &mut Page, status: &Status) {
    let mut members: BTreeMap<&str, usize> = BTreeMap::new();
    for member in &status.members {
        *members.entry(member.workload.as_deref().unwrap_or_default()).or_default() += 1;
    }
    page.metric("members", "gauge", "Pods and host workloads, by workload; empty where none selects them.");
    for (workload, count) in members {
        page.value("members", &[("workload", workload)], count);
    }
    page.metric("failed_pods", "gauge", "Pods that could not be attached and are remembered.");
    for (became, started) in [("started", true), ("refused", false)] {
        let count = status.failed.iter().filter(|failed| failed.started == started).count();
        page.value("failed_pods", &[("became", became)], count);
    }
}

/// Verdicts, what was dropped or lost, and everything else that the programs count.
fn decisions(page: &mut Page, status: &Status) {
    const VERDICTS: [Counter; 4] = [Counter::Redirected, Counter::Excluded, Counter::Denied, Counter::Exempt];
    const LOST: [Counter; 6] = [
        Counter::TableMissing,
        Counter::StorageFull,
        Counter::HandoverFull,
        Counter::ExemptFull,
        Counter::EventLost,
        Counter::HitLost,
    ];
    let mut family = |name: &str, label: &str, help: &str, of: &dyn Fn(&Counter) -> bool| {
        page.metric(name, "counter", help);
        for (counter, value) in status.counters.iter().filter(|(counter, _)| of(counter)) {
            page.value(name, &[(label, counter.word())], value);
        }
    };
    family("decisions_total", "verdict", "Connections and datagrams decided, by verdict.", &|counter| {
        VERDICTS.contains(counter)
    });
    family("drops_total", "reason", "What was lost, or refused for want of room.", &|counter| {
        LOST.contains(counter)
    });
    family("events_total", "event", "Everything else that the programs count.", &|counter| {
        !VERDICTS.contains(counter) && !LOST.contains(counter)
    });
}

/// Hits by rule, its addresses added up: a list of a hundred thousand prefixes is one rule.
fn rules(page: &mut Page, image: &MapImage, status: &Status) {
    let mut rules: BTreeMap<(String, String), u64> = BTreeMap::new();
    for item in items(image, &status.hits) {
        let Some(source) = image.sources.get(item.source) else { continue };
        let text = match source.kind {
            SourceKind::BuiltIn => format!("built-in: {}", source.head),
            _ => source.text(Prefix::Any),
        };
        *rules.entry((source.scope.clone(), text)).or_default() += item.hits;
    }
    page.metric("rule_hits_total", "counter", "Decisions by rule; an empty rule is where none matched.");
    for ((scope, rule), hits) in &rules {
        page.value("rule_hits_total", &[("scope", scope), ("rule", rule)], hits);
    }
}

/// Where no sidecar waits for what it is sent, and what was not taken.
fn sidecars(page: &mut Page, unheard: &[Unheard], not_taken: &[NotTaken]) {
    page.metric(
        "sidecar_unheard",
        "gauge",
        "1 for each port that members are sent to and at which nobody listens.",
    );
    // Processes of one member may live in several network namespaces.
    let mut told = BTreeSet::new();
    for it in unheard.iter().filter(|it| told.insert((&it.namespace, &it.member, &it.workload, it.port))) {
        let (direction, protocol, family, port) = (
            it.port.direction.to_string(),
            it.port.protocol.to_string(),
            it.port.family.to_string(),
            it.port.port.to_string(),
        );
        let labels = [
            ("namespace", it.namespace.as_deref().unwrap_or_default()),
            ("member", it.member.as_str()),
            ("workload", it.workload.as_str()),
            ("direction", direction.as_str()),
            ("protocol", protocol.as_str()),
            ("family", family.as_str()),
            ("port", port.as_str()),
        ];
        page.value("sidecar_unheard", &labels, 1);
    }
    page.metric(
        "sidecar_not_taken_total",
        "counter",
        "Connections that were sent to a sidecar and not taken.",
    );
    for it in not_taken {
        let (direction, family, port) =
            (it.direction.to_string(), it.family.to_string(), it.port.to_string());
        let labels = [
            ("member", it.member.as_str()),
            ("direction", direction.as_str()),
            ("family", family.as_str()),
            ("port", port.as_str()),
        ];
        page.value("sidecar_not_taken_total", &labels, it.times);
    }
}

fn maps(page: &mut Page, status: &Status) {
    page.metric("map_entries", "gauge", "Elements in use, by map.");
    for map in &status.maps {
        page.value("map_entries", &[("map", &map.name)], map.entries);
    }
    page.metric("map_capacity", "gauge", "Elements that fit, by map.");
    for map in &status.maps {
        page.value("map_capacity", &[("map", &map.name)], map.capacity);
    }
}

fn agent(page: &mut Page, facts: &Facts) {
    let report = &facts.report;
    let refused = u8::from(report.refused.is_some());
    page.one("policy_refused", "gauge", "1 while the policy in the folder is refused.", refused);
    let waiting = u8::from(report.waiting);
    page.one("waiting", "gauge", "1 while the agent waits for `meshc resume`.", waiting);
    page.metric("applies_total", "counter", "Applies of the agent, by result.");
    page.value("applies_total", &[("result", "done")], facts.applies.done);
    page.value("applies_total", &[("result", "failed")], facts.applies.failed);
    page.metric("apply_seconds", "summary", "Time of the agent's applies, by phase.");
    let phases = ["wait", "write", "commit"].into_iter().zip(facts.applies.phases);
    for (phase, milliseconds) in phases {
        let seconds = std::time::Duration::from_millis(milliseconds).as_secs_f64();
        page.value("apply_seconds_sum", &[("phase", phase)], seconds);
        page.value("apply_seconds_count", &[("phase", phase)], facts.applies.done);
    }
    page.value("apply_seconds_sum", &[("phase", "compile")], facts.applies.compiling.as_secs_f64());
    page.value("apply_seconds_count", &[("phase", "compile")], facts.applies.compiled);
    page.metric("pods_total", "counter", "Pods that the agent was asked for, by what became of them.");
    for (became, count) in [
        ("attached", facts.attached),
        ("detached", facts.detached),
        ("refused", facts.refused),
        ("started", facts.let_in),
        ("swept", facts.swept),
    ] {
        page.value("pods_total", &[("became", became)], count);
    }
    page.one("repairs_total", "counter", "Times that drift was repaired.", facts.repaired);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_may_hold_anything() {
        let mut page = Page(String::new());
        page.value("x", &[("rule", "a \"b\"\\\nc")], 1);
        assert_eq!(page.0, "meshc_x{rule=\"a \\\"b\\\"\\\\\\nc\"} 1\n");
    }
}
