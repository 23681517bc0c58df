//! `meshc check`: every diagnostic of a program.

use mesh_compiler::compile::Compilation;
use mesh_compiler::diag::has_errors;
use serde_json::json;

use crate::args::{Check, Format};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::render::size::size;
use crate::{program, render};

/// Says all that there is to say. Exit code 1 where there are errors.
pub fn run(output: &Output, args: &Check) -> Result<Exit, Failure> {
    let checked = program::compile(&args.program)?;
    let (sources, diagnostics) = (&checked.files.sources, &checked.diagnostics);
    match output.format {
        Format::Json => {
            output.json(&json!({ "diagnostics": render::json::diagnostics(sources, diagnostics) }))
        }
        Format::Sarif => output.text(&format!("{}\n", render::sarif::log(sources, diagnostics))),
        Format::Text | Format::Github => {
            render::say(output, sources, diagnostics);
            if output.verbose {
                output.info(&read(&checked));
            }
            let files = render::counted(sources.iter().count() as u64, "file");
            let tally = render::tally(diagnostics);
            let tally = if tally.is_empty() { "no problems found" } else { &tally };
            output.info(&format!("checked {files}: {tally}"));
        }
    }
    Ok(if has_errors(diagnostics) { Exit::Refused } else { Exit::Done })
}

/// Which files were read, and what is in them.
fn read(checked: &Compilation) -> String {
    let program = &checked.resolution.program;
    let files = checked.files.sources.iter();
    let files: String =
        files.map(|(_, source)| format!("read {}, {}\n", source.name, size(source.text.len()))).collect();
    let counts = [
        (program.meshes.len(), "meshes"),
        (program.workloads.len(), "workloads"),
        (program.written_rules(), "rules"),
        (program.tests.len(), "tests"),
    ];
    let counts: Vec<String> = counts.iter().map(|(count, what)| format!("{count} {what}")).collect();
    files + &counts.join(", ")
}
