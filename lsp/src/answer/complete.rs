//! What may stand at a place: words of the language from what the grammar expects there, and names.

use lsp_types::{CompletionItem, CompletionItemKind};
use mesh_compiler::diag::{Code, Severity};
use mesh_grammar::Rule;
use mesh_grammar::scan::{Extent, Piece, scan};
use mesh_grammar::statement::{Context, parse, rule_for};
use mesh_grammar::symbol::symbol;

use super::View;
use super::index::{self, Declared, Kind};

/// Everything that may stand there, in any order. The word that is being typed is left to the editor.
pub fn complete(view: View<'_>, offset: usize) -> Vec<CompletionItem> {
    let before = view.text().get(..offset).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    if let Some(comment) = comment(before, line) {
        return if is_allowing(comment) { codes() } else { Vec::new() };
    }
    if line.matches('"').count() % 2 == 1 {
        return Vec::new();
    }
    let start = before.trim_end_matches(|it: char| it.is_ascii_alphanumeric() || "_-".contains(it)).len();
    let before = before.get(..start).unwrap_or_default();
    let place = Place::of(before);
    let Some(context) = place.context else { return Vec::new() };
    if place.statement.is_empty() {
        let mut items: Vec<CompletionItem> = context.words().into_iter().map(word).collect();
        if context == Context::Test {
            items.push(word("inbound"));
            items.extend(names(view, place.mesh.as_deref(), |kind| kind == Kind::Workload));
        }
        return items;
    }
    let first = place.statement.split_whitespace().next().unwrap_or_default();
    let rule = rule_for(first).filter(|rule| context.allows(*rule));
    let Some(rule) = rule.or((context == Context::Test).then_some(Rule::expect_statement)) else {
        return Vec::new();
    };
    let declares = matches!(place.statement.trim(), "set" | "group" | "workload" | "mesh");
    let mut items = Vec::new();
    let mut with_names = false;
    for expected in expected(rule, &place.statement) {
        match expected {
            Rule::ports | Rule::protocol_ports => items.extend(["tcp", "udp", "any"].map(word)),
            _ => items.extend(words(expected)),
        }
        with_names |= matches!(
            expected,
            Rule::name | Rule::place | Rule::addresses | Rule::endpoint | Rule::ports | Rule::set_item
        );
    }
    if with_names && !declares {
        items.extend(names(view, place.mesh.as_deref(), |_| true));
    }
    items.sort_by(|one, other| one.label.cmp(&other.label));
    items.dedup_by(|one, other| one.label == other.label);
    items
}

/// The comment that the end of a text is in.
fn comment<'t>(before: &str, line: &'t str) -> Option<&'t str> {
    let last = scan(before).comments.last().copied()?;
    let is_open = last.extent.end as usize == before.len();
    is_open.then(|| line.find('#').and_then(|at| line.get(at..)).unwrap_or_default())
}

/// Whether the end of a text is in a comment.
pub fn is_within_comment(before: &str) -> bool {
    comment(before, before.rsplit('\n').next().unwrap_or_default()).is_some()
}

fn is_allowing(comment: &str) -> bool {
    let said = comment.trim_start_matches('#').trim_start();
    let inner = said.strip_prefix("meshc:").map(str::trim_start).and_then(|rest| rest.strip_prefix("allow"));
    inner.is_some_and(|inner| inner.contains('(') && !inner.contains(')'))
}

fn codes() -> Vec<CompletionItem> {
    let codes = Code::ALL.into_iter().filter(|code| code.severity() != Severity::Error);
    codes
        .map(|code| CompletionItem {
            label: code.word().to_owned(),
            kind: Some(CompletionItemKind::CONSTANT),
            detail: code.page().lines().skip(1).find(|line| !line.is_empty()).map(str::to_owned),
            ..CompletionItem::default()
        })
        .collect()
}

/// Where the end of a text is.
pub struct Place {
    /// In what; none where the block's head could not be read.
    pub context: Option<Context>,
    /// The statement that it is in, so far; empty where one begins.
    pub statement: String,
    /// The mesh that it is in.
    mesh: Option<String>,
}

impl Place {
    /// The scanner says in which statement a word would be that stood there.
    pub fn of(before: &str) -> Self {
        const WORD: &str = "x";
        let text = format!("{before}{WORD}");
        let mut open: Vec<&str> = Vec::new();
        let mut statement = "";
        for piece in scan(&text).pieces {
            match piece {
                Piece::Head { extent, .. } => open.push(extent.of(&text)),
                Piece::Close(_) => drop(open.pop()),
                Piece::Statement(Extent { start, end }) if end as usize == text.len() => {
                    statement = before.get(start as usize..).unwrap_or_default();
                }
                Piece::Statement(_) => {}
            }
        }
        let context = match open.last() {
            None => Some(Context::File),
            Some(head) => match head.split_whitespace().next().and_then(rule_for) {
                Some(Rule::mesh_head) => Some(Context::Mesh),
                Some(Rule::workload_head) => Some(Context::Workload),
                Some(Rule::for_head) => Some(Context::For),
                Some(Rule::test_head) => Some(Context::Test),
                _ => None,
            },
        };
        let mesh = open.first().and_then(|head| head.strip_prefix("mesh")).map(|name| name.trim().to_owned());
        Self { context, statement: statement.to_owned(), mesh }
    }
}

/// What the grammar expects behind the words; nothing where they make no sense before.
fn expected(rule: Rule, words: &str) -> Vec<Rule> {
    // A character that nothing begins with.
    let text = format!("{words} ?");
    match parse(rule, &text) {
        Err(error) if error.at + 1 == text.len() => error.expected,
        _ => Vec::new(),
    }
}

/// The words of the language among what a symbol stands for.
fn words(rule: Rule) -> impl Iterator<Item = CompletionItem> {
    let quoted = symbol(rule).split('`').skip(1).step_by(2);
    quoted.filter(|word| word.starts_with(|it: char| it.is_ascii_alphabetic())).map(word)
}

fn word(word: &str) -> CompletionItem {
    CompletionItem {
        label: word.to_owned(),
        kind: Some(CompletionItemKind::KEYWORD),
        ..CompletionItem::default()
    }
}

/// The names that are seen from a mesh.
fn names(view: View<'_>, mesh: Option<&str>, kinds: impl Fn(Kind) -> bool) -> Vec<CompletionItem> {
    let is_seen =
        |it: &Declared<'_>| it.kind != Kind::Mesh && kinds(it.kind) && (it.mesh.is_none() || it.mesh == mesh);
    index::all(view.program)
        .filter(is_seen)
        .map(|it| CompletionItem {
            label: it.name.value.clone(),
            kind: Some(match it.kind {
                Kind::Mesh => CompletionItemKind::MODULE,
                Kind::Set => CompletionItemKind::VARIABLE,
                Kind::Group => CompletionItemKind::ENUM,
                Kind::Workload => CompletionItemKind::CLASS,
            }),
            detail: Some(it.kind.word().to_owned()),
            ..CompletionItem::default()
        })
        .collect()
}
