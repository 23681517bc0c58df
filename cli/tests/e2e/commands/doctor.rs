//! `doctor` tells what a machine can do, finds what is taken away, and leaves nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use mesh_testbed::census::Census;
use mesh_testbed::fault::{Calls, Fault, Moment};
use mesh_testbed::kernel_test as test;
use mesh_testbed::refuse::refuse_netfilter;
use mesh_testbed::vm::Vm;
use mesh_testbed::{Errno, Failure, Netns, Tested, hierarchy, long_runs_are_wanted, tool};
use serde_json::{Value, json};

use crate::fixtures::command::{Answer, copy_program};
use crate::fixtures::stage::Stage;

/// The names of the features in a state.
fn in_state(answer: &Value, state: &str) -> Vec<String> {
    let features = answer["features"].as_array().into_iter().flatten();
    let found = features.filter(|feature| feature["state"] == state);
    found.filter_map(|feature| feature["name"].as_str().map(str::to_owned)).collect()
}

/// What no command needs, and what kernels of clouds do wrong or refuse to everybody.
const NOT_EVERYWHERE: [&str; 3] =
    ["the security module bpf", "FIONREAD counts accelerated sockets", "repairing FIONREAD"];

/// What is missing, but for what may be.
fn missing(answer: &Value) -> Vec<String> {
    let features = answer["features"].as_array().into_iter().flatten();
    for name in NOT_EVERYWHERE {
        let known = features.clone().any(|feature| feature["name"] == name && feature["required"] == false);
        assert!(known, "{name}");
    }
    in_state(answer, "missing").into_iter().filter(|name| !NOT_EVERYWHERE.contains(&name.as_str())).collect()
}

fn doctor(command: &mut Command) -> Result<(i32, Value), Failure> {
    let answer = Answer::of(command.args(["--format", "json", "doctor"]))?;
    Ok((answer.code, answer.json()?))
}

/// What doctors left below a cgroup.
fn left(cgroup: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(cgroup)?.map(|entry| Ok(entry?.path()));
    let paths = entries.collect::<Result<Vec<_>, std::io::Error>>()?;
    Ok(paths.into_iter().filter(|path| path.to_string_lossy().contains("meshc-doctor-")).collect())
}

