//! Linkerd: what its sidecars' iptables rules do, by annotation of the pods or their namespace, and chart.
//!
//! A pod's annotation replaces its namespace's, and that the chart's value. Outbound: skipped ports, then everything.
//! Inbound: skipped ports, skipped subnets of the source, then everything.

use std::collections::BTreeMap;

use mesh_bpf::flow::Direction;

use super::{Fate, Found, Injected, Shared, World, beside, is_true, own};
use crate::chain::{Rule, Verdict};
use crate::kube::{Object, Unit};
use crate::settings::{Became, Chain, Exempt, Reader, Report, Setting};
use crate::value::{ids, port, ports, prefixes};
use crate::yaml::{Value, Yaml};

const REFUSES: &str = "Linkerd's init container leaves it out or fails, by version";
const INJECT: &str = "linkerd.io/inject";
const CONFIG: &str = "config.linkerd.io/";

const DIFFERENCES: &[&str] = &[
    "Loopback, multicast, link-local addresses and a pod's own go straight, unless a rule names them.",
    "What comes to port 4140 from elsewhere is denied; Linkerd sends it to 4143.",
    "IPv6 is intercepted as well: Linkerd's rules are in iptables alone, unless the chart says `disableIPv6: false`. \
     `--as-it-behaves` keeps that.",
];

const VALUES: [&str; 10] = [
    "proxyInit.ignoreInboundPorts",
    "proxyInit.ignoreOutboundPorts",
    "proxyInit.skipSubnets",
    "proxy.uid",
    "proxy.gid",
    "proxy.ports.inbound",
    "proxy.ports.outbound",
    "proxy.ports.control",
    "proxy.ports.admin",
    "disableIPv6",
];

/// Reads all pods.
pub fn read(world: &World<'_>, report: &mut Report) -> Found {
    let mut shared = Shared::default();
    let mut spaces: BTreeMap<String, Shared> = BTreeMap::new();
    for object in world.objects {
        take_shared(object, &mut shared, &mut spaces, report);
    }
    let namespaces = super::namespaces(world.objects, injected);
    let nothing = Shared::default();
    let fates = (world.units.iter())
        .map(|unit| {
            let said = own(unit, INJECT).map(|said| match said.value.trim() {
                // A sidecar for what comes in from outside is a sidecar.
                "ingress" => Setting { value: "true".into(), ..said },
                _ => said,
            });
            match super::outside(unit, said.as_ref(), &namespaces, &["linkerd-proxy"]) {
                Some(why) => Fate::Outside(why),
                None => {
                    let space = spaces.get(unit.namespace).unwrap_or(&nothing);
                    Fate::Member(member(unit, space, &shared, world.as_it_behaves, report))
                }
            }
        })
        .collect();
    Found { title: "Linkerd", mesh: "linkerd", fates, namespaces, opt_out: None, differences: DIFFERENCES }
}

fn take_shared(
    object: &Object<'_>,
    shared: &mut Shared,
    spaces: &mut BTreeMap<String, Shared>,
    report: &mut Report,
) {
    let of = object.title();
    match object.kind {
        "Namespace" => {
            let space = spaces.entry(object.name.to_owned()).or_default();
            for entry in object.annotations().iter().filter(|entry| entry.key.starts_with(CONFIG)) {
                space.put(entry.key, entry.value, entry.span, &of);
            }
        }
        "ConfigMap" if object.name == "linkerd-config" => {
            let found = object.value.get("data").and_then(|data| data.get("values"));
            let Some((found, text)) = found.and_then(|found| Some((found, found.text()?))) else { return };
            match Yaml::read_inside(found.span(), text) {
                Ok(inner) => inner.documents().for_each(|values| shared.take(values, &VALUES, "", &of)),
                Err(error) => {
                    report.add(
                        &Setting::shared("data.values", "", found.span(), &of),
                        Became::Bad,
                        &error.message,
                    );
                }
            }
        }
        "" => {
            shared.take(object.value, &VALUES, "", &of);
            // Of the old chart.
            if let Some(global) = object.value.get("global").filter(|global: &Value<'_>| global.is_map()) {
                shared.take(global, &VALUES, "", &of);
            }
        }
        _ => {}
    }
}

fn injected(object: &Object<'_>) -> Injected {
    let annotations = object.annotations();
    match annotations.iter().rev().find(|entry| entry.key == INJECT) {
        Some(entry) if is_true(entry.value) || entry.value == "ingress" => {
            Injected::Yes(format!("{INJECT}: {}", entry.value))
        }
        _ => Injected::No,
    }
}

