//! Collects what is wrong with a file.

use crate::diag::{Code, Diagnostic};
use crate::source::Span;

/// How many errors of one file are told one by one.
///
/// A file of ten million wrong words is one mistake; telling each would take more memory than the
/// file. The rest is counted and the count told, so that nothing is silent.
pub(super) const TOLD: usize = 1000;

/// How much of a place is underlined, in bytes.
const LONGEST_LABEL: u32 = 200;

/// Errors of one file, so far.
#[derive(Debug, Default)]
pub(super) struct Errors {
    told: Vec<Diagnostic>,
    more: usize,
}

impl Errors {
    /// Adds one. It is made only if it will be told.
    pub(super) fn push(&mut self, make: impl FnOnce() -> Diagnostic) {
        if self.told.len() < TOLD {
            self.told.push(make());
        } else {
            self.more += 1;
        }
    }

    /// Adds errors that were only counted.
    pub(super) const fn count(&mut self, more: usize) {
        self.more += more;
    }

    /// How many there are, told or not.
    pub(super) const fn len(&self) -> usize {
        self.told.len() + self.more
    }

    /// Whether further ones will only be counted.
    pub(super) const fn is_full(&self) -> bool {
        self.told.len() >= TOLD
    }

    /// All of them, in the order of their places; `whole` is the file, and `text` what is in it.
    pub(super) fn finish(mut self, whole: Span, text: &str) -> Vec<Diagnostic> {
        crate::diag::sort(&mut self.told);
        for label in self.told.iter_mut().flat_map(|diagnostic| &mut diagnostic.labels) {
            label.span.end = clipped(text, label.span);
        }
        if self.more > 0 {
            let message = format!("{} more errors in this file are not shown", self.more);
            let end = Span { start: whole.end, ..whole };
            self.told.push(Diagnostic::new(Code::Syntax, message).label(end, "the file ends here"));
        }
        self.told
    }
}

/// Where the underlined part of a span ends: a word of ten megabytes is underlined only at its start.
fn clipped(text: &str, span: Span) -> u32 {
    let longest = span.start.saturating_add(LONGEST_LABEL);
    if span.end <= longest {
        return span.end;
    }
    (span.start..=longest).rev().find(|&end| text.is_char_boundary(end as usize)).unwrap_or(span.end)
}
