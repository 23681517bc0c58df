//! A file as statements, blocks and comments that lie in each other.

use mesh_grammar::scan::{Comment, Extent, Piece, Scan};

/// Something that stands in a file or a block.
#[derive(Debug)]
pub(super) enum Node {
    /// A comment on a line of its own.
    Comment { text: String, gap: bool },
    /// A statement without a block.
    Statement { extent: Extent, inner: Vec<Comment>, gap: bool, after: Option<String> },
    /// A statement with one.
    Block(Block),
}

#[derive(Debug)]
pub(super) struct Block {
    pub(super) head: Extent,
    pub(super) inner: Vec<Comment>,
    /// Whether an empty line stands before it.
    pub(super) gap: bool,
    /// The comment after `{`.
    pub(super) opening: Option<String>,
    pub(super) children: Vec<Node>,
    /// The comment after `}`.
    pub(super) after: Option<String>,
}

/// Statements, blocks and comments as they lie in each other.
pub(super) fn tree(text: &str, scan: &Scan) -> Vec<Node> {
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
