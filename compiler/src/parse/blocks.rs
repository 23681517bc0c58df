//! The walk over the statements of a file, with a stack of open blocks.

use mesh_grammar::Rule;
use mesh_grammar::scan::{Extent, Piece, Scan};
use mesh_grammar::statement::{self, Place};

use super::build::{Builder, Statement as Built};
use super::errors::Errors;
use super::message::{self, Statement, token_at};
use crate::ast::{self, Body, Name, Spanned};
use crate::diag::{Code, Diagnostic, did_you_mean, quote};
use crate::source::{FileId, Span};

/// Blocks may be this deep before what is in them is skipped; a right program needs two.
const DEEPEST: usize = 8;

/// What a statement that begins with an unknown word may have been, where its absence matters.
const UNKNOWN_MAY_BE: [Rule; 3] = [Rule::selector_statement, Rule::workload_head, Rule::exempt_statement];

/// Walks over a file and puts its tree together.
pub(super) struct Walker<'t, 'e> {
    file: FileId,
    text: &'t str,
    pieces: &'t [Piece],
    /// Where the characters themselves are wrong, sorted; a statement with one is not read.
    faults: Vec<u32>,
    next_fault: usize,
    errors: &'e mut Errors,
    out: ast::File,
    stack: Vec<Open>,
    allows: Allows,
    indent: Indent<'t>,
}

/// A block that is open.
struct Open {
    block: Block,
    /// Its head.
    head: Span,
    /// Its `{`; none where that is missing, which has been said.
    brace: Option<Span>,
    /// How far its head is indented, in bytes.
    column: u32,
    /// How many braces are open within a block that is skipped.
    deeper: usize,
    /// The `allow` comments that cover it.
    allows: Vec<usize>,
}

enum Block {
    Mesh(Box<ast::Mesh>),
    Workload(ast::Workload),
    For(ast::For),
    Test(ast::Test),
    /// Its head was not understood, so what is in it cannot be judged.
    Skipped,
}

impl Block {
    const fn place(&self) -> Option<Place> {
        match self {
            Self::Mesh(_) => Some(Place::Mesh),
            Self::Workload(_) => Some(Place::Workload),
            Self::For(_) => Some(Place::For),
            Self::Test(_) => Some(Place::Test),
            Self::Skipped => None,
        }
    }
}

