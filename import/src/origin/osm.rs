//! OSM, osm-edge and FSM: what their sidecars' iptables rules do, by annotation and MeshConfig.
//!
//! Lists of the pod and of the MeshConfig are merged. Outbound, in this order: excluded ports, excluded ranges, included
//! ranges; where none are included, everything. Inbound: excluded ports, then everything.

use std::collections::BTreeMap;

use mesh_bpf::flow::{Direction, Protocol};

use super::{Fate, Found, Injected, Shared, World, beside, is_true, own};
use crate::chain::{Rule, Verdict};
use crate::kube::{Object, Unit};
use crate::settings::{Chain, Exempt, Reader, Report, Setting};
use crate::value::{List, ports, prefixes};

const REFUSES: &str = "OSM refuses such a pod";
const OUTBOUND: u16 = 15001;
const INBOUND: u16 = 15003;
const DNS: u16 = 15053;

/// What the three call their annotations and labels.
const DOMAINS: [&str; 3] = ["openservicemesh.io/", "flomesh.io/", "osm-edge.flomesh.io/"];

const DIFFERENCES: &[&str] = &[
    "Loopback, multicast, link-local addresses and a pod's own go straight, unless a rule names them.",
    "What comes to port 15001 from elsewhere is denied; OSM sends it to 15003.",
    "A sidecar that calls its own pod reaches the application; in OSM that comes in by 15003.",
    "IPv6 is intercepted as well: OSM's rules are in iptables alone. `--as-it-behaves` keeps that.",
    "Lists hold as they are written, also where osm-edge's eBPF mode ends them after 20 items or does not apply them.",
];

const CONFIG: [&str; 7] = [
    "traffic.outboundPortExclusionList",
    "traffic.inboundPortExclusionList",
    "traffic.outboundIPRangeExclusionList",
    "traffic.outboundIPRangeInclusionList",
    "traffic.networkInterfaceExclusionList",
    "sidecar.localDNSProxy.enable",
    "sidecar.localProxyMode",
];

/// Reads all pods.
pub fn read(world: &World<'_>, report: &mut Report) -> Found {
    let mut shared = Shared::default();
    for object in world.objects {
        match object.kind {
            "MeshConfig" => {
                if let Some(spec) = object.value.get("spec") {
                    shared.take(spec, &CONFIG, "", &object.title());
                }
            }
            // Values of the chart.
            "" => {
                for part in ["osm", "fsm"] {
                    if let Some(values) = object.value.get(part) {
                        take_values(values, &mut shared, &object.title());
                    }
                }
            }
            _ => {}
        }
    }
    let namespaces = super::namespaces(world.objects, injected);
    let fates = (world.units.iter())
        .map(|unit| match outside(unit, &namespaces) {
            Some(why) => Fate::Outside(why),
            None => Fate::Member(member(unit, &shared, world.as_it_behaves, report)),
        })
        .collect();
    Found { title: "OSM", mesh: "osm", fates, namespaces, opt_out: None, differences: DIFFERENCES }
}

fn take_values(values: crate::yaml::Value<'_>, shared: &mut Shared, of: &str) {
    for path in CONFIG {
        let name = path.rsplit('.').next().unwrap_or(path);
        if let Some(found) = values.get(name) {
            let text = match found.text() {
                Some(text) => text.to_owned(),
                None => found.items().filter_map(crate::yaml::Value::text).collect::<Vec<_>>().join(","),
            };
            shared.put(path, &text, found.span(), of);
        }
    }
}

/// A label or annotation under the name that one of the three has for it.
fn any_of(unit: &Unit<'_>, name: &str) -> Option<Setting> {
    DOMAINS.iter().find_map(|domain| own(unit, &format!("{domain}{name}")))
}

fn injected(object: &Object<'_>) -> Injected {
    let annotations = object.annotations();
    let ours = |key: &str| DOMAINS.iter().any(|domain| key.strip_prefix(domain) == Some("sidecar-injection"));
    match annotations.iter().rev().find(|entry| ours(entry.key)) {
        Some(entry) if is_true(entry.value) => Injected::Yes(format!("{}: {}", entry.key, entry.value)),
        _ => Injected::No,
    }
}

fn outside(unit: &Unit<'_>, namespaces: &BTreeMap<String, Injected>) -> Option<String> {
    let said = any_of(unit, "sidecar-injection");
    super::outside(unit, said.as_ref(), namespaces, &["envoy", "sidecar", "pipy"])
}

/// A list of the pods and the same list of all: both hold, each with its own comment.
fn lists<T>(
    unit: &Unit<'_>,
    annotation: &str,
    shared: Option<&Setting>,
    reader: &mut Reader<'_>,
    read: impl Fn(&str) -> List<T>,
) -> Vec<(Setting, Vec<T>)> {
    let both = any_of(unit, annotation).into_iter().chain(shared.cloned());
    let mut found = Vec::new();
    for setting in both {
        let items = reader.items(&setting, read(&setting.value));
        if !items.is_empty() {
            found.push((setting, items));
        }
    }
    found
}

