//! Consul on Kubernetes: what `consul connect redirect-traffic` and its CNI plugin do, by annotation and chart.
//!
//! Outbound: DNS where it is redirected, then excluded users, ports and ranges, then everything. Inbound: excluded ports,
//! then everything.

use std::collections::BTreeMap;

use mesh_bpf::flow::Direction;

use super::{Fate, Found, Injected, Shared, World, beside, is_true, own, setting};
use crate::chain::{Rule, Verdict};
use crate::kube::{Object, Unit};
use crate::settings::{Chain, Exempt, Reader, Report, Setting};
use crate::value::{ids, port, ports, prefixes};
use crate::yaml::Value;

const REFUSES: &str = "Consul's iptables rules fail to load, and the pod does not start";
const DOMAIN: &str = "consul.hashicorp.com/";
const OUTBOUND: u16 = 15001;
const INBOUND: u16 = 20000;
const DNS: u16 = 8600;

const DIFFERENCES: &[&str] = &[
    "Loopback, multicast, link-local addresses and a pod's own go straight, unless a rule names them.",
    "What comes to port 15001 from elsewhere is denied; Consul sends it to 20000.",
    "IPv6 is intercepted as well: Consul's rules are in iptables alone. `--as-it-behaves` keeps that.",
];

/// What the sidecar's container is called, by version.
const SIDECARS: [&str; 2] = ["consul-dataplane", "envoy-sidecar"];

const VALUES: [&str; 4] = [
    "connectInject.default",
    "connectInject.transparentProxy.defaultEnabled",
    "connectInject.metrics.defaultEnabled",
    "dns.enableRedirection",
];

/// Reads all pods.
pub fn read(world: &World<'_>, report: &mut Report) -> Found {
    let mut shared = Shared::default();
    for object in world.objects {
        match object.kind {
            "" => shared.take(object.value, &VALUES, "", &object.title()),
            "ProxyDefaults" => {
                if let Some(spec) = object.value.get("spec") {
                    let path = ["transparentProxy.outboundListenerPort"];
                    shared.take(spec, &path, "", &object.title());
                }
            }
            _ => {}
        }
    }
    let namespaces = super::namespaces(world.objects, |_| Injected::No);
    let transparent: BTreeMap<&str, Setting> = world
        .objects
        .iter()
        .filter(|object| object.kind == "Namespace")
        .filter_map(|object| Some((object.name, label(object, &format!("{DOMAIN}transparent-proxy"))?)))
        .collect();
    let fates = (world.units.iter())
        .map(|unit| match outside(unit, &namespaces, &transparent, &shared) {
            Some(why) => Fate::Outside(why),
            None => Fate::Member(member(unit, &shared, world.as_it_behaves, report)),
        })
        .collect();
    Found { title: "Consul", mesh: "consul", fates, namespaces, opt_out: None, differences: DIFFERENCES }
}

fn label(object: &Object<'_>, key: &str) -> Option<Setting> {
    let labels = object.labels();
    let found = labels.iter().rev().find(|label| label.key == key)?;
    Some(Setting::shared(key, found.value, found.span, &object.title()))
}

fn outside(
    unit: &Unit<'_>,
    namespaces: &BTreeMap<String, Injected>,
    transparent: &BTreeMap<&str, Setting>,
    shared: &Shared,
) -> Option<String> {
    let said = own(unit, &format!("{DOMAIN}connect-inject"));
    let said = said.or_else(|| shared.get("connectInject.default").filter(|it| is_true(&it.value)).cloned());
    let has_sidecar = SIDECARS.iter().any(|name| unit.container(name).is_some());
    if said.is_none() && !has_sidecar && !unit.is_anybody() {
        return Some(
            "consul.hashicorp.com/connect-inject is not said, and the chart's default is false".into(),
        );
    }
    super::outside(unit, said.as_ref(), namespaces, &SIDECARS).or_else(|| {
        let said = own(unit, &format!("{DOMAIN}transparent-proxy"));
        let said = said.as_ref().or_else(|| transparent.get(unit.namespace));
        let said = said.or_else(|| shared.get("connectInject.transparentProxy.defaultEnabled"))?;
        (!is_true(&said.value)).then(|| said.cite())
    })
}

