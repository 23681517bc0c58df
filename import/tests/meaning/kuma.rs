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
}

impl Config {
    fn yaml(&self) -> String {
        let ports = self.exclude_outbound.map_or_else(String::new, |port| port.to_string());
        format!(
            "---\nkind: ConfigMap\nmetadata: {{name: kuma-control-plane-config, namespace: kuma-system}}\ndata:\n  \
             config.yaml: |\n    runtime:\n      kubernetes:\n        injector:\n          sidecarTraffic:\n            \
             excludeOutboundPorts: [{ports}]\n          builtinDNS: {{enabled: {}, port: 15053}}\n",
            self.dns
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
    if direction == Direction::Inbound {
        let sources = nets(own("traffic.kuma.io/exclude-inbound-ips"));
        rules.extend(sources.into_iter().map(|net| Rule { source: Some(net), ..ALL }));
        let excluded = ports(own("traffic.kuma.io/exclude-inbound-ports"));
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
    for entry in own("traffic.kuma.io/exclude-outbound-ports-for-uids").split(';').filter(|it| !it.is_empty())
    {
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
        rules.push(Rule { uid: Some((5678, 5678)), ..udp(53, Target::Return) });
        rules.push(udp(53, Target::Redirect(15053)));
    }
    let mesh = config.exclude_outbound.map_or_else(String::new, |port| port.to_string());
    let excluded = pod.annotation("traffic.kuma.io/exclude-outbound-ports").unwrap_or(&mesh);
    rules.extend(ports(excluded).into_iter().map(|port| tcp(port, Target::Return)));
    rules.push(uid(5678));
    if config.dns {
        rules.push(tcp(53, Target::Redirect(15053)));
    }
    rules.push(all_tcp(15001));
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

const SIDECAR: [u16; 3] = [15001, 15006, 15053];

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_annotations_mean_what_kuma_does(pods in pods(), dns: bool, exclude_outbound in proptest::option::of(Just(9090))) {
        let config = Config { exclude_outbound, dns };
        let all = config.yaml() + &pods.iter().map(Pod::yaml).collect::<String>();
        let (policy, _) = imported(Origin::Kuma, &all, false);
        let grid = Grid::usual(&[90, 1024, 9001, 9100], &[5678, 1000, 1001, 1500, 7]);
        let model = |pod: &Pod, direction, asked: &Asked| model(&config, pod, direction, asked);
        prop_assert!(same(&policy, &pods, &grid, &SIDECAR, model) > 1000);
    }
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
