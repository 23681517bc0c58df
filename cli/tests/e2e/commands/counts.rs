//! `status` tells what was decided for each workload and each member.

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Cgroup, Client, Failure, Place, Tested};
use serde_json::{Value, json};

use crate::fixtures::command::Answer;
use crate::fixtures::seen::{Seen, seen};
use crate::fixtures::stage::{SIDECAR_UID, Stage, address, as_member};
use crate::fixtures::town::{APPLICATION, POD, Pod, WAY, reach};

/// What `status` says of one in a list, without the time.
fn decisions(status: &Value, list: &str, name: &str) -> Value {
    let mut all = status[list].as_array().into_iter().flatten();
    let mut found = all.find(|it| it["name"] == name).map(|it| it["decisions"].clone()).unwrap_or_default();
    if let Some(found) = found.as_object_mut() {
        found.remove("last_denied");
    }
    found
}

fn counts(redirected: u64, excluded: u64, denied: u64, exempt: u64) -> Value {
    json!({"redirected": redirected, "excluded": excluded, "denied": denied, "exempt": exempt})
}

#[test]
fn workloads_with_equal_rules_are_counted_apart() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15001\nexclude outbound tcp 80\ndeny outbound tcp 25")?;
    let before = stage.ask(&["status"])?;
    assert_eq!(before["workloads"][0]["decisions"]["last_denied"], Value::Null, "{before:#}");
    for target in ["10.0.3.9:443", "10.0.3.9:443", "[fd00::9]:5432", "10.0.3.9:80", "10.0.3.9:25"] {
        let _ = stage.dial(target)?;
    }
    let dial = |place: &Place, target: &str| -> Tested {
        let target = address(target)?;
        as_member(place, || drop(Client::to(target).dial()))
    };
    dial(&stage.batch(), "10.0.3.9:443")?;
    dial(&stage.cart().uid(SIDECAR_UID), "10.0.3.9:443")?;
    let status = stage.ask(&["status"])?;
    assert_eq!(decisions(&status, "workloads", "bookstore/cart"), counts(3, 1, 1, 1), "{status:#}");
    assert_eq!(decisions(&status, "workloads", "bookstore/batch"), counts(1, 0, 0, 0));
    assert_eq!(decisions(&status, "members", "cart"), counts(3, 1, 1, 1));
    assert_eq!(decisions(&status, "members", "batch"), counts(1, 0, 0, 0));
    let uncounted = status["counters"].as_array().into_iter().flatten().find(|it| it["name"] == "uncounted");
    assert_eq!(uncounted, Some(&json!({"name": "uncounted", "value": 0})));

    let text = Answer::of(stage.meshc().args(["status", "--members"]))?.done()?.stdout;
    let words = |begin: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.starts_with(begin)).unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(
        words("WORKLOAD"),
        "WORKLOAD MEMBERS SIDECAR REDIRECTED EXCLUDED DENIED LAST DENIED".split(' ').collect::<Vec<_>>()
    );
    let cart = words("bookstore/cart").join(" ");
    assert!(cart.starts_with("bookstore/cart 1 - 3 1 1 ") && cart.ends_with(" s ago"), "{text}");
    assert_eq!(words("bookstore/batch").join(" "), "bookstore/batch 1 - 1 0 0 -", "{text}");
    assert!(
        text.contains("  bookstore/cart   3 redirected, 1 excluded, 1 exempt, 1 denied (the last "),
        "{text}"
    );
    Ok(())
}

