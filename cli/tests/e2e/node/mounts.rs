//! File systems that are gone, or are others than the machine's: said before anything is written.

use std::fs::File;
use std::process::Command;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{BpfFs, Client, Errno, Failure, ServerTask, Tested, hierarchy, tool};

use crate::fixtures::command::Answer;
use crate::fixtures::seen::Seen;
use crate::fixtures::stage::{Stage, address};
use crate::fixtures::town::{APPLICATION, Pod, Reached, addresses, reach};

/// Runs meshc in a mount namespace of its own, in which a script was run before.
fn after(stage: &Stage, script: &str, arguments: &[&str]) -> Result<Answer, Failure> {
    let meshc = stage.meshc();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-e", "-c", &format!("{script}\nexec \"$@\""), "sh"]);
    command.arg(meshc.get_program()).args(arguments);
    command.envs(meshc.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Answer::of(&mut command)
}

#[test]
fn a_bpffs_that_was_unmounted_or_is_private_is_refused_and_the_policy_decides_on() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15001")?;
    let other = stage.policy("other.mesh", "deny outbound tcp 80")?.display().to_string();
    let bpffs = stage.ground().bpffs().display().to_string();
    let unmount = format!("umount -l {bpffs}");
    let mount = format!("{unmount}\nmount -t bpf bpf {bpffs}");
    for (script, said) in [(unmount, "is not in a BPF file system"), (mount, "in this mount namespace only")]
    {
        let answer = after(&stage, &script, &["apply", &other])?;
        assert!(answer.code == 4 && answer.words().contains(said), "{answer:#?}");
        assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));
        let status = stage.ask(&["status"])?;
        assert_eq!(status.get("state").and_then(|state| state.as_str()), Some("active"));
        assert_eq!(status.get("drift"), Some(&serde_json::json!([])));
    }
    // Our own mount namespace may be any, as long as the file system is the machine's.
    let answer = after(&stage, ":", &["apply", &other])?;
    assert_eq!(answer.code, 0, "{answer:#?}");
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Denied);
    Ok(())
}

#[test]
fn a_machine_with_cgroups_of_the_first_version_only_is_refused() -> Tested {
    let stage = Stage::new()?;
    let policy = stage.policy("policy.mesh", "redirect outbound -> 15001")?.display().to_string();
    let unmount = format!("umount -l {}", hierarchy()?.display());
    let answer = after(&stage, &unmount, &["apply", &policy])?;
    assert_eq!(answer.code, 4, "{answer:#?}");
    assert!(
        ["no cgroup v2 hierarchy is mounted here", "mount -t cgroup2"]
            .iter()
            .all(|said| answer.words().contains(said)),
        "{answer:#?}"
    );
    assert!(!stage.ground().state().exists() && !stage.ground().bpffs().join("mesh").exists());
    Ok(())
}

#[test]
fn programs_whose_pins_were_unmounted_decide_on_are_named_and_can_be_detached() -> Tested {
    let rules = "deny outbound tcp 25\ndeny inbound tcp 8080";
    for way in ["sk_lookup", "tc"] {
        let pod = Pod::ruled(way, rules)?;
        let _application = ServerTask::start(&pod.place(), "application", &addresses(&APPLICATION)?)?;
        let denied = address("10.44.0.2:25")?;
        let decides = || -> Result<(Result<(), Errno>, Reached), Failure> {
            let outbound = pod.place().run(|| Client::to(denied).open().map(drop))?;
            Ok((outbound, reach(&pod.town().far, "10.42.0.2:8080")?))
        };
        let decided = (Err(Errno::EPERM), Reached::Failed(Errno::ECONNREFUSED));
        assert_eq!(decides()?, decided);
        // Somebody is in it, so that it stays.
        let bpffs = pod.ground().bpffs();
        let holder = File::open(bpffs)?;
        tool("umount", &["-l", &bpffs.display().to_string()])?;
        let fresh = BpfFs::mount(bpffs)?;
        assert_eq!(decides()?, decided);
        let policy = pod.policy(rules)?.display().to_string();
        let refused = Answer::of(pod.meshc().args(["apply", &policy]))?;
        assert!(
            refused.code == 4
                && ["has no pins of them", "mesh_connect4", "meshc detach --all"]
                    .iter()
                    .all(|said| refused.words().contains(said)),
            "{refused:#?}"
        );
        assert_eq!(decides()?, decided);
        // Nobody's but its own: another instance that knows nothing of them finds none.
        let other = pod.ground().dir().join("other").display().to_string();
        Answer::of(pod.meshc().env("MESHC_STATE", &other).args(["detach", "--all"]))?.done()?;
        assert_eq!(decides()?, decided);
        pod.ask(&["detach", "--all"])?;
        assert_eq!(decides()?, (Err(Errno::ECONNREFUSED), Reached::Straight("application".into())));
        pod.apply(rules)?;
        pod.attach()?;
        assert_eq!(decides()?, decided);
        assert_eq!(pod.ask(&["status"])?["drift"], serde_json::json!([]));
        drop((holder, fresh));
    }
    Ok(())
}

#[test]
fn pins_that_are_covered_are_named_and_shown_again() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15001")?;
    let bpffs = stage.ground().bpffs();
    let cover = BpfFs::mount(bpffs)?;
    let policy = stage.policy("other.mesh", "deny outbound tcp 80")?.display().to_string();
    let refused = Answer::of(stage.meshc().args(["apply", &policy]))?;
    let said = ["has no pins of them", "where it is only covered, `umount`"];
    assert!(refused.code == 4 && said.iter().all(|said| refused.words().contains(said)), "{refused:#?}");
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));
    drop(cover);
    stage.apply(policy.as_ref())?;
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Denied);
    Ok(())
}
