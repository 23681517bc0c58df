//! What a node keeps, and what it says of what it would do: plans, generations, artifacts, confirmation.

use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Failure, Tested, until};
use serde_json::{Value, json};

use crate::fixtures::backend::{Backend, by_each_backend};
use crate::fixtures::command::Answer;
use crate::fixtures::observer::Observer;
use crate::fixtures::seen::Seen;
use crate::fixtures::stage::Stage;

const OLD: &str = "redirect outbound -> 15001";
const NEW: &str = "redirect outbound -> 15002\ndeny outbound tcp 25";
const FLOW: &str = "10.0.3.9:80";

/// What a command answers, with its exit code.
fn json_of(stage: &Stage, code: i32, arguments: &[&str]) -> Result<Value, Failure> {
    let answer = Answer::of(stage.meshc().args(["--format", "json"]).args(arguments))?;
    assert_eq!(answer.code, code, "{arguments:?}: {answer:#?}");
    if code == 0 || code == 3 { answer.json() } else { Ok(Value::Null) }
}

fn text_of(stage: &Stage, arguments: &[&str]) -> Result<String, Failure> {
    Ok(Answer::of(stage.meshc().args(arguments))?.done()?.stdout)
}

fn policies(stage: &Stage) -> Result<[String; 2], Failure> {
    let path = |name, rules| Ok::<_, Failure>(stage.policy(name, rules)?.display().to_string());
    Ok([path("old.mesh", OLD)?, path("new.mesh", NEW)?])
}

/// Verdicts of one port, before and after, as a difference has them.
fn of_port(difference: &Value, ports: &str) -> Vec<(Value, Value)> {
    let flows = difference.get("flows").and_then(Value::as_array).cloned().unwrap_or_default();
    let part = |flow: &Value, part| flow.pointer(&format!("/{part}/verdict")).cloned().unwrap_or_default();
    (flows.iter().filter(|flow| flow.get("ports") == Some(&json!(ports))))
        .map(|flow| (part(flow, "before"), part(flow, "after")))
        .collect()
}

by_each_backend! {
    a_plan_says_what_apply_does_and_is_bound_to_what_is_live,
    what_is_shown_is_what_was_applied_byte_for_byte,
    any_kept_generation_comes_back_with_one_command,
    a_policy_takes_itself_back_unless_it_is_confirmed,
}

fn a_plan_says_what_apply_does_and_is_bound_to_what_is_live(by: Backend) -> Tested {
    let stage = Stage::by(by)?;
    let [old, new] = policies(&stage)?;
    let file = stage.ground().dir().join("plan").display().to_string();
    let applied = json_of(&stage, 0, &["apply", &old])?;
    let planned = json_of(&stage, 3, &["plan", &new, "-o", &file])?;
    assert_eq!(planned.get("live"), applied.get("digest"));
    assert!(of_port(&planned, "25").contains(&(json!("redirected"), json!("denied"))), "{planned:#}");
    assert!(planned.get("bytes").and_then(Value::as_u64) > Some(0), "{planned:#}");
    let different = json_of(&stage, 3, &["diff", "live", &new])?;
    assert_eq!(different.get("flows"), planned.get("flows"));
    assert_eq!(different.get("entries"), planned.get("entries"));
    // Nothing was changed by asking.
    assert_eq!(json_of(&stage, 0, &["plan", &old])?.get("equal"), Some(&json!(true)));
    json_of(&stage, 0, &["diff", "live", &old])?;
    assert_eq!(stage.dial(FLOW)?, Seen::Redirected(15001));

    let carried_out = json_of(&stage, 0, &["apply", &file])?;
    assert_eq!(carried_out.get("digest"), planned.get("new"));
    assert_eq!(carried_out.get("entries"), planned.get("entries"));
    assert_eq!(stage.dial(FLOW)?, Seen::Redirected(15002));
    // Another policy is live than the one that it was planned against.
    json_of(&stage, 5, &["apply", &file])?;
    assert_eq!(stage.dial(FLOW)?, Seen::Redirected(15002));
    Ok(())
}

#[test]
fn kept_generations_are_compared_by_their_numbers() -> Tested {
    let stage = Stage::new()?;
    let number = |applied: &Value| applied.get("generation").map(Value::to_string).unwrap_or_default();
    let [old, new] = policies(&stage)?;
    let generations =
        [number(&json_of(&stage, 0, &["apply", &old])?), number(&json_of(&stage, 0, &["apply", &new])?)];
    let [first, second] = &generations;
    let compared = json_of(&stage, 3, &["diff", first, second])?;
    let flows = compared.get("flows").cloned().unwrap_or_default();
    assert_eq!(Some(&flows), json_of(&stage, 3, &["diff", &old, &new])?.get("flows"));
    assert!(flows.to_string().contains("new.mesh"), "{flows:#}");
    json_of(&stage, 0, &["diff", second, "live"])?;
    let missing = Answer::of(stage.meshc().args(["diff", "4711", "live"]))?;
    assert!(missing.code == 1 && missing.words().contains("4711"), "{missing:#?}");
    Ok(())
}

