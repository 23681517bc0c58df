//! `meshc show`: what the kernel holds, or a kept generation, as compiled output.

use mesh_compiler::emit::emit;
use serde_json::json;

use crate::args::Show;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::live::{kept_policy, live_policy, no_policy};
use crate::output::Output;

/// Prints it: for what is live byte for byte what was applied.
pub fn run(output: &Output, args: &Show) -> Result<Exit, Failure> {
    let policy = match args.what.as_str() {
        "live" => live_policy(&args.instance)?.ok_or_else(no_policy)?,
        number => {
            let generation = number.parse().map_err(|_| {
                Failure::usage(format!("`{number}` is neither `live` nor the number of a generation"))
                    .help("`meshc history` lists the kept generations")
            })?;
            kept_policy(&args.instance, generation)?
        }
    };
    let text = emit(&policy.image, &policy.sets);
    output.document(&json!({ "output": text }), || text.clone());
    Ok(Exit::Done)
}
