//! The little of TOML that the compiled output needs to write.

use std::fmt;

/// A basic string: quoted, with `"`, `\` and control characters escaped.
pub(super) struct Quoted<T>(pub(super) T);

impl<T: fmt::Display> fmt::Display for Quoted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", Escaped(&self.0))
    }
}

/// The inside of a basic string.
pub(super) struct Escaped<T>(pub(super) T);

impl<T: fmt::Display> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::write(&mut Escaper(f), format_args!("{}", self.0))
    }
}

struct Escaper<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl fmt::Write for Escaper<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut plain = 0;
        for (at, c) in text.char_indices().filter(|&(_, c)| c == '"' || c == '\\' || c.is_control()) {
            self.0.write_str(text.get(plain..at).unwrap_or_default())?;
            match c {
                '"' | '\\' => write!(self.0, "\\{c}")?,
                c => write!(self.0, "\\u{:04X}", u32::from(c))?,
            }
            plain = at + c.len_utf8();
        }
        self.0.write_str(text.get(plain..).unwrap_or_default())
    }
}

/// An array with an item a line; nothing where it is empty.
pub(super) fn write_array(text: &mut String, key: &str, items: &[impl fmt::Display]) {
    use fmt::Write as _;
    if items.is_empty() {
        return;
    }
    // Writing to a string does not fail.
    let _ = writeln!(text, "{key} = [");
    for item in items {
        let _ = writeln!(text, "    {},", Quoted(item));
    }
    text.push_str("]\n");
}

/// The same, with a comment after each.
pub(super) fn write_credited(text: &mut String, key: &str, items: &[(String, String)]) {
    use fmt::Write as _;
    if items.is_empty() {
        return;
    }
    let _ = writeln!(text, "{key} = [");
    for (item, credit) in items {
        let _ = writeln!(text, "    {}, # {credit}", Quoted(item));
    }
    text.push_str("]\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_plain_is_escaped() {
        assert_eq!(Quoted("a").to_string(), r#""a""#);
        assert_eq!(Quoted(r#"\x2d "x""#).to_string(), r#""\\x2d \"x\"""#);
        assert_eq!(Quoted("\u{7}").to_string(), r#""\u0007""#);
    }
}
