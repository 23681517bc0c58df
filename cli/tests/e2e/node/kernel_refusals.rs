//! Kernels that refuse something that not every policy needs: what `doctor` says of it is what then becomes of
//! policies, in words, and nothing is done by halves.

use std::net::Shutdown;

use mesh_testbed::kernel_test as test;
use mesh_testbed::refuse::{OPTIONAL, Refused};
use mesh_testbed::{Client, Errno, Failure, Tested};
use serde_json::Value;

use crate::fixtures::command::Answer;
use crate::fixtures::duo::{Duo, TARGET, pattern};
use crate::fixtures::seen::Seen;
use crate::fixtures::stage::{Stage, as_member};
use crate::fixtures::town::{Pod, Reached, reach};

const OUTBOUND: &str = "redirect outbound -> 15001\nexclude outbound tcp 443\ndeny outbound tcp 25";
const INBOUND: &str = "redirect inbound -> 15003\nexclude inbound tcp 9090";

/// A part of an answer; nothing where it has no such part.
fn part<'a>(answer: &'a Value, name: &str) -> &'a Value {
    answer.get(name).unwrap_or(&Value::Null)
}

/// The names of the features that are not there, or not known to be.
fn lost(answer: &Value) -> Vec<String> {
    let features = answer["features"].as_array().into_iter().flatten();
    let lost = features.filter(|feature| feature["state"] != "ok");
    lost.filter_map(|feature| feature["name"].as_str().map(str::to_owned)).collect()
}

/// What `doctor` says where the kernel refuses this, beside what it lacks anyhow: these features are lost, and policies
/// can be enforced.
fn says_doctor(stage: &Stage, what: &[Refused], names: &[&str]) -> Tested {
    let doctor = || stage.ask(&["doctor"]);
    stage.refuse(&[]);
    let before = lost(&doctor()?);
    stage.refuse(what);
    let answer = doctor()?;
    assert_eq!(*part(&answer, "able"), true, "{answer:#}");
    let more: Vec<String> = lost(&answer).into_iter().filter(|name| !before.contains(name)).collect();
    let expected: Vec<&str> =
        names.iter().copied().filter(|&name| !before.iter().any(|it| it == name)).collect();
    assert_eq!(more, expected, "{what:?}: {answer:#}");
    Ok(())
}

/// What nothing else is needed for: redirected, excluded and denied connections, and an end that leaves nothing.
fn carries_out(stage: &Stage) -> Tested {
    stage.apply_rules(OUTBOUND)?;
    decides(stage)?;
    let status = stage.ask(&["status"])?;
    assert_eq!(
        (part(&status, "state"), part(&status, "drift")),
        (&"active".into(), &Value::Array(vec![])),
        "{status:#}"
    );
    stage.ask(&["apply", "--repair", &stage.policy("policy.mesh", OUTBOUND)?.display().to_string()])?;
    decides(stage)
}

fn decides(stage: &Stage) -> Tested {
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));
    assert_eq!(stage.dial("10.0.0.1:443")?, Seen::Straight);
    assert_eq!(stage.dial("10.0.3.9:25")?, Seen::Denied);
    Ok(())
}

/// Detaches all; the directory of pins is empty then.
fn ends(stage: &Stage) -> Tested {
    stage.ask(&["detach", "--all", "--purge"])?;
    nothing_is_pinned(stage);
    assert!(!stage.ground().state().exists(), "nor kept");
    Ok(())
}

fn nothing_is_pinned(stage: &Stage) {
    assert!(!stage.ground().bpffs().join("mesh").exists(), "something is pinned");
}

