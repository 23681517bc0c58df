//! Text from outside, as it may be shown.
//!
//! Names of processes and pods, files and policies may hold anything: an escape sequence that clears the screen, a line
//! break that forges a line, a character that turns the rest of the line around. Who is shown them must see that they are
//! there, and not what they do.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a terminal does something for this character rather than show it: control characters, and those that change
/// the direction of text (Unicode Standard Annex 9).
#[must_use]
pub fn is_obeyed(c: char) -> bool {
    match c {
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        // Line and paragraph separator end a line in some programs.
        '\u{2028}' | '\u{2029}' => true,
        c => c.is_control(),
    }
}

/// The text on one line: each character that would be obeyed is spelled out, as `\u{1b}` or `\n`.
#[must_use]
pub fn one_line(text: &str) -> Cow<'_, str> {
    spelled(text, |_| false)
}

/// The same of text that has lines of its own.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    spelled(text, |c| matches!(c, '\n' | '\t'))
}

fn spelled(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_spelled = |c: char| is_obeyed(c) && !stays(c);
    if !text.contains(is_spelled) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !is_spelled(c) => shown.push(c),
            '\n' | '\r' | '\t' => shown.extend(c.escape_default()),
            c => shown.extend(c.escape_unicode()),
        }
    }
    Cow::Owned(shown)
}

/// JSON text in which no character would be obeyed. Only strings can hold one, where `\u` means the same.
#[must_use]
pub fn json(text: String) -> String {
    if !text.contains(is_obeyed) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_obeyed(c) {
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// What the kernel keeps of the name of a process: bytes up to a zero, any of them.
#[must_use]
pub fn process_name(comm: &[u8]) -> String {
    let name = comm.split(|&byte| byte == 0).next().unwrap_or_default();
    one_line(&String::from_utf8_lossy(name)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_spelled_out() {
        let name = "a\u{1b}[2J\u{9b}2J\r\u{202e}b\nc\td\u{2028}";
        assert_eq!(one_line(name), r"a\u{1b}[2J\u{9b}2J\r\u{202e}b\nc\td\u{2028}");
        assert_eq!(lines("one\n\u{1b}two\tx\r"), "one\n\\u{1b}two\tx\\r");
        assert!(matches!(lines("größe → 1\n"), Cow::Borrowed(_)));
        assert_eq!(process_name(b"evil\n\x1b[31m\xff\0rest"), "evil\\n\\u{1b}[31m\u{fffd}");
    }

    #[test]
    fn json_says_the_same_and_is_obeyed_by_nobody() {
        let value = serde_json::json!({ "name": "a\u{1b}\u{9b}\u{202e}\n\u{7f}ö" });
        let text = json(value.to_string());
        assert!(!text.contains(is_obeyed), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
