//! Puts the mistakes of a file behind switches.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{LineColumn, Span};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{Arm, Block, Expr, ReturnType, Signature, Type};

use crate::Result;
use crate::mutant::{Genre, Mutant, Place};

/// The function that says whether a switch is on: at the end of each crate's root.
pub const SWITCH: &str = include_str!("switch.rs.in");

/// A file with switches.
pub struct Rewritten {
    pub text: String,
    /// The mistakes that are behind one.
    pub behind: BTreeSet<usize>,
}

/// Rewrites a file. `mutants` are its mistakes, by number. Functions are made ordinary ones, but those in `constant`, which constants call.
pub fn rewrite(text: &str, mutants: &[(usize, &Mutant)], constant: &BTreeSet<String>) -> Result<Rewritten> {
    let mut lines = vec![0];
    lines.extend(text.match_indices('\n').map(|(at, _)| at + 1));
    let mut walk = Walk {
        text,
        lines,
        mutants,
        constant,
        behind: BTreeSet::new(),
        regions: BTreeMap::new(),
        inserted: Vec::new(),
        deleted: Vec::new(),
        within_constant: 0,
    };
    walk.visit_file(&syn::parse_file(text)?);
    Ok(Rewritten { text: walk.written(), behind: walk.behind })
}

/// An expression that is chosen by switches.
#[derive(Default)]
struct Region {
    /// What stands there instead, by mistake.
    instead: Vec<(usize, String)>,
    /// Mistakes for which it is false: the arm that it guards is never taken.
    never: Vec<usize>,
}

struct Walk<'a> {
    text: &'a str,
    /// Where each line begins.
    lines: Vec<usize>,
    mutants: &'a [(usize, &'a Mutant)],
    constant: &'a BTreeSet<String>,
    behind: BTreeSet<usize>,
    /// By where they begin and end.
    regions: BTreeMap<(usize, usize), Region>,
    inserted: Vec<(usize, String)>,
    deleted: Vec<(usize, usize)>,
    within_constant: usize,
}

impl<'a> Walk<'a> {
    fn offset(&self, place: LineColumn) -> usize {
        let line = self.lines.get(place.line - 1).copied().unwrap_or(self.text.len());
        let rest = &self.text[line..];
        line + rest.char_indices().nth(place.column).map_or(rest.len(), |(at, _)| at)
    }

    fn range(&self, span: Span) -> (usize, usize) {
        (self.offset(span.start()), self.offset(span.end()))
    }

    fn of(&self, span: Span) -> &'a str {
        let (start, end) = self.range(span);
        &self.text[start..end]
    }

    /// The mistakes of a kind that begin where `span` does.
    fn at(&self, span: Span, genre: Genre) -> Vec<(usize, &'a Mutant)> {
        if self.within_constant > 0 {
            return Vec::new();
        }
        let at = place(span.start());
        (self.mutants.iter().copied())
            .filter(|(id, mutant)| {
                mutant.genre == genre && mutant.span.start == at && !self.behind.contains(id)
            })
            .collect()
    }

    fn region(&mut self, span: Span) -> &mut Region {
        self.regions.entry(self.range(span)).or_default()
    }

    fn instead(&mut self, span: Span, id: usize, text: String) {
        self.region(span).instead.push((id, text));
        self.behind.insert(id);
    }

    /// Whether a function stays constant, and has no switches.
    fn function(&mut self, signature: &Signature, block: &Block) -> bool {
        if let Some(word) = &signature.constness {
            if self.constant.contains(&signature.ident.to_string()) {
                return true;
            }
            let word = self.range(word.span());
            self.deleted.push(word);
        }
        let open = self.offset(block.brace_token.span.open().end());
        let close = self.offset(block.brace_token.span.close().start());
        let first = block.stmts.first().map_or_else(|| block.span(), |first| first.span());
        let is_opaque =
            matches!(&signature.output, ReturnType::Type(_, of) if matches!(**of, Type::ImplTrait(_)));
        for (id, mutant) in self.at(first, Genre::FnValue) {
            let value = if mutant.replacement == "()" { "" } else { &mutant.replacement };
            if is_opaque {
                // Whatever it returns has one type: its iterator, of which nothing is taken, and then the other one.
                self.inserted.push((open, " Iterator::chain(Iterator::filter({ ".into()));
                self.inserted.push((
                    close,
                    format!(
                        " }}, move |_| !crate::mutant({id})), crate::mutant({id}).then(|| {value}).into_iter().flatten()) "
                    ),
                ));
            } else {
                self.inserted.push((open, format!(" if crate::mutant({id}) {{ return {value}; }} ")));
            }
            self.behind.insert(id);
        }
        false
    }

    fn within(&mut self, is_constant: bool, visit: impl FnOnce(&mut Self)) {
        self.within_constant += usize::from(is_constant);
        visit(self);
        self.within_constant -= usize::from(is_constant);
    }

    /// The file with all switches in it.
    fn written(&self) -> String {
        // At one place, what ends comes before what begins; the wider begins first, and ends last.
        let mut edits: Vec<(usize, i64, String)> = Vec::new();
        for (&(start, end), region) in &self.regions {
            let wide = i64::try_from(end - start).unwrap_or(i64::MAX / 4);
            let mut head: String =
                region.never.iter().map(|id| format!("!crate::mutant({id}) && ")).collect();
            head.push('(');
            for (id, instead) in &region.instead {
                head += &format!("if crate::mutant({id}) {{ ({instead}) }} else ");
            }
            let (open, close) = if region.instead.is_empty() { ("", ")") } else { ("{ ", " })") };
            edits.push((start, i64::MAX / 2 - wide, head + open));
            edits.push((end, i64::MIN / 2 + wide, close.into()));
        }
        edits.extend(self.inserted.iter().map(|(at, text)| (*at, 0, text.clone())));
        edits.sort();
        let mut deleted = self.deleted.clone();
        deleted.sort_unstable();
        let mut deleted = deleted.into_iter().peekable();
        let (mut written, mut from) = (String::new(), 0);
        for (at, _, text) in edits.into_iter().chain([(self.text.len(), 0, String::new())]) {
            while let Some((start, end)) = deleted.next_if(|&(start, _)| start < at) {
                written += &self.text[from..start];
                from = end;
            }
            written += &self.text[from..at];
            written += &text;
            from = at;
        }
        written
    }
}

