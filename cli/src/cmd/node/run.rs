//! `meshc run`: a command as a member of the mesh.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::args::Run;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::{failure, open};
use crate::output::Output;

/// Runs the command and ends as it ended: this process's exit code is the command's, or 128 and the signal.
pub fn run(_output: &Output, args: &Run) -> Result<Exit, Failure> {
    let Some((program, arguments)) = args.command.split_first() else {
        return Err(Failure::usage("no command was given").help("meshc run --as WORKLOAD -- CMD …"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    let status = open(&args.instance)?.run(&args.workload, command).map_err(failure)?;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    std::process::exit(code)
}
