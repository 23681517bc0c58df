//! Writes the lists of words into the files of the editors; with `sources`, what the C parser is made of into the
//! file that says so. `editors/generate/run` calls it.

use std::path::Path;
use std::process::ExitCode;

use mesh_editors::{FILES, HEADER, PARSER_SOURCES, Words, of_sources};

fn main() -> ExitCode {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let done = match std::env::args().nth(1).as_deref() {
        Some("sources") => of_sources(here)
            .and_then(|hash| std::fs::write(here.join(PARSER_SOURCES), hash))
            .map_err(|e| e.to_string()),
        _ => lists(here),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn lists(here: &Path) -> Result<(), String> {
    let read =
        |name: &str| std::fs::read_to_string(here.join(name)).map_err(|error| format!("{name}: {error}"));
    let written = |name: &str, text: String| {
        std::fs::write(here.join(name), text).map_err(|error| format!("{name}: {error}"))
    };
    let words = Words::read(&read("words.json")?).map_err(|error| error.to_string())?;
    written(HEADER, words.header())?;
    for (name, style) in FILES {
        let filled = words.filled(&read(name)?, style).map_err(|error| format!("{name}: {error}"))?;
        written(name, filled)?;
    }
    Ok(())
}
