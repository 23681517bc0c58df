//! The page of metrics, in the text format of Prometheus. Everything that the kernel knows is read from the
//! kernel when the page is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use mesh_bpf::abi::Counter;
use mesh_bpf::image::{MapImage, SourceKind};
use mesh_bpf::prefix::Prefix;
use mesh_bpf::unpack::unpack;
use mesh_runtime::{Error, NotTaken, Owner, State, Status, Unheard, items};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::state::{AgentState, Shared};

/// What is kept between two pages: the policy that the counters are of, which is long to read.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    image: Option<(u64, MapImage)>,
}

impl Metrics {
    /// The page.
    pub(super) fn page(&mut self, shared: &Shared) -> Result<String, Error> {
        let runtime = &shared.runtime;
        let status = runtime.status()?;
        let generation = status.head.generation;
        if self.image.as_ref().map(|(known, _)| *known) != Some(generation) {
            self.image = match runtime.live()? {
                Some(live) => Some((live.generation, unpack(&live.tables)?)),
                None => None,
            };
        }
        let live = match &self.image {
            Some((_, image)) => Some(Live {
                rules: rules(image, &status),
                unheard: runtime.unheard(image)?,
                not_taken: runtime.not_taken()?,
            }),
            None => None,
        };
        Ok(Scrape { booted: runtime.wall_clock_of(0), status, live, agent: shared.state() }.text())
    }
}

/// What was read for one page.
#[derive(Debug)]
struct Scrape {
    /// When the machine was booted, in milliseconds since 1970.
    booted: u64,
    status: Status,
    live: Option<Live>,
    agent: AgentState,
}

/// What there is only while a policy is live.
#[derive(Debug)]
struct Live {
    rules: BTreeMap<(String, String), u64>,
    unheard: Vec<Unheard>,
    not_taken: Vec<NotTaken>,
}

impl Scrape {
    fn text(self) -> String {
        let mut registry = Registry::with_prefix("meshc");
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        // Into a string everything can be written.
        let _ = prometheus_text::encode(&mut text, &registry);
        text
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        policy(&mut page, &self.status)?;
        members(&mut page, &self.status)?;
        workloads(&mut page, &self.status, self.booted)?;
        decisions(&mut page, &self.status)?;
        if let Some(live) = &self.live {
            let rules = live.rules.iter().map(|((scope, rule), hits)| {
                (vec![("scope", scope.as_str()), ("rule", rule.as_str())], *hits)
            });
            let help = "Decisions by rule; an empty rule is where none matched";
            page.counter("rule_hits", help, rules)?;
            sidecars(&mut page, &live.unheard, &live.not_taken)?;
        }
        maps(&mut page, &self.status)?;
        agent(&mut page, &self.agent)
    }
}

type Labels<'a> = Vec<(&'a str, &'a str)>;

/// A page that is being written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    /// A metric that may go up and down.
    fn gauge<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// A metric that only goes up, whose name ends with `_total` on the page.
    fn counter<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    /// A gauge of one value.
    fn one(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.gauge(name, help, [(Vec::new(), value)])
    }
}

fn policy(page: &mut Page<'_>, status: &Status) -> fmt::Result {
    let head = &status.head;
    page.one("generation", "The live or paused generation, 0 for none", head.generation)?;
    let states = [State::None, State::Active, State::Paused, State::Unfinished];
    let states = states.map(|state| (vec![("state", state.word())], u64::from(state == head.state)));
    page.gauge("state", "1 for the state that the mesh is in", states)?;
    let owner = match head.owner {
        Owner::Cli => "cli",
        Owner::Agent => "agent",
    };
    let info = (head.generation != 0).then(|| (vec![("digest", head.digest.as_str()), ("owner", owner)], 1));
    page.gauge("policy_info", "Digest and owner of the live policy", info)?;
    page.one("drift", "Things that are not as the live policy says", status.drift.len() as u64)
}

