//! Killed at any instant, an apply leaves the old policy or the new one, entire, and the next command goes on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mesh_testbed::fault::{Calls, Fault, Moment, Outcome};
use mesh_testbed::{Client, Failure, Task, Tested, kernel_is_usable, long_runs_are_wanted};

use crate::seen::{Seen, seen};
use crate::stage::{Stage, address};

/// Two flows that tell the policies of these tests apart, and any mix of them too.
const FIRST: &str = "10.0.3.9:80";
const SECOND: &str = "[fd10::9]:3306";

/// Which policy is in effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Live {
    None,
    Old,
    New,
}

#[test]
fn an_apply_killed_at_any_call_leaves_one_policy_and_the_next_apply_goes_on() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let (stage, old, new) = policies()?;
    stage.apply(&new)?;
    let traffic = Traffic::start(&stage)?;
    let mut seen: BTreeMap<Live, usize> = BTreeMap::new();
    for fault in kills(1) {
        stage.apply(&old)?;
        let outcome = strike(&stage, &new, fault)?;
        let place = format!("{fault:?}, {:?}", outcome.calls.last());
        let live = live(&stage)?;
        assert!(matches!(live, Live::Old | Live::New), "{place}: {live:?}");
        if !outcome.struck {
            assert!(outcome.status.success() && live == Live::New, "{place}: {live:?}, {outcome:#?}");
            break;
        }
        *seen.entry(live).or_default() += 1;
        stage.apply(&new).map_err(|error| format!("{place}: {error}"))?;
        assert_eq!(self::live(&stage)?, Live::New, "{place}");
    }
    traffic.end(&[Seen::Redirected(15001), Seen::Redirected(15002)])?;
    assert_eq!(seen.len(), 2, "some kills came before the commit and some after: {seen:?}");
    Ok(())
}

#[test]
fn a_first_apply_killed_at_any_call_leaves_nothing_or_all() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let (stage, _, new) = policies()?;
    let mut seen: BTreeMap<Live, usize> = BTreeMap::new();
    // A program loaded and a map made are no different from the last one; the long run takes them all.
    for fault in kills(if long_runs_are_wanted() { 1 } else { 7 }) {
        let outcome = strike(&stage, &new, fault)?;
        let place = format!("{fault:?}, {:?}", outcome.calls.last());
        let live = live(&stage)?;
        assert!(matches!(live, Live::None | Live::New), "{place}: {live:?}");
        if !outcome.struck {
            assert!(outcome.status.success() && live == Live::New, "{place}: {live:?}, {outcome:#?}");
            break;
        }
        *seen.entry(live).or_default() += 1;
        stage.apply(&new).map_err(|error| format!("{place}: {error}"))?;
        assert_eq!(self::live(&stage)?, Live::New, "{place}");
        // The state folder too: its making is a part of a first apply.
        stage.ask(&["detach", "--all", "--purge"])?;
        assert_eq!(self::live(&stage)?, Live::None, "{place}");
    }
    assert!(seen.contains_key(&Live::None), "{seen:?}");
    Ok(())
}

#[test]
fn a_detach_killed_at_any_call_is_finished_by_the_next() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let (stage, old, _) = policies()?;
    let mut kills_that_struck = 0;
    for fault in kills(if long_runs_are_wanted() { 1 } else { 5 }) {
        stage.apply(&old)?;
        let outcome = fault.strike(stage.meshc().args(["detach", "--all"]), Calls::Changing)?;
        let place = format!("{fault:?}, {:?}", outcome.calls.last());
        let live = live(&stage)?;
        assert!(matches!(live, Live::None | Live::Old), "{place}: {live:?}");
        stage.ask(&["detach", "--all"]).map_err(|error| format!("{place}: {error}"))?;
        assert_eq!(self::live(&stage)?, Live::None, "{place}");
        assert_eq!(stage.ask(&["status"])?["state"], "none", "{place}");
        if !outcome.struck {
            break;
        }
        kills_that_struck += 1;
    }
    assert!(kills_that_struck > 0, "detach changes nothing");
    Ok(())
}

/// Kills at one call after the other, until one does not strike since the command made fewer calls.
///
/// A kill after a call and one before the next leave the same behind, but for what memory-mapped stores do
/// between them, as a commit does; so one side is enough where every call is taken.
fn kills(step: usize) -> impl Iterator<Item = Fault> {
    let moments =
        if long_runs_are_wanted() { &[Moment::Before, Moment::After][..] } else { &[Moment::Before][..] };
    (1..).step_by(step).flat_map(move |number| moments.iter().map(move |&moment| Fault::Kill(number, moment)))
}

fn policies() -> Result<(Stage, PathBuf, PathBuf), Failure> {
    let stage = Stage::new()?;
    let old = stage.policy("old.mesh", "redirect outbound -> 15001\nexclude outbound tcp 3306")?;
    let new = stage.policy("new.mesh", "redirect outbound -> 15002\ndeny outbound tcp 3306")?;
    Ok((stage, old, new))
}

fn strike(stage: &Stage, policy: &Path, fault: Fault) -> Result<Outcome, Failure> {
    Ok(fault.strike(stage.meshc().arg("apply").arg(policy), Calls::Changing)?)
}

/// Which policy decides; a mix of two is an error.
fn live(stage: &Stage) -> Result<Live, Failure> {
    match (stage.dial(FIRST)?, stage.dial(SECOND)?) {
        (Seen::Straight, Seen::Straight) => Ok(Live::None),
        (Seen::Redirected(15001), Seen::Straight) => Ok(Live::Old),
        (Seen::Redirected(15002), Seen::Denied) => Ok(Live::New),
        mix => Err(format!("no policy of these tests decides so: {mix:?}").into()),
    }
}

/// A member that connects again and again while a test goes on.
struct Traffic(Task<BTreeMap<String, usize>>);

impl Traffic {
    fn start(stage: &Stage) -> Result<Self, Failure> {
        let target = address(FIRST)?;
        let mut task = stage.cart().spawn(|line| {
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
        self.0.line().say("enough")?;
        let counts = self.0.join()?;
        let allowed: Vec<_> = allowed.iter().map(|seen| format!("{seen:?}")).collect();
        assert!(counts.keys().all(|seen| allowed.contains(seen)), "{counts:?}");
        Ok(())
    }
}
