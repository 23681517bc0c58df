//! Colours of answers: by the words that they have anyway, so that nothing is said by a colour alone.

/// What stands out in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tint {
    /// What becomes of flows, tests and features.
    Verdicts,
    /// Lines that come and go, as `diff -u` shows them.
    Difference,
}

const RED: &str = "31;1";
const GREEN: &str = "32";
const YELLOW: &str = "33;1";
const CYAN: &str = "36";
const BOLD: &str = "1";

impl Tint {
    /// A line in colours. It holds nothing that a terminal would obey.
    pub fn line(self, line: &str) -> String {
        match self {
            Self::Verdicts => verdicts(line),
            Self::Difference => match line.as_bytes() {
                [b'-', b'-', b'-', ..] | [b'+', b'+', b'+', ..] => paint(BOLD, line),
                [b'-', ..] => paint(RED, line),
                [b'+', ..] => paint(GREEN, line),
                [b'@', b'@', ..] => paint(CYAN, line),
                _ => line.to_owned(),
            },
        }
    }
}

fn verdicts(line: &str) -> String {
    let mut out = String::with_capacity(line.len() + 16);
    for (at, word) in line.split_inclusive(|c: char| !c.is_alphabetic()).scan(0, |at, part| {
        let start = *at;
        *at += part.len();
        Some((start, part))
    }) {
        let (letters, rest) = word.split_at(word.trim_end_matches(|c: char| !c.is_alphabetic()).len());
        match color(letters, at == 0) {
            Some(color) => out.push_str(&paint(color, letters)),
            None => out.push_str(letters),
        }
        out.push_str(rest);
    }
    out
}

fn color(word: &str, is_first: bool) -> Option<&'static str> {
    match word {
        "denied" | "FAILED" => Some(RED),
        "redirected" => Some(GREEN),
        "excluded" | "exempt" => Some(CYAN),
        "missing" | "untried" | "drift" if is_first => Some(YELLOW),
        "ok" | "active" if is_first => Some(GREEN),
        "paused" if is_first => Some(YELLOW),
        _ => None,
    }
}

fn paint(color: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("\x1b[{color}m{text}\x1b[0m") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_out_and_nothing_is_lost() {
        for (line, told) in [
            ("cart: 3 denied, no", "cart: 3 \x1b[31;1mdenied\x1b[0m, no"),
            ("excluded → redirected 15001", "\x1b[36mexcluded\x1b[0m → \x1b[32mredirected\x1b[0m 15001"),
            ("ok       maps are ok", "\x1b[32mok\x1b[0m       maps are ok"),
            ("undenied größe", "undenied größe"),
            ("", ""),
        ] {
            assert_eq!(Tint::Verdicts.line(line), told);
        }
        assert_eq!(Tint::Difference.line("+a"), "\x1b[32m+a\x1b[0m");
        assert_eq!(Tint::Difference.line("+++ a"), "\x1b[1m+++ a\x1b[0m");
        assert_eq!(Tint::Difference.line(" a"), " a");
    }
}
