//! The one canonical layout of a policy. It changes white space, brackets and last commas, and nothing
//! else: comments stay where they are, items are neither merged nor moved.
//!
//! - Four spaces an indent, one statement a line, at most one empty line between two.
//! - A list that fits on the line stands without brackets; a longer one, or one with comments in it, in
//!   `[ ]`, an item a line.
//! - A block with one statement and no comment stands on one line if it fits.
//! - Comments after statements of one paragraph begin in one column.

mod layout;
mod statement;
#[cfg(test)]
mod tests;
mod tree;

use mesh_grammar::scan::scan;

use crate::diag::Diagnostic;
use crate::parse::parse_file;
use crate::source::FileId;

/// Formats one file.
///
/// # Errors
/// What is wrong with the file: only what can be read can be formatted.
pub fn format(id: FileId, text: &str) -> Result<String, Vec<Diagnostic>> {
    let (_, diagnostics) = parse_file(id, text);
    if !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    let scan = scan(text);
    Ok(layout::lay_out(text, &tree::tree(text, &scan)))
}
