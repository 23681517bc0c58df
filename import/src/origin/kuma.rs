//! Kuma: what its sidecars' iptables rules do, by annotation and the control plane's configuration.
//!
//! Outbound, in this order: excluded addresses, ports of some users, DNS over UDP, excluded ports, DNS over TCP, then
//! everything. Inbound: excluded addresses, excluded ports, then everything.

use std::collections::BTreeMap;

use mesh_bpf::flow::{Direction, Protocol};

use super::{Fate, Found, Injected, Shared, World, beside, is_true, own, setting};
use crate::chain::{Owner, Rule, Verdict};
use crate::kube::{Object, Unit};
use crate::settings::{Became, Chain, Reader, Report, Setting};
use crate::value::{List, Range, ids, port, ports, prefixes};
use crate::yaml::{Value, Yaml};

const REFUSES: &str = "Kuma refuses such a pod";
const INJECTION: &str = "kuma.io/sidecar-injection";

const DIFFERENCES: &[&str] = &[
    "Loopback, multicast, link-local addresses and a pod's own go straight, unless a rule names them.",
    "What comes to port 15001 from elsewhere is denied; Kuma sends it to 15006.",
    "A sidecar that calls its own pod reaches the application; in Kuma that comes in by 15006.",
    "DNS is redirected wherever it goes to; Kuma redirects what goes to the resolvers of resolv.conf.",
];

/// Below `runtime.kubernetes.injector` in the control plane's configuration.
const CONFIG: [&str; 14] = [
    "sidecarTraffic.excludeInboundPorts",
    "sidecarTraffic.excludeOutboundPorts",
    "sidecarTraffic.excludeInboundIPs",
    "sidecarTraffic.excludeOutboundIPs",
    "sidecarTraffic.excludeOutboundPortsForUIDs",
    "sidecarContainer.redirectPortInbound",
    "sidecarContainer.redirectPortOutbound",
    "sidecarContainer.ipFamilyMode",
    "sidecarContainer.uid",
    "builtinDNS.enabled",
    "builtinDNS.port",
    "virtualProbesEnabled",
    "applicationProbeProxyPort",
    "ebpf.enabled",
];

/// What a ConfigMap for transparent proxying has, and where the control plane's configuration has the same.
const OF_PROXYING: [(&str, &str); 16] = [
    ("redirect.inbound.excludePorts", "sidecarTraffic.excludeInboundPorts"),
    ("redirect.outbound.excludePorts", "sidecarTraffic.excludeOutboundPorts"),
    ("redirect.inbound.excludePortsForIPs", "sidecarTraffic.excludeInboundIPs"),
    ("redirect.outbound.excludePortsForIPs", "sidecarTraffic.excludeOutboundIPs"),
    ("redirect.outbound.excludePortsForUIDs", "sidecarTraffic.excludeOutboundPortsForUIDs"),
    ("redirect.inbound.port", "sidecarContainer.redirectPortInbound"),
    ("redirect.outbound.port", "sidecarContainer.redirectPortOutbound"),
    ("redirect.dns.enabled", "builtinDNS.enabled"),
    ("redirect.dns.port", "builtinDNS.port"),
    ("ipFamilyMode", "sidecarContainer.ipFamilyMode"),
    ("kumaDPUser", "sidecarContainer.uid"),
    ("redirect.inbound.includePorts", ""),
    ("redirect.outbound.includePorts", ""),
    ("redirect.inbound.enabled", ""),
    ("redirect.outbound.enabled", ""),
    ("redirect.inbound.excludePortsForUIDs", ""),
];

/// The ConfigMap for transparent proxying of all pods that name no other.
const PROXYING: &str = "kuma-transparent-proxy-config";
const NAMES_PROXYING: &str = "traffic.kuma.io/transparent-proxy-configmap-name";

/// ConfigMaps for transparent proxying, and the namespace of the control plane.
struct Proxying<'y> {
    /// By namespace and name.
    configs: BTreeMap<(String, String), Shared>,
    system: &'y str,
}

