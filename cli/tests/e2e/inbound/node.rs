//! Rules about the node itself: its addresses as they are at the moment, told from those of everybody else.
#![expect(
    clippy::indexing_slicing,
    reason = "a key that is not in the JSON is null, and the comparison fails"
)]

use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Errno, Failure, Netns, Process, Tested, until};
use serde_json::{Value, json};

use crate::fixtures::command::Answer;
use crate::fixtures::stage::address;
use crate::fixtures::town::{APPLICATION, POD, Pod, Reached, reach, reached};

const PROBES: &str = "redirect inbound -> 15003\nexclude inbound tcp 8080 from node";

fn sidecar() -> Reached {
    Reached::Redirected("sidecar".into())
}

fn application() -> Reached {
    Reached::Straight("application".into())
}

/// A target on each of the pod's addresses.
fn at(port: u16) -> [String; 2] {
    let [v4, v6] = POD;
    [format!("{v4}:{port}"), format!("[{v6}]:{port}")]
}

/// What commands run as a node's do: in its network namespace.
fn on_node<T: Send>(pod: &Pod, does: impl FnOnce() -> Result<T, Failure> + Send) -> Result<T, Failure> {
    pod.town().host.run(does)?
}

/// A pod of the town's host that is attached while these rules are in force.
fn ruled(way: &'static str, rules: &str) -> Result<Pod, Failure> {
    let pod = Pod::new(way)?;
    on_node(&pod, || {
        pod.apply(rules)?;
        pod.attach()
    })?;
    Ok(pod)
}

/// Dials from one of several addresses.
fn reach_from(from: &Netns, source: &str, target: &str) -> Result<Reached, Failure> {
    let (source, target) = (address(source)?, address(target)?);
    Ok(from.run(|| reached(Client::to(target).from(source).dial(), target))?)
}

fn drift(pod: &Pod) -> Result<Vec<Value>, Failure> {
    let drift = on_node(pod, || pod.ask(&["status"]))?["drift"].as_array().cloned().unwrap_or_default();
    Ok(drift.into_iter().map(|what| what["code"].clone()).collect())
}

/// The kubelet's probes come from the node, and nobody else's connections do.
fn probes_go_straight(way: &'static str) -> Tested {
    let pod = ruled(way, PROBES)?;
    let _servers = pod.servers()?;
    let town = pod.town();
    for target in at(8080) {
        assert_eq!(reach(&town.host, &target)?, application(), "{target}");
        for from in [&town.other, &town.far] {
            assert_eq!(reach(from, &target)?, sidecar(), "{target}");
        }
    }
    for target in at(9090) {
        assert_eq!(reach(&town.host, &target)?, sidecar(), "what is not said stays as it is: {target}");
    }
    // From whichever of its addresses.
    for (source, target) in [("10.43.0.1:0", "10.42.0.2:8080"), ("[fd43::1]:0", "[fd42::2]:8080")] {
        assert_eq!(reach_from(&town.host, source, target)?, application(), "{source}");
    }
    Ok(())
}

#[test]
fn what_comes_from_the_node_goes_straight_and_what_comes_through_it_does_not() -> Tested {
    probes_go_straight(super::WAY)
}

#[test]
fn the_same_by_tc() -> Tested {
    probes_go_straight("tc")
}

/// Without an agent an address that came or went is drift; whatever attaches a pod, or applies, brings it in line.
#[test]
fn an_address_of_the_node_that_comes_or_goes_is_drift_until_somebody_looks() -> Tested {
    let pod = ruled(super::WAY, PROBES)?;
    let _servers = pod.servers()?;
    let (host, other) = (&pod.town().host, &pod.town().other);
    assert_eq!(drift(&pod)?, Vec::<Value>::new());
    for (source, added, target) in
        [("10.99.0.1:0", "10.99.0.1/32", "10.42.0.2:8080"), ("[fd99::1]:0", "fd99::1/128", "[fd42::2]:8080")]
    {
        host.ip(&format!("addr add {added} dev eth0{}", if added.contains("::") { " nodad" } else { "" }))?;
        assert!(until(Duration::from_secs(10), || reach_from(host, source, target)
            .is_ok_and(|it| it == sidecar())));
        assert_eq!(drift(&pod)?, [json!("node-address-added")], "{added}");
        on_node(&pod, || pod.attach())?;
        assert_eq!(drift(&pod)?, Vec::<Value>::new(), "{added}");
        assert_eq!(reach_from(host, source, target)?, application(), "{added}");
        // It goes, and another pod gets it.
        host.ip(&format!("addr del {added} dev eth0"))?;
        assert_eq!(drift(&pod)?, [json!("node-address-lost")], "{added}");
        let policy = pod.policy(PROBES)?.display().to_string();
        on_node(&pod, || pod.ask(&["apply", &policy]))?;
        assert_eq!(drift(&pod)?, Vec::<Value>::new(), "{added}");
        other
            .ip(&format!("addr add {added} dev eth0{}", if added.contains("::") { " nodad" } else { "" }))?;
        host.ip(&format!("route add {added} dev other"))?;
        assert!(until(Duration::from_secs(10), || reach_from(other, source, target)
            .is_ok_and(|it| it == sidecar())));
    }
    Ok(())
}

