//! Diagnostics for code scanning: SARIF 2.1.0 (OASIS), one run.

use mesh_compiler::diag::{Code, Diagnostic, Label, Severity};
use mesh_compiler::source::Sources;
use serde_json::{Value, json};

/// A whole log. File names become relative URIs, so that a scanner finds them in the repository.
#[must_use]
pub fn log(sources: &Sources, diagnostics: &[Diagnostic]) -> Value {
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "meshc",
                "version": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": Code::ALL.iter().map(|&code| rule(code)).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": diagnostics.iter().map(|diagnostic| result(sources, diagnostic)).collect::<Vec<_>>(),
        }],
    })
}

fn rule(code: Code) -> Value {
    json!({
        "id": code.word(),
        "shortDescription": { "text": summary(code) },
        "help": { "text": code.page(), "markdown": code.page() },
        "defaultConfiguration": { "level": level(code.severity()) },
    })
}

/// The first sentence of a code's page.
pub fn summary(code: Code) -> &'static str {
    code.page().lines().skip(1).find(|line| !line.is_empty()).unwrap_or_default()
}

const fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

fn result(sources: &Sources, diagnostic: &Diagnostic) -> Value {
    let text = match &diagnostic.help {
        Some(help) => format!("{}\nhelp: {help}", diagnostic.message),
        None => diagnostic.message.clone(),
    };
    let place = |primary| {
        (diagnostic.labels.iter().filter(move |label| label.primary == primary))
            .map(|label| location(sources, label))
            .collect::<Vec<_>>()
    };
    json!({
        "ruleId": diagnostic.code.word(),
        "ruleIndex": Code::ALL.iter().position(|&code| code == diagnostic.code),
        "level": level(diagnostic.severity),
        "message": { "text": text },
        "locations": place(true),
        "relatedLocations": place(false),
    })
}

fn location(sources: &Sources, label: &Label) -> Value {
    let source = sources.get(label.span.file);
    let (start, end) = (label.span.start, label.span.end);
    let region = source.map(|source| {
        let (start, end) = (source.position(start), source.position(end));
        json!({
            "startLine": start.line, "startColumn": start.column, "endLine": end.line, "endColumn": end.column,
        })
    });
    let mut location = json!({
        "physicalLocation": {
            "artifactLocation": { "uri": source.map_or_else(String::new, |source| uri(&source.name)) },
            "region": region,
        },
    });
    if let (false, Some(fields)) = (label.text.is_empty(), location.as_object_mut()) {
        fields.insert("message".into(), json!({ "text": label.text }));
    }
    location
}

/// A path as a relative URI reference (RFC 3986): what is not unreserved is percent-encoded.
fn uri(name: &str) -> String {
    let mut uri = String::new();
    for byte in name.trim_start_matches("./").bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(byte.into())
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}