impl<'y> Proxying<'y> {
    fn of(objects: &[Object<'y>], report: &mut Report) -> Self {
        let maps = || objects.iter().filter(|object| object.kind == "ConfigMap");
        let system = maps().find(|object| object.name.ends_with("control-plane-config"));
        let system = system.map_or("kuma-system", |object| object.namespace);
        let mut configs = BTreeMap::new();
        for object in maps().filter(|object| !object.name.ends_with("control-plane-config")) {
            let mut shared = Shared::default();
            let mut is_one = object.name == PROXYING;
            inside(object, report, |config| {
                is_one |= config.get("redirect").is_some() || config.get("kumaDPUser").is_some();
                for (path, name) in OF_PROXYING {
                    shared.take_as(config, path, if name.is_empty() { path } else { name }, &object.title());
                }
            });
            if is_one {
                configs.insert((object.namespace.to_owned(), object.name.to_owned()), shared);
            }
        }
        Self { configs, system }
    }

    /// What holds for pods: of the ConfigMap that they name, else of the usual one; each in their namespace, else in the control
    /// plane's.
    fn get(&self, unit: &Unit<'_>) -> (Option<&Shared>, Option<Setting>) {
        let named = own(unit, NAMES_PROXYING);
        let own = named.as_ref().and_then(|named| self.find(unit.namespace, named.value.trim()));
        let missing = named.filter(|_| own.is_none());
        (own.or_else(|| self.find(unit.namespace, PROXYING)), missing)
    }

    fn find(&self, namespace: &str, name: &str) -> Option<&Shared> {
        let of = |namespace: &str| self.configs.get(&(namespace.to_owned(), name.to_owned()));
        of(namespace).or_else(|| of(self.system))
    }
}

/// Reads all pods.
pub fn read(world: &World<'_>, report: &mut Report) -> Found {
    let mut shared = Shared::default();
    for object in world.objects {
        take_shared(object, &mut shared, report);
    }
    let proxying = Proxying::of(world.objects, report);
    let namespaces = super::namespaces(world.objects, injected);
    let fates = (world.units.iter())
        .map(|unit| match outside(unit, &namespaces) {
            Some(why) => Fate::Outside(why),
            None => Fate::Member(member(unit, &shared, &proxying, report)),
        })
        .collect();
    let opt_out = Some((INJECTION, "disabled"));
    Found { title: "Kuma", mesh: "kuma", fates, namespaces, opt_out, differences: DIFFERENCES }
}

fn take_shared(object: &Object<'_>, shared: &mut Shared, report: &mut Report) {
    if object.kind != "ConfigMap" || !object.name.ends_with("control-plane-config") {
        return;
    }
    inside(object, report, |config| {
        if let Some(injector) = config.at("runtime.kubernetes.injector") {
            shared.take(injector, &CONFIG, "", &object.title());
        }
    });
}

/// What is written in `config.yaml` of a ConfigMap.
fn inside(object: &Object<'_>, report: &mut Report, mut take: impl FnMut(Value<'_>)) {
    let of = object.title();
    let Some(found) = object.value.get("data").and_then(|data| data.get("config.yaml")) else { return };
    let Some(text) = found.text() else { return };
    match Yaml::read_inside(found.span(), text) {
        Ok(inner) => inner.documents().for_each(&mut take),
        Err(error) => {
            report.add(
                &Setting::shared("data.config.yaml", "", found.span(), &of),
                Became::Bad,
                &error.message,
            );
        }
    }
}

fn injected(object: &Object<'_>) -> Injected {
    let (labels, annotations) = (object.labels(), object.annotations());
    let said = labels.iter().chain(&annotations).find(|entry| entry.key == INJECTION);
    match said.map(|entry| entry.value) {
        Some(value) if is_true(value) => Injected::Yes(format!("{INJECTION}: {value}")),
        _ => Injected::No,
    }
}