fn members(page: &mut Page<'_>, status: &Status) -> fmt::Result {
    let mut members: BTreeMap<&str, u64> = BTreeMap::new();
    for member in &status.members {
        *members.entry(member.workload.as_deref().unwrap_or_default()).or_default() += 1;
    }
    let members = members.into_iter().map(|(workload, count)| (vec![("workload", workload)], count));
    page.gauge("members", "Pods and host workloads, by workload; empty where none selects them", members)?;
    let failed = [("started", true), ("refused", false)].map(|(became, started)| {
        let count = status.failed.iter().filter(|failed| failed.started == started).count();
        (vec![("became", became)], count as u64)
    });
    page.gauge("failed_pods", "Pods that could not be attached and are remembered", failed)
}

/// What was decided for each workload that has members, or had. As many as the policy has workloads.
fn workloads(page: &mut Page<'_>, status: &Status, booted: u64) -> fmt::Result {
    let counted = status.workloads.iter().filter_map(|it| Some((it.name.as_str(), it.decisions?)));
    let values = counted.clone().flat_map(|(workload, it)| {
        [
            ("redirected", it.redirected),
            ("excluded", it.excluded),
            ("denied", it.denied),
            ("exempt", it.exempt),
        ]
        .map(|(verdict, count)| (vec![("workload", workload), ("verdict", verdict)], count))
    });
    page.counter("workload_decisions", "Connections and datagrams decided, by workload and verdict", values)?;
    let denied = counted.filter_map(|(workload, it)| {
        let seconds = booted.saturating_add(it.denied_at?) / 1000;
        Some((vec![("workload", workload)], seconds))
    });
    page.gauge("workload_last_denied_timestamp_seconds", "When a flow of a workload was last denied", denied)
}

/// Verdicts, what was dropped or lost, and everything else that the programs count.
fn decisions(page: &mut Page<'_>, status: &Status) -> fmt::Result {
    const VERDICTS: [Counter; 4] = [Counter::Redirected, Counter::Excluded, Counter::Denied, Counter::Exempt];
    const LOST: [Counter; 6] = [
        Counter::TableMissing,
        Counter::StorageFull,
        Counter::HandoverFull,
        Counter::ExemptFull,
        Counter::EventLost,
        Counter::HitLost,
    ];
    let mut family = |name: &str, label: &'static str, help: &str, of: &dyn Fn(&Counter) -> bool| {
        let counters = status.counters.iter().filter(|(counter, _)| of(counter));
        page.counter(name, help, counters.map(|(counter, value)| (vec![(label, counter.word())], *value)))
    };
    family("decisions", "verdict", "Connections and datagrams decided, by verdict", &|counter| {
        VERDICTS.contains(counter)
    })?;
    family("drops", "reason", "What was lost, or refused for want of room", &|counter| {
        LOST.contains(counter)
    })?;
    family("events", "event", "Everything else that the programs count", &|counter| {
        !VERDICTS.contains(counter) && !LOST.contains(counter)
    })
}

/// Hits by rule, its addresses added up: a list of a hundred thousand prefixes is one rule.
fn rules(image: &MapImage, status: &Status) -> BTreeMap<(String, String), u64> {
    let mut rules: BTreeMap<(String, String), u64> = BTreeMap::new();
    for item in items(image, &status.hits) {
        let Some(source) = image.sources.get(item.source) else { continue };
        let text = match source.kind {
            SourceKind::BuiltIn => format!("built-in: {}", source.head),
            _ => source.text(Prefix::Any),
        };
        *rules.entry((source.scope.clone(), text)).or_default() += item.hits;
    }
    rules
}

