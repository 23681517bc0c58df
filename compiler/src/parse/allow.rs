//! Comments that speak to the compiler: `# meshc: allow(code, code)` and `# meshc: library`.

use mesh_grammar::scan::{Comment, Extent};

use super::errors::Errors;
use crate::ast::{Allow, Spanned};
use crate::diag::{Code, Diagnostic, Severity, did_you_mean, quote};
use crate::source::{FileId, Span};

/// What comments of a file say to the compiler.
pub(super) struct Orders {
    /// `allow` comments, and whether each stands alone on its line. What they silence is not known yet.
    pub(super) allows: Vec<(Allow, bool)>,
    /// The file is there for others to import.
    pub(super) library: bool,
}

/// Finds the comments that speak to the compiler.
pub(super) fn read(file: FileId, text: &str, comments: &[Comment], errors: &mut Errors) -> Orders {
    let mut orders = Orders { allows: Vec::new(), library: false };
    let head = head(text);
    for comment in comments {
        let said = comment.extent.of(text).trim_start_matches('#').trim_start();
        let Some(order) = said.strip_prefix("meshc:") else { continue };
        let reader = Reader { file, text, extent: comment.extent };
        match order.trim() {
            "library" if (comment.extent.start as usize) < head => orders.library = true,
            "library" => reader.too_late(errors),
            _ => orders.allows.extend(reader.allow(order, errors).map(|allow| (allow, comment.alone))),
        }
    }
    orders
}

/// Where the first line begins that has something else than a comment: what stands before it is about the whole file.
fn head(text: &str) -> usize {
    let plain = |line: &&str| matches!(line.trim_start().chars().next(), None | Some('#'));
    text.split_inclusive('\n').take_while(plain).map(str::len).sum()
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
                    .label(span, "neither `allow(…)` nor `library`")
                    .help(
                        "write `# meshc: allow(code, code)` with the codes of warnings, or `# meshc: library` above the \
                         first statement of a file that others import",
                    )
            });
            return None;
        };
        let codes = inner.split(',').filter_map(|word| self.code(word.trim(), errors)).collect();
        Some(Allow { codes, scope: None, span })
    }

    fn too_late(&self, errors: &mut Errors) {
        let span = Span { file: self.file, start: self.extent.start, end: self.extent.end };
        errors.push(|| {
            Diagnostic::new(Code::Syntax, "`library` is about the whole file")
                .label(span, "below its first statement")
                .help("write it alone on a line above the first statement")
        });
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
