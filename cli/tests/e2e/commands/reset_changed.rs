//! Established connections keep their path when the policy changes; `--reset-changed` closes those that the new
//! one decides otherwise, and no others.

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Failure, Place, ServerTask, Tested};
use serde_json::json;

use crate::fixtures::connected::Connected;
use crate::fixtures::stage::{SIDECAR_UID, Stage};
use crate::fixtures::town::{POD, Pod, addresses};

const BEFORE: &str = "redirect outbound -> 15001\nexclude outbound tcp 3306, 8080";
const AFTER: &str = "redirect outbound -> 15001\nredirect outbound tcp 443 -> 15002\n\
                     deny outbound tcp 3306\nexclude outbound tcp 8080";

/// To the sidecar on another port; and refused.
const CHANGED: [&str; 2] = ["443", "3306"];
/// To the same sidecar; and straight.
const UNCHANGED: [&str; 2] = ["80", "8080"];

#[test]
fn connections_keep_their_path_unless_they_are_reset() -> Tested {
    let stage = Stage::ruled(BEFORE)?;
    let all = [UNCHANGED, CHANGED].concat();
    let mut member = Connected::open(&stage.cart(), &all)?;
    let mut exempt = Connected::open(&stage.cart().uid(SIDECAR_UID), &all)?;
    let mut other = Connected::open(&stage.beside(), &all)?;
    let applied = stage.apply_rules(AFTER)?;
    assert_eq!(applied.get("closed"), Some(&json!(null)));
    assert_eq!(member.alive()?, all);

    // The policy is live already, and old connections still are on their old path.
    let policy = stage.policy("policy.mesh", AFTER)?.display().to_string();
    let reset = stage.ask(&["apply", &policy, "--reset-changed"])?;
    assert_eq!(
        (reset.get("changed"), reset.get("closed")),
        (Some(&json!(false)), Some(&json!(6))),
        "{reset}"
    );
    assert_eq!(member.alive()?, UNCHANGED);
    for stays in [&mut exempt, &mut other] {
        assert_eq!(stays.alive()?, all);
    }
    let again = stage.ask(&["apply", &policy, "--reset-changed"])?;
    assert_eq!(again.get("closed"), Some(&json!(0)), "{again}");
    Ok(())
}

#[test]
fn the_apply_that_changes_them_resets_them() -> Tested {
    let stage = Stage::ruled(BEFORE)?;
    let mut cart = Connected::open(&stage.cart(), &CHANGED)?;
    let mut batch = Connected::open(&stage.batch(), &CHANGED)?;
    // `batch` is no workload of this policy any more: what the sidecar had goes straight.
    let text = std::fs::read_to_string(stage.policy("with.mesh", BEFORE)?)?;
    let without: Vec<&str> = text.lines().filter(|line| !line.starts_with("workload batch")).collect();
    let without = stage.ground().write("without.mesh", without.join("\n"))?.display().to_string();
    let reset = stage.ask(&["apply", "--allow-leaving", &without, "--reset-changed"])?;
    assert_eq!((reset.get("changed"), reset.get("closed")), (Some(&json!(true)), Some(&json!(3))));
    assert_eq!(cart.alive()?, CHANGED);
    assert_eq!(batch.alive()?, ["3306"]);
    Ok(())
}

#[test]
fn who_opened_a_connection_decides_where_rules_name_identities() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15001\nexclude outbound tcp 3306 as uid 1000")?;
    let job = stage.cart_cgroup().child("job")?;
    let ports = ["443", "3306"];
    let mut root = Connected::open(&stage.cart(), &ports)?;
    let mut user = Connected::open(&stage.cart().uid(1000), &ports)?;
    let mut group = Connected::open(&stage.cart().gid(1600), &ports)?;
    let mut below = Connected::open(&stage.cart().cgroup(&job), &ports)?;
    let policy = stage.policy(
        "policy.mesh",
        &format!(
            "redirect outbound -> 15001\ndeny outbound tcp 443 as gid 1600\nexclude outbound tcp as cgroup \"{}\"",
            job.within()?
        ),
    )?;
    let reset = stage.ask(&["apply", &policy.display().to_string(), "--reset-changed"])?;
    assert_eq!(reset.get("closed"), Some(&json!(12)), "{reset}");
    assert_eq!(root.alive()?, ports);
    // What went straight goes to the sidecar.
    assert_eq!(user.alive()?, ["443"]);
    assert_eq!(group.alive()?, ["3306"]);
    assert!(below.alive()?.is_empty());
    Ok(())
}

