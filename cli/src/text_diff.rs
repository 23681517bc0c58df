//! Differences between texts, as `diff -u` shows them.

use similar::TextDiff;

/// A unified diff with three lines of context; empty where the texts are equal.
pub fn unified(old: &str, new: &str, old_name: &str, new_name: &str) -> String {
    TextDiff::from_lines(old, new).unified_diff().header(old_name, new_name).to_string()
}
