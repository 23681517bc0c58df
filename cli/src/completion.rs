//! What a shell offers while somebody types: commands and options, and the names that there are on this node and in the
//! policies at hand. What cannot be read is not offered, and nothing is said about it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::builder::StyledStr;
use clap::{Arg, Args, Command, FromArgMatches};
use clap_complete::CompleteEnv;
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use mesh_bpf::text::is_obeyed;
use mesh_compiler::diag::Code;
use mesh_compiler::resolve::{Services, load, resolve};

use crate::args::{self, InstanceArgs};
use crate::files::{FileSystem, read_given};
use crate::render::sarif::summary;

/// The variable by which a completion script asks.
pub const ASKED: &str = "MESHC_COMPLETE";

/// Bytes of policy that are read for names at the most: somebody waits.
const LONGEST: u64 = 1 << 20;

/// Answers a completion script; whether one asked.
pub fn answer() -> bool {
    if std::env::var_os(ASKED).is_none_or(|shell| shell.is_empty()) {
        return false;
    }
    let here = std::env::current_dir().ok();
    // Words of an error would stand in the middle of what is typed.
    let _ = CompleteEnv::with_factory(command).var(ASKED).try_complete(std::env::args_os(), here.as_deref());
    true
}

/// The command line, where arguments know what they can be.
fn command() -> Command {
    args::command().mut_subcommands(|command| {
        let name = command.get_name().to_owned();
        command.mut_args(|arg| named(&name, arg))
    })
}

fn named(command: &str, arg: Arg) -> Arg {
    let policies = || ArgValueCompleter::new(PathCompleter::any().filter(is_policy).stdio());
    match (command, arg.get_id().as_str()) {
        ("run", "workload") | ("observe", "filter") => arg.add(ArgValueCandidates::new(live_workloads)),
        ("observe", "member") | ("detach", "name") => arg.add(ArgValueCandidates::new(pods)),
        ("rollback", "generation") => arg.add(ArgValueCandidates::new(generations)),
        ("show", "what") => arg.add(ArgValueCandidates::new(live_and_generations)),
        ("diff", "old" | "new") | ("view", "policy" | "new") => {
            arg.add(ArgValueCompleter::new(|current: &OsStr| {
                beside(current, PathCompleter::any().filter(|_| true), live_and_generations())
            }))
        }
        ("explain", "arguments") => arg.add(ArgValueCompleter::new(|current: &OsStr| {
            beside(current, PathCompleter::any().filter(is_policy), workloads())
        })),
        ("explain-code", "code") => arg.add(ArgValueCandidates::new(codes)),
        ("check" | "compile" | "test" | "fmt", "paths") => arg.add(policies()),
        (_, "instance") => arg.add(ArgValueCandidates::new(instances)),
        _ => arg,
    }
}

/// A directory, or a file that is called one of policy.
fn is_policy(path: &Path) -> bool {
    path.is_dir() || path.extension().is_some_and(|extension| extension == "mesh")
}

/// Paths, and names that begin as what was typed.
fn beside(
    current: &OsStr,
    paths: PathCompleter,
    names: Vec<CompletionCandidate>,
) -> Vec<CompletionCandidate> {
    let typed = current.to_string_lossy();
    let fits = |name: &CompletionCandidate| name.get_value().to_string_lossy().starts_with(&*typed);
    names.into_iter().filter(fits).chain(paths.complete(current)).collect()
}

/// A name, if it can be typed as one word.
fn candidate(name: &str, what: impl Into<StyledStr>) -> Option<CompletionCandidate> {
    let is_plain =
        !name.is_empty() && !name.contains(|c: char| is_obeyed(c) || c.is_whitespace() || c == ':');
    is_plain.then(|| CompletionCandidate::new(name).help(Some(what.into())))
}

fn codes() -> Vec<CompletionCandidate> {
    Code::ALL.into_iter().filter_map(|code| candidate(code.word(), summary(code))).collect()
}

/// The words of the command line that is typed.
fn words() -> Vec<String> {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    words.skip_while(|word| word != "--").skip(1).collect()
}

/// Workloads that `explain` can be asked for: of the live policy, of the policies that are named, or of those here.
fn workloads() -> Vec<CompletionCandidate> {
    let words = words();
    if words.iter().any(|word| word == "--live") {
        return live_workloads();
    }
    let named: Vec<PathBuf> =
        words.iter().skip(2).map(PathBuf::from).filter(|path| is_policy(path) && path.exists()).collect();
    let paths = if named.is_empty() { vec![PathBuf::from(".")] } else { named };
    of_sources(&paths).unwrap_or_default()
}

