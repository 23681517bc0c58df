//! What kind of thing each word is.

use std::collections::BTreeMap;

use lsp_types::{SemanticToken, SemanticTokenModifier, SemanticTokenType, SemanticTokensLegend};
use mesh_grammar::Rule;
use mesh_grammar::scan::{Extent, Piece, scan};
use mesh_grammar::statement::{Context, parse, rule_for};
use mesh_grammar::symbol::symbol;

use super::View;
use super::index::{self, Kind};
use crate::text::Text;

/// Kinds of words, in the order of [`legend`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Is {
    Keyword,
    Mesh,
    Set,
    Group,
    Workload,
    Text,
    Number,
    Operator,
    Comment,
    Key,
}

/// Declarations are told apart from uses.
const DECLARATION: u32 = 1;

/// What the numbers of tokens stand for.
pub fn legend() -> SemanticTokensLegend {
    SemanticTokensLegend {
        token_types: vec![
            SemanticTokenType::KEYWORD,
            SemanticTokenType::NAMESPACE,
            SemanticTokenType::VARIABLE,
            SemanticTokenType::ENUM,
            SemanticTokenType::CLASS,
            SemanticTokenType::STRING,
            SemanticTokenType::NUMBER,
            SemanticTokenType::OPERATOR,
            SemanticTokenType::COMMENT,
            SemanticTokenType::PROPERTY,
        ],
        token_modifiers: vec![SemanticTokenModifier::DECLARATION],
    }
}

/// The words between two bytes of a file, each by its place before. What cannot be read has none.
pub fn tokens(view: View<'_>, from: usize, to: usize) -> Vec<SemanticToken> {
    let source = view.text();
    let cut = scan(source);
    let names = names(view);
    let (from, to) = (count(from), count(to));
    let mut found: Vec<(Extent, Is, u32)> = Vec::new();
    let mut in_test = Vec::new();
    for piece in &cut.pieces {
        let extent = match piece {
            Piece::Statement(extent) => *extent,
            Piece::Head { extent, .. } => *extent,
            Piece::Close(_) => {
                in_test.pop();
                continue;
            }
        };
        let rule = extent.of(source).split(|it: char| it.is_whitespace()).next().and_then(rule_for);
        let context = if in_test.last() == Some(&true) { Context::Test } else { Context::File };
        if let Piece::Head { .. } = piece {
            in_test.push(rule == Some(Rule::test_head));
        }
        if extent.end < from || to < extent.start {
            continue;
        }
        let rule = if context == Context::Test { Some(Rule::expect_statement) } else { rule };
        if let Some(rule) = rule {
            words(source, extent, rule, &names, &mut found);
        }
    }
    found.extend(cut.comments.iter().map(|comment| (comment.extent, Is::Comment, 0)));
    found.retain(|(extent, ..)| from <= extent.end && extent.start <= to);
    found.sort_unstable();
    relative(source, &found)
}

/// The words of one statement.
fn words(
    source: &str,
    extent: Extent,
    rule: Rule,
    names: &BTreeMap<u32, (Kind, bool)>,
    found: &mut Vec<(Extent, Is, u32)>,
) {
    let Ok(pairs) = parse(rule, extent.of(source)) else { return };
    let mut depth: Vec<_> = pairs.collect();
    while let Some(pair) = depth.pop() {
        let rule = pair.as_rule();
        let span = pair.as_span();
        let start = extent.start + count(span.start());
        let end = extent.start + count(span.end());
        let named = names.get(&start).copied();
        let is = match rule {
            Rule::name => named.map(|(kind, _)| match kind {
                Kind::Mesh => Is::Mesh,
                Kind::Set => Is::Set,
                Kind::Group => Is::Group,
                Kind::Workload => Is::Workload,
            }),
            Rule::string | Rule::value => Some(Is::Text),
            Rule::service => Some(Is::Text),
            Rule::key => Some(Is::Key),
            Rule::port | Rule::address | Rule::id | Rule::bracketed => Some(Is::Number),
            Rule::arrow | Rule::both | Rule::equals => Some(Is::Operator),
            // Words of the language have rules of their own, that are named as they are written.
            _ if symbol(rule).trim_matches('`') == span.as_str() => {
                let is_word = span.as_str().starts_with(|it: char| it.is_ascii_alphabetic());
                is_word.then_some(Is::Keyword)
            }
            _ => None,
        };
        match is {
            Some(is) => {
                let declared = named.is_some_and(|(_, declared)| declared && rule == Rule::name);
                found.push((Extent { start, end }, is, if declared { DECLARATION } else { 0 }));
            }
            None => depth.extend(pair.into_inner()),
        }
    }
}

/// What is named at each place of the file where a name begins, and whether it is declared there.
fn names(view: View<'_>) -> BTreeMap<u32, (Kind, bool)> {
    let declared: BTreeMap<_, Kind> =
        index::all(view.program).map(|declared| (declared.name.span, declared.kind)).collect();
    let own = declared.iter().filter(|(span, _)| span.file == view.file);
    let mut names: BTreeMap<u32, (Kind, bool)> =
        own.map(|(span, &kind)| (span.start, (kind, true))).collect();
    let uses = view.program.compilation.resolution.uses.iter().filter(|it| it.span.file == view.file);
    names.extend(uses.filter_map(|it| Some((it.span.start, (*declared.get(&it.declared)?, false)))));
    names
}

/// Each by its distance from the one before. Tokens of many lines are cut, as editors want them.
fn relative(source: &str, found: &[(Extent, Is, u32)]) -> Vec<SemanticToken> {
    let text = Text::new(source);
    let (mut line, mut character) = (0, 0);
    let mut tokens = Vec::with_capacity(found.len());
    for &(extent, is, token_modifiers_bitset) in found {
        let (start, end) = (text.position(extent.start as usize), text.position(extent.end as usize));
        if start.line != end.line {
            continue;
        }
        let delta_line = start.line.saturating_sub(line);
        let delta_start =
            if delta_line == 0 { start.character.saturating_sub(character) } else { start.character };
        let length = end.character.saturating_sub(start.character);
        tokens.push(SemanticToken {
            delta_line,
            delta_start,
            length,
            token_type: is as u32,
            token_modifiers_bitset,
        });
        (line, character) = (start.line, start.character);
    }
    tokens
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