/// A policy that is refused: the word for scripts is this one, its reason is said, and what was live is live.
fn is_refused(stage: &Stage, rules: &str, arguments: &[&str], word: &str) -> Result<Value, Failure> {
    let before = stage.ask(&["status"])?;
    let policy = stage.policy("refused.mesh", rules)?.display().to_string();
    let answer = Answer::of(stage.meshc().args(["--format", "json", "apply", &policy]).args(arguments))?;
    assert_eq!(answer.code, 4, "{answer:?}");
    let said = error_of(&answer)?;
    assert_eq!(*part(&said, "code"), word, "{answer:?}");
    assert!(
        part(&said, "message").as_str().is_some_and(|text| text.contains("Operation not permitted")),
        "{answer:?}"
    );
    assert!(!part(&said, "help").to_string().contains("root"), "it is root: {answer:?}");
    let after = stage.ask(&["status"])?;
    for name in ["state", "generation", "digest", "drift", "programs"] {
        assert_eq!(part(&after, name), part(&before, name), "{name}");
    }
    Ok(said)
}

fn error_of(answer: &Answer) -> Result<Value, Failure> {
    let lines = answer.stdout.lines().chain(answer.stderr.lines());
    let objects = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let found = objects.map(|object| part(&object, "error").clone()).find(Value::is_object);
    found.ok_or_else(|| format!("no error in JSON: {answer:?}").into())
}

/// Whether an answer has a warning of a kind.
fn warns(answer: &Value, code: &str) -> bool {
    let warnings = answer["warnings"].as_array();
    warnings.is_some_and(|all| all.iter().any(|one| one["code"] == code && one["text"].is_string()))
}

const ACCELERATED: &str = "redirect outbound -> 15005\nexclude outbound tcp 443\naccelerate local";

/// Without one of the programs that acceleration needs.
fn without_acceleration(what: Refused, names: &[&str]) -> Tested {
    let stage = Stage::new()?;
    says_doctor(&stage, &[what], names)?;
    // Before there is a policy, nothing is left of one that is refused.
    is_refused(&stage, ACCELERATED, &[], "cannot-accelerate")?;
    nothing_is_pinned(&stage);
    carries_out(&stage)?;
    is_refused(&stage, ACCELERATED, &[], "cannot-accelerate")?;
    decides(&stage)?;
    ends(&stage)
}

#[test]
fn without_sk_msg_a_policy_that_accelerates_is_refused() -> Tested {
    let names =
        ["sk_msg charges the reader", "FIONREAD counts accelerated sockets", "sk_msg", "repairing FIONREAD"];
    without_acceleration(Refused::SkMsg, &names)
}

#[test]
fn without_the_tracepoint_of_reads_a_policy_that_accelerates_is_refused() -> Tested {
    without_acceleration(Refused::Tracepoint("sock_recv_length"), &["tracepoint sock_recv_length"])
}

#[test]
fn without_the_tracepoint_of_receive_queues_a_policy_that_accelerates_is_refused() -> Tested {
    without_acceleration(Refused::Tracepoint("tcp_rcv_space_adjust"), &["tracepoint tcp_rcv_space_adjust"])
}

#[test]
fn without_sys_exit_it_is_said_that_fionread_may_count_wrong() -> Tested {
    let duo = Duo::new()?;
    says_doctor(
        &duo.stage,
        &[Refused::Tracepoint("sys_exit")],
        &["repairing FIONREAD", "noticing FIONREAD"],
    )?;
    let counts =
        !lost(&duo.stage.ask(&["doctor"])?).iter().any(|name| name == "FIONREAD counts accelerated sockets");
    let applied = duo.apply(true)?;
    let status = duo.stage.ask(&["status"])?;
    assert_eq!(status["acceleration"]["fionread"], if counts { "right" } else { "wrong" }, "{status:#}");
    assert_eq!(warns(&applied, "fionread-wrong"), !counts, "{applied:#}");
    accelerates(&duo)?;
    ends(&duo.stage)
}

/// Bytes take the fast path, and arrive.
fn accelerates(duo: &Duo) -> Tested {
    let before = duo.counts()?;
    let (near, far) = duo.run(|end| end.send(&pattern(1000)), |end| end.take(1000))?;
    near?;
    assert!(far? == pattern(1000));
    assert!(duo.counts()?.fast >= before.fast + 1000, "{:?}", duo.counts()?);
    Ok(())
}