impl<'t, 'e> Walker<'t, 'e> {
    pub(super) fn new(file: FileId, text: &'t str, scan: &'t Scan, errors: &'e mut Errors) -> Self {
        let mut faults: Vec<u32> = scan.faults.iter().map(|fault| fault.extent.start).collect();
        faults.sort_unstable();
        let allows = Allows::new(super::allow::read(file, text, &scan.comments, errors));
        Self {
            file,
            text,
            pieces: &scan.pieces,
            faults,
            next_fault: 0,
            errors,
            out: ast::File::empty(file),
            stack: Vec::new(),
            allows,
            indent: Indent { text, seen: 0, line: 0 },
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
        self.errors.push(|| no_block(statement, rule, brace));
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
            self.errors.push(|| nameless(brace));
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
                    self.errors.push(|| no_place_for_block(statement, brace));
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

    /// Braces that close nothing, as one mistake however many there are in a row.
    fn stray_braces(&mut self, first: Span, next: usize) -> usize {
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

    fn close_at_end(&mut self) {
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

    /// Which rule reads the statement here, or `None` where it cannot be read, which is then reported.
    fn rule(&mut self, statement: Statement<'t>, column: u32) -> Option<Rule> {
        let (_, word) = token_at(statement.words(), 0);
        let known = statement::rule_for(word);
        let Some(rule) =
            known.or_else(|| (self.current() == Some(Place::Test)).then_some(Rule::expect_statement))
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

    fn unknown(&mut self, statement: Statement<'t>, word: &str) -> Option<Rule> {
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
    fn close_before(&mut self, statement: Statement<'t>, rule: Rule, column: u32) {
        if self.current().is_none_or(|place| place.allows(rule)) {
            return;
        }
        let outer =
            self.stack.iter().rposition(|open| open.block.place().is_some_and(|place| place.allows(rule)));
        let keep = match outer {
            Some(at) => at + 1,
            None if Place::File.allows(rule) => 0,
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
            if built.is_none() && self.errors.len() == before {
                self.errors.push(|| unreadable(statement));
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

    /// Puts a statement into the block where it stands.
    fn place(&mut self, built: Option<Built>, span: Span) {
        let Some(built) = built else { return };
        let place = self.stack.last_mut().map(|open| &mut open.block);
        let left = match place {
            None => put_in_file(&mut self.out, built),
            Some(Block::Mesh(mesh)) => put_in_mesh(mesh, built),
            Some(Block::Workload(workload)) => match built {
                Built::Selector(selector) => {
                    workload.selectors.push(selector);
                    None
                }
                other => put_in_body(&mut workload.body, other),
            },
            Some(Block::For(block)) => put_in_body(&mut block.body, built),
            Some(Block::Test(test)) => match built {
                Built::Expect(line) => {
                    test.lines.push(line);
                    None
                }
                other => Some(other),
            },
            Some(Block::Skipped) => None,
        };
        if left.is_some() {
            self.errors
                .push(|| unreadable(Statement { file: self.file, text: self.text, extent: extent_of(span) }));
        }
    }

    /// Takes the innermost block off the stack and puts it where it belongs.
    fn pop(&mut self, end: Span) {
        let Some(open) = self.stack.pop() else { return };
        self.allows.end(&open.allows, open.head.to(end));
        let mesh = self.stack.iter_mut().rev().find_map(|open| match &mut open.block {
            Block::Mesh(mesh) => Some(mesh),
            _ => None,
        });
        match (open.block, mesh) {
            (Block::Mesh(mesh), _) => self.out.meshes.push(*mesh),
            (Block::Workload(workload), Some(mesh)) => mesh.workloads.push(workload),
            (Block::For(block), Some(mesh)) => mesh.fors.push(block),
            (Block::Test(test), Some(mesh)) => mesh.tests.push(test),
            // Misplaced, which has been said: only its name is of use.
            (Block::Workload(workload), None) => self.out.broken.extend(workload.name),
            (Block::For(_) | Block::Test(_), None) | (Block::Skipped, _) => {}
        }
    }

    /// Notes that something which `rule` reads is missing from the open blocks.
    fn damage(&mut self, rule: Rule) {
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
    fn keep_name(&mut self, statement: Statement<'t>, rule: Rule) {
        let name = declared(statement, rule);
        let end = name.as_ref().map_or(statement.extent.start, |name| name.span.end);
        self.out.broken.extend(name);
        self.mention(statement, (end - statement.extent.start) as usize);
    }

    /// Notes the words of a statement from a byte on.
    fn mention(&mut self, statement: Statement<'t>, from: usize) {
        let uses = statement.words().get(from..);
        let words =
            uses.unwrap_or_default().split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-')));
        self.out.mentioned.extend(words.filter(|word| !word.is_empty()).map(str::to_owned));
    }

    /// Where the next statement stands; `None` in a block that is skipped.
    fn current(&self) -> Option<Place> {
        self.stack.last().map_or(Some(Place::File), |open| open.block.place())
    }

    fn is_skipping(&self) -> bool {
        self.current().is_none()
    }

    /// Whether characters of the statement are wrong. Statements are asked about in order.
    fn is_faulty(&mut self, extent: Extent) -> bool {
        while self.faults.get(self.next_fault).is_some_and(|&at| at < extent.start) {
            self.next_fault += 1;
        }
        self.faults.get(self.next_fault).is_some_and(|&at| at < extent.end)
    }

    const fn at(&self, extent: Extent) -> Statement<'t> {
        Statement { file: self.file, text: self.text, extent }
    }

    fn end(&self) -> u32 {
        u32::try_from(self.text.len()).unwrap_or(u32::MAX)
    }
}

/// How far statements are indented. They are asked about in order, so that each byte is looked at once.
struct Indent<'t> {
    text: &'t str,
    seen: u32,
    line: u32,
}

impl Indent<'_> {
    fn column(&mut self, start: u32) -> u32 {
        let gap = self.text.as_bytes().get(self.seen as usize..start as usize).unwrap_or_default();
        if let Some(newline) = gap.iter().rposition(|&byte| byte == b'\n') {
            self.line = self.seen + u32::try_from(newline).unwrap_or(0) + 1;
        }
        self.seen = self.seen.max(start);
        start.saturating_sub(self.line)
    }

    /// Whether the next piece is indented further than `column`, like what is in a block.
    fn is_deeper(&self, next: Option<&Piece>, column: u32) -> bool {
        let Some(Piece::Statement(extent) | Piece::Head { extent, .. }) = next else { return false };
        let mut ahead = Indent { text: self.text, seen: self.seen, line: self.line };
        ahead.column(extent.start) > column
    }
}

/// `allow` comments, and the statements below them.
struct Allows {
    found: Vec<(ast::Allow, bool)>,
    next: usize,
}

impl Allows {
    const fn new(found: Vec<(ast::Allow, bool)>) -> Self {
        Self { found, next: 0 }
    }

    /// The comments that stand right above the statement. Statements are asked about in order.
    fn above(&mut self, text: &str, extent: Extent) -> Vec<usize> {
        let mut above = Vec::new();
        while let Some((allow, alone)) =
            self.found.get(self.next).filter(|(allow, _)| allow.span.end <= extent.start)
        {
            let gap = text.get(allow.span.end as usize..extent.start as usize).unwrap_or_default();
            let mut lines = gap.split('\n').skip(1).peekable();
            let mut adjoins = *alone;
            while let Some(line) = lines.next() {
                let last = lines.peek().is_none();
                adjoins &= if last { line.trim().is_empty() } else { line.trim_start().starts_with('#') };
            }
            if adjoins {
                above.push(self.next);
            }
            self.next += 1;
        }
        above
    }

    /// Sets what the comments cover.
    fn end(&mut self, which: &[usize], scope: Span) {
        for &i in which {
            if let Some((allow, _)) = self.found.get_mut(i) {
                allow.scope = Some(scope);
            }
        }
    }

    fn finish(self) -> Vec<ast::Allow> {
        self.found.into_iter().map(|(allow, _)| allow).collect()
    }
}

/// The name that a statement declares, also where the rest of it could not be read.
fn declared(statement: Statement<'_>, rule: Rule) -> Option<Name> {
    if !matches!(rule, Rule::set_statement | Rule::group_statement | Rule::mesh_head | Rule::workload_head) {
        return None;
    }
    let words = statement.words();
    let (_, first) = token_at(words, 0);
    let rest = words.get(first.len()..)?;
    let start = words.len() - rest.trim_start().len();
    let (_, name) = token_at(words, start);
    let span = statement.part(start, start + name.len());
    statement::is_name(name).then(|| Spanned { value: name.to_owned(), span })
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

fn put_in_file(file: &mut ast::File, built: Built) -> Option<Built> {
    match built {
        Built::Import(import) => file.imports.push(import),
        Built::Set(set) => file.sets.push(set),
        other => return put_in_body(&mut file.body, other),
    }
    None
}

fn put_in_mesh(mesh: &mut ast::Mesh, built: Built) -> Option<Built> {
    match built {
        Built::Set(set) => mesh.sets.push(set),
        Built::Group(group) => mesh.groups.push(group),
        Built::Accelerate(accelerate) => mesh.accelerations.push(accelerate),
        other => return put_in_body(&mut mesh.body, other),
    }
    None
}

/// Gives back what may not stand in every scope.
fn put_in_body(body: &mut Body, built: Built) -> Option<Built> {
    match built {
        Built::Rule(rule) => body.rules.push(rule),
        Built::Exempt(exempt) => body.exempts.push(exempt),
        Built::On(on) => body.ons.push(on),
        other => return Some(other),
    }
    None
}

fn extent_of(span: Span) -> Extent {
    Extent { start: span.start, end: span.end }
}

fn no_block(statement: Statement<'_>, rule: Rule, brace: Option<u32>) -> Diagnostic {
    let (_, word) = token_at(statement.words(), 0);
    let diagnostic = Diagnostic::new(Code::Syntax, format!("{} has no block", quote(word)));
    let end = statement.words().len();
    match brace {
        Some(at) => diagnostic
            .label(
                Span { start: at, end: at + 1, ..statement.span() },
                "a newline ends the statement before it",
            )
            .help(format!("write the `{{` on the line of {}", quote(word))),
        None => {
            let inner = if rule == Rule::test_head { "flows" } else { "statements" };
            diagnostic
                .label(statement.part(end, end), "`{` belongs here")
                .help(format!("write `{{`, then its {inner}, then `}}`"))
        }
    }
}

fn nameless(brace: Span) -> Diagnostic {
    Diagnostic::new(Code::Syntax, "a block without a head")
        .label(brace, "opens a block of nothing")
        .help("write what it is before the `{`, such as `workload cart {`")
}

fn no_place_for_block(statement: Statement<'_>, brace: Span) -> Diagnostic {
    let (_, word) = token_at(statement.words(), 0);
    Diagnostic::new(Code::Syntax, format!("{} takes no block", quote(word)))
        .label(brace, "not expected here")
        .help("`mesh`, `workload`, `for` and `test` have blocks; a list stands in `[ ]`")
}

fn unreadable(statement: Statement<'_>) -> Diagnostic {
    Diagnostic::new(Code::Syntax, "this statement cannot be read")
        .label(statement.span(), "not understood")
        .help("compare it with the reference")
}
