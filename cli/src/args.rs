//! The command line, defined once: the parser, the completions and the man pages come from here.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::{manual, version};

/// A declarative policy compiler targeting eBPF maps.
///
/// A policy says who is in the mesh, what is redirected to sidecars, what goes straight and what is
/// denied. meshc checks it offline, compiles it to text that can be reviewed, proves that the compiled
/// tables mean what the policy says, and pushes them atomically into BPF programs in the kernel.
#[derive(Debug, Parser)]
#[command(name = "meshc", version = version::LINE, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The whole command line: what is derived, with examples, and the options of the instance at the end of each help.
pub fn command() -> clap::Command {
    let command = Cli::command();
    let output: Vec<clap::Arg> = command.get_arguments().filter(|it| it.is_global_set()).cloned().collect();
    let instance = InstanceArgs::augment_args(clap::Command::new("instance"));
    let last: Vec<clap::Id> = instance.get_arguments().map(|it| it.get_id().clone()).collect();
    let whole = format!("{}\n\n{}", examples("meshc"), exit_codes());
    command.after_help(whole).mut_subcommands(|command| {
        let has =
            |command: &clap::Command, id: &clap::Id| command.get_arguments().any(|it| it.get_id() == id);
        let mut command = output.iter().fold(command, |command, it| match has(&command, it.get_id()) {
            true => command,
            false => command.arg(it.clone()),
        });
        for id in last.iter().filter(|id| has(&command, id)).collect::<Vec<_>>() {
            // What is touched goes to the end.
            command = command.mut_arg(id, |it| it);
        }
        let or_compiled = match command.get_name() {
            "plan" => Some("or one compiled artifact"),
            "apply" => Some("or one compiled artifact, or one saved plan"),
            _ => None,
        };
        if let Some(what) = or_compiled {
            command = command.mut_arg("paths", |it| {
                let help = it.get_help().map(ToString::to_string).unwrap_or_default();
                it.help(format!("{help}; {what}"))
            });
        }
        let examples = examples(command.get_name());
        if examples.is_empty() { command } else { command.after_help(examples) }
    })
}

/// The examples of a command, aligned.
fn examples(name: &str) -> String {
    let examples = manual::page(name).examples;
    let width = examples
        .iter()
        .map(|(line, _)| line.len())
        .filter(|&width| width <= EXAMPLE)
        .max()
        .unwrap_or_default();
    let lines: Vec<String> = (examples.iter())
        .map(|(line, what)| match line.len() > width {
            true => format!("  {line}\n  {:width$}  # {what}", ""),
            false => format!("  {line:width$}  # {what}"),
        })
        .collect();
    if lines.is_empty() { String::new() } else { format!("{}\n{}", title("Examples:"), lines.join("\n")) }
}

/// Columns of an example that leave place for what it is for.
const EXAMPLE: usize = 54;

fn exit_codes() -> String {
    let short = |what: &'static str| what.split(':').next().unwrap_or_default();
    let lines: Vec<String> =
        manual::EXIT.iter().map(|(code, what)| format!("  {code}  {}", short(what))).collect();
    format!("{}\n{}", title("Exit codes:"), lines.join("\n"))
}

/// As clap has its own titles.
fn title(text: &str) -> String {
    format!("\x1b[1m\x1b[4m{text}\x1b[0m")
}

/// What every command takes.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// How answers are printed: text, json, sarif (of check), or github (text, and annotations)
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, hide_possible_values = true, help_heading = "Output")]
    pub format: Format,
    /// Colours: auto (on a terminal, unless NO_COLOR is set), always or never
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto, hide_possible_values = true, help_heading = "Output")]
    pub color: ColorChoice,
    /// Print answers and errors only: no warnings, no progress
    #[arg(short, long, global = true, help_heading = "Output")]
    pub quiet: bool,
    /// Print more, where a command has more to say
    #[arg(short, long, global = true, conflicts_with = "quiet", help_heading = "Output")]
    pub verbose: bool,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For scripts: one object
    Json,
    /// Diagnostics for code scanning, SARIF 2.1.0: of `check`
    Sarif,
    /// For people, and what is wrong also as commands that GitHub Actions shows beside the source
    Github,
}

