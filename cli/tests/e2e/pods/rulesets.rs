//! Pods that are decided by nftables: each has a ruleset of its own as long as it is attached.
#![expect(
    clippy::indexing_slicing,
    reason = "a key that is not in the JSON is null, and the comparison fails"
)]

use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Errno, Failure, Netns, Process, ServerTask, Tested, tool, until};
use serde_json::{Value, json};

use crate::fixtures::backend::Backend;
use crate::fixtures::chain::{Call, Node, kubernetes, labels};
use crate::fixtures::command::Answer;
use crate::fixtures::seen::Seen;
use crate::fixtures::stage::{Stage, address};
use crate::fixtures::town::{APPLICATION, Pod, addresses};

/// Where the sidecar listens: a redirect leads to the interface's own address.
const SIDECAR: [&str; 4] = ["0.0.0.0:15003", "[::]:15003", "127.0.0.1:15001", "[::1]:15001"];

const RULES: &str = "redirect outbound tcp 80 -> 15001
redirect inbound -> 15003
exclude inbound tcp 9090
deny inbound tcp 25";

fn servers(pod: &Pod) -> Result<[ServerTask; 2], Failure> {
    let sidecar = ServerTask::start(&pod.sidecar_place(), "sidecar", &addresses(&SIDECAR)?)?;
    Ok([sidecar, pod.serve("application", &APPLICATION)?])
}

/// Who answered, and where it was told that the connection went; or why nobody did.
fn reach(from: &Netns, target: &str) -> Result<Result<(String, String), Errno>, Failure> {
    let target = address(target)?;
    let dialled = from.run(|| Client::to(target).dial())?;
    Ok(dialled.map(|dialled| {
        let told = dialled.arrival.original().unwrap_or(dialled.arrival.local);
        (dialled.arrival.who, told.to_string())
    }))
}

fn by(who: &str, target: &str) -> Result<(String, String), Errno> {
    Ok((who.to_owned(), target.to_owned()))
}

/// The tables of nftables in a namespace.
fn tables(netns: &Netns) -> Result<String, Failure> {
    Ok(netns.run(|| tool("nft", &["list", "tables"]))??)
}

fn codes(pod: &Pod) -> Result<Vec<String>, Failure> {
    let status = pod.ask(&["status"])?;
    let drift = status["drift"].as_array().cloned().unwrap_or_default();
    Ok(drift.iter().filter_map(|one| Some(one["code"].as_str()?.to_owned())).collect())
}

#[test]
fn a_pod_is_decided_from_its_attach_to_its_detach() -> Tested {
    let pod = Pod::by(Backend::Nft)?;
    pod.apply(RULES)?;
    assert_eq!(tables(&pod.town().pod)?, "");
    assert_eq!(pod.attach()?["workload"], "shop/cart");
    let _servers = servers(&pod)?;
    let far = &pod.town().far;
    for (v4, v6, who) in [
        ("10.42.0.2:8080", "[fd42::2]:8080", "sidecar"),
        ("10.42.0.2:7", "[fd42::2]:7", "sidecar"),
        ("10.42.0.2:9090", "[fd42::2]:9090", "application"),
    ] {
        assert_eq!(reach(far, v4)?, by(who, v4));
        assert_eq!(reach(far, v6)?, by(who, v6));
    }
    for denied in ["10.42.0.2:25", "[fd42::2]:25"] {
        assert_eq!(reach(far, denied)?, Err(Errno::ECONNREFUSED), "{denied}");
    }
    // What the pod sends itself, and what its sidecar sends, is for the application.
    let itself = address("10.42.0.2:8080")?;
    for place in [pod.place(), pod.sidecar_place()] {
        let dialled = place.run(|| Client::to(itself).dial())??;
        assert_eq!(dialled.arrival.who, "application");
    }
    let status = pod.ask(&["status"])?;
    assert_eq!((&status["backend"], &status["drift"]), (&json!("nft"), &json!([])), "{status:#}");
    let names: Vec<&Value> =
        status["rulesets"].as_array().into_iter().flatten().map(|it| &it["namespace"]).collect();
    assert_eq!(names, ["host", "cart-1"]);
    let hits = |text: &str| {
        let rules = status["rules"].as_array().cloned().unwrap_or_default();
        rules.iter().find(|rule| rule["text"] == text).and_then(|rule| rule["hits"].as_u64())
    };
    assert_eq!(hits("deny inbound tcp 25"), Some(2), "{status:#}");
    pod.detach()?;
    assert_eq!(tables(&pod.town().pod)?, "");
    assert_eq!(reach(far, "10.42.0.2:8080")?, by("application", "10.42.0.2:8080"));
    // What it had counted is kept.
    let rules = pod.ask(&["status"])?["rules"].clone();
    assert!(rules.to_string().contains("deny inbound tcp 25"), "{rules:#}");
    pod.ask(&["detach", "--all"])?;
    assert_eq!(tables(&pod.town().host)?, "");
    Ok(())
}