fn outside(unit: &Unit<'_>, namespaces: &BTreeMap<String, Injected>) -> Option<String> {
    let said = super::label_or_annotation(unit, INJECTION);
    super::outside(unit, said.as_ref(), namespaces, &["kuma-sidecar"]).or_else(|| {
        let gateway =
            own(unit, "kuma.io/gateway").filter(|it| !matches!(it.value.trim(), "" | "disabled" | "false"));
        gateway.map(|gateway| format!("{}: a gateway's inbound traffic is not redirected", gateway.cite()))
    })
}

fn member(unit: &Unit<'_>, shared: &Shared, proxying: &Proxying<'_>, report: &mut Report) -> Chain {
    let mut reader = Reader::new(report, REFUSES);
    let (proxying, missing) = proxying.get(unit);
    let of_proxying = |name: &str| proxying.and_then(|proxying| proxying.get(name));
    let get = |annotation: &str, config: &str, default: &str| {
        let shared = of_proxying(config).or_else(|| shared.get(config));
        setting(unit, annotation, shared, (annotation, default))
    };
    match (missing, own(unit, NAMES_PROXYING)) {
        (Some(missing), _) => {
            reader.not(&missing, "the ConfigMap is not among the objects: its settings are not in here")
        }
        (None, Some(named)) => reader.kept(&named),
        (None, None) => {}
    }
    if let Some(users) = of_proxying("redirect.inbound.excludePortsForUIDs").filter(|it| !it.value.is_empty())
    {
        reader.not(users, "what comes in is of no user");
    }
    let uid = get("kuma.io/sidecar-uid", "sidecarContainer.uid", "5678");
    reader.sidecar(&uid, 5678);
    let family =
        get("kuma.io/transparent-proxying-ip-family-mode", "sidecarContainer.ipFamilyMode", "dualstack");
    let other = match family.value.trim() {
        "ipv4" => Some("::/0"),
        "ipv6" => Some("0.0.0.0/0"),
        "dualstack" => None,
        _ => {
            reader.bad(&family, &format!("it is dualstack, ipv4 or ipv6; {REFUSES}"));
            None
        }
    };
    for rule in other.into_iter().flat_map(super::leaves_alone) {
        reader.rule(&family, rule);
    }
    // Where ports are included, Kuma does not look at those that are excluded.
    let included = |name: &str| of_proxying(name).filter(|it| !it.value.is_empty());
    let is_off = |name: &str| of_proxying(name).filter(|it| !is_true(&it.value));
    outbound(
        &get,
        (included("redirect.outbound.includePorts"), is_off("redirect.outbound.enabled")),
        &mut reader,
    );
    inbound(
        &get,
        (included("redirect.inbound.includePorts"), is_off("redirect.inbound.enabled")),
        &mut reader,
    );
    others(unit, &mut reader);
    reader.done()
}

type Get<'g> = &'g dyn Fn(&str, &str, &str) -> Setting;

/// Ports that alone are redirected, and what turns a direction off.
type Only<'s> = (Option<&'s Setting>, Option<&'s Setting>);

/// The port of a setting that has one.
fn one_port(setting: &Setting, reader: &mut Reader<'_>) -> Option<u16> {
    let found = port(setting.value.trim());
    found.map_err(|why| reader.bad(setting, &format!("it is {why}; {REFUSES}"))).ok()
}

