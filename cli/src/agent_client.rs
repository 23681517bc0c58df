//! Asks the agent of an instance.

use std::time::Duration;

use mesh_node::wire::{self, Reply, Report, Request};
use mesh_runtime::Instance;

use crate::exit::Exit;
use crate::failure::Failure;

/// The command line does not wait longer for an agent that hangs.
const PATIENCE: Duration = Duration::from_secs(2);
/// An agent that takes over applies first.
const APPLYING: Duration = Duration::from_secs(60);

/// What the agent of an instance says of itself; `None` where none runs.
pub fn report(instance: &Instance) -> Option<Report> {
    match wire::ask(&instance.socket(), &Request::Report, PATIENCE, None) {
        Ok(Reply::Report(report)) => Some(report),
        _ => None,
    }
}

/// Tells the agent to take over; the generation that it then made live, if it had waited for that.
pub fn resume(instance: &Instance) -> Result<Option<u64>, Failure> {
    if report(instance).is_none_or(|report| !report.waiting) {
        return Ok(None);
    }
    match wire::ask(&instance.socket(), &Request::Resume, APPLYING, None) {
        Ok(Reply::Resumed(generation)) => Ok(generation),
        Ok(Reply::Refused { message, .. }) => Err(Failure::new(Exit::Busy, "agent", message)),
        Ok(_) => Err(Failure::new(Exit::Busy, "agent", "the agent answered something else")),
        Err(error) => Err(Failure::new(Exit::Busy, "agent", format!("the agent did not answer: {error}"))),
    }
}
