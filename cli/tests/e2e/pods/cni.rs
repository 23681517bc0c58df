//! A pod is in the mesh before its first process runs, whatever its container runtime says and leaves out.
#![expect(
    clippy::indexing_slicing,
    reason = "a key that is not in the JSON is null, and the comparison fails"
)]

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Failure, Netns, Tested, long_runs_are_wanted, storage};
use serde_json::{Value, json};

use crate::fixtures::chain::{Call, Node, kubernetes, labels};
use crate::fixtures::command::Answer;
use crate::fixtures::seen::Seen;

const MESH: &str = "redirect outbound -> 15001
    exclude outbound tcp 3306
    workload cart { namespace shop; label app = cart }";

/// The plugin's own call, with a result of plugins before it.
fn alone(node: &Node, command: &str, version: &str, netns: &str, extra: &Value) -> Result<Answer, Failure> {
    let call = Call { command, container: "c1", netns, arguments: &kubernetes("shop", "cart-1") };
    let mut config = node.plugin();
    if let (Some(config), Some(extra)) = (config.as_object_mut(), extra.as_object()) {
        config.extend(extra.clone());
        config.insert("cniVersion".into(), version.into());
        config.insert("name".into(), "pods".into());
    }
    node.call(&call, &config)
}

/// An error of the plugin: its code, and what it says.
fn error(answer: &Answer) -> Result<(u64, String), Failure> {
    assert_ne!(answer.code, 0, "{answer:#?}");
    let object: Value = serde_json::from_str(&answer.stdout)?;
    let code = object["code"].as_u64().ok_or_else(|| format!("no code: {answer:#?}"))?;
    Ok((code, object["msg"].as_str().unwrap_or_default().to_owned()))
}

#[test]
fn a_pods_first_connection_is_redirected() -> Tested {
    let node = Node::new()?;
    node.apply(MESH)?;
    let cart = node.pod("c1", &kubernetes("shop", "cart-1"), &labels(&[("app", "cart")]))?;
    let other = node.pod("c2", &kubernetes("shop", "other-1"), &labels(&[("app", "other")]))?;
    assert_eq!(node.dial(&cart, "10.0.3.9:80")?, Seen::Redirected(15001));
    assert_eq!(node.dial(&cart, "[fd10::9]:443")?, Seen::Redirected(15001));
    assert_eq!(node.dial(&cart, "10.0.3.9:3306")?, Seen::Straight);
    assert_eq!(node.dial(&other, "10.0.3.9:80")?, Seen::Straight);
    let status = node.ask(&["status"])?;
    let members = status["members"].as_array().cloned().unwrap_or_default();
    let cart_1 = members.iter().find(|member| member["name"] == "cart-1").ok_or("cart-1 is no member")?;
    assert_eq!(cart_1["workload"], "shop/cart");
    assert_eq!(cart_1["addresses"], json!(["172.30.0.2", "fd30::2"]));
    assert_eq!(status["drift"], json!([]));
    Ok(())
}

#[test]
fn labels_may_come_by_an_annotation_and_for_a_whole_network() -> Tested {
    let node = Node::new()?;
    node.apply(
        "redirect outbound -> 15001\nworkload cart { label app = cart; label zone = a; service-account web }",
    )?;
    let extra = json!({
        "labels": { "zone": "a", "app": "other" },
        "runtimeConfig": { "io.kubernetes.cri.pod-annotations": {
            "meshc/labels": "app=cart", "meshc/service-account": "web", "else/where": "x",
        } },
    });
    let pod = node.pod("c1", "", &extra)?;
    assert_eq!(node.dial(&pod, "10.0.3.9:80")?, Seen::Redirected(15001));
    assert_eq!(node.members()?, ["c1"]);
    Ok(())
}

