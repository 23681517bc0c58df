//! `meshc confirm`, and the process that waits for it.

use std::process::{Command, Stdio};
use std::time::Duration;

use mesh_runtime::Expiry;
use serde_json::json;

use super::{failure, open};
use crate::args::{Confirm, InstanceArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Keeps what waits to be confirmed.
pub fn run(output: &Output, args: &Confirm) -> Result<Exit, Failure> {
    let generation = open(&args.instance)?.confirm().map_err(failure)?;
    output.answer(&json!({ "generation": generation }), || format!("generation {generation} is confirmed\n"));
    Ok(Exit::Done)
}

/// Starts the process that waits, and outlives the terminal that this one was started from: the policy may
/// be what cuts it off.
pub fn start_waiting(instance: &InstanceArgs) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::cannot("confirm", format!("cannot start the process that takes the policy back: {error}"))
            .help("confirm it, or roll it back by hand: `meshc confirm`, `meshc rollback`")
    };
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.arg("await-confirmation").args(instance.to_args());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map(drop).map_err(failed)
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
