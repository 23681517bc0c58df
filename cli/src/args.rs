//! The command line, defined once: the parser, the completions and the man pages come from here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A declarative policy compiler targeting eBPF maps.
///
/// A policy says who is in the mesh, what is redirected to sidecars, what goes straight and what is
/// denied. meshc checks it offline, compiles it to text that can be reviewed, proves that the compiled
/// tables mean what the policy says, and pushes them atomically into BPF programs in the kernel.
#[derive(Debug, Parser)]
#[command(name = "meshc", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done or equal, 1 refused input, 2 wrong usage, 3 differences or drift, \
                        4 this node cannot, 5 busy or stale.")]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Text for people or JSON for scripts
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, help_heading = "Output")]
    pub format: Format,
    /// Colour messages
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto, help_heading = "Output")]
    pub color: ColorChoice,
    /// Say only what must be known
    #[arg(short, long, global = true, help_heading = "Output")]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For scripts: one object.
    Json,
    /// Diagnostics for code scanning, SARIF 2.1.0.
    Sarif,
}

/// When messages are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// A program: the files that are compiled together.
#[derive(Args, Clone, Debug)]
pub struct Program {
    /// Policy files and folders (a folder means its own *.mesh); `-` is standard input
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// What standard input is called in messages
    #[arg(long, value_name = "NAME", default_value = "<stdin>")]
    pub stdin_name: String,
    /// Endpoints that the policy is compiled against, in TOML
    #[arg(long, value_name = "FILE")]
    pub inventory: Option<PathBuf>,
    /// Turn these into errors
    #[arg(long, value_name = "WHAT", value_enum)]
    pub deny: Option<Deny>,
}

/// What `--deny` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Deny {
    /// Every warning is an error.
    Warnings,
}

/// Where an instance of meshc lives, so that several live side by side.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Instance")]
pub struct InstanceArgs {
    /// Name of the instance: sets bpffs folder and state folder together
    #[arg(long, env = "MESHC_INSTANCE", value_name = "NAME", default_value = "default")]
    pub instance: String,
    /// Folder on a BPF filesystem where maps, programs and links are pinned
    #[arg(long, env = "MESHC_BPFFS", value_name = "DIR")]
    pub bpffs: Option<PathBuf>,
    /// Cgroup v2 folder that the programs are attached to [default: the root of the hierarchy]
    #[arg(long, env = "MESHC_CGROUP", value_name = "DIR")]
    pub cgroup: Option<PathBuf>,
    /// Folder where generations and records are kept
    #[arg(long, env = "MESHC_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// How long to wait for another writer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub lock_timeout: u64,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a first policy, with tests and a workflow for CI
    Init(Init),
    /// Find every mistake in a policy
    Check(Check),
    /// Compile a policy to reviewable text
    Compile(Compile),
    /// Say what happens to a flow, and why
    Explain(Explain),
    /// Show the page of a diagnostic
    ExplainCode(ExplainCode),
    /// Make this node's kernel do what a policy says
    Apply(Apply),
    /// What is live on this node
    Status(Status),
    /// Stop intercepting at once, keep everything
    Pause(Pause),
    /// Intercept again after pause
    Resume(Pause),
    /// Take programs and maps out of the kernel
    Detach(Detach),
    /// Run a command as a member of the mesh
    Run(Run),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Print the man page, or write the pages of all commands to a folder
    Man(Man),
}

/// `meshc completions`
#[derive(Args, Debug)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// `meshc man`
#[derive(Args, Debug)]
pub struct Man {
    /// Write `meshc.1` and a page for each command to this folder
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}

/// `meshc init`
#[derive(Args, Debug)]
pub struct Init {
    /// The folder to write to
    #[arg(value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
}

/// `meshc check`
#[derive(Args, Debug)]
pub struct Check {
    /// The program.
    #[command(flatten)]
    pub program: Program,
}

/// `meshc compile`
#[derive(Args, Debug)]
pub struct Compile {
    /// The program.
    #[command(flatten)]
    pub program: Program,
    /// Write to this file instead of standard output; a name that ends in `.meshart` gets the binary artifact
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write nothing; show a diff and exit with 3 where the output file is stale
    #[arg(long, requires = "output")]
    pub check: bool,
    /// Print digest, counts and sizes instead
    #[arg(long, conflicts_with = "check")]
    pub summary: bool,
}

/// `meshc explain`
#[derive(Args, Debug)]
pub struct Explain {
    /// Policy files and folders, then the flow: 'cart -> 10.0.3.9 tcp 3306'
    #[arg(required = true, num_args = 1.., value_name = "PATH… FLOW")]
    pub arguments: Vec<String>,
    /// Ask the kernel's maps instead of a policy
    #[arg(long)]
    pub live: bool,
    /// What standard input is called in messages
    #[arg(long, value_name = "NAME", default_value = "<stdin>")]
    pub stdin_name: String,
    /// Endpoints that the policy is compiled against, in TOML
    #[arg(long, value_name = "FILE")]
    pub inventory: Option<PathBuf>,
    /// The instance whose maps are asked.
    #[command(flatten)]
    pub instance: InstanceArgs,
}

/// `meshc explain-code`
#[derive(Args, Debug)]
pub struct ExplainCode {
    /// The code of a diagnostic, such as `conflict`; without it, all of them are listed
    pub code: Option<String>,
}

/// `meshc apply`
#[derive(Args, Debug)]
pub struct Apply {
    /// A policy (files and folders), or one compiled artifact
    #[command(flatten)]
    pub program: Program,
    /// The instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
}

/// `meshc status`
#[derive(Args, Debug)]
pub struct Status {
    /// Exit with 3 where there is drift
    #[arg(long)]
    pub check: bool,
    /// The instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
}

/// `meshc pause` and `meshc resume`
#[derive(Args, Debug)]
pub struct Pause {
    /// The instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
}

/// `meshc detach`
#[derive(Args, Debug)]
pub struct Detach {
    /// Everything that this instance has in the kernel
    #[arg(long, required = true)]
    pub all: bool,
    /// The state folder too
    #[arg(long, requires = "all")]
    pub purge: bool,
    /// The instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
}

/// `meshc run`
#[derive(Args, Debug)]
pub struct Run {
    /// The workload to be a member of
    #[arg(long = "as", value_name = "WORKLOAD")]
    pub workload: String,
    /// The instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "CMD")]
    pub command: Vec<std::ffi::OsString>,
}
