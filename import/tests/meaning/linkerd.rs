//! Linkerd: `linkerd2-proxy-init/pkg/iptables/iptables.go`, and what the injector hands to it.

use mesh_bpf::flow::Direction;
use mesh_import::Origin;
use proptest::prelude::*;

use crate::same::{Grid, Pod, imported, maybe, random_pods, same, some_nets, some_ranges};
use crate::tables::{ALL, Asked, Rule, Target, all_tcp, nets, ranges, tcp, tcp_range, uid, walk};

/// Annotations of the namespace.
#[derive(Clone, Debug, Default)]
struct Space {
    outbound: Option<String>,
    inbound: Option<String>,
}

impl Space {
    fn yaml(&self) -> String {
        let mut out =
            "---\nkind: Namespace\nmetadata:\n  name: shop\n  annotations:\n    linkerd.io/inject: enabled\n"
                .to_owned();
        for (name, value) in [("outbound", &self.outbound), ("inbound", &self.inbound)] {
            if let Some(value) = value {
                out += &format!("    config.linkerd.io/skip-{name}-ports: \"{value}\"\n");
            }
        }
        out
    }
}

fn model(space: &Space, as_it_behaves: bool, pod: &Pod, direction: Direction, asked: &Asked) -> Option<u16> {
    if as_it_behaves && asked.address.is_ipv6() {
        return None;
    }
    let get = |name: &str, space: &Option<String>| {
        let own = pod.annotation(&format!("config.linkerd.io/{name}"));
        own.or(space.as_deref()).unwrap_or("4567,4568").to_owned()
    };
    let mut rules: Vec<Rule> = Vec::new();
    if direction == Direction::Inbound {
        rules.extend([tcp(4190, Target::Return), tcp(4191, Target::Return)]);
        let skipped = ranges(&get("skip-inbound-ports", &space.inbound));
        rules.extend(skipped.into_iter().map(|ports| tcp_range(ports, Target::Return)));
        let subnets = nets(pod.annotation("config.linkerd.io/skip-subnets").unwrap_or_default());
        rules.extend(subnets.into_iter().map(|net| Rule { source: Some(net), ..ALL }));
        rules.push(all_tcp(4143));
        return walk(&rules, asked);
    }
    rules.push(uid(2102));
    let skipped = ranges(&get("skip-outbound-ports", &space.outbound));
    rules.extend(skipped.into_iter().map(|ports| tcp_range(ports, Target::Return)));
    rules.push(all_tcp(4140));
    walk(&rules, asked)
}

fn pods() -> impl Strategy<Value = Vec<Pod>> {
    random_pods([
        ("config.linkerd.io/skip-outbound-ports", some_ranges().boxed()),
        ("config.linkerd.io/skip-inbound-ports", some_ranges().boxed()),
        ("config.linkerd.io/skip-subnets", some_nets().boxed()),
        ("config.linkerd.io/opaque-ports", Just("3306".to_owned()).boxed()),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_annotations_mean_what_linkerd_does(
        outbound in maybe(some_ranges()),
        inbound in maybe(some_ranges()),
        pods in pods(),
        as_it_behaves: bool,
    ) {
        let space = Space { outbound, inbound };
        let all = space.yaml() + &pods.iter().map(Pod::yaml).collect::<String>();
        let (policy, _) = imported(Origin::Linkerd, &all, as_it_behaves);
        let grid = Grid::usual(&[90, 1024, 4190, 4191, 4567, 9090], &[2102, 1000]);
        let model = |pod: &Pod, direction, asked: &Asked| model(&space, as_it_behaves, pod, direction, asked);
        prop_assert!(same(&policy, &pods, &grid, &[4140, 4143], model) > 1000);
    }
}