/// Runs meshc through another program.
fn through(stage: &Stage, program: &str, arguments: &[&str]) -> Command {
    let meshc = stage.meshc();
    let mut command = Command::new(program);
    command.args(arguments).arg(meshc.get_program());
    command.envs(meshc.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

#[test]
fn everything_works_here_also_beside_a_live_mesh() -> Tested {
    let stage = Stage::new()?;
    stage.apply_rules("redirect outbound -> 15001\ndeny outbound")?;
    let (code, answer) = doctor(&mut stage.meshc())?;
    assert_eq!((code, &answer["able"]), (0, &true.into()), "{answer:#}");
    assert_eq!((missing(&answer), in_state(&answer, "untried")), (vec![], vec![]), "{answer:#}");
    assert!(in_state(&answer, "ok").len() > 30, "{answer:#}");
    assert_eq!(answer["backends"], json!({"bpf": true, "nft": true}), "{answer:#}");
    assert_eq!(left(stage.ground().cgroup().path())?, Vec::<PathBuf>::new());
    for feature in answer["features"].as_array().into_iter().flatten() {
        for key in ["kernel", "cost", "instead"] {
            assert!(feature[key].as_str().is_some_and(|text| !text.is_empty()), "{feature}");
        }
    }
    Ok(())
}

#[test]
fn no_object_of_the_kernel_is_left() -> Tested {
    let stage = Stage::alone()?;
    let before = Census::take()?;
    assert_eq!(doctor(&mut stage.meshc())?.0, 0);
    assert_eq!(before.left()?, vec![]);
    Ok(())
}

#[test]
fn a_process_without_a_capability_is_told_which_commands_it_may_not_run() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15001")?;
    let policy = stage.ground().dir().join("policy.mesh").display().to_string();
    for dropped in ["-bpf", "-net_admin", "-sys_admin", "-bpf,-sys_admin"] {
        let set = format!("--bounding-set={dropped}");
        let restricted = || through(&stage, "setpriv", &[&set, "--inh-caps=-all"]);
        let (code, answer) = doctor(&mut restricted())?;
        assert_eq!(code, 4, "{dropped}: {answer:#}");
        let features = answer["features"].as_array().map_or(0, Vec::len);
        assert_eq!(
            (in_state(&answer, "missing"), features),
            (vec!["capabilities".to_owned()], 1),
            "{dropped}"
        );
        let commands = answer["commands"].as_array().ok_or("no commands")?;
        let said = |name: &str| {
            commands.iter().find(|command| command["name"] == name).map(|found| found["able"] == true)
        };
        for (name, arguments) in [
            ("status", vec!["status"]),
            ("show", vec!["show"]),
            ("history", vec!["history"]),
            ("observe", vec!["observe", "-n", "0"]),
            ("explain --live", vec!["explain", "--live", "cart -> 10.0.3.9 tcp 80"]),
            ("diff live", vec!["diff", "live", "live"]),
            ("run", vec!["run", "--as", "cart", "--", "true"]),
            ("plan", vec!["plan", &policy]),
            ("rollback", vec!["rollback", "1"]),
            ("apply", vec!["apply", &policy]),
            ("pause", vec!["pause"]),
            ("resume", vec!["resume"]),
            ("detach", vec!["detach", "--all"]),
        ] {
            // What it says of a command is what becomes of it.
            let ran = Answer::of(restricted().args(&arguments))?;
            assert_eq!(said(name), Some(ran.code == 0), "{dropped}, {name}: {ran:#?}");
        }
        stage.apply(Path::new(&policy))?;
    }
    assert_eq!(left(stage.ground().cgroup().path())?, Vec::<PathBuf>::new());
    Ok(())
}

#[test]
fn who_is_not_root_is_told_so_and_nothing_else_is_called_missing() -> Tested {
    let stage = Stage::new()?;
    // Where everybody may run it.
    let binary = stage.ground().dir().join("meshc");
    copy_program(Path::new(stage.meshc().get_program()), &binary)?;
    let nobody = |format: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary);
        Answer::of(command.args(["--format", format, "doctor"]))
    };
    let said = nobody("text")?;
    assert_eq!(said.code, 4, "{said:?}");
    let words = "nothing was tried: this process lacks CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN";
    assert!(said.words().contains(words), "{said:?}");
    assert!(said.words().contains("run it as root"), "{said:?}");
    for word in ["missing", "untried", "newer kernel", "smallest kernel"] {
        assert!(!said.words().contains(word), "`{word}`: {said:?}");
    }
    let answer = nobody("json")?.json()?;
    assert_eq!(
        (&answer["able"], in_state(&answer, "missing")),
        (&false.into(), vec!["capabilities".to_owned()])
    );
    assert_eq!(answer["features"].as_array().map(Vec::len), Some(1), "{answer:#}");
    Ok(())
}

#[test]
fn a_machine_without_a_mount_is_told_what_to_mount() -> Tested {
    let stage = Stage::new()?;
    let (code, answer) = doctor(stage.meshc().env("MESHC_BPFFS", stage.ground().dir().join("none")))?;
    assert_eq!((code, missing(&answer)), (4, vec!["bpffs".to_owned()]), "{answer:#}");
    assert_eq!(in_state(&answer, "untried"), Vec::<String>::new());

    let (code, answer) = doctor(stage.meshc().env("MESHC_CGROUP", stage.ground().dir()))?;
    assert_eq!((code, missing(&answer)), (4, vec!["cgroup v2".to_owned()]), "{answer:#}");
    assert!(in_state(&answer, "untried").contains(&"hook connect4".to_owned()));

    // As on a machine with version 1 only.
    let hidden = format!("umount -l {} && exec \"$@\"", hierarchy()?.display());
    let mut command = through(&stage, "unshare", &["--mount", "sh", "-c", &hidden, "sh"]);
    let (code, answer) = doctor(command.env_remove("MESHC_CGROUP"))?;
    assert_eq!((code, missing(&answer)), (4, vec!["cgroup v2".to_owned()]), "{answer:#}");
    Ok(())
}