#[test]
fn without_the_security_module_it_is_said_that_a_splice_is_not_refused() -> Tested {
    let duo = Duo::new()?;
    says_doctor(&duo.stage, &[Refused::Lsm], &["the security module bpf"])?;
    let applied = duo.apply(true)?;
    assert!(warns(&applied, "splice-not-refused"), "{applied:#}");
    accelerates(&duo)?;
    ends(&duo.stage)
}

#[test]
fn iterators_over_maps_are_not_needed_by_anything() -> Tested {
    let duo = Duo::new()?;
    says_doctor(&duo.stage, &[Refused::MapIterators], &[])?;
    duo.apply(true)?;
    accelerates(&duo)?;
    let detached = duo.stage.ask(&["detach", "--all"])?;
    assert_eq!(detached["lost"], 0, "{detached}");
    ends(&duo.stage)
}

#[test]
fn without_classifiers_detaching_asks_for_the_word_while_accelerated_connections_are_open() -> Tested {
    let duo = Duo::new()?;
    says_doctor(&duo.stage, &[Refused::Classifier], &["tcx", "finding unread bytes"])?;
    duo.apply(true)?;
    accelerates(&duo)?;
    let detach = |arguments: &[&str]| {
        Answer::of(duo.stage.meshc().args(["--format", "json", "detach", "--all"]).args(arguments))
    };
    let (near, far) = duo.run(
        |end| {
            end.send(&pattern(1000))?;
            end.wait("detached")?;
            end.send(&pattern(1000))?;
            end.stream.shutdown(Shutdown::Write)?;
            Ok(())
        },
        |end| {
            let first = end.take(1000)?;
            // Nothing is unread, but who could tell?
            let refused = detach(&[]).map_err(|_| Errno::EBUSY)?;
            let status = duo.stage.ask(&["status"]).map_err(|_| Errno::EBUSY)?;
            let forced = detach(&["--drop-unread"]).map_err(|_| Errno::EBUSY)?;
            end.tell("detached")?;
            let rest = end.rest()?;
            let lost = forced.json().map_err(|_| Errno::EBUSY)?["lost"].clone();
            let said = error_of(&refused).map_err(|_| Errno::EBUSY)?;
            let words = [said["code"].to_string(), said["help"].to_string(), status["state"].to_string()];
            Ok((first.len(), rest.len(), (refused.code, forced.code), words, lost.to_string()))
        },
    )?;
    near?;
    let (first, rest, codes, [code, help, state], lost) = far?;
    assert_eq!((first, rest, codes), (1000, 1000, (4, 0)));
    assert_eq!((code.as_str(), state.as_str()), ("\"unread-unknown\"", "\"active\""));
    assert!(help.contains("--drop-unread"), "{help}");
    assert_eq!(lost, "null", "it is not known whether bytes were lost");
    // Where no accelerated connection is open, there is nothing to ask.
    duo.apply(true)?;
    assert_eq!(detach(&[])?.done()?.json()?["lost"], 0);
    ends(&duo.stage)
}

