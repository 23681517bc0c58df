//! Collects what is wrong with a file.

use crate::diag::{Code, Diagnostic};
use crate::source::Span;

/// How many errors of one file are told one by one.
///
/// A file of ten million wrong words is one mistake; telling each would take more memory than the
/// file. The rest is counted and the count told, so that nothing is silent.
pub(super) const TOLD: usize = 1000;

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

    /// All of them, in the order of their places; `whole` is the file.
    pub(super) fn finish(mut self, whole: Span) -> Vec<Diagnostic> {
        crate::diag::sort(&mut self.told);
        if self.more > 0 {
            let message = format!("{} more errors in this file are not shown", self.more);
            let end = Span { start: whole.end, ..whole };
            self.told.push(Diagnostic::new(Code::Syntax, message).label(end, "the file ends here"));
        }
        self.told
    }
}
