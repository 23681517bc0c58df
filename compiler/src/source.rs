//! Source files and places in them.

use std::ops::Range;

pub use crate::hir::span::{FileId, Span};

use crate::diag::{Code, Diagnostic};

/// A place as people count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
}

/// One source file.
#[derive(Clone, Debug)]
pub struct Source {
    /// As the user named it, or relative to a file that the user named.
    pub name: String,
    /// Its text. Where the file was not UTF-8, what could be made of it, only to be shown.
    pub text: String,
    /// The first byte of each line.
    lines: Vec<u32>,
    /// How many characters begin before each block of the text, so that a place in an endless line is
    /// found without walking it.
    blocks: Vec<u32>,
    readable: bool,
}

/// Bytes of a block of [`Source`].
const BLOCK: usize = 4096;

impl Source {
    /// Whether the text is what the file says, so that it can be parsed.
    #[must_use]
    pub const fn is_readable(&self) -> bool {
        self.readable
    }

    /// The line of a byte, from 1.
    #[must_use]
    pub fn line(&self, offset: u32) -> u32 {
        count(self.lines.partition_point(|&start| start <= offset).max(1))
    }

    /// Line and column of a byte.
    #[must_use]
    pub fn position(&self, offset: u32) -> Position {
        let line = self.line(offset);
        let start = self.lines.get(line as usize - 1).copied().unwrap_or(0);
        let column = self.characters(offset) - self.characters(start) + 1;
        Position { line, column }
    }

    /// The lines around a span, without the newline at the end: `before` more above and `after` more below.
    #[must_use]
    pub fn lines_around(&self, start: u32, end: u32, before: u32, after: u32) -> Range<usize> {
        let first = (self.line(start) - 1).saturating_sub(before);
        let next = self.line(end).saturating_add(after);
        let text_end = self.text.len();
        let from = self.lines.get(first as usize).map_or(text_end, |&start| start as usize);
        let to = self.lines.get(next as usize).map_or(text_end, |&start| start as usize - 1);
        from..to
    }

    /// How many characters begin before a byte.
    fn characters(&self, offset: u32) -> u32 {
        let offset = (offset as usize).min(self.text.len());
        let block = offset / BLOCK;
        let rest = self.text.as_bytes().get(block * BLOCK..offset).unwrap_or_default();
        self.blocks.get(block).copied().unwrap_or(0) + characters(rest)
    }

    /// The text of a span of this file.
    #[must_use]
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or_default()
    }
}

/// All files of a program, in the order in which they were found.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<Source>,
}

impl Sources {
    /// Takes a file in.
    ///
    /// A file that is not UTF-8, or not shorter than 4 GiB, is refused as a whole: the diagnostics say
    /// why, and [`Source::is_readable`] is false.
    pub fn add(&mut self, name: impl Into<String>, bytes: Vec<u8>) -> (FileId, Vec<Diagnostic>) {
        let id = FileId::new(count(self.files.len()));
        let (text, diagnostics) = match String::from_utf8(bytes) {
            Ok(text) if u32::try_from(text.len()).is_ok() => (text, Vec::new()),
            Ok(_) => (String::new(), vec![too_long(id)]),
            Err(error) => not_utf8(id, error.utf8_error(), error.as_bytes()),
        };
        let newlines = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
        let lines = std::iter::once(0).chain(newlines.map(|(at, _)| count(at + 1))).collect();
        let blocks = blocks(&text);
        self.files.push(Source { name: name.into(), text, lines, blocks, readable: diagnostics.is_empty() });
        (id, diagnostics)
    }

    /// A file. `None` only for an id of other `Sources`.
    #[must_use]
    pub fn get(&self, id: FileId) -> Option<&Source> {
        self.files.get(id.index())
    }

