//! Istio: what its sidecars' iptables rules do, by annotation, chart and mesh configuration.
//!
//! Outbound, in this order: excluded ports, excluded groups, DNS, excluded ranges, included ports, included ranges; where
//! groups are included, DNS and what is included are of these groups alone. Inbound, where all ports are included: excluded
//! ports, then everything; else the included ports alone. What goes by an excluded interface is left alone before all that.

use std::collections::BTreeMap;

use mesh_bpf::flow::Direction;

use super::{Fate, Found, Injected, Shared, World, beside, is_true, own, setting};
use crate::chain::{Owner, Rule, Verdict};
use crate::kube::{Entry, Object, Unit};
use crate::settings::{Became, Exempt, Reader, Report, Setting};
use crate::value::{List, Range, ids, ports, prefixes};
use crate::yaml::{Value, Yaml};

const OUTBOUND: u16 = 15001;
const INBOUND: u16 = 15006;
const DNS: u16 = 15053;
const TRAFFIC: &str = "traffic.sidecar.istio.io/";
const REFUSES: &str = "Istio refuses such a pod";

const DIFFERENCES: &[&str] = &[
    "Loopback, multicast, link-local addresses and a pod's own go straight, unless a rule names them.",
    "What comes to port 15001 from elsewhere is denied; Istio sends it to 15006.",
    "A sidecar that calls its own pod reaches the application; in Istio that comes in by 15006.",
    "Init containers and the application are under the same rules; Istio's hold from the end of istio-init on.",
];

/// Values of charts and operators.
const VALUES: [&str; 7] = [
    "global.proxy.includeIPRanges",
    "global.proxy.excludeIPRanges",
    "global.proxy.includeInboundPorts",
    "global.proxy.excludeInboundPorts",
    "global.proxy.includeOutboundPorts",
    "global.proxy.excludeOutboundPorts",
    "global.proxy.statusPort",
];

const DNS_CAPTURE: &str = "proxyMetadata.ISTIO_META_DNS_CAPTURE";

/// Parts of the mesh's configuration, and of a pod's `proxy.istio.io/config`.
const PROXY_CONFIG: [&str; 5] = [
    DNS_CAPTURE,
    "interceptionMode",
    "statusPort",
    "proxyMetadata.ISTIO_OUTBOUND_OWNER_GROUPS",
    "proxyMetadata.ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE",
];

/// The label of namespaces and pods that names a revision of the control plane.
const REVISION: &str = "istio.io/rev";

/// What the pods of each revision share, and which revision injects into which pods.
#[derive(Debug, Default)]
struct Revisions<'y> {
    /// By name; the default one has none.
    shared: BTreeMap<String, Shared>,
    /// Revisions by the tags that namespaces may name in their place.
    tags: BTreeMap<&'y str, &'y str>,
    /// What namespaces say: whether of injection at all, and of which revision.
    namespaces: BTreeMap<&'y str, (bool, Option<Entry<'y>>)>,
}