/// When messages are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Also in a pipe
    Always,
    /// Not on a terminal either
    Never,
}

/// A program: the files that are compiled together.
#[derive(Args, Clone, Debug)]
pub struct Program {
    /// Policy files and directories (a directory means its own *.mesh); `-` is standard input
    #[arg(default_value = ".", value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// What standard input is called in messages
    #[arg(long, value_name = "NAME", default_value = STDIN)]
    pub stdin_name: String,
    /// Endpoints that the policy is compiled against, in TOML
    #[arg(long, value_name = "FILE")]
    pub inventory: Option<PathBuf>,
    /// Turn these into errors: warnings
    #[arg(long, value_name = "WHAT", value_enum, hide_possible_values = true)]
    pub deny: Option<Deny>,
    /// Refuse a policy of which one table has more lines of 64 bytes; the kernel's maps hold 16777216
    #[arg(long, value_name = "LINES", default_value_t = mesh_bpf::pack::MAX_LINES, hide_default_value = true)]
    pub max_lines: usize,
}

impl Program {
    /// The files and directories, without any option.
    pub fn of(paths: Vec<PathBuf>) -> Self {
        let (stdin_name, max_lines) = (STDIN.into(), mesh_bpf::pack::MAX_LINES);
        Self { paths, stdin_name, inventory: None, deny: None, max_lines }
    }
}

/// What standard input is called in messages.
const STDIN: &str = "<stdin>";

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
    /// Name of the instance: sets bpffs directory and state directory together
    #[arg(long, env = "MESHC_INSTANCE", value_name = "NAME", default_value = "default")]
    pub instance: String,
    /// Directory on a BPF filesystem where maps, programs and links are pinned
    #[arg(long, env = "MESHC_BPFFS", value_name = "DIR")]
    pub bpffs: Option<PathBuf>,
    /// Cgroup v2 directory that the programs are attached to; at first the root of the hierarchy
    #[arg(long, env = "MESHC_CGROUP", value_name = "DIR")]
    pub cgroup: Option<PathBuf>,
    /// Directory where generations and records are kept
    #[arg(long, env = "MESHC_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// How inbound connections of pods are decided: sk_lookup, or tc where that cannot serve; at first sk_lookup
    #[arg(long, env = "MESHC_INBOUND", value_name = "WAY", value_enum, hide_possible_values = true)]
    pub inbound: Option<Inbound>,
    /// What decides: bpf, or nft where BPF programs cannot be had; at first bpf
    #[arg(long, env = "MESHC_BACKEND", value_name = "WHAT", value_enum, hide_possible_values = true)]
    pub backend: Option<Backend>,
    /// How long to wait for another writer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub lock_timeout: u64,
}

impl InstanceArgs {
    /// The arguments by which another command means the same instance.
    #[cfg_attr(
        not(all(feature = "kernel", target_os = "linux")),
        expect(dead_code, reason = "for commands that touch a kernel")
    )]
    pub fn to_args(&self) -> Vec<OsString> {
        let dirs = [("--bpffs", &self.bpffs), ("--cgroup", &self.cgroup), ("--state", &self.state)];
        let dirs = dirs.into_iter().filter_map(|(option, dir)| Some((option, dir.as_ref()?)));
        let mut arguments = vec!["--instance".into(), self.instance.clone().into()];
        for (option, dir) in dirs {
            arguments.extend([option.into(), dir.clone().into()]);
        }
        arguments
    }
}

/// How inbound connections of pods are decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Inbound {
    /// Where the kernel looks for a packet's socket: established connections pay nothing.
    #[value(name = "sk_lookup")]
    SkLookup,
    /// At the pod's interfaces, where sk_lookup cannot serve: Linux 6.6.
    Tc,
}