#[test]
fn what_is_shown_has_the_names_of_sets() -> Tested {
    let stage = Stage::new()?;
    let sets = "set partners = 10.1.0.0/16, 10.3.0.0/16\nexclude outbound tcp 9 to partners";
    let policy = stage.policy("sets.mesh", sets)?.display().to_string();
    let compiled = text_of(&stage, &["compile", &policy])?;
    assert!(compiled.contains("exclude tcp 9 to bookstore/partners"), "{compiled}");
    let applied = json_of(&stage, 0, &["apply", &policy])?;
    assert_eq!(text_of(&stage, &["show"])?, compiled);
    json_of(&stage, 0, &["apply", &policies(&stage)?[0]])?;
    let generation = applied.get("generation").map(Value::to_string).unwrap_or_default();
    assert_eq!(text_of(&stage, &["show", &generation])?, compiled);
    Ok(())
}

fn what_is_shown_is_what_was_applied_byte_for_byte(by: Backend) -> Tested {
    let stage = Stage::by(by)?;
    let [old, new] = policies(&stage)?;
    let artifact = stage.ground().dir().join("artifact").display().to_string();
    let compiled = [text_of(&stage, &["compile", &old])?, text_of(&stage, &["compile", &new])?];
    let first = json_of(&stage, 0, &["apply", &old])?;
    assert_eq!(text_of(&stage, &["show"])?, compiled[0]);
    text_of(&stage, &["compile", &new, "--artifact", "-o", &artifact])?;
    let second = json_of(&stage, 0, &["apply", &artifact])?;
    assert_eq!(text_of(&stage, &["show", "live"])?, compiled[1]);
    let number = |applied: &Value| applied.get("generation").map(Value::to_string).unwrap_or_default();
    assert_eq!(text_of(&stage, &["show", &number(&first)])?, compiled[0]);
    assert_eq!(text_of(&stage, &["show", &number(&second)])?, compiled[1]);

    // Damaged anywhere, or cut off, it is refused with a reason, and what is live stays.
    let good = std::fs::read(&artifact)?;
    let step = good.len() / 12;
    for at in (0..good.len()).step_by(step.max(1)) {
        let mut bad = good.clone();
        bad.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1);
        std::fs::write(&artifact, &bad)?;
        let answer = Answer::of(stage.meshc().args(["apply", &artifact]))?;
        assert!(answer.code == 1 && answer.words().contains("error"), "{at}: {answer:#?}");
        std::fs::write(&artifact, good.iter().copied().take(at).collect::<Vec<u8>>())?;
        assert_eq!(Answer::of(stage.meshc().args(["apply", &artifact]))?.code, 1, "cut off at {at}");
    }
    assert_eq!(text_of(&stage, &["show"])?, compiled[1]);
    Ok(())
}

fn any_kept_generation_comes_back_with_one_command(by: Backend) -> Tested {
    let stage = Stage::by(by)?;
    let [old, new] = policies(&stage)?;
    json_of(&stage, 1, &["rollback"])?;
    let first = json_of(&stage, 0, &["apply", &old])?;
    json_of(&stage, 1, &["rollback"])?;
    json_of(&stage, 0, &["apply", &new])?;
    let back = json_of(&stage, 0, &["rollback"])?;
    assert_eq!(back.get("digest"), first.get("digest"));
    assert_eq!(stage.dial(FLOW)?, Seen::Redirected(15001));
    let history = json_of(&stage, 0, &["history"])?;
    let field = |name: &str| -> Vec<Value> {
        let generations = history.get("generations").and_then(Value::as_array).cloned().unwrap_or_default();
        generations.iter().map(|kept| kept.get(name).cloned().unwrap_or_default()).collect()
    };
    assert_eq!(field("generation"), [json!(3), json!(2), json!(1)]);
    assert_eq!(field("live"), [json!(true), json!(false), json!(false)]);
    assert_eq!(field("origin").first(), Some(&json!("rollback to 1")));
    json_of(&stage, 0, &["rollback", "2"])?;
    assert_eq!(stage.dial(FLOW)?, Seen::Redirected(15002));
    json_of(&stage, 1, &["rollback", "99"])?;
    Ok(())
}

