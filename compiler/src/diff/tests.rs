use mesh_bpf::flow::{Direction, Flow, Identity, Protocol};
use mesh_bpf::ports::{PortRange, PortSet};
use mesh_bpf::sim::Sim;

use super::addresses_text;
use super::{Difference, Side, causes, diff};
use crate::compile::{Compiled, compile};
use crate::emit::Sets;
use crate::resolve::{Location, NoImports};

fn compiled(text: &str) -> Compiled {
    let place = Location { key: "a".into(), name: "a.mesh".into() };
    let done = compile(vec![(place, text.as_bytes().to_vec())], &mut NoImports, None);
    done.compiled.unwrap_or_else(|| panic!("{:#?}", done.diagnostics))
}

fn side(compiled: &Compiled) -> Side<'_> {
    static NONE: std::sync::LazyLock<Sets> = std::sync::LazyLock::new(Sets::default);
    Side { image: &compiled.image, tables: &compiled.tables, sets: &NONE }
}

fn difference(old: &Compiled, new: &Compiled) -> Difference {
    diff(Some(side(old)), Some(side(new))).unwrap()
}

#[track_caller]
fn check(old: &str, new: &str, expect: &[&str]) {
    let (old, new) = (compiled(old), compiled(new));
    let difference = difference(&old, &new);
    let lines: Vec<String> = (difference.flows.iter())
        .map(|c| {
            let own = if c.own { " own" } else { "" };
            format!(
                "{} {} {} {}{own} {}: {} -> {}",
                c.workload,
                c.direction,
                c.protocol,
                if c.patch.ports == PortSet::from(PortRange { first: 1, last: u16::MAX }) {
                    "any".into()
                } else {
                    c.patch.ports.to_string()
                },
                addresses_text(&c.patch.addresses),
                c.before,
                c.after
            )
        })
        .collect();
    assert_eq!(lines, expect);
    agree(&old, &new, &difference);
}

/// At every flow of a grid the verdict differs exactly where the difference says so.
fn agree(old: &Compiled, new: &Compiled, difference: &Difference) {
    let (left, right) = (Sim::new(&old.tables).unwrap(), Sim::new(&new.tables).unwrap());
    let addresses = [
        "0.0.0.0",
        "1.2.3.4",
        "10.0.0.1",
        "10.0.3.9",
        "10.1.0.0",
        "127.0.0.1",
        "224.0.0.251",
        "fd00::1",
        "::1",
        "fe80::1",
        "ff02::fb",
    ];
    for workload in &new.image.workloads {
        let before = old.image.workload(&workload.name).unwrap().profile;
        for direction in Direction::ALL {
            for protocol in Protocol::ALL {
                for (address, port) in
                    addresses.iter().flat_map(|a| [1, 25, 80, 443, 3306, 15001, 65535].map(|p| (a, p)))
                {
                    let address = address.parse().unwrap();
                    let flow = Flow { direction, protocol, address, port, own: false };
                    let who = Identity::default();
                    let one = left.decide(before, &flow, &who).unwrap().verdict();
                    let other = right.decide(workload.profile, &flow, &who).unwrap().verdict();
                    let said = difference.flows.iter().find(|c| {
                        let holds = |r: &crate::hir::region::AddressRange| match address {
                            std::net::IpAddr::V4(v4) => {
                                r.family == crate::hir::region::Family::V4
                                    && (r.first..=r.last).contains(&v4.to_bits().into())
                            }
                            std::net::IpAddr::V6(v6) => {
                                r.family == crate::hir::region::Family::V6
                                    && (r.first..=r.last).contains(&v6.to_bits())
                            }
                        };
                        c.workload == workload.name
                            && (c.direction, c.protocol, c.own) == (direction, protocol, false)
                            && c.patch.ports.contains(port)
                            && c.patch.addresses.iter().any(holds)
                    });
                    assert_eq!(
                        said.map(|c| (c.before, c.after)),
                        (one != other).then_some((one, other)),
                        "{flow:?}"
                    );
                }
            }
        }
    }
}

const BASE: &str = "exempt uid 1500\nredirect outbound -> 15001\nmesh m {\n  workload a { cgroup \"/a\" }\n  workload b { cgroup \"/b\" }\n";

fn policy(rest: &str) -> String {
    format!("{BASE}{rest}\n}}\n")
}

#[test]
fn a_comment_or_another_order_changes_nothing() {
    let one = "exclude outbound tcp 25, 80 to 10.0.0.0/8, fd00::/8";
    let other = "# so\nexclude outbound tcp 80 to fd00::/8, 10.0.0.0/8\nexclude outbound tcp 25 to 10.0.0.0/8\nexclude outbound tcp 25 to fd00::/8";
    let (one, other) = (compiled(&policy(one)), compiled(&policy(other)));
    assert!(difference(&one, &other).is_empty());
}

