//! `meshc pause` and `meshc resume`.

use mesh_runtime::Switched;
use serde_json::json;

use crate::args::Pause;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::{failure, open};
use crate::output::Output;

/// Stops intercepting.
pub fn pause(output: &Output, args: &Pause) -> Result<Exit, Failure> {
    let done = open(&args.instance)?.pause().map_err(failure)?;
    report(output, done, "paused", "paused generation", "connections go straight until `meshc resume`");
    Ok(Exit::Done)
}

/// Brings interception back; an agent that waits, since another policy was applied by hand, takes over.
pub fn resume(output: &Output, args: &Pause) -> Result<Exit, Failure> {
    let runtime = open(&args.instance)?;
    let done = runtime.resume().map_err(failure)?;
    #[cfg(feature = "node")]
    if let Some(generation) = crate::agent_client::resume(runtime.instance())? {
        let answer = json!({ "state": "active", "generation": generation, "changed": true });
        output.answer(&answer, || format!("the agent takes over with generation {generation}\n"));
        return Ok(Exit::Done);
    }
    report(output, done, "active", "resumed generation", "it decides again");
    Ok(Exit::Done)
}

fn report(output: &Output, done: Switched, state: &str, did: &str, next: &str) {
    let Switched { generation, changed } = done;
    output.answer(&json!({ "state": state, "generation": generation, "changed": changed }), || {
        if changed {
            format!("{did} {generation}: {next}\n")
        } else {
            format!("generation {generation} was {state} already\n")
        }
    });
}
