//! What people write who know other languages, and what they are told: `habits.golden` has, for each line,
//! what is underlined, the message and the help. Read it aloud.

#![expect(clippy::unwrap_used, reason = "what fails here is the test")]

use std::fmt::Write as _;

use mesh_compiler::compile::compile;
use mesh_compiler::diag::Severity;
use mesh_compiler::resolve::{Location, NoImports};
use mesh_compiler::source::Span;

const GOLDEN: &str = include_str!("habits.golden");

/// The line in a program that is right without it: in a workload where it is indented, else at the top.
fn shown(line: &str) -> String {
    let (top, inner) = if line.starts_with(' ') { ("", line) } else { (line, "    any") };
    let text = format!("{top}\nexempt uid 1500\nmesh m {{\n  workload w {{\n{inner}\n  }}\n}}\n");
    let place = Location { key: "a.mesh".to_owned(), name: "a.mesh".to_owned() };
    let done = compile(vec![(place, text.into_bytes())], &mut NoImports, None);
    let mut shown = format!("{line}\n");
    for found in done.diagnostics.iter().filter(|found| found.severity == Severity::Error) {
        let label = found.labels.iter().find(|label| label.primary).unwrap();
        let before = done.files.sources.slice(Span { start: 0, end: label.span.start, ..label.span });
        let column = before.rsplit('\n').next().unwrap().chars().count();
        let width = done.files.sources.slice(label.span).chars().count().max(1);
        writeln!(shown, "{}{} {}", " ".repeat(column), "^".repeat(width), label.text).unwrap();
        writeln!(shown, "{}: {}", found.code, found.message).unwrap();
        writeln!(shown, "help: {}", found.help.as_deref().unwrap_or("none")).unwrap();
    }
    shown
}

#[test]
fn who_writes_as_elsewhere_is_told_how_it_is_written_here() {
    let blocks: Vec<&str> = GOLDEN.trim_end().split("\n\n").collect();
    let now: Vec<String> = blocks.iter().map(|block| shown(block.lines().next().unwrap())).collect();
    let now = now.join("\n");
    if now.trim_end() != GOLDEN.trim_end() {
        println!("{now}");
    }
    for (block, now) in blocks.iter().zip(now.split("\n\n")) {
        assert_eq!(now.trim_end(), block.trim_end());
    }
    assert_eq!(now.trim_end(), GOLDEN.trim_end());
}

#[test]
fn every_habit_is_an_error_with_help() {
    for block in GOLDEN.trim_end().split("\n\n") {
        assert!(block.contains("\nhelp: ") && !block.contains("help: none"), "{block}");
    }
}
