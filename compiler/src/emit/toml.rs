//! The little of TOML that the compiled output needs to write.

use std::fmt;

use mesh_bpf::ports::PortRange;
use mesh_bpf::prefix::Prefix;

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

/// A prefix as it displays itself, only faster: most of a long text is prefixes.
pub(super) fn push_prefix(text: &mut String, prefix: Prefix) {
    use fmt::Write as _;
    let Prefix::V4 { bits, len } = prefix else {
        let _ = write!(text, "{prefix}");
        return;
    };
    for (nth, byte) in bits.to_be_bytes().into_iter().enumerate() {
        if nth > 0 {
            text.push('.');
        }
        push_number(text, byte.into());
    }
    if len < 32 {
        text.push('/');
        push_number(text, len.into());
    }
}

/// A range of ports as it displays itself.
pub(super) fn push_range(text: &mut String, range: PortRange) {
    push_number(text, range.first);
    if range.first != range.last {
        text.push('-');
        push_number(text, range.last);
    }
}

fn push_number(text: &mut String, number: u16) {
    for power in [10_000, 1000, 100, 10, 1] {
        if number >= power || power == 1 {
            let digit = u8::try_from(number / power % 10).unwrap_or(0);
            text.push(char::from(b'0' + digit));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_way_writes_the_same() {
        for len in 0..=32 {
            let bits = 0xc0a8_0a01 & mesh_bpf::prefix::mask32(len);
            let prefix = Prefix::V4 { bits, len };
            let mut text = String::new();
            push_prefix(&mut text, prefix);
            assert_eq!(text, prefix.to_string());
        }
        for (first, last) in [(1, 1), (9, 10), (99, 100), (1, 65535), (10_000, 60_000)] {
            let range = PortRange { first, last };
            let mut text = String::new();
            push_range(&mut text, range);
            assert_eq!(text, range.to_string());
        }
    }

    #[test]
    fn what_is_not_plain_is_escaped() {
        assert_eq!(Quoted("a").to_string(), r#""a""#);
        assert_eq!(Quoted(r#"\x2d "x""#).to_string(), r#""\\x2d \"x\"""#);
        assert_eq!(Quoted("\u{7}").to_string(), r#""\u0007""#);
    }
}
