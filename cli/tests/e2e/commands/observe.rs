//! Decisions are told as they happen: who, where to, what, and by which line.

use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Manner, Process, Tested, UdpServer, ask, until};
use serde_json::{Value, json};

use crate::fixtures::command::Answer;
use crate::fixtures::observer::{Observer, parts};
use crate::fixtures::seen::{Seen, seen};
use crate::fixtures::stage::{SIDECAR_UID, Stage, address, as_member};

const RULES: &str = "redirect outbound -> 15001
exclude outbound tcp 3306
deny outbound tcp 25
redirect outbound udp 53 -> 15053";

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn every_decision_is_told_with_its_rule_and_line() -> Tested {
    let stage = Stage::ruled(RULES)?;
    let _sidecar = UdpServer::start(&stage.pair().client, "sidecar", &[address("127.0.0.1:15053")?])?;
    let observer = Observer::start(&stage, "observed", &[])?;

    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));
    assert_eq!(stage.dial("[fd10::9]:3306")?, Seen::Straight);
    assert_eq!(stage.dial("10.0.3.9:25")?, Seen::Denied);
    let target = address("10.0.3.9:80")?;
    let exempt = stage.cart().uid(SIDECAR_UID);
    assert_eq!(as_member(&exempt, || seen(&Client::to(target), target))?, Seen::Straight);
    let from = address("192.168.7.2:4321")?;
    assert_eq!(
        as_member(&stage.batch(), || seen(&Client::to(target).from(from), target))?,
        Seen::Redirected(15001)
    );
    let resolver = address("10.0.0.1:53")?;
    assert_eq!(as_member(&stage.cart(), || ask(resolver, "who?", Manner::Unconnected))??.who, "sidecar");
    // Beside the members nobody decides.
    assert_eq!(as_member(&stage.beside(), || seen(&Client::to(target), target))?, Seen::Straight);

    let lines = observer.wait(6)?;
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            parts(
                line,
                &["workload", "uid", "direction", "protocol", "source", "destination", "verdict", "port"],
            )
        })
        .collect();
    assert_eq!(
        json!(told),
        json!([
            ["cart", 0, "outbound", "tcp", null, "10.0.3.9:80", "redirected", 15001],
            ["cart", 0, "outbound", "tcp", null, "[fd10::9]:3306", "excluded", null],
            ["cart", 0, "outbound", "tcp", null, "10.0.3.9:25", "denied", null],
            ["cart", SIDECAR_UID, "outbound", "tcp", null, "10.0.3.9:80", "excluded", null],
            ["batch", 0, "outbound", "tcp", "192.168.7.2:4321", "10.0.3.9:80", "redirected", 15001],
            ["cart", 0, "outbound", "udp", null, "10.0.0.1:53", "redirected", 15053],
        ])
    );
    let policy = stage.ground().dir().join("policy.mesh").display().to_string();
    let rules: Vec<_> = lines.iter().map(|line| line["rule"].clone()).collect();
    assert_eq!(
        rules[0],
        json!({
            "text": "redirect outbound tcp -> 15001", "scope": "bookstore", "file": policy, "line": 4, "elements": [],
        })
    );
    assert_eq!(rules[1]["line"], 5);
    assert_eq!(rules[2]["text"], "deny outbound tcp 25");
    assert_eq!(rules[3], json!({ "exempt": "exempt uid 1500", "scope": "", "file": policy, "line": 1 }));
    assert_eq!(rules[5]["line"], 7);
    for line in &lines {
        assert!(line["pid"].as_u64().is_some_and(|pid| pid > 0), "{line}");
        assert!(
            line["time"].as_str().is_some_and(|time| time.starts_with("20") && time.ends_with('Z')),
            "{line}"
        );
        assert_eq!(
            (&line["generation"], &line["mesh"], &line["format"]),
            (&json!(1), &json!("bookstore"), &json!(1))
        );
        assert!(line["command"].is_string() && line["member"].is_string(), "{line}");
    }
    Ok(())
}

