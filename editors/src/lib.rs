//! The words of the language as editors know them: one list, `words.json`, from which the lists in each editor's
//! files are written.
//!
//! An editor's file has a line `words: CLASS` in a comment; the next line lists the words of that class. What
//! stands around the list belongs to the file.

mod files;
mod words;

pub use files::{FILES, HEADER, PARSER_SOURCES, Style, of_sources};
pub use words::{Error, Words};