/// What decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// BPF programs.
    Bpf,
    /// Rulesets of nftables.
    Nft,
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
    /// Run the tests of a policy
    Test(Test),
    /// Say what happens to a flow, and why
    Explain(Explain),
    /// Compare two policies: flows whose verdict changes, and the rules that make them
    Diff(Diff),
    /// Show what a policy decides as a page: a matrix, and any flow that is asked
    View(View),
    /// Bring policies into the one canonical layout
    Fmt(Fmt),
    /// Write the policy that another mesh's settings come to
    Import(Import),
    /// Answer an editor: a language server on standard input and output
    Lsp(Lsp),
    /// Say what apply would do to this node
    Plan(Plan),
    /// Show the page of a diagnostic
    ExplainCode(ExplainCode),
    /// Apply a policy to this node
    Apply(Apply),
    /// What is live on this node
    Status(Status),
    /// Decisions as they happen, or the last ones: who, where to, verdict, rule and line
    Observe(Observe),
    /// Stop intercepting at once, keep everything
    Pause(Pause),
    /// Intercept again after pause
    Resume(Pause),
    /// Keep a policy that was applied with --confirm-within
    Confirm(Confirm),
    /// Kept generations, newest first
    History(History),
    /// Make a kept generation's policy live again
    Rollback(Rollback),
    /// After a boot: apply what was live before
    Restore(Restore),
    /// Print the live policy, or a kept generation, as compiled output
    Show(Show),
    /// Register a pod by its network namespace
    Attach(Attach),
    /// Say what labels a Kubernetes namespace has: its pods move
    Namespace(Namespace),
    /// Take a pod out of the mesh, or everything out of the kernel
    Detach(Detach),
    /// Run a command as a member of the mesh
    Run(Run),
    /// What this kernel and machine can do, what is missing and what that costs
    Doctor(Doctor),
    /// Open connections as a member of doctor's mesh
    #[command(hide = true)]
    DoctorTrial,
    /// Wait for a confirmation, and take the policy back where none comes
    #[command(hide = true)]
    AwaitConfirmation(Confirm),
    /// Keep this node in step with a directory, pods and units
    Agent(Agent),
    /// Answer a container runtime as its CNI plugin
    Cni,
    /// Put the CNI plugin in place, keep it there, or take it away
    InstallCni(InstallCni),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Print the man page, or write the pages of all commands to a directory
    Man(Man),
    /// Which meshc this is, and what it was built from
    Version,
}

/// `meshc import`
#[derive(Args, Debug)]
pub struct Import {
    /// Whose settings: istio, linkerd, kuma, osm (osm-edge and FSM too), consul; or iptables, for rules (of nftables too)
    #[arg(value_enum, value_name = "MESH", hide_possible_values = true)]
    pub origin: Origin,
    /// Files with objects of the cluster, in YAML or JSON; with iptables, what iptables-save, ip6tables-save and
    /// `nft -j list ruleset` print; `-` is standard input
    #[arg(default_value = "-", value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// What standard input is called in messages
    #[arg(long, value_name = "NAME", default_value = STDIN)]
    pub stdin_name: String,
    /// Say on standard error what became of every setting
    #[arg(long)]
    pub report: bool,
    /// Keep what the mesh does by mistake, where something else was meant
    #[arg(long)]
    pub as_it_behaves: bool,
    /// Turn these into errors: warnings
    #[arg(long, value_name = "WHAT", value_enum, hide_possible_values = true)]
    pub deny: Option<Deny>,
}

/// Whose settings are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Origin {
    /// Istio
    Istio,
    /// Kuma
    Kuma,
    /// OSM, osm-edge, FSM
    Osm,
    /// Linkerd
    Linkerd,
    /// Consul
    Consul,
    /// Rules of iptables or nftables
    Iptables,
}

/// `meshc lsp`
#[derive(Args, Debug)]
pub struct Lsp {
    /// What is done anyway: many editors say it
    #[arg(long)]
    pub stdio: bool,
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
    /// Write `meshc.1` and a page for each command to this directory
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}

