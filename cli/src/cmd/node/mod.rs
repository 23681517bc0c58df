//! The commands that touch this node's kernel.

#[cfg(feature = "node")]
mod agent;
mod apply;
mod attach;

#[cfg(feature = "node")]
mod cni;
mod confirm;
mod detach;
mod doctor;
mod explain;
mod history;
mod namespace;
mod observe;
mod plan;
mod run;
mod show;
mod status;
mod switch;

use crate::args::Command;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

#[cfg(feature = "node")]
pub use cni::{call as cni, is_called as is_cni};

/// Runs one of them.
pub fn run(output: &Output, command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Apply(args) => apply::run(output, args),
        Command::Status(args) => status::run(output, args),
        Command::Doctor(args) => doctor::run(output, args),
        Command::DoctorTrial => doctor::member(output),
        Command::Observe(args) => observe::run(output, args),
        Command::Pause(args) => switch::pause(output, args),
        Command::Resume(args) => switch::resume(output, args),
        Command::Confirm(args) => confirm::run(output, args),
        Command::AwaitConfirmation(args) => confirm::wait(args),
        Command::History(args) => history::history(output, args),
        Command::Rollback(args) => history::rollback(output, args),
        Command::Restore(args) => history::restore(output, args),
        Command::Plan(args) => plan::run(output, args),
        Command::Explain(args) => explain::run(output, args),
        Command::Show(args) => show::run(output, args),
        Command::Attach(args) => attach::run(output, args),
        Command::Namespace(args) => namespace::run(output, args),
        Command::Detach(args) => detach::run(output, args),
        Command::Run(args) => run::run(output, args),
        #[cfg(feature = "node")]
        Command::Agent(args) => agent::run(output, args),
        #[cfg(feature = "node")]
        Command::Cni => cni::call(output),
        #[cfg(feature = "node")]
        Command::InstallCni(args) => cni::install(output, args),
        #[cfg(not(feature = "node"))]
        Command::Agent(_) | Command::Cni | Command::InstallCni(_) => {
            Err(Failure::cannot("no-node", "this meshc was built without the cargo feature `node`"))
        }
        _ => Err(Failure::usage("this command does not touch the kernel")),
    }
}
