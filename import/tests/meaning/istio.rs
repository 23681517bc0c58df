//! Istio: `tools/istio-iptables/pkg/capture/run.go`, and what the injection template hands to it.

use ipnet::IpNet;
use mesh_bpf::flow::Direction;
use mesh_import::Origin;
use mesh_import::settings::Became;
use proptest::prelude::*;

use crate::same::{Grid, Pod, imported, maybe, random_pods, same, some_nets, some_ports};
use crate::tables::{ALL, Asked, Rule, Target, all_tcp, by, nets, ports, tcp, to, udp, uid, walk};

const PREFIX: &str = "traffic.sidecar.istio.io/";

/// The chart's values: each is what an annotation of its name replaces.
#[derive(Clone, Debug, Default)]
struct Values {
    include_ranges: Option<String>,
    exclude_ranges: Option<String>,
    exclude_inbound: Option<String>,
    exclude_outbound: Option<String>,
    include_outbound: Option<String>,
    dns: bool,
    resolver: Option<String>,
    groups: Groups,
}

/// The groups that are listed.
#[derive(Clone, Copy, Debug, Default)]
enum Groups {
    #[default]
    None,
    Only,
    Not,
    /// Both lists.
    Both,
}

/// Those that are included, and those that are excluded.
const ONLY: &[u32] = &[202, 203];
const NOT: u32 = 204;

impl Values {
    fn yaml(&self) -> String {
        let mut proxy = String::new();
        let names = [
            ("includeIPRanges", &self.include_ranges),
            ("excludeIPRanges", &self.exclude_ranges),
            ("excludeInboundPorts", &self.exclude_inbound),
            ("excludeOutboundPorts", &self.exclude_outbound),
            ("includeOutboundPorts", &self.include_outbound),
        ];
        for (name, value) in names {
            if let Some(value) = value {
                proxy += &format!("          \"{name}\": \"{value}\",\n");
            }
        }
        let mut dns = String::new();
        if self.dns {
            dns += "\n        ISTIO_META_DNS_CAPTURE: \"true\"";
        }
        if matches!(self.groups, Groups::Only | Groups::Both) {
            dns += "\n        ISTIO_OUTBOUND_OWNER_GROUPS: \"202,203\"";
        }
        if matches!(self.groups, Groups::Not | Groups::Both) {
            dns += "\n        ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE: \"204\"";
        }
        if dns.is_empty() {
            dns += " {}";
        }
        let mut out = format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio-sidecar-injector, namespace: istio-system}}\ndata:\n  \
             values: |-\n    {{\n      \"global\": {{\n        \"proxy\": {{\n{proxy}          \"statusPort\": 15020\n        \
             }}\n      }}\n    }}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: \
             istio-system}}\ndata:\n  mesh: |-\n    defaultConfig:\n      proxyMetadata:{dns}\n"
        );
        if let Some(resolver) = &self.resolver {
            out += &format!(
                "---\napiVersion: v1\nkind: Service\nmetadata: {{name: kube-dns, namespace: kube-system}}\nspec: {{clusterIP: \
                 {resolver}}}\n"
            );
        }
        out
    }
}

