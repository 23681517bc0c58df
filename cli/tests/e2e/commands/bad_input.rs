//! Bad input is refused in words, with the right exit code, and changes nothing.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use mesh_testbed::kernel_test;
use mesh_testbed::{Failure, Ground, Netns, Place, Tested};

use crate::fixtures::command::{Answer, copy_program, meshc};
use crate::fixtures::seen::Seen;
use crate::fixtures::stage::Stage;

#[kernel_test]
fn files_that_are_no_policy_are_refused_and_the_live_one_stays() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15001")?;
    let before = stage.ask(&["status"])?;
    let ground = stage.ground();
    let dir = ground.dir().join("empty-directory");
    fs::create_dir(&dir)?;
    let refused = [
        ground.write("empty.mesh", "")?,
        ground.write("long.mesh", "a".repeat(10_000_000))?,
        ground.write("brackets.mesh", "[".repeat(10_000_000))?,
        ground.write("zeros.mesh", [0_u8; 1000])?,
        ground.write("invalid.mesh", b"exempt uid 1500\nmesh \xff\xfe { }\n")?,
        dir,
        ground.dir().join("missing.mesh"),
    ];
    for path in refused {
        let start = Instant::now();
        let answer = Answer::of(stage.meshc().arg("apply").arg(&path))?;
        assert_eq!(answer.code, 1, "{}: {}", path.display(), shortened(&answer.words()));
        says_something(&answer, &path);
        assert!(start.elapsed() < Duration::from_secs(60), "{}: {:?}", path.display(), start.elapsed());
        assert_eq!(stage.ask(&["status"])?["generation"], before["generation"], "{}", path.display());
    }
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));
    Ok(())
}

#[kernel_test]
fn what_is_not_there_is_named_with_its_cause() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15001")?;
    let before = stage.ask(&["status"])?;
    let plain = stage.ground().write("plain", "")?.display().to_string();
    let netns = Netns::new()?;
    let path = netns.path().display().to_string();
    stage.ask(&["attach", "--netns", &path, "--name", "cart-1", "--namespace", "shop"])?;
    let cases: &[(&[&str], &str, &str, &str)] = &[
        (&["attach", "--netns", "/nosuch", "--name", "a"], "no-netns", "No such file", "ip netns list"),
        (
            &["attach", "--netns", &plain, "--name", "a"],
            "no-netns",
            "is no network namespace",
            "ip netns list",
        ),
        (&["detach", "--netns", "/nosuch"], "no-netns", "No such file", "ip netns list"),
        (
            &["detach", "--name", "nobody"],
            "not-attached",
            "no pod `nobody` without a namespace",
            "meshc status",
        ),
        (&["detach", "--name", "cart-1"], "not-attached", "`cart-1` without a namespace", "--namespace shop"),
        (
            &["run", "--as", "cart", "--", "nosuchcmd"],
            "cannot-run",
            "`nosuchcmd` cannot be run: No such",
            "sh -c",
        ),
        (&["run", "--as", "cart", "--", "/etc"], "cannot-run", "Permission denied", "sh -c"),
    ];
    for (arguments, code, message, help) in cases {
        let answer = Answer::of(stage.meshc().args(["--format", "json"]).args(*arguments))?;
        let error = answer.json()?["error"].clone();
        let says = |key: &str, word: &str| error[key].as_str().is_some_and(|text| text.contains(word));
        assert_eq!((answer.code, error["code"].as_str()), (1, Some(*code)), "{arguments:?}: {answer:#?}");
        assert!(says("message", message) && says("help", help), "{arguments:?}: {error:#}");
    }
    stage.ask(&["detach", "--name", "cart-1", "--namespace", "shop"])?;
    let again = Answer::of(stage.meshc().args(["detach", "--netns", &path]))?;
    assert_eq!(again.code, 1, "{again:#?}");
    assert!(again.stderr.contains("no pod with this network namespace is attached"), "{again:#?}");
    // A command that could not be started leaves no member behind.
    assert_eq!(stage.ask(&["status"])?["members"], before["members"]);
    Ok(())
}

