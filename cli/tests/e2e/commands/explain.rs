//! `explain` says of a flow what the kernel does with it, and which line of the policy decided.

use std::path::Path;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Failure, Tested};
use serde_json::Value;

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