/// The port that a flow is redirected to.
fn model(
    values: &Values,
    as_it_behaves: bool,
    pod: &Pod,
    direction: Direction,
    asked: &Asked,
) -> Option<u16> {
    let get = |name: &str, value: &Option<String>, default: &str| {
        let own = pod.annotation(&format!("{PREFIX}{name}"));
        own.or(value.as_deref()).unwrap_or(default).to_owned()
    };
    let mut rules = Vec::new();
    if pod.annotation("traffic.sidecar.istio.io/excludeInterfaces").is_some() {
        rules.push(by("net1"));
    }
    if direction == Direction::Inbound {
        let include = get("includeInboundPorts", &None, "*");
        let exclude = get("excludeInboundPorts", &values.exclude_inbound, "");
        rules.push(tcp(15008, Target::Return));
        let exclusions = || ports(&exclude).into_iter().map(|port| tcp(port, Target::Return));
        if include == "*" {
            rules.extend([15090, 15021, 15020].map(|port| tcp(port, Target::Return)));
            rules.extend(exclusions());
            rules.push(all_tcp(15006));
        } else {
            // Istio does not look at exclusions here. What was meant by them is another matter.
            if !as_it_behaves {
                rules.extend(exclusions());
            }
            rules.extend(ports(&include).into_iter().map(|port| tcp(port, Target::Redirect(15006))));
        }
        return walk(&rules, asked);
    }
    for port in ports(&get("excludeOutboundPorts", &values.exclude_outbound, "")) {
        rules.extend([tcp(port, Target::Return), udp(port, Target::Return)]);
    }
    rules.extend([uid(1337), Rule { gid: Some(1337), ..ALL }]);
    match values.groups {
        Groups::None => {}
        Groups::Only | Groups::Both => rules.push(Rule { no_gid: ONLY, ..ALL }),
        Groups::Not => rules.push(Rule { gid: Some(NOT), ..ALL }),
    }
    if values.dns {
        let servers: Vec<Option<IpNet>> = match &values.resolver {
            Some(resolver) => nets(resolver).into_iter().map(Some).collect(),
            None => vec![None],
        };
        for destination in servers {
            let target = Target::Redirect(15053);
            rules.extend([Rule { destination, ..tcp(53, target) }, Rule { destination, ..udp(53, target) }]);
        }
    }
    let exclude = get("excludeOutboundIPRanges", &values.exclude_ranges, "");
    rules.extend(nets(&exclude).into_iter().map(|net| to(net, Target::Return)));
    let include = get("includeOutboundPorts", &values.include_outbound, "");
    rules.extend(ports(&include).into_iter().map(|port| tcp(port, Target::Redirect(15001))));
    match get("includeOutboundIPRanges", &values.include_ranges, "*").as_str() {
        "*" => rules.push(Rule { target: Target::Redirect(15001), ..ALL }),
        list => rules.extend(nets(list).into_iter().map(|net| to(net, Target::Redirect(15001)))),
    }
    walk(&rules, asked)
}

fn grid() -> Grid {
    let grid = Grid::usual(&[15008, 15020, 15021, 15090], &[1337, 1000]);
    Grid { gids: vec![7, 1337, 202, NOT], interfaces: vec!["eth0", "net1"], ..grid }
}

const SIDECAR: [u16; 3] = [15001, 15006, 15053];

fn pods() -> impl Strategy<Value = Vec<Pod>> {
    let ports_or_all = || prop_oneof![some_ports(), Just("*".to_owned()), Just(String::new())];
    let nets_or_all = || prop_oneof![3 => some_nets(), 1 => Just("*".to_owned()), 1 => Just(String::new())];
    random_pods([
        ("traffic.sidecar.istio.io/excludeOutboundPorts", some_ports().boxed()),
        ("traffic.sidecar.istio.io/excludeOutboundIPRanges", some_nets().boxed()),
        ("traffic.sidecar.istio.io/includeOutboundPorts", some_ports().boxed()),
        ("traffic.sidecar.istio.io/includeOutboundIPRanges", nets_or_all().boxed()),
        ("traffic.sidecar.istio.io/includeInboundPorts", ports_or_all().boxed()),
        ("traffic.sidecar.istio.io/excludeInboundPorts", some_ports().boxed()),
        ("traffic.sidecar.istio.io/excludeInterfaces", Just("net1".to_owned()).boxed()),
    ])
}

fn values() -> impl Strategy<Value = Values> {
    let resolver = maybe(Just("10.96.0.10".to_owned()));
    let groups = proptest::sample::select(vec![Groups::None, Groups::Only, Groups::Not, Groups::Both]);
    let lists = (maybe(some_nets()), maybe(some_nets()), maybe(some_ports()), maybe(some_ports()));
    (lists, any::<bool>(), resolver, groups).prop_map(|(lists, dns, resolver, groups)| {
        let (include_ranges, exclude_ranges, exclude_inbound, exclude_outbound) = lists;
        Values {
            include_ranges,
            exclude_ranges,
            exclude_inbound,
            exclude_outbound,
            include_outbound: None,
            dns,
            resolver,
            groups,
        }
    })
}

