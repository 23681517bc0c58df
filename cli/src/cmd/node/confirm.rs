//! `meshc confirm`, and the process that waits for it.

use std::time::Duration;

use mesh_runtime::Expiry;
use serde_json::json;

use crate::args::Confirm;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::{failure, open};
use crate::output::Output;

/// Keeps what waits to be confirmed.
pub fn run(output: &Output, args: &Confirm) -> Result<Exit, Failure> {
    let generation = open(&args.instance)?.confirm().map_err(failure)?;
    output.answer(&json!({ "generation": generation }), || format!("generation {generation} is confirmed\n"));
    Ok(Exit::Done)
}

/// Waits, and takes the policy back where nobody confirms it in time.
pub fn wait(args: &Confirm) -> Result<Exit, Failure> {
    // Away from the terminal; it fails only where it was done already.
    let _ = rustix::process::setsid();
    let runtime = open(&args.instance)?;
    loop {
        match runtime.expire().map_err(failure)? {
            Expiry::Settled | Expiry::TakenBack(_) => return Ok(Exit::Done),
            Expiry::Waits(left) => std::thread::sleep(Duration::from_millis(left.clamp(10, 500))),
        }
    }
}
