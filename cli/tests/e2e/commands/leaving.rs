//! `apply` takes no member out of the mesh, and no `always`, without a word.

use std::process::{Command, Stdio};

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Failure, Tested};
use serde_json::{Value, json};

use crate::fixtures::command::Answer;
use crate::fixtures::seen::Seen;
use crate::fixtures::stage::Stage;

/// A policy whose only workload is nobody's.
const NOBODY: &str = "exempt uid 1500\nredirect outbound -> 15001\nmesh other {\n    workload other { cgroup \"/nowhere\" }\n}\n";

fn refused(stage: &Stage, policy: &str) -> Result<Value, Failure> {
    let answer = Answer::of(stage.meshc().args(["--format", "json", "apply", policy]))?;
    assert_eq!(answer.code, 1, "{answer:#?}");
    Ok(answer.json()?.get("error").cloned().unwrap_or_default())
}

#[test]
fn members_leave_only_where_that_is_meant() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15001")?;
    let nobody = stage.ground().write("nobody.mesh", NOBODY)?.display().to_string();
    let error = refused(&stage, &nobody)?;
    let says = |key: &str, word: &str| error[key].as_str().is_some_and(|text| text.contains(word));
    assert_eq!(error["code"], "leaving");
    assert!(
        says("message", "2 members will leave the mesh") && says("message", "bookstore/cart"),
        "{error:#}"
    );
    assert!(says("help", "--allow-leaving"), "{error:#}");
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));
    // A plan names them, and a plan that was made may be applied.
    let planned = Answer::of(stage.meshc().args(["--format", "json", "plan", &nobody]))?.json()?;
    let leaving = planned["moves"].as_array().cloned().unwrap_or_default();
    let from: Vec<&Value> = leaving.iter().filter(|it| it["to"].is_null()).map(|it| &it["from"]).collect();
    assert_eq!(from, [&json!("bookstore/batch"), &json!("bookstore/cart")]);

    let applied = Answer::of(stage.meshc().args(["apply", "--allow-leaving", &nobody]))?.done()?.stdout;
    assert!(applied.contains("2 members left the mesh") && applied.contains("meshc rollback"), "{applied}");
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Straight);
    // Who joins needs no leave.
    let back = stage.policy("policy.mesh", "redirect outbound -> 15001")?.display().to_string();
    let applied = Answer::of(stage.meshc().args(["apply", &back]))?.done()?.stdout;
    assert!(
        applied.contains("2 members joined the mesh") && !applied.contains("meshc rollback"),
        "{applied}"
    );
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));
    Ok(())
}

#[test]
fn an_always_goes_only_where_that_is_meant() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15001\nalways deny outbound tcp 25")?;
    let without = stage.policy("without.mesh", "redirect outbound -> 15001")?.display().to_string();
    let error = refused(&stage, &without)?;
    let message = error["message"].as_str().unwrap_or_default();
    assert!(message.contains("`bookstore: always deny outbound tcp 25` will not hold any more"), "{error:#}");
    assert_eq!(stage.dial("10.0.3.9:25")?, Seen::Denied);
    Answer::of(stage.meshc().args(["apply", "--allow-leaving", &without]))?.done()?;
    assert_eq!(stage.dial("10.0.3.9:25")?, Seen::Redirected(15001));
    Ok(())
}

#[test]
fn a_terminal_is_asked() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15001")?;
    let policy = stage.policy("other.mesh", "redirect outbound -> 15002")?.display().to_string();
    let answered = |flags: &str, typed: &str| -> Result<Answer, Failure> {
        let meshc = stage.meshc();
        let program = meshc.get_program().to_string_lossy().into_owned();
        // A terminal of its own, by util-linux.
        let mut command = Command::new("script");
        command.args([
            "--quiet",
            "--return",
            "--command",
            &format!("{program} apply {flags} {policy}"),
            "/dev/null",
        ]);
        command.envs(meshc.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let typed_file = stage.ground().write("typed", typed)?;
        command.stdin(Stdio::from(std::fs::File::open(typed_file)?));
        Answer::of(&mut command)
    };
    let no = answered("", "n\n")?;
    let said = no.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "flows that change, of 2 workloads: ",
        " redirected to another port",
        "bookstore/batch, bookstore/cart outbound tcp",
        "redirected 15001 → redirected 15002",
        "by bookstore: redirect outbound",
        "other.mesh:",
        "tables: ",
        " KiB of memory, now ",
    ] {
        assert!(said.contains(part), "{part}: {no:#?}");
    }
    assert!(!no.stdout.contains("`meshc plan` shows all"), "{no:#?}");
    assert!(
        no.code == 1 && no.stdout.contains("apply? [y/N]") && no.stdout.contains("nothing was applied"),
        "{no:#?}"
    );
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));
    answered("", "y\n")?.done()?;
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15002));
    // The same again changes nothing, and asks nothing; neither does `--yes`.
    let same = answered("", "")?.done()?;
    assert!(!same.stdout.contains("[y/N]"), "{same:#?}");
    stage.apply_rules("redirect outbound -> 15001")?;
    let yes = answered("--yes", "")?.done()?;
    assert!(!yes.stdout.contains("[y/N]"), "{yes:#?}");
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15002));
    // However much changes, the question is on the screen.
    let denies: String = (1..40).map(|port| format!("deny outbound tcp {}\n", port * 2)).collect();
    stage.policy("other.mesh", &denies)?;
    let much = answered("", "n\n")?;
    assert!(much.stdout.contains(" more: `meshc plan` shows all"), "{much:#?}");
    assert!(much.stdout.lines().count() < 24, "{much:#?}");
    Ok(())
}

#[test]
fn scripts_find_what_a_policy_is_cautioned_about_in_the_answer() -> Tested {
    let stage = Stage::new()?;
    let policy = stage.policy("cautioned.mesh", "redirect outbound -> 15001\ndeny inbound udp 53")?;
    let cautioned = |arguments: &[&str]| -> Tested {
        let answer = Answer::of(stage.meshc().args(["--format", "json"]).args(arguments))?.done()?;
        let json = answer.json()?;
        let mut warnings = json["warnings"].as_array().into_iter().flatten();
        assert!(warnings.any(|warning| warning["code"] == "udp-rules-not-enforced"), "{json:#}");
        assert_eq!(answer.stderr, "", "{arguments:?}");
        Ok(())
    };
    cautioned(&["apply", &policy.display().to_string()])?;
    stage.apply_rules("redirect outbound -> 15002")?;
    cautioned(&["rollback"])?;
    let text = Answer::of(stage.meshc().arg("apply").arg(&policy))?.done()?;
    assert!(text.stderr.contains("only TCP is decided"), "{text:#?}");
    Ok(())
}
