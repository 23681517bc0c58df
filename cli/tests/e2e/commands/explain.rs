//! `explain` says of a flow what the kernel does with it, and which line of the policy decided.

use std::path::Path;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Failure, Netns, Place, ServerTask, Tested};
use serde_json::{Value, json};

use crate::fixtures::chain::{Call, Node, kubernetes, labels};
use crate::fixtures::command::Answer;
use crate::fixtures::seen::{Seen, seen};
use crate::fixtures::stage::{SIDECAR_UID, Stage, address, as_member};

/// The first of these rules stands on line 4 of the policy.
const RULES: &str = "redirect outbound -> 15001
exclude outbound tcp 3306 to 10.0.0.0/8, fd10::/16
deny outbound tcp 25";

/// Destination, what becomes of it, and the line of the rule that decides.
const FLOWS: [(&str, Seen, u64); 6] = [
    ("10.0.3.9:80", Seen::Redirected(15001), 4),
    ("[fd10::9]:80", Seen::Redirected(15001), 4),
    ("10.0.3.9:3306", Seen::Straight, 5),
    ("[fd10::9]:3306", Seen::Straight, 5),
    ("172.16.5.5:3306", Seen::Redirected(15001), 4),
    ("10.0.3.9:25", Seen::Denied, 6),
];

#[test]
fn the_policy_and_the_kernels_maps_are_explained_as_connections_end() -> Tested {
    let stage = Stage::new()?;
    let policy = stage.policy("policy.mesh", RULES)?;
    stage.apply(&policy)?;
    for (target, expected, line) in FLOWS {
        assert_eq!(stage.dial(target)?, expected, "{target}");
        let target = address(target)?;
        let flow = format!("batch -> {} tcp {}", target.ip(), target.port());
        let said = explained(&stage, Some(&policy), &flow)?;
        assert_eq!(verdict(&said), Some(expected), "{flow}: {said:#}");
        assert_eq!(said["rule"]["line"], line, "{flow}: {said:#}");
        assert_eq!(said["rule"]["scope"], "bookstore", "{flow}: {said:#}");
        assert!(said["entries"].as_array().is_some_and(|entries| !entries.is_empty()), "{flow}: {said:#}");
        let live = explained(&stage, None, &flow)?;
        assert_eq!(verdict(&live), Some(expected), "live, {flow}: {live:#}");
        assert_eq!(live["rule"], said["rule"], "live, {flow}: {live:#}");
    }
    Ok(())
}

#[test]
fn an_exempt_user_is_explained_as_exempt() -> Tested {
    let stage = Stage::new()?;
    let policy = stage.policy("policy.mesh", RULES)?;
    stage.apply(&policy)?;
    let target = address("10.0.3.9:25")?;
    let exempt = stage.cart().uid(SIDECAR_UID);
    assert_eq!(as_member(&exempt, || seen(&Client::to(target), target))?, Seen::Straight);
    let flow = format!("cart -> 10.0.3.9 tcp 25 as uid {SIDECAR_UID}");
    for policy in [Some(policy.as_path()), None] {
        let said = explained(&stage, policy, &flow)?;
        assert_eq!(verdict(&said), Some(Seen::Straight), "{said:#}");
        assert!(said["rule"].get("exempt").is_some(), "{said:#}");
        assert!(said["rule"]["at"].as_str().is_some_and(|at| at.ends_with("policy.mesh:1")), "{said:#}");
    }
    Ok(())
}

