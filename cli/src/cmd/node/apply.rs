//! `meshc apply`.

use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use mesh_compiler::diff::EntryChanges;
use mesh_runtime::{Apply as Request, Transition, Warning, hex};

use crate::args::{Apply, Switch};
use crate::candidate::{Candidate, candidate};
use crate::cautions::{self, cautions};
use crate::confirmation;
use crate::consent;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::live::live_policy;
use crate::node::{failure, open, told_beside};
use crate::output::Output;
use crate::places::Places;
use crate::policy::{Policy, beside, compare};
use crate::render::applied::report;
use crate::render::brief;
use crate::render::moves::Changes;
use crate::render::size::size;

/// Lines that whoever is asked sees of the flows that change: with what else is said they fit a screen.
const SHOWN: usize = 14;

/// Compiles (or reads an artifact) and makes it live.
pub fn run(output: &Output, args: &Apply) -> Result<Exit, Failure> {
    let began = Instant::now();
    // What is wrong with the place is told after what is wrong with the policy.
    let ready = open(&args.instance).map(|runtime| {
        let prepared = runtime.prepare();
        (runtime, prepared)
    });
    let Some(candidate) = candidate(output, &args.program)? else { return Ok(Exit::Refused) };
    let Candidate { tables, image, places, planned } = &candidate;
    let compiled = began.elapsed();
    if image.workloads.is_empty() {
        return Err(Failure::refused("no-mesh", "the policy has no workload, so there is nothing to apply")
            .help("give the files of a mesh too; `meshc detach --all` takes everything away"));
    }
    let cautions = cautions(image);
    cautions::warn(output, &cautions);
    let (runtime, prepared) = ready?;
    let head = runtime.head().map_err(failure)?;
    if let Some((_, planned)) = planned {
        check_plan(planned, &head.digest)?;
    }
    // What entries change is for scripts: people see it in `plan`.
    let before = if output.is_json() { live_policy(&args.instance)? } else { None };
    let new = || Policy::of(image.clone(), tables.clone(), places.clone().unwrap_or_default());
    let mut expected = planned.as_ref().map(|(generation, _)| *generation);
    let told = told_beside(&runtime, args.program.inventory.as_deref())?;
    let changes = if head.digest == hex(&tables.digest()) && told.is_empty() {
        Changes(Transition::default())
    } else {
        let changes = Changes(runtime.transition_told(image, &told).map_err(failure)?);
        let flows = || flows(output, live_policy(&args.instance)?.as_ref(), &new());
        if planned.is_none() && consent::ask(output, args, &changes, flows)? {
            // What was said yes to.
            expected = Some(head.generation);
        }
        changes
    };
    // They are so whatever becomes of the policy, and it finds the pods with them.
    if !told.is_empty() {
        runtime.label_namespaces(&told).map_err(failure)?;
    }
    let origin =
        format!("apply {}", args.program.paths.iter().map(|path| named(path)).collect::<Vec<_>>().join(" "));
    let lines = places.as_ref().map(Places::encode).transpose()?;
    let request = Request {
        lines: lines.as_deref(),
        origin: &origin,
        expected,
        repair: args.repair,
        override_owner: args.override_owner,
        confirm_within: args.confirm_within.map(milliseconds),
        reset_changed: args.reset_changed,
        drop_flows: args.drop_flows,
        keep_decisions: args.keep_decisions.map(Switch::is_on),
        prepared,
        ..Request::of(tables)
    };
    let mut applied = runtime.apply(request).map_err(failure)?;
    // It is live all the same, and sidecars may come later.
    let unheard = match runtime.unheard(image) {
        Ok(unheard) => unheard,
        Err(error) => {
            applied.warnings.push(Warning::SidecarsUnknown((&error).into()));
            Vec::new()
        }
    };
    if args.confirm_within.is_some() && applied.changed {
        confirmation::start_waiting(&args.instance)?;
        output.info("it takes itself back unless `meshc confirm` comes in time");
    }
    let entries = match output.is_json() && applied.changed {
        true => compare(before.as_ref(), Some(&new()))?.entries,
        false => EntryChanges::default(),
    };
    report(output, &applied, &cautions, compiled.as_millis(), &entries, &unheard, Some(&changes));
    Ok(Exit::Done)
}

/// What changes beside members, in short, and the size of the tables.
fn flows(output: &Output, old: Option<&Policy>, new: &Policy) -> Result<String, Failure> {
    let changes = compare(old, Some(new))?;
    let beside = beside(old, Some(new), &changes);
    let mut text = brief::text(&changes, &beside, SHOWN, output.message_columns.unwrap_or(usize::MAX));
    let now = old.map_or(0, |old| old.tables.size());
    let _ = writeln!(text, "tables: {} of memory, now {}", size(new.tables.size()), size(now));
    Ok(text)
}

/// A path as `history` shows it: the current directory by its name, since later nobody knows which it was.
fn named(path: &Path) -> String {
    let here = if path.as_os_str() == "." { std::env::current_dir().ok() } else { None };
    here.as_deref().unwrap_or(path).to_string_lossy().into_owned()
}

/// A generation's number can come again after everything was detached; its policy's digest does not lie.
fn check_plan(planned: &str, live: &str) -> Result<(), Failure> {
    if planned == live {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Busy,
        "stale",
        "another policy is live than the one that this was planned against",
    )
    .help("plan again, and look at what changed"))
}

fn milliseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
