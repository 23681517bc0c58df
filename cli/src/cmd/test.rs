//! `meshc test`: the test blocks of a program, and which rules they reach.

use std::fmt::Write;

use mesh_compiler::compile::Compilation;
use mesh_compiler::diag::{Code, Diagnostic, Severity};
use mesh_compiler::hir::Peer;
use mesh_compiler::testing::{LineResult, may_be};
use serde_json::{Value, json};

use crate::args::Test;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::places::Locations;
use crate::render::explanation::{cause_object, cause_text};
use crate::tint::Tint;
use crate::{program, render};

/// Runs all tests. A program with other mistakes than failed tests has none that could be run.
pub fn run(output: &Output, args: &Test) -> Result<Exit, Failure> {
    let compilation = program::compile(&args.program)?;
    let other = |found: &&Diagnostic| found.severity == Severity::Error && found.code != Code::TestFailed;
    let mut mistakes: Vec<Diagnostic> = compilation.diagnostics.iter().filter(other).cloned().collect();
    if mistakes.is_empty() {
        let (in_tests, others): (Vec<_>, Vec<_>) =
            compilation.unknown_services().into_iter().partition(|found| is_tested(&compilation, found));
        let others: Vec<_> = others.into_iter().map(|found| found.severity(Severity::Warning)).collect();
        render::say(output, &compilation.files.sources, &others);
        mistakes = in_tests;
    }
    if !mistakes.is_empty() {
        render::say(output, &compilation.files.sources, &mistakes);
        return Err(Failure::refused("errors", format!("no test was run: {}", render::tally(&mistakes))));
    }
    let report = &compilation.tests;
    let (passed, failed) = (report.passed(), report.failed());
    let rules = report.covered.len();
    let covered = report.covered.values().filter(|covered| **covered).count();
    let percent = (covered * 100).checked_div(rules).unwrap_or(100);
    output.tinted(
        &json!({
            "passed": passed,
            "failed": failed,
            "tests": report.lines.iter().map(|line| object(&compilation, line)).collect::<Vec<_>>(),
            "coverage": { "rules": rules, "covered": covered, "uncovered": uncovered(&compilation) },
        }),
        Tint::Verdicts,
        || passes(output, &compilation) + &text(&compilation, passed, failed, covered, percent),
    );
    if failed > 0 {
        let failed = |found: &&Diagnostic| found.code == Code::TestFailed;
        let failed: Vec<_> = compilation.diagnostics.iter().filter(failed).cloned().collect();
        render::annotate(output, &compilation.files.sources, &failed);
        return Ok(Exit::Refused);
    }
    if args.min_coverage.is_some_and(|least| percent < usize::from(least)) {
        output.print_error(&format!(
            "the tests reach {percent} % of the rules, which is less than was asked for"
        ));
        return Ok(Exit::Refused);
    }
    Ok(Exit::Done)
}

/// Whether a line of a test names the service that this is about: it cannot be run.
fn is_tested(compilation: &Compilation, unknown: &Diagnostic) -> bool {
    let program = &compilation.resolution.program;
    let service = unknown.span().and_then(|span| program.service_at(span));
    let mut lines = program.tests.iter().flat_map(|test| &test.lines);
    lines.any(|line| match line.peer {
        Peer::Service(id) => {
            let of_line = program.services.get(id.index());
            of_line.map(|it| &it.name) == service.map(|it| &it.name)
        }
        Peer::Address(_) | Peer::Workload(_) | Peer::Node => false,
    })
}

fn flow(compilation: &Compilation, line: &LineResult) -> String {
    compilation.files.sources.slice(line.span).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn object(compilation: &Compilation, line: &LineResult) -> Value {
    let source = compilation.files.sources.get(line.span.file);
    json!({
        "name": line.test,
        "flow": flow(compilation, line),
        "expected": line.expected,
        "actual": line.actual,
        "passed": line.passed,
        "rule": cause_object(Locations::Sources(&compilation.files.sources), &line.cause),
        "file": source.map(|source| source.name.as_str()),
        "line": source.map(|source| source.line(line.span.start)),
    })
}

/// Where the rules are that decide no tested flow.
fn uncovered(compilation: &Compilation) -> Vec<String> {
    let sources = &compilation.files.sources;
    (compilation.tests.uncovered())
        .filter_map(|id| {
            let rule = compilation.resolution.program.rules.get(id.index())?;
            let source = sources.get(rule.span.file)?;
            let text = source.slice(rule.span).split_whitespace().collect::<Vec<_>>().join(" ");
            let short: String = text.chars().take(70).collect();
            Some(format!("{}:{}: {short}", source.name, source.line(rule.span.start)))
        })
        .collect()
}

/// Lines that hold, where more is to be said.
fn passes(output: &Output, compilation: &Compilation) -> String {
    let lines = compilation.tests.lines.iter().filter(|line| output.verbose && line.passed);
    lines
        .map(|line| format!("ok     \"{}\"  {} is {}\n", line.test, flow(compilation, line), line.actual))
        .collect()
}

fn text(compilation: &Compilation, passed: usize, failed: usize, covered: usize, percent: usize) -> String {
    let mut out = String::new();
    let sources = &compilation.files.sources;
    for line in compilation.tests.lines.iter().filter(|line| !line.passed) {
        let at = sources
            .get(line.span.file)
            .map_or_else(String::new, |source| format!("  {}:{}", source.name, source.line(line.span.start)));
        let _ = writeln!(out, "FAILED \"{}\"{at}", line.test);
        if let (false, Some(at)) = (line.unknown.is_empty(), line.flow) {
            let (asked, expected) = (flow(compilation, line), &line.expected);
            let why = may_be(at, &line.unknown);
            let _ = writeln!(out, "  {asked} is perhaps {expected}, and perhaps not: {why}");
            let _ = writeln!(
                out,
                "  help  name a workload in place of the address, or an inventory (`--inventory`)"
            );
            continue;
        }
        let _ = writeln!(out, "  {} is {}", flow(compilation, line), line.difference());
        if let Some(flow) = line.flow {
            let _ = writeln!(out, "  at    {} {} {}", flow.address, flow.protocol, flow.port);
        }
        let _ = writeln!(out, "  by    {}", cause_text(Locations::Sources(sources), &line.cause));
    }
    let rules = compilation.tests.covered.len();
    for rule in uncovered(compilation) {
        let _ = writeln!(out, "no test reaches {rule}");
    }
    let _ =
        writeln!(out, "{passed} passed, {failed} failed; {covered} of {rules} rules reached ({percent} %)");
    out
}
