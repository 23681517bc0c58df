//! Kuma: `pkg/transparentproxy/iptables/builder/builder_table_nat.go`.

use mesh_bpf::flow::{Direction, Protocol};
use mesh_import::Origin;
use mesh_import::settings::Became;
use proptest::prelude::*;

use crate::same::{Grid, Pod, imported, random_pods, same, some_nets, some_ports};
use crate::tables::{ALL, Asked, Rule, Target, all_tcp, nets, ports, ranges, tcp, to, udp, uid, walk};

/// What the control plane's configuration has.
#[derive(Clone, Debug, Default)]
struct Config {
    exclude_outbound: Option<u16>,
    dns: bool,
    /// The ConfigMap for transparent proxying, in the pods' namespace or the control plane's.
    proxying: Option<Proxying>,
}

#[derive(Clone, Copy, Debug)]
struct Proxying {
    is_own: bool,
    include: bool,
    exclude_inbound: bool,
    outbound: bool,
}

impl Config {
    fn yaml(&self) -> String {
        let ports = self.exclude_outbound.map_or_else(String::new, |port| port.to_string());
        format!(
            "---\nkind: ConfigMap\nmetadata: {{name: kuma-control-plane-config, namespace: kuma-system}}\ndata:\n  \
             config.yaml: |\n    runtime:\n      kubernetes:\n        injector:\n          sidecarTraffic:\n            \
             excludeOutboundPorts: [{ports}]\n          builtinDNS: {{enabled: {}, port: 15053}}\n",
            self.dns
        ) + &self.proxying.map(Proxying::yaml).unwrap_or_default()
    }
}

impl Proxying {
    fn yaml(self) -> String {
        let namespace = if self.is_own { "shop" } else { "kuma-system" };
        let include = if self.include { "443, 8080" } else { "" };
        let exclude = if self.exclude_inbound { "22" } else { "" };
        format!(
            "---\nkind: ConfigMap\nmetadata: {{name: kuma-transparent-proxy-config, namespace: {namespace}}}\ndata:\n  \
             config.yaml: |\n    kumaDPUser: \"5679\"\n    redirect:\n      inbound: {{excludePorts: [{exclude}], \
             includePorts: [{include}]}}\n      outbound: {{enabled: {}, includePorts: [{include}], excludePortsForUIDs: \
             [\"tcp:22,80:1000\", \"udp:53:1001\"]}}\n",
            self.outbound
        )
    }
}

fn model(config: &Config, pod: &Pod, direction: Direction, asked: &Asked) -> Option<u16> {
    let own = |name: &str| pod.annotation(name).unwrap_or_default();
    let is_v4 = own("kuma.io/transparent-proxying-ip-family-mode") == "ipv4";
    if is_v4 && asked.address.is_ipv6() {
        return None;
    }
    let mut rules: Vec<Rule> = Vec::new();
    let included = config.proxying.is_some_and(|it| it.include);
    let user = if config.proxying.is_some() { 5679 } else { 5678 };
    if direction == Direction::Inbound {
        let sources = nets(own("traffic.kuma.io/exclude-inbound-ips"));
        rules.extend(sources.into_iter().map(|net| Rule { source: Some(net), ..ALL }));
        let of_all = if config.proxying.is_some_and(|it| it.exclude_inbound) { "22" } else { "" };
        let excluded = pod.annotation("traffic.kuma.io/exclude-inbound-ports").unwrap_or(of_all);
        let excluded = ports(excluded);
        if included {
            rules.extend([443, 8080].map(|port| tcp(port, Target::Redirect(15006))));
            return walk(&rules, asked);
        }
        let probes = own("kuma.io/application-probe-proxy-port");
        let probes: u16 = if probes.is_empty() { 9001 } else { probes.parse().unwrap() };
        let excluded = excluded.into_iter().chain((probes > 0).then_some(probes));
        rules.extend(excluded.map(|port| tcp(port, Target::Return)));
        rules.push(all_tcp(15006));
        return walk(&rules, asked);
    }
    rules.extend(
        nets(own("traffic.kuma.io/exclude-outbound-ips")).into_iter().map(|net| to(net, Target::Return)),
    );
    let of_all = if config.proxying.is_some() { "tcp:22,80:1000;udp:53:1001" } else { "" };
    let users = pod.annotation("traffic.kuma.io/exclude-outbound-ports-for-uids").unwrap_or(of_all);
    for entry in users.split(';').filter(|it| !it.is_empty()) {
        let parts: Vec<&str> = entry.split(':').collect();
        let (protocol, list, users) = match parts[..] {
            [users] => ("*", "*", users),
            [list, users] => ("*", list, users),
            [protocol, list, users] => (protocol, list, users),
            _ => panic!("{entry}"),
        };
        let list = if list == "*" { vec![(1, u16::MAX)] } else { ranges(list) };
        let (first, last) = users.split_once('-').unwrap_or((users, users));
        let users = Some((first.parse().unwrap(), last.parse().unwrap()));
        for (word, kind) in [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)] {
            if protocol == "*" || protocol == word {
                rules.extend(list.iter().map(|&ports| Rule {
                    protocol: Some(kind),
                    ports: Some(ports),
                    uid: users,
                    ..ALL
                }));
            }
        }
    }
    if config.dns {
        rules.push(Rule { uid: Some((user, user)), ..udp(53, Target::Return) });
        rules.push(udp(53, Target::Redirect(15053)));
    }
    if config.proxying.is_some_and(|it| !it.outbound) {
        return walk(&rules, asked);
    }
    let mesh = config.exclude_outbound.map_or_else(String::new, |port| port.to_string());
    let excluded = pod.annotation("traffic.kuma.io/exclude-outbound-ports").unwrap_or(&mesh);
    if !included {
        rules.extend(ports(excluded).into_iter().map(|port| tcp(port, Target::Return)));
    }
    rules.push(uid(user));
    if config.dns {
        rules.push(tcp(53, Target::Redirect(15053)));
    }
    if included {
        rules.extend([443, 8080].map(|port| tcp(port, Target::Redirect(15001))));
    } else {
        rules.push(all_tcp(15001));
    }
    walk(&rules, asked)
}