fn outbound(get: Get<'_>, (included, off): Only<'_>, reader: &mut Reader<'_>) {
    let out = |verdict| Rule::tcp(Direction::Outbound, verdict);
    let excluded = get("traffic.kuma.io/exclude-outbound-ips", "sidecarTraffic.excludeOutboundIPs", "");
    reader.listed(&excluded, prefixes(&excluded.value, true), |list| {
        out(Verdict::Exclude).addresses(list).both()
    });
    let users = get(
        "traffic.kuma.io/exclude-outbound-ports-for-uids",
        "sidecarTraffic.excludeOutboundPortsForUIDs",
        "",
    );
    for rule in reader.items(&users, ports_of_users(&users.value)) {
        reader.rule(&users, rule);
    }
    let dns = get("kuma.io/builtin-dns", "builtinDNS.enabled", "true");
    let dns_port = get("kuma.io/builtin-dns-port", "builtinDNS.port", "15053");
    let dns_port = is_true(&dns.value).then(|| one_port(&dns_port, reader)).flatten();
    let dns_rule = |port| out(Verdict::Redirect(port)).ports(vec![(53, 53)]);
    if let Some(port) = dns_port {
        reader.rule(&dns, Rule { protocols: vec![Protocol::Udp], ..dns_rule(port) });
    }
    if let Some(off) = off {
        return reader.kept(off);
    }
    let excluded = get("traffic.kuma.io/exclude-outbound-ports", "sidecarTraffic.excludeOutboundPorts", "");
    excluded_ports(&excluded, included, Direction::Outbound, reader);
    if let Some(port) = dns_port {
        reader.rule(&dns, dns_rule(port));
    }
    let to =
        get("kuma.io/transparent-proxying-outbound-port", "sidecarContainer.redirectPortOutbound", "15001");
    if let Some(port) = one_port(&to, reader) {
        redirect(&to, included, out(Verdict::Redirect(port)), reader);
    }
}

/// Everything, or the ports that are included.
fn redirect(to: &Setting, included: Option<&Setting>, rule: Rule, reader: &mut Reader<'_>) {
    match included {
        Some(included) => reader.listed(included, ports(&included.value, Some('-')), |list| rule.ports(list)),
        None => reader.rule(to, rule),
    }
}

fn excluded_ports(
    excluded: &Setting,
    included: Option<&Setting>,
    direction: Direction,
    reader: &mut Reader<'_>,
) {
    if included.is_some() {
        if !excluded.value.trim().is_empty() {
            reader.not(excluded, "Kuma reads it only where no ports are included");
        }
        return;
    }
    reader.listed(excluded, ports(&excluded.value, Some('-')), |list| {
        Rule::tcp(direction, Verdict::Exclude).ports(list)
    });
}

fn inbound(get: Get<'_>, (included, off): Only<'_>, reader: &mut Reader<'_>) {
    let into = |verdict| Rule::tcp(Direction::Inbound, verdict);
    let excluded = get("traffic.kuma.io/exclude-inbound-ips", "sidecarTraffic.excludeInboundIPs", "");
    reader.listed(&excluded, prefixes(&excluded.value, true), |list| into(Verdict::Exclude).addresses(list));
    if let Some(off) = off {
        return reader.kept(off);
    }
    let excluded = get("traffic.kuma.io/exclude-inbound-ports", "sidecarTraffic.excludeInboundPorts", "");
    excluded_ports(&excluded, included, Direction::Inbound, reader);
    // Probes come to it, and a sidecar in the way would want to know who they are.
    let probes = get("kuma.io/application-probe-proxy-port", "applicationProbeProxyPort", "9001");
    if probes.value.trim() != "0"
        && included.is_none()
        && let Some(port) = one_port(&probes, reader)
    {
        reader.rule(&probes, into(Verdict::Exclude).ports(vec![(port, port)]));
    }
    let to =
        get("kuma.io/transparent-proxying-inbound-port", "sidecarContainer.redirectPortInbound", "15006");
    if let Some(port) = one_port(&to, reader) {
        redirect(&to, included, into(Verdict::Redirect(port)), reader);
    }
}

/// `[[protocol:][ports:]uids][;…]`, as Kuma reads it: what is not said, and `*`, is all.
fn ports_of_users(text: &str) -> List<Rule> {
    let mut found = List { items: Vec::new(), bad: Vec::new() };
    let entries = text.split(';').map(str::trim).filter(|entry| !entry.is_empty());
    for entry in entries.take(256) {
        match entry_of_users(entry) {
            Ok(rule) => found.items.push(rule),
            Err(why) => found.bad.push((entry.to_owned(), why)),
        }
    }
    found
}