#[test]
fn every_version_of_the_specification_is_answered_in_its_own_words() -> Tested {
    let node = Node::new()?;
    node.apply(MESH)?;
    let pod = Netns::new()?;
    let path = pod.path().display().to_string();
    for (version, checks, collects) in
        [("0.3.1", false, false), ("0.4.0", true, false), ("1.0.0", true, false), ("1.1.0", true, true)]
    {
        let previous = json!({
            "cniVersion": version, "interfaces": [{ "name": "eth0", "sandbox": path, "mtu": 1500 }],
            "ips": [{ "interface": 0, "address": "172.30.0.9/16", "version": "4" }], "dns": { "nameservers": [] },
        });
        let extra = json!({ "prevResult": previous });
        let added = alone(&node, "ADD", version, &path, &extra)?.done()?;
        assert_eq!(added.stdout, previous.to_string(), "{version}");
        let checked = alone(&node, "CHECK", version, &path, &extra)?;
        if checks {
            drop(checked.done()?)
        } else {
            assert_eq!(error(&checked)?.0, 1, "{version}")
        }
        for command in ["STATUS", "GC"] {
            let known = json!({ "cni.dev/valid-attachments": [{ "containerID": "c1", "ifname": "eth0" }] });
            let answer = alone(&node, command, version, "", &known)?;
            if collects {
                drop(answer.done()?)
            } else {
                assert_eq!(error(&answer)?.0, 1, "{version} {command}")
            }
        }
        assert_eq!(node.members()?, ["cart-1"], "{version}");
        let deleted = alone(&node, "DEL", version, &path, &extra)?.done()?;
        assert_eq!(deleted.stdout, "", "{version}");
        assert_eq!(node.members()?, Vec::<String>::new(), "{version}");
    }
    // Callers ask with whatever they have at hand.
    for (config, expected) in [("{\"cniVersion\":\"0.4.0\"}", "0.4.0"), ("", "1.1.0")] {
        let file = node.ground().write("input", config)?;
        let mut command = std::process::Command::new(node.bin().join("meshc-cni"));
        let asked = command.env_clear().env("CNI_COMMAND", "VERSION").env("CNI_NETNS", "dummy");
        let answer = Answer::of(asked.stdin(std::fs::File::open(&file)?))?.done()?.json()?;
        assert_eq!(answer["cniVersion"], expected);
        assert_eq!(answer["supportedVersions"], json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
    }
    Ok(())
}

#[test]
fn what_is_wrong_with_a_call_is_said_with_the_code_for_it() -> Tested {
    let node = Node::new()?;
    node.apply(MESH)?;
    let pod = Netns::new()?;
    let path = pod.path().display().to_string();
    let none = json!({});
    assert_eq!(error(&alone(&node, "ADD", "0.2.0", &path, &none)?)?.0, 1);
    assert_eq!(error(&alone(&node, "ADD", "1.0.0", "", &none)?)?.0, 4);
    assert_eq!(error(&alone(&node, "JUMP", "1.0.0", &path, &none)?)?.0, 4);
    assert_eq!(error(&alone(&node, "GC", "1.1.0", "", &none)?)?.0, 7);
    let config = json!({ "prevResult": { "ips": [{ "address": "nowhere" }] } });
    assert_eq!(error(&alone(&node, "ADD", "1.0.0", &path, &config)?)?.0, 6);
    // Nobody added it, and one that was added and taken out by hand is missed.
    assert_eq!(error(&alone(&node, "CHECK", "1.0.0", &path, &none)?)?, (101, "it is not registered".into()));
    alone(&node, "ADD", "1.0.0", &path, &none)?.done()?;
    alone(&node, "CHECK", "1.0.0", &path, &none)?.done()?;
    node.ask(&["detach", "--netns", &path])?;
    assert_eq!(error(&alone(&node, "CHECK", "1.0.0", &path, &none)?)?.0, 101);
    Ok(())
}

#[test]
fn a_pod_is_deleted_however_little_its_runtime_knows_of_it() -> Tested {
    let node = Node::new()?;
    node.apply(MESH)?;
    let none = json!({});
    for netns in ["", "/run/netns/there-is-none", "/proc/1/ns/net"] {
        let pod = Netns::new()?;
        alone(&node, "ADD", "1.0.0", &pod.path().display().to_string(), &none)?.done()?;
        assert_eq!(node.members()?, ["cart-1"]);
        drop(pod);
        for _ in 0..2 {
            alone(&node, "DEL", "1.0.0", netns, &none)?.done()?;
            assert_eq!(node.members()?, Vec::<String>::new(), "{netns}");
        }
    }
    assert_eq!(storage::entries(&pin(&node, "endpoints"))?, 0);
    assert_eq!(entries(&node, "own_addresses")?, 0);
    Ok(())
}

#[test]
fn attachments_that_the_runtime_forgot_are_collected_of_its_own_network() -> Tested {
    let node = Node::new()?;
    node.apply(MESH)?;
    let (kept, forgotten, by_hand) = (Netns::new()?, Netns::new()?, Netns::new()?);
    let call = |container, netns: &Netns, command, extra: &Value| {
        let netns = netns.path().display().to_string();
        let call = Call { command, container, netns: &netns, arguments: "" };
        let mut config = node.plugin();
        config["cniVersion"] = "1.1.0".into();
        config["name"] = extra["name"].clone();
        config["cni.dev/valid-attachments"] = extra["valid"].clone();
        node.call(&call, &config)?.done()
    };
    call("kept", &kept, "ADD", &json!({ "name": "pods" }))?;
    call("forgotten", &forgotten, "ADD", &json!({ "name": "pods" }))?;
    node.ask(&["attach", "--netns", &by_hand.path().display().to_string(), "--name", "by-hand"])?;
    let valid = json!([{ "containerID": "kept", "ifname": "eth0" }]);
    call("", &kept, "GC", &json!({ "name": "another", "valid": valid }))?;
    assert_eq!(node.members()?.len(), 3);
    call("", &kept, "GC", &json!({ "name": "pods", "valid": valid }))?;
    let mut left = node.members()?;
    left.sort();
    assert_eq!(left, ["by-hand", "kept"]);
    Ok(())
}

#[test]
fn a_pod_that_cannot_be_in_the_mesh_starts_only_where_the_policy_says_so() -> Tested {
    let node = Node::new()?;
    // Its label says one workload, its address another.
    let mesh = |on: &str| {
        format!(
            "redirect outbound -> 15001\n{on}\nworkload cart {{ label app = cart }}\n\
             workload range {{ address 172.30.0.0/16 }}"
        )
    };
    let pod = Netns::new()?;
    let path = pod.path().display().to_string();
    let mut extra = labels(&[("app", "cart")]);
    extra["prevResult"] = json!({ "ips": [{ "address": "172.30.0.9/16" }] });
    for on in ["", "on failed-attach refuse"] {
        node.apply(&mesh(on))?;
        let refused = alone(&node, "ADD", "1.0.0", &path, &extra)?;
        let (code, message) = error(&refused)?;
        assert!(code == 100 && message.contains("ambiguous-member"), "{refused:#?}");
        assert!(refused.stderr.contains("cart-1"), "{refused:#?}");
        // Its runtime deletes what it could not add, and that is no reason to forget it.
        alone(&node, "DEL", "1.0.0", &path, &extra)?.done()?;
        let status = node.ask(&["status"])?;
        assert_eq!(status["members"], json!([]));
        assert_eq!(status["failed"][0]["name"], "cart-1");
        assert_eq!(status["failed"][0]["started"], false);
        assert_eq!(Answer::of(node.meshc().args(["status", "--check"]))?.code, 3);
    }
    node.apply(&mesh("on failed-attach start"))?;
    let started = alone(&node, "ADD", "1.0.0", &path, &extra)?.done()?;
    assert_eq!(started.stdout, extra["prevResult"].to_string());
    assert!(started.stderr.contains("starts outside the mesh"), "{started:#?}");
    let status = node.ask(&["status"])?;
    assert_eq!(status["failed"].as_array().map(Vec::len), Some(1));
    assert_eq!(status["failed"][0]["started"], true);
    let text = Answer::of(node.meshc().arg("status"))?.done()?.words();
    assert!(text.contains("cart-1: started outside the mesh"), "{text}");
    // Where nothing is in its way any more, nothing is said of it.
    node.apply(MESH)?;
    alone(&node, "ADD", "1.0.0", &path, &extra)?.done()?;
    assert_eq!(node.ask(&["status"])?["failed"], json!([]));
    Ok(())
}

/// A failure makes the directory that failures are noted in, where every later pod is looked for by its name.
#[test]
fn the_length_of_a_pods_name_is_no_obstacle() -> Tested {
    let node = Node::new()?;
    node.apply(
        "redirect outbound -> 15001\non failed-attach start\nworkload cart { label app = cart }\n\
         workload range { address 172.30.0.0/16 }",
    )?;
    let names = ["a".repeat(253), format!("{}b", "a".repeat(252)), "é".repeat(200)];
    let pod = Netns::new()?;
    let netns = pod.path().display().to_string();
    let call = |command: &str, name: &str, extra: &Value| {
        let call = Call { command, container: "c1", netns: &netns, arguments: &kubernetes("shop", name) };
        let mut config = node.plugin();
        config["cniVersion"] = "1.0.0".into();
        config["name"] = "pods".into();
        if let (Some(config), Some(extra)) = (config.as_object_mut(), extra.as_object()) {
            config.extend(extra.clone());
        }
        node.call(&call, &config)?.done()
    };
    let mut ambiguous = labels(&[("app", "cart")]);
    ambiguous["prevResult"] = json!({ "cniVersion": "1.0.0", "ips": [{ "address": "172.30.0.9/16" }] });
    for name in &names {
        call("ADD", name, &ambiguous)?;
    }
    let status = node.ask(&["status"])?;
    let failed = status["failed"].as_array().cloned().unwrap_or_default();
    let failed: Vec<&str> = failed.iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(failed, names, "each is noted for itself");
    let mut plain = labels(&[("app", "cart")]);
    plain["prevResult"] = json!({ "cniVersion": "1.0.0", "ips": [{ "address": "10.99.0.9/16" }] });
    for name in &names {
        call("ADD", name, &plain)?;
        assert_eq!(node.members()?, [name.as_str()]);
        call("DEL", name, &plain)?;
    }
    assert_eq!(node.ask(&["status"])?["failed"], json!([]));
    Ok(())
}

#[test]
fn after_a_boot_no_meshed_pod_starts_before_its_policy_is_back() -> Tested {
    let node = Node::new()?;
    node.apply(MESH)?;
    node.ask(&["detach", "--all"])?;
    // As if it had been applied in another boot.
    let current = node.ground().state().join("current");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&current)?)?;
    record["boot_id"] = "another".into();
    std::fs::write(&current, record.to_string())?;
    let pod = Netns::new()?;
    let path = pod.path().display().to_string();
    let cart = labels(&[("app", "cart")]);
    let (code, message) = error(&alone(&node, "ADD", "1.0.0", &path, &cart)?)?;
    assert!(code == 11 && message.contains("not restored"), "{code}: {message}");
    assert_eq!(error(&alone(&node, "STATUS", "1.1.0", "", &cart)?)?.0, 50);
    // No workload selects this one.
    alone(&node, "ADD", "1.0.0", &path, &labels(&[("app", "other")]))?.done()?;
    node.ask(&["restore"])?;
    alone(&node, "ADD", "1.0.0", &path, &cart)?.done()?;
    alone(&node, "STATUS", "1.1.0", "", &cart)?.done()?;
    assert_eq!(node.ask(&["status"])?["members"][0]["workload"], "shop/cart");
    Ok(())
}

