//! How the walk goes on after a mistake: blocks that are closed too late or too often, words that begin no
//! statement, and what is noted of statements that could not be read.

use mesh_grammar::Rule;
use mesh_grammar::scan::Piece;
use mesh_grammar::statement::{self, Context};

use super::message::{self, Statement, declared};
use super::token::token_at;
use super::walker::{Block, DEEPEST, Walker};
use crate::diag::{Code, Diagnostic, did_you_mean, quote};
use crate::source::Span;

/// What a statement that begins with an unknown word may have been, where its absence matters.
const UNKNOWN_MAY_BE: [Rule; 3] = [Rule::selector_statement, Rule::workload_head, Rule::exempt_statement];

impl<'t> Walker<'t, '_> {
    /// Braces that close nothing, as one mistake however many there are in a row.
    pub(super) fn stray_braces(&mut self, first: Span, next: usize) -> usize {
        let rest = self.pieces.get(next..).unwrap_or_default();
        let more: Vec<u32> = rest
            .iter()
            .map_while(|piece| if let Piece::Close(at) = piece { Some(*at) } else { None })
            .collect();
        let span = Span { end: more.last().map_or(first.end, |last| last + 1), ..first };
        self.errors.push(|| {
            Diagnostic::new(Code::Syntax, "`}` closes no block")
                .label(span, "no block is open here")
                .help("remove it, or look for a `{` that is missing above")
        });
        more.len()
    }

    pub(super) fn close_at_end(&mut self) {
        let end = Span { file: self.file, start: self.end(), end: self.end() };
        let unclosed: Vec<(Span, Span)> =
            self.stack.iter().filter_map(|open| Some((open.head, open.brace?))).collect();
        if let Some(((_, brace), outer)) = unclosed.split_last() {
            let missing: usize = self.stack.iter().map(|open| open.deeper).sum::<usize>() + unclosed.len();
            self.errors.push(|| {
                let diagnostic = Diagnostic::new(Code::Syntax, "a block is never closed")
                    .label(*brace, "opened here")
                    .help(format!("add {} where the block ends", quote(&"}".repeat(missing.min(DEEPEST)))));
                outer
                    .iter()
                    .fold(diagnostic, |diagnostic, (head, _)| diagnostic.also(*head, "this one is open too"))
            });
        }
        // What follows the place where it should have ended may have been meant for elsewhere.
        if !self.stack.is_empty() {
            UNKNOWN_MAY_BE.into_iter().for_each(|rule| self.damage(rule));
        }
        while !self.stack.is_empty() {
            self.pop(end);
        }
    }

    pub(super) fn unknown(&mut self, statement: Statement<'t>, word: &str) -> Option<Rule> {
        let place = self.current()?;
        let meant = if self.errors.is_full() { None } else { did_you_mean(word, place.words()) };
        if !self.is_faulty(statement.extent) {
            self.errors.push(|| message::no_statement(statement, place, meant));
        }
        let rule = meant.and_then(statement::rule_for);
        match rule {
            Some(rule) => self.damage(rule),
            None => {
                UNKNOWN_MAY_BE.into_iter().for_each(|rule| self.damage(rule));
                self.mention(statement, 0);
            }
        }
        if let Some(rule) = rule {
            if statement::has_block(rule) {
                return Some(rule);
            }
            self.keep_name(statement, rule);
        }
        None
    }

    /// Closes blocks whose `}` is missing: the statement may not stand in them, could stand further out,
    /// and is not indented further than their heads.
    pub(super) fn close_before(&mut self, statement: Statement<'t>, rule: Rule, column: u32) {
        if self.current().is_none_or(|place| place.allows(rule)) {
            return;
        }
        let outer = self
            .stack
            .iter()
            .rposition(|open| open.block.context().is_some_and(|context| context.allows(rule)));
        let keep = match outer {
            Some(at) => at + 1,
            None if Context::File.allows(rule) => 0,
            None => return,
        };
        let unclosed = self.stack.get(keep..).unwrap_or_default();
        if unclosed.iter().any(|open| open.column < column) {
            return;
        }
        let heads: Vec<Span> = unclosed.iter().map(|open| open.head).collect();
        let (_, word) = token_at(statement.words(), 0);
        self.errors.push(|| {
            let brace = Diagnostic::new(Code::Syntax, format!("`}}` is missing before {}", quote(word)))
                .label(statement.part(0, word.len()), "cannot stand in the block above");
            let shown = heads.iter().fold(brace, |shown, head| shown.also(*head, "this block is still open"));
            shown.help(format!("write {} before it", quote(&"}".repeat(heads.len()))))
        });
        while self.stack.len() > keep {
            self.pop(statement.span());
        }
    }

    /// Notes that something which `rule` reads is missing from the open blocks.
    pub(super) fn damage(&mut self, rule: Rule) {
        self.out.lost.exempt |= rule == Rule::exempt_statement;
        for open in &mut self.stack {
            match &mut open.block {
                Block::Mesh(mesh) if rule == Rule::workload_head => mesh.damaged = true,
                Block::Workload(workload) if rule == Rule::selector_statement => workload.damaged = true,
                _ => {}
            }
        }
    }

    /// Keeps what is known of a statement that could not be read: the name that it declares, and the words
    /// that may be names it uses.
    pub(super) fn keep_name(&mut self, statement: Statement<'t>, rule: Rule) {
        let name = declared(statement, rule);
        let end = name.as_ref().map_or(statement.extent.start, |name| name.span.end);
        self.out.broken.extend(name);
        self.mention(statement, (end - statement.extent.start) as usize);
    }

    /// Notes the words of a statement from a byte on.
    pub(super) fn mention(&mut self, statement: Statement<'t>, from: usize) {
        let uses = statement.words().get(from..);
        let words =
            uses.unwrap_or_default().split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-')));
        self.out.mentioned.extend(words.filter(|word| !word.is_empty()).map(str::to_owned));
    }
}