/// `meshc init`
#[derive(Args, Debug)]
pub struct Init {
    /// The directory to write to
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
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
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write the binary artifact that `apply` takes, instead of text
    #[arg(long, requires = "output", conflicts_with_all = ["check", "summary"])]
    pub artifact: bool,
    /// Write nothing; show a diff and exit with 3 where the output file is stale
    #[arg(long, requires = "output")]
    pub check: bool,
    /// Print digest, counts and sizes instead
    #[arg(long, conflicts_with = "check")]
    pub summary: bool,
    /// Print what a pass of the compiler makes instead, for those who work on it: hir, ir or image
    #[arg(long, value_name = "PASS", hide_possible_values = true, conflicts_with_all = ["artifact", "check", "summary"])]
    pub print: Option<Pass>,
}

/// What `meshc compile --print` shows.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Pass {
    /// The program with every name resolved
    Hir,
    /// Trees of prefixes with every port decided
    Ir,
    /// What is packed into the kernel's tables
    Image,
}

/// `meshc test`
#[derive(Args, Debug)]
pub struct Test {
    /// The program.
    #[command(flatten)]
    pub program: Program,
    /// Fail where the tests reach less than this part of the rules
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub min_coverage: Option<u8>,
}

/// `meshc diff`
#[derive(Args, Debug)]
pub struct Diff {
    /// The old policy: a file or directory, a compiled artifact, `live`, or the number of a kept generation
    pub old: String,
    /// The new policy, likewise
    pub new: String,
    /// Show every entry that changes, too
    #[arg(long)]
    pub entries: bool,
    /// Endpoints that policies are compiled against, in TOML
    #[arg(long, value_name = "FILE")]
    pub inventory: Option<PathBuf>,
    /// The instance that `live` and generations are of.
    #[command(flatten)]
    pub instance: InstanceArgs,
}

/// `meshc plan`
#[derive(Args, Debug)]
pub struct Plan {
    /// A policy (files and directories), or one compiled artifact
    #[command(flatten)]
    pub program: Program,
    /// Write the plan to this file; `meshc apply FILE` applies it, if the same policy is still live
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Show every entry that changes, too
    #[arg(long)]
    pub entries: bool,
    /// The instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
}

/// `meshc view`
#[derive(Args, Debug)]
pub struct View {
    /// A policy: a file with what it imports, a directory, an artifact, `live`, or the number of a kept generation
    #[arg(default_value = ".", value_name = "POLICY")]
    pub policy: String,
    /// Another policy, not more files of the first: shows the flows that it decides otherwise
    #[arg(value_name = "NEW")]
    pub new: Option<String>,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Endpoints that policies are compiled against, in TOML
    #[arg(long, value_name = "FILE")]
    pub inventory: Option<PathBuf>,
    /// Where `live` and generations are.
    #[command(flatten)]
    pub instance: InstanceArgs,
}

/// `meshc fmt`
#[derive(Args, Debug)]
pub struct Fmt {
    /// Policy files and directories; `-` is standard input, and the result goes to standard output
    #[arg(default_value = ".", value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// What standard input is called in messages
    #[arg(long, value_name = "NAME", default_value = STDIN)]
    pub stdin_name: String,
    /// Change nothing; show what would change and exit with 3 where something would
    #[arg(long)]
    pub check: bool,
}