#[test]
fn a_new_exclusion_is_one_line_a_workload() {
    check(
        &policy(""),
        &policy("exclude outbound tcp 3306 to 10.0.0.0/8"),
        &[
            "m/a outbound tcp 3306 10.0.0.0/8: redirected 15001 -> excluded",
            "m/b outbound tcp 3306 10.0.0.0/8: redirected 15001 -> excluded",
        ],
    );
}

#[test]
fn neighbouring_addresses_and_ports_are_merged() {
    check(
        &policy(""),
        &policy("for a { deny outbound tcp 25, 26 to 10.0.0.0/9, 10.128.0.0/9 }"),
        &["m/a outbound tcp 25-26 10.0.0.0/8: redirected 15001 -> denied"],
    );
}

#[test]
fn a_rule_without_address_spares_loopback() {
    check(
        &policy(""),
        &policy("for b { deny outbound udp }"),
        &["m/b outbound udp any any but loopback, multicast, link-local: excluded -> denied"],
    );
}

#[test]
fn a_renamed_workload_is_compared_with_what_it_was() {
    let (old, new) = (policy(""), policy("").replace("workload b", "workload zebra"));
    let (old, new) = (compiled(&old), compiled(&new));
    let found = difference(&old, &new);
    assert!(found.flows.is_empty(), "{:?}", found.flows);
    let told: Vec<String> =
        found.members.iter().map(|change| format!("{} {}", change.workload, change.what.words())).collect();
    assert_eq!(told, ["m/zebra was m/b"]);
}

#[test]
fn a_change_has_the_rule_that_makes_it() {
    let rules =
        ["", "exclude outbound tcp 3306 to 10.0.0.0/8", "exclude outbound tcp 3306 to 10.0.0.0/8, fd00::/8"];
    let all = rules.map(|rules| compiled(&policy(rules)));
    let told = |old: &Compiled, new: &Compiled| -> Vec<(String, bool)> {
        let change = difference(old, new).flows.remove(0);
        let causes = causes(Some(side(old)), Some(side(new)), &change);
        causes.into_iter().map(|cause| (cause.text, cause.gone)).collect()
    };
    let item = |prefix: &str| format!("m: exclude outbound tcp 3306 to {prefix}");
    assert_eq!(told(&all[0], &all[1]), [(item("10.0.0.0/8"), false)]);
    assert_eq!(told(&all[1], &all[0]), [(item("10.0.0.0/8"), true)]);
    assert_eq!(told(&all[1], &all[2]), [(item("fd00::/8"), false)]);
}

#[test]
fn an_exemption_is_no_flow_and_is_told() {
    let (old, new) = (compiled(&policy("")), compiled(&policy("for a { exempt gid 7-9 }")));
    let found = difference(&old, &new);
    assert!(found.flows.is_empty());
    let told: Vec<_> =
        found.exemptions.iter().map(|c| (c.workload.as_str(), c.identity.as_str(), c.exempt)).collect();
    assert_eq!(told, [("m/a", "gid 7-9", true)]);
}

#[test]
fn without_a_policy_everything_goes_straight() {
    let new = compiled(&policy(""));
    let found = diff(None, Some(side(&new))).unwrap();
    // For each workload what is redirected, and the port that it is redirected to.
    assert_eq!(found.flows.len(), 4);
    assert_eq!(found.members.len(), 2);
    assert!(found.entries.removed.is_empty() && !found.entries.added.is_empty());
    let back = diff(Some(side(&new)), None).unwrap();
    assert_eq!(back.flows.len(), 4);
    assert_eq!(back.entries.removed.len(), found.entries.added.len());
}

#[test]
fn what_changes_for_the_node_alone_says_so() {
    let policy =
        |rules: &str| compiled(&format!("exempt uid 1500\nmesh m {{ workload a {{ any }}\n{rules}\n}}\n"));
    let ends = |old: &str, new: &str| -> Vec<(Direction, String, String, bool)> {
        let (old, new) = (policy(old), policy(new));
        let difference = difference(&old, &new);
        let ends = |flow: &super::FlowChange| {
            let who = flow.who.clone().unwrap_or_else(|| panic!("for everybody: {flow:?}"));
            (flow.direction, who.processes, who.node, who.example.node)
        };
        difference.flows.iter().map(ends).collect()
    };
    let (outbound, inbound) = (Direction::Outbound, Direction::Inbound);
    let nothing = String::new;
    assert_eq!(ends("", "deny inbound tcp 80 from node"), [(inbound, nothing(), "from node".into(), true)]);
    assert_eq!(ends("", "deny outbound tcp 80 to node"), [(outbound, nothing(), "to node".into(), true)]);
    assert_eq!(
        ends("deny outbound tcp 80", "deny outbound tcp 80 to node"),
        [(outbound, nothing(), "not to node".into(), false)]
    );
    assert_eq!(
        ends("", "deny outbound tcp 80 to node as uid 7"),
        [(outbound, "uid 7".into(), "to node".into(), true)]
    );
    assert_eq!(ends("deny inbound tcp 80 from node", "deny inbound tcp 80 from node"), []);
}
