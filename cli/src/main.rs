//! `meshc`: a declarative policy compiler targeting eBPF maps.
//!
//! This crate reads files, prints and exits; what is said comes from `mesh-compiler`, what is done to the
//! kernel from `mesh-runtime`.

mod args;
mod cmd;
mod completion;
mod exit;
mod failure;
mod files;
mod github;
mod given;
mod heap;
mod inventory;
mod manual;
mod output;
mod page;
mod places;
mod policy;
mod program;
mod render;
mod roots;
mod text_diff;
mod tint;
mod version;
mod wrap;

#[cfg(all(feature = "kernel", target_os = "linux"))]
mod candidate;
#[cfg(all(feature = "kernel", target_os = "linux"))]
mod cautions;
#[cfg(all(feature = "kernel", target_os = "linux"))]
mod confirmation;
#[cfg(all(feature = "kernel", target_os = "linux"))]
mod consent;
#[cfg(all(feature = "kernel", target_os = "linux"))]
mod live;
#[cfg(all(feature = "kernel", target_os = "linux"))]
mod node;
#[cfg(all(feature = "kernel", target_os = "linux"))]
mod plan;
#[cfg(all(feature = "kernel", target_os = "linux"))]
mod sidecars;

#[cfg(all(feature = "node", target_os = "linux"))]
mod agent_client;
#[cfg(all(feature = "node", target_os = "linux"))]
mod plugin;
#[cfg(all(feature = "node", target_os = "linux"))]
mod web;

use std::process::ExitCode;

use clap::FromArgMatches;

use crate::args::Cli;
use crate::exit::Exit;
use crate::output::Output;

fn main() -> ExitCode {
    // A container runtime gives no arguments.
    #[cfg(feature = "node")]
    if let Some(done) = cmd::as_plugin(&Output::plain()) {
        return ended(&Output::plain(), done);
    }
    if completion::answer() {
        return Exit::Done.into();
    }
    let parsed =
        args::command().try_get_matches().and_then(|mut found| Cli::from_arg_matches_mut(&mut found));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            let _ = error.print();
            return exit.into();
        }
    };
    let output = Output::new(&cli.global);
    ended(&output, cmd::run(&output, cli.command))
}

fn ended(output: &Output, done: Result<Exit, failure::Failure>) -> ExitCode {
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output.failure(&failure);
            failure.exit.into()
        }
    }
}