/// `meshc explain`
#[derive(Args, Debug)]
#[command(
    override_usage = "meshc explain [OPTIONS] [PATH]... <FLOW>\n       meshc explain --live [OPTIONS] <FLOW>"
)]
pub struct Explain {
    /// Policy files and directories, or the current one, then the flow: 'cart -> 10.0.3.9 tcp 3306'
    #[arg(required = true, num_args = 1.., value_name = "PATH… FLOW")]
    pub arguments: Vec<String>,
    /// Ask the kernel's maps instead of a policy
    #[arg(long)]
    pub live: bool,
    /// The mesh that the names of workloads are of, where two have one of that name
    #[arg(long, value_name = "NAME")]
    pub mesh: Option<String>,
    /// What standard input is called in messages
    #[arg(long, value_name = "NAME", default_value = STDIN)]
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
    /// A policy (files and directories), one compiled artifact, or one saved plan
    #[command(flatten)]
    pub program: Program,
    /// Take the policy back unless `meshc confirm` comes within this time: 30s, 2m, 1h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub confirm_within: Option<std::time::Duration>,
    /// Rewrite all tables and attach what is missing, even where nothing seems to differ; help readers of
    /// accelerated connections that stall
    #[arg(long)]
    pub repair: bool,
    /// Start over where another version's maps are in the kernel: established connections lose their sidecar
    #[arg(long)]
    pub drop_flows: bool,
    /// Reset established connections whose verdict changes under the new policy
    #[arg(long)]
    pub reset_changed: bool,
    /// Take over from the agent
    #[arg(long = "override")]
    pub override_owner: bool,
    /// Keep the last decisions in the kernel, for `observe --since` [default: as the last apply, at first on]
    #[arg(long, value_name = "WHETHER", value_enum)]
    pub keep_decisions: Option<Switch>,
    /// Do not ask on a terminal
    #[arg(long, short)]
    pub yes: bool,
    /// Where nobody can be asked, go on although members leave the mesh or an `always` does not hold any more
    #[arg(long)]
    pub allow_leaving: bool,
    /// The instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is done.
    On,
    /// It is not.
    Off,
}

impl Switch {
    /// Whether it is on.
    #[cfg_attr(
        not(all(feature = "kernel", target_os = "linux")),
        expect(dead_code, reason = "for commands that touch a kernel")
    )]
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

/// `meshc confirm`
#[derive(Args, Debug)]
pub struct Confirm {
    /// The instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
}

/// `meshc history`
#[derive(Args, Debug)]
pub struct History {
    /// The instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
}

/// `meshc rollback`
#[derive(Args, Debug)]
pub struct Rollback {
    /// The generation to go back to [default: the last one with another policy]
    pub generation: Option<u64>,
    /// Take over from the agent
    #[arg(long = "override")]
    pub override_owner: bool,
    /// The instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
}

/// `meshc restore`
#[derive(Args, Debug)]
pub struct Restore {
    /// The instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
}

/// `meshc show`
#[derive(Args, Debug)]
pub struct Show {
    /// `live`, or the number of a kept generation
    #[arg(default_value = "live", value_name = "live | N")]
    pub what: String,
    /// The instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
}

/// `meshc attach`
#[derive(Args, Debug)]
pub struct Attach {
    /// A file that stands for the pod's network namespace: /run/netns/NAME, /proc/PID/ns/net
    #[arg(long, value_name = "FILE")]
    pub netns: PathBuf,
    /// The pod's name
    #[arg(long)]
    pub name: String,
    /// Its Kubernetes namespace
    #[arg(long)]
    pub namespace: Option<String>,
    /// One of its labels
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
    /// One of its namespace's labels [default: those that the node was told of that namespace]
    #[arg(long = "namespace-label", value_name = "KEY=VALUE", requires = "namespace")]
    pub namespace_labels: Vec<String>,
    /// The service account it runs as
    #[arg(long, value_name = "NAME")]
    pub service_account: Option<String>,
    /// One of its addresses [default: those of its interfaces]
    #[arg(long = "address", value_name = "ADDRESS")]
    pub addresses: Vec<std::net::IpAddr>,
    /// Although the network namespace is the node's own, or a member under another name
    #[arg(long)]
    pub force: bool,
    /// The instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
}

