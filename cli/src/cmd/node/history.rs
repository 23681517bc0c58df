//! `meshc history`, `rollback` and `restore`: kept generations.

use mesh_compiler::diff::EntryChanges;
use mesh_runtime::{Kept, Owner, Runtime};
use serde_json::json;

use crate::args::{History, Restore, Rollback};
use crate::cautions::{self, Caution, cautions};
use crate::confirmation;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::live::image;
use crate::node::{failure, open};
use crate::output::Output;
use crate::render::applied::report;
use crate::render::table::{self, Apart, Cell};
use crate::render::time;
use crate::sidecars;

/// Lists what is remembered, newest first.
pub fn history(output: &Output, args: &History) -> Result<Exit, Failure> {
    let runtime = open(&args.instance)?;
    let mut kept = runtime.history().map_err(failure)?;
    kept.reverse();
    let pending = runtime.pending().map_err(failure)?;
    let generations: Vec<_> = kept.iter().map(object).collect();
    output.answer(
        &json!({ "generations": generations, "confirm": confirmation::answer(&runtime, pending.as_ref()) }),
        || {
            if kept.is_empty() {
                return "no generation is remembered\n".into();
            }
            let titles = ["GENERATION", "APPLIED", "POLICY", "BY", "STATE", "HOW"].map(Cell::new);
            let rows: Vec<_> =
                [titles].into_iter().chain(kept.iter().map(|it| row(it, output.verbose))).collect();
            table::text(&rows, output.columns, Apart::Last) + &confirmation::text(&runtime, pending.as_ref())
        },
    );
    Ok(Exit::Done)
}

fn object(kept: &Kept) -> serde_json::Value {
    let record = &kept.record;
    json!({
        "generation": record.generation, "digest": record.digest, "origin": record.origin,
        "owner": record.owner.word(), "taken_back": record.taken_back,
        "applied": record.applied, "live": kept.is_live, "kept": kept.is_kept,
    })
}

fn row(kept: &Kept, whole: bool) -> [Cell<'_>; 6] {
    let record = &kept.record;
    let state = match (kept.is_live, record.taken_back, kept.is_kept) {
        (true, ..) => "live",
        (_, true, _) => "taken back",
        (.., false) => "not kept",
        _ => "",
    };
    let policy = record.digest.get(..12).filter(|_| !whole).unwrap_or(&record.digest);
    [
        Cell::new(record.generation.to_string()).right(),
        Cell::new(time::seconds(record.applied)),
        Cell::new(policy),
        Cell::new(record.owner.word()),
        Cell::new(state),
        Cell::new(record.origin.as_str()),
    ]
}

/// Makes a kept policy live again.
pub fn rollback(output: &Output, args: &Rollback) -> Result<Exit, Failure> {
    let runtime = open(&args.instance)?;
    let applied = runtime.rollback(args.generation, Owner::Cli, args.override_owner).map_err(failure)?;
    let cautions = caution(output, &runtime);
    report(output, &applied, &cautions, 0, &EntryChanges::default(), &sidecars::of_live(&runtime), None);
    Ok(Exit::Done)
}

/// Says of the policy that is live now what `apply` would have said of it. It is live all the same where that cannot be
/// read back.
fn caution(output: &Output, runtime: &Runtime) -> Vec<Caution> {
    let live = runtime.live().ok().flatten().and_then(|live| image(&live.tables).ok());
    let cautions: Vec<Caution> = live.iter().flat_map(cautions).collect();
    cautions::warn(output, &cautions);
    cautions
}

/// Applies what was live before a boot.
pub fn restore(output: &Output, args: &Restore) -> Result<Exit, Failure> {
    let runtime = open(&args.instance)?;
    match runtime.restore().map_err(failure)? {
        Some(applied) => {
            let cautions = caution(output, &runtime);
            let unheard = sidecars::of_live(&runtime);
            report(output, &applied, &cautions, 0, &EntryChanges::default(), &unheard, None);
        }
        None => output.answer(&json!({ "changed": false }), || "nothing to restore\n".into()),
    }
    Ok(Exit::Done)
}
