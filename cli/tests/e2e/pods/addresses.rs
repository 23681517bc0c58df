//! A pod's own addresses are those of its interfaces, whenever it got them.
#![expect(
    clippy::indexing_slicing,
    reason = "a key that is not in the JSON is null, and the comparison fails"
)]

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Failure, Server, Tested};
use serde_json::{Value, json};

use crate::fixtures::chain::{Node, Pod, kubernetes, labels};
use crate::fixtures::command::Answer;
use crate::fixtures::seen::Seen;
use crate::fixtures::stage::address;

const MESH: &str = "redirect outbound -> 15001\nworkload cart { label app = cart }";
const ADDED: [&str; 2] = ["10.77.0.5:8080", "[fd77::5]:8080"];

/// A pod with an application that listens on all its addresses.
fn pod(node: &Node) -> Result<(Pod, Server), Failure> {
    let pod = node.pod("c1", &kubernetes("shop", "cart-1"), &labels(&[("app", "cart")]))?;
    let server =
        Server::start(pod.netns(), "application", &[address("0.0.0.0:8080")?, address("[::]:8080")?])?;
    Ok((pod, server))
}

fn attach(node: &Node, pod: &Pod, more: &[&str]) -> Result<Value, Failure> {
    let netns = pod.netns().path().display().to_string();
    let pod = ["attach", "--netns", &netns, "--name", "cart-1", "--namespace", "shop", "--label", "app=cart"];
    node.ask(&[&pod[..], more].concat())
}

fn dial(node: &Node, pod: &Pod) -> Result<[Seen; 2], Failure> {
    let [v4, v6] = ADDED;
    Ok([node.dial(pod, v4)?, node.dial(pod, v6)?])
}

fn drift(node: &Node) -> Result<Vec<String>, Failure> {
    let drift = node.ask(&["status"])?["drift"].as_array().cloned().unwrap_or_default();
    Ok(drift.iter().filter_map(|what| what["text"].as_str().map(str::to_owned)).collect())
}

#[test]
fn addresses_that_come_or_go_without_an_agent_are_drift_until_repaired_or_attached_again() -> Tested {
    let node = Node::new()?;
    node.apply(MESH)?;
    let (pod, _application) = pod(&node)?;
    assert_eq!(drift(&node)?, Vec::<String>::new());
    let own = ["10.77.0.5", "fd77::5"];
    let change = |verb: &str| {
        pod.netns().ip(&format!("addr {verb} 10.77.0.5/32 dev eth0\naddr {verb} fd77::5/128 dev eth0 nodad"))
    };
    let policy = node.policy(MESH)?.display().to_string();
    for round in ["repair", "attach"] {
        let cure = || match round {
            "repair" => node.ask(&["apply", "--repair", &policy]),
            _ => attach(&node, &pod, &[]),
        };
        change("add")?;
        let got = own.map(|address| {
            format!("the pod `cart-1` got the address {address}, which is not known to be its own")
        });
        assert_eq!(drift(&node)?, got, "{round}");
        assert_eq!(Answer::of(node.meshc().args(["status", "--check"]))?.code, 3);
        cure()?;
        assert_eq!(drift(&node)?, Vec::<String>::new(), "{round}");
        assert_eq!(dial(&node, &pod)?, [Seen::Straight; 2], "{round}");
        change("del")?;
        let lost = own.map(|address| {
            format!("the pod `cart-1` has lost the address {address}, which counts as its own")
        });
        assert_eq!(drift(&node)?, lost, "{round}");
        cure()?;
        assert_eq!(drift(&node)?, Vec::<String>::new(), "{round}");
        assert_eq!(dial(&node, &pod)?, [Seen::Redirected(15001); 2], "{round}");
    }
    // What its workload is chosen by stays what its runtime said.
    attach(&node, &pod, &[])?;
    Ok(())
}

#[test]
fn addresses_that_were_given_by_hand_are_its_own_whatever_its_interfaces_have() -> Tested {
    let node = Node::new()?;
    node.apply(MESH)?;
    let (pod, _application) = pod(&node)?;
    attach(&node, &pod, &["--address", "10.77.0.6"])?;
    pod.netns().ip("addr add 10.77.0.5/32 dev eth0\naddr add fd77::5/128 dev eth0 nodad")?;
    assert_eq!(drift(&node)?, Vec::<String>::new());
    node.ask(&["apply", "--repair", &node.policy(MESH)?.display().to_string()])?;
    assert_eq!(dial(&node, &pod)?, [Seen::Redirected(15001); 2]);
    let members = node.ask(&["status"])?["members"].clone();
    assert_eq!(members[0]["own"], json!(["10.77.0.6"]));
    Ok(())
}

#[test]
fn an_address_that_comes_later_does_not_choose_another_policy() -> Tested {
    let node = Node::new()?;
    let mesh = "redirect outbound -> 15001\nworkload cart { address 172.30.0.0/16 }\n\
                workload other { address 10.77.0.0/16\nexclude outbound }";
    node.apply(mesh)?;
    let (pod, _application) = pod(&node)?;
    pod.netns().ip("addr add 10.77.0.5/32 dev eth0")?;
    node.ask(&["apply", "--repair", &node.policy(mesh)?.display().to_string()])?;
    let members = node.ask(&["status"])?["members"].clone();
    assert_eq!(members[0]["workload"], "shop/cart");
    assert!(members[0]["own"].as_array().is_some_and(|own| own.contains(&json!("10.77.0.5"))), "{members}");
    assert_eq!(node.dial(&pod, "10.0.3.9:80")?, Seen::Redirected(15001));
    Ok(())
}