/// `meshc namespace`
#[derive(Args, Debug)]
pub struct Namespace {
    /// The Kubernetes namespace; without one, those that have labels are listed
    pub name: Option<String>,
    /// One of its labels; it has those that are given, and no others
    #[arg(long = "label", value_name = "KEY=VALUE", requires = "name")]
    pub labels: Vec<String>,
    /// It has no labels
    #[arg(long, requires = "name", conflicts_with = "labels")]
    pub no_labels: bool,
    /// The labels of all namespaces, in TOML; those that are not in it have none
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "labels", "no_labels"])]
    pub inventory: Option<PathBuf>,
    /// The instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
}

/// `meshc status`
#[derive(Args, Debug)]
pub struct Status {
    /// Exit with 3 where there is drift, or a sidecar does not listen
    #[arg(long)]
    pub check: bool,
    /// All members, each with its workload and what was decided for it
    #[arg(long)]
    pub members: bool,
    /// All rules that decided, with how often each did
    #[arg(long)]
    pub rules: bool,
    /// The programs, and where each is attached
    #[arg(long)]
    pub programs: bool,
    /// The maps, and how full each is
    #[arg(long)]
    pub maps: bool,
    /// The counters that are not zero
    #[arg(long)]
    pub counters: bool,
    /// All of these
    #[arg(long, short)]
    pub verbose: bool,
    /// The instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
}

/// `meshc doctor`
#[derive(Args, Debug)]
pub struct Doctor {
    /// The instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
}

/// `meshc observe`
#[derive(Args, Debug)]
pub struct Observe {
    /// Only these flows: 'cart', 'cart -> 10.0.0.0/8 tcp 443', 'any -> cart udp 53-60'. Left of the arrow is who opens it;
    /// what is left out may be anything
    pub filter: Option<String>,
    /// Only this outcome: redirected, excluded, denied or exempt; may be given again
    #[arg(long = "verdict", value_name = "VERDICT", value_enum, hide_possible_values = true)]
    pub verdicts: Vec<Verdict>,
    /// Only the member of this name: a pod, or a unit
    #[arg(long, value_name = "NAME")]
    pub member: Option<String>,
    /// Only processes of this user
    #[arg(long, value_name = "ID")]
    pub uid: Option<u32>,
    /// Only rules whose scope and text, with what sets stand for written out, contain this
    #[arg(long, value_name = "TEXT")]
    pub rule: Option<String>,
    /// The last decisions instead, up to this long ago: 30s, 5m, 1h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub since: Option<std::time::Duration>,
    /// After the last decisions go on with those that happen
    #[arg(short, long, requires = "since")]
    pub follow: bool,
    /// Who talks to whom: one row for equal decisions, with their count
    #[arg(long)]
    pub top: bool,
    /// End after this many decisions; with --since, the last so many
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
    /// End after this time
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub for_time: Option<std::time::Duration>,
    /// Bytes that the kernel keeps for what is not read yet: a power of two, 4096 or more
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, value_parser = buffer)]
    pub buffer: u32,
    /// The instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
}

/// Outcomes that `observe` can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Verdict {
    /// Sent to a sidecar.
    Redirected,
    /// Went straight, exempt processes included.
    Excluded,
    /// Refused.
    Denied,
    /// Went straight since the process is exempt.
    Exempt,
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
#[command(group = clap::ArgGroup::new("what").required(true).args(["netns", "name", "all"]))]
pub struct Detach {
    /// The pod of this network namespace
    #[arg(long, value_name = "FILE")]
    pub netns: Option<PathBuf>,
    /// The pod of this name, where its network namespace is gone already
    #[arg(long)]
    pub name: Option<String>,
    /// The Kubernetes namespace of the pod that `--name` names
    #[arg(long, requires = "name")]
    pub namespace: Option<String>,
    /// Everything that this instance has in the kernel
    #[arg(long)]
    pub all: bool,
    /// The state directory too
    #[arg(long, requires = "all")]
    pub purge: bool,
    /// Detach even where accelerated connections have unread bytes, which are lost
    #[arg(long, requires = "all")]
    pub drop_unread: bool,
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
    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "CMD")]
    pub command: Vec<std::ffi::OsString>,
    /// The instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
}