/// Services of the cluster stand on an interface that is down where kube-proxy uses IPVS: they are not the node's.
#[test]
fn addresses_of_an_interface_that_is_down_are_not_the_node_s() -> Tested {
    let pod = ruled(super::WAY, PROBES)?;
    pod.town().host.ip("link add ipvs0 type bridge\naddr add 10.96.0.1/32 dev ipvs0")?;
    assert_eq!(drift(&pod)?, Vec::<Value>::new());
    pod.town().host.ip("link set ipvs0 up")?;
    assert_eq!(drift(&pod)?, [json!("node-address-added")]);
    Ok(())
}

#[test]
fn an_agent_follows_the_node_s_addresses() -> Tested {
    let pod = ruled(super::WAY, PROBES)?;
    let _servers = pod.servers()?;
    let host = &pod.town().host;
    let log = pod.ground().dir().join("agent.log");
    let _agent = on_node(&pod, || {
        let mut command = pod.meshc();
        command.args(["agent", "--interval", "1h"]);
        Ok(Process::start(&mut command, &log)?)
    })?;
    let becomes = |source: &str, target: &str, what: &Reached| {
        until(Duration::from_secs(20), || reach_from(host, source, target).is_ok_and(|found| found == *what))
    };
    for (source, added, target) in
        [("10.99.0.1:0", "10.99.0.1/32", "10.42.0.2:8080"), ("[fd99::1]:0", "fd99::1/128", "[fd42::2]:8080")]
    {
        host.ip(&format!("addr add {added} dev eth0{}", if added.contains("::") { " nodad" } else { "" }))?;
        assert!(becomes(source, target, &application()), "{added}");
        host.ip(&format!("addr del {added} dev eth0"))?;
        assert!(
            until(Duration::from_secs(20), || drift(&pod).is_ok_and(|drift| drift.is_empty())),
            "{added}"
        );
    }
    Ok(())
}

/// What a pod opens to the node, by whichever of its addresses; `as` and `node` in one rule.
#[test]
fn what_goes_to_the_node_is_told_too() -> Tested {
    let pod = ruled(
        super::WAY,
        "redirect outbound -> 15003\nexclude outbound tcp 9090 to node\n\
         deny outbound tcp 9090 to node as uid 7\nexclude outbound udp",
    )?;
    let town = pod.town();
    let _servers = [
        pod.serve_in(&town.pod, "sidecar", &["127.0.0.1:15003", "[::1]:15003"])?,
        pod.serve_in(&town.host, "host", &APPLICATION)?,
        pod.serve_in(&town.other, "other", &APPLICATION)?,
    ];
    let dial = |uid: u32, target: &str| -> Result<String, Failure> {
        let target = address(target)?;
        let place = pod.place().uid(uid);
        let dialled = place.run(|| Client::to(target).dial())?;
        Ok(match dialled {
            Ok(dialled) => dialled.arrival.who,
            Err(Errno::EPERM) => "denied".into(),
            Err(error) => format!("{error:?}"),
        })
    };
    for target in ["10.42.0.1:9090", "10.43.0.1:9090", "[fd42::1]:9090", "[fd43::1]:9090"] {
        assert_eq!(dial(1000, target)?, "host", "{target}");
        assert_eq!(dial(7, target)?, "denied", "{target}");
    }
    for target in ["10.42.0.1:8080", "10.42.1.2:9090", "[fd42:1::2]:9090"] {
        for uid in [7, 1000] {
            assert_eq!(dial(uid, target)?, "sidecar", "{target}");
        }
    }
    let explained = on_node(&pod, || pod.ask(&["explain", "--live", "cart -> 10.43.0.1 tcp 9090"]))?;
    assert_eq!(
        (&explained["verdict"], &explained["node"]),
        (&json!("excluded"), &json!(true)),
        "{explained}"
    );
    let explained = on_node(&pod, || pod.ask(&["explain", "--live", "cart -> 10.42.1.2 tcp 9090"]))?;
    assert_eq!(
        (&explained["verdict"], &explained["node"]),
        (&json!("redirected"), &json!(false)),
        "{explained}"
    );
    let answer = on_node(&pod, || {
        Answer::of(pod.meshc().args(["explain", "--live", "cart -> node tcp 9090 as uid 7"]))
    })?;
    assert!(answer.done()?.stdout.contains("is denied"));
    Ok(())
}

/// A policy that asks nothing of the node leaves the map empty; one that does fills it before it is live.
#[test]
fn a_policy_that_does_not_ask_does_not_look() -> Tested {
    let pod = ruled(super::WAY, "redirect inbound -> 15003")?;
    let host = &pod.town().host;
    let _servers = pod.servers()?;
    host.ip("addr add 10.99.0.1/32 dev eth0")?;
    assert_eq!(drift(&pod)?, Vec::<Value>::new());
    for target in at(8080) {
        assert_eq!(reach(host, &target)?, sidecar(), "{target}");
    }
    on_node(&pod, || pod.apply(PROBES))?;
    assert_eq!(drift(&pod)?, Vec::<Value>::new());
    assert_eq!(reach_from(host, "10.99.0.1:0", "10.42.0.2:8080")?, application());
    Ok(())
}
