//! Places in a text, as editors count them: lines from 0, and UTF-16 units within a line.

use lsp_types::{Position, Range};

/// A text with the starts of its lines.
#[derive(Clone, Debug)]
pub struct Text<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Text<'t> {
    /// Finds the lines. They end with `\n`, `\r\n` or `\r`.
    #[must_use]
    pub fn new(text: &'t str) -> Self {
        let bytes = text.as_bytes();
        let ends = bytes.iter().enumerate().filter(|&(at, &byte)| match byte {
            b'\n' => true,
            b'\r' => bytes.get(at + 1) != Some(&b'\n'),
            _ => false,
        });
        Self { text, starts: std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect() }
    }

    /// The place of a byte. One within a character is where that begins, one behind the text is its end.
    #[must_use]
    pub fn position(&self, offset: usize) -> Position {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.starts.partition_point(|&start| start <= offset).saturating_sub(1);
        let start = self.starts.get(line).copied().unwrap_or(0);
        let before = self.text.get(start..offset).unwrap_or_default();
        Position { line: count(line), character: count(before.chars().map(char::len_utf16).sum()) }
    }

    /// The byte of a place. What lies behind a line is its end, and what lies behind the text is the text's.
    #[must_use]
    pub fn offset(&self, position: Position) -> usize {
        let line = position.line as usize;
        let Some(&start) = self.starts.get(line) else { return self.text.len() };
        let next = self.starts.get(line + 1).copied().unwrap_or(self.text.len());
        let line = self.text.get(start..next).unwrap_or_default().trim_end_matches(['\n', '\r']);
        let mut units = 0;
        for (at, character) in line.char_indices() {
            units += count(character.len_utf16());
            if units > position.character {
                return start + at;
            }
        }
        start + line.len()
    }

    /// The place of some bytes.
    #[must_use]
    pub fn range(&self, start: usize, end: usize) -> Range {
        Range { start: self.position(start), end: self.position(end) }
    }

    /// The end of the text.
    #[must_use]
    pub fn end(&self) -> Position {
        self.position(self.text.len())
    }
}

/// Texts are shorter than 4 GiB where anything is said of them.
fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(line: u32, character: u32) -> Position {
        Position { line, character }
    }

    #[test]
    fn characters_are_counted_in_utf16() {
        let text = Text::new("# aé→𝄞x\ny");
        for (offset, place) in [
            (2, at(0, 2)),
            (3, at(0, 3)),
            (5, at(0, 4)),
            (8, at(0, 5)),
            (12, at(0, 7)),
            (13, at(0, 8)),
            (14, at(1, 0)),
            (15, at(1, 1)),
        ] {
            assert_eq!(text.position(offset), place, "{offset}");
            assert_eq!(text.offset(place), offset, "{place:?}");
        }
        // Within a character, behind a line, behind the text.
        assert_eq!(text.position(4), at(0, 3));
        assert_eq!(text.offset(at(0, 6)), 8);
        assert_eq!(text.offset(at(0, 99)), 13);
        assert_eq!(text.offset(at(9, 0)), 15);
        assert_eq!(text.position(99), at(1, 1));
    }

    #[test]
    fn lines_end_in_three_ways() {
        let text = Text::new("a\r\nb\rc\n");
        assert_eq!([3, 5, 7].map(|offset| text.position(offset)), [at(1, 0), at(2, 0), at(3, 0)]);
        assert_eq!(text.offset(at(0, 9)), 1);
        assert_eq!(text.end(), at(3, 0));
    }
}