fn a_policy_takes_itself_back_unless_it_is_confirmed(by: Backend) -> Tested {
    let stage = Stage::by(by)?;
    let [old, new] = policies(&stage)?;
    json_of(&stage, 0, &["apply", &old])?;
    json_of(&stage, 0, &["apply", &new, "--confirm-within", "8s"])?;
    // Long enough for what is asked meanwhile on a machine under load.
    let waits = |answer: &Value| answer.pointer("/confirm/generation") == Some(&json!(2));
    assert!(waits(&json_of(&stage, 0, &["status"])?) && waits(&json_of(&stage, 0, &["history"])?));
    for command in ["status", "history"] {
        let text = text_of(&stage, &[command])?;
        assert!(text.contains("generation 2 waits for `meshc confirm`: in "), "{text}");
        assert!(text.contains(" s generation 1 comes back"), "{text}");
    }
    let live = || stage.dial(FLOW).ok();
    assert!(until(Duration::from_secs(30), || live() == Some(Seen::Redirected(15001))), "{:?}", live());
    json_of(&stage, 1, &["confirm"])?;
    let history = json_of(&stage, 0, &["history"])?;
    assert_eq!(history.get("confirm"), Some(&Value::Null));
    let how = ["/generations/0/origin", "/generations/0/taken_back", "/generations/1/taken_back"];
    let said = how.map(|path| history.pointer(path).cloned().unwrap_or_default());
    assert_eq!(said, [json!("2 was not confirmed: back to 1"), json!(false), json!(true)]);
    // What was taken back is no way back.
    json_of(&stage, 1, &["rollback"])?;
    assert_eq!(live(), Some(Seen::Redirected(15001)));
    json_of(&stage, 0, &["apply", &new, "--confirm-within", "3s"])?;
    json_of(&stage, 0, &["confirm"])?;
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(live(), Some(Seen::Redirected(15002)));
    Ok(())
}

/// The rule that both of [`cited`]'s policies have, on another line of another file.
const SHARED: &str = "redirect outbound tcp -> 15001";

/// Where the commands say that a rule is written, one after the other: `status`, `explain --live`, and the decisions
/// that are made meanwhile.
fn cited(stage: &Stage, observer: &Observer, seen: usize) -> Result<Vec<Value>, Failure> {
    assert_eq!(stage.dial(FLOW)?, Seen::Redirected(15001));
    let at = |rule: &Value| json!([rule.get("file"), rule.get("line")]);
    let status = stage.ask(&["status"])?;
    let rules = status.get("rules").and_then(Value::as_array).cloned().unwrap_or_default();
    let rule = rules.iter().find(|rule| rule.get("text") == Some(&json!(SHARED)));
    let explained = stage.ask(&["explain", "--live", "cart -> 10.0.3.9 tcp 80"])?;
    let observed = observer.wait(seen)?.pop().unwrap_or_default();
    let rules = [rule.cloned(), explained.get("rule").cloned(), observed.get("rule").cloned()];
    let lines: Vec<_> = rules.iter().flatten().map(at).collect();
    let text = text_of(stage, &["status"])?;
    let shown = lines.first().map(|at| {
        let part =
            |part: usize| at.get(part).map(|part| part.to_string().replace('"', "")).unwrap_or_default();
        format!("{}:{}", part(0), part(1))
    });
    assert!(shown.is_some_and(|shown| text.contains(&shown)), "{text}");
    Ok(lines)
}

