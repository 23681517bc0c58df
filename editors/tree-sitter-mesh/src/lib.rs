//! The tree-sitter grammar of `.mesh` policies.
//!
//! Editors use it to colour, fold and indent while somebody types. It accepts what the compiler reads without a
//! message `syntax`, and nothing else; the compiler itself has a parser of its own, with better messages.

use tree_sitter_language::LanguageFn;

#[expect(unsafe_code, reason = "the generated parser is C")]
unsafe extern "C" {
    fn tree_sitter_mesh() -> *const ();
}

/// The language, for `tree_sitter::Parser::set_language`.
#[expect(unsafe_code, reason = "tree-sitter asks for a promise that this is a language, and it generated it")]
// SAFETY: the function is the one that tree-sitter generated into src/parser.c.
pub const LANGUAGE: LanguageFn = unsafe { LanguageFn::from_raw(tree_sitter_mesh) };

/// What is coloured how.
pub const HIGHLIGHTS_QUERY: &str = include_str!("../queries/highlights.scm");

/// What can be folded.
pub const FOLDS_QUERY: &str = include_str!("../queries/folds.scm");

/// What is indented.
pub const INDENTS_QUERY: &str = include_str!("../queries/indents.scm");

/// Text in other languages.
pub const INJECTIONS_QUERY: &str = include_str!("../queries/injections.scm");

/// Which names are declared, and which stand for them.
pub const LOCALS_QUERY: &str = include_str!("../queries/locals.scm");
