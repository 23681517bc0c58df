//! `meshc agent`.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use mesh_bpf::pack::MAX_LINES;
use mesh_compiler::diag::{Diagnostic, Severity};
use mesh_compiler::prove::prove;
use mesh_compiler::source::Sources;
use mesh_node::agent::{self, Listen, Outcome, Policy, PolicyWarning, Settings, Wording, log};
use mesh_node::cluster::{Cluster, Facts, InventoryFile, Services};
use mesh_node::install::InstallTarget;

use crate::args::{Agent, InstallCni, Program, Switch};
use crate::cautions::{Caution, cautions};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::{failure, open};
use crate::output::Output;
use crate::places::Places;
use crate::render::{drift, warning};
use crate::web::web;
use crate::{inventory, plugin, program};

/// Keeps the node in step until it is asked to end.
pub fn run(_output: &Output, args: &Agent) -> Result<Exit, Failure> {
    let runtime = open(&args.instance)?;
    let dir = args.policy.as_ref().map(std::path::absolute).transpose();
    let dir = dir.map_err(|error| Failure::usage(error.to_string()))?;
    // After a boot a node gets its policy back, whatever is mounted late.
    if let Some(dir) = dir.as_ref().filter(|dir| !dir.exists())
        && runtime.awaits_restore().map_err(failure)?.is_none()
    {
        return Err(Failure::refused("no-directory", format!("`{}` does not exist", dir.display())).help(
            "make the directory, or name the one that the policies are in: `meshc agent --policy DIR`",
        ));
    }
    let settings = Settings {
        dir,
        cluster: args.inventory.as_deref().map(cluster).transpose()?,
        listen: args.listen.map(|address| Listen { address, names: args.allow_host.clone() }),
        web: args.listen.map(|_| web()),
        interval: args.interval,
        keep_decisions: args.keep_decisions.map(Switch::is_on),
        wording: Wording { drift: drift::text, warning: warning::text },
        plugin: args.install_cni.then(|| installation(args)).transpose()?,
    };
    let done = log::start(io::stderr).and_then(|()| agent::run(runtime, settings, Box::new(compile)));
    done.map_err(|error| Failure::cannot("agent", format!("the agent cannot run: {error}")))?;
    Ok(Exit::Done)
}

/// The cluster that an inventory describes.
fn cluster(file: &Path) -> Result<Box<dyn Cluster>, Failure> {
    let read = |file: &Path| {
        let found = inventory::read(file).map_err(|failure| failure.message)?;
        let services = found.services.clone();
        Ok(Facts { namespaces: found.labels(), services })
    };
    let file = std::path::absolute(file).map_err(|error| Failure::usage(error.to_string()))?;
    let cluster = InventoryFile::new(file, read);
    Ok(Box::new(
        cluster.map_err(|error| Failure::cannot("agent", format!("cannot watch the inventory: {error}")))?,
    ))
}

fn installation(args: &Agent) -> Result<(InstallTarget, PathBuf), Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::cannot("program", error.to_string()))?;
    let install = InstallCni {
        conf_dir: args.conf_dir.clone(),
        bin_dir: args.bin_dir.clone(),
        file: args.file.clone(),
        watch: true,
        remove: false,
        instance: args.instance.clone(),
    };
    Ok((plugin::target(&install)?, program))
}

/// Compiles a directory, with what services it names.
fn compile(dir: &Path, services: &Services) -> Outcome {
    let mut named = BTreeSet::new();
    let policy = proved(dir, services, &mut named);
    Outcome { policy, services: named }
}

/// Compiles a directory, and proves it. What is refused is said in lines, for a log.
fn proved(dir: &Path, services: &Services, named: &mut BTreeSet<String>) -> Result<Policy, String> {
    let program = Program {
        paths: vec![dir.into()],
        stdin_name: String::new(),
        inventory: None,
        deny: None,
        max_lines: MAX_LINES,
    };
    let compilation = program::compile_with(&program, Some(services)).map_err(|failure| failure.message)?;
    named.extend(compilation.resolution.program.services.iter().map(|service| service.name.clone()));
    let sources = &compilation.files.sources;
    let refused = |errors: &mut dyn Iterator<Item = &Diagnostic>| {
        let lines: Vec<String> = errors.map(|found| line(sources, found)).collect();
        lines.join("; ")
    };
    let Some(compiled) = &compilation.compiled else {
        let errors = compilation.diagnostics.iter();
        return Err(refused(&mut errors.filter(|found| found.severity == Severity::Error)));
    };
    let unknown = compilation.unknown_services();
    if !unknown.is_empty() {
        return Err(refused(&mut unknown.iter()));
    }
    prove(&compilation.resolution.program, &compiled.tables)
        .map_err(|disproof| format!("{disproof}: this is a bug in meshc, and nothing was written"))?;
    if compiled.image.workloads.is_empty() {
        return Err("the policy has no workload, so there is nothing to apply".into());
    }
    let found = compilation.diagnostics.iter().filter(|found| found.severity == Severity::Warning);
    let found = found.map(|found| PolicyWarning { code: found.code.word(), text: line(sources, found) });
    let cautions = cautions(&compiled.image).into_iter();
    let warnings = found.chain(cautions.map(|Caution { code, text }| PolicyWarning { code, text })).collect();
    let lines = Places::of(&compilation).encode().map_err(|failure| failure.message)?;
    Ok(Policy {
        tables: compiled.tables.clone(),
        files: sources.iter().map(|(_, source)| PathBuf::from(&source.name)).collect(),
        warnings,
        lines,
    })
}

/// `shop.mesh:3:5: the message [code]`.
fn line(sources: &Sources, found: &Diagnostic) -> String {
    let place = found.labels.first().and_then(|label| {
        let source = sources.get(label.span.file)?;
        let at = source.position(label.span.start);
        Some(format!("{}:{}:{}: ", source.name, at.line, at.column))
    });
    format!("{}{} [{}]", place.unwrap_or_default(), found.message, found.code.word())
}
