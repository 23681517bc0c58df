//! The lines around a place, found without walking the whole file.

use mesh_compiler::source::Source;
use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

/// Bytes of source that a snippet shows at the most: nobody could read more.
const LONGEST: usize = 2000;

/// Bytes that are shown on both sides of a place in an endless line.
const BESIDE: usize = 40;

/// A source file as miette reads it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Snippet<'a> {
    source: &'a Source,
    /// Its text as it may be shown, of the same length.
    shown: &'a str,
}

impl<'a> Snippet<'a> {
    pub(super) const fn new(source: &'a Source, shown: &'a str) -> Self {
        Self { source, shown }
    }
}

impl SourceCode for Snippet<'_> {
    fn read_span<'b>(
        &'b self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'b> + 'b>, MietteError> {
        let text = self.shown;
        let (first, last) = (span.offset().min(text.len()), (span.offset() + span.len()).min(text.len()));
        // A span that ends with its newline does not reach into the next line.
        let inside = if last > first { last - 1 } else { last };
        let lines = self.source.lines_around(small(first), small(inside), small(before), small(after));
        let (mut start, mut end) = (lines.start, lines.end.max(last));
        if end - start > LONGEST {
            start = text.floor_char_boundary(first.saturating_sub(BESIDE).max(start));
            end = text.ceil_char_boundary((last + BESIDE).min(end));
        }
        if end - start > LONGEST {
            return Err(MietteError::OutOfBounds);
        }
        // Without lines around it, miette asks only for the place to print in the headline of a snippet.
        let place = if before == 0 && after == 0 { first } else { start };
        let position = self.source.position(small(place));
        let data = text.as_bytes().get(start..end).unwrap_or_default();
        Ok(Box::new(MietteSpanContents::new_named(
            self.source.name.clone(),
            data,
            (start, end - start).into(),
            (position.line as usize).saturating_sub(1),
            (position.column as usize).saturating_sub(1),
            data.iter().filter(|&&byte| byte == b'\n').count() + 1,
        )))
    }
}

/// Sources are shorter than 4 GiB.
fn small(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
