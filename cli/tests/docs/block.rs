//! Fenced blocks of a page.

use std::ops::Range;

/// A fenced block.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// The words after the fence.
    pub(crate) words: Vec<String>,
    /// The lines between the fences, counted from 0.
    pub(crate) lines: Range<usize>,
    /// What stands there.
    pub(crate) text: String,
}

impl Block {
    /// All fenced blocks of a page.
    pub(crate) fn all(page: &str) -> Vec<Self> {
        let lines: Vec<&str> = page.lines().collect();
        let mut blocks = Vec::new();
        let mut open: Option<(usize, &str)> = None;
        for (at, line) in lines.iter().enumerate() {
            match (open, line.strip_prefix("```")) {
                (None, Some(words)) => open = Some((at + 1, words)),
                (Some((start, words)), Some("")) => {
                    blocks.push(Self::new(words, start..at, lines.get(start..at).unwrap_or_default()));
                    open = None;
                }
                _ => {}
            }
        }
        blocks
    }

    fn new(words: &str, range: Range<usize>, lines: &[&str]) -> Self {
        let words = words.split_whitespace().map(str::to_owned).collect();
        let text = lines.iter().map(|line| format!("{line}\n")).collect();
        Self { words, lines: range, text }
    }

    /// The first word.
    pub(crate) fn kind(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The file that it is saved as, if it says so.
    pub(crate) fn file(&self) -> Option<&str> {
        self.rest().find(|word| word.contains('.') && !word.contains('='))
    }

    /// The inventory that its program is checked against.
    pub(crate) fn inventory(&self) -> Option<&str> {
        self.rest().find_map(|word| word.strip_prefix("inventory="))
    }

    /// The file whose content it shows.
    pub(crate) fn shows(&self) -> Option<&str> {
        self.rest().find_map(|word| word.strip_prefix("shows="))
    }

    /// The codes that it names, sorted.
    pub(crate) fn codes(&self) -> Vec<&str> {
        let mut codes: Vec<&str> =
            self.rest().filter(|word| !word.contains(['.', '=']) && *word != "warns").collect();
        codes.sort_unstable();
        codes
    }

    fn rest(&self) -> impl Iterator<Item = &str> {
        self.words.iter().skip(1).map(String::as_str)
    }
}