/// The features of nftables alone, in a state.
fn of_nftables(answer: &Value, state: &str) -> Vec<String> {
    in_state(answer, state).into_iter().filter(|name| name.starts_with("nftables: ")).collect()
}

#[test]
fn a_machine_without_bpf_is_told_that_nftables_will_do() -> Tested {
    let stage = Stage::new()?;
    let without_pins = |backend: &str| {
        let mut command = stage.meshc();
        command.env("MESHC_BPFFS", stage.ground().dir().join("none")).env("MESHC_BACKEND", backend);
        command
    };
    // What ends the command well is what this node is decided by.
    for (backend, code) in [("bpf", 4), ("nft", 0)] {
        let (ended, answer) = doctor(&mut without_pins(backend))?;
        assert_eq!((ended, &answer["backend"]), (code, &backend.into()), "{answer:#}");
        assert_eq!(answer["backends"], json!({"bpf": false, "nft": true}), "{answer:#}");
        assert_eq!(of_nftables(&answer, "ok").len(), 8, "{answer:#}");
    }
    let said = Answer::of(without_pins("bpf").arg("doctor"))?;
    assert!(said.words().contains("but by nftables: `meshc apply --backend nft`"), "{said:?}");
    Ok(())
}

#[test]
fn a_kernel_without_netfilter_lacks_nftables_alone() -> Tested {
    let stage = Stage::new()?;
    let without = || {
        let mut command = stage.meshc();
        refuse_netfilter(&mut command);
        command
    };
    let (code, answer) = doctor(&mut without())?;
    assert_eq!((code, &answer["backends"]), (0, &json!({"bpf": true, "nft": false})), "{answer:#}");
    assert_eq!(of_nftables(&answer, "missing"), ["nftables: rulesets"], "{answer:#}");
    assert_eq!(of_nftables(&answer, "untried").len(), 7, "{answer:#}");
    let said = Answer::of(without().arg("doctor"))?;
    assert!(said.words().contains("by BPF programs, not by nftables"), "{said:?}");
    Ok(())
}

/// The chain that a firewall has for itself, and the one that translates addresses of services.
const OTHERS: &str = "table ip nat {
    chain OUTPUT { type nat hook output priority -100; };
    chain early { type nat hook prerouting priority -150; };
    chain POSTROUTING { type nat hook postrouting priority 100; };
}
table inet meshc { chain output { type nat hook output priority -110; }; }
table inet meshctl { chain output { type nat hook output priority -120; }; }
table inet filter { chain input { type filter hook input priority 0; }; }";

#[test]
fn others_that_translate_destinations_are_named_in_their_order() -> Tested {
    let stage = Stage::new()?;
    let netns = Netns::new()?;
    netns.run(|| tool("nft", &[OTHERS]))??;
    let inside = |format: &str| {
        let entered = format!("--net={}", netns.path().display());
        Answer::of(through(&stage, "nsenter", &[&entered]).args(["--format", format, "doctor"]))
    };
    let answer = inside("json")?.json()?;
    let other = |priority: i32, table: &str, chain: &str, first: bool| json!({"priority": priority, "table": table, "chain": chain, "first": first});
    let expected = json!([
        other(-150, "ip nat", "early", true),
        other(-120, "inet meshctl", "output", true),
        other(-100, "ip nat", "OUTPUT", false),
    ]);
    assert_eq!(answer["translations"], expected, "{answer:#}");
    let said = inside("text")?;
    for line in [
        "table ip nat, chain early, priority -150: before it",
        "table ip nat, chain OUTPUT, priority -100: behind it",
    ] {
        assert!(said.words().contains(line), "{said:?}");
    }
    let (_, none) = doctor(&mut stage.meshc())?;
    assert!(none["translations"].is_array(), "{none:#}");
    Ok(())
}

