//! Diagnostics for people: underlined source, code, help. The compiler gives them as data.

mod snippet;
mod visible;

#[cfg(all(feature = "kernel", target_os = "linux"))]
pub mod acceleration;
#[cfg(all(feature = "kernel", target_os = "linux"))]
pub mod applied;
#[cfg(all(feature = "kernel", target_os = "linux"))]
pub mod brief;
pub mod citation;
#[cfg(all(feature = "kernel", target_os = "linux"))]
pub mod decision;
pub mod difference;
#[cfg(all(feature = "kernel", target_os = "linux"))]
pub mod drift;
pub mod explanation;
pub mod json;
#[cfg(all(feature = "kernel", target_os = "linux"))]
pub mod moves;
pub mod sarif;
#[cfg(all(feature = "kernel", target_os = "linux"))]
pub mod section;
pub mod size;
#[cfg(all(feature = "kernel", target_os = "linux"))]
pub mod status;
#[cfg(all(feature = "kernel", target_os = "linux"))]
pub mod table;
#[cfg(all(feature = "kernel", target_os = "linux"))]
pub mod time;
#[cfg(all(feature = "kernel", target_os = "linux"))]
pub mod traffic;
#[cfg(all(feature = "kernel", target_os = "linux"))]
pub mod warning;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use mesh_compiler::diag::{Diagnostic, Label, Severity};
use mesh_compiler::source::{FileId, Sources};
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, SourceCode, SourceSpan};
use textwrap::WordSplitter;

use crate::github::{self, Region};
use crate::output::Output;
use snippet::Snippet;
use visible::visible;

/// Says all diagnostics to people, and to a runner that shows them beside the source.
pub fn say(output: &Output, sources: &Sources, diagnostics: &[Diagnostic]) {
    output.print_diagnostics(&text(output, sources, diagnostics));
    annotate(output, sources, diagnostics);
}

/// Tells them to the runner alone.
pub fn annotate(output: &Output, sources: &Sources, diagnostics: &[Diagnostic]) {
    if output.is_github() {
        output.text(
            &diagnostics
                .iter()
                .filter(|one| is_said(output, one))
                .map(|one| annotation(sources, one))
                .collect::<String>(),
        );
    }
}

/// A diagnostic as a command for the runner of GitHub Actions, at its first place.
fn annotation(sources: &Sources, diagnostic: &Diagnostic) -> String {
    let level = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "notice",
    };
    let place = diagnostic.span().and_then(|span| {
        let source = sources.get(span.file)?;
        let at = |offset| (source.position(offset).line, source.position(offset).column);
        Some((source.name.as_str(), Some(Region { start: at(span.start), end: at(span.end) })))
    });
    let help = diagnostic.help.as_ref().map_or_else(String::new, |help| format!("\nhelp: {help}"));
    github::command(level, place, diagnostic.code.word(), &format!("{}{help}", diagnostic.message))
}

fn is_said(output: &Output, diagnostic: &Diagnostic) -> bool {
    !output.quiet || diagnostic.severity == Severity::Error
}

/// All diagnostics as text, with a line that counts them.
#[must_use]
pub fn text(output: &Output, sources: &Sources, diagnostics: &[Diagnostic]) -> String {
    let mut out = String::new();
    let shown = shown(sources, diagnostics);
    for diagnostic in diagnostics {
        if !is_said(output, diagnostic) {
            continue;
        }
        let report = Report::new(sources, &shown, diagnostic);
        if handler(output, diagnostic).render_report(&mut out, &report).is_err() {
            out.push_str(&visible(&diagnostic.message));
        }
        out.push('\n');
    }
    out
}

/// The texts of all files that diagnostics are about, as they may be shown.
fn shown<'s>(sources: &'s Sources, diagnostics: &[Diagnostic]) -> Shown<'s> {
    let files = diagnostics
        .iter()
        .flat_map(|one| one.span().into_iter().chain(one.labels.iter().map(|label| label.span)));
    let mut shown = Shown::new();
    for file in files.map(|span| span.file) {
        if let Some(source) = sources.get(file) {
            shown.entry(file).or_insert_with(|| visible(&source.text));
        }
    }
    shown
}