#[test]
fn connections_live_on_while_policies_come_and_go() -> Tested {
    let pod = Pod::by(Backend::Nft)?;
    let _servers = servers(&pod)?;
    let (before, target) = (address("10.42.0.2:9090")?, address("10.42.0.2:8080")?);
    // One is open before the first ruleset comes, another is redirected.
    let early = pod.town().far.run(|| Client::to(before).open())?;
    let mut early = early.map_err(|error| error.to_string())?;
    early.greeting()?;
    pod.apply(RULES)?;
    pod.attach()?;
    let redirected = pod.town().far.run(|| Client::to(target).open())?;
    let mut redirected = redirected.map_err(|error| error.to_string())?;
    assert_eq!(redirected.greeting()?.arrival.who, "sidecar");
    let mut both_answer = |when: &str| -> Tested {
        for stream in [&mut early, &mut redirected] {
            assert_eq!(stream.exchange("still there?")?, "still there?", "{when}");
        }
        Ok(())
    };
    both_answer("attached")?;
    pod.apply("deny inbound tcp 8080\nredirect inbound tcp 9090 -> 15003")?;
    both_answer("another policy")?;
    assert_eq!(reach(&pod.town().far, "10.42.0.2:8080")?, Err(Errno::ECONNREFUSED));
    pod.ask(&["pause"])?;
    both_answer("paused")?;
    assert_eq!(reach(&pod.town().far, "10.42.0.2:8080")?, by("application", "10.42.0.2:8080"));
    pod.ask(&["resume"])?;
    both_answer("resumed")?;
    pod.ask(&["rollback"])?;
    both_answer("back")?;
    pod.ask(&["apply", "--repair", &pod.policy(RULES)?.display().to_string()])?;
    both_answer("repaired")?;
    Ok(())
}

#[test]
fn what_somebody_else_does_to_a_table_is_drift_until_it_is_repaired() -> Tested {
    let pod = Pod::by(Backend::Nft)?;
    pod.apply(RULES)?;
    pod.attach()?;
    let nft = |words: &str| -> Tested {
        let words: Vec<&str> = words.split(' ').collect();
        Ok(pod.town().pod.run(|| tool("nft", &words))?.map(drop)?)
    };
    let table = tables(&pod.town().pod)?.trim().trim_start_matches("table ").to_owned();
    // A table of somebody else's is none of ours.
    nft("add table inet other")?;
    assert_eq!(codes(&pod)?, Vec::<String>::new());
    let policy = pod.policy(RULES)?.display().to_string();
    for (done, code) in [
        (format!("flush chain {table} output"), "ruleset-changed"),
        (format!("delete table {table}"), "ruleset-missing"),
    ] {
        nft(&done)?;
        assert_eq!(codes(&pod)?, [code], "{done}");
        let checked = Answer::of(pod.meshc().args(["status", "--check"]))?;
        assert_eq!(checked.code, 3, "{checked:#?}");
        pod.ask(&["apply", "--repair", &policy])?;
        assert_eq!(codes(&pod)?, Vec::<String>::new(), "{done}");
    }
    Ok(())
}

