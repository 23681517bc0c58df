//! One statement, or the head of a block, as tokens and lists.

use mesh_grammar::scan::{Comment, Extent};

/// A part of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part<'t> {
    /// Tokens that stand on one line.
    Words(Vec<&'t str>),
    /// Items with commas between them.
    List(Vec<Item<'t>>),
    /// A comment outside of a list; the statement goes on in the next line.
    Comment { text: &'t str, alone: bool },
}

/// An item of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Item<'t> {
    /// Comments on lines of their own before it.
    pub(super) before: Vec<&'t str>,
    /// Its tokens; none where only comments are left at the end of a list.
    pub(super) words: Vec<&'t str>,
    /// The comment on its line.
    pub(super) after: Option<&'t str>,
}

impl Item<'_> {
    fn has_comment(&self) -> bool {
        self.after.is_some() || !self.before.is_empty()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'t> {
    Word(&'t str),
    Comma,
    Open,
    Close,
    Comment { text: &'t str, alone: bool },
}

/// The parts of a statement. Brackets and last commas are dropped: the layout decides about them.
pub(super) fn parts<'t>(text: &'t str, extent: Extent, comments: &[Comment]) -> Vec<Part<'t>> {
    let tokens = tokens(text, extent, comments);
    let is_set = tokens.first() == Some(&Token::Word("set"));
    let mut reader = Reader { tokens: &tokens, at: 0, parts: Vec::new() };
    while reader.at < tokens.len() {
        reader.part(is_set);
    }
    reader.parts
}

/// Whether a part holds a comment, so that it cannot stand on one line.
pub(super) fn has_comment(part: &Part<'_>) -> bool {
    match part {
        Part::Words(_) => false,
        Part::List(items) => items.iter().any(Item::has_comment),
        Part::Comment { .. } => true,
    }
}

/// Begins an item of two words: `service shop/cart`.
const SERVICE: Token<'static> = Token::Word("service");

struct Reader<'t, 'r> {
    tokens: &'r [Token<'t>],
    at: usize,
    parts: Vec<Part<'t>>,
}

impl<'t> Reader<'t, '_> {
    fn part(&mut self, is_set: bool) {
        match self.tokens.get(self.at) {
            Some(&Token::Comment { text, alone }) => {
                self.at += 1;
                self.parts.push(Part::Comment { text, alone });
            }
            Some(Token::Word(word)) if !self.begins_list() => {
                self.at += 1;
                self.word(word);
                if is_set && *word == "=" {
                    self.comments();
                    self.list(true);
                }
            }
            _ => self.list(false),
        }
    }

    fn word(&mut self, word: &'t str) {
        if let Some(Part::Words(words)) = self.parts.last_mut() {
            words.push(word);
        } else {
            self.parts.push(Part::Words(vec![word]));
        }
    }

    /// Comments between a word and a list stay outside of the list.
    fn comments(&mut self) {
        while let Some(&Token::Comment { text, alone }) = self.tokens.get(self.at) {
            self.at += 1;
            self.parts.push(Part::Comment { text, alone });
        }
    }

    /// Whether a list begins at this word: a comma follows it, or the name of the service that it begins.
    fn begins_list(&self) -> bool {
        let rest = self.tokens.get(self.at + 1..).unwrap_or_default();
        let is_service = self.tokens.get(self.at) == Some(&SERVICE);
        let mut rest = rest.iter().filter(|token| !is_service || !matches!(token, Token::Comment { .. }));
        match rest.next() {
            Some(Token::Comma) => true,
            Some(Token::Word(_)) if is_service => rest.next() == Some(&Token::Comma),
            _ => false,
        }
    }

    /// Reads items up to the end of the list; `whole`: up to the end of the statement, with brackets around
    /// all or around the ports of one protocol.
    fn list(&mut self, whole: bool) {
        let mut items: Vec<Item<'t>> = vec![Item::default()];
        // Comments below an item are those above the next.
        let mut below = Vec::new();
        let mut depth = 0usize;
        while let Some(token) = self.tokens.get(self.at).copied() {
            match token {
                Token::Open => depth += 1,
                Token::Close => depth = depth.saturating_sub(1),
                Token::Comma => items.push(Item { before: std::mem::take(&mut below), ..Item::default() }),
                Token::Comment { text, alone } => below.extend(beside(&mut items, text, alone)),
                Token::Word(word) => {
                    if let Some(item) = items.last_mut() {
                        item.words.push(word);
                    }
                }
            }
            self.at += 1;
            if !whole && depth == 0 && self.ends_after(token) {
                break;
            }
        }
        items.push(Item { before: below, ..Item::default() });
        items.retain(|item| !item.words.is_empty() || item.has_comment());
        match items.as_slice() {
            [only] if !only.has_comment() => only.words.iter().for_each(|word| self.word(word)),
            _ => self.parts.push(Part::List(items)),
        }
    }

    /// Outside of brackets a list ends where no comma follows an item.
    fn ends_after(&self, token: Token<'t>) -> bool {
        if matches!(token, Token::Comma | Token::Comment { .. }) {
            return false;
        }
        // A comment after an item belongs to it only if the list goes on behind it.
        let mut rest = self.tokens.get(self.at..).unwrap_or_default().iter();
        match rest.find(|token| !matches!(token, Token::Comment { .. })) {
            Some(Token::Comma) => false,
            // The name of a service, which is the same item.
            Some(Token::Word(_)) => token != SERVICE,
            _ => true,
        }
    }
}