fn entry_of_users(entry: &str) -> Result<Rule, String> {
    let parts: Vec<&str> = entry.split(':').map(str::trim).collect();
    let (protocol, ports_text, users) = match parts.as_slice() {
        [users] => ("*", "*", *users),
        [ports, users] => ("*", *ports, *users),
        [protocol, ports, users] => (*protocol, *ports, *users),
        _ => return Err("more than protocol, ports and users".into()),
    };
    let protocols = match protocol {
        "" | "*" => vec![Protocol::Tcp, Protocol::Udp],
        "tcp" => vec![Protocol::Tcp],
        "udp" => vec![Protocol::Udp],
        _ => return Err("of a protocol that is neither tcp nor udp".into()),
    };
    let all = matches!(ports_text, "" | "*");
    let list = ports(if all { "" } else { ports_text }, Some('-'));
    let users: List<Range<u32>> = ids(users);
    let bad = list.bad.iter().chain(&users.bad).next();
    if let Some((word, why)) = bad {
        return Err(format!("wrong: \"{word}\" is {why}"));
    }
    if users.items.is_empty() {
        return Err("without a user".into());
    }
    // Where no ports are left, all would be excluded.
    if !all && list.items.is_empty() {
        return Err("without a port".into());
    }
    let rule = Rule::tcp(Direction::Outbound, Verdict::Exclude).ports(list.items);
    Ok(Rule { protocols, owner: Owner::users(users.items), ..rule })
}

const NO_CONNTRACK: &str = "there is no connection tracking";
const OF_THE_PROXY: &str = "it says what the sidecar does with what it gets, and stays its own setting";

/// Settings that are no rule, and why.
const OTHERS: [(&str, &str); 6] = [
    ("traffic.kuma.io/drop-invalid-packets", NO_CONNTRACK),
    ("traffic.kuma.io/iptables-logs", "there are no iptables rules: `meshc observe` shows decisions"),
    ("kuma.io/transparent-proxying-ebpf", "interception is in BPF in any case"),
    ("kuma.io/direct-access-services", OF_THE_PROXY),
    ("kuma.io/transparent-proxying-reachable-services", OF_THE_PROXY),
    ("kuma.io/reachable-backends", OF_THE_PROXY),
];

const KNOWN: [&str; 5] = [
    "traffic.kuma.io/exclude-inbound-ports",
    "traffic.kuma.io/exclude-outbound-ports",
    "traffic.kuma.io/exclude-inbound-ips",
    "traffic.kuma.io/exclude-outbound-ips",
    "traffic.kuma.io/exclude-outbound-ports-for-uids",
];

fn others(unit: &Unit<'_>, reader: &mut Reader<'_>) {
    for (name, why) in OTHERS {
        // An injected pod has those that are off.
        if let Some(setting) =
            own(unit, name).filter(|it| !matches!(it.value.trim(), "" | "false" | "disabled"))
        {
            reader.not(&setting, why);
        }
    }
    if let Some(setting) = own(unit, "kuma.io/transparent-proxying").filter(|it| !is_true(&it.value)) {
        reader.not(&setting, "Kuma redirects the pods all the same: the annotation is set by its injector");
    }
    let known = |key: &str| {
        KNOWN.contains(&key) || key == NAMES_PROXYING || OTHERS.iter().any(|(name, _)| *name == key)
    };
    for entry in
        unit.annotations.iter().filter(|entry| entry.key.starts_with("traffic.kuma.io/") && !known(entry.key))
    {
        reader.not(&Setting::own(entry, &unit.title()), "Kuma knows no such annotation");
    }
    for setting in beside(unit, |key| key.starts_with("traffic.kuma.io/") || key == INJECTION) {
        reader.not(&setting, "it stands beside the template of the pods, where Kuma does not read it");
    }
}
