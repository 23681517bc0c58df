//! File systems that are gone, or are others than the machine's: said before anything is written.

use std::process::Command;

use mesh_testbed::{Failure, Tested, hierarchy};

use crate::command::Answer;
use crate::seen::Seen;
use crate::stage::{Stage, where_usable};

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
    let Some(stage) = where_usable(|| Stage::ruled("redirect outbound -> 15001"))? else { return Ok(()) };
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
    let Some(stage) = where_usable(Stage::new)? else { return Ok(()) };
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
