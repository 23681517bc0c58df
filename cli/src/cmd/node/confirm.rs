//! `meshc confirm`, and the process that waits for it.

use std::process::{Command, Stdio};
use std::time::Duration;

use mesh_runtime::Expiry;
use serde_json::json;

use super::{failure, open};
use crate::args::Confirm;
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
pub fn start_waiting() -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::cannot("confirm", format!("cannot start the process that takes the policy back: {error}"))
            .help("confirm it, or roll it back by hand: `meshc confirm`, `meshc rollback`")
    };
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    // The same instance: its options and environment are those of this process.
    command.arg("await-confirmation").args(instance_options());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map(drop).map_err(failed)
}

/// The options of this process that name the instance.
fn instance_options() -> Vec<String> {
    const NAMES: [&str; 4] = ["--instance", "--bpffs", "--cgroup", "--state"];
    let mut found = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if NAMES.iter().any(|name| argument.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))) {
            found.push(argument);
        } else if NAMES.contains(&argument.as_str()) {
            found.push(argument);
            found.extend(arguments.next());
        }
    }
    found
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