#[test]
fn the_lines_of_rules_come_back_with_their_policy() -> Tested {
    let stage = Stage::new()?;
    let path = |name: &str, rules: &str| Ok::<_, Failure>(stage.policy(name, rules)?.display().to_string());
    let old = path("old.mesh", SHARED)?;
    let new = path("new.mesh", &format!("deny outbound tcp 25\n\n{SHARED}"))?;
    let at = |file: &str, line: u32| vec![json!([file, line]); 3];
    json_of(&stage, 0, &["apply", &old])?;
    let observer = Observer::start(&stage, "observed", &[])?;
    assert_eq!(cited(&stage, &observer, 1)?, at(&old, 4));
    json_of(&stage, 0, &["apply", &new])?;
    assert_eq!(cited(&stage, &observer, 2)?, at(&new, 6));
    json_of(&stage, 0, &["rollback"])?;
    assert_eq!(cited(&stage, &observer, 3)?, at(&old, 4), "after a rollback");

    json_of(&stage, 0, &["apply", &new, "--confirm-within", "1s"])?;
    let generation = || json_of(&stage, 0, &["status"]).ok()?.get("generation")?.as_u64();
    assert!(until(Duration::from_secs(30), || generation() == Some(5)), "{:?}", generation());
    assert_eq!(cited(&stage, &observer, 4)?, at(&old, 4), "after it was taken back");
    drop(observer);

    // What the state directory holds when the kernel is empty, as after a boot.
    json_of(&stage, 0, &["apply", &new])?;
    json_of(&stage, 0, &["rollback"])?;
    json_of(&stage, 0, &["detach", "--all"])?;
    json_of(&stage, 0, &["restore"])?;
    let observer = Observer::start(&stage, "restored", &[])?;
    assert_eq!(cited(&stage, &observer, 1)?, at(&old, 4), "after a restore");

    // The same policy from another file, and then as an artifact, which has no lines.
    let moved = path("moved.mesh", &format!("# moved\n{SHARED}"))?;
    assert_eq!(json_of(&stage, 0, &["apply", &moved])?.get("changed"), Some(&json!(false)));
    assert_eq!(cited(&stage, &observer, 2)?, at(&moved, 5));
    let [artifact, plan] =
        ["artifact", "plan"].map(|name| stage.ground().dir().join(name).display().to_string());
    text_of(&stage, &["compile", &moved, "--artifact", "-o", &artifact])?;
    json_of(&stage, 0, &["plan", &artifact, "-o", &plan])?;
    json_of(&stage, 0, &["apply", &artifact])?;
    json_of(&stage, 0, &["apply", &plan])?;
    assert_eq!(cited(&stage, &observer, 3)?, at(&moved, 5));
    Ok(())
}

#[test]
fn what_a_set_stands_for_is_cited_beside_the_rule_of_the_generation() -> Tested {
    let stage = Stage::new()?;
    let path = |name: &str, rules: &str| Ok::<_, Failure>(stage.policy(name, rules)?.display().to_string());
    let rules = "redirect outbound -> 15001\ndeny outbound tcp 25 to blocked";
    let old = path("old.mesh", &format!("set blocked = [\n10.7.0.0/16,\n10.9.0.0/16,\n]\n{rules}"))?;
    let new = path("new.mesh", &format!("{rules}\nset blocked = 10.9.0.0/16"))?;
    let element = |file: &str, line: u32| json!([{ "name": "blocked", "text": "10.9.0.0/16", "file": file, "line": line }]);
    let observer = |name: &str| Observer::start(&stage, name, &["--verdict", "denied"]);
    let cited = |name: &str, file: &str, line: u32, set: u32| -> Tested {
        let observer = observer(name)?;
        assert_eq!(stage.dial("10.9.0.1:25")?, Seen::Denied);
        let observed = observer.wait(1)?.pop().unwrap_or_default();
        let status = stage.ask(&["status"])?;
        let rules = status.get("rules").and_then(Value::as_array).cloned().unwrap_or_default();
        let counted = rules
            .into_iter()
            .find(|rule| rule.get("text") == Some(&json!("deny outbound tcp 25 to 10.9.0.0/16")));
        let explained = stage.ask(&["explain", "--live", "cart -> 10.9.0.1 tcp 25"])?;
        let all = [counted, explained.get("rule").cloned(), observed.get("rule").cloned()];
        for rule in all.map(Option::unwrap_or_default) {
            assert_eq!(rule.get("line"), Some(&json!(line)), "{rule:#}");
            assert_eq!(rule.get("elements"), Some(&element(file, set)), "{rule:#}");
        }
        let shown = format!("deny outbound tcp 25 to blocked  {file}:{line} (10.9.0.0/16, {file}:{set})");
        for command in [&["status"][..], &["explain", "--live", "cart -> 10.9.0.1 tcp 25"]] {
            let text = text_of(&stage, command)?;
            assert!(text.contains(&shown), "{shown} in {text}");
        }
        Ok(())
    };
    json_of(&stage, 0, &["apply", &old])?;
    cited("first", &old, 9, 6)?;
    json_of(&stage, 0, &["apply", &new])?;
    cited("second", &new, 5, 6)?;
    json_of(&stage, 0, &["rollback"])?;
    cited("back", &old, 9, 6)?;
    let planned = Answer::of(stage.meshc().args(["plan", &new]))?;
    let shown = format!("without bookstore: deny outbound tcp 25 to blocked  {old}:9 (10.7.0.0/16, {old}:5)");
    assert!(planned.code == 3 && planned.stdout.contains(&shown), "{shown} in {planned:#?}");
    Ok(())
}
