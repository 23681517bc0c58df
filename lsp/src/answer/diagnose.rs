//! Diagnostics: all that `meshc check` says.

use std::collections::BTreeMap;

use lsp_types::{
    CodeDescription, Diagnostic, DiagnosticRelatedInformation, DiagnosticSeverity, DiagnosticTag, Location,
    NumberOrString, Range,
};
use mesh_compiler::diag::{self, Code, Severity};
use mesh_compiler::source::{FileId, Span};

use super::range;
use crate::documents::Documents;
use crate::program::Program;
use crate::text::Text;

/// Where the pages of codes are, for people.
const PAGES: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/compiler/src/diag/pages");

/// What there is to say about each file of a program, by what stands for it; also about those of which there is nothing.
pub fn diagnostics(program: &Program, open: &Documents) -> BTreeMap<String, Vec<Diagnostic>> {
    let mut all: BTreeMap<String, Vec<Diagnostic>> =
        program.files().map(|(_, key)| (key.to_owned(), Vec::new())).collect();
    let mut places = Places { program, open, texts: BTreeMap::new() };
    for found in &program.compilation.diagnostics {
        let file = found.span().map_or(FileId::new(0), |span| span.file);
        let Some(of_file) = program.key(file).and_then(|key| all.get_mut(key)) else { continue };
        of_file.push(diagnostic(&mut places, found));
    }
    all
}

/// One of them. Places after the first are related ones.
fn diagnostic(places: &mut Places<'_>, found: &diag::Diagnostic) -> Diagnostic {
    let span = found.span();
    let first =
        span.and_then(|span| found.labels.iter().position(|label| label.span == span && label.primary));
    let others = found.labels.iter().enumerate().filter(|(at, _)| Some(*at) != first.or(Some(0)));
    let related: Vec<DiagnosticRelatedInformation> = others
        .filter_map(|(_, label)| {
            let location = places.location(label.span)?;
            Some(DiagnosticRelatedInformation { location, message: label.text.clone() })
        })
        .collect();
    let tags = match found.code {
        Code::Unused | Code::NoEffect => Some(vec![DiagnosticTag::UNNECESSARY]),
        _ => None,
    };
    Diagnostic {
        range: span.map_or_else(Range::default, |span| places.range(span)),
        severity: Some(severity(found.severity)),
        code: Some(NumberOrString::String(found.code.word().to_owned())),
        code_description: page(found.code).map(|href| CodeDescription { href }),
        source: Some("meshc".to_owned()),
        message: message(found),
        related_information: Some(related).filter(|related| !related.is_empty()),
        tags,
        data: None,
    }
}

/// The message, what is said at its place, and the help.
pub fn message(found: &diag::Diagnostic) -> String {
    let span = found.span();
    let label = found.labels.iter().find(|label| Some(label.span) == span).map(|label| label.text.as_str());
    let mut message = found.message.clone();
    if let Some(label) = label.filter(|label| !label.is_empty() && !found.message.contains(label)) {
        message = format!("{message}\n{label}");
    }
    match &found.help {
        Some(help) => format!("{message}\nhelp: {help}"),
        None => message,
    }
}

const fn severity(severity: Severity) -> DiagnosticSeverity {
    match severity {
        Severity::Error => DiagnosticSeverity::ERROR,
        Severity::Warning => DiagnosticSeverity::WARNING,
        Severity::Note => DiagnosticSeverity::INFORMATION,
    }
}

fn page(code: Code) -> Option<lsp_types::Uri> {
    format!("{PAGES}/{code}.md").parse().ok()
}

/// Places of files, of which each has its lines found once.
struct Places<'a> {
    program: &'a Program,
    open: &'a Documents,
    texts: BTreeMap<FileId, Text<'a>>,
}

impl Places<'_> {
    fn range(&mut self, span: Span) -> Range {
        let program = self.program;
        let text = self.texts.entry(span.file).or_insert_with(|| {
            Text::new(program.source(span.file).map_or("", |source| source.text.as_str()))
        });
        range(text, span)
    }

    fn location(&mut self, span: Span) -> Option<Location> {
        let uri = self.open.uri(self.program.key(span.file)?)?;
        Some(Location { uri, range: self.range(span) })
    }
}
