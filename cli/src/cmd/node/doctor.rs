//! `meshc doctor`: what this kernel and machine can do, what is missing and what that costs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use mesh_runtime::Backend;
use mesh_runtime::doctor::{
    Checkup, DoctorTarget, Finding, Need, Outcome, RULESET_PRIORITY, Translation, examine, trial,
};
use serde_json::{Value, json};

use crate::args::Doctor;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::{backend, hierarchy, looked_at};
use crate::output::Output;
use crate::tint::Tint;

/// The hidden command that tries connections as a member.
const TRIAL: &str = "doctor-trial";

/// Tries everything and prints what became of it.
pub fn run(output: &Output, args: &Doctor) -> Result<Exit, Failure> {
    let hierarchy = hierarchy().ok();
    let place = looked_at(&args.instance, hierarchy.as_deref().unwrap_or(Path::new("/sys/fs/cgroup")))?;
    let target = DoctorTarget { bpffs: place.bpffs.join(&place.name), hierarchy, cgroup: place.cgroup };
    let program = std::env::current_exe()
        .map_err(|error| Failure::cannot("no-program", format!("cannot find this program: {error}")))?;
    let mut member = Command::new(program);
    member.arg(TRIAL);
    let checkup = examine(&target, member);
    let backend = backend(&args.instance);
    let object = object(&checkup, &target, backend);
    output.tinted(&object, Tint::Verdicts, || text(output, &checkup, &target, backend));
    Ok(if checkup.is_able(backend) { Exit::Done } else { Exit::Cannot })
}

/// Tries connections as a member, and prints a line for each.
pub fn member(output: &Output) -> Result<Exit, Failure> {
    let parts = trial().map_err(|error| Failure::cannot("no-namespace", error.to_string()))?;
    for (name, result) in parts {
        output.text(&format!("{name}: {}\n", result.err().unwrap_or_else(|| "ok".into())));
    }
    Ok(Exit::Done)
}

const fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Works => "ok",
        Outcome::Fails(_) => "missing",
        Outcome::Untried(_) => "untried",
    }
}

const fn why(outcome: &Outcome) -> Option<&String> {
    match outcome {
        Outcome::Works => None,
        Outcome::Fails(why) | Outcome::Untried(why) => Some(why),
    }
}

fn object(checkup: &Checkup, target: &DoctorTarget, backend: Backend) -> Value {
    json!({
        "kernel": checkup.kernel,
        "able": checkup.is_able(backend),
        "backend": backend.word(),
        "backends": Backend::ALL.map(|backend| (backend.word().to_owned(), checkup.is_able(backend)))
            .into_iter().collect::<BTreeMap<_, _>>(),
        "cgroup": target.cgroup,
        "bpffs": target.bpffs,
        "features": checkup.findings.iter().map(|Finding { feature, outcome }| json!({
            "name": feature.name,
            "state": word(outcome),
            "why": why(outcome),
            "required": feature.need == Need::Everything,
            "backend": feature.backend.map(Backend::word),
            "kernel": Some(feature.kernel).filter(|kernel| !kernel.is_empty()),
            "cost": feature.cost,
            "instead": feature.instead,
        })).collect::<Vec<_>>(),
        "translations": checkup.translations.iter().map(|other| json!({
            "priority": other.priority,
            "table": other.table,
            "chain": other.chain,
            "first": other.is_first(),
        })).collect::<Vec<_>>(),
        "commands": checkup.rights.iter().flat_map(|rights| rights.commands.iter().map(|command| json!({
            "name": command, "able": rights.lacks.is_empty(), "lacks": rights.lacks,
        }))).collect::<Vec<_>>(),
    })
}

fn text(output: &Output, checkup: &Checkup, target: &DoctorTarget, backend: Backend) -> String {
    let (kernel, cgroup, pins) = (&checkup.kernel, target.cgroup.display(), target.bpffs.display());
    let mut out = format!("kernel {kernel}\ncgroup {cgroup}, pins {pins}\n\n");
    let lacks = checkup.lacks();
    if !lacks.is_empty() {
        let _ = writeln!(
            out,
            "nothing was tried: this process lacks {}, and the kernel would refuse everything\n\
             run it as root (`sudo meshc doctor`), or with these capabilities",
            lacks.join(", ")
        );
        commands(&mut out, checkup);
        return out;
    }
    for Finding { feature, outcome } in &checkup.findings {
        let _ = writeln!(out, "{:<8} {}", word(outcome), feature.name);
        let Some(why) = why(outcome) else { continue };
        let _ = writeln!(out, "           {why}");
        let _ = writeln!(out, "           without it: {}", feature.cost);
        let _ = writeln!(out, "           smallest kernel {}; instead: {}", feature.kernel, feature.instead);
    }
    others(&mut out, checkup);
    if !output.quiet {
        let _ = writeln!(out, "\n{}", verdict(checkup, backend));
    }
    out
}

/// What decides here, or can.
const fn name(backend: Backend) -> &'static str {
    match backend {
        Backend::Bpf => "BPF programs",
        Backend::Nft => "nftables",
    }
}

fn verdict(checkup: &Checkup, backend: Backend) -> String {
    let other = match backend {
        Backend::Bpf => Backend::Nft,
        Backend::Nft => Backend::Bpf,
    };
    let [this, that] = [name(backend), name(other)];
    match (checkup.is_able(backend), checkup.is_able(other)) {
        (true, true) => format!("this node can enforce policies: by {this}, or by {that}"),
        (true, false) => format!("this node can enforce policies: by {this}, not by {that}"),
        (false, true) => format!(
            "this node cannot enforce policies by {this}, but by {that}: `meshc apply --backend {}`",
            other.word()
        ),
        (false, false) => "this node cannot enforce policies".to_owned(),
    }
}

/// Where others translate destinations, and what that means beside a ruleset of ours.
fn others(out: &mut String, checkup: &Checkup) {
    if checkup.translations.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "\nothers that translate destinations here, beside `--backend nft` (priority {RULESET_PRIORITY}):"
    );
    for other in &checkup.translations {
        let Translation { priority, table, chain } = other;
        let order = if other.is_first() {
            "before it: what they translate, it decides no more"
        } else {
            "behind it: they meet what it lets pass"
        };
        let _ = writeln!(out, "  table {table}, chain {chain}, priority {priority}: {order}");
    }
}

/// Which commands this process may not run.
fn commands(out: &mut String, checkup: &Checkup) {
    let lacking = checkup.rights.iter().filter(|rights| !rights.lacks.is_empty());
    out.push_str("\ncommands that this process may not run:\n");
    for rights in lacking {
        let _ = writeln!(out, "  {}: {}", rights.commands.join(", "), rights.lacks.join(", "));
    }
}
