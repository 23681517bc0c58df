//! `meshc detach --all`.

use serde_json::json;

use super::{failure, open};
use crate::args::Detach;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Takes everything of the instance out of the kernel.
pub fn run(output: &Output, args: &Detach) -> Result<Exit, Failure> {
    let done = open(&args.instance)?.detach_all(args.purge).map_err(failure)?;
    output.answer(&json!({ "changed": done.changed, "purged": args.purge }), || {
        let kernel = if done.changed { "detached: nothing is left in the kernel" } else { "nothing was attached" };
        let state = if args.purge { ", and the state folder is removed" } else { "" };
        format!("{kernel}{state}\n")
    });
    Ok(Exit::Done)
}