#[test]
fn after_many_pods_came_and_went_nothing_is_left() -> Tested {
    let node = Node::new()?;
    node.apply(MESH)?;
    let pods = if long_runs_are_wanted() { 200 } else { 12 };
    let cart = labels(&[("app", "cart")]);
    let mut living = Vec::new();
    for number in 0..pods {
        let (netns, container) = (Netns::new()?, format!("c{number}"));
        let (path, arguments) =
            (netns.path().display().to_string(), kubernetes("shop", &format!("cart-{number}")));
        node.chain(
            &Call { command: "ADD", container: &container, netns: &path, arguments: &arguments },
            "1.0.0",
            &cart,
        )?;
        living.push((container, arguments, netns));
    }
    assert_eq!(node.members()?.len(), pods);
    assert_eq!(storage::entries(&pin(&node, "endpoints"))?, pods);
    for (container, arguments, netns) in living {
        let path = netns.path().display().to_string();
        node.chain(
            &Call { command: "DEL", container: &container, netns: &path, arguments: &arguments },
            "1.0.0",
            &cart,
        )?;
    }
    assert_eq!(node.members()?, Vec::<String>::new());
    assert_eq!(storage::entries(&pin(&node, "endpoints"))?, 0);
    assert_eq!(entries(&node, "own_addresses")?, 0);
    let leases = std::fs::read_dir(node.ground().dir().join("ipam/pods"))?.flatten();
    let leases: Vec<_> =
        leases.filter(|lease| lease.file_name().as_encoded_bytes().contains(&b'2')).collect();
    assert!(leases.is_empty(), "{leases:?}");
    assert_eq!(node.ask(&["status"])?["drift"], json!([]));
    node.ask(&["detach", "--all", "--purge"])?;
    assert!(!node.ground().state().exists());
    Ok(())
}

fn pin(node: &Node, map: &str) -> std::path::PathBuf {
    node.ground().bpffs().join("mesh/maps").join(map)
}

/// Elements in use, as `status` counts them.
fn entries(node: &Node, map: &str) -> Result<u64, Failure> {
    let status = node.ask(&["status"])?;
    let maps = status["maps"].as_array().cloned().unwrap_or_default();
    let found = maps.iter().find(|found| found["name"] == map).ok_or_else(|| format!("no map `{map}`"))?;
    Ok(found["entries"].as_u64().ok_or("no number")?)
}
