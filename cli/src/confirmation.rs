//! The process that takes a policy back unless somebody confirms it.

use std::process::{Command, Stdio};

use crate::args::InstanceArgs;
use crate::failure::Failure;

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
