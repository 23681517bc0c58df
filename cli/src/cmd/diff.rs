//! `meshc diff`: the flows whose verdict changes between two policies, then entries.

use std::path::PathBuf;

use mesh_bpf::pack::MAX_LINES;
use mesh_compiler::compile::Compiled;
use mesh_compiler::diag::Severity;
use serde_json::Value;

use crate::args::{Diff, Program};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::places::Places;
use crate::policy::{Policy, beside, compare};
use crate::program;
use crate::render::difference::{object, text};
use crate::tint::Tint;

/// Compares two policies. Exit code 3 where anything differs.
pub fn run(output: &Output, args: &Diff) -> Result<Exit, Failure> {
    let Some(old) = side(output, args, &args.old)? else { return Ok(Exit::Refused) };
    let Some(new) = side(output, args, &args.new)? else { return Ok(Exit::Refused) };
    let difference = compare(old.as_ref(), new.as_ref())?;
    let beside = beside(old.as_ref(), new.as_ref(), &difference);
    output.tinted(
        &Value::Object(object(&difference, &beside, args.entries || output.verbose)),
        Tint::Verdicts,
        || text(&difference, &beside, args.entries || output.verbose),
    );
    Ok(if difference.is_empty() { Exit::Done } else { Exit::Different })
}

/// A policy by what names it. `None` outside where it was refused and that was said; `None` inside for no
/// policy, which only `live` can be.
fn side(output: &Output, args: &Diff, name: &str) -> Result<Option<Option<Policy>>, Failure> {
    if name == "live" {
        return live(args).map(Some);
    }
    let path = PathBuf::from(name);
    if let (Ok(generation), false) = (name.parse(), path.exists()) {
        return kept(args, generation).map(|policy| Some(Some(policy)));
    }
    if let Some(policy) = Policy::read(&path)? {
        return Ok(Some(Some(policy)));
    }
    let program = Program {
        paths: vec![path],
        stdin_name: "<stdin>".into(),
        inventory: args.inventory.clone(),
        deny: None,
        max_lines: MAX_LINES,
    };
    let compilation = program::compile_aloud(output, &program, Severity::Error)?;
    program::knows_services(output, &compilation, Severity::Warning);
    let places = Places::of(&compilation);
    let policy = |compiled: Compiled| Policy::of(compiled.image, compiled.tables, places);
    Ok(compilation.compiled.map(|compiled| Some(policy(compiled))))
}

#[cfg(all(feature = "kernel", target_os = "linux"))]
fn live(args: &Diff) -> Result<Option<Policy>, Failure> {
    crate::live::live_policy(&args.instance)
}

#[cfg(all(feature = "kernel", target_os = "linux"))]
fn kept(args: &Diff, generation: u64) -> Result<Policy, Failure> {
    crate::live::kept_policy(&args.instance, generation)
}

#[cfg(not(all(feature = "kernel", target_os = "linux")))]
fn kept(args: &Diff, _: u64) -> Result<Policy, Failure> {
    live(args)?.ok_or_else(|| Failure::cannot("no-kernel", "no generations are kept here"))
}

#[cfg(not(all(feature = "kernel", target_os = "linux")))]
fn live(_: &Diff) -> Result<Option<Policy>, Failure> {
    Err(Failure::cannot("no-kernel", "this meshc was built without the commands that touch a kernel"))
}
