//! Diagnostics for scripts.

use mesh_compiler::diag::{Diagnostic, Label};
use mesh_compiler::source::Sources;
use serde_json::{Value, json};

/// `diagnostics` of `meshc check --format json`.
#[must_use]
pub fn diagnostics(sources: &Sources, diagnostics: &[Diagnostic]) -> Value {
    diagnostics.iter().map(|diagnostic| object(sources, diagnostic)).collect()
}

fn object(sources: &Sources, diagnostic: &Diagnostic) -> Value {
    json!({
        "code": diagnostic.code.word(),
        "severity": diagnostic.severity.to_string(),
        "message": diagnostic.message,
        "help": diagnostic.help,
        "labels": diagnostic.labels.iter().map(|found| label(sources, found)).collect::<Vec<_>>(),
    })
}

fn label(sources: &Sources, label: &Label) -> Value {
    let source = sources.get(label.span.file);
    let position = |offset| source.map(|source| source.position(offset));
    let (start, end) = (position(label.span.start), position(label.span.end));
    json!({
        "file": source.map(|source| source.name.as_str()),
        "line": start.map(|at| at.line),
        "column": start.map(|at| at.column),
        "end_line": end.map(|at| at.line),
        "end_column": end.map(|at| at.column),
        "text": label.text,
        "primary": label.primary,
    })
}
