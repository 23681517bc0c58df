//! Nodes to text.

use super::statement::{Item, Part, has_comment, parts};
use super::tree::{Block, Node};

/// How wide a line may be, in characters, before its lists are broken.
const WIDTH: usize = 100;
/// One step of indentation, in spaces.
const STEP: usize = 4;
/// Spaces before a comment on the line of a statement, at least.
const BEFORE_COMMENT: usize = 2;

/// One line of the result.
#[derive(Debug, Default)]
struct Line {
    indent: usize,
    text: String,
    comment: Option<String>,
}

/// The text of a whole file.
pub(super) fn lay_out(text: &str, nodes: &[Node]) -> String {
    let mut layout = Layout { text, lines: Vec::new() };
    layout.nodes(nodes, 0);
    layout.finish()
}

struct Layout<'t> {
    text: &'t str,
    lines: Vec<Line>,
}

impl Layout<'_> {
    fn nodes(&mut self, nodes: &[Node], indent: usize) {
        for node in nodes {
            match node {
                Node::Comment { text, gap } => {
                    self.gap(*gap);
                    self.lines.push(Line { indent, text: text.clone(), comment: None });
                }
                Node::Statement { extent, inner, gap, after } => {
                    self.gap(*gap);
                    let parts = parts(self.text, *extent, inner);
                    self.statement(&parts, indent, "", after.clone());
                }
                Node::Block(block) => self.block(block, indent),
            }
        }
    }

    fn block(&mut self, block: &Block, indent: usize) {
        self.gap(block.gap);
        let head = parts(self.text, block.head, &block.inner);
        if let Some(line) = self.one_line(block, &head, indent) {
            self.lines.push(Line { indent, text: line, comment: block.after.clone() });
            return;
        }
        self.statement(&head, indent, " {", block.opening.clone());
        self.nodes(&block.children, indent + STEP);
        self.lines.push(Line { indent, text: "}".to_owned(), comment: block.after.clone() });
    }

    /// A block that fits on one line.
    fn one_line(&self, block: &Block, head: &[Part<'_>], indent: usize) -> Option<String> {
        if block.opening.is_some() {
            return None;
        }
        let inner = match block.children.as_slice() {
            [] => String::new(),
            [Node::Statement { extent, inner, after: None, .. }] => {
                format!(" {} ", flat(&parts(self.text, *extent, inner))?)
            }
            _ => return None,
        };
        let line = format!("{} {{{inner}}}", flat(head)?);
        (indent + width(&line) <= WIDTH).then_some(line)
    }

    /// A statement on one line, or with its longest lists broken until the rest fits.
    fn statement(&mut self, parts: &[Part<'_>], indent: usize, end: &str, after: Option<String>) {
        let mut broken: Vec<bool> = parts.iter().map(has_comment).collect();
        while first_overflow(parts, &broken, indent, end) {
            let longest = (parts.iter().enumerate().zip(&broken))
                .filter(|((_, part), broken)| !**broken && matches!(part, Part::List(_)))
                .max_by_key(|((_, part), _)| part_width(part));
            let Some(((i, _), _)) = longest else { break };
            if let Some(broken) = broken.get_mut(i) {
                *broken = true;
            }
        }
        let mut line = Line { indent, ..Line::default() };
        for (part, broken) in parts.iter().zip(broken) {
            line = match part {
                Part::Words(words) => add(line, &words.join(" ")),
                Part::List(items) if broken => self.broken_list(line, items, indent),
                Part::List(items) => add(line, &flat_list(items)),
                Part::Comment { text, alone } => self.broken_line(line, text, *alone, indent),
            };
        }
        line.text.push_str(end);
        line.comment = after;
        self.lines.push(line);
    }

    /// `[`, an item a line, and the `]` with which the next line begins.
    fn broken_list(&mut self, line: Line, items: &[Item<'_>], indent: usize) -> Line {
        self.lines.push(add(line, "["));
        let inner = indent + STEP;
        for item in items {
            let before = item.before.iter().map(|text| Line {
                indent: inner,
                text: (*text).to_owned(),
                comment: None,
            });
            self.lines.extend(before);
            let comment = item.after.map(str::to_owned);
            if item.words.is_empty() {
                self.lines.extend(comment.map(|text| Line { indent: inner, text, comment: None }));
            } else {
                self.lines.push(Line { indent: inner, text: format!("{},", item.words.join(" ")), comment });
            }
        }
        Line { indent, text: "]".to_owned(), comment: None }
    }

    /// A comment ends its line; the statement goes on in the next.
    fn broken_line(&mut self, line: Line, comment: &str, alone: bool, indent: usize) -> Line {
        let inner = indent + STEP;
        if alone || line.text.is_empty() {
            if !line.text.is_empty() {
                self.lines.push(line);
            }
            self.lines.push(Line { indent: inner, text: comment.to_owned(), comment: None });
        } else {
            self.lines.push(Line { comment: Some(comment.to_owned()), ..line });
        }
        Line { indent: inner, ..Line::default() }
    }

    fn gap(&mut self, gap: bool) {
        if gap {
            self.lines.push(Line::default());
        }
    }

    /// Puts lines together; comments after statements of one paragraph begin in one column.
    fn finish(self) -> String {
        let mut out = String::new();
        for paragraph in
            self.lines.chunk_by(|a, b| a.indent == b.indent && !a.text.is_empty() && !b.text.is_empty())
        {
            let commented = paragraph.iter().filter(|line| line.comment.is_some());
            let column = commented.map(|line| width(&line.text)).max().unwrap_or(0) + BEFORE_COMMENT;
            for line in paragraph {
                let indent = if line.text.is_empty() { 0 } else { line.indent };
                out.extend(std::iter::repeat_n(' ', indent));
                out.push_str(&line.text);
                if let Some(comment) = &line.comment {
                    out.extend(std::iter::repeat_n(' ', column - width(&line.text)));
                    out.push_str(comment);
                }
                out.push('\n');
            }
        }
        out
    }
}

fn add(mut line: Line, text: &str) -> Line {
    if !line.text.is_empty() {
        line.text.push(' ');
    }
    line.text.push_str(text);
    line
}

/// All parts on one line; `None` where a comment forbids that.
fn flat(parts: &[Part<'_>]) -> Option<String> {
    let mut texts = Vec::with_capacity(parts.len());
    for part in parts {
        texts.push(match part {
            _ if has_comment(part) => return None,
            Part::Words(words) => words.join(" "),
            Part::List(items) => flat_list(items),
            Part::Comment { .. } => return None,
        });
    }
    Some(texts.join(" "))
}

fn flat_list(items: &[Item<'_>]) -> String {
    let items: Vec<String> = items.iter().map(|item| item.words.join(" ")).collect();
    items.join(", ")
}

fn part_width(part: &Part<'_>) -> usize {
    match part {
        Part::Words(words) => words.iter().map(|word| width(word) + 1).sum(),
        Part::List(items) => items.iter().flat_map(|item| &item.words).map(|word| width(word) + 2).sum(),
        Part::Comment { .. } => 0,
    }
}

/// Whether a line of the statement is too wide with these lists broken.
fn first_overflow(parts: &[Part<'_>], broken: &[bool], indent: usize, end: &str) -> bool {
    let mut line = indent;
    for (part, broken) in parts.iter().zip(broken) {
        if *broken {
            if line > WIDTH {
                return true;
            }
            line = indent + 1;
        } else {
            line += part_width(part);
        }
    }
    line + width(end) > WIDTH + 1
}

fn width(text: &str) -> usize {
    text.chars().count()
}