/// Puts a comment beside the item on whose line it stands, or above the one that begins; gives it back
/// where it stands below an item.
fn beside<'t>(items: &mut [Item<'t>], text: &'t str, alone: bool) -> Option<&'t str> {
    let begins = items.last().is_some_and(|item| item.words.is_empty());
    let last = items.len().checked_sub(if begins { 2 } else { 1 });
    if let Some(item) = last.and_then(|i| items.get_mut(i)).filter(|item| !alone && item.after.is_none()) {
        item.after = Some(text);
        return None;
    }
    let item = items.last_mut().filter(|_| begins);
    match item {
        Some(item) => item.before.push(text),
        None => return Some(text),
    }
    None
}

fn tokens<'t>(text: &'t str, extent: Extent, comments: &[Comment]) -> Vec<Token<'t>> {
    let mut tokens = Vec::new();
    let mut at = extent.start as usize;
    let mut comments = comments.iter();
    let end = extent.end as usize;
    while let Some(rest) = text.get(at..end) {
        let Some(first) = rest.chars().next() else { break };
        let len = match first {
            '#' => {
                let Some(comment) = comments.next() else { break };
                let shown = comment.extent.of(text);
                tokens.push(Token::Comment { text: shown.trim_end(), alone: comment.alone });
                shown.len()
            }
            _ if first.is_whitespace() => first.len_utf8(),
            ',' | '[' | ']' => {
                tokens.push(match first {
                    ',' => Token::Comma,
                    '[' => Token::Open,
                    _ => Token::Close,
                });
                1
            }
            _ => {
                let len = word_len(rest, first);
                tokens.extend(rest.get(..len).map(Token::Word));
                len
            }
        };
        at += len;
    }
    tokens
}

fn word_len(rest: &str, first: char) -> usize {
    if first == '"' {
        return rest.get(1..).and_then(|inner| inner.find('"')).map_or(rest.len(), |len| len + 2);
    }
    if let Some(arrow) = ["->", "<->", "="].into_iter().find(|arrow| rest.starts_with(arrow)) {
        return arrow.len();
    }
    let ends = |(at, c): (usize, char)| {
        let arrow = c == '<' || (c == '-' && rest.get(at + 1..).is_some_and(|rest| rest.starts_with('>')));
        (arrow || c.is_whitespace() || matches!(c, ',' | '[' | ']' | '"' | '=' | '#')).then_some(at)
    };
    rest.char_indices().skip(1).find_map(ends).unwrap_or(rest.len())
}