fn text(values: &Values, pods: &[Pod]) -> String {
    values.yaml() + &pods.iter().map(Pod::yaml).collect::<String>()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_annotations_mean_what_istio_does(values in values(), pods in pods(), as_it_behaves: bool, injected: bool) {
        let mut all = text(&values, &pods);
        if injected {
            all += "---\nkind: Namespace\nmetadata: {name: shop, labels: {istio-injection: enabled}}\n";
        }
        let (policy, _) = imported(Origin::Istio, &all, as_it_behaves);
        let model = |pod: &Pod, direction, asked: &Asked| model(&values, as_it_behaves, pod, direction, asked);
        prop_assert!(same(&policy, &pods, &grid(), &SIDECAR, model) > 1000);
    }
}

#[test]
fn dns_comes_before_excluded_ranges_and_behind_excluded_ports() {
    let values = Values { dns: true, ..Values::default() };
    let pods = [
        Pod::new("ranges", "shop", &[("traffic.sidecar.istio.io/excludeOutboundIPRanges", "10.0.0.0/8")]),
        Pod::new("port", "shop", &[("traffic.sidecar.istio.io/excludeOutboundPorts", "53")]),
    ];
    let (policy, _) = imported(Origin::Istio, &text(&values, &pods), false);
    same(&policy, &pods, &grid(), &SIDECAR, |pod, direction, asked| {
        model(&values, false, pod, direction, asked)
    });
    assert!(policy.contains("redirect outbound tcp 53 to 10.0.0.0/8 -> 15053"), "{policy}");
    let dead = "is not written: traffic.sidecar.istio.io/excludeOutboundPorts covers it and comes first";
    let words = policy.split_whitespace().filter(|word| *word != "#").collect::<Vec<_>>().join(" ");
    assert!(words.contains(dead), "{policy}");
}

#[test]
fn an_exclusion_that_istio_does_not_read_is_written_as_it_was_meant_or_kept_unread() {
    let annotations = [
        ("traffic.sidecar.istio.io/includeInboundPorts", "80,9090"),
        ("traffic.sidecar.istio.io/excludeInboundPorts", "9090"),
    ];
    let pods = [Pod::new("cart", "shop", &annotations)];
    for as_it_behaves in [false, true] {
        let values = Values::default();
        let (policy, found) = imported(Origin::Istio, &text(&values, &pods), as_it_behaves);
        same(&policy, &pods, &grid(), &SIDECAR, |pod, direction, asked| {
            model(&values, as_it_behaves, pod, direction, asked)
        });
        assert_eq!(policy.contains("exclude inbound tcp 9090"), !as_it_behaves, "{policy}");
        assert_eq!(found.report.count(Became::Comment), usize::from(as_it_behaves));
    }
}

#[test]
fn every_setting_that_is_no_rule_is_a_comment_and_is_counted() {
    let annotations = [
        ("traffic.sidecar.istio.io/excludeInterfaces", "net1"),
        ("traffic.sidecar.istio.io/kubevirtInterfaces", "vnet0"),
        ("traffic.sidecar.istio.io/excludeOutboundPort", "80"),
        ("traffic.sidecar.istio.io/excludeOutboundPorts", "80,8000-8999,x"),
        ("sidecar.istio.io/interceptionMode", "TPROXY"),
    ];
    let pods = [Pod::new("cart", "shop", &annotations)];
    let (policy, found) = imported(Origin::Istio, &text(&Values::default(), &pods), false);
    for (name, _) in annotations.iter().skip(1) {
        let comments =
            policy.lines().filter(|line| line.trim_start().starts_with("# ") && line.contains(name));
        assert!(comments.count() > 0, "{name}\n{policy}");
    }
    assert_eq!((found.report.count(Became::Bad), found.report.count(Became::Comment)), (1, 3));
    assert_eq!(found.diagnostics.len(), 4);
    assert!(policy.contains("exempt interface \"net1\" "), "{policy}");
    assert!(policy.contains("exclude outbound tcp 80 "), "{policy}");
}