/// The kernel takes whole pages, and a power of two.
fn buffer(text: &str) -> Result<u32, String> {
    let bytes: Option<u32> = text.parse().ok();
    bytes
        .filter(|bytes| bytes.is_power_of_two() && (4096..=1 << 30).contains(bytes))
        .ok_or_else(|| "it must be a power of two from 4096 to 1073741824".to_owned())
}

/// `meshc agent`
#[derive(Args, Debug)]
pub struct Agent {
    /// Directory with the policy; without it, whatever is live is kept in step
    #[arg(long, value_name = "DIR")]
    pub policy: Option<PathBuf>,
    /// What is so in the cluster, in TOML: labels of namespaces
    #[arg(long, value_name = "FILE")]
    pub inventory: Option<PathBuf>,
    /// Where the page, health, readiness and metrics are served.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        help = "Serve the page of what is live, /healthz, /readyz and /metrics on this address: 127.0.0.1:9464, [::]:9464"
    )]
    pub listen: Option<std::net::SocketAddr>,
    /// A name of this node, by which the page and metrics may be asked for [default: its addresses, localhost]
    #[arg(long, value_name = "NAME", requires = "listen")]
    pub allow_host: Vec<String>,
    /// How often to look at everything, whatever happened
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub interval: std::time::Duration,
    /// Keep the last decisions in the kernel, for `observe --since` [default: as the last apply, at first on]
    #[arg(long, value_name = "WHETHER", value_enum)]
    pub keep_decisions: Option<Switch>,
    /// Keep the CNI plugin in place too
    #[arg(long)]
    pub install_cni: bool,
    /// Directory of the networks' configurations
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d", requires = "install_cni")]
    pub conf_dir: PathBuf,
    /// Directory of the plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin", requires = "install_cni")]
    pub bin_dir: PathBuf,
    /// The network's file [default: the first one]
    #[arg(long, value_name = "NAME", requires = "install_cni")]
    pub file: Option<String>,
    /// The instance.
    #[command(flatten)]
    pub instance: InstanceArgs,
}

/// `meshc install-cni`
#[derive(Args, Debug)]
pub struct InstallCni {
    /// Directory of the networks' configurations
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub conf_dir: PathBuf,
    /// Directory of the plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    pub bin_dir: PathBuf,
    /// The network's file in it [default: the first one, which is the one that kubelet's container runtime uses]
    #[arg(long, value_name = "NAME")]
    pub file: Option<String>,
    /// Keep it there: put it in place again whenever another tool rewrites the file
    #[arg(long, conflicts_with = "remove")]
    pub watch: bool,
    /// Take program and entry away again
    #[arg(long)]
    pub remove: bool,
    /// The instance that pods are attached to.
    #[command(flatten)]
    pub instance: InstanceArgs,
}

/// `30s`, `2m`, `1h 30m`, or seconds.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let with_unit = if is_number { format!("{text}s") } else { text.to_owned() };
    let time = humantime::parse_duration(&with_unit).map_err(|error| match error {
        humantime::DurationError::NumberOverflow => "the time is out of range".to_owned(),
        _ => "a time is a number with `s`, `m` or `h`: `2m`".to_owned(),
    })?;
    // More than a lifetime cannot be added to a clock.
    let longest = std::time::Duration::from_secs(100 * 365 * 24 * 60 * 60);
    if time.as_secs() == 0 || time > longest {
        return Err("the time is out of range".to_owned());
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_bounds() {
        let seconds = |text: &str| duration(text).map(|time| time.as_secs_f64());
        for (text, expected) in
            [("30", 30.0), ("30s", 30.0), ("2m", 120.0), ("1h", 3600.0), ("1h 30m", 5400.0), ("1500ms", 1.5)]
        {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in
            ["", "0", "0s", "-1", "s", "2 weeks and a bit", "999ms", "18446744073709551615s", "999999h"]
        {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