    /// All files with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (FileId, &Source)> {
        self.files.iter().enumerate().map(|(i, source)| (FileId::new(count(i)), source))
    }

    /// The text of a span; empty for a span of other `Sources`.
    #[must_use]
    pub fn slice(&self, span: Span) -> &str {
        self.get(span.file).map_or("", |source| source.slice(span))
    }
}

fn blocks(text: &str) -> Vec<u32> {
    let mut before = 0;
    let counts = text.as_bytes().chunks(BLOCK).map(|block| {
        before += characters(block);
        before
    });
    std::iter::once(0).chain(counts).collect()
}

/// Bytes that begin a character: all but those that go on with one.
fn characters(bytes: &[u8]) -> u32 {
    count(bytes.iter().filter(|&&byte| byte & 0b1100_0000 != 0b1000_0000).count())
}

fn too_long(file: FileId) -> Diagnostic {
    Diagnostic::new(Code::Syntax, "the file is larger than 4 GiB")
        .label(Span { file, start: 0, end: 0 }, "nothing of it was read")
        .help("split it: all files that are given or imported are one program")
}

/// What can be shown of the file, and where it stops being UTF-8.
fn not_utf8(file: FileId, error: std::str::Utf8Error, bytes: &[u8]) -> (String, Vec<Diagnostic>) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let start = count(error.valid_up_to());
    let shown = u32::try_from(text.len()).is_ok();
    let span = if shown { Span { file, start, end: start + 3 } } else { Span { file, start: 0, end: 0 } };
    let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let help = if utf16 { "it looks like UTF-16: save it as UTF-8" } else { "save the file as UTF-8" };
    let diagnostic = Diagnostic::new(Code::Syntax, "the file is not UTF-8 text")
        .label(span, "the first byte that is not")
        .help(help);
    (if shown { text } else { String::new() }, vec![diagnostic])
}

/// Texts are shorter than 4 GiB (`Sources::add` sees to it), and so are their lines.
fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let mut sources = Sources::default();
        let (id, _) = sources.add("a", "é x\ny".as_bytes().to_vec());
        let source = sources.get(id).unwrap();
        assert_eq!(source.position(3), Position { line: 1, column: 3 });
        assert_eq!(source.position(5), Position { line: 2, column: 1 });
        assert_eq!(source.position(6), Position { line: 2, column: 2 });
    }

    #[test]
    fn columns_are_right_in_a_line_of_many_blocks() {
        let mut sources = Sources::default();
        let (id, _) = sources.add("a", "é".repeat(BLOCK).into_bytes());
        let source = sources.get(id).unwrap();
        assert_eq!(source.position(2 * 4000), Position { line: 1, column: 4001 });
        assert_eq!(source.position(2 * BLOCK as u32), Position { line: 1, column: BLOCK as u32 + 1 });
    }

    #[test]
    fn the_lines_around_a_place() {
        let mut sources = Sources::default();
        let (id, _) = sources.add("a", b"one\ntwo\nthree\nfour".to_vec());
        let source = sources.get(id).unwrap();
        let around = |start, end, n| source.text.get(source.lines_around(start, end, n, n)).unwrap();
        assert_eq!(around(5, 6, 0), "two");
        assert_eq!(around(5, 6, 1), "one\ntwo\nthree");
        assert_eq!(around(0, 18, 9), source.text);
        assert_eq!(around(18, 18, 0), "four");
    }

    #[test]
    fn a_file_that_is_not_utf8_is_refused_with_its_place() {
        let mut sources = Sources::default();
        let (id, diagnostics) = sources.add("a", b"mesh \xff x".to_vec());
        assert!(!sources.get(id).unwrap().is_readable());
        assert_eq!(sources.slice(diagnostics[0].span().unwrap()), "\u{fffd}");
    }

    #[test]
    fn utf16_is_recognised() {
        let (_, diagnostics) = Sources::default().add("a", b"\xff\xfem\0".to_vec());
        assert_eq!(diagnostics[0].help.as_deref(), Some("it looks like UTF-16: save it as UTF-8"));
    }
}
