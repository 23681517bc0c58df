//! A list under a title, where there is something in it.

use std::fmt::Write;

/// Adds the rows, a line each.
pub fn section<T>(out: &mut String, title: &str, rows: &[T], line: impl Fn(&T) -> String) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{title}:");
    for row in rows {
        let _ = writeln!(out, "  {}", line(row));
    }
}
