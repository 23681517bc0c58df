//! An instance stays where its first apply put it, whatever later commands are told or not told.

use std::process::Command;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Failure, Tested};
use serde_json::{Value, json};

use crate::fixtures::command::Answer;
use crate::fixtures::seen::Seen;
use crate::fixtures::stage::Stage;

/// A command that is told where the state is, and nothing else.
fn untold(stage: &Stage) -> Command {
    let mut command = stage.meshc();
    command.env_remove("MESHC_BPFFS").env_remove("MESHC_CGROUP").args(["--format", "json"]);
    command
}

fn status(stage: &Stage) -> Result<Value, Failure> {
    Answer::of(untold(stage).args(["status", "--check"]))?.done()?.json()
}

#[test]
fn commands_go_where_the_instance_is_and_are_refused_elsewhere() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15001")?;
    let told = stage.ask(&["status"])?;
    let policy = stage.policy("policy.mesh", "redirect outbound -> 15001")?;
    assert_eq!(status(&stage)?["programs"], told["programs"]);
    // What drift's advice says moves nothing.
    Answer::of(untold(&stage).args(["apply", "--repair"]).arg(&policy))?.done()?;
    let places = |status: &Value| -> Vec<Value> {
        let programs = status["programs"].as_array().cloned().unwrap_or_default();
        programs.iter().map(|program| program["attached_to"].clone()).collect()
    };
    assert_eq!(places(&status(&stage)?), places(&told));
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));

    // Doctor looks where the instance is, or where it is told to.
    let looked = |option: &[&str]| -> Result<Value, Failure> {
        Ok(Answer::of(untold(&stage).arg("doctor").args(option))?.done()?.json()?["cgroup"].clone())
    };
    assert_eq!(looked(&[])?, json!(stage.ground().cgroup().path()));
    let empty = stage.ground().cgroup().child("empty")?;
    let beside = empty.path().display().to_string();
    assert_eq!(looked(&["--cgroup", &beside])?, json!(beside));

    let other = stage.ground().cgroup().child("other")?;
    let asked = other.path().display().to_string();
    let pins = stage.ground().bpffs().join("other").display().to_string();
    for (option, value) in [("--cgroup", &asked), ("--bpffs", &pins)] {
        for command in [&["status"][..], &["detach", "--all"], &["apply", "--repair"]] {
            let mut meshc = untold(&stage);
            meshc.args(command).args([option, value]);
            if command.first() == Some(&"apply") {
                meshc.arg(&policy);
            }
            let refused = Answer::of(&mut meshc)?;
            let error = refused.json()?["error"].clone();
            assert_eq!((refused.code, &error["code"]), (1, &json!("elsewhere")), "{refused:#?}");
            let says = |key: &str, word: &str| error[key].as_str().is_some_and(|text| text.contains(word));
            assert!(says("message", value) && says("help", "detach --all"), "{error:#}");
        }
    }
    // A path that leads to the same directory is no other place.
    let same = stage.ground().cgroup().path().join(".").display().to_string();
    Answer::of(untold(&stage).args(["status", "--check", "--cgroup", &same]))?.done()?;

    // Once nothing is attached it may be anywhere, and that is remembered.
    Answer::of(untold(&stage).args(["detach", "--all"]))?.done()?;
    let mut apply = stage.meshc();
    Answer::of(apply.env_remove("MESHC_CGROUP").args(["apply", "--cgroup", &asked]).arg(&policy))?.done()?;
    assert!(places(&status(&stage)?).contains(&json!(asked)));
    // Also where it was said from another directory.
    Answer::of(untold(&stage).args(["detach", "--all"]))?.done()?;
    let mut apply = stage.meshc();
    apply.env_remove("MESHC_CGROUP").current_dir(stage.ground().cgroup().path());
    Answer::of(apply.args(["apply", "--cgroup", "other"]).arg(&policy))?.done()?;
    assert!(places(&status(&stage)?).contains(&json!(asked)));
    Ok(())
}
