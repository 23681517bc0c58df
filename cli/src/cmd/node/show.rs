//! `meshc show`: what the kernel holds, or a kept generation, as compiled output.

use mesh_compiler::emit::emit;
use serde_json::json;

use crate::args::Show;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::live::live_image;
use crate::node::{failure, open};
use crate::output::Output;

/// Prints it: for what is live byte for byte what was applied.
pub fn run(output: &Output, args: &Show) -> Result<Exit, Failure> {
    let image = match args.what.as_str() {
        "live" => live_image(&args.instance)?,
        number => {
            let generation = number.parse().map_err(|_| {
                Failure::usage(format!("`{number}` is neither `live` nor the number of a generation"))
                    .help("`meshc history` lists the kept generations")
            })?;
            open(&args.instance)?.kept(generation).map_err(failure)?.2
        }
    };
    let text = emit(&image);
    output.answer(&json!({ "output": text }), || text.clone());
    Ok(Exit::Done)
}