#[kernel_test]
fn a_machine_that_cannot_is_told_so_before_anything_changes() -> Tested {
    let stage = Stage::new()?;
    let policy = stage.policy("policy.mesh", "redirect outbound -> 15001")?;
    let file = stage.ground().write("no-directory", "")?;
    for (variable, value) in [
        ("MESHC_BPFFS", file.join("below")),
        ("MESHC_CGROUP", stage.ground().dir().to_owned()),
        ("MESHC_CGROUP", stage.ground().dir().join("missing")),
        ("MESHC_STATE", file.join("below")),
    ] {
        let answer = Answer::of(stage.meshc().arg("apply").arg(&policy).env(variable, &value))?;
        assert_eq!(answer.code, 4, "{variable}={}: {answer:#?}", value.display());
        says_something(&answer, &value);
        nothing_is_there(stage.ground())?;
    }
    Ok(())
}

#[kernel_test]
fn who_is_not_root_is_told_what_is_missing() -> Tested {
    let stage = Stage::new()?;
    let policy = stage.policy("policy.mesh", "redirect outbound -> 15001")?;
    // Where another user may read and run it, wherever the work tree is.
    let binary = stage.ground().dir().join("meshc");
    copy_program(Path::new(env!("CARGO_BIN_EXE_meshc")), &binary)?;
    let nobody = Place::here().uid(65534).gid(65534);
    let mut command = nobody.command(&binary);
    for (key, value) in stage.meshc().get_envs() {
        command.env(key, value.unwrap_or_default());
    }
    let answer = Answer::of(command.arg("apply").arg(&policy))?;
    assert_eq!(answer.code, 4, "{answer:#?}");
    says_something(&answer, &policy);
    nothing_is_there(stage.ground())?;
    let mut check = nobody.command(&binary);
    Answer::of(check.arg("check").arg(&policy))?.done()?;
    Ok(())
}

/// What is named `*.mesh` in a directory and is no file of rules: a rule that was left out would be a hole.
#[test]
fn what_a_directory_names_as_a_policy_and_cannot_be_read_is_an_error() -> Tested {
    let dir = tempfile::tempdir()?;
    let there = dir.path().join("a.mesh");
    fs::write(&there, "exempt uid 1500\nmesh m { redirect outbound -> 15001; workload w { any } }\n")?;
    let importing = dir.path().join("importing");
    fs::write(&importing, "import \"policies\"\n")?;
    let policies = dir.path().join("policies");
    type Make = fn(&Path) -> std::io::Result<()>;
    let made: [(&str, Make, &str); 5] = [
        ("link", |at| std::os::unix::fs::symlink("nowhere", at), "is a link that leads nowhere"),
        ("loop", |at| std::os::unix::fs::symlink(at, at), "cannot be read"),
        (
            "pipe",
            |at| {
                Ok(rustix::fs::mknodat(
                    rustix::fs::CWD,
                    at,
                    rustix::fs::FileType::Fifo,
                    rustix::fs::Mode::RWXU,
                    0,
                )?)
            },
            "is no file",
        ),
        ("device", |at| std::os::unix::fs::symlink("/dev/zero", at), "is no file"),
        ("directory", |at| fs::create_dir(at), "is a directory"),
    ];
    for (name, make, why) in made {
        fs::create_dir(&policies)?;
        fs::copy(&there, policies.join("a.mesh"))?;
        make(&policies.join("b.mesh"))?;
        for given in [&policies, &importing] {
            let answer = Answer::of(meshc().arg("check").arg(given))?;
            assert_eq!(answer.code, 1, "{name}: {answer:#?}");
            assert!(answer.stderr.contains("b.mesh") && answer.stderr.contains(why), "{name}: {answer:#?}");
        }
        fs::remove_dir_all(&policies)?;
    }
    // What a user names may be a pipe.
    let piped = format!("{} check <(cat {})", env!("CARGO_BIN_EXE_meshc"), there.display());
    Answer::of(std::process::Command::new("bash").args(["-c", &piped]))?.done()?;
    Ok(())
}

