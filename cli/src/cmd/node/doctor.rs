//! `meshc doctor`: what this kernel and machine can do, what is missing and what that costs.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use mesh_runtime::doctor::{Checkup, DoctorTarget, Finding, Need, Outcome, examine, trial};
use serde_json::{Value, json};

use crate::args::Doctor;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::{hierarchy, looked_at};
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
    output.tinted(&object(&checkup, &target), Tint::Verdicts, || text(output, &checkup, &target));
    Ok(if checkup.is_able() { Exit::Done } else { Exit::Cannot })
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

fn object(checkup: &Checkup, target: &DoctorTarget) -> Value {
    json!({
        "kernel": checkup.kernel,
        "able": checkup.is_able(),
        "cgroup": target.cgroup,
        "bpffs": target.bpffs,
        "features": checkup.findings.iter().map(|Finding { feature, outcome }| json!({
            "name": feature.name,
            "state": word(outcome),
            "why": why(outcome),
            "required": feature.need == Need::Everything,
            "kernel": Some(feature.kernel).filter(|kernel| !kernel.is_empty()),
            "cost": feature.cost,
            "instead": feature.instead,
        })).collect::<Vec<_>>(),
        "commands": checkup.rights.iter().flat_map(|rights| rights.commands.iter().map(|command| json!({
            "name": command, "able": rights.lacks.is_empty(), "lacks": rights.lacks,
        }))).collect::<Vec<_>>(),
    })
}

fn text(output: &Output, checkup: &Checkup, target: &DoctorTarget) -> String {
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
    if !output.quiet {
        out.push_str(if checkup.is_able() {
            "\nthis node can enforce policies\n"
        } else {
            "\nthis node cannot enforce policies\n"
        });
    }
    out
}

/// Which commands this process may not run.
fn commands(out: &mut String, checkup: &Checkup) {
    let lacking = checkup.rights.iter().filter(|rights| !rights.lacks.is_empty());
    out.push_str("\ncommands that this process may not run:\n");
    for rights in lacking {
        let _ = writeln!(out, "  {}: {}", rights.commands.join(", "), rights.lacks.join(", "));
    }
}
