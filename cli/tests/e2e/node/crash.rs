//! Killed at any call, or with any call failed, a command leaves what was before or what it was to make,
//! entire; traffic meanwhile sees nothing else; the same command again comes through, and nothing is orphaned.
//!
//! Every call that changes something is struck in the long run; without it a sample of them. A long run tells where it
//! is, and goes on there with `MESHC_TEST_FROM=NUMBER`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mesh_testbed::fault::{Calls, Fault, Moment, Outcome};
use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Errno, Failure, Place, Task, Tested, first_step, long_runs_are_wanted};

use crate::fixtures::command::{Answer, copy_program};
use crate::fixtures::seen::{Seen, seen};
use crate::fixtures::stage::{SIDECAR_UID, Stage, address};

/// Two flows that tell the policies of these tests apart, and any mix of them too.
const FIRST: &str = "10.0.3.9:80";
const SECOND: &str = "[fd10::9]:3306";

/// Error numbers that calls are failed with, in turn.
const ERRORS: [Errno; 6] =
    [Errno::ENOMEM, Errno::E2BIG, Errno::EPERM, Errno::EBUSY, Errno::EINTR, Errno::ENOSPC];

/// Which policy is in effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Live {
    None,
    Old,
    New,
}

/// A command under attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    First,
    Apply,
    Upgrade,
    Rollback,
    Restore,
    Pause,
    Resume,
    Attach,
    /// A pod that is a member is attached again, as it is.
    Again,
    /// The same, and it is another workload from then on.
    Relabel,
    Detach,
    DetachAll,
}

impl Act {
    /// What is in effect before it and after it.
    fn effect(self) -> [Live; 2] {
        match self {
            Self::First => [Live::None, Live::New],
            Self::Apply | Self::Upgrade | Self::Relabel => [Live::Old, Live::New],
            Self::Again => [Live::Old, Live::Old],
            Self::Rollback => [Live::New, Live::Old],
            Self::Restore | Self::Resume | Self::Attach => [Live::None, Live::Old],
            Self::Pause | Self::Detach | Self::DetachAll => [Live::Old, Live::None],
        }
    }

    /// Whether a policy decides before and after: then traffic never sees a moment without one.
    fn keeps_deciding(self) -> bool {
        !self.effect().contains(&Live::None)
    }

    /// Whether it is about a pod.
    fn is_of_a_pod(self) -> bool {
        matches!(self, Self::Attach | Self::Again | Self::Relabel | Self::Detach)
    }
}

/// An instance, its policies, and whose connections are looked at.
struct Bed {
    stage: Stage,
    old: PathBuf,
    new: PathBuf,
    act: Act,
    /// How many programs an upgrade replaces.
    replaces: usize,
}

impl Bed {
    fn new(act: Act) -> Result<Self, Failure> {
        let stage = Stage::new()?;
        let old = "redirect outbound -> 15001\nexclude outbound tcp 3306";
        let new = "redirect outbound -> 15002\ndeny outbound tcp 3306";
        // A large policy has large tables, and files that are written in more than one call.
        let more = if long_runs_are_wanted() { large() } else { String::new() };
        let pods = |rules| {
            // What applies to a workload is what the other policies say of all.
            let workloads = if act == Act::Relabel {
                format!(
                    "workload web {{ label tier = web\n{old}\n}}\nworkload db {{ label tier = db\n{new}\n}}"
                )
            } else {
                format!("{rules}\nworkload web {{ label tier = web }}")
            };
            format!("exempt uid {SIDECAR_UID}\nmesh bookstore {{\n{more}{workloads}\n}}\n")
        };
        let write = |name, rules| match act.is_of_a_pod() {
            true => Ok(stage.ground().write(name, pods(rules))?),
            false => stage.policy(name, &format!("{rules}\n{more}")),
        };
        let (old, new) = (write("old.mesh", old)?, write("new.mesh", new)?);
        let mut bed = Self { stage, old, new, act, replaces: 0 };
        if act == Act::Upgrade {
            bed.prepare()?;
            let others = bed.programs()?;
            bed.stage.apply(&bed.new)?;
            bed.replaces = different(&bed.programs()?, &others);
            assert_ne!(bed.replaces, 0, "nothing was replaced");
            let ours = bed.programs()?;
            bed.stage.apply(&bed.old)?;
            assert_eq!(bed.programs()?, ours, "programs of the same build are kept");
        }
        Ok(bed)
    }

