//! Colours of answers: by the words that they have anyway, so that nothing is said by a colour alone.

/// What stands out in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tint {
    /// What becomes of flows, tests and features.
    Verdicts,
    /// Lines that come and go, as `diff -u` shows them.
    Difference,
}

/// What colours mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// Refused, or wrong.
    Red,
    /// As it is to be.
    Green,
    /// Goes past what looks at it.
    Cyan,
    /// Worth a look.
    Yellow,
    /// What stands there to be looked up.
    #[cfg(all(feature = "kernel", target_os = "linux"))]
    Dim,
    /// Titles.
    Bold,
}

impl Color {
    /// Text in this colour, as terminals have it (ECMA-48, SGR). It holds nothing that a terminal would obey.
    pub fn paint(self, text: &str) -> String {
        if text.is_empty() {
            return String::new();
        }
        let code = match self {
            Self::Red => "31;1",
            Self::Green => "32",
            Self::Cyan => "36",
            Self::Yellow => "33;1",
            #[cfg(all(feature = "kernel", target_os = "linux"))]
            Self::Dim => "2",
            Self::Bold => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

impl Tint {
    /// A line in colours. It holds nothing that a terminal would obey.
    pub fn line(self, line: &str) -> String {
        match self {
            Self::Verdicts => verdicts(line),
            Self::Difference => match line.as_bytes() {
                [b'-', b'-', b'-', ..] | [b'+', b'+', b'+', ..] => Color::Bold.paint(line),
                [b'-', ..] => Color::Red.paint(line),
                [b'+', ..] => Color::Green.paint(line),
                [b'@', b'@', ..] => Color::Cyan.paint(line),
                _ => line.to_owned(),
            },
        }
    }
}

fn verdicts(line: &str) -> String {
    let mut out = String::with_capacity(line.len() + 16);
    // Names may have such words in them.
    let ends = |c: char| !c.is_alphanumeric() && !matches!(c, '_' | '-' | '/');
    for (at, word) in line.split_inclusive(ends).scan(0, |at, part| {
        let start = *at;
        *at += part.len();
        Some((start, part))
    }) {
        let (letters, rest) = word.split_at(word.trim_end_matches(ends).len());
        match color(letters, at == 0) {
            Some(color) => out.push_str(&color.paint(letters)),
            None => out.push_str(letters),
        }
        out.push_str(rest);
    }
    out
}

fn color(word: &str, is_first: bool) -> Option<Color> {
    match word {
        "denied" | "FAILED" => Some(Color::Red),
        "redirected" => Some(Color::Green),
        "excluded" | "exempt" => Some(Color::Cyan),
        "missing" | "untried" | "drift" if is_first => Some(Color::Yellow),
        "ok" | "active" if is_first => Some(Color::Green),
        "paused" if is_first => Some(Color::Yellow),
        _ => None,
    }
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
            ("exempt_ids, shop/denied, not-redirected", "exempt_ids, shop/denied, not-redirected"),
            ("", ""),
        ] {
            assert_eq!(Tint::Verdicts.line(line), told);
        }
        assert_eq!(Tint::Difference.line("+a"), "\x1b[32m+a\x1b[0m");
        assert_eq!(Tint::Difference.line("+++ a"), "\x1b[1m+++ a\x1b[0m");
        assert_eq!(Tint::Difference.line(" a"), " a");
    }
}
