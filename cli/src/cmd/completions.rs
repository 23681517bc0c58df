//! `meshc completions`: a script that asks this program while somebody types.

use clap_complete::env::Shells;

use crate::args::Completions;
use crate::completion;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Prints a completion script.
pub fn run(output: &Output, args: &Completions) -> Result<Exit, Failure> {
    let failed = |why: String| Failure::refused("write", format!("cannot make the script: {why}"));
    let mut script = Vec::new();
    let name = args.shell.to_string();
    let shells = Shells::builtins();
    let shell = shells.completer(&name).ok_or_else(|| failed(format!("no `{name}` here")))?;
    shell
        .write_registration(completion::ASKED, "meshc", "meshc", "meshc", &mut script)
        .map_err(|error| failed(error.to_string()))?;
    output.text(&String::from_utf8_lossy(&script));
    Ok(Exit::Done)
}