#[test]
fn what_nftables_cannot_do_is_refused_before_anything_is_changed() -> Tested {
    let pod = Pod::by(Backend::Nft)?;
    pod.apply(RULES)?;
    let policy = |rules: &str| Ok::<_, Failure>(pod.policy(rules)?.display().to_string());
    let refused = |arguments: &[&str], code: &str| -> Tested {
        let answer = Answer::of(pod.meshc().args(["--format", "json"]).args(arguments))?;
        assert_eq!(answer.code, 1, "{answer:#?}");
        let said = answer.words();
        assert!(said.contains(&format!("\"code\":\"{code}\"")), "{said}");
        Ok(())
    };
    for rules in
        ["redirect outbound -> 15001 transparent", "redirect inbound -> 15003\non missing-sidecar pass"]
    {
        refused(&["apply", "--allow-leaving", &policy(rules)?], "unsupported")?;
    }
    let same = policy(RULES)?;
    refused(&["apply", "--reset-changed", &same], "needs-bpf")?;
    refused(&["apply", "--keep-decisions", "on", &same], "needs-bpf")?;
    refused(&["observe"], "needs-bpf")?;
    refused(&["observe", "--since", "1m"], "needs-bpf")?;
    assert_eq!(pod.ask(&["status"])?["generation"], 1);
    Ok(())
}

#[test]
fn the_plugin_loads_a_ruleset_before_a_pods_first_process_and_the_agent_keeps_it() -> Tested {
    let node = Node::by(Backend::Nft)?;
    node.apply("redirect outbound -> 15001\nexclude outbound tcp 3306\nworkload cart { label app = cart }")?;
    let cart = node.pod("c1", &kubernetes("shop", "cart-1"), &labels(&[("app", "cart")]))?;
    let other = node.pod("c2", &kubernetes("shop", "other-1"), &labels(&[("app", "other")]))?;
    assert_eq!(node.dial(&cart, "10.0.3.9:80")?, Seen::Redirected(15001));
    assert_eq!(node.dial(&cart, "[fd10::9]:443")?, Seen::Redirected(15001));
    assert_eq!(node.dial(&cart, "10.0.3.9:3306")?, Seen::Straight);
    assert_eq!(node.dial(&other, "10.0.3.9:80")?, Seen::Straight);
    assert_eq!(node.ask(&["status"])?["drift"], json!([]));
    let mut command = node.meshc();
    command.args(["agent", "--interval", "1s"]);
    let agent = Process::start(&mut command, &node.ground().dir().join("agent.log"))?;
    let table = tables(cart.netns())?.trim().trim_start_matches("table ").to_owned();
    let words = format!("delete table {table}");
    cart.netns().run(|| tool("nft", &words.split(' ').collect::<Vec<_>>()))??;
    let is_back = || tables(cart.netns()).is_ok_and(|tables| tables.contains(&table));
    assert!(until(Duration::from_secs(30), is_back), "{}", agent.output()?);
    assert_eq!(node.dial(&cart, "10.0.3.9:80")?, Seen::Redirected(15001));
    drop(agent);
    let netns = cart.netns().path().display().to_string();
    let arguments = kubernetes("shop", "cart-1");
    let call = Call { command: "DEL", container: "c1", netns: &netns, arguments: &arguments };
    node.chain(&call, "1.0.0", &json!({}))?;
    assert_eq!(tables(cart.netns())?, "");
    assert_eq!(node.members()?, ["other-1"]);
    Ok(())
}

