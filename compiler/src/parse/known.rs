//! Statements of an earlier version of a text: what is written again is not read again.

use std::collections::HashMap;

use mesh_grammar::Rule;

use super::build::Statement as Built;
use super::message::Statement;
use super::shift::{Shift, Shifted};
use super::splice::{self, Before, LONG, common_start};
use crate::source::FileId;

/// Statements without a mistake, by their words. Those that one version of a program has are kept for the next.
#[derive(Debug, Default)]
pub struct Statements {
    known: HashMap<Rule, HashMap<Box<str>, Known>>,
    version: u64,
}

/// A statement, where it was read.
#[derive(Clone, Debug)]
struct Known {
    base: u32,
    built: Built,
    /// The last version that has it.
    version: u64,
}

impl Statements {
    /// Begins a version: of the one before last nothing is left.
    pub fn next_version(&mut self) {
        let is_of_last = |known: &Known| known.version == self.version;
        self.known.values_mut().for_each(|of_rule| of_rule.retain(|_, known| is_of_last(known)));
        self.version += 1;
    }

    /// The statement, if it was read before.
    pub(super) fn find(&mut self, statement: Statement<'_>, rule: Rule) -> Option<Built> {
        let known = self.known.get_mut(&rule)?.get_mut(statement.words())?;
        known.version = self.version;
        Some(known.at(statement.file, statement.extent.start))
    }

    /// The statement, if it is a long set of which the most was read before.
    pub(super) fn find_like(&mut self, statement: Statement<'_>, rule: Rule) -> Option<Built> {
        let words = statement.words();
        if rule != Rule::set_statement || words.len() < LONG {
            return None;
        }
        let is_old = |words: &str, known: &Known| words.len() >= LONG && known.version < self.version;
        let old = self.known.get_mut(&rule)?.iter_mut().filter(|(words, known)| is_old(words, known));
        let (before, known) = old.max_by_key(|(before, _)| common_start(before, words))?;
        let Built::Set(set) = &known.built else { return None };
        let built = splice::read(Before { words: before, base: known.base, set }, statement);
        if built.is_none() {
            // Perhaps there is a mistake, which will be taken back.
            known.version = self.version;
        }
        built
    }

    /// Keeps a statement that was read without a mistake.
    pub(super) fn keep(&mut self, statement: Statement<'_>, rule: Rule, built: &Built) {
        let known = Known { base: statement.extent.start, built: built.clone(), version: self.version };
        self.known.entry(rule).or_default().insert(statement.words().into(), known);
    }
}

impl Known {
    fn at(&self, file: FileId, base: u32) -> Built {
        let mut built = self.built.clone();
        built.shift(Shift { file, by: base.wrapping_sub(self.base) });
        built
    }
}