fn member(unit: &Unit<'_>, shared: &Shared, as_it_behaves: bool, report: &mut Report) -> Chain {
    let mut reader = Reader::new(report, REFUSES);
    reader.exempt(&Setting::default_of("the sidecar's user", "1500"), Exempt::Uid((1500, 1500)));
    if as_it_behaves {
        let cite = "OSM's rules are in iptables, and not in ip6tables";
        super::leaves_alone("::/0").into_iter().for_each(|rule| reader.built_in(cite, rule));
    }
    outbound(unit, shared, &mut reader);
    inbound(unit, shared, &mut reader);
    if let Some(interfaces) =
        shared.get("traffic.networkInterfaceExclusionList").filter(|it| !it.value.is_empty())
    {
        // As one text, a chart's list may have its brackets.
        let bare = interfaces.value.replace(['[', ']', '"'], "").replace(' ', ",");
        reader.interfaces(&Setting { value: bare, ..interfaces.clone() });
    }
    if let Some(mode) = shared.get("sidecar.localProxyMode").filter(|mode| mode.value != "Localhost") {
        reader.not(mode, "the sidecar reaches its application by either way");
    }
    let ours = |key: &str| DOMAINS.iter().find_map(|domain| key.strip_prefix(domain)).map(str::to_owned);
    for entry in &unit.annotations {
        let is_list = ours(entry.key).filter(|name| name.ends_with("-list"));
        if is_list.is_some_and(|name| !LISTS.contains(&name.as_str())) {
            reader.not(&Setting::own(entry, &unit.title()), "OSM knows no such annotation");
        }
    }
    for setting in beside(unit, |key| ours(key).is_some_and(|name| LISTS.contains(&name.as_str()))) {
        reader.not(&setting, "it stands beside the template of the pods, where OSM does not read it");
    }
    reader.done()
}

const LISTS: [&str; 4] = [
    "outbound-port-exclusion-list",
    "inbound-port-exclusion-list",
    "outbound-ip-range-exclusion-list",
    "outbound-ip-range-inclusion-list",
];

fn outbound(unit: &Unit<'_>, shared: &Shared, reader: &mut Reader<'_>) {
    let out = |verdict| Rule::tcp(Direction::Outbound, verdict);
    if let Some(dns) = shared.get("sidecar.localDNSProxy.enable").filter(|dns| is_true(&dns.value)) {
        let rule = out(Verdict::Redirect(DNS)).ports(vec![(53, 53)]);
        reader.rule(dns, Rule { protocols: vec![Protocol::Udp], ..rule });
    }
    let of = shared.get("traffic.outboundPortExclusionList");
    for (setting, list) in lists(unit, "outbound-port-exclusion-list", of, reader, |text| ports(text, None)) {
        reader.rule(&setting, out(Verdict::Exclude).ports(list));
    }
    let of = shared.get("traffic.outboundIPRangeExclusionList");
    for (setting, list) in
        lists(unit, "outbound-ip-range-exclusion-list", of, reader, |text| prefixes(text, false))
    {
        reader.rule(&setting, out(Verdict::Exclude).addresses(list));
    }
    let of = shared.get("traffic.outboundIPRangeInclusionList");
    let included = lists(unit, "outbound-ip-range-inclusion-list", of, reader, |text| prefixes(text, false));
    if included.is_empty() {
        let all = Setting::default_of("outboundIPRangeInclusionList", "");
        return reader.rule(&all, out(Verdict::Redirect(OUTBOUND)));
    }
    for (setting, list) in included {
        reader.rule(&setting, out(Verdict::Redirect(OUTBOUND)).addresses(list));
    }
}

fn inbound(unit: &Unit<'_>, shared: &Shared, reader: &mut Reader<'_>) {
    let into = |verdict| Rule::tcp(Direction::Inbound, verdict);
    let of = shared.get("traffic.inboundPortExclusionList");
    for (setting, list) in lists(unit, "inbound-port-exclusion-list", of, reader, |text| ports(text, None)) {
        reader.rule(&setting, into(Verdict::Exclude).ports(list));
    }
    let own = vec![(15010, 15010)];
    reader.built_in("15010: metrics of the sidecar", into(Verdict::Exclude).ports(own));
    let probes = vec![(15901, 15904)];
    reader
        .built_in("15901 to 15904: probes, which the sidecar answers", into(Verdict::Exclude).ports(probes));
    reader.rule(&Setting::default_of("inbound interception", "all"), into(Verdict::Redirect(INBOUND)));
}