#[test]
fn a_pod_is_asked_for_by_the_names_that_other_commands_print() -> Tested {
    let node = Node::new()?;
    node.apply(
        "set blocked = 10.7.0.0/16, 10.9.0.0/16
        redirect outbound -> 15001
        deny outbound tcp 25 to blocked
        workload cart { label app = cart }
        workload web { label app = web }
        accelerate local for cart tcp 80",
    )?;
    let netns = Netns::new()?;
    let path = netns.path().display().to_string();
    let arguments = kubernetes("shop", "cart-1");
    let call = Call { command: "ADD", container: "c1", netns: &path, arguments: &arguments };
    node.chain(&call, "1.0.0", &labels(&[("app", "cart")]))?;
    let pod = Place::here().netns(&netns).cgroup(node.pods());
    let denied = address("10.9.0.1:25")?;
    for _ in 0..3 {
        assert_eq!(pod.run(move || seen(&Client::to(denied), denied))?, Seen::Denied);
    }
    for name in ["cart-1", "shop/cart-1", "pod cart-1", "pod shop/cart-1"] {
        let said = node.ask(&["explain", "--live", &format!("{name} -> 10.9.0.1:25")])?;
        assert_eq!(said["verdict"], "denied", "{name}: {said:#}");
        assert_eq!(said["hits"], 3, "{name}: {said:#}");
        assert_eq!(said["rule"]["elements"][0]["text"], "10.9.0.0/16", "{name}: {said:#}");
        let member = &said["member"];
        assert_eq!((&member["name"], &member["namespace"]), (&json!("cart-1"), &json!("shop")), "{said:#}");
        assert!(member["workload"].as_str().is_some_and(|workload| workload.ends_with("/cart")), "{said:#}");
    }
    let own = node.ask(&["explain", "--live", "cart-1 -> 172.30.0.2:80"])?;
    assert_eq!((&own["own"], &own["rule"]["built_in"]), (&json!(true), &json!("own-address")), "{own:#}");

    let redirected = |listens: bool, shown: &str| -> Tested {
        for (port, accelerated) in [(80, true), (81, false)] {
            let flow = format!("shop/cart-1 -> 10.0.3.9:{port}");
            let said = node.ask(&["explain", "--live", &flow])?;
            let sidecars = json!([{ "member": "cart-1", "namespace": "shop", "listens": listens }]);
            assert_eq!(
                (&said["sidecars"], &said["accelerated"]),
                (&sidecars, &json!(accelerated)),
                "{said:#}"
            );
            let text = Answer::of(node.meshc().args(["explain", "--live", &flow]))?.done()?.stdout;
            assert!(text.contains(shown), "{text}");
            let fast = if accelerated { ", accelerated" } else { "not accelerated: " };
            assert!(text.contains(fast), "{text}");
        }
        Ok(())
    };
    redirected(false, "sidecar port 15001: nobody listens in shop/cart-1")?;
    let sidecar =
        ServerTask::start(&pod, "sidecar", &[address("127.0.0.1:15001")?, address("[::1]:15001")?])?;
    redirected(true, "sidecar listens on port 15001 in shop/cart-1")?;
    drop(sidecar);

    // Nobody is known of the workload at the other end, so nobody's address is made up.
    let said = node.ask(&["explain", "--live", "cart-1 -> web:25"])?;
    assert_eq!(said["address"], Value::Null, "{said:#}");
    let text = Answer::of(node.meshc().args(["explain", "--live", "cart-1 -> web tcp 25"]))?.done()?.stdout;
    for part in ["any address of web but 10.7.0.0/16, 10.9.0.0/16", "(outbound, 10.7.0.0/16, 10.9.0.0/16)"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let unknown = Answer::of(node.meshc().args(["explain", "--live", "shop/crat-1 -> 10.0.3.9:80"]))?;
    assert!(unknown.code == 2 && unknown.words().contains("did you mean `shop/cart-1`?"), "{unknown:#?}");
    Ok(())
}

/// What `explain` says of a policy, or without one of what is live.
fn explained(stage: &Stage, policy: Option<&Path>, flow: &str) -> Result<Value, Failure> {
    let mut command = stage.meshc();
    command.args(["--format", "json", "explain"]);
    match policy {
        Some(policy) => command.arg(policy),
        None => command.arg("--live"),
    };
    Answer::of(command.arg(flow))?.done()?.json()
}

fn verdict(said: &Value) -> Option<Seen> {
    let port = said["port"].as_u64().and_then(|port| u16::try_from(port).ok());
    match (said["verdict"].as_str()?, port) {
        ("redirected", Some(port)) => Some(Seen::Redirected(port)),
        ("excluded", None) => Some(Seen::Straight),
        ("denied", None) => Some(Seen::Denied),
        _ => None,
    }
}
