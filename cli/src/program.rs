//! From paths on the command line to a checked and compiled program.

use std::path::PathBuf;

use mesh_bpf::image::MapImage;
use mesh_bpf::tables::Tables;
use mesh_compiler::diag::{self, Diagnostic, Severity, has_errors};
use mesh_compiler::resolve::{Files, Resolution, load, resolve};

use crate::args::{Deny, Program};
use crate::failure::Failure;
use crate::files::{FileSystem, read_given};
use crate::output::Output;
use crate::render;

/// A program with everything that there is to say about it.
pub struct Checked {
    /// Its files.
    pub files: Files,
    /// Its meaning.
    pub resolution: Resolution,
    /// Errors, warnings and notes, in the order of their places.
    pub diagnostics: Vec<Diagnostic>,
}

/// A program that compiled, or did not.
pub struct Compilation {
    /// What was said about it.
    pub checked: Checked,
    /// What it compiled to; none where there were errors.
    pub compiled: Option<Compiled>,
}

/// What a program compiles to.
pub struct Compiled {
    /// What it means.
    pub image: MapImage,
    /// As the kernel will hold it.
    pub tables: Tables,
}

/// Reads and checks a program. Nothing is printed.
pub fn check(args: &Program) -> Result<Checked, Failure> {
    let given = read_given(&args.paths, &args.stdin_name)?;
    let (files, found) = load(given, &mut FileSystem);
    let (resolution, mut diagnostics) = resolve(&files, found);
    if args.deny == Some(Deny::Warnings) {
        for warning in diagnostics.iter_mut().filter(|found| found.severity == Severity::Warning) {
            warning.severity = Severity::Error;
        }
    }
    diag::sort(&mut diagnostics);
    Ok(Checked { files, resolution, diagnostics })
}

/// Reads, checks and compiles a program, and prints what there is to say about it.
pub fn compile(output: &Output, args: &Program) -> Result<Compilation, Failure> {
    let checked = check(args)?;
    output.complain_all(&render::text(output, &checked.files.sources, &checked.diagnostics));
    if has_errors(&checked.diagnostics) {
        return Ok(Compilation { checked, compiled: None });
    }
    let image = mesh_compiler::lower::lower(&checked.resolution.program);
    let tables = mesh_bpf::pack::pack(&image)
        .map_err(|error| Failure::refused("over-capacity", error.to_string()))?;
    Ok(Compilation { checked, compiled: Some(Compiled { image, tables }) })
}