fn place(at: LineColumn) -> Place {
    Place { line: at.line, column: at.column + 1 }
}

/// Whether it binds names for what follows it: `let … && …`.
fn binds(expression: &Expr) -> bool {
    match expression {
        Expr::Let(_) => true,
        Expr::Binary(both) => binds(&both.left) || binds(&both.right),
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        let is_constant = self.function(&item.sig, &item.block);
        self.within(is_constant, |walk| visit::visit_item_fn(walk, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        let is_constant = self.function(&item.sig, &item.block);
        self.within(is_constant, |walk| visit::visit_impl_item_fn(walk, item));
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.within(true, |walk| visit::visit_item_const(walk, item));
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.within(true, |walk| visit::visit_item_static(walk, item));
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.within(true, |walk| visit::visit_impl_item_const(walk, item));
    }

    fn visit_expr_binary(&mut self, both: &'ast syn::ExprBinary) {
        if !binds(&both.left) && !binds(&both.right) {
            for (id, mutant) in self.at(both.op.span(), Genre::BinaryOperator) {
                let (left, right) = (self.of(both.left.span()), self.of(both.right.span()));
                self.instead(both.span(), id, format!("{left} {} {right}", mutant.replacement));
            }
        }
        visit::visit_expr_binary(self, both);
    }

    fn visit_expr_unary(&mut self, one: &'ast syn::ExprUnary) {
        for (id, mutant) in self.at(one.op.span(), Genre::UnaryOperator) {
            self.instead(one.span(), id, format!("{} {}", mutant.replacement, self.of(one.expr.span())));
        }
        visit::visit_expr_unary(self, one);
    }

    fn visit_expr_struct(&mut self, whole: &'ast syn::ExprStruct) {
        if let Some(base) = &whole.rest {
            for field in &whole.fields {
                for (id, _) in self.at(field.span(), Genre::StructField) {
                    let name = self.of(field.member.span());
                    if field.colon_token.is_none() {
                        let start = self.offset(field.member.span().start());
                        self.inserted.push((start, format!("{name}: ")));
                    }
                    self.instead(field.expr.span(), id, format!("({}).{name}", self.of(base.span())));
                }
            }
        }
        visit::visit_expr_struct(self, whole);
    }

    fn visit_arm(&mut self, arm: &'ast Arm) {
        let guard = arm.guard.as_ref().map(|(_, guard)| guard);
        if !guard.is_some_and(|guard| binds(guard)) {
            for (id, _) in self.at(arm.span(), Genre::MatchArm) {
                match guard {
                    Some(guard) => self.region(guard.span()).never.push(id),
                    None => {
                        let end = self.range(arm.pat.span()).1;
                        self.inserted.push((end, format!(" if !crate::mutant({id}) ")));
                    }
                }
                self.behind.insert(id);
            }
            if let Some(guard) = guard {
                for (id, mutant) in self.at(guard.span(), Genre::MatchArmGuard) {
                    self.instead(guard.span(), id, mutant.replacement.clone());
                }
            }
        }
        visit::visit_arm(self, arm);
    }
}