/// Whoever runs a program chooses its name, and root reads it.
#[test]
fn what_a_process_or_a_pod_is_called_does_nothing_to_a_terminal() -> Tested {
    let stage = Stage::ruled(RULES)?;
    let log = stage.ground().dir().join("text.log");
    let text = Process::start(stage.meshc().arg("observe"), &log)?;
    text.wait_until_it_says("observing")?;
    let json = Observer::start(&stage, "json.log", &[])?;
    let there = address("10.0.3.9:80")?;
    let done = stage.cart().run(move || {
        let named = std::fs::write("/proc/self/comm", b"e\x1b[2J\n\xc2\x9b\xe2\x80\xaeil");
        [named.is_ok(), Client::to(there).dial().is_ok()]
    })?;
    assert_eq!(done, [true; 2]);
    let lines = json.wait(1)?;
    let shown = "e\\u{1b}[2J\\n\\u{9b}\\u{202e}il";
    assert_eq!(lines[0]["command"], shown, "{lines:#?}");
    assert!(until(PATIENCE, || text.output().is_ok_and(|output| output.contains("2J"))));
    for output in [text.output()?, std::fs::read_to_string(stage.ground().dir().join("json.log"))?] {
        assert!(
            !output.contains(|c: char| c.is_control() && c != '\n') && !output.contains('\u{202e}'),
            "{output:?}"
        );
        let line = output.lines().find(|line| line.contains("2J")).unwrap_or_default();
        assert!(line.contains("il") && line.contains("10.0.3.9"), "it is one line: {output:?}");
    }
    let netns = stage.pair().client.path();
    for name in ["a\u{1b}[31m", "a\nb", "a\u{202e}b"] {
        let mut command = stage.meshc();
        let attach = command.args(["--format", "json", "attach", "--name", name, "--netns"]).arg(&netns);
        let answer = Answer::of(attach)?;
        assert_eq!((answer.code, &answer.json()?["error"]["code"]), (1, &json!("bad-word")), "{answer:#?}");
        assert!(!answer.words().contains(|c: char| c.is_control() && c != '\n'), "{answer:?}");
    }
    Ok(())
}

#[test]
fn several_observers_each_see_what_they_asked_for() -> Tested {
    let stage = Stage::ruled(RULES)?;
    let filters: [(&[&str], &[usize]); 8] = [
        (&[], &[0, 1, 2, 3, 4]),
        (&["cart"], &[0, 1, 2, 3]),
        (&["batch -> any", "--member", "batch"], &[4]),
        (&["any -> 10.0.0.0/8 tcp 1-80", "--verdict", "redirected"], &[0, 4]),
        (&["any -> fd10::/16"], &[1]),
        (&["--verdict", "denied", "--verdict", "exempt"], &[2, 3]),
        (&["--uid", "1500", "--member", "cart"], &[3]),
        (&["--rule", "bookstore: exclude outbound"], &[1]),
    ];
    let observers = (0..)
        .zip(filters)
        .map(|(number, (filter, _))| Observer::start(&stage, &format!("observer-{number}"), filter))
        .collect::<Result<Vec<_>, _>>()?;
    let ninth = Answer::of(stage.meshc().args(["observe"]))?;
    assert_eq!(ninth.code, 5, "{ninth:?}");

    let (v4, v6, denied) = (address("10.0.3.9:80")?, address("[fd10::9]:3306")?, address("10.0.3.9:25")?);
    let dials = [
        (stage.cart(), v4),
        (stage.cart(), v6),
        (stage.cart(), denied),
        (stage.cart().uid(SIDECAR_UID), v4),
        (stage.batch(), v4),
    ];
    for (place, target) in &dials {
        as_member(place, || seen(&Client::to(*target), *target))?;
    }
    let all = observers[0].wait(dials.len())?;
    for (observer, (filter, wanted)) in observers.iter().zip(filters) {
        let expected: Vec<_> =
            wanted.iter().map(|&dial| parts(&all[dial], &["time", "pid", "rule"])).collect();
        let found = observer.wait(wanted.len())?;
        // The clock of one event differs by what each reader took to read it.
        let without_time =
            |lines: &[Vec<Value>]| lines.iter().map(|line| line[1..].to_vec()).collect::<Vec<_>>();
        let found: Vec<_> = found.iter().map(|line| parts(line, &["time", "pid", "rule"])).collect();
        assert_eq!(without_time(&found), without_time(&expected), "{filter:?}");
    }
    Ok(())
}