#[test]
fn counts_stay_over_generations_and_with_the_workload_that_they_are_of() -> Tested {
    let pod = Pod::new(WAY)?;
    let _application = pod.serve("application", &APPLICATION)?;
    let policy = |rules: &str, second: &str| -> Result<String, Failure> {
        let text = format!(
            "mesh shop {{\n{rules}\nworkload cart {{ label app = cart }}\nworkload {second} {{\nlabel app = cart\nlabel tier = b\n}}\n}}\n"
        );
        Ok(pod.ground().write("policy.mesh", text)?.display().to_string())
    };
    let apply = |rules: &str| -> Result<Value, Failure> {
        pod.ask(&["apply", "--allow-leaving", &policy(rules, "other")?])
    };
    let attach = |label: &str| -> Result<Value, Failure> {
        let netns = pod.town().pod.path().display().to_string();
        let [v4, v6] = POD;
        pod.ask(&[
            "attach",
            "--netns",
            &netns,
            "--name",
            "cart-1",
            "--label",
            "app=cart",
            "--label",
            label,
            "--address",
            v4,
            "--address",
            v6,
        ])
    };
    let denied = || -> Tested {
        let target = address("10.42.0.1:25")?;
        assert!(as_member(&pod.place(), || Client::to(target).dial().is_err())?);
        Ok(())
    };
    let of = |list: &str, name: &str| -> Result<Value, Failure> {
        Ok(decisions(&pod.ask(&["status"])?, list, name)["denied"].clone())
    };
    apply("deny outbound tcp 25")?;
    attach("tier=a")?;
    denied()?;
    // Inbound, too, where the pod's program decides.
    apply("deny outbound tcp 25\ndeny inbound tcp 9090")?;
    let _ = reach(&pod.town().host, "10.42.0.2:9090")?;
    denied()?;
    assert_eq!(of("members", "cart-1")?, 3);
    for extra in [80, 81, 82] {
        apply(&format!("deny outbound tcp 25\ndeny outbound tcp {extra}"))?;
        denied()?;
    }
    attach("tier=a")?;
    assert_eq!((of("members", "cart-1")?, of("workloads", "shop/cart")?), (json!(6), json!(6)));

    // The pod is another workload's now, which begins anew.
    attach("tier=b")?;
    denied()?;
    assert_eq!((of("members", "cart-1")?, of("workloads", "shop/other")?), (json!(1), json!(1)));
    assert_eq!(of("workloads", "shop/cart")?, 6);
    // And so it is by a policy that moves it.
    pod.ask(&["apply", "--allow-leaving", &policy("deny outbound tcp 25", "third")?])?;
    denied()?;
    denied()?;
    assert_eq!((of("members", "cart-1")?, of("workloads", "shop/third")?), (json!(2), json!(2)));
    assert_eq!((of("workloads", "shop/cart")?, of("workloads", "shop/other")?), (json!(6), Value::Null));

    // What a pod that left had counted is its workload's; it takes nothing in the kernel any more.
    let entries = || -> Result<Value, Failure> {
        let status = pod.ask(&["status"])?;
        let mut maps = status["maps"].as_array().into_iter().flatten();
        Ok(maps
            .find(|map| map["name"] == "member_counts")
            .map(|map| map["entries"].clone())
            .unwrap_or_default())
    };
    assert_ne!(entries()?, 0);
    pod.detach()?;
    assert_eq!((entries()?, of("workloads", "shop/third")?), (json!(0), json!(2)));
    attach("tier=b")?;
    denied()?;
    assert_eq!((of("members", "cart-1")?, of("workloads", "shop/third")?), (json!(1), json!(3)));
    Ok(())
}

#[test]
fn a_cgroup_that_is_made_again_is_counted_at_once() -> Tested {
    let stage = Stage::new()?;
    let make = || stage.ground().cgroup().child("again");
    let again = make()?;
    let within = again.within()?;
    let apply = |rules: &str| -> Result<Value, Failure> {
        let text = format!("mesh bookstore {{\n{rules}\nworkload again {{ cgroup \"{within}\" }}\n}}\n");
        stage.apply(&stage.ground().write("again.mesh", text)?)
    };
    let denied = |again: &Cgroup| -> Tested {
        let target = address("10.0.3.9:25")?;
        let place = Place::here().netns(&stage.pair().client).cgroup(again);
        assert_eq!(as_member(&place, || seen(&Client::to(target), target))?, Seen::Denied);
        Ok(())
    };
    let counted = || -> Result<Value, Failure> {
        Ok(decisions(&stage.ask(&["status"])?, "workloads", "bookstore/again")["denied"].clone())
    };
    apply("deny outbound tcp 25")?;
    denied(&again)?;
    drop(again);
    let again = make()?;
    denied(&again)?;
    assert_eq!(counted()?, 2);
    // Nor is it lost when it is registered, or when it is not there as a command looks.
    apply("deny outbound tcp 25")?;
    drop(again);
    apply("deny outbound tcp 25\ndeny outbound tcp 26")?;
    let again = make()?;
    denied(&again)?;
    assert_eq!(counted()?, 3);
    Ok(())
}
