//! The walk over the statements of a file, with a stack of open blocks.

use mesh_grammar::Rule;
use mesh_grammar::scan::{Extent, Piece, Scan};
use mesh_grammar::statement::{self, Context};

use super::allow::Allows;
use super::build::{Builder, Statement as Built};
use super::errors::Errors;
use super::indent::Indent;
use super::known::Statements;
use super::message::{self, Statement, declared};
use super::token::token_at;
use crate::ast::{self, Body, Name};
use crate::source::{FileId, Span};

/// Blocks may be this deep before what is in them is skipped; a right program needs two.
pub(super) const DEEPEST: usize = 8;

/// Walks over a file and puts its tree together.
pub(super) struct Walker<'t, 'e> {
    pub(super) file: FileId,
    pub(super) text: &'t str,
    pub(super) pieces: &'t [Piece],
    /// Where the characters themselves are wrong, sorted; a statement with one is not read.
    pub(super) faults: Vec<u32>,
    pub(super) next_fault: usize,
    pub(super) errors: &'e mut Errors,
    /// What was read of an earlier version.
    known: Option<&'e mut Statements>,
    pub(super) out: ast::File,
    pub(super) stack: Vec<Open>,
    pub(super) allows: Allows,
    pub(super) indent: Indent<'t>,
}

/// A block that is open.
pub(super) struct Open {
    pub(super) block: Block,
    /// Its head.
    pub(super) head: Span,
    /// Its `{`; none where that is missing, which has been said.
    pub(super) brace: Option<Span>,
    /// How far its head is indented, in bytes.
    pub(super) column: u32,
    /// How many braces are open within a block that is skipped.
    pub(super) deeper: usize,
    /// The `allow` comments that cover it.
    pub(super) allows: Vec<usize>,
}

/// What is in an open block so far.
pub(super) enum Block {
    Mesh(Box<ast::Mesh>),
    Workload(ast::Workload),
    For(ast::For),
    Test(ast::Test),
    /// Its head was not understood, so what is in it cannot be judged.
    Skipped,
}

impl Block {
    pub(super) const fn context(&self) -> Option<Context> {
        match self {
            Self::Mesh(_) => Some(Context::Mesh),
            Self::Workload(_) => Some(Context::Workload),
            Self::For(_) => Some(Context::For),
            Self::Test(_) => Some(Context::Test),
            Self::Skipped => None,
        }
    }
}

impl<'t, 'e> Walker<'t, 'e> {
    pub(super) fn new(
        file: FileId,
        text: &'t str,
        (scan, known): (&'t Scan, Option<&'e mut Statements>),
        errors: &'e mut Errors,
    ) -> Self {
        let mut faults: Vec<u32> = scan.faults.iter().map(|fault| fault.extent.start).collect();
        faults.sort_unstable();
        let orders = super::allow::read(file, text, &scan.comments, errors);
        Self {
            file,
            text,
            pieces: &scan.pieces,
            faults,
            next_fault: 0,
            errors,
            known,
            out: ast::File { library: orders.library, ..ast::File::empty(file) },
            stack: Vec::new(),
            allows: Allows::new(orders.allows),
            indent: Indent::new(text),
        }
    }

    pub(super) fn walk(mut self) -> ast::File {
        let mut at = 0;
        while let Some(&piece) = self.pieces.get(at) {
            at += 1;
            match piece {
                Piece::Statement(extent) => at += self.statement(extent, at),
                Piece::Head { extent, brace } => self.head(extent, brace),
                Piece::Close(brace) => at += self.close(brace, at),
            }
        }
        self.close_at_end();
        self.out.allows = self.allows.finish();
        self.out.lost.statement = self.errors.len() > 0;
        self.out
    }

    /// A statement without a block. Returns how many pieces after it were part of it.
    fn statement(&mut self, extent: Extent, next: usize) -> usize {
        if self.is_skipping() {
            return 0;
        }
        let statement = self.at(extent);
        let column = self.indent.column(extent.start);
        let covering = self.allows.above(self.text, extent);
        self.allows.end(&covering, statement.span());
        let Some(rule) = self.rule(statement, column) else { return 0 };
        if !statement::has_block(rule) {
            let built = self.read(statement, rule);
            self.place(built, statement.span());
            return 0;
        }
        let brace = match self.pieces.get(next) {
            Some(&Piece::Head { extent, brace }) if extent.start == extent.end => Some(brace),
            _ => None,
        };
        self.errors.push(|| message::no_block(statement, rule, brace));
        let span = statement.span();
        let opens = brace.is_some() || self.indent.is_deeper(self.pieces.get(next), column);
        let block = self.open_block(statement, rule);
        let at = brace.map(|at| Span { start: at, end: at + 1, ..span });
        self.stack.push(Open { block, head: span, brace: at, column, deeper: 0, allows: covering });
        if !opens {
            self.pop(span);
        }
        usize::from(brace.is_some())
    }

    /// A statement with a block.
    fn head(&mut self, extent: Extent, brace: u32) {
        if let Some(open) = self.stack.last_mut().filter(|open| matches!(open.block, Block::Skipped)) {
            open.deeper += 1;
            return;
        }
        let statement = self.at(extent);
        let column = self.indent.column(extent.start);
        let covering = self.allows.above(self.text, extent);
        let head = Span { end: brace + 1, ..statement.span() };
        let brace = Span { start: brace, ..head };
        let rule = if extent.start == extent.end {
            self.errors.push(|| message::nameless(brace));
            None
        } else {
            self.rule(statement, column)
        };
        let block = match rule {
            _ if self.stack.len() >= DEEPEST => Block::Skipped,
            Some(rule) if statement::has_block(rule) => self.open_block(statement, rule),
            Some(rule) => {
                let before = self.errors.len();
                let built = self.read(statement, rule);
                self.place(built, statement.span());
                if self.errors.len() == before {
                    self.errors.push(|| message::no_place_for_block(statement, brace));
                }
                Block::Skipped
            }
            None => Block::Skipped,
        };
        self.stack.push(Open { block, head, brace: Some(brace), column, deeper: 0, allows: covering });
    }

