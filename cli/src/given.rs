//! A policy by what names it: a file or directory, an artifact, `live`, the number of a kept generation.

use std::path::{Path, PathBuf};

use mesh_bpf::pack::MAX_LINES;
use mesh_compiler::compile::{Compilation, Compiled};
use mesh_compiler::diag::Severity;

use crate::args::{InstanceArgs, Program};
use crate::failure::Failure;
use crate::output::Output;
use crate::places::Places;
use crate::policy::Policy;
use crate::program;

/// A policy, with its source where that was compiled.
pub struct Given {
    /// What it was compiled to.
    pub policy: Policy,
    /// The rest of its compilation.
    pub source: Option<Compilation>,
}

/// What names are looked up with.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Endpoints that policies are compiled against.
    pub inventory: Option<&'a Path>,
    /// What `live` and generations are of.
    pub instance: &'a InstanceArgs,
}

/// A policy by what names it. `None` outside where it was refused and that was said; `None` inside for no
/// policy, which only `live` can be.
pub fn find(output: &Output, place: Place<'_>, name: &str) -> Result<Option<Option<Given>>, Failure> {
    let alone = |policy| Given { policy, source: None };
    if name == "live" {
        return Ok(Some(live(place.instance)?.map(alone)));
    }
    let path = PathBuf::from(name);
    if let (Ok(generation), false) = (name.parse(), path.exists()) {
        return kept(place.instance, generation).map(|policy| Some(Some(alone(policy))));
    }
    if let Some(policy) = Policy::read(&path)? {
        return Ok(Some(Some(alone(policy))));
    }
    let program = Program {
        paths: vec![path],
        stdin_name: "<stdin>".into(),
        inventory: place.inventory.map(Path::to_owned),
        deny: None,
        max_lines: MAX_LINES,
    };
    let mut compilation = program::compile_aloud(output, &program, Severity::Error)?;
    program::knows_services(output, &compilation, Severity::Warning);
    let places = Places::of(&compilation);
    let policy = |compiled: Compiled| Policy::of(compiled.image, compiled.tables, places);
    let policy = compilation.compiled.take().map(policy);
    Ok(policy.map(|policy| Some(Given { policy, source: Some(compilation) })))
}

#[cfg(all(feature = "kernel", target_os = "linux"))]
fn live(instance: &InstanceArgs) -> Result<Option<Policy>, Failure> {
    crate::live::live_policy(instance)
}

#[cfg(all(feature = "kernel", target_os = "linux"))]
fn kept(instance: &InstanceArgs, generation: u64) -> Result<Policy, Failure> {
    crate::live::kept_policy(instance, generation)
}

#[cfg(not(all(feature = "kernel", target_os = "linux")))]
fn kept(instance: &InstanceArgs, _: u64) -> Result<Policy, Failure> {
    live(instance)?.ok_or_else(|| Failure::cannot("no-kernel", "no generations are kept here"))
}

#[cfg(not(all(feature = "kernel", target_os = "linux")))]
fn live(_: &InstanceArgs) -> Result<Option<Policy>, Failure> {
    Err(Failure::cannot("no-kernel", "this meshc was built without the commands that touch a kernel"))
}
