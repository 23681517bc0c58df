//! What an instance keeps is its owner's alone: nobody else can enter it, lock it, or make a command wait.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Failure, Place, Process, Tested, until};
use rustix::fs::{FlockOperation, flock};

use crate::fixtures::command::Answer;
use crate::fixtures::stage::Stage;

const PATIENCE: Duration = Duration::from_secs(20);

/// Everything below a directory that others may do something with, links aside.
fn open_to_others(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.mode() & 0o077 != 0 {
            found.push(path.clone());
        }
        if metadata.is_dir() {
            left.extend(fs::read_dir(&path)?.flatten().map(|entry| entry.path()));
        }
    }
    Ok(found)
}

#[test]
fn what_a_command_makes_is_its_owners_alone() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15001")?;
    let netns = stage.pair().client.path();
    let mut attach = stage.meshc();
    Answer::of(attach.args(["attach", "--name", "web-1", "--netns"]).arg(&netns))?.done()?;
    assert_eq!(open_to_others(&stage.ground().state())?, Vec::<PathBuf>::new());
    let pins = stage.ground().bpffs().join("mesh");
    assert_eq!(fs::metadata(&pins)?.mode() & 0o077, 0);
    Ok(())
}

#[test]
fn nobody_else_can_hold_the_locks_and_directories_of_before_are_closed() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15001")?;
    let pins = stage.ground().bpffs().join("mesh");
    let dirs = [stage.ground().state(), pins.clone(), pins.join("links")];
    // As versions before made them.
    for dir in &dirs {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    }
    stage.apply_rules("redirect outbound -> 15002")?;
    let held = Place::here().uid(65534).gid(65534).run({
        let dirs = dirs.clone();
        move || {
            let lock = |dir: &PathBuf| {
                File::open(dir).is_ok_and(|file| flock(&file, FlockOperation::LockExclusive).is_ok())
            };
            dirs.iter().map(lock).collect::<Vec<bool>>()
        }
    })?;
    assert_eq!(held, [false; 3]);
    stage.ask(&["pause", "--lock-timeout", "2"])?;
    Ok(())
}

#[test]
fn an_agents_lock_and_directory_are_its_owners_alone() -> Tested {
    let stage = Stage::new()?;
    let state = stage.ground().state();
    let mut agent = Process::start(stage.meshc().arg("agent"), &stage.ground().dir().join("agent.log"))?;
    assert!(until(PATIENCE, || state.join("agent.sock").exists()), "{}", agent.output()?);
    assert!(state.join("agent.lock").exists());
    assert_eq!(open_to_others(&state)?, Vec::<PathBuf>::new());
    agent.stop();
    Ok(())
}

#[test]
fn a_directory_that_holds_other_things_is_left_as_it_is() -> Tested {
    let stage = Stage::new()?;
    let policy = stage.policy("policy.mesh", "redirect outbound -> 15001")?;
    let shared = stage.ground().dir().join("shared");
    fs::create_dir(&shared)?;
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o755))?;
    fs::write(shared.join("something"), "of somebody")?;
    let answer = Answer::of(
        stage.meshc().env("MESHC_STATE", &shared).args(["--format", "json", "apply"]).arg(&policy),
    )?;
    assert_eq!(
        (answer.code, &answer.json()?["error"]["code"]),
        (4, &"state-directory".into()),
        "{answer:#?}"
    );
    assert_eq!(fs::metadata(&shared)?.mode() & 0o777, 0o755);
    assert_eq!(fs::read_dir(&shared)?.count(), 1);
    assert_eq!(stage.ask(&["status"])?["state"], "none");
    Ok(())
}

#[test]
fn a_purge_leaves_nothing_that_a_later_command_obeys() -> Tested {
    let stage = Stage::new()?;
    let policy = stage.policy("policy.mesh", "redirect outbound -> 15001")?;
    Answer::of(stage.meshc().args(["apply", "--inbound", "tc", "--confirm-within", "1h"]).arg(&policy))?
        .done()?;
    stage.ask(&["confirm"])?;
    stage.ask(&["pause"])?;
    stage.ask(&["detach", "--all", "--purge"])?;
    assert!(!stage.ground().state().exists());
    Ok(())
}
