//! What there is to say of a program, in the protocol's types. Nothing is compiled or changed here.

pub mod action;
pub mod complete;
pub mod diagnose;
pub mod fold;
pub mod hint;
pub mod hover;
pub mod index;
pub mod lens;
pub mod navigate;
pub mod rename;
pub mod signature;
pub mod symbols;
pub mod tokens;

use lsp_types::{Location, Range};
use mesh_compiler::source::{FileId, Span};

use crate::documents::Documents;
use crate::host::Host;
use crate::program::Program;
use crate::text::Text;

/// A file of a program that something is asked of.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The program.
    pub program: &'a Program,
    /// What is open.
    pub open: &'a Documents,
    /// The file.
    pub file: FileId,
    /// What has words for it.
    pub host: &'a dyn Host,
}

impl<'a> View<'a> {
    /// The text of the file.
    pub fn text(self) -> &'a str {
        self.program.source(self.file).map_or("", |source| source.text.as_str())
    }

    /// A place of any file of the program.
    pub fn location(self, span: Span) -> Option<Location> {
        let uri = self.open.uri(self.program.key(span.file)?)?;
        let text = self.program.source(span.file)?.text.as_str();
        Some(Location { uri, range: range(&Text::new(text), span) })
    }
}

/// Where a span is in its text.
pub fn range(text: &Text<'_>, span: Span) -> Range {
    text.range(span.start as usize, span.end as usize)
}

/// Whether a cursor at this byte is at the words.
pub fn touches(span: Span, file: FileId, offset: usize) -> bool {
    span.file == file && span.start as usize <= offset && offset <= span.end as usize
}
