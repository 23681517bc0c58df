//! One file a command: what it does with the compiler and the runtime, and what it answers.

mod check;
mod compile;
mod completions;
mod diff;
mod explain;
mod explain_code;
mod fmt;
mod import;
mod init;
mod lsp;
mod man;
mod test;
mod version;
mod view;

#[cfg(all(feature = "kernel", target_os = "linux"))]
mod node;

use crate::args::{Command, Format};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Runs a command.
pub fn run(output: &Output, command: Command) -> Result<Exit, Failure> {
    if output.format == Format::Sarif && !matches!(command, Command::Check(_)) {
        return Err(Failure::usage("SARIF is for diagnostics, so only `meshc check` prints it"));
    }
    match command {
        Command::Init(args) => init::run(output, &args),
        Command::Check(args) => check::run(output, &args),
        Command::Compile(args) => compile::run(output, &args),
        Command::Test(args) => test::run(output, &args),
        Command::Explain(args) if !args.live => explain::run(output, &args),
        Command::Diff(args) => diff::run(output, &args),
        Command::View(args) => view::run(output, &args),
        Command::Fmt(args) => fmt::run(output, &args),
        Command::Import(args) => import::run(output, &args),
        Command::Lsp(_) => lsp::run(),
        Command::ExplainCode(args) => explain_code::run(output, &args),
        Command::Completions(args) => completions::run(output, &args),
        Command::Man(args) => man::run(output, &args),
        Command::Version => Ok(version::run(output)),
        kernel => node(output, &kernel),
    }
}

#[cfg(all(feature = "kernel", target_os = "linux"))]
fn node(output: &Output, command: &Command) -> Result<Exit, Failure> {
    node::run(output, command)
}

#[cfg(not(all(feature = "kernel", target_os = "linux")))]
fn node(_: &Output, _: &Command) -> Result<Exit, Failure> {
    Err(Failure::cannot("no-kernel", "this meshc was built without the commands that touch a kernel")
        .help("they need Linux and the cargo feature `kernel`"))
}

/// Answers a container runtime that calls this process as its CNI plugin; `None` where none does.
#[cfg(feature = "node")]
pub fn as_plugin(output: &Output) -> Option<Result<Exit, Failure>> {
    #[cfg(target_os = "linux")]
    if node::is_cni() {
        return Some(node::cni(output));
    }
    let _ = output;
    None
}
