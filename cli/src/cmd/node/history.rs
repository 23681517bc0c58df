//! `meshc history`, `rollback` and `restore`: kept generations.

use mesh_compiler::diff::EntryChanges;
use mesh_runtime::{Kept, Owner, Runtime};
use serde_json::json;

use crate::args::{History, Restore, Rollback};
use crate::cautions::cautions;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::live::image;
use crate::node::{failure, open};
use crate::output::Output;
use crate::render::applied::report;
use crate::sidecars;

/// Lists what is remembered, newest first.
pub fn history(output: &Output, args: &History) -> Result<Exit, Failure> {
    let mut kept = open(&args.instance)?.history().map_err(failure)?;
    kept.reverse();
    let generations: Vec<_> = kept.iter().map(object).collect();
    output.answer(&json!({ "generations": generations }), || {
        if kept.is_empty() {
            return "no generation is remembered\n".into();
        }
        kept.iter().map(line).collect()
    });
    Ok(Exit::Done)
}

fn object(kept: &Kept) -> serde_json::Value {
    let record = &kept.record;
    json!({
        "generation": record.generation, "digest": record.digest, "origin": record.origin,
        "applied": record.applied, "live": kept.is_live, "kept": kept.is_kept,
    })
}

fn line(kept: &Kept) -> String {
    let record = &kept.record;
    let mark = if kept.is_live { "live" } else { "" };
    let gone = if kept.is_kept { "" } else { "  (its artifact is gone)" };
    let digest = record.digest.get(..12).unwrap_or(&record.digest);
    format!("{:>6}  {digest}  {mark:<4}  {}{gone}\n", record.generation, record.origin)
}

/// Makes a kept policy live again.
pub fn rollback(output: &Output, args: &Rollback) -> Result<Exit, Failure> {
    let runtime = open(&args.instance)?;
    let applied = runtime.rollback(args.generation, Owner::Cli, args.override_owner).map_err(failure)?;
    caution(output, &runtime)?;
    report(output, &applied, 0, &EntryChanges::default(), &sidecars::of_live(&runtime));
    Ok(Exit::Done)
}

/// Says of the policy that is live now what `apply` would have said of it.
fn caution(output: &Output, runtime: &Runtime) -> Result<(), Failure> {
    if let Some(live) = runtime.live().map_err(failure)? {
        cautions(&image(&live.tables)?).iter().for_each(|caution| output.warn(&caution.text));
    }
    Ok(())
}

/// Applies what was live before a boot.
pub fn restore(output: &Output, args: &Restore) -> Result<Exit, Failure> {
    let runtime = open(&args.instance)?;
    match runtime.restore().map_err(failure)? {
        Some(applied) => {
            caution(output, &runtime)?;
            let unheard = sidecars::of_live(&runtime);
            report(output, &applied, 0, &EntryChanges::default(), &unheard);
        }
        None => output.answer(&json!({ "changed": false }), || "nothing to restore\n".into()),
    }
    Ok(Exit::Done)
}
