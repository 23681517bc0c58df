//! `meshc compile`.

use crate::args::Compile;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::program;

/// Compiles.
pub fn run(output: &Output, args: &Compile) -> Result<Exit, Failure> {
    let compilation = program::compile_aloud(output, &args.program)?;
    let Some(compiled) = compilation.compiled else { return Ok(Exit::Refused) };
    output.text(&format!("{:#?}\n", compiled.image));
    Ok(Exit::Done)
}
