//! Statements of an earlier version of a text: what is written again is not read again.

use std::collections::HashMap;

use mesh_grammar::Rule;

use super::build::Statement as Built;
use super::message::Statement;
use super::shift::{Shift, Shifted};
use crate::source::FileId;

/// Statements without a mistake, by their words. Those that one version of a program has are kept for the next.
#[derive(Debug, Default)]
pub struct Statements {
    now: ByWords,
    before: ByWords,
}

type ByWords = HashMap<Rule, HashMap<Box<str>, Known>>;

/// A statement, where it was read.
#[derive(Clone, Debug)]
struct Known {
    base: u32,
    built: Built,
}

impl Statements {
    /// Begins a version: of the one before last nothing is left.
    pub fn next_version(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    /// The statement, if it was read before.
    pub(super) fn find(&mut self, statement: Statement<'_>, rule: Rule) -> Option<Built> {
        let words = statement.words();
        let known = self.now.get(&rule).and_then(|of_rule| of_rule.get(words));
        if let Some(known) = known {
            return Some(known.at(statement.file, statement.extent.start));
        }
        let (words, known) = self.before.get_mut(&rule)?.remove_entry(words)?;
        let built = known.at(statement.file, statement.extent.start);
        self.now.entry(rule).or_default().insert(words, known);
        Some(built)
    }

    /// Keeps a statement that was read without a mistake.
    pub(super) fn keep(&mut self, statement: Statement<'_>, rule: Rule, built: &Built) {
        let known = Known { base: statement.extent.start, built: built.clone() };
        self.now.entry(rule).or_default().insert(statement.words().into(), known);
    }
}

impl Known {
    fn at(&self, file: FileId, base: u32) -> Built {
        let mut built = self.built.clone();
        built.shift(Shift { file, by: base.wrapping_sub(self.base) });
        built
    }
}