fn of_sources(paths: &[PathBuf]) -> Option<Vec<CompletionCandidate>> {
    let is_short =
        |path: &PathBuf| path.metadata().is_ok_and(|found| found.is_dir() || found.len() <= LONGEST);
    if !paths.iter().all(is_short) {
        return None;
    }
    let (files, found) = load(read_given(paths, "-").ok()?, &mut FileSystem);
    let (resolution, _) = resolve(&files, found, &Services::new());
    let program = &resolution.program;
    let mesh = |workload: &mesh_compiler::hir::Workload| program.meshes.get(workload.mesh.index());
    let one = |workload: &mesh_compiler::hir::Workload| {
        candidate(&workload.name, mesh(workload).map(|mesh| mesh.name.clone()).unwrap_or_default())
    };
    Some(program.workloads.iter().filter_map(one).collect())
}

/// Names of instances: each has a directory of its own.
fn instances() -> Vec<CompletionCandidate> {
    let found = std::fs::read_dir("/var/lib").into_iter().flatten().flatten();
    let names =
        found.filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix("meshc-")?.to_owned()));
    names.filter_map(|name| candidate(&name, "an instance")).collect()
}

/// The instance that the command line is about.
#[cfg_attr(
    not(all(feature = "kernel", target_os = "linux")),
    expect(dead_code, reason = "for commands that touch a kernel")
)]
fn instance() -> Option<InstanceArgs> {
    const OPTIONS: [&str; 3] = ["--instance", "--bpffs", "--state"];
    let mut words = words().into_iter().peekable();
    let mut said = Vec::new();
    while let Some(word) = words.next() {
        let is_whole = word.split_once('=').is_some_and(|(option, _)| OPTIONS.contains(&option));
        if is_whole {
            said.push(word);
        } else if OPTIONS.contains(&word.as_str()) {
            said.extend([Some(word), words.next()].into_iter().flatten());
        }
    }
    let command = InstanceArgs::augment_args(Command::new("meshc").no_binary_name(true));
    InstanceArgs::from_arg_matches(&command.try_get_matches_from(said).ok()?).ok()
}

#[cfg(all(feature = "kernel", target_os = "linux"))]
mod node {
    use clap_complete::engine::CompletionCandidate;
    use mesh_runtime::Runtime;

    use super::{candidate, instance};
    use crate::render::time;
    use crate::{live, node};

    fn runtime() -> Option<Runtime> {
        node::open(&instance()?).ok()
    }

    pub(super) fn live_workloads() -> Vec<CompletionCandidate> {
        let image = || live::image(&runtime()?.live().ok()??.tables).ok();
        let names = image().map(|image| image.workloads).unwrap_or_default();
        let split = names.iter().filter_map(|workload| workload.name.split_once('/'));
        split.filter_map(|(mesh, name)| candidate(name, mesh.to_owned())).collect()
    }

    pub(super) fn pods() -> Vec<CompletionCandidate> {
        let pods = runtime().and_then(|runtime| runtime.pods().ok()).unwrap_or_default();
        pods.iter()
            .filter_map(|pod| candidate(&pod.name, pod.namespace.clone().unwrap_or_default()))
            .collect()
    }

    pub(super) fn generations() -> Vec<CompletionCandidate> {
        let mut kept = runtime().and_then(|runtime| runtime.history().ok()).unwrap_or_default();
        kept.retain(|it| it.is_kept);
        let newest_first = kept.iter().rev();
        let one = |record: &mesh_runtime::Record| {
            candidate(
                &record.generation.to_string(),
                format!("{} {}", time::seconds(record.applied), record.origin),
            )
        };
        newest_first.filter_map(|it| one(&it.record)).collect()
    }
}

#[cfg(not(all(feature = "kernel", target_os = "linux")))]
mod node {
    use clap_complete::engine::CompletionCandidate;

    pub(super) const fn live_workloads() -> Vec<CompletionCandidate> {
        Vec::new()
    }

    pub(super) const fn pods() -> Vec<CompletionCandidate> {
        Vec::new()
    }

    pub(super) const fn generations() -> Vec<CompletionCandidate> {
        Vec::new()
    }
}

use self::node::{generations, live_workloads, pods};

fn live_and_generations() -> Vec<CompletionCandidate> {
    candidate("live", "what the kernel holds").into_iter().chain(generations()).collect()
}
