//! `# meshc: allow(code, code)` comments.

use mesh_grammar::scan::{Comment, Extent};

use super::errors::Errors;
use crate::ast::{Allow, Spanned};
use crate::diag::{Code, Diagnostic, Severity, did_you_mean, quote};
use crate::source::{FileId, Span};

/// Finds the comments that speak to the compiler. What they silence is not known yet.
pub(super) fn read(
    file: FileId,
    text: &str,
    comments: &[Comment],
    errors: &mut Errors,
) -> Vec<(Allow, bool)> {
    (comments.iter())
        .filter_map(|comment| {
            let said = comment.extent.of(text).trim_start_matches('#').trim_start();
            let order = said.strip_prefix("meshc:")?;
            let reader = Reader { file, text, extent: comment.extent };
            Some((reader.allow(order, errors)?, comment.alone))
        })
        .collect()
}

struct Reader<'t> {
    file: FileId,
    text: &'t str,
    extent: Extent,
}

impl Reader<'_> {
    fn allow(&self, order: &str, errors: &mut Errors) -> Option<Allow> {
        let span = Span { file: self.file, start: self.extent.start, end: self.extent.end };
        let inner = order.trim().strip_prefix("allow").map(str::trim_start).and_then(|rest| {
            let inner = rest.strip_prefix('(')?.strip_suffix(')')?;
            (!inner.trim().is_empty()).then_some(inner)
        });
        let Some(inner) = inner else {
            errors.push(|| {
                Diagnostic::new(Code::Syntax, "a comment for `meshc:` that says nothing known")
                    .label(span, "not `allow(…)`")
                    .help("write `# meshc: allow(code, code)` with the codes of warnings")
            });
            return None;
        };
        let codes = inner.split(',').filter_map(|word| self.code(word.trim(), errors)).collect();
        Some(Allow { codes, scope: None, span })
    }

    fn code(&self, word: &str, errors: &mut Errors) -> Option<Spanned<Code>> {
        let span = self.span_of(word);
        let Some(code) = Code::from_word(word) else {
            let meant = did_you_mean(word, Code::ALL.map(Code::word));
            errors.push(|| {
                let help = meant.map_or_else(
                    || "write the code of a warning, as it stands in brackets in its message".to_owned(),
                    |meant| format!("did you mean `{meant}`?"),
                );
                Diagnostic::new(Code::UnknownName, format!("there is no diagnostic {}", quote(word)))
                    .label(span, "not a code")
                    .help(help)
            });
            return None;
        };
        if code.severity() == Severity::Error {
            errors.push(|| {
                Diagnostic::new(
                    Code::WrongKind,
                    format!("`{code}` is an error, and only warnings can be allowed"),
                )
                .label(span, "an error")
                .help("remove it here, and the mistake that it is about")
            });
            return None;
        }
        Some(Spanned { value: code, span })
    }

    /// `word` is a slice of the file's text.
    fn span_of(&self, word: &str) -> Span {
        let offset = (word.as_ptr() as usize).wrapping_sub(self.text.as_ptr() as usize);
        let start = u32::try_from(offset).unwrap_or(self.extent.start);
        let end = start.saturating_add(u32::try_from(word.len()).unwrap_or(0));
        Span { file: self.file, start, end }
    }
}

/// `allow` comments, and the statements below them.
pub(super) struct Allows {
    found: Vec<(Allow, bool)>,
    next: usize,
}

impl Allows {
    pub(super) const fn new(found: Vec<(Allow, bool)>) -> Self {
        Self { found, next: 0 }
    }

    /// The comments that stand right above the statement. Statements are asked about in order.
    pub(super) fn above(&mut self, text: &str, extent: Extent) -> Vec<usize> {
        let mut above = Vec::new();
        while let Some((allow, alone)) =
            self.found.get(self.next).filter(|(allow, _)| allow.span.end <= extent.start)
        {
            let gap = text.get(allow.span.end as usize..extent.start as usize).unwrap_or_default();
            let mut lines = gap.split('\n').skip(1).peekable();
            let mut adjoins = *alone;
            while let Some(line) = lines.next() {
                let last = lines.peek().is_none();
                adjoins &= if last { line.trim().is_empty() } else { line.trim_start().starts_with('#') };
            }
            if adjoins {
                above.push(self.next);
            }
            self.next += 1;
        }
        above
    }

    /// Sets what the comments cover.
    pub(super) fn end(&mut self, which: &[usize], scope: Span) {
        for &i in which {
            if let Some((allow, _)) = self.found.get_mut(i) {
                allow.scope = Some(scope);
            }
        }
    }

    pub(super) fn finish(self) -> Vec<Allow> {
        self.found.into_iter().map(|(allow, _)| allow).collect()
    }
}
