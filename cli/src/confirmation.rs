//! The process that takes a policy back unless somebody confirms it.

use std::process::{Command, Stdio};

use mesh_runtime::{PendingConfirmation, Runtime};
use serde_json::{Value, json};

use crate::args::InstanceArgs;
use crate::failure::Failure;

/// What waits to be confirmed, for scripts; null where nothing does.
pub fn answer(runtime: &Runtime, waiting: Option<&PendingConfirmation>) -> Value {
    waiting.map_or(Value::Null, |it| {
        json!({ "generation": it.generation, "back_to": it.back_to, "seconds_left": seconds_left(runtime, it) })
    })
}

/// The same for people; a line, or nothing.
pub fn text(runtime: &Runtime, waiting: Option<&PendingConfirmation>) -> String {
    let Some(it) = waiting else { return String::new() };
    let next = if it.back_to == 0 {
        "everything is detached".to_owned()
    } else {
        format!("generation {} comes back", it.back_to)
    };
    let (generation, left) = (it.generation, seconds_left(runtime, it));
    format!("generation {generation} waits for `meshc confirm`: in {left} s {next}\n")
}

fn seconds_left(runtime: &Runtime, waiting: &PendingConfirmation) -> u64 {
    waiting.deadline.saturating_sub(runtime.clock()).div_ceil(1000)
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
