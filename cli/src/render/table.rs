//! Columns, aligned by how wide text is on a terminal.

use std::borrow::Cow;

use mesh_bpf::text::one_line;
use unicode_width::UnicodeWidthStr;

use crate::output::Painted;
use crate::tint::Color;

/// Between two columns.
const GAP: &str = "  ";

/// So far right stands what is below a first column.
const BELOW: usize = 4;

/// A text in a column.
#[derive(Clone, Debug, Default)]
pub struct Cell<'a> {
    text: Cow<'a, str>,
    color: Option<Color>,
    right: bool,
}

impl<'a> Cell<'a> {
    /// Without a colour.
    pub fn new(text: impl Into<Cow<'a, str>>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// In one.
    pub fn colored(self, color: Color) -> Self {
        Self { color: Some(color), ..self }
    }

    /// What is in it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// At the right end of its column.
    pub fn right(self) -> Self {
        Self { right: true, ..self }
    }
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(text: &'a str) -> Self {
        Self::new(text)
    }
}

/// Columns that are as wide as the widest text so far, up to a bound: what comes later never makes one narrower.
#[derive(Debug)]
pub struct Columns {
    widths: Vec<usize>,
    /// One name of hundreds of letters makes one row long, and not all.
    bound: usize,
}

impl Columns {
    /// These wide at least.
    pub fn new(widths: &[usize], bound: usize) -> Self {
        Self { widths: widths.to_vec(), bound }
    }

    /// Makes room for a row.
    pub fn fit(&mut self, row: &[Cell<'_>]) {
        self.widths.resize(self.widths.len().max(row.len()), 0);
        for (column, cell) in self.widths.iter_mut().zip(row) {
            *column = (*column).max(width(&cell.text).min(self.bound));
        }
    }

    /// Writes a row, without an end of the line.
    pub fn put(&self, out: &mut Painted, row: &[Cell<'_>]) {
        for (at, cell) in row.iter().enumerate() {
            let pad = self.widths.get(at).map_or(0, |column| column.saturating_sub(width(&cell.text)));
            let pad = " ".repeat(pad);
            if at > 0 {
                out.push(GAP);
            }
            if cell.right {
                out.push(&pad);
            }
            out.paint(cell.color, &cell.text);
            if !cell.right {
                out.push(&pad);
            }
        }
    }

    /// How wide the first column is, with what is behind it.
    pub fn indent(&self) -> usize {
        self.widths.first().map_or(0, |first| first + GAP.len())
    }

    /// How wide a row is that fits.
    pub fn total(&self) -> usize {
        self.total_of(self.widths.len())
    }

    /// How wide its first columns are.
    pub fn total_of(&self, columns: usize) -> usize {
        self.widths.iter().take(columns).sum::<usize>() + GAP.len() * columns.saturating_sub(1)
    }
}

/// Which column of a table stands on a line of its own where all of them are too wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apart {
    /// The first, above the others.
    First,
    /// The last, below the others.
    Last,
}

/// Rows of equal columns, without colours, the first with their titles. On a terminal of so many columns that they do not
/// fit, one column is apart.
pub fn text<const N: usize>(rows: &[[Cell<'_>; N]], wide: Option<usize>, apart: Apart) -> String {
    let mut all = Columns::new(&[0; N], usize::MAX);
    rows.iter().for_each(|row| all.fit(row));
    let fits = wide.is_none_or(|wide| all.total() <= wide);
    let mut out = Painted::plain();
    if fits {
        for row in rows {
            all.put(&mut out, row);
            out.end_line();
        }
        return out.into_text();
    }
    let range = match apart {
        Apart::First => 1..N,
        Apart::Last => 0..N.saturating_sub(1),
    };
    let mut columns = Columns::new(&[], usize::MAX);
    rows.iter().for_each(|row| columns.fit(row.get(range.clone()).unwrap_or_default()));
    let put = |out: &mut Painted, indent: usize, row: &[Cell<'_>]| {
        out.push(&" ".repeat(indent));
        columns.put(out, row);
        out.end_line();
    };
    for row in rows {
        let beside = row.get(range.clone()).unwrap_or_default();
        match apart {
            Apart::First => {
                out.push(row.first().map_or("", |cell| &cell.text));
                out.end_line();
                put(&mut out, BELOW, beside);
            }
            Apart::Last => {
                put(&mut out, 0, beside);
                if let Some(cell) = row.last().filter(|cell| !cell.text.is_empty()) {
                    out.push(&" ".repeat(columns.indent()));
                    out.push(&cell.text);
                    out.end_line();
                }
            }
        }
    }
    out.into_text()
}

/// How many columns of a terminal a text takes.
pub fn width(text: &str) -> usize {
    one_line(text).width()
}

/// As much of a text as fits, with a sign where something is left out.
pub fn cut(text: &str, columns: usize) -> String {
    let text = one_line(text);
    if text.width() <= columns {
        return text.into_owned();
    }
    let mut kept = String::new();
    for c in text.chars() {
        let longer = format!("{kept}{c}");
        if longer.width() >= columns {
            break;
        }
        kept = longer;
    }
    if columns > 0 {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Output;

    #[test]
    fn columns_are_aligned_by_what_is_seen() {
        let rows = [
            [Cell::new("a"), Cell::new("1").right(), Cell::new("x")],
            [Cell::new("größe"), Cell::new("12").right(), Cell::new("y")],
            [Cell::new("漢字"), Cell::new("123").right(), Cell::new("")],
            [Cell::new("\u{1b}"), Cell::new("4").right(), Cell::new("z")],
        ];
        let mut columns = Columns::new(&[0; 3], 6);
        rows.iter().for_each(|row| columns.fit(row));
        let mut out = Output::plain().painted();
        for row in &rows {
            columns.put(&mut out, row);
            out.end_line();
        }
        assert_eq!(out.into_text(), "a         1  x\ngröße    12  y\n漢字    123\n\\u{1b}    4  z\n");
        assert_eq!(columns.total(), 6 + 2 + 3 + 2 + 1);
    }

    #[test]
    fn what_does_not_fit_has_one_column_apart() {
        let row = |name: &'static str, count: &'static str, how| {
            [Cell::new(name), Cell::new(count).right(), Cell::new(how)]
        };
        let rows = [row("NAME", "COUNT", "HOW"), row("shop/cart", "7", "by hand"), row("b", "12", "")];
        let wide = "NAME       COUNT  HOW\nshop/cart      7  by hand\nb             12\n";
        for (columns, apart, shown) in [
            (None, Apart::First, wide),
            (Some(25), Apart::Last, wide),
            (Some(24), Apart::First, "NAME\n    COUNT  HOW\nshop/cart\n        7  by hand\nb\n       12\n"),
            (
                Some(24),
                Apart::Last,
                "NAME       COUNT\n           HOW\nshop/cart      7\n           by hand\nb             12\n",
            ),
        ] {
            assert_eq!(text(&rows, columns, apart), shown, "{columns:?} {apart:?}");
        }
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(cut("deny outbound", 20), "deny outbound");
        assert_eq!(cut("deny outbound", 8), "deny ou…");
        assert_eq!(cut("漢字漢字", 4), "漢…");
        assert_eq!(cut("abc", 0), "");
    }
}
