//! How far statements are indented, which shows what was meant where a brace is missing.

use mesh_grammar::scan::Piece;

/// How far statements are indented. They are asked about in order, so that each byte is looked at once.
pub(super) struct Indent<'t> {
    text: &'t str,
    seen: u32,
    line: u32,
}

impl<'t> Indent<'t> {
    pub(super) const fn new(text: &'t str) -> Self {
        Self { text, seen: 0, line: 0 }
    }

    pub(super) fn column(&mut self, start: u32) -> u32 {
        let gap = self.text.as_bytes().get(self.seen as usize..start as usize).unwrap_or_default();
        if let Some(newline) = gap.iter().rposition(|&byte| byte == b'\n') {
            self.line = self.seen + u32::try_from(newline).unwrap_or(0) + 1;
        }
        self.seen = self.seen.max(start);
        start.saturating_sub(self.line)
    }

    /// Whether the next piece is indented further than `column`, like what is in a block.
    pub(super) fn is_deeper(&self, next: Option<&Piece>, column: u32) -> bool {
        let Some(Piece::Statement(extent) | Piece::Head { extent, .. }) = next else { return false };
        let mut ahead = Indent { text: self.text, seen: self.seen, line: self.line };
        ahead.column(extent.start) > column
    }
}
