//! `meshc check`: every diagnostic of a program.

use mesh_compiler::diag::has_errors;
use serde_json::json;

use crate::args::{Check, Format};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
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
            let files = sources.iter().count();
            let tally = render::tally(diagnostics);
            let tally = if tally.is_empty() { "no problems found" } else { &tally };
            output.info(&format!("checked {files} file{}: {tally}", if files == 1 { "" } else { "s" }));
        }
    }
    Ok(if has_errors(diagnostics) { Exit::Refused } else { Exit::Done })
}