#[test]
fn what_does_not_fit_the_buffer_is_counted() -> Tested {
    let stage = Stage::ruled(RULES)?;
    let observer = Observer::start(&stage, "observed", &["cart", "--buffer", "4096"])?;
    let others = Observer::start(&stage, "others", &["batch", "--buffer", "4096"])?;
    observer.0.halt();
    let target = address("10.0.3.9:25")?;
    as_member(&stage.cart(), || (0..100).for_each(|_| drop(Client::to(target).dial())))?;
    // Another member is decided as ever, and its own reader has room.
    let elsewhere = address("10.0.3.9:80")?;
    assert_eq!(
        as_member(&stage.batch(), || seen(&Client::to(elsewhere), elsewhere))?,
        Seen::Redirected(15001)
    );
    assert_eq!(others.wait(1)?[0]["verdict"], "redirected");
    observer.0.go_on();
    let counted = |lines: &[Value]| {
        let lost = lines.iter().filter_map(|line| line["lost"].as_u64()).sum::<u64>();
        (lines.iter().filter(|line| line["verdict"] == "denied").count() as u64, lost)
    };
    until(PATIENCE, || {
        observer.lines().is_ok_and(|lines| {
            let (told, lost) = counted(&lines);
            told + lost >= 100
        })
    });
    let lines = observer.lines()?;
    let (told, lost) = counted(&lines);
    assert!(told > 5 && lost > 5, "told {told}, lost {lost}");
    assert_eq!(told + lost, 100, "every decision is told or counted: {lines:#?}");
    let status = stage.ask(&["status"])?;
    let counters = status["counters"].as_array().ok_or("no counters")?;
    assert!(
        counters.iter().any(|counter| *counter == json!({ "name": "event_lost", "value": lost })),
        "{counters:?}"
    );
    Ok(())
}

#[test]
fn an_observer_that_was_killed_is_turned_off_by_the_programs() -> Tested {
    let stage = Stage::ruled(RULES)?;
    let observers = || stage.ask(&["status"]).map(|status| status["observers"].clone());
    assert_eq!(observers()?, 0);
    let mut killed = Observer::start(&stage, "killed", &[])?;
    assert_eq!(observers()?, 1);
    killed.0.kill();
    // Its lease runs out; then a decision finds it, and turns it off.
    assert!(
        until(PATIENCE, || stage.dial("10.0.3.9:25").is_ok() && observers().is_ok_and(|count| count == 0))
    );
    // One that ends turns itself off, and the place of the killed one is free.
    let mut ended = Observer::start(&stage, "ended", &[])?;
    assert_eq!(observers()?, 1);
    ended.0.stop();
    assert_eq!(observers()?, 0);
    Ok(())
}

#[test]
fn an_observer_follows_an_apply_and_ends_with_the_mesh() -> Tested {
    let stage = Stage::ruled(RULES)?;
    let observer = Observer::start(&stage, "observed", &["cart"])?;
    assert_eq!(stage.dial("10.0.3.9:25")?, Seen::Denied);
    // A workload before it, so that it has another number.
    stage.apply_rules("exclude outbound tcp 25\nworkload a { address 203.0.113.1 }")?;
    assert_eq!(stage.dial("10.0.3.9:25")?, Seen::Straight);
    as_member(&stage.batch(), || drop(Client::to(([10, 0, 3, 9], 25).into()).dial()))?;
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Straight);
    let lines = observer.wait(3)?;
    let told: Vec<_> = lines.iter().map(|line| parts(line, &["workload", "verdict", "generation"])).collect();
    assert_eq!(json!(told), json!([["cart", "denied", 1], ["cart", "excluded", 2], ["cart", "excluded", 2]]));
    assert_eq!(lines[2]["rule"], Value::Null, "no rule matched");
    stage.ask(&["detach", "--all"])?;
    assert!(until(PATIENCE, || observer.0.output().is_ok_and(|output| output.contains("detached"))));
    Ok(())
}

#[test]
fn without_a_policy_there_is_nothing_to_observe() -> Tested {
    let stage = Stage::new()?;
    let answer = Answer::of(stage.meshc().args(["observe"]))?;
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(answer.stderr.contains("no policy is live"), "{answer:?}");
    stage.apply_rules(RULES)?;
    let answer = Answer::of(stage.meshc().args(["observe", "cart -> web"]))?;
    assert_eq!(answer.code, 2, "{answer:?}");
    Ok(())
}
