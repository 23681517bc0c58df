//! Words and marks of a statement, also of one that cannot be read.

/// The token at a byte of a statement, and where it starts. Words are taken whole, also where a part of
/// one was understood.
pub(super) fn token_at(words: &str, at: usize) -> (usize, &str) {
    let Some(rest) = words.get(at..).filter(|rest| !rest.is_empty()) else { return (at, "") };
    let Some(first) = rest.chars().next() else { return (at, "") };
    if first == '"' {
        let len = rest.get(1..).and_then(|text| text.find(['"', '\n'])).map_or(rest.len(), |len| len + 2);
        return (at, rest.get(..len).unwrap_or(rest));
    }
    if let Some(arrow) = ["->", "<->"].into_iter().find(|arrow| rest.starts_with(arrow)) {
        return (at, rest.get(..arrow.len()).unwrap_or_default());
    }
    if !in_word(first) {
        return (at, rest.get(..first.len_utf8()).unwrap_or_default());
    }
    let before = words.get(..at).unwrap_or_default();
    let start = before.trim_end_matches(in_word).len();
    let token = words.get(start..).unwrap_or_default();
    let len = token.find(|c| !in_word(c)).unwrap_or(token.len());
    let token = token.get(..len).unwrap_or_default();
    let arrow = words.get(start + len..).is_some_and(|rest| rest.starts_with('>'));
    (start, if arrow { token.strip_suffix('-').unwrap_or(token) } else { token })
}

/// Whether words of the language, and what is written like them, may have this character.
pub(super) fn in_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/' | '%')
}
