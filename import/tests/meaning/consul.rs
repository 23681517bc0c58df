//! Consul: `sdk/iptables/iptables.go` of Consul, and what `redirect_traffic.go` of consul-k8s hands to it.

use mesh_bpf::flow::{Direction, Protocol};
use mesh_import::Origin;
use proptest::prelude::*;

use crate::same::{Grid, Pod, imported, random_pods, same, some_nets, some_ports};
use crate::tables::{Asked, Rule, Target, all_tcp, nets, ports, tcp, to, udp, uid, walk};

const DOMAIN: &str = "consul.hashicorp.com/";

fn model(as_it_behaves: bool, pod: &Pod, direction: Direction, asked: &Asked) -> Option<u16> {
    if as_it_behaves && asked.address.is_ipv6() {
        return None;
    }
    let own = |name: &str| pod.annotation(&format!("{DOMAIN}{name}")).unwrap_or_default();
    let list = |name: &str| own(&format!("transparent-proxy-exclude-{name}"));
    let mut rules: Vec<Rule> = Vec::new();
    if direction == Direction::Inbound {
        rules.extend(ports(list("inbound-ports")).into_iter().map(|port| tcp(port, Target::Return)));
        rules.push(all_tcp(20000));
        return walk(&rules, asked);
    }
    let users =
        list("uids").split(',').filter(|word| !word.is_empty()).map(|word| word.parse::<u32>().unwrap());
    let exempt: Vec<Rule> = users.chain([5995, 5996]).map(uid).collect();
    // A policy has an exemption for every flow of the user, DNS too; so has a policy's author, who names a proxy.
    rules.extend(exempt);
    if own("consul-dns") == "true" {
        rules.extend([udp(53, Target::Redirect(8600)), tcp(53, Target::Redirect(8600))]);
    }
    rules.extend(ports(list("outbound-ports")).into_iter().map(|port| tcp(port, Target::Return)));
    let excluded = nets(list("outbound-cidrs")).into_iter();
    rules.extend(excluded.map(|net| Rule { protocol: Some(Protocol::Tcp), ..to(net, Target::Return) }));
    rules.push(all_tcp(15001));
    walk(&rules, asked)
}

fn pods() -> impl Strategy<Value = Vec<Pod>> {
    let users = proptest::sample::select(vec!["1000", "1000,1001"]).prop_map(str::to_owned);
    random_pods([
        ("consul.hashicorp.com/transparent-proxy-exclude-inbound-ports", some_ports().boxed()),
        ("consul.hashicorp.com/transparent-proxy-exclude-outbound-ports", some_ports().boxed()),
        ("consul.hashicorp.com/transparent-proxy-exclude-outbound-cidrs", some_nets().boxed()),
        ("consul.hashicorp.com/transparent-proxy-exclude-uids", users.boxed()),
        ("consul.hashicorp.com/consul-dns", Just("true".to_owned()).boxed()),
    ])
    .prop_map(|mut pods| {
        for pod in &mut pods {
            pod.annotations.push((format!("{DOMAIN}connect-inject"), "true".to_owned()));
        }
        pods
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_annotations_mean_what_consul_does(pods in pods(), as_it_behaves: bool) {
        let all = pods.iter().map(Pod::yaml).collect::<String>();
        let (policy, _) = imported(Origin::Consul, &all, as_it_behaves);
        let grid = Grid::usual(&[], &[5995, 5996, 1000, 1001, 7]);
        let model = |pod: &Pod, direction, asked: &Asked| model(as_it_behaves, pod, direction, asked);
        prop_assert!(same(&policy, &pods, &grid, &[15001, 20000, 8600], model) > 1000);
    }
}
