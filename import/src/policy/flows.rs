//! Flows that tell settings apart: one inside each rule, and what the mesh does to it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use mesh_bpf::flow::{Direction, Protocol};

use crate::chain::{Flow, Rule, Verdict, decide, lies_apart, resolve};
use crate::settings::{Chain, Exempt};

/// Lines of a test at the most.
const MOST: usize = 20;

/// Lines of a test of a workload: flows and what happens to them.
pub fn flows(chain: &Chain, sidecar: &BTreeSet<u16>) -> Vec<(Flow, Verdict)> {
    let mut seen = BTreeSet::new();
    let mut told = Vec::new();
    let usual = [
        (Direction::Outbound, Protocol::Tcp),
        (Direction::Outbound, Protocol::Udp),
        (Direction::Inbound, Protocol::Tcp),
    ];
    let usual = usual.map(|(direction, protocol)| Flow {
        direction,
        protocol,
        address: elsewhere(chain),
        port: port_elsewhere(chain),
        user: None,
        group: None,
    });
    let (resolved, _) = resolve(&chain.layers).unwrap_or_default();
    let meeting = resolved.iter().filter(|resolved| resolved.meets.is_some()).map(|resolved| &resolved.rule);
    let rules = chain.layers.iter().map(|layer| &layer.rule).chain(meeting);
    let inside = rules.flat_map(|rule| inside(chain, rule));
    for flow in inside.chain(usual) {
        let is_sidecar = flow.direction == Direction::Inbound && sidecar.contains(&flow.port);
        if told.len() < MOST && !is_sidecar && !lies_apart(&flow.address.into()) && seen.insert(flow) {
            told.push((flow, verdict(chain, &flow)));
        }
    }
    told
}

/// What happens to a flow. Who is exempt goes straight.
fn verdict(chain: &Chain, flow: &Flow) -> Verdict {
    let is_in = |id: Option<u32>, range: &(u32, u32)| id.is_some_and(|id| (range.0..=range.1).contains(&id));
    let is_exempt = chain.exempts.iter().any(|(exempt, _)| match exempt {
        Exempt::Uid(ids) => is_in(flow.user, ids),
        Exempt::Gid(ids) => is_in(flow.group, ids),
        Exempt::Interfaces(_) => false,
    });
    if is_exempt { Verdict::Exclude } else { decide(&chain.layers, flow) }
}

/// Flows inside a rule: at its first and last item.
fn inside(chain: &Chain, rule: &Rule) -> Vec<Flow> {
    // A flow of a cgroup is not asked for.
    if !rule.owner.cgroups.is_empty() {
        return Vec::new();
    }
    let [user, group] = [&rule.owner.users, &rule.owner.groups].map(|ids| ids.first().map(|id| id.0));
    // Where only some ranges are redirected, a port outside of them would tell nothing.
    let near = chain.layers.iter().rev().find_map(|layer| {
        let is_redirect = layer.rule.verdict.is_redirect() && layer.rule.direction == rule.direction;
        layer.rule.addresses.first().filter(|_| is_redirect)
    });
    let somewhere = near.map_or_else(|| elsewhere(chain), host);
    let ends = |protocol: Protocol, port: Option<u16>, net: Option<&IpNet>| Flow {
        direction: rule.direction,
        protocol,
        address: net.map_or(somewhere, host),
        port: port.unwrap_or_else(|| port_elsewhere(chain)),
        user,
        group,
    };
    let at = |protocol: &Protocol| {
        let first = ends(*protocol, rule.ports.first().map(|ports| ports.0), rule.addresses.first());
        [first, ends(*protocol, rule.ports.last().map(|ports| ports.1), rule.addresses.last())]
    };
    rule.protocols.iter().flat_map(at).collect()
}

/// An address that no rule names, where there is one.
fn elsewhere(chain: &Chain) -> IpAddr {
    let some =
        [[192, 0, 2, 1], [198, 51, 100, 1], [203, 0, 113, 1], [10, 1, 2, 3], [172, 16, 1, 1], [8, 8, 8, 8]];
    let some = some.map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    let named = |address: &IpAddr| {
        let nets = chain.layers.iter().flat_map(|layer| &layer.rule.addresses);
        nets.clone().any(|net| net.contains(address))
    };
    some.into_iter().find(|address| !named(address)).unwrap_or(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)))
}

/// A port that no rule names, where there is one.
fn port_elsewhere(chain: &Chain) -> u16 {
    let named = |port: u16| {
        let ports = chain.layers.iter().flat_map(|layer| &layer.rule.ports);
        ports.clone().any(|&(first, last)| (first..=last).contains(&port))
    };
    [80, 8080, 443, 8443, 9000, 7000, 1024].into_iter().find(|&port| !named(port)).unwrap_or(80)
}

/// An address in a prefix: one for examples, or its second, as the first of a network is nobody's.
fn host(net: &IpNet) -> IpAddr {
    let examples: [IpAddr; 2] =
        [Ipv4Addr::new(192, 0, 2, 7).into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7).into()];
    if let Some(example) = examples.into_iter().find(|example| net.contains(example)) {
        return example;
    }
    net.hosts().next().unwrap_or_else(|| net.addr())
}