#[test]
fn without_sk_lookup_policies_without_inbound_rules_are_carried_out_and_others_by_tc() -> Tested {
    let stage = Stage::new()?;
    says_doctor(&stage, &[Refused::SkLookup], &["sk_lookup"])?;
    let said = is_refused(&stage, INBOUND, &[], "cannot-decide-inbound")?;
    assert!(said["help"].to_string().contains("--inbound tc"), "{said}");
    nothing_is_pinned(&stage);
    carries_out(&stage)?;
    is_refused(&stage, INBOUND, &[], "cannot-decide-inbound")?;
    decides(&stage)?;
    // A service of the host is decided by sk_lookup, whatever pods are.
    is_refused(&stage, INBOUND, &["--inbound", "tc"], "cannot-decide-inbound")?;
    ends(&stage)?;

    let pod = Pod::new("sk_lookup")?;
    let _servers = pod.servers()?;
    pod.refuse(&[Refused::SkLookup]);
    let applied = pod.apply("redirect outbound -> 15001")?;
    assert!(warns(&applied, "inbound-undecided"), "{applied:#}");
    pod.attach()?;
    let status = pod.ask(&["status"])?;
    assert_eq!(status["drift"], Value::Array(vec![]), "{status:#}");
    assert_eq!(reach(&pod.town().far, "10.42.0.2:8080")?, Reached::Straight("application".into()));
    // Its own connections reach the sidecar, which no program helps them to.
    let _outbound = pod.serve("outbound", &["127.0.0.1:15001"])?;
    for host in 1..=20 {
        let target = Client::to(([10, 77, 0, host], 80).into());
        let dialled = as_member(&pod.place(), || target.dial().map(|dialled| dialled.arrival.who))?;
        assert_eq!(dialled, Ok("outbound".to_owned()), "{host}");
    }
    // The other way serves.
    let policy = pod.policy(INBOUND)?.display().to_string();
    pod.ask(&["apply", "--inbound", "tc", &policy])?;
    assert_eq!(reach(&pod.town().far, "10.42.0.2:8080")?, Reached::Redirected("sidecar".into()));
    assert_eq!(reach(&pod.town().far, "10.42.0.2:9090")?, Reached::Straight("application".into()));
    pod.ask(&["detach", "--all", "--purge"])?;

    // Where the kernel does not refuse it any more, pods that are there get their program, also by the same policy.
    for rules in ["redirect outbound -> 15001", INBOUND] {
        pod.refuse(&[Refused::SkLookup]);
        pod.apply("redirect outbound -> 15001")?;
        pod.attach()?;
        pod.refuse(&[]);
        pod.apply(rules)?;
        let status = pod.ask(&["status"])?;
        assert_eq!(status["drift"], Value::Array(vec![]), "{status:#}");
        assert!(status["programs"].to_string().contains("mesh_inbound"), "{status:#}");
        pod.apply(INBOUND)?;
        assert_eq!(reach(&pod.town().far, "10.42.0.2:8080")?, Reached::Redirected("sidecar".into()));
        pod.ask(&["detach", "--all", "--purge"])?;
    }
    Ok(())
}

#[test]
fn without_tcx_a_policy_is_refused_that_asks_for_it() -> Tested {
    let stage = Stage::new()?;
    says_doctor(&stage, &[Refused::Tcx], &["tcx"])?;
    let said = is_refused(&stage, INBOUND, &["--inbound", "tc"], "cannot-decide-inbound")?;
    assert!(said["help"].to_string().contains("--inbound sk_lookup"), "{said}");
    nothing_is_pinned(&stage);
    carries_out(&stage)?;
    is_refused(&stage, INBOUND, &["--inbound", "tc"], "cannot-decide-inbound")?;
    decides(&stage)?;
    ends(&stage)
}

#[test]
fn without_any_of_it_what_all_policies_need_is_carried_out() -> Tested {
    let duo = Duo::new()?;
    let names = [
        "tcx",
        "sk_msg charges the reader",
        "FIONREAD counts accelerated sockets",
        "hook ingress",
        "sk_lookup",
        "the security module bpf",
        "repairing FIONREAD",
        "noticing FIONREAD",
        "tracepoint tcp_rcv_space_adjust",
        "tracepoint sock_recv_length",
        "sk_msg",
        "finding unread bytes",
    ];
    says_doctor(&duo.stage, &OPTIONAL, &names)?;
    is_refused(&duo.stage, ACCELERATED, &[], "cannot-accelerate")?;
    is_refused(&duo.stage, INBOUND, &[], "cannot-decide-inbound")?;
    is_refused(&duo.stage, INBOUND, &["--inbound", "tc"], "cannot-decide-inbound")?;
    duo.apply(false)?;
    let (near, far) = duo.run(|end| end.send(&pattern(1000)), |end| end.take(1000))?;
    near?;
    assert!(far? == pattern(1000), "{TARGET}");
    carries_out(&duo.stage)?;
    ends(&duo.stage)
}
