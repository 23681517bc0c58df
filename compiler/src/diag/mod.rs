//! Diagnostics as data. How they look on a terminal, in JSON or in SARIF is decided elsewhere.
//!
//! Wording: lower case, no full stop at the end, the user's words in backticks, never a name from this
//! program's source. The message stands alone; labels and help may refer to it.

mod code;

pub use code::{Code, Severity};

use crate::source::Span;

/// How much of a word of the source a message quotes, in characters: a file of one endless word is
/// still one line of message.
const LONGEST_QUOTE: usize = 60;

/// Something that the compiler has to say about the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Which.
    pub code: Code,
    /// How bad; not always the code's own severity.
    pub severity: Severity,
    /// One line that stands alone.
    pub message: String,
    /// Places, the primary ones first.
    pub labels: Vec<Label>,
    /// What to write instead.
    pub help: Option<String>,
}

/// A place that a diagnostic is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The words to underline.
    pub span: Span,
    /// What to say about them.
    pub text: String,
    /// Whether this is where the mistake is; otherwise it only helps to understand.
    pub primary: bool,
}

impl Diagnostic {
    /// A diagnostic with its code's own severity and no place yet.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, severity: code.severity(), message: message.into(), labels: Vec::new(), help: None }
    }

    /// The same with another severity.
    #[must_use]
    pub const fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// Adds a place where the mistake is.
    #[must_use]
    pub fn label(self, span: Span, text: impl Into<String>) -> Self {
        self.place(span, text.into(), true)
    }

    /// Adds a place that helps to understand.
    #[must_use]
    pub fn also(self, span: Span, text: impl Into<String>) -> Self {
        self.place(span, text.into(), false)
    }

    /// Says what to write instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Where the mistake is: the first primary place.
    #[must_use]
    pub fn span(&self) -> Option<Span> {
        let primary = self.labels.iter().find(|label| label.primary);
        primary.or_else(|| self.labels.first()).map(|label| label.span)
    }

    fn place(mut self, span: Span, text: String, primary: bool) -> Self {
        self.labels.push(Label { span, text, primary });
        self
    }
}

/// Whether any of them is an error.
#[must_use]
pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
}

/// Puts diagnostics into the order of their places, which is the order in which a reader meets them.
pub fn sort(diagnostics: &mut [Diagnostic]) {
    diagnostics.sort_by(|a, b| {
        (a.span(), a.severity, a.code, &a.message).cmp(&(b.span(), b.severity, b.code, &b.message))
    });
}

/// A word of the source in backticks, shortened where it is very long.
#[must_use]
pub fn quote(word: &str) -> String {
    let line = word.lines().next().unwrap_or_default();
    let mut rest = line.char_indices().skip(LONGEST_QUOTE);
    match rest.next() {
        Some((at, _)) => format!("`{}…`", line.get(..at).unwrap_or_default()),
        None if line.len() < word.len() => format!("`{}…`", line.trim_end()),
        None => format!("`{line}`"),
    }
}

/// Things in words: `a, b or c`.
#[must_use]
pub fn one_of<S: AsRef<str>>(things: &[S]) -> String {
    join(things, " or ")
}

/// Things in words: `a, b and c`.
#[must_use]
pub fn all_of<S: AsRef<str>>(things: &[S]) -> String {
    join(things, " and ")
}

fn join<S: AsRef<str>>(things: &[S], last: &str) -> String {
    match things {
        [] => String::new(),
        [only] => only.as_ref().to_owned(),
        [firsts @ .., end] => {
            let firsts: Vec<&str> = firsts.iter().map(AsRef::as_ref).collect();
            format!("{}{last}{}", firsts.join(", "), end.as_ref())
        }
    }
}

/// The candidate that is nearest to `word` by edit distance, if one is near enough to be meant.
#[must_use]
pub fn did_you_mean<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let length = word.chars().take(LONGEST_QUOTE + 1).count();
    if length > LONGEST_QUOTE {
        return None;
    }
    let near = (length / 3).max(1);
    (candidates.into_iter())
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= near)
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= near && candidate != word)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_like_a_sentence() {
        assert_eq!(one_of(&["a"]), "a");
        assert_eq!(one_of(&["a", "b", "c"]), "a, b or c");
        assert_eq!(all_of(&["a", "b"]), "a and b");
    }

    #[test]
    fn long_words_are_cut() {
        assert_eq!(quote(&"x".repeat(1000)).chars().count(), LONGEST_QUOTE + 3);
        assert_eq!(quote("a\nb"), "`a…`");
    }

    #[test]
    fn only_near_words_are_meant() {
        assert_eq!(did_you_mean("catalgo", ["cart", "catalog"]), Some("catalog"));
        assert_eq!(did_you_mean("x", ["cart", "catalog"]), None);
        assert_eq!(did_you_mean("cart", ["cart"]), None);
    }
}