impl<'y> Revisions<'y> {
    fn of(objects: &[Object<'y>], report: &mut Report) -> Self {
        let mut found = Self::default();
        for object in objects {
            take_shared(object, &mut found.shared, report);
            let labels = object.labels();
            let label = |key: &str| labels.iter().rev().find(|label| label.key == key).copied();
            match object.kind {
                "Namespace" => {
                    let says = (label("istio-injection").is_some(), label(REVISION));
                    found.namespaces.insert(object.name, says);
                }
                "MutatingWebhookConfiguration" => {
                    if let (Some(tag), Some(revision)) = (label("istio.io/tag"), label(REVISION)) {
                        found.tags.insert(tag.value, revision.value);
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// What a namespace says of the revision, else what the pods do. One that says that a sidecar is injected, or that none is,
    /// means the default one.
    fn said(&self, unit: &Unit<'y>) -> Option<Setting> {
        let (is_said, revision) = self.namespaces.get(unit.namespace).copied().unwrap_or_default();
        match revision {
            _ if is_said => None,
            Some(label) => {
                let of = format!("namespace {}", unit.namespace);
                Some(Setting::shared(REVISION, label.value, label.span, &of))
            }
            None => super::label_or_annotation(unit, REVISION),
        }
    }

    /// Whether the pods alone say which revision injects into them: that is enough.
    fn is_pods_own(&self, unit: &Unit<'y>) -> bool {
        let (is_said, revision) = self.namespaces.get(unit.namespace).copied().unwrap_or_default();
        !is_said && revision.is_none() && unit.labels.contains_key(REVISION)
    }

    /// What pods share, and the setting that names a revision of which nothing is known, where another is.
    fn shared(&self, unit: &Unit<'y>) -> (Option<&Shared>, Option<Setting>) {
        let said = self.said(unit);
        let name = said.as_ref().map_or("default", |said| said.value.trim());
        let real = self.tags.get(name).copied().unwrap_or(name);
        let known = self.shared.get(real).or_else(|| self.shared.get("").filter(|_| real == "default"));
        // The only one there is will be the one that is meant.
        let only = self.shared.values().next().filter(|_| self.shared.len() == 1);
        let unknown = said.filter(|_| known.is_none() && only.is_none() && !self.shared.is_empty());
        (known.or(only), unknown)
    }
}

/// Reads all pods.
pub fn read(world: &World<'_>, report: &mut Report) -> Found {
    let revisions = Revisions::of(world.objects, report);
    let namespaces = super::namespaces(world.objects, injected);
    let resolvers = resolvers(world.objects);
    let nothing = Shared::default();
    let fates = (world.units.iter())
        .map(|unit| {
            let (shared, unknown) = revisions.shared(unit);
            let shared = shared.unwrap_or(&nothing);
            match outside(unit, &namespaces, shared, revisions.is_pods_own(unit)) {
                Some(why) => Fate::Outside(why),
                None => {
                    let all = (shared, unknown);
                    Fate::Member(member(unit, all, &resolvers, world.as_it_behaves, report))
                }
            }
        })
        .collect();
    let opt_out = Some(("sidecar.istio.io/inject", "false"));
    Found { title: "Istio", mesh: "istio", fates, namespaces, opt_out, differences: DIFFERENCES }
}

/// The revision whose ConfigMap this is.
fn revision_of(name: &str) -> &str {
    let rest = name.strip_prefix("istio-sidecar-injector").or_else(|| name.strip_prefix("istio"));
    rest.map_or("", |rest| rest.trim_start_matches('-'))
}

fn take_shared(object: &Object<'_>, revisions: &mut BTreeMap<String, Shared>, report: &mut Report) {
    let of = object.title();
    match object.kind {
        "ConfigMap" if object.name.starts_with("istio") => {
            let data = |key: &str| object.value.get("data").and_then(|data| data.get(key));
            for (key, is_values) in [("values", true), ("mesh", false)] {
                let Some((found, text)) = data(key).and_then(|found| Some((found, found.text()?))) else {
                    continue;
                };
                match Yaml::read_inside(found.span(), text) {
                    Ok(inner) => {
                        for document in inner.documents() {
                            if is_values {
                                take_values(
                                    document,
                                    revisions.entry(revision_of(object.name).to_owned()).or_default(),
                                    &of,
                                )
                            } else {
                                take_mesh(
                                    document,
                                    revisions.entry(revision_of(object.name).to_owned()).or_default(),
                                    &of,
                                )
                            }
                        }
                    }
                    Err(error) => {
                        let setting = Setting::shared(&format!("data.{key}"), "", found.span(), &of);
                        report.add(&setting, Became::Bad, &error.message);
                    }
                }
            }
        }
        "IstioOperator" | "Istio" => {
            let revision = object.value.text_at("spec.revision").unwrap_or_default();
            if let Some(values) = object.value.at("spec.values") {
                take_values(values, revisions.entry(revision.to_owned()).or_default(), &of);
            }
            if let Some(mesh) = object.value.at("spec.meshConfig") {
                take_mesh(mesh, revisions.entry(revision.to_owned()).or_default(), &of);
            }
        }
        "" => {
            let revision = object.value.text_at("revision").unwrap_or_default();
            take_values(object.value, revisions.entry(revision.to_owned()).or_default(), &of);
        }
        _ => {}
    }
}

fn take_values(values: Value<'_>, shared: &mut Shared, of: &str) {
    shared.take(values, &VALUES, "", of);
    if let Some(mesh) = values.get("meshConfig") {
        take_mesh(mesh, shared, of);
    }
}

fn take_mesh(mesh: Value<'_>, shared: &mut Shared, of: &str) {
    if let Some(config) = mesh.get("defaultConfig") {
        shared.take(config, &PROXY_CONFIG, "defaultConfig.", of);
    }
}

fn injected(object: &Object<'_>) -> Injected {
    let labels = object.labels();
    let label = |key: &str| labels.iter().rev().find(|label| label.key == key).map(|label| label.value);
    match (label("istio-injection"), label("istio.io/rev")) {
        (Some("enabled"), _) => Injected::Yes("istio-injection: enabled".into()),
        (Some(_), _) | (None, None) => Injected::No,
        (None, Some(revision)) => Injected::Yes(format!("istio.io/rev: {revision}")),
    }
}

/// Addresses of the cluster's resolver, where its service is among the objects.
fn resolvers(objects: &[Object<'_>]) -> Vec<String> {
    let names = ["kube-dns", "coredns", "rke2-coredns-rke2-coredns", "dns-default"];
    let services = objects.iter().filter(|object| object.kind == "Service" && names.contains(&object.name));
    let addresses = services.flat_map(|object| {
        let several = object.value.at("spec.clusterIPs").into_iter().flat_map(Value::items);
        several.filter_map(Value::text).chain(object.value.text_at("spec.clusterIP"))
    });
    let mut addresses: Vec<String> =
        addresses.filter(|text| text.parse::<std::net::IpAddr>().is_ok()).map(str::to_owned).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// Why pods are in no mesh; `None` where they are.
fn outside(
    unit: &Unit<'_>,
    namespaces: &BTreeMap<String, Injected>,
    shared: &Shared,
    has_revision: bool,
) -> Option<String> {
    let said = super::label_or_annotation(unit, "sidecar.istio.io/inject");
    // An injected pod says so.
    let status =
        own(unit, "sidecar.istio.io/status").map(|status| Setting { value: "true".into(), ..status });
    let revision = || Setting::default_of(REVISION, "true");
    let said = said.or(status).or_else(|| has_revision.then(revision));
    super::outside(unit, said.as_ref(), namespaces, &["istio-proxy"]).or_else(|| {
        let mode = mode(unit, shared);
        (mode.value.trim() == "NONE").then(|| mode.cite())
    })
}

fn mode(unit: &Unit<'_>, shared: &Shared) -> Setting {
    let shared = shared.get("defaultConfig.interceptionMode");
    let config = proxy_config(unit).into_iter().find(|part| part.name.ends_with("interceptionMode"));
    let default = ("interceptionMode", "REDIRECT");
    setting(unit, "sidecar.istio.io/interceptionMode", config.as_ref().or(shared), default)
}

/// The parts of a pod's `proxy.istio.io/config`.
fn proxy_config(unit: &Unit<'_>) -> Vec<Setting> {
    let Some(entry) = unit.annotation("proxy.istio.io/config") else { return Vec::new() };
    let Ok(inner) = Yaml::read_inside(entry.span, entry.value) else { return Vec::new() };
    let Some(config) = inner.documents().next() else { return Vec::new() };
    let parts = PROXY_CONFIG.iter().filter_map(|path| Some((path, config.text_at(path)?)));
    parts
        .map(|(path, value)| Setting {
            name: format!("proxy.istio.io/config {path}"),
            value: value.into(),
            span: Some(entry.span),
            of: unit.title(),
            is_own: true,
        })
        .collect()
}

fn member(
    unit: &Unit<'_>,
    (shared, unknown): (&Shared, Option<Setting>),
    resolvers: &[String],
    as_it_behaves: bool,
    report: &mut Report,
) -> crate::settings::Chain {
    let mut reader = Reader::new(report, REFUSES);
    if let Some(revision) = unknown {
        reader.not(
            &revision,
            "nothing of this revision is among the objects, so what Istio does by default is written",
        );
    }
    let config = proxy_config(unit);
    let part = |path: &str| {
        let own = config.iter().find(|part| part.name.ends_with(path));
        own.or_else(|| shared.get(&format!("defaultConfig.{path}"))).cloned()
    };
    if let Some(entry) = unit.annotation("proxy.istio.io/config")
        && let Err(error) = Yaml::read_inside(entry.span, entry.value)
    {
        reader.bad(&Setting::own(&entry, &unit.title()), &format!("{}; {REFUSES}", error.message));
    }
    exempts(unit, &mut reader);
    let only = groups(&part, &mut reader);
    outbound(unit, shared, part(DNS_CAPTURE), (resolvers, only), &mut reader);
    inbound(unit, shared, part("statusPort"), as_it_behaves, &mut reader);
    others(unit, shared, &mut reader);
    reader.done()
}

fn exempts(unit: &Unit<'_>, reader: &mut Reader<'_>) {
    super::sidecar_of(unit, &["istio-proxy"], 1337, reader);
    reader.exempt(&Setting::default_of("the sidecar's group", "1337"), Exempt::Gid((1337, 1337)));
}

/// Groups by their ids: Istio takes names as well, and what id a name has only the image knows.
fn group_ids(text: &str) -> List<Range<u32>> {
    let mut found = ids(text);
    for (_, why) in &mut found.bad {
        *why = "a name, and a policy has ids: write the group's id".to_owned();
    }
    found
}

/// Makes the groups exempt that are excluded. Those whose connections alone are redirected come back; none are all.
fn groups(part: &dyn Fn(&str) -> Option<Setting>, reader: &mut Reader<'_>) -> Vec<Range<u32>> {
    let included = part("proxyMetadata.ISTIO_OUTBOUND_OWNER_GROUPS").filter(|it| it.value.trim() != "*");
    let excluded =
        part("proxyMetadata.ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE").filter(|it| !it.value.is_empty());
    let Some(included) = included else {
        if let Some(excluded) = excluded {
            for id in reader.items(&excluded, group_ids(&excluded.value)) {
                reader.exempt(&excluded, Exempt::Gid(id));
            }
        }
        return Vec::new();
    };
    if let Some(excluded) = excluded {
        reader.not(&excluded, "Istio reads it only where ISTIO_OUTBOUND_OWNER_GROUPS is \"*\"");
    }
    let only = reader.items(&included, group_ids(&included.value));
    if !only.is_empty() {
        reader.kept(&included);
    }
    only
}

fn outbound(
    unit: &Unit<'_>,
    shared: &Shared,
    dns: Option<Setting>,
    (resolvers, only): (&[String], Vec<Range<u32>>),
    reader: &mut Reader<'_>,
) {
    let out = |verdict: Verdict| {
        let rule = Rule::tcp(Direction::Outbound, verdict);
        if verdict.is_redirect() { rule.owner(Owner::groups(only.clone())) } else { rule }
    };
    let dns = dns.filter(|dns| is_true(&dns.value));
    let excluded = setting(
        unit,
        "traffic.sidecar.istio.io/excludeOutboundPorts",
        shared.get("global.proxy.excludeOutboundPorts"),
        ("excludeOutboundPorts", ""),
    );
    reader.listed(&excluded, ports(&excluded.value, None), |list| {
        let rule = out(Verdict::Exclude).ports(list);
        // UDP is only ever redirected for DNS.
        if dns.is_some() { rule.both() } else { rule }
    });
    if let Some(dns) = &dns {
        let to = prefixes(&resolvers.join(","), true).items;
        reader.rule(dns, out(Verdict::Redirect(DNS)).ports(vec![(53, 53)]).both().addresses(to));
    }
    let excluded = setting(
        unit,
        "traffic.sidecar.istio.io/excludeOutboundIPRanges",
        shared.get("global.proxy.excludeIPRanges"),
        ("excludeOutboundIPRanges", ""),
    );
    reader.listed(&excluded, prefixes(&excluded.value, false), |list| out(Verdict::Exclude).addresses(list));
    let included = setting(
        unit,
        "traffic.sidecar.istio.io/includeOutboundPorts",
        shared.get("global.proxy.includeOutboundPorts"),
        ("includeOutboundPorts", ""),
    );
    reader
        .listed(&included, ports(&included.value, None), |list| out(Verdict::Redirect(OUTBOUND)).ports(list));
    let included = setting(
        unit,
        "traffic.sidecar.istio.io/includeOutboundIPRanges",
        shared.get("global.proxy.includeIPRanges"),
        ("includeOutboundIPRanges", "*"),
    );
    match included.value.trim() {
        "*" => reader.rule(&included, out(Verdict::Redirect(OUTBOUND))),
        "" => reader.not(&included, "no range is redirected"),
        text => {
            reader.listed(&included, prefixes(text, false), |list| {
                out(Verdict::Redirect(OUTBOUND)).addresses(list)
            });
        }
    }
}

fn inbound(
    unit: &Unit<'_>,
    shared: &Shared,
    config: Option<Setting>,
    as_it_behaves: bool,
    reader: &mut Reader<'_>,
) {
    let into = |verdict| Rule::tcp(Direction::Inbound, verdict);
    let included = setting(
        unit,
        "traffic.sidecar.istio.io/includeInboundPorts",
        shared.get("global.proxy.includeInboundPorts"),
        ("includeInboundPorts", "*"),
    );
    let excluded = setting(
        unit,
        "traffic.sidecar.istio.io/excludeInboundPorts",
        shared.get("global.proxy.excludeInboundPorts"),
        ("excludeInboundPorts", ""),
    );
    let status = config.as_ref().or_else(|| shared.get("global.proxy.statusPort"));
    let status = setting(unit, "status.sidecar.istio.io/port", status, ("statusPort", "15020"));
    let list = reader.items(&excluded, ports(&excluded.value, None));
    let all = included.value.trim() == "*";
    let tunnel = vec![(15008, 15008)];
    reader.built_in(
        "15008: tunnels of HBONE, which Istio never redirects",
        into(Verdict::Exclude).ports(tunnel),
    );
    if all {
        let own = vec![(15021, 15021), (15090, 15090)];
        reader.built_in("15021, 15090: health and metrics of the sidecar", into(Verdict::Exclude).ports(own));
        if status.value.trim() != "0" {
            let port = reader.items(&status, ports(&status.value, None));
            if !port.is_empty() {
                reader.rule(&status, into(Verdict::Exclude).ports(port));
            }
        }
    }
    if !list.is_empty() {
        if all {
            reader.rule(&excluded, into(Verdict::Exclude).ports(list));
        } else if as_it_behaves {
            reader.not(&excluded, "Istio reads it only where includeInboundPorts is \"*\"");
        } else {
            reader.rule(&excluded, into(Verdict::Exclude).ports(list));
        }
    }
    match included.value.trim() {
        "*" => reader.rule(&included, into(Verdict::Redirect(INBOUND))),
        "" => reader.not(&included, "nothing that comes in is redirected"),
        text => {
            reader.listed(&included, ports(text, None), |list| into(Verdict::Redirect(INBOUND)).ports(list));
        }
    }
}

fn others(unit: &Unit<'_>, shared: &Shared, reader: &mut Reader<'_>) {
    let mode = mode(unit, shared);
    match mode.value.trim() {
        "REDIRECT" => reader.kept(&mode),
        "TPROXY" => reader
            .not(&mode, "the sidecar sees the client's address in any case, so it is written as REDIRECT"),
        _ => reader.bad(&mode, "no mode: REDIRECT, TPROXY or NONE"),
    }
    const KNOWN: [&str; 6] = [
        "includeInboundPorts",
        "excludeInboundPorts",
        "includeOutboundPorts",
        "excludeOutboundPorts",
        "includeOutboundIPRanges",
        "excludeOutboundIPRanges",
    ];
    for entry in &unit.annotations {
        let setting = Setting::own(entry, &unit.title());
        match entry.key.strip_prefix(TRAFFIC) {
            Some("excludeInterfaces") => reader.interfaces(&setting),
            Some("kubevirtInterfaces") => reader.not(&setting, VIRTUAL),
            Some(known) if KNOWN.contains(&known) => {}
            Some(_) => reader.not(&setting, "Istio knows no such annotation"),
            None if entry.key == "istio.io/reroute-virtual-interfaces" => reader.not(&setting, VIRTUAL),
            None => {}
        }
    }
    for setting in beside(unit, |key| key.starts_with(TRAFFIC) || key == "sidecar.istio.io/interceptionMode")
    {
        reader.not(&setting, "it stands beside the template of the pods, where Istio does not read it");
    }
    if let Some(setting) =
        own(unit, "sidecar.istio.io/rewriteAppHTTPProbers").filter(|it| !is_true(&it.value))
    {
        reader.not(
            &setting,
            "probes come to the application's own port, and go to the sidecar unless excluded",
        );
    }
}

const VIRTUAL: &str = "a virtual machine's traffic is forwarded through the pod, where no process opens a connection: keep \
                       iptables for such pods";