fn users() -> impl Strategy<Value = String> {
    let some = [
        "tcp:22,80-90:1000-2000",
        "udp:53:1001",
        "*:*:1000",
        "443:1001-1002",
        "1500",
        "tcp:*:1001;udp:80:1500",
    ];
    proptest::sample::select(some.to_vec()).prop_map(str::to_owned)
}

fn pods() -> impl Strategy<Value = Vec<Pod>> {
    random_pods([
        ("traffic.kuma.io/exclude-inbound-ports", some_ports().boxed()),
        ("traffic.kuma.io/exclude-outbound-ports", some_ports().boxed()),
        ("traffic.kuma.io/exclude-inbound-ips", some_nets().boxed()),
        ("traffic.kuma.io/exclude-outbound-ips", some_nets().boxed()),
        ("traffic.kuma.io/exclude-outbound-ports-for-uids", users().boxed()),
        ("kuma.io/transparent-proxying-ip-family-mode", Just("ipv4".to_owned()).boxed()),
        (
            "kuma.io/application-probe-proxy-port",
            proptest::sample::select(vec!["0", "9100"]).prop_map(str::to_owned).boxed(),
        ),
    ])
}

fn proxying() -> impl Strategy<Value = Option<Proxying>> {
    let some = (any::<[bool; 4]>()).prop_map(|[is_own, include, exclude_inbound, outbound]| Proxying {
        is_own,
        include,
        exclude_inbound,
        outbound: outbound || include,
    });
    proptest::option::of(some)
}

const SIDECAR: [u16; 3] = [15001, 15006, 15053];

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_annotations_mean_what_kuma_does(pods in pods(), dns: bool, exclude_outbound in proptest::option::of(Just(9090)), proxying in proxying()) {
        let config = Config { exclude_outbound, dns, proxying };
        let all = config.yaml() + &pods.iter().map(Pod::yaml).collect::<String>();
        let (policy, _) = imported(Origin::Kuma, &all, false);
        let grid = Grid::usual(&[90, 1024, 9001, 9100], &[5678, 5679, 1000, 1001, 1500, 7]);
        let model = |pod: &Pod, direction, asked: &Asked| model(&config, pod, direction, asked);
        prop_assert!(same(&policy, &pods, &grid, &SIDECAR, model) > 1000);
    }
}

#[test]
fn a_config_map_that_pods_name_goes_before_the_usual_one() {
    let map = |name: &str, port: u16| {
        format!(
            "---\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: kuma-system}}\ndata:\n  config.yaml: |\n    redirect: \
             {{outbound: {{excludePorts: [{port}]}}}}\n"
        )
    };
    let names = |name| [("traffic.kuma.io/transparent-proxy-configmap-name", name)];
    let pods = [
        Pod::new("usual", "shop", &[]),
        Pod::new("own", "shop", &names("own")),
        Pod::new("lost", "shop", &names("nowhere")),
    ];
    let all = map("kuma-transparent-proxy-config", 3306) + &map("own", 8080);
    let all = all + &pods.iter().map(Pod::yaml).collect::<String>();
    let (policy, found) = imported(Origin::Kuma, &all, false);
    let grid = Grid::usual(&[9001], &[5678, 1000]);
    same(&policy, &pods, &grid, &SIDECAR, |pod, direction, asked| {
        let port = if pod.name == "own" { "8080" } else { "3306" };
        let mut pod = pod.clone();
        pod.annotations = vec![("traffic.kuma.io/exclude-outbound-ports".to_owned(), port.to_owned())];
        model(&Config { dns: true, ..Config::default() }, &pod, direction, asked)
    });
    assert_eq!((found.report.count(Became::Bad), found.report.count(Became::Comment)), (0, 1), "{policy}");
}

#[test]
fn what_kuma_cannot_read_is_told_and_the_rest_is_kept() {
    let annotations = [
        ("traffic.kuma.io/exclude-outbound-ports-for-uids", "tcp:22:1000;sctp:1:2;tcp:x:3;:;tcp:22:"),
        ("traffic.kuma.io/iptables-logs", "true"),
        ("kuma.io/transparent-proxying-ip-family-mode", "v4"),
    ];
    let (policy, found) = imported(Origin::Kuma, &Pod::new("cart", "shop", &annotations).yaml(), false);
    assert!(policy.contains("exclude outbound tcp 22 as uid 1000\n"), "{policy}");
    assert_eq!((found.report.count(Became::Bad), found.report.count(Became::Comment)), (2, 1), "{policy}");
}