fn member(
    unit: &Unit<'_>,
    space: &Shared,
    shared: &Shared,
    as_it_behaves: bool,
    report: &mut Report,
) -> Chain {
    let mut reader = Reader::new(report, REFUSES);
    let get = |annotation: &str, value: &str, default: &str| {
        let name = format!("{CONFIG}{annotation}");
        let shared = space.get(&name).or_else(|| shared.get(value));
        super::setting(unit, &name, shared, (value, default))
    };
    let uid = get("proxy-uid", "proxy.uid", "2102");
    reader.sidecar(&uid, 2102);
    let gid = get("proxy-gid", "proxy.gid", "");
    // Linkerd makes a rule for a group above 0 alone.
    if !matches!(gid.value.trim(), "" | "0") && !gid.value.trim().starts_with('-') {
        for id in reader.items(&gid, ids(&gid.value)) {
            reader.exempt(&gid, Exempt::Gid(id));
        }
    }
    let as_it_behaves = as_it_behaves && shared.get("disableIPv6").is_none_or(|it| is_true(&it.value));
    if as_it_behaves {
        let cite = "Linkerd's rules are in iptables, and not in ip6tables";
        super::leaves_alone("::/0").into_iter().for_each(|rule| reader.built_in(cite, rule));
    }
    directions(&get, &mut reader);
    others(unit, space, &mut reader);
    reader.done()
}

type Get<'g> = &'g dyn Fn(&str, &str, &str) -> Setting;

fn directions(get: Get<'_>, reader: &mut Reader<'_>) {
    let one = |setting: &Setting, reader: &mut Reader<'_>| {
        port(setting.value.trim()).map_err(|why| reader.bad(setting, &format!("it is {why}; {REFUSES}"))).ok()
    };
    let out = |verdict| Rule::tcp(Direction::Outbound, verdict);
    let skipped = get("skip-outbound-ports", "proxyInit.ignoreOutboundPorts", "4567,4568");
    reader.listed(&skipped, ports(&skipped.value, Some('-')), |list| out(Verdict::Exclude).ports(list));
    let to = get("outbound-port", "proxy.ports.outbound", "4140");
    if let Some(port) = one(&to, reader) {
        reader.rule(&to, out(Verdict::Redirect(port)));
    }
    let into = |verdict| Rule::tcp(Direction::Inbound, verdict);
    for (annotation, value, default) in
        [("control-port", "proxy.ports.control", "4190"), ("admin-port", "proxy.ports.admin", "4191")]
    {
        let own = get(annotation, value, default);
        if let Some(port) = one(&own, reader) {
            reader.rule(&own, into(Verdict::Exclude).ports(vec![(port, port)]));
        }
    }
    let skipped = get("skip-inbound-ports", "proxyInit.ignoreInboundPorts", "4567,4568");
    reader.listed(&skipped, ports(&skipped.value, Some('-')), |list| into(Verdict::Exclude).ports(list));
    let skipped = get("skip-subnets", "proxyInit.skipSubnets", "");
    reader.listed(&skipped, prefixes(&skipped.value, true), |list| into(Verdict::Exclude).addresses(list));
    let to = get("inbound-port", "proxy.ports.inbound", "4143");
    if let Some(port) = one(&to, reader) {
        reader.rule(&to, into(Verdict::Redirect(port)));
    }
}

fn others(unit: &Unit<'_>, space: &Shared, reader: &mut Reader<'_>) {
    let name = format!("{CONFIG}opaque-ports");
    if let Some(opaque) = own(unit, &name).as_ref().or_else(|| space.get(&name)) {
        reader.not(
            opaque,
            "opaque ports are redirected as well: how the proxy treats them stays its own setting",
        );
    }
    if let Some(setting) = own(unit, &format!("{CONFIG}close-wait-timeout")) {
        reader.not(&setting, "there is no connection tracking whose timeout could matter");
    }
    let ours = |key: &str| key.starts_with("config.linkerd.io/skip-") || key == INJECT;
    for setting in beside(unit, ours) {
        reader.not(&setting, "it stands beside the template of the pods, where Linkerd does not read it");
    }
    const KNOWN: [&str; 3] = ["skip-outbound-ports", "skip-inbound-ports", "skip-subnets"];
    for entry in &unit.annotations {
        let skip = entry.key.strip_prefix(CONFIG).filter(|name| name.starts_with("skip-"));
        if skip.is_some_and(|name| !KNOWN.contains(&name)) {
            reader.not(&Setting::own(entry, &unit.title()), "Linkerd knows no such annotation");
        }
    }
}
