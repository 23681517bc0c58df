//! OSM: `pkg/injector/iptables.go` of its last version, whose rules are in iptables alone.

use mesh_bpf::flow::Direction;
use mesh_import::Origin;
use proptest::prelude::*;

use crate::same::{Grid, Pod, imported, maybe, random_pods, same, some_nets, some_ports};
use crate::tables::{ALL, Asked, Rule, Target, all_tcp, by, nets, ports, tcp, to, uid, walk};

/// Lists of the MeshConfig.
#[derive(Clone, Debug, Default)]
struct Config {
    ports: Option<String>,
    inbound: Option<String>,
    excluded: Option<String>,
    included: Option<String>,
    interface: bool,
}

impl Config {
    fn yaml(&self) -> String {
        let list = |list: &Option<String>| {
            let words = list.as_deref().unwrap_or_default().split(',').filter(|word| !word.is_empty());
            words.map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
        };
        format!(
            "---\nkind: MeshConfig\nmetadata: {{name: osm-mesh-config, namespace: osm-system}}\nspec:\n  traffic:\n    \
             outboundPortExclusionList: [{}]\n    inboundPortExclusionList: [{}]\n    outboundIPRangeExclusionList: \
             [{}]\n    outboundIPRangeInclusionList: [{}]\n    networkInterfaceExclusionList: [{}]\n",
            list(&self.ports).replace('"', ""),
            list(&self.inbound).replace('"', ""),
            list(&self.excluded),
            list(&self.included),
            if self.interface { "net1" } else { "" }
        )
    }
}

fn model(
    config: &Config,
    as_it_behaves: bool,
    pod: &Pod,
    direction: Direction,
    asked: &Asked,
) -> Option<u16> {
    if as_it_behaves && asked.address.is_ipv6() {
        return None;
    }
    let both = |annotation: &str, mesh: &Option<String>| {
        let own = pod.annotation(&format!("openservicemesh.io/{annotation}")).unwrap_or_default();
        format!("{own},{}", mesh.as_deref().unwrap_or_default())
    };
    let mut rules: Vec<Rule> = config.interface.then(|| by("net1")).into_iter().collect();
    if direction == Direction::Inbound {
        let excluded = ports(&both("inbound-port-exclusion-list", &config.inbound));
        let own = [15010, 15901, 15902, 15903, 15904];
        rules.extend(excluded.into_iter().chain(own).map(|port| tcp(port, Target::Return)));
        rules.push(all_tcp(15003));
        return walk(&rules, asked);
    }
    let excluded = ports(&both("outbound-port-exclusion-list", &config.ports));
    rules.extend(excluded.into_iter().map(|port| tcp(port, Target::Return)));
    let excluded = nets(&both("outbound-ip-range-exclusion-list", &config.excluded));
    rules.extend(excluded.into_iter().map(|net| to(net, Target::Return)));
    rules.push(uid(1500));
    let included = nets(&both("outbound-ip-range-inclusion-list", &config.included));
    if included.is_empty() {
        rules.push(all_tcp(15001));
    }
    rules.extend(included.into_iter().map(|net| Rule {
        destination: Some(net),
        target: Target::Redirect(15001),
        ..ALL
    }));
    walk(&rules, asked)
}

fn pods() -> impl Strategy<Value = Vec<Pod>> {
    random_pods([
        ("openservicemesh.io/outbound-port-exclusion-list", some_ports().boxed()),
        ("openservicemesh.io/inbound-port-exclusion-list", some_ports().boxed()),
        ("openservicemesh.io/outbound-ip-range-exclusion-list", some_nets().boxed()),
        ("openservicemesh.io/outbound-ip-range-inclusion-list", some_nets().boxed()),
    ])
}

fn config() -> impl Strategy<Value = Config> {
    let lists = (maybe(some_ports()), maybe(some_ports()), maybe(some_nets()), maybe(some_nets()));
    (lists, any::<bool>()).prop_map(|((ports, inbound, excluded, included), interface)| Config {
        ports,
        inbound,
        excluded,
        included,
        interface,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_lists_mean_what_osm_does(config in config(), pods in pods(), as_it_behaves: bool) {
        let all = config.yaml() + &pods.iter().map(Pod::yaml).collect::<String>();
        let (policy, _) = imported(Origin::Osm, &all, as_it_behaves);
        let mut grid = Grid::usual(&[15010, 15901, 15904], &[1500, 1000]);
        grid.interfaces.push("net1");
        let model = |pod: &Pod, direction, asked: &Asked| model(&config, as_it_behaves, pod, direction, asked);
        prop_assert!(same(&policy, &pods, &grid, &[15001, 15003], model) > 1000);
    }
}