fn member(unit: &Unit<'_>, shared: &Shared, as_it_behaves: bool, report: &mut Report) -> Chain {
    let mut reader = Reader::new(report, REFUSES);
    let name = |name: &str| format!("{DOMAIN}{name}");
    exempts(unit, &mut reader);
    if as_it_behaves {
        let cite = "Consul's rules are in iptables, and not in ip6tables";
        super::leaves_alone("::/0").into_iter().for_each(|rule| reader.built_in(cite, rule));
    }
    let out = |verdict| Rule::tcp(Direction::Outbound, verdict);
    let dns = setting(
        unit,
        &name("consul-dns"),
        shared.get("dns.enableRedirection"),
        ("dns.enableRedirection", "false"),
    );
    if is_true(&dns.value) {
        reader.rule(&dns, out(Verdict::Redirect(DNS)).ports(vec![(53, 53)]).both());
    }
    if let Some(excluded) = own(unit, &name("transparent-proxy-exclude-outbound-ports")) {
        reader.listed(&excluded, ports(&excluded.value, None), |list| out(Verdict::Exclude).ports(list));
    }
    if let Some(excluded) = own(unit, &name("transparent-proxy-exclude-outbound-cidrs")) {
        reader
            .listed(&excluded, prefixes(&excluded.value, true), |list| out(Verdict::Exclude).addresses(list));
    }
    let path = "transparentProxy.outboundListenerPort";
    let to = shared.get(path).cloned().unwrap_or_else(|| Setting::default_of(path, &OUTBOUND.to_string()));
    match port(to.value.trim()) {
        Ok(port) => reader.rule(&to, out(Verdict::Redirect(port))),
        Err(why) => reader.bad(&to, &format!("it is {why}; {REFUSES}")),
    }
    let into = |verdict| Rule::tcp(Direction::Inbound, verdict);
    probes(unit, &mut reader);
    if let Some(excluded) = own(unit, &name("transparent-proxy-exclude-inbound-ports")) {
        reader.listed(&excluded, ports(&excluded.value, None), |list| into(Verdict::Exclude).ports(list));
    }
    let metrics = "connectInject.metrics.defaultEnabled";
    let metrics = setting(unit, &name("enable-metrics"), shared.get(metrics), (metrics, "false"));
    if is_true(&metrics.value) {
        let port = setting(unit, &name("prometheus-scrape-port"), None, ("prometheus-scrape-port", "20200"));
        reader.listed(&port, ports(&port.value, None), |list| into(Verdict::Exclude).ports(list));
    }
    let all = Setting::default_of("the sidecar's inbound port", &INBOUND.to_string());
    reader.rule(&all, into(Verdict::Redirect(INBOUND)));
    others(unit, &mut reader);
    reader.done()
}

fn exempts(unit: &Unit<'_>, reader: &mut Reader<'_>) {
    super::sidecar_of(unit, &SIDECARS, 5995, reader);
    reader.exempt(&Setting::default_of("the init container's user", "5996"), Exempt::Uid((5996, 5996)));
    if let Some(excluded) = own(unit, &format!("{DOMAIN}transparent-proxy-exclude-uids")) {
        for id in reader.items(&excluded, ids(&excluded.value)) {
            reader.exempt(&excluded, Exempt::Uid(id));
        }
    }
}

/// Ports to which Consul moves probes, by the place of their container.
fn probes(unit: &Unit<'_>, reader: &mut Reader<'_>) {
    let overwrite = own(unit, &format!("{DOMAIN}transparent-proxy-overwrite-probes"));
    if overwrite.as_ref().is_some_and(|said| !is_true(&said.value)) {
        if let Some(said) = &overwrite {
            reader.kept(said);
        }
        return;
    }
    let containers = unit.spec.and_then(|spec| spec.get("containers")).into_iter().flat_map(Value::items);
    let own = |container: &Value<'_>| {
        !matches!(container.text_at("name"), Some("consul-dataplane" | "envoy-sidecar"))
    };
    let mut moved = Vec::new();
    for (container, at) in containers.filter(own).zip(0_u16..100) {
        for (probe, first) in [("livenessProbe", 20300), ("readinessProbe", 20400), ("startupProbe", 20500)] {
            if container.get(probe).and_then(|probe| probe.get("httpGet")).is_some() {
                moved.push((first + at, first + at));
            }
        }
    }
    moved.sort_unstable();
    if !moved.is_empty() {
        let rule = Rule::tcp(Direction::Inbound, Verdict::Exclude).ports(moved);
        match overwrite {
            Some(said) => reader.rule(&said, rule),
            None => reader.built_in("transparent-proxy-overwrite-probes: \"true\", the default", rule),
        }
    }
}

fn others(unit: &Unit<'_>, reader: &mut Reader<'_>) {
    const KNOWN: [&str; 4] = ["inbound-ports", "outbound-ports", "outbound-cidrs", "uids"];
    for entry in &unit.annotations {
        let list = entry.key.strip_prefix("consul.hashicorp.com/transparent-proxy-exclude-");
        if list.is_some_and(|list| !KNOWN.contains(&list)) {
            reader.not(&Setting::own(entry, &unit.title()), "Consul knows no such annotation");
        }
    }
    for setting in beside(unit, |key| key.starts_with("consul.hashicorp.com/transparent-proxy")) {
        reader.not(&setting, "it stands beside the template of the pods, where Consul does not read it");
    }
}
