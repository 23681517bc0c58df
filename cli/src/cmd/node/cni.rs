//! `meshc cni` and `meshc install-cni`.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_node::cni::{self, Environment, Failure as CniFailure, NAME, Site};
use mesh_node::install::{self, Done, InstallTarget};
use mesh_node::watch::Watch;
use mesh_runtime::Runtime;
use serde_json::json;

use crate::args::{InstallCni, InstanceArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::open;
use crate::output::Output;
use crate::plugin;
use crate::render::drift;

/// Whether a container runtime calls this process as a plugin: by the plugin's name, or with its environment
/// and without arguments, as it calls whatever name the plugin was given.
pub fn is_called() -> bool {
    let mut arguments = std::env::args_os();
    let name = arguments.next().map(PathBuf::from);
    let is_plugin = name.and_then(|name| Some(name.file_name()? == NAME)).unwrap_or_default();
    is_plugin || (arguments.next().is_none() && std::env::var_os("CNI_COMMAND").is_some())
}

/// Answers a container runtime.
pub fn call(output: &Output) -> Result<Exit, Failure> {
    let environment = Environment::read(|name| std::env::var(name).ok());
    if environment.command.is_empty() {
        return Err(Failure::usage("CNI_COMMAND is not set: container runtimes call this, not people")
            .help("`meshc install-cni` puts the plugin in place; `meshc attach` attaches a pod by hand"));
    }
    let mut input = Vec::new();
    (io::stdin().lock().read_to_end(&mut input))
        .map_err(|error| Failure::refused("unreadable", format!("cannot read standard input: {error}")))?;
    let answer = cni::call(&environment, &input, &runtime, drift::pod_fault);
    for line in &answer.log {
        output.print_error(line);
    }
    output.text(&answer.output);
    Ok(if answer.success { Exit::Done } else { Exit::Refused })
}

/// The instance that a network's configuration names; what it leaves out is as on the command line.
fn runtime(site: &Site) -> Result<Runtime, CniFailure> {
    let dir = |given: &Option<PathBuf>, name: &str| {
        given.clone().or_else(|| std::env::var_os(name).map(PathBuf::from))
    };
    let args = InstanceArgs {
        instance: (site.instance.clone())
            .or_else(|| std::env::var("MESHC_INSTANCE").ok())
            .unwrap_or_else(|| "default".into()),
        bpffs: dir(&site.bpffs, "MESHC_BPFFS"),
        cgroup: dir(&site.cgroup, "MESHC_CGROUP"),
        state: dir(&site.state, "MESHC_STATE"),
        inbound: None,
        backend: None,
        lock_timeout: 10,
    };
    open(&args).map_err(|failure| CniFailure::instance(failure.message, failure.help.unwrap_or_default()))
}

/// Puts the plugin in place, keeps it there, or takes it away.
pub fn install(output: &Output, args: &InstallCni) -> Result<Exit, Failure> {
    let target = plugin::target(args)?;
    if args.remove {
        let done = install::remove(&target).map_err(|error| refused(&error))?;
        report(output, &done, "removed", "nothing of it was there");
        return Ok(Exit::Done);
    }
    let program = std::env::current_exe().map_err(|error| Failure::cannot("program", error.to_string()))?;
    if !args.watch {
        let done = install::put(&target, &program).map_err(|error| refused(&error))?;
        report(output, &done, "put in place", "it is in place already");
        return Ok(Exit::Done);
    }
    keep(output, &target, &program)
}

/// Puts it in place again whenever somebody changed one of the directories. Ends when it is killed.
fn keep(output: &Output, target: &InstallTarget, program: &Path) -> Result<Exit, Failure> {
    let failed = |error: io::Error| Failure::cannot("watch", format!("cannot watch directories: {error}"));
    let mut watch = Watch::new().map_err(failed)?;
    let mut said = None;
    loop {
        watch.only(&target.dirs());
        match install::put(target, program) {
            Ok(done) if done.changed() => report(output, &done, "put in place", ""),
            Ok(_) => said = None,
            // A file that is being written is whole at the next look. What stays wrong is said once.
            Err(error) => {
                let wrong = Some((error.code(), error.path()));
                if wrong != said {
                    output.warn(&error.message());
                }
                said = wrong;
            }
        }
        // A directory that is not there yet is not watched, but looked for.
        watch.wait(Duration::from_secs(10)).map_err(failed)?;
    }
}

fn refused(error: &install::Error) -> Failure {
    Failure::refused("install-cni", error.message()).help(error.help())
}

fn report(output: &Output, done: &Done, did: &str, nothing: &str) {
    output.answer(
        &json!({ "changed": done.changed(), "program": done.program, "files": done.files }),
        || {
            if !done.changed() {
                return format!("{nothing}\n");
            }
            let files = done.files.iter().map(|file| file.display().to_string());
            let program = done.program.then(|| NAME.to_owned());
            format!("{did}: {}\n", program.into_iter().chain(files).collect::<Vec<_>>().join(", "))
        },
    );
}
