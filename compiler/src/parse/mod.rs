//! Source text to syntax tree. Names are not looked up here, and other files are not read.
//!
//! The scanner of `mesh-grammar` cuts the text into statements and braces; this module walks over them
//! with a stack of open blocks, has the grammar read each statement, and goes on after an error.

mod allow;
mod build;
mod errors;
pub(crate) mod habit;
mod indent;
mod known;
mod literal;
mod message;
mod placement;
mod recovery;
mod shift;
mod splice;
#[cfg(test)]
mod tests;
mod token;
mod walker;

use mesh_grammar::Rule;
use mesh_grammar::scan::{self, Extent};
use mesh_grammar::statement;

use self::build::{Builder, Statement};
use self::errors::Errors;
pub use self::known::Statements;
use crate::ast;
use crate::diag::Diagnostic;
use crate::source::{FileId, Span};

/// Reads one file. Every syntax error of it is reported, up to a thousand; further ones are counted.
///
/// What could not be read is left out of the tree. A name whose declaration could not be read is kept
/// in [`ast::File::broken`].
#[must_use]
pub fn parse_file(id: FileId, text: &str) -> (ast::File, Vec<Diagnostic>) {
    parse_file_after(id, text, None)
}

/// The same, with what is known of statements that were read before.
#[must_use]
pub fn parse_file_after(
    id: FileId,
    text: &str,
    known: Option<&mut Statements>,
) -> (ast::File, Vec<Diagnostic>) {
    let scan = scan::scan(text);
    let mut errors = Errors::default();
    message::faults(id, text, &scan.faults, &mut errors);
    errors.count(scan.more_faults);
    let file = walker::Walker::new(id, text, (&scan, known), &mut errors).walk();
    (file, errors.finish(whole(id, text), text))
}

/// Reads a flow as `explain` takes it: `cart -> 10.0.3.9 tcp 3306`, `shop/cart-7d9f -> 10.0.3.9:3306`.
///
/// # Errors
/// What is wrong with it. The spans lie in `text`, which the caller has added to its sources.
pub fn parse_flow(id: FileId, text: &str) -> Result<ast::Asked, Vec<Diagnostic>> {
    let scan = scan::scan(text);
    let mut errors = Errors::default();
    message::faults(id, text, &scan.faults, &mut errors);
    let trimmed = text.trim();
    let start = text.len() - text.trim_start().len();
    let at = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let extent = Extent { start: at(start), end: at(start + trimmed.len()) };
    let place = message::Statement { file: id, text, extent };
    let mut flow = None;
    if errors.len() == 0 {
        match statement::parse(Rule::flow_statement, trimmed) {
            Ok(mut pairs) => {
                let mut builder = Builder { file: id, base: extent.start, errors: &mut errors };
                if let Some(Statement::Asked(read)) = pairs.next().and_then(|pair| builder.statement(pair)) {
                    flow = Some(read);
                }
            }
            Err(error) => errors.push(|| message::unexpected(place, Rule::flow_statement, &error)),
        }
    }
    match flow {
        Some(flow) if errors.len() == 0 => Ok(flow),
        _ => Err(errors.finish(whole(id, text), text)),
    }
}

fn whole(file: FileId, text: &str) -> Span {
    Span { file, start: 0, end: u32::try_from(text.len()).unwrap_or(u32::MAX) }
}
