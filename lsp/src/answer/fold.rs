//! How a file nests: what can be folded, and what is selected around a place.

use lsp_types::{FoldingRange, FoldingRangeKind, SelectionRange};
use mesh_compiler::source::Span;
use mesh_grammar::scan::{Extent, Piece, Scan, scan};

use super::{View, range};
use crate::text::Text;

/// Blocks, lists of many lines, and comments and imports that follow each other.
pub fn folds(view: View<'_>) -> Vec<FoldingRange> {
    let source = view.text();
    let (text, cut) = (Text::new(source), scan(source));
    let mut folds = Vec::new();
    let mut fold = |start: u32, end: u32, kind: Option<FoldingRangeKind>| {
        let (start_line, end_line) = (text.position(start as usize).line, text.position(end as usize).line);
        // The first line stays, and of a block the last one, too.
        let end_line = if kind.is_none() { end_line.saturating_sub(1) } else { end_line };
        if start_line < end_line {
            folds.push(FoldingRange { start_line, end_line, kind, ..FoldingRange::default() });
        }
    };
    for (head, close) in blocks(&cut) {
        fold(head.start, close, None);
    }
    for piece in &cut.pieces {
        if let Piece::Statement(extent) = piece
            && extent.of(source).ends_with(']')
        {
            fold(extent.start, extent.end.saturating_sub(1), None);
        }
    }
    let comments = cut.comments.iter().filter(|comment| comment.alone).map(|comment| comment.extent);
    let imports = cut.pieces.iter().filter_map(|piece| match piece {
        Piece::Statement(extent) if extent.of(source).starts_with("import") => Some(*extent),
        _ => None,
    });
    let is_blank = |from: u32, to: u32| {
        let between = source.get(from as usize..to as usize).unwrap_or_default();
        between.trim().is_empty() && between.matches('\n').count() <= 1
    };
    for (kind, extents) in [
        (FoldingRangeKind::Comment, comments.collect::<Vec<_>>()),
        (FoldingRangeKind::Imports, imports.collect()),
    ] {
        for run in extents.chunk_by(|one, next| is_blank(one.end, next.start)) {
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                fold(first.start, last.end, Some(kind.clone()));
            }
        }
    }
    folds.sort_by_key(|fold| (fold.start_line, std::cmp::Reverse(fold.end_line)));
    folds
}

/// The heads of blocks, and where each is closed.
fn blocks(cut: &Scan) -> Vec<(Extent, u32)> {
    let mut open = Vec::new();
    let mut blocks = Vec::new();
    for piece in &cut.pieces {
        match piece {
            Piece::Head { extent, brace } => {
                open.push(Extent { start: extent.start.min(*brace), end: extent.end })
            }
            Piece::Close(brace) => blocks.extend(open.pop().map(|head| (head, *brace))),
            Piece::Statement(_) => {}
        }
    }
    blocks
}

/// From the word at a place outwards: its list, its statement, the blocks around it, the file.
pub fn selection(view: View<'_>, offset: usize) -> SelectionRange {
    let source = view.text();
    let (text, cut) = (Text::new(source), scan(source));
    let at = u32::try_from(offset).unwrap_or(u32::MAX);
    let mut around = vec![(0, u32::try_from(source.len()).unwrap_or(u32::MAX))];
    for (head, close) in blocks(&cut) {
        around.push((head.start, close + 1));
        around.push((head.start, head.end));
        // What is in it.
        let inner = source.get(head.end as usize..close as usize).unwrap_or_default();
        let begins = inner.find('{').map_or(0, |brace| brace + 1);
        let rest = inner.get(begins..).unwrap_or_default();
        let first = head.end + count(begins + rest.len() - rest.trim_start().len());
        around.push((first, first + count(rest.trim().len())));
    }
    for piece in &cut.pieces {
        if let Piece::Statement(extent) = piece {
            around.push((extent.start, extent.end));
            let words = extent.of(source);
            if let (Some(open), Some(close)) = (words.find('['), words.rfind(']')) {
                around.push((extent.start + count(open), extent.start + count(close) + 1));
            }
        }
    }
    around.extend(cut.comments.iter().map(|comment| (comment.extent.start, comment.extent.end)));
    around.push(word(source, offset));
    around.retain(|&(start, end)| start <= at && at <= end && start < end);
    // Wider ones first; of what only touches, nothing is within the next.
    around.sort_by_key(|&(start, end)| (std::cmp::Reverse(end - start), start));
    around.dedup();
    let mut selection: Option<SelectionRange> = None;
    let mut outer = (0, u32::MAX);
    for (start, end) in around {
        if outer.0 <= start && end <= outer.1 {
            outer = (start, end);
            let range = range(&text, Span { file: view.file, start, end });
            selection = Some(SelectionRange { range, parent: selection.map(Box::new) });
        }
    }
    selection.unwrap_or_else(|| SelectionRange { range: text.range(offset, offset), parent: None })
}

/// The word at a place, or what is in quotes there.
fn word(source: &str, offset: usize) -> (u32, u32) {
    let is_in = |it: char| it.is_alphanumeric() || "_-./:%".contains(it);
    let before = source.get(..offset).unwrap_or_default();
    let after = source.get(offset..).unwrap_or_default();
    let start = before.trim_end_matches(is_in).len();
    let end = source.len() - after.trim_start_matches(is_in).len();
    (count(start), count(end))
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
