//! `meshc import`: the policy that another mesh's settings come to.

use mesh_compiler::diag::{Severity, has_errors};
use mesh_compiler::source::Sources;
use mesh_import::settings::{Became, Line, Report};
use mesh_import::{Imported, import};
use serde_json::{Value, json};

use crate::args::{Deny, Import, Origin};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::{files, render};

/// Writes the policy to standard output, and what is to be said of the settings to standard error.
pub fn run(output: &Output, args: &Import) -> Result<Exit, Failure> {
    let files = files::read_named(&args.paths, &args.stdin_name)?;
    let mut imported = import(origin(args.origin), files, args.as_it_behaves);
    if args.deny == Some(Deny::Warnings) {
        for found in imported.diagnostics.iter_mut().filter(|found| found.severity == Severity::Warning) {
            found.severity = Severity::Error;
        }
    }
    let Imported { sources, diagnostics, policy, report, .. } = &imported;
    if output.is_json() {
        output.json(&json!({
            "policy": policy,
            "report": object(&imported),
            "diagnostics": render::json::diagnostics(sources, diagnostics),
        }));
    } else {
        let least = if output.verbose || args.report { Severity::Note } else { Severity::Warning };
        let said: Vec<_> = diagnostics.iter().filter(|found| found.severity <= least).cloned().collect();
        render::say(output, sources, &said);
        if let Some(policy) = policy {
            output.text(policy);
            if args.report {
                output.info(&lines(sources, report));
            }
            output.info(&summary(&imported));
        }
    }
    Ok(if has_errors(diagnostics) { Exit::Refused } else { Exit::Done })
}

const fn origin(origin: Origin) -> mesh_import::Origin {
    match origin {
        Origin::Istio => mesh_import::Origin::Istio,
        Origin::Kuma => mesh_import::Origin::Kuma,
        Origin::Osm => mesh_import::Origin::Osm,
        Origin::Linkerd => mesh_import::Origin::Linkerd,
        Origin::Consul => mesh_import::Origin::Consul,
        Origin::Iptables => mesh_import::Origin::Iptables,
    }
}

/// Settings that somebody wrote: defaults of the mesh are in the policy, and nobody asks for them.
fn written(report: &Report) -> impl Iterator<Item = &Line> {
    report.lines().filter(|line| line.span.is_some())
}

/// How many settings came to what.
fn count(report: &Report, became: Became) -> u64 {
    written(report).filter(|line| line.became == became).map(|line| line.count as u64).sum()
}

fn object(imported: &Imported) -> Value {
    let Imported { report, sources, .. } = imported;
    json!({
        "workloads": imported.workloads,
        "rules": imported.rules,
        "settings": {
            "rule": count(report, Became::Rule),
            "bad": count(report, Became::Bad),
            "comment": count(report, Became::Comment),
        },
        "lines": written(report).map(|line| setting(sources, line)).collect::<Vec<_>>(),
    })
}

fn setting(sources: &Sources, line: &Line) -> Value {
    let place = line.span.and_then(|span| Some((sources.get(span.file)?, span.start)));
    json!({
        "setting": line.name,
        "value": line.value,
        "became": line.became.word(),
        "why": Some(&line.why).filter(|why| !why.is_empty()),
        "object": line.object,
        "objects": line.count,
        "file": place.map(|(source, _)| source.name.as_str()),
        "line": place.map(|(source, start)| source.line(start)),
    })
}

/// A line for each setting.
fn lines(sources: &Sources, report: &Report) -> String {
    let lines = written(report).map(|line| {
        let place = line.span.and_then(|span| Some((sources.get(span.file)?, span.start)));
        let place =
            place.map_or_else(String::new, |(source, at)| format!("{}:{}: ", source.name, source.line(at)));
        let why = if line.why.is_empty() { String::new() } else { format!(": {}", line.why) };
        let objects = render::counted(line.count as u64, "object");
        format!("{place}{} \"{}\" of {objects} is a {}{why}\n", line.name, line.value, word(line.became))
    });
    lines.collect()
}

const fn word(became: Became) -> &'static str {
    match became {
        Became::Rule => "rule",
        Became::Bad => "mistake, and a comment",
        Became::Comment => "comment",
    }
}

fn summary(imported: &Imported) -> String {
    let report = &imported.report;
    let (rules, bad, comments) =
        (count(report, Became::Rule), count(report, Became::Bad), count(report, Became::Comment));
    let settings = render::counted(rules + bad + comments, "setting");
    let workloads = render::counted(imported.workloads as u64, "workload");
    let written = render::counted(imported.rules as u64, "rule");
    let not = match (bad, comments) {
        (0, 0) => "all of them are in the policy".to_owned(),
        (bad, comments) => {
            let one = bad + comments == 1;
            let (are, which) = if one { ("is a comment", "says") } else { ("are comments", "say") };
            format!("{} {are} that {which} why", bad + comments)
        }
    };
    format!("imported {workloads}, {written} from {settings}; {not}")
}