/// The headline stands alone: severity, code, message.
fn handler(output: &Output, diagnostic: &Diagnostic) -> GraphicalReportHandler {
    let mut theme = if output.color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let headline = |severity: &str| format!("{severity}[{}]:", diagnostic.code);
    theme.characters.error = headline("error");
    theme.characters.warning = headline("warning");
    theme.characters.advice = headline("note");
    GraphicalReportHandler::new_themed(theme)
        .with_width(output.width)
        // What is to be written as it stands, such as `1000-1999`, is not broken.
        .with_word_splitter(WordSplitter::NoHyphenation)
        .with_context_lines(1)
        .with_show_related_as_nested(true)
        .without_cause_chain()
}

/// `2 errors, 1 warning`, or nothing where there is nothing.
#[must_use]
pub fn tally(diagnostics: &[Diagnostic]) -> String {
    let count = |severity| diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
    [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")]
        .into_iter()
        .map(|(severity, word)| (count(severity), word))
        .filter(|&(count, _)| count > 0)
        .map(|(count, word)| counted(count as u64, word))
        .collect::<Vec<_>>()
        .join(", ")
}

/// `1 error`, `2 errors`.
#[must_use]
pub fn counted(count: u64, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// Texts by file.
type Shown<'s> = BTreeMap<FileId, Cow<'s, str>>;

/// One diagnostic as miette sees it. A report shows one file; places in other files are reports of their
/// own below it.
#[derive(Debug)]
struct Report<'a> {
    diagnostic: &'a Diagnostic,
    message: Cow<'a, str>,
    head: bool,
    snippet: Option<Snippet<'a>>,
    labels: Vec<&'a Label>,
    related: Vec<Report<'a>>,
}

impl<'a> Report<'a> {
    fn new(sources: &'a Sources, shown: &'a Shown<'_>, diagnostic: &'a Diagnostic) -> Self {
        let mut files: Vec<FileId> = Vec::new();
        for file in diagnostic.span().into_iter().chain(diagnostic.labels.iter().map(|label| label.span)) {
            if !files.contains(&file.file) {
                files.push(file.file);
            }
        }
        let mut parts = files.into_iter().map(|file| Self::part(sources, shown, diagnostic, file));
        let mut head = parts.next().unwrap_or_else(|| Self::bare(diagnostic));
        head.head = true;
        head.message = visible(&diagnostic.message);
        head.related = parts.collect();
        head
    }

    fn bare(diagnostic: &'a Diagnostic) -> Self {
        Self {
            diagnostic,
            message: Cow::Borrowed("also here"),
            head: false,
            snippet: None,
            labels: Vec::new(),
            related: Vec::new(),
        }
    }

    fn part(sources: &'a Sources, shown: &'a Shown<'_>, diagnostic: &'a Diagnostic, file: FileId) -> Self {
        let labels = diagnostic.labels.iter().filter(|label| label.span.file == file).collect();
        let snippet =
            sources.get(file).zip(shown.get(&file)).map(|(source, text)| Snippet::new(source, text));
        Self { snippet, labels, ..Self::bare(diagnostic) }
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Report<'_> {}

impl miette::Diagnostic for Report<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.diagnostic.severity {
            _ if !self.head => miette::Severity::Advice,
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
            Severity::Note => miette::Severity::Advice,
        })
    }

    fn help<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        let help = self.diagnostic.help.as_ref().filter(|_| self.head)?;
        Some(Box::new(visible(help)))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.snippet.as_ref().map(|snippet| snippet as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().map(|label| {
            let start = label.span.start as usize;
            let length = (label.span.end as usize).saturating_sub(start);
            let span = SourceSpan::new(start.into(), length);
            let text = Some(visible(&label.text).into_owned()).filter(|text| !text.is_empty());
            if label.primary {
                LabeledSpan::new_primary_with_span(text, span)
            } else {
                LabeledSpan::new_with_span(text, span)
            }
        })))
    }

    fn related<'b>(&'b self) -> Option<Box<dyn Iterator<Item = &'b dyn miette::Diagnostic> + 'b>> {
        if self.related.is_empty() {
            return None;
        }
        Some(Box::new(self.related.iter().map(|report| report as &dyn miette::Diagnostic)))
    }
}
