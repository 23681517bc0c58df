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

use mesh_grammar::scan::{Comment, Extent, Piece, Scan, scan};

use crate::diag::Diagnostic;
use crate::parse::parse_file;
use crate::source::FileId;

/// Something that stands in a file or a block.
#[derive(Debug)]
enum Node {
    /// A comment on a line of its own.
    Comment { text: String, gap: bool },
    /// A statement without a block.
    Statement { extent: Extent, inner: Vec<Comment>, gap: bool, after: Option<String> },
    /// A statement with one.
    Block(Block),
}

#[derive(Debug)]
struct Block {
    head: Extent,
    inner: Vec<Comment>,
    /// Whether an empty line stands before it.
    gap: bool,
    /// The comment after `{`.
    opening: Option<String>,
    children: Vec<Node>,
    /// The comment after `}`.
    after: Option<String>,
}

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
    Ok(layout::lay_out(text, &tree(text, &scan)))
}

/// Statements, blocks and comments as they lie in each other.
fn tree(text: &str, scan: &Scan) -> Vec<Node> {
    let mut builder = Builder { text, comments: &scan.comments, end: 0, open: Vec::new(), nodes: Vec::new() };
    for &piece in &scan.pieces {
        match piece {
            Piece::Statement(extent) => {
                let (gap, inner) = builder.advance(extent);
                builder.nodes.push(Node::Statement { extent, inner, gap, after: None });
                builder.end = extent.end;
            }
            Piece::Head { extent, brace } => {
                let (gap, inner) = builder.advance(extent);
                let nodes = std::mem::take(&mut builder.nodes);
                let block =
                    Block { head: extent, inner, gap, opening: None, children: Vec::new(), after: None };
                builder.open.push((block, nodes));
                builder.end = brace + 1;
            }
            Piece::Close(brace) => {
                builder.comments_before(brace);
                if let Some((block, before)) = builder.open.pop() {
                    let children = std::mem::replace(&mut builder.nodes, before);
                    builder.nodes.push(Node::Block(Block { children, ..block }));
                }
                builder.end = brace + 1;
            }
        }
    }
    builder.comments_before(u32::MAX);
    builder.nodes
}

struct Builder<'t> {
    text: &'t str,
    /// Those that are not placed yet.
    comments: &'t [Comment],
    /// The end of what was placed last.
    end: u32,
    /// Blocks that are open, each with the nodes that stand before it.
    open: Vec<(Block, Vec<Node>)>,
    /// Nodes of the innermost open block so far.
    nodes: Vec<Node>,
}

impl Builder<'_> {
    /// Places the comments before a statement; gives back whether an empty line stands before it, and the
    /// comments within it.
    fn advance(&mut self, extent: Extent) -> (bool, Vec<Comment>) {
        self.comments_before(extent.start);
        let within = self.comments.iter().take_while(|comment| comment.extent.start < extent.end).count();
        let (inner, rest) = self.comments.split_at(within);
        self.comments = rest;
        (self.gap(extent.start), inner.to_vec())
    }

    fn comments_before(&mut self, start: u32) {
        while let Some((comment, rest)) = self.comments.split_first() {
            if comment.extent.start >= start {
                break;
            }
            self.comments = rest;
            let gap = self.gap(comment.extent.start);
            let text = comment.extent.of(self.text).trim_end().to_owned();
            let text = if comment.alone { Some(text) } else { self.attach(text) };
            self.nodes.extend(text.map(|text| Node::Comment { text, gap }));
            self.end = comment.extent.end;
        }
    }

    /// Puts a comment after what stands before it on the line; gives it back where nothing does.
    fn attach(&mut self, text: String) -> Option<String> {
        let slot = match self.nodes.last_mut() {
            Some(Node::Statement { after, .. } | Node::Block(Block { after, .. })) => after,
            Some(Node::Comment { .. }) => return Some(text),
            None => match self.open.last_mut() {
                Some((block, _)) => &mut block.opening,
                None => return Some(text),
            },
        };
        if slot.is_some() {
            return Some(text);
        }
        *slot = Some(text);
        None
    }

    /// Whether an empty line stands between what was placed last and `start`. None stands at the start of a
    /// file or block.
    fn gap(&self, start: u32) -> bool {
        let between = self.text.get(self.end as usize..start as usize).unwrap_or_default();
        let first = self.nodes.is_empty();
        !first && between.bytes().filter(|&byte| byte == b'\n').count() > 1
    }
}
