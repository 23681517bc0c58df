//! Which files have lists of words, and how each writes one.

use std::path::Path;

/// How a file writes a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A query of tree-sitter: `["deny" "exclude"]`.
    Query,
    /// A regular expression of Oniguruma, in JSON: `(?:deny|exclude)`.
    TextMate,
    /// A regular expression of vim, very magic: `%(deny|exclude)`.
    Vim,
}

impl Style {
    /// What stands around a list.
    pub(crate) const fn around(self) -> (&'static str, &'static str) {
        match self {
            Self::Query => ("[", "]"),
            Self::TextMate => ("(?:", ")"),
            Self::Vim => ("%(", ")"),
        }
    }

    /// The words as a list.
    pub(crate) fn list(self, words: &[&str]) -> String {
        match self {
            Self::Query => words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" "),
            Self::TextMate | Self::Vim => words.join("|"),
        }
    }
}

/// The files that have lists, by their paths from the directory of this crate.
pub const FILES: [(&str, Style); 4] = [
    ("tree-sitter-mesh/queries/highlights.scm", Style::Query),
    ("helix/queries/highlights.scm", Style::Query),
    ("vscode/syntaxes/mesh.tmLanguage.json", Style::TextMate),
    ("vim/syntax/mesh.vim", Style::Vim),
];

/// The header that [`Words::header`](crate::Words::header) writes.
pub const HEADER: &str = "tree-sitter-mesh/src/words.h";

/// The file that says what the C parser was made of.
pub const PARSER_SOURCES: &str = "tree-sitter-mesh/src/sources";

/// A hash of what the C parser is made of; `here` is the directory of this crate.
///
/// # Errors
/// Where one of the files cannot be read.
pub fn of_sources(here: &Path) -> std::io::Result<String> {
    let mut hash = blake3::Hasher::new();
    for name in ["words.json", "tree-sitter-mesh/grammar.js", "tree-sitter-mesh/tree-sitter.json"] {
        hash.update(&std::fs::read(here.join(name))?);
    }
    Ok(format!("{}\n", hash.finalize()))
}