/// Where no sidecar waits for what it is sent, and what was not taken.
fn sidecars(page: &mut Page<'_>, unheard: &[Unheard], not_taken: &[NotTaken]) -> fmt::Result {
    // Processes of one member may live in several network namespaces.
    let mut told = BTreeSet::new();
    let unheard: Vec<_> = (unheard.iter())
        .filter(|it| told.insert((&it.namespace, &it.member, &it.workload, it.port)))
        .map(|it| {
            let port = &it.port;
            let words = [
                port.direction.to_string(),
                port.protocol.to_string(),
                port.family.to_string(),
                port.port.to_string(),
            ];
            (it, words)
        })
        .collect();
    let values = unheard.iter().map(|(it, [direction, protocol, family, port])| {
        let labels = vec![
            ("namespace", it.namespace.as_deref().unwrap_or_default()),
            ("member", it.member.as_str()),
            ("workload", it.workload.as_str()),
            ("direction", direction.as_str()),
            ("protocol", protocol.as_str()),
            ("family", family.as_str()),
            ("port", port.as_str()),
        ];
        (labels, 1)
    });
    let help = "1 for each port that members are sent to and at which nobody listens";
    page.gauge("sidecar_unheard", help, values)?;
    let not_taken: Vec<_> = (not_taken.iter())
        .map(|it| (it, [it.direction.to_string(), it.family.to_string(), it.port.to_string()]))
        .collect();
    let values = not_taken.iter().map(|(it, [direction, family, port])| {
        let labels = vec![
            ("member", it.member.as_str()),
            ("direction", direction.as_str()),
            ("family", family.as_str()),
            ("port", port.as_str()),
        ];
        (labels, it.times)
    });
    page.counter("sidecar_not_taken", "Connections that were sent to a sidecar and not taken", values)
}

fn maps(page: &mut Page<'_>, status: &Status) -> fmt::Result {
    let entries = status.maps.iter().map(|map| (vec![("map", map.name.as_str())], map.entries));
    page.gauge("map_entries", "Elements in use, by map", entries)?;
    let capacities = status.maps.iter().map(|map| (vec![("map", map.name.as_str())], map.capacity));
    page.gauge("map_capacity", "Elements that fit, by map", capacities)
}

fn agent(page: &mut Page<'_>, state: &AgentState) -> fmt::Result {
    let (report, applies) = (&state.report, &state.applies);
    let refused = u64::from(report.refused.is_some());
    page.one("policy_refused", "1 while the policy in the directory is refused", refused)?;
    page.one("waiting", "1 while the agent waits for `meshc resume`", report.waiting.into())?;
    let results = [("done", applies.done), ("failed", applies.failed)];
    let results = results.map(|(result, count)| (vec![("result", result)], count));
    page.counter("applies", "Applies of the agent, by result", results)?;
    apply_seconds(page, state)?;
    let pods = [
        ("attached", state.attached),
        ("detached", state.detached),
        ("refused", state.refused),
        ("started", state.let_in),
        ("swept", state.swept),
    ];
    let pods = pods.map(|(became, count)| (vec![("became", became)], count));
    page.counter("pods", "Pods that the agent was asked for, by what became of them", pods)?;
    page.counter("repairs", "Times that drift was repaired", [(Vec::new(), state.repaired)])
}

/// Sum and count; the times themselves are not kept, so all are in one bucket.
fn apply_seconds(page: &mut Page<'_>, state: &AgentState) -> fmt::Result {
    let applies = &state.applies;
    let help = "Time of the agent's applies, by phase";
    let mut metric = page.0.encode_descriptor("apply_seconds", help, None, MetricType::Histogram)?;
    let phases = ["wait", "write", "commit"].into_iter().zip(applies.phases).map(|(phase, milliseconds)| {
        (phase, std::time::Duration::from_millis(milliseconds).as_secs_f64(), applies.done)
    });
    for (phase, seconds, count) in
        phases.chain([("compile", applies.compiling.as_secs_f64(), applies.compiled)])
    {
        let labels = [("phase", phase)];
        let mut one = metric.encode_family(&labels)?;
        one.encode_histogram::<NoLabelSet>(seconds, count, &[(f64::INFINITY, count)], None)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Two;

    impl Collector for Two {
        fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
            let mut page = Page(encoder);
            page.counter("x", "Help", [(vec![("rule", "a \"b\"\\\nc")], 1)])?;
            page.one("y", "Help", 2)
        }
    }

    #[test]
    fn a_label_may_hold_anything() {
        let mut registry = Registry::with_prefix("meshc");
        registry.register_collector(Box::new(Two));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).unwrap();
        assert_eq!(
            text,
            "# HELP meshc_x_total Help\n# TYPE meshc_x_total counter\n\
             meshc_x_total{rule=\"a \\\"b\\\"\\\\\\nc\"} 1\n\
             # HELP meshc_y Help\n# TYPE meshc_y gauge\nmeshc_y 2\n"
        );
    }
}