/// A pod with an application on all of these ports, and sidecars.
fn pod(way: &'static str, ports: &[&str]) -> Result<(Pod, [ServerTask; 2]), Failure> {
    let pod = Pod::new(way)?;
    let sidecars = ["127.0.0.1:15003", "[::1]:15003", "127.0.0.1:15004", "[::1]:15004"];
    let sidecar = ServerTask::start(&pod.sidecar_place(), "sidecar", &addresses(&sidecars)?)?;
    let listen: Vec<_> =
        ports.iter().flat_map(|port| [format!("0.0.0.0:{port}"), format!("[::]:{port}")]).collect();
    let listen: Vec<&str> = listen.iter().map(String::as_str).collect();
    let application = pod.serve("application", &listen)?;
    Ok((pod, [sidecar, application]))
}

/// Applies the policy that is live once more.
fn reset(pod: &Pod) -> Result<serde_json::Value, Failure> {
    let policy = pod.ground().dir().join("policy.mesh").display().to_string();
    pod.ask(&["apply", "--reset-changed", &policy])
}

#[test]
fn inbound_connections_of_a_pod_are_reset_too() -> Tested {
    for way in ["sk_lookup", "tc"] {
        // To the same sidecar, and straight, as before.
        let unchanged = ["8080", "9090"];
        // From the sidecar to another one, refused, and straight; from straight to refused, and to the sidecar.
        let changed = ["8081", "8082", "8083", "9091", "9092"];
        let all = [&unchanged[..], &changed].concat();
        let (pod, _servers) = pod(way, &all)?;
        let far = Place::here().netns(&pod.town().far);
        let reset = |pod: &Pod| {
            pod.ask(&[
                "apply",
                "--reset-changed",
                &pod.ground().dir().join("policy.mesh").display().to_string(),
            ])
        };
        pod.attach()?;
        let mut before = Connected::inbound(&far, &all)?;
        pod.apply("redirect inbound -> 15003\nexclude inbound tcp 9090, 9091, 9092")?;
        let mut decided = Connected::inbound(&far, &all)?;
        let mut itself = Connected::inbound(&pod.place(), &all)?;
        pod.ask(&["pause"])?;
        let mut paused = Connected::inbound(&far, &all)?;
        pod.ask(&["resume"])?;
        let applied = pod.apply(
            "redirect inbound -> 15003\nredirect inbound tcp 8081 -> 15004\ndeny inbound tcp 8082, 9091\n\
             exclude inbound tcp 8083, 9090",
        )?;
        assert_eq!(applied.get("closed"), Some(&json!(null)));
        assert_eq!(decided.alive()?, all, "{way}");
        let first = reset(&pod)?;
        assert_eq!(
            (first.get("changed"), first.get("closed")),
            (Some(&json!(false)), Some(&json!(10))),
            "{way}: {first}"
        );
        assert_eq!(decided.alive()?, unchanged, "{way}");
        for stays in [&mut before, &mut itself, &mut paused] {
            assert_eq!(stays.alive()?, all, "{way}");
        }
        assert_eq!(reset(&pod)?.get("closed"), Some(&json!(0)), "{way}");
        // Of a pod that has left nobody knows.
        pod.apply("deny inbound")?;
        pod.detach()?;
        assert_eq!(reset(&pod)?.get("closed"), Some(&json!(0)), "{way}");
        assert_eq!(decided.alive()?, unchanged, "{way}");
    }
    Ok(())
}

#[test]
fn what_a_sidecar_opened_to_its_own_pod_stays() -> Tested {
    for way in ["sk_lookup", "tc"] {
        let (pod, _servers) = pod(way, &["8080"])?;
        pod.attach()?;
        pod.apply("redirect inbound -> 15003")?;
        let mut sidecar = Connected::inbound(&pod.sidecar_place(), &["8080"])?;
        let mut other = Connected::inbound(&pod.place(), &["8080"])?;
        let [v4, v6] = POD;
        let rules = format!("redirect inbound -> 15003\ndeny inbound tcp 8080 from {v4}, {v6}");
        let policy = pod.policy(&rules)?.display().to_string();
        let applied = pod.ask(&["apply", "--reset-changed", &policy])?;
        assert_eq!(applied.get("closed"), Some(&json!(2)), "{way}: {applied}");
        assert_eq!(sidecar.alive()?, ["8080"], "{way}");
        assert!(other.alive()?.is_empty(), "{way}");
    }
    Ok(())
}

#[test]
fn what_passed_for_want_of_a_sidecar_is_reset_once_there_is_one() -> Tested {
    let (pod, _servers) = pod("sk_lookup", &["8080"])?;
    pod.attach()?;
    pod.apply("on missing-sidecar pass\nredirect inbound -> 15005")?;
    let mut passed = Connected::inbound(&Place::here().netns(&pod.town().far), &["8080"])?;
    let none = reset(&pod)?;
    assert_eq!((none.get("closed"), passed.alive()?.len()), (Some(&json!(0)), 1), "{none}");
    let _sidecar = pod.serve("late", &["127.0.0.1:15005", "[::1]:15005"])?;
    let both = reset(&pod)?;
    assert_eq!((both.get("closed"), passed.alive()?.len()), (Some(&json!(2)), 0), "{both}");
    Ok(())
}