    /// A `}`. Returns how many of the pieces after it it has dealt with.
    fn close(&mut self, brace: u32, next: usize) -> usize {
        let span = Span { file: self.file, start: brace, end: brace + 1 };
        match self.stack.last_mut() {
            Some(open) if open.deeper > 0 => open.deeper -= 1,
            Some(_) => self.pop(span),
            None => return self.stray_braces(span, next),
        }
        0
    }

    /// Which rule reads the statement here, or `None` where it cannot be read, which is then reported.
    pub(super) fn rule(&mut self, statement: Statement<'t>, column: u32) -> Option<Rule> {
        let (_, word) = token_at(statement.words(), 0);
        let known = statement::rule_for(word);
        let Some(rule) =
            known.or_else(|| (self.current() == Some(Context::Test)).then_some(Rule::expect_statement))
        else {
            return self.unknown(statement, word);
        };
        self.close_before(statement, rule, column);
        let place = self.current()?;
        if place.allows(rule) {
            return Some(rule);
        }
        self.errors.push(|| message::misplaced(statement, rule, place));
        if statement::has_block(rule) {
            return Some(rule);
        }
        self.damage(rule);
        self.keep_name(statement, rule);
        None
    }

    /// Opens the block of a head that `rule` reads.
    fn open_block(&mut self, statement: Statement<'t>, rule: Rule) -> Block {
        let built = self.read(statement, rule);
        let span = statement.span();
        let known = || declared(statement, rule);
        match rule {
            Rule::mesh_head => {
                let name = if let Some(Built::Mesh(name)) = built { Some(name) } else { known() };
                Block::Mesh(Box::new(empty_mesh(name, span)))
            }
            Rule::workload_head => {
                let name = if let Some(Built::Workload(name)) = built { Some(name) } else { known() };
                let (selectors, body) = (Vec::new(), Body::default());
                Block::Workload(ast::Workload { name, selectors, body, damaged: false, span })
            }
            Rule::for_head => {
                let members = if let Some(Built::For(names)) = built { names } else { Vec::new() };
                Block::For(ast::For { members, body: Body::default(), span })
            }
            _ => {
                let name = if let Some(Built::Test(name)) = built { Some(name) } else { None };
                Block::Test(ast::Test { name, lines: Vec::new(), span })
            }
        }
    }

    /// Has the grammar read a statement; `None` where that failed, which is then reported.
    fn read(&mut self, statement: Statement<'t>, rule: Rule) -> Option<Built> {
        let before = self.errors.len();
        let mut built = None;
        if !self.is_faulty(statement.extent) {
            let (_, word) = token_at(statement.words(), 0);
            let meant_otherwise = rule != Rule::expect_statement && statement::rule_for(word) != Some(rule);
            if meant_otherwise {
                return None;
            }
            if let Some(known) = self.known.as_mut().and_then(|known| known.find(statement, rule)) {
                return Some(known);
            }
            if let Some(known) = &mut self.known
                && let Some(built) = known.find_like(statement, rule)
            {
                known.keep(statement, rule, &built);
                return Some(built);
            }
            match statement::parse(rule, statement.words()) {
                Ok(mut pairs) => {
                    let mut builder =
                        Builder { file: self.file, base: statement.extent.start, errors: &mut *self.errors };
                    built = pairs.next().and_then(|pair| builder.statement(pair));
                    if self.errors.len() > before && rule == Rule::exempt_statement {
                        self.damage(rule);
                    }
                }
                Err(error) => self.errors.push(|| message::unexpected(statement, rule, &error)),
            }
            if let (Some(known), Some(built)) = (&mut self.known, &built)
                && self.errors.len() == before
            {
                known.keep(statement, rule, built);
            }
            if built.is_none() && self.errors.len() == before {
                self.errors.push(|| message::unreadable(statement));
            }
        }
        if built.is_none() {
            self.damage(rule);
            if !statement::has_block(rule) {
                self.keep_name(statement, rule);
            }
        }
        built
    }

    /// Where the next statement stands; `None` in a block that is skipped.
    pub(super) fn current(&self) -> Option<Context> {
        self.stack.last().map_or(Some(Context::File), |open| open.block.context())
    }

    fn is_skipping(&self) -> bool {
        self.current().is_none()
    }

    /// Whether characters of the statement are wrong. Statements are asked about in order.
    pub(super) fn is_faulty(&mut self, extent: Extent) -> bool {
        while self.faults.get(self.next_fault).is_some_and(|&at| at < extent.start) {
            self.next_fault += 1;
        }
        self.faults.get(self.next_fault).is_some_and(|&at| at < extent.end)
    }

    pub(super) const fn at(&self, extent: Extent) -> Statement<'t> {
        Statement { file: self.file, text: self.text, extent }
    }

    pub(super) fn end(&self) -> u32 {
        u32::try_from(self.text.len()).unwrap_or(u32::MAX)
    }
}

const fn empty_mesh(name: Option<Name>, span: Span) -> ast::Mesh {
    ast::Mesh {
        name,
        body: Body { rules: Vec::new(), exempts: Vec::new(), ons: Vec::new() },
        sets: Vec::new(),
        workloads: Vec::new(),
        groups: Vec::new(),
        fors: Vec::new(),
        accelerations: Vec::new(),
        tests: Vec::new(),
        damaged: false,
        span,
    }
}