#[test]
fn a_command_is_a_member_as_long_as_it_runs() -> Tested {
    let stage = Stage::ruled_by(Backend::Nft, "redirect outbound -> 15001\ndeny outbound tcp 25")?;
    let dial = |port: &str| {
        let mut meshc = stage.meshc();
        meshc.args(["run", "--as", "batch", "--", "busybox", "nc", "-w", "5", "10.0.3.9", port]);
        Answer::of(&mut meshc)
    };
    let (open, denied) = (dial("80")?, dial("25")?);
    assert_eq!(open.code, 0, "{open:#?}");
    assert_ne!(denied.code, 0, "{denied:#?}");
    let status = stage.ask(&["status"])?;
    let rules = status["rules"].as_array().cloned().unwrap_or_default();
    let denials = rules.iter().find(|rule| rule["text"] == "deny outbound tcp 25");
    assert_eq!(denials.map(|rule| &rule["hits"]), Some(&json!(1)), "{status:#}");
    assert_eq!((&status["members_total"], &status["drift"]), (&json!(2), &json!([])), "{status:#}");
    Ok(())
}

#[test]
fn one_backend_decides_and_the_other_is_refused_until_it_is_detached() -> Tested {
    let stage = Stage::ruled_by(Backend::Nft, "redirect outbound -> 15001")?;
    let policy = stage.policy("other.mesh", "redirect outbound -> 15002")?.display().to_string();
    for [now, next] in [["nft", "bpf"], ["bpf", "nft"]] {
        let change = ["apply", "--allow-leaving", "--backend", next, &policy];
        let refused = Answer::of(stage.meshc().args(["--format", "json"]).args(change))?;
        assert_eq!(refused.code, 1, "{refused:#?}");
        assert!(refused.words().contains("\"code\":\"other-backend\""), "{refused:#?}");
        // What decides is remembered.
        let kept = || {
            let mut meshc = stage.meshc();
            meshc.env_remove("MESHC_BACKEND").args(["--format", "json"]);
            meshc
        };
        let status = Answer::of(kept().arg("status"))?.done()?.json()?;
        assert_eq!((&status["backend"], &status["state"]), (&json!(now), &json!("active")), "{status:#}");
        Answer::of(kept().args(["detach", "--all"]))?.done()?;
        Answer::of(kept().args(change))?.done()?;
        let status = Answer::of(kept().arg("status"))?.done()?.json()?;
        assert_eq!((&status["backend"], &status["state"]), (&json!(next), &json!("active")), "{status:#}");
        assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15002), "{next}");
    }
    Ok(())
}

#[test]
fn what_looks_otherwise_than_by_programs_is_told_once() -> Tested {
    let pod = Pod::by(Backend::Nft)?;
    let told = |rules: &str| pod.apply(rules).map(|applied| applied["differences"].clone());
    assert_eq!(told("redirect outbound tcp 80 -> 15001")?, json!(["socket-maker", "redirected-outbound"]));
    let denied = "redirect outbound tcp 80 -> 15001\ndeny outbound tcp 25";
    assert_eq!(told(denied)?, json!(["denied-outbound"]), "the others were so before");
    assert_eq!(told(denied)?, json!([]), "the same policy");
    let inbound = pod.policy("redirect inbound tcp -> 15003")?;
    let said = Answer::of(pod.meshc().args(["apply", "--allow-leaving"]).arg(&inbound))?;
    for words in [
        "not all looks alike (docs/nftables.md)",
        "a sidecar must listen on the interface's address or on all",
    ] {
        assert!(said.words().contains(words), "`{words}`: {said:?}");
    }
    assert!(!said.words().contains("ECONNREFUSED"), "{said:?}");
    Ok(())
}

#[test]
fn of_what_programs_decide_nothing_looks_otherwise() -> Tested {
    let pod = Pod::by(Backend::Bpf)?;
    assert_eq!(
        pod.apply("redirect outbound tcp 80 -> 15001\ndeny outbound tcp 25")?["differences"],
        json!([])
    );
    Ok(())
}
