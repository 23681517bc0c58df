//! All passes in order: from files to a program that is checked, and to tables that are proved.

use mesh_bpf::image::MapImage;
use mesh_bpf::pack::pack;
use mesh_bpf::tables::Tables;

use crate::check::{self, silence};
use crate::diag::{Code, Diagnostic, has_errors};
use crate::lower::{self, Origins};
use crate::resolve::{Files, Loader, Location, Resolution, load, resolve};

/// A program and everything that there is to say about it.
#[derive(Debug)]
pub struct Compilation {
    /// Its files.
    pub files: Files,
    /// Its meaning. Where there were errors, without what they are about.
    pub resolution: Resolution,
    /// Errors, warnings and notes, in the order of their places.
    pub diagnostics: Vec<Diagnostic>,
    /// What it compiles to; none where there are errors.
    pub compiled: Option<Compiled>,
}

/// What a program compiles to.
#[derive(Debug)]
pub struct Compiled {
    /// What it means, canonically.
    pub image: MapImage,
    /// As the kernel will hold it.
    pub tables: Tables,
    /// Which words of the policy each entry comes from.
    pub origins: Origins,
}

/// Compiles a program from its files' places and bytes; imports are read through `loader`. Does not prove
/// the result.
pub fn compile(given: Vec<(Location, Vec<u8>)>, loader: &mut dyn Loader) -> Compilation {
    let (files, found) = load(given, loader);
    let (resolution, mut diagnostics) = resolve(&files, found);
    let (checked, found) = check::check(&resolution);
    diagnostics.extend(found);
    let compiled = checked.and_then(|checked| {
        let program = checked.program();
        let image = lower::lower(program);
        match pack(&image) {
            Ok(tables) => Some(Compiled { image, tables, origins: Origins::of(program) }),
            Err(error) => {
                diagnostics.push(Diagnostic::new(Code::OverCapacity, error.to_string()));
                None
            }
        }
    });
    let diagnostics = silence(&resolution, diagnostics, compiled.is_some());
    let compiled = compiled.filter(|_| !has_errors(&diagnostics));
    Compilation { files, resolution, diagnostics, compiled }
}
