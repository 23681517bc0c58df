//! Text that a terminal shows as it is.
//!
//! A policy may hold anything: an escape sequence that clears the screen, a character that turns the rest of the
//! line around. Those are errors, and what is printed about them must not do what they do.

use std::borrow::Cow;

use mesh_bpf::text::is_obeyed;

/// The text with a sign in place of each character that a terminal would obey. It has as many bytes, so that
/// places in it are where they were.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let sign = |c: char| match c {
        c if !obeyed(c) => c,
        c if c.len_utf8() == 1 => '?',
        c if c.len_utf8() == 2 => '\u{bf}',
        _ => char::REPLACEMENT_CHARACTER,
    };
    Cow::Owned(text.chars().map(sign).collect())
}

/// What a terminal obeys, but tab and newline (a carriage return at the end of a line is one of those).
fn obeyed(c: char) -> bool {
    !matches!(c, '\t' | '\n' | '\r') && is_obeyed(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_replaced_by_as_many_bytes() {
        let text = "a\u{1b}[2J\u{9b}2J\u{202e}b\u{61c}\té\r\n\u{7f}";
        let shown = visible(text);
        assert_eq!(shown, "a?[2J\u{bf}2J\u{fffd}b\u{bf}\té\r\n?");
        assert_eq!(shown.len(), text.len());
        assert!(matches!(visible("plain: größe"), Cow::Borrowed(_)));
    }
}