#[kernel_test]
fn arguments_that_are_not_utf_8_are_words_like_others() -> Tested {
    use std::os::unix::ffi::OsStrExt;
    let stage = Stage::new()?;
    let policy = stage.policy("policy.mesh", "redirect outbound -> 15001")?;
    let odd = stage.ground().dir().join(std::ffi::OsStr::from_bytes(b"p\xff.mesh"));
    fs::copy(&policy, &odd)?;
    let state = stage.ground().dir().join(std::ffi::OsStr::from_bytes(b"state-\xfe"));
    let apply =
        |more: &[&str]| Answer::of(stage.meshc().args(["apply", "--state"]).arg(&state).arg(&odd).args(more));
    apply(&[])?.done()?;
    fs::copy(stage.policy("other.mesh", "redirect outbound -> 15002")?, &odd)?;
    // It waits as another process, which is told the same directory.
    apply(&["--confirm-within", "1s"])?.done()?;
    assert!(mesh_testbed::until(Duration::from_secs(30), || {
        let ports = stage.dial("10.0.3.9:80");
        ports.is_ok_and(|seen| seen == Seen::Redirected(15001))
    }));
    for arguments in [&["status"][..], &["check"], &["explain"], &["no-such-command"]] {
        let answer = Answer::of(meshc().args(arguments).arg(&odd))?;
        assert!(!answer.words().contains("panicked"), "{answer:#?}");
    }
    Answer::of(stage.meshc().args(["detach", "--all", "--purge", "--state"]).arg(&state))?.done()?;
    Ok(())
}

/// Where there can be no more threads: the commands do one thing after the other, or say that they cannot.
#[kernel_test]
fn no_command_panics_where_no_thread_can_be_had() -> Tested {
    let stage = Stage::new()?;
    let policy = stage.policy("policy.mesh", "redirect outbound -> 15001")?;
    let lonely = mesh_testbed::Lonely::new()?;
    let inventory = stage.ground().write("pods.toml", "[[endpoint]]\nname = \"a\"\n".repeat(40_000))?;
    let check: [&std::ffi::OsStr; 4] =
        ["check".as_ref(), policy.as_ref(), "--inventory".as_ref(), inventory.as_ref()];
    let answer = Answer::of(&mut lonely.command(meshc().args(check)))?;
    assert!(!answer.words().contains("panicked"), "{answer:#?}");
    Answer::of(&mut lonely.command(stage.meshc().arg("apply").arg(&policy)))?.done()?;
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));
    let other = stage.policy("other.mesh", "redirect outbound -> 15002")?;
    Answer::of(&mut lonely.command(stage.meshc().arg("apply").arg(&other)))?.done()?;
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15002));
    for command in ["doctor", "status", "plan"] {
        let mut asked = stage.meshc();
        asked.arg(command);
        if command == "plan" {
            asked.arg(&policy);
        }
        let answer = Answer::of(&mut lonely.command(&asked))?;
        assert!(!answer.words().contains("panicked"), "{command}: {answer:#?}");
    }
    Ok(())
}

#[test]
fn wrong_usage_is_told_apart_from_refused_input() -> Tested {
    for arguments in [&["no-such-command"][..], &["attach"], &["apply", "--no-such-option", "x"], &[]] {
        let answer = Answer::of(meshc().args(arguments))?;
        assert_eq!(answer.code, 2, "{arguments:?}: {answer:#?}");
        assert!(!answer.stderr.is_empty());
    }
    Ok(())
}

/// The current directory is the policy: what it has none of is never applied.
#[test]
fn apply_without_a_path_is_refused_where_there_is_no_policy() -> Tested {
    let empty = tempfile::tempdir()?;
    for command in ["apply", "plan"] {
        let answer = Answer::of(meshc().current_dir(&empty).arg(command))?;
        assert_eq!(answer.code, 1, "{answer:#?}");
        assert!(answer.stderr.contains("the current directory has no `.mesh` files"), "{answer:#?}");
    }
    Ok(())
}

/// A message is there, it fits a screen, and it is no panic.
fn says_something(answer: &Answer, what: &Path) {
    let words = answer.words();
    let what = what.display();
    assert!(!words.trim().is_empty(), "{what}: not a word");
    assert!(words.len() < 8_000, "{what}: {} bytes: {}", words.len(), shortened(&words));
    assert!(!words.contains("panicked"), "{what}: {}", shortened(&words));
}

fn shortened(words: &str) -> String {
    words.chars().take(2_000).collect()
}

fn nothing_is_there(ground: &Ground) -> Result<(), Failure> {
    let names = fs::read_dir(ground.bpffs())?.flatten().map(|entry| entry.file_name());
    // The kernel puts `maps.debug` and `progs.debug` into every bpffs where it has the module for it.
    let pins: Vec<_> = names.filter(|name| !name.to_string_lossy().ends_with(".debug")).collect();
    if pins.is_empty() && !ground.state().exists() {
        return Ok(());
    }
    Err(format!("pins: {pins:?}, state directory there: {}", ground.state().exists()).into())
}