#[test]
fn whatever_the_kernel_refuses_is_found() -> Tested {
    if !cfg!(target_arch = "x86_64") {
        return Ok(());
    }
    let stage = Stage::new()?;
    let command = || {
        let mut command = stage.meshc();
        command.args(["--format", "json", "doctor"]);
        command
    };
    let whole = Fault::None.strike(&mut command(), Calls::Changing)?;
    let healthy: Value = serde_json::from_str(&whole.stdout)?;
    assert_eq!(missing(&healthy), Vec::<String>::new(), "{healthy:#}");
    let numbers: Vec<usize> =
        (1..=whole.calls.len()).filter(|&number| whole.calls[number - 1] == "bpf").collect();
    let step = if long_runs_are_wanted() { 1 } else { numbers.len() / 30 };
    let mut found = std::collections::BTreeSet::new();
    for &number in numbers.iter().skip(step / 2).step_by(step) {
        let outcome = Fault::Fail(number, Errno(libc_enosys())).strike(&mut command(), Calls::Changing)?;
        let answer: Value = serde_json::from_str(&outcome.stdout)?;
        // Some calls are tries of things that the loader does without.
        found.extend(in_state(&answer, "missing"));
        let able = answer["able"] == true;
        assert_eq!(outcome.status.code(), Some(if able { 0 } else { 4 }), "call {number}: {answer:#}");
        assert_eq!(left(stage.ground().cgroup().path())?, Vec::<PathBuf>::new(), "call {number}");
    }
    assert!(found.len() >= 8, "of {} calls: {found:?}", numbers.len());
    Ok(())
}

/// `ENOSYS`, as a kernel answers that does not know a command.
const fn libc_enosys() -> i32 {
    38
}

#[test]
fn what_a_killed_doctor_leaves_the_next_one_removes() -> Tested {
    let stage = Stage::new()?;
    let cgroup = stage.ground().cgroup().path();
    let command = || {
        let mut command = stage.meshc();
        command.args(["--format", "json", "doctor"]);
        command
    };
    let whole = Fault::None.strike(&mut command(), Calls::Changing)?;
    let middle = Fault::Kill(whole.calls.len() / 2, Moment::After).strike(&mut command(), Calls::Changing)?;
    assert!(middle.struck);
    assert_eq!(left(cgroup)?.len(), 1, "an empty cgroup");
    let (code, answer) = doctor(&mut stage.meshc())?;
    assert_eq!(code, 0, "{answer:#}");
    assert_eq!(left(cgroup)?, Vec::<PathBuf>::new());
    Ok(())
}

#[test(long)]
fn on_the_smallest_kernel_it_tells_the_truth() -> Tested {
    let machine = Vm::new(None)?;
    machine.program("/bin/meshc", Path::new(env!("CARGO_BIN_EXE_meshc")))?;
    let printed = machine.boot("uname -r\nmeshc doctor --format json || true\n")?;
    let json = printed.lines().find(|line| line.starts_with('{')).ok_or(printed.clone())?;
    let answer: Value = serde_json::from_str(json)?;
    assert_eq!(answer["able"], true, "{answer:#}");
    // 6.6 was the first kernel with tcx, 6.3 that with the tracepoints; Debian's does not turn the module on.
    let missing = [
        "tcx",
        "FIONREAD counts accelerated sockets",
        "the security module bpf",
        "tracepoint sock_recv_length",
    ];
    assert_eq!(in_state(&answer, "missing"), missing, "{answer:#}");
    assert_eq!(in_state(&answer, "untried"), Vec::<String>::new());
    Ok(())
}