    /// Brings about what is before the command, and returns the command.
    fn prepare(&self) -> Result<Vec<String>, Failure> {
        let netns = self.stage.pair().client.path();
        let attach =
            ["attach", "--netns", &text(&netns), "--name", "web-1", "--label", "tier=web"].map(str::to_owned);
        let ask =
            |arguments: &[String]| self.stage.ask(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let words = |command: &[&str]| command.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        match self.act {
            Act::First => {
                // The state directory too: its making is a part of a first apply.
                ask(&words(&["detach", "--all", "--purge"]))?;
                Ok(words(&["apply", &text(&self.new)]))
            }
            Act::Apply => {
                self.stage.apply(&self.old)?;
                Ok(words(&["apply", &text(&self.new)]))
            }
            Act::Upgrade => {
                self.other_build()?;
                Ok(words(&["apply", &text(&self.new)]))
            }
            Act::Rollback => {
                let applied = self.stage.apply(&self.old)?;
                let generation = applied.get("generation").ok_or("it has no number")?.to_string();
                self.stage.apply(&self.new)?;
                Ok(words(&["rollback", &generation]))
            }
            Act::Resume => {
                self.stage.apply(&self.old)?;
                ask(&words(&["pause"]))?;
                Ok(words(&["resume"]))
            }
            Act::Restore => {
                self.stage.apply(&self.old)?;
                ask(&words(&["detach", "--all"]))?;
                Ok(words(&["restore"]))
            }
            Act::Attach => {
                self.stage.apply(&self.old)?;
                // Where it is not attached that is said, and is no matter.
                Answer::of(self.stage.meshc().args(["detach", "--netns", &text(&netns)]))?;
                Ok(attach.to_vec())
            }
            Act::Again | Act::Relabel => {
                self.stage.apply(&self.old)?;
                ask(&attach)?;
                let label = if self.act == Act::Relabel { "tier=db" } else { "tier=web" };
                Ok(attach
                    .iter()
                    .map(|word| if word == "tier=web" { label.into() } else { word.clone() })
                    .collect())
            }
            Act::Detach => {
                self.stage.apply(&self.old)?;
                ask(&attach)?;
                Ok(words(&["detach", "--netns", &text(&netns)]))
            }
            Act::Pause => {
                self.stage.apply(&self.old)?;
                ask(&words(&["resume"]))?;
                Ok(words(&["pause"]))
            }
            Act::DetachAll => {
                self.stage.apply(&self.old)?;
                Ok(words(&["detach", "--all"]))
            }
        }
    }

    /// Applies the old policy by a meshc whose programs are of another build.
    fn other_build(&self) -> Tested {
        let program = self.stage.ground().dir().join("other-meshc");
        if !program.exists() {
            let bytes = program.with_extension("bytes");
            fs::write(&bytes, other_programs(&fs::read(env!("CARGO_BIN_EXE_meshc"))?)?)?;
            copy_program(&bytes, &program)?;
        }
        let ours = self.stage.meshc();
        let mut command = Command::new(program);
        command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Answer::of(command.arg("apply").arg(&self.old))?.done()?;
        Ok(())
    }

    /// The kernel's ids of the programs that are attached.
    fn programs(&self) -> Result<Vec<serde_json::Value>, Failure> {
        let status = self.stage.ask(&["status"])?;
        let programs = status.get("programs").and_then(|all| all.as_array()).cloned().unwrap_or_default();
        Ok(programs.iter().map(|program| program.get("id").cloned().unwrap_or_default()).collect())
    }

    fn place(&self) -> Place {
        match self.act {
            act if act.is_of_a_pod() => self.stage.beside(),
            _ => self.stage.cart(),
        }
    }

    /// Which policy decides; a mix of two is an error.
    fn live(&self) -> Result<Live, Failure> {
        let (first, second) = (address(FIRST)?, address(SECOND)?);
        let dial = move || [first, second].map(|target| seen(&Client::to(target), target));
        match self.place().run(dial)? {
            [Seen::Straight, Seen::Straight] => Ok(Live::None),
            [Seen::Redirected(15001), Seen::Straight] => Ok(Live::Old),
            [Seen::Redirected(15002), Seen::Denied] => Ok(Live::New),
            mix => Err(format!("no policy of these tests decides so: {mix:?}").into()),
        }
    }

    /// The command, struck; and the same command again. What was in effect between the two; `None` where the
    /// command made fewer calls.
    fn strike(&self, fault: Fault) -> Result<Option<Live>, Failure> {
        let command = self.prepare()?;
        let [before, after] = self.act.effect();
        let others = if self.act == Act::Upgrade { self.programs()? } else { Vec::new() };
        let outcome = fault.strike(self.stage.meshc().args(&command), Calls::Changing)?;
        let place = format!("{:?}, {fault:?} of {:?}", self.act, outcome.calls.last());
        let live = self.live().map_err(|error| format!("{place}: {error}"))?;
        self.judge(&outcome, live, &place);
        if !self.act.is_of_a_pod() && live != Live::None {
            self.check_lines(&self.stage.ask(&["status"])?, live, &place);
        }
        if matches!(self.act, Act::Again | Act::Relabel) {
            // A command that has nothing to do with the pod cleans up, and makes a stranger of nobody.
            let nobody = Answer::of(self.stage.meshc().args(["detach", "--name", "nobody"]))?;
            assert_eq!(nobody.code, 1, "{place}: {nobody:#?}");
            let cleaned = self.live().map_err(|error| format!("{place}, cleaned up: {error}"))?;
            assert!(cleaned == before || cleaned == after, "{place}, cleaned up: {cleaned:?}");
            let status = self.stage.ask(&["status"])?;
            assert_eq!(status.get("drift"), Some(&serde_json::json!([])), "{place}, cleaned up");
        }
        let again: Vec<&str> = command.iter().map(String::as_str).collect();
        let again = Answer::of(self.stage.meshc().args(&again))?;
        let is_gone = self.act == Act::Detach && again.stderr.contains("is attached");
        assert!(again.code == 0 || is_gone, "{place}: {again:#?}");
        assert_eq!(self.live()?, after, "{place}, then again");
        if self.act == Act::Upgrade {
            assert_eq!(different(&self.programs()?, &others), self.replaces, "{place}, then again");
        }
        let status = self.stage.ask(&["status"])?;
        assert_eq!(status.get("drift"), Some(&serde_json::json!([])), "{place}, then again");
        let state = if self.act == Act::DetachAll {
            "none"
        } else if self.act == Act::Pause {
            "paused"
        } else {
            "active"
        };
        assert_eq!(status.get("state").and_then(|state| state.as_str()), Some(state), "{place}, then again");
        self.check_lines(&status, after, &place);
        assert!(live == before || live == after, "{place}: {live:?}");
        Ok(outcome.struck.then_some(live))
    }

    /// The rules that decided are cited from the file of the policy that decides.
    fn check_lines(&self, status: &serde_json::Value, live: Live, place: &str) {
        let expected = match live {
            Live::None => return,
            Live::Old => &self.old,
            Live::New => &self.new,
        };
        let expected = if self.act.is_of_a_pod() { &self.old } else { expected };
        let rules = status.get("rules").and_then(|rules| rules.as_array()).cloned().unwrap_or_default();
        let written = |rule: &&serde_json::Value| {
            let text = rule.get("text").and_then(|text| text.as_str());
            text.is_some_and(|text| !text.is_empty() && !text.starts_with("built-in"))
        };
        let files: Vec<_> = rules.iter().filter(written).map(|rule| rule.get("file").cloned()).collect();
        assert!(!files.is_empty(), "{place}: {status:#}");
        let expected = Some(serde_json::Value::from(text(expected)));
        assert!(files.iter().all(|file| *file == expected), "{place}: {status:#}");
    }

    fn judge(&self, outcome: &Outcome, live: Live, place: &str) {
        let [before, after] = self.act.effect();
        if outcome.status.success() {
            assert_eq!(live, after, "{place} said that it was done: {outcome:#?}");
        } else if self.act.keeps_deciding() && outcome.status.code().is_some() {
            assert_eq!(live, before, "{place} said that it was not done: {outcome:#?}");
        }
    }

    /// Everything is taken away, and nothing is left.
    fn end(self) -> Tested {
        self.stage.ask(&["detach", "--all", "--purge"])?;
        // What the kernel itself puts there has a dot in its name, and nothing of ours has.
        let names = self.stage.ground().bpffs().read_dir()?.map(|entry| Ok(entry?.file_name()));
        let left = names.collect::<std::io::Result<Vec<_>>>()?;
        let left: Vec<_> = left.iter().filter(|name| !name.to_string_lossy().contains('.')).collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(!self.stage.ground().state().exists());
        Ok(())
    }
}

/// At how many places two lists of one length differ.
fn different(one: &[serde_json::Value], two: &[serde_json::Value]) -> usize {
    assert_eq!(one.len(), two.len(), "{one:?}, {two:?}");
    one.iter().zip(two).filter(|(one, two)| one != two).count()
}

/// The same programs in other instructions: "return 1" by a move of 64 bits rather than of 32, which is the same.
fn other_programs(meshc: &[u8]) -> Result<Vec<u8>, Failure> {
    const BY_32: [u8; 16] = [0xb4, 0, 0, 0, 1, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let mut other = meshc.to_vec();
    let places: Vec<usize> =
        other.windows(16).enumerate().filter(|(_, it)| *it == BY_32).map(|it| it.0).collect();
    for &at in &places {
        *other.get_mut(at).ok_or("no such byte")? = 0xb7;
    }
    if places.is_empty() { Err("no program of meshc returns 1".into()) } else { Ok(other) }
}

/// Strikes at one call after the other, until one does not strike since the command makes fewer.
fn attack(act: Act, faults: impl Iterator<Item = Fault>) -> Result<BTreeMap<Live, usize>, Failure> {
    let bed = Bed::new(act)?;
    bed.prepare()?;
    let traffic = act.keeps_deciding().then(|| Traffic::start(&bed.place())).transpose()?;
    let mut seen: BTreeMap<Live, usize> = BTreeMap::new();
    for (count, fault) in faults.enumerate() {
        if count % 50 == 49 {
            println!("{act:?}: {seen:?}, now {fault:?}");
        }
        let Some(live) = bed.strike(fault)? else { break };
        bed.stage.ground().give_way()?;
        *seen.entry(live).or_default() += 1;
    }
    if let Some(traffic) = traffic {
        traffic.end(&[Seen::Redirected(15001), Seen::Redirected(15002)])?;
    }
    bed.end()?;
    println!("{act:?}: {seen:?}");
    Ok(seen)
}

/// A kill after a call and one before the next leave the same behind, but for what memory-mapped stores do
/// between them, as a commit does; so one side is enough where every call is taken.
fn kills(step: usize) -> impl Iterator<Item = Fault> {
    let (moments, step) = if long_runs_are_wanted() {
        (&[Moment::Before, Moment::After][..], 1)
    } else {
        (&[Moment::Before][..], step)
    };
    (first_step().unwrap_or(1)..)
        .step_by(step)
        .flat_map(move |number| moments.iter().map(move |&moment| Fault::Kill(number, moment)))
}

fn failures(first: usize, step: usize) -> impl Iterator<Item = Fault> {
    let step = if long_runs_are_wanted() { 1 } else { step };
    let errors = ERRORS.iter().cycle().copied();
    (first_step().unwrap_or(first)..)
        .step_by(step)
        .zip(errors)
        .map(|(number, error)| Fault::Fail(number, error))
}

#[test]
fn an_apply_killed_at_any_call_leaves_one_policy_and_the_next_apply_goes_on() -> Tested {
    let seen = attack(Act::Apply, kills(11))?;
    assert!(
        first_step().is_some() || seen.len() == 2,
        "some kills came before the commit and some after: {seen:?}"
    );
    Ok(())
}

#[test]
fn an_upgrade_killed_at_any_call_leaves_one_policy_and_programs_that_work() -> Tested {
    let seen = attack(Act::Upgrade, kills(41))?;
    assert!(
        first_step().is_some() || seen.len() == 2,
        "some kills came before the commit and some after: {seen:?}"
    );
    Ok(())
}

#[test]
fn a_first_apply_killed_at_any_call_leaves_nothing_or_all() -> Tested {
    // A program loaded and a map made are no different from the last one; the long run takes them all.
    let seen = attack(Act::First, kills(29))?;
    assert!(first_step().is_some() || seen.contains_key(&Live::None), "{seen:?}");
    Ok(())
}

#[test]
fn a_rollback_killed_at_any_call_leaves_one_policy() -> Tested {
    let seen = attack(Act::Rollback, kills(31))?;
    assert!(
        first_step().is_some() || seen.len() == 2,
        "some kills came before the commit and some after: {seen:?}"
    );
    Ok(())
}

#[test]
fn a_restore_killed_at_any_call_leaves_nothing_or_all() -> Tested {
    let seen = attack(Act::Restore, kills(41))?;
    assert!(first_step().is_some() || seen.contains_key(&Live::None), "{seen:?}");
    Ok(())
}

#[test]
fn a_pod_that_comes_or_goes_is_a_member_or_not_wherever_the_command_is_killed() -> Tested {
    for act in [Act::Attach, Act::Detach] {
        let seen = attack(act, kills(11))?;
        assert!(!seen.is_empty(), "{act:?} changes nothing");
    }
    Ok(())
}

#[test]
fn a_member_that_is_attached_again_is_one_wherever_the_command_is_killed() -> Tested {
    for act in [Act::Again, Act::Relabel] {
        let seen = attack(act, kills(13))?;
        assert!(!seen.contains_key(&Live::None) && !seen.is_empty(), "{act:?}: {seen:?}");
    }
    Ok(())
}

#[test]
fn a_switch_killed_at_any_call_is_on_or_off() -> Tested {
    for act in [Act::Pause, Act::Resume] {
        let seen = attack(act, kills(9))?;
        assert!(!seen.is_empty(), "{act:?} changes nothing");
    }
    Ok(())
}

#[test]
fn a_detach_killed_at_any_call_is_finished_by_the_next() -> Tested {
    let seen = attack(Act::DetachAll, kills(11))?;
    assert!(!seen.is_empty(), "detach changes nothing");
    Ok(())
}

#[test]
fn a_command_whose_calls_fail_does_all_or_nothing() -> Tested {
    let acts = [
        (Act::Apply, 61),
        (Act::First, 97),
        (Act::Upgrade, 101),
        (Act::Rollback, 31),
        (Act::Restore, 127),
        (Act::Attach, 29),
        (Act::Again, 17),
        (Act::Relabel, 17),
        (Act::Detach, 23),
        (Act::Pause, 17),
        (Act::Resume, 17),
        (Act::DetachAll, 37),
    ];
    for (act, step) in acts {
        let seen = attack(act, failures(2, step))?;
        assert!(!seen.is_empty(), "{act:?} changes nothing");
    }
    Ok(())
}

/// Items that tell none of these tests' flows apart: large tables.
fn large() -> String {
    let prefixes = (0..2_000u32).map(|number| {
        let [_, a, b, c] = (number * 512).to_be_bytes();
        format!("11.{a}.{b}.{c}/24")
    });
    format!("exclude outbound tcp 9 to {}\n", prefixes.collect::<Vec<_>>().join(", "))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A member that connects again and again while a test goes on.
struct Traffic(Task<BTreeMap<String, usize>>);

impl Traffic {
    fn start(place: &Place) -> Result<Self, Failure> {
        let target = address(FIRST)?;
        let mut task = place.spawn(|line| {
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            let _ = line.say("started");
            while line.is_silent() {
                let seen = seen(&Client::to(target), target);
                *counts.entry(format!("{seen:?}")).or_default() += 1;
            }
            counts
        })?;
        task.line().hear()?;
        Ok(Self(task))
    }

    /// Ends it; every connection must have been one of these.
    fn end(mut self, allowed: &[Seen]) -> Tested {
        // Where it has ended already, its answer tells why.
        let _ = self.0.line().say("enough");
        let counts = self.0.join()?;
        let allowed: Vec<_> = allowed.iter().map(|seen| format!("{seen:?}")).collect();
        assert!(counts.keys().all(|seen| allowed.contains(seen)), "{counts:?}");
        Ok(())
    }
}
