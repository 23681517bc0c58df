//! `meshc init`: a first policy with tests, and a workflow that keeps it true.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use serde_json::json;

use crate::args::Init;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// What is written, by path.
const FILES: [(&str, &str); 3] = [
    ("platform.mesh", include_str!("init/platform.mesh")),
    ("app.mesh", include_str!("init/app.mesh")),
    (".github/workflows/meshc.yml", include_str!("init/meshc.yml")),
];

/// Writes the files that are not there yet; never changes one that is.
pub fn run(output: &Output, args: &Init) -> Result<Exit, Failure> {
    let (mut written, mut kept) = (Vec::new(), Vec::new());
    for (name, text) in FILES {
        let path = args.dir.join(name);
        if create(&path, text)? { written.push(path) } else { kept.push(path) }
    }
    output.answer(&json!({ "written": written, "kept": kept }), || {
        let mut text = String::new();
        for path in &written {
            text.push_str(&format!("wrote {}\n", path.display()));
        }
        for path in &kept {
            text.push_str(&format!("kept  {} (it was there already)\n", path.display()));
        }
        text.push_str(&format!("next: meshc check {0} && meshc test {0}\n", args.dir.display()));
        text
    });
    Ok(Exit::Done)
}

/// `false` where the file exists.
fn create(path: &Path, text: &str) -> Result<bool, Failure> {
    let failed = |error: std::io::Error| {
        Failure::refused("write", format!("cannot write `{}`: {error}", path.display()))
    };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true).map_err(failed),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed(error)),
    }
}
