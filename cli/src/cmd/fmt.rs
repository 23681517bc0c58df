//! `meshc fmt`: the one canonical layout.

use std::path::Path;

use mesh_compiler::diag::Diagnostic;
use mesh_compiler::format::format;
use mesh_compiler::resolve::Location;
use mesh_compiler::source::Sources;
use serde_json::json;

use crate::args::Fmt;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::tint::Tint;
use crate::{files, github, render, text_diff};

/// Formats files in place, or standard input to standard output. A file with a mistake stays as it is.
pub fn run(output: &Output, args: &Fmt) -> Result<Exit, Failure> {
    let given = files::read_given(&args.paths, &args.stdin_name)?;
    let stdin = args.paths.iter().any(|path| path.as_os_str() == "-");
    let mut sources = Sources::default();
    let mut diagnostics = Vec::new();
    let mut changed = Vec::new();
    for (location, bytes) in given {
        match formatted(&mut sources, &location, bytes) {
            Err(found) => diagnostics.extend(found),
            Ok((old, new)) => {
                if old != new {
                    changed.push(location.name.clone());
                }
                settle(output, args, &location, stdin, &old, &new)?;
            }
        }
    }
    render::say(output, &sources, &diagnostics);
    if output.is_json() {
        output.json(
            &json!({ "changed": changed, "diagnostics": render::json::diagnostics(&sources, &diagnostics) }),
        );
    }
    Ok(match (diagnostics.is_empty(), args.check && !changed.is_empty()) {
        (false, _) => Exit::Refused,
        (true, true) => Exit::Different,
        (true, false) => Exit::Done,
    })
}

/// The old and the new text of a file.
fn formatted(
    sources: &mut Sources,
    location: &Location,
    bytes: Vec<u8>,
) -> Result<(String, String), Vec<Diagnostic>> {
    let (id, found) = sources.add(location.name.clone(), bytes);
    let Some(source) = sources.get(id).filter(|_| found.is_empty()) else { return Err(found) };
    Ok((source.text.clone(), format(id, &source.text)?))
}

/// Writes, shows or passes on what came out.
fn settle(
    output: &Output,
    args: &Fmt,
    location: &Location,
    stdin: bool,
    old: &str,
    new: &str,
) -> Result<(), Failure> {
    let name = &location.name;
    if args.check {
        if !output.is_json() {
            output.text_tinted(
                Tint::Difference,
                &text_diff::unified(old, new, name, &format!("{name} (formatted)")),
            );
        }
        if output.is_github() && old != new {
            let message = "it is not in the canonical layout\nhelp: `meshc fmt` brings it there";
            output.text(&github::command("error", Some((name, None)), "fmt", message));
        }
    } else if stdin && *name == args.stdin_name {
        if !output.is_json() {
            output.text(new);
        }
    } else if old != new {
        files::write(Path::new(&location.key), new.as_bytes())?;
        output.info(&format!("formatted {name}"));
    } else if output.verbose {
        output.info(&format!("unchanged {name}"));
    }
    Ok(())
}