#[test]
fn groups_that_have_names_are_told() {
    let config = |list: &str| format!("{{\"proxyMetadata\": {{\"{list}\": \"java, 202\"}}}}");
    for (list, rule) in [
        ("ISTIO_OUTBOUND_OWNER_GROUPS", "redirect outbound as gid 202 -> 15001"),
        ("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", "exempt gid 202 "),
    ] {
        let pod = Pod::new("cart", "shop", &[("proxy.istio.io/config", &config(list))]);
        let (policy, found) = imported(Origin::Istio, &text(&Values::default(), &[pod]), false);
        assert!(policy.contains(rule), "{policy}");
        assert_eq!(found.report.count(Became::Bad), 1, "{policy}");
    }
}

#[test]
fn each_revision_has_its_own_settings() {
    let map = |revision: &str, port: u16| {
        format!(
            "---\nkind: ConfigMap\nmetadata: {{name: istio-sidecar-injector{revision}, namespace: istio-system}}\ndata:\n  values: \
             '{{\"global\": {{\"proxy\": {{\"excludeOutboundPorts\": \"{port}\"}}}}}}'\n"
        )
    };
    let space = |name: &str, label: &str| {
        format!("---\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{label}}}}}\n")
    };
    let mut pods: Vec<Pod> =
        ["usual", "next", "tagged", "lost", "bare"].map(|name| Pod::new(name, name, &[])).into();
    // The namespace goes before the pods, and says nothing for the last.
    pods.iter_mut().for_each(|pod| pod.labels.push(("istio.io/rev".to_owned(), "next".to_owned())));
    let all = map("", 3306)
        + &map("-next", 8080)
        + "---\nkind: MutatingWebhookConfiguration\nmetadata: {name: istio-revision-tag-stable, labels: {istio.io/tag: stable, \
           istio.io/rev: next}}\n"
        + &space("usual", "istio-injection: enabled, istio.io/rev: next")
        + &space("next", "istio.io/rev: next")
        + &space("tagged", "istio.io/rev: stable")
        + &space("lost", "istio.io/rev: older")
        + &space("bare", "team: a")
        + &pods.iter().map(Pod::yaml).collect::<String>();
    let (policy, found) = imported(Origin::Istio, &all, false);
    let excluded = |name: &str| match name {
        "usual" => Some("3306"),
        "lost" => None,
        _ => Some("8080"),
    };
    same(&policy, &pods, &grid(), &SIDECAR, |pod, direction, asked| {
        let values = Values { exclude_outbound: excluded(&pod.name).map(str::to_owned), ..Values::default() };
        model(&values, false, pod, direction, asked)
    });
    assert_eq!(found.report.count(Became::Comment), 1, "{policy}");
    assert!(policy.contains("istio.io/rev: \"older\", namespace lost: nothing of this revision"), "{policy}");
}

#[test]
fn pods_that_istio_leaves_alone_are_in_no_workload() {
    let mut out = Pod::new("out", "shop", &[("sidecar.istio.io/inject", "false")]).yaml();
    out += &Pod::new("none", "shop", &[("sidecar.istio.io/interceptionMode", "NONE")]).yaml();
    out += &Pod::new("host", "shop", &[])
        .yaml()
        .replace("spec: {containers", "spec: {hostNetwork: true, containers");
    out += &Pod::new("elsewhere", "plain", &[]).yaml();
    out += &Pod::new("cart", "shop", &[]).yaml();
    out += "---\nkind: Namespace\nmetadata: {name: plain}\n";
    let (policy, found) = imported(Origin::Istio, &out, false);
    assert_eq!(found.workloads, 1, "{policy}");
    for name in ["out", "none", "host", "elsewhere"] {
        assert!(
            policy.lines().any(|line| line.starts_with("# Not in the mesh") && line.contains(name)),
            "{policy}"
        );
    }
}
