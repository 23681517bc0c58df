//! The words of syntax errors.

use mesh_grammar::Rule;
use mesh_grammar::scan::{Extent, Fault, FaultKind};
use mesh_grammar::statement::{self, Context, SyntaxError, rule_for};
use mesh_grammar::symbol::symbol;

use super::errors::Errors;
use super::habit::{self, Habit};
use super::token::{in_word, token_at};
use crate::ast::{Name, Spanned};
use crate::diag::{Code, Diagnostic, did_you_mean, one_of, quote};
use crate::source::{FileId, Span};

/// Up to how many things a headline lists; longer lists go to the help.
const LISTED_IN_HEADLINE: usize = 4;

/// A statement of a file, as far as messages need it.
#[derive(Clone, Copy)]
pub(super) struct Statement<'t> {
    pub(super) file: FileId,
    /// The whole file.
    pub(super) text: &'t str,
    pub(super) extent: Extent,
}

impl<'t> Statement<'t> {
    pub(super) fn words(self) -> &'t str {
        self.extent.of(self.text)
    }

    pub(super) const fn span(self) -> Span {
        Span { file: self.file, start: self.extent.start, end: self.extent.end }
    }

    /// A part of the statement, by bytes from its start.
    pub(super) fn part(self, start: usize, end: usize) -> Span {
        let at = |offset: usize| self.extent.start.saturating_add(u32::try_from(offset).unwrap_or(u32::MAX));
        Span { file: self.file, start: at(start), end: at(end) }
    }

    /// The token after the statement, whatever it is.
    fn next_token(self) -> &'t str {
        let mut rest = self.text.get(self.extent.end as usize..).unwrap_or_default();
        loop {
            rest = rest.trim_start();
            let Some(comment) = rest.strip_prefix('#') else { break };
            rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
        }
        token_at(rest, 0).1
    }
}

/// The statement does not go on as it should.
pub(super) fn unexpected(statement: Statement<'_>, rule: Rule, error: &SyntaxError) -> Diagnostic {
    let words = statement.words();
    let (start, found) = token_at(words, error.at);
    let before = words.get(..start).unwrap_or_default().trim_end();
    let habit = habit::in_statement(rule, error, words, start);
    if let Some(Habit { message: Some(message), start, end, label, help }) = habit {
        return Diagnostic::new(Code::Syntax, message).label(statement.part(start, end), label).help(help);
    }
    if found.is_empty() && statement.next_token() == "{" && !is_head(rule) && expects_list(error) {
        return Diagnostic::new(Code::Syntax, "a list does not stand in braces")
            .label(brace_after(statement), "opens a block")
            .help("a list stands in `[ ]`, or without any brackets");
    }
    if habit.is_none() && before.ends_with(',') && (found.is_empty() || is_word(found)) {
        return stray_comma(statement, before.len() - 1, found);
    }
    let expected = expected_symbols(&error.expected);
    let span = statement.part(start, start + found.len());
    let shown =
        if found.is_empty() { "the statement ends".to_owned() } else { format!("found {}", quote(found)) };
    let short = expected.len() <= LISTED_IN_HEADLINE;
    let (message, label) = match (short, found.is_empty()) {
        (true, _) => {
            (format!("expected {}, {shown}", one_of(&expected)), format!("expected {}", one_of(&expected)))
        }
        (false, true) => ("the statement is not complete".to_owned(), "more is needed here".to_owned()),
        (false, false) => (format!("{} cannot stand here", quote(found)), "not expected here".to_owned()),
    };
    let usual = habit.map(|habit| habit.help).or_else(|| hint(rule, error, before, found));
    let help = usual.unwrap_or_else(|| {
        if short { example(rule).to_owned() } else { format!("here may stand {}", one_of(&expected)) }
    });
    Diagnostic::new(Code::Syntax, message).label(span, label).help(help)
}

const fn is_head(rule: Rule) -> bool {
    mesh_grammar::statement::has_block(rule)
}

/// Whether a list could begin where the statement ends.
fn expects_list(error: &SyntaxError) -> bool {
    [Rule::open, Rule::addresses, Rule::port, Rule::id].iter().any(|rule| error.expected.contains(rule))
}

/// The `{` that follows.
fn brace_after(statement: Statement<'_>) -> Span {
    let rest = statement.text.get(statement.extent.end as usize..).unwrap_or_default();
    let at = statement.words().len() + rest.find('{').unwrap_or(0);
    statement.part(at, at + 1)
}

/// How a statement is written.
const fn example(rule: Rule) -> &'static str {
    match rule {
        Rule::import_statement => "an import names a file or a directory: `import \"platform.mesh\"`",
        Rule::set_statement => {
            "a set is `set databases = tcp 3306, 5432` or `set private = 10.0.0.0/8, fc00::/7`"
        }
        Rule::exempt_statement => {
            "an exemption is `exempt uid 1500`, `exempt gid 1500`, `exempt cgroup \"/proxy\"` or `exempt interface \"net1\"`"
        }
        Rule::rule_statement => {
            "a rule is such as `redirect outbound tcp 443 -> 15001` or `deny outbound tcp 25 to 10.0.0.0/8`"
        }
        Rule::on_statement => {
            "write `on missing-sidecar refuse` (or `pass`) or `on failed-attach refuse` (or `start`)"
        }
        Rule::mesh_head => "a mesh is `mesh NAME { … }`",
        Rule::workload_head => "a workload is `workload NAME { … }`",
        Rule::for_head => "rules for several workloads or groups are `for cart, catalog { … }`",
        Rule::test_head => "a test is `test \"what holds\" { … }`",
        Rule::selector_statement => {
            "a selector is such as `namespace shop`, `label app = cart`, `address 10.42.1.0/24` or `cgroup \"/cart\"`"
        }
        Rule::group_statement => "a group is `group storefront = cart, catalog`",
        Rule::accelerate_statement => {
            "write `accelerate local`, `accelerate all`, `accelerate within GROUP` or `accelerate cart <-> catalog`"
        }
        Rule::expect_statement => "a line of a test is such as `cart -> 10.0.3.9 tcp 3306 is excluded`",
        _ => "a flow is such as `cart -> 10.0.3.9 tcp 3306`, or `10.0.3.9 -> cart tcp 80`",
    }
}

fn stray_comma(statement: Statement<'_>, comma: usize, found: &str) -> Diagnostic {
    let next = if found.is_empty() { statement.next_token() } else { found };
    let message = match next {
        "" | ";" => "a comma at the end of a statement".to_owned(),
        next => format!("a comma before {}", quote(next)),
    };
    Diagnostic::new(Code::Syntax, message)
        .label(statement.part(comma, comma + 1), "nothing of the list follows")
        .help("remove the comma; only in `[ ]` may a list end with one")
}

fn expected_symbols(expected: &[Rule]) -> Vec<&'static str> {
    let (end, others): (Vec<Rule>, Vec<Rule>) = expected.iter().partition(|&&rule| rule == Rule::EOI);
    let mut symbols: Vec<&str> = Vec::new();
    for rule in others.into_iter().chain(end) {
        if !symbols.contains(&symbol(rule)) {
            symbols.push(symbol(rule));
        }
    }
    symbols
}

/// Help for mistakes that are made often.
fn hint(rule: Rule, error: &SyntaxError, before: &str, found: &str) -> Option<String> {
    let expects = |rule: Rule| error.expected.contains(&rule);
    let is_number = found.starts_with(|c: char| c.is_ascii_digit());
    // In a rule these are about its ports or its processes.
    let is_of_a_rule = rule == Rule::rule_statement && matches!(found, "any" | "cgroup");
    if expects(Rule::EOI) && begins_a_statement(found) && !is_of_a_rule {
        return Some(format!(
            "{} begins a statement of its own: write it on a line of its own, or put `;` before it",
            quote(found)
        ));
    }
    let names_wanted = expects(Rule::name) && !expects(Rule::ports);
    if names_wanted && is_reserved(found) {
        return Some(format!("{} is a word of the language: choose another name", quote(found)));
    }
    if names_wanted && is_word(found) && !expects(Rule::addresses) {
        return Some(
            "a name begins with a letter and holds letters, digits, `_` and `-`, not at its end".to_owned(),
        );
    }
    if let Some(word) = nearest_word(&error.expected, found) {
        return Some(format!("did you mean `{word}`?"));
    }
    if expects(Rule::ports) && is_number {
        let preposition = if before.ends_with("inbound") { "from" } else { "to" };
        let is_address = found.contains(['.', ':', '/']);
        let written = if is_address { format!("{preposition} {found}") } else { format!("tcp {found}") };
        return Some(format!("write {}", quote(&written)));
    }
    if rule == Rule::rule_statement
        && let Some(help) = hint_about_processes(error, before, found)
    {
        return Some(help);
    }
    if rule == Rule::rule_statement && matches!(found, "tcp" | "udp" | "any") {
        let written = |word: &&str| before.split_whitespace().any(|other| other == *word);
        if let Some(preposition) = ["to", "from"].into_iter().find(written) {
            return Some(format!("ports stand before `{preposition}`, right after the direction"));
        }
        return Some(format!(
            "ports stand once, right after the direction: write a rule of its own for `{found}`, or name a set"
        ));
    }
    if found.contains('.') && (expects(Rule::addresses) || expects(Rule::address)) {
        return Some(
            "a host name cannot stand for an address: connections are decided by address".to_owned(),
        );
    }
    if expects(Rule::string) && is_word(found) {
        return Some(format!("put it in quotes: `\"{}\"`", quote(found).trim_matches('`')));
    }
    if expects(Rule::comma) && is_word(found) && !is_reserved(found) {
        return Some("items of a list have a comma between them".to_owned());
    }
    None
}

/// Help for what stands behind `as` in a rule.
fn hint_about_processes(error: &SyntaxError, before: &str, found: &str) -> Option<String> {
    let expects = |rule: Rule| error.expected.contains(&rule);
    match found {
        "uid" | "gid" | "cgroup" if expects(Rule::kw_and) => {
            Some(format!("kinds of processes are joined by `and`: write `and {found}`"))
        }
        "to" | "from" if expects(Rule::kw_and) => Some(format!("addresses stand before `as`: `{found} … as …`")),
        "tcp" | "udp" | "any" if expects(Rule::kw_and) => {
            Some("ports stand before `as`, right after the direction".to_owned())
        }
        _ if before.ends_with(" as") => Some(
            "processes are named by user id, group id or cgroup: `as uid 1000-1999`, `as gid 100`, `as cgroup \"/jobs\"`"
                .to_owned(),
        ),
        _ if expects(Rule::id) && is_word(found) && !found.starts_with(|c: char| c.is_ascii_digit()) => {
            Some("users and groups are named by their numbers: `uid 1000`".to_owned())
        }
        _ => None,
    }
}

/// Whether a statement begins so, wherever it may stand.
fn begins_a_statement(word: &str) -> bool {
    let contexts = [Context::File, Context::Mesh, Context::Workload, Context::For, Context::Test];
    contexts.into_iter().any(|context| context.words().contains(&word))
}

/// The word among those expected that was probably meant.
fn nearest_word(expected: &[Rule], found: &str) -> Option<&'static str> {
    let words = expected.iter().map(|&rule| symbol(rule)).filter_map(|symbol| {
        let word = symbol.strip_prefix('`')?.strip_suffix('`')?;
        word.starts_with(|c: char| c.is_ascii_alphabetic()).then_some(word)
    });
    did_you_mean(found, words.collect::<Vec<_>>())
}

/// A statement begins with a word that begins none.
pub(super) fn no_statement(statement: Statement<'_>, context: Context, meant: Option<&str>) -> Diagnostic {
    let (_, found) = token_at(statement.words(), 0);
    let start = statement.extent.start as usize;
    let before = statement.text.get(..start).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    let habit = habit::at_beginning(statement.words(), line, context);
    if let Some(habit) = habit {
        let found = statement.words().get(..habit.end).unwrap_or_default();
        let message = habit.message.unwrap_or_else(|| format!("{} does not begin a statement", quote(found)));
        return Diagnostic::new(Code::Syntax, message)
            .label(statement.part(habit.start, habit.end), habit.label)
            .help(habit.help);
    }
    let help = match meant {
        Some(word) => format!("did you mean `{word}`?"),
        None => {
            let words: Vec<String> = context.words().into_iter().map(|word| format!("`{word}`")).collect();
            format!("{} may stand {}", context.in_words(), one_of(&words))
        }
    };
    Diagnostic::new(Code::Syntax, format!("{} does not begin a statement", quote(found)))
        .label(statement.part(0, found.len()), "not a statement")
        .help(help)
}

/// A statement stands where it must not.
pub(super) fn misplaced(statement: Statement<'_>, rule: Rule, context: Context) -> Diagnostic {
    let (_, found) = token_at(statement.words(), 0);
    let contexts = [Context::File, Context::Mesh, Context::Workload, Context::For, Context::Test];
    let allowed: Vec<&str> =
        (contexts.into_iter()).filter(|context| context.allows(rule)).map(Context::in_words).collect();
    Diagnostic::new(Code::Syntax, format!("{} is not allowed {}", quote(found), context.in_words()))
        .label(statement.part(0, found.len()), "not here")
        .help(format!("it stands {}", one_of(&allowed)))
}

/// What is wrong with the characters themselves. Two typographic quotes around one text are one mistake.
pub(super) fn faults(file: FileId, text: &str, all: &[Fault], errors: &mut Errors) {
    let mut rest = all;
    while let Some((&one, others)) = rest.split_first() {
        rest = others;
        let Some(open) = quote_of(one) else {
            errors.push(|| fault(file, one));
            continue;
        };
        let between = |other: &Fault| text.get(one.extent.end as usize..other.extent.start as usize);
        let partner = others.first().filter(|other| {
            quote_of(**other).is_some() && between(other).is_some_and(|inner| !inner.contains(['\n', '"']))
        });
        let before = text.get(..one.extent.start as usize).unwrap_or_default();
        let statement = before.rsplit(['\n', ';', '{']).next().unwrap_or_default();
        let inner = partner.and_then(between).unwrap_or_default();
        if partner.is_some() {
            rest = others.get(1..).unwrap_or_default();
        }
        errors.push(|| {
            let Some(close) = partner.copied() else { return fault(file, one) };
            let shown = quote_of(close).unwrap_or(open);
            let span = Span { file, start: one.extent.start, end: close.extent.end };
            Diagnostic::new(Code::Syntax, format!("typographic quotes `{open}` and `{shown}`"))
                .label(span, format!("U+{:04X} and U+{:04X}", u32::from(open), u32::from(shown)))
                .help(habit::without_quotes(statement, inner))
        });
    }
}

/// The character, if the fault is a typographic quote.
const fn quote_of(fault: Fault) -> Option<char> {
    match fault.kind {
        FaultKind::Typographic { found, what, .. } if matches!(what.as_bytes(), b"quote") => Some(found),
        _ => None,
    }
}

/// A character that may not stand where it does, or something never closed.
fn fault(file: FileId, fault: Fault) -> Diagnostic {
    let span = Span { file, start: fault.extent.start, end: fault.extent.end };
    let new = |message: String| Diagnostic::new(Code::Syntax, message);
    match fault.kind {
        FaultKind::Control(found) => new(format!("control character U+{:04X}", u32::from(found)))
            .label(span, "cannot be seen, and may hide text")
            .help("remove it"),
        FaultKind::Bidirectional(found) => {
            new(format!("bidirectional control character U+{:04X}", u32::from(found)))
                .label(span, "makes text look different from what it says")
                .help("remove it")
        }
        FaultKind::Typographic { found, what, write } => typographic(span, found, what, write),
        FaultKind::UnclosedString => new("text in quotes does not end on its line".to_owned())
            .label(span, "the second quote is missing")
            .help("close it with `\"`"),
        FaultKind::UnclosedBracket => new("`[` is never closed".to_owned())
            .label(span, "opened here")
            .help("write `]` after the last item"),
    }
}

fn typographic(span: Span, found: char, what: &str, write: &str) -> Diagnostic {
    let code = u32::from(found);
    if what == "space" {
        return Diagnostic::new(Code::Syntax, format!("typographic space U+{code:04X}"))
            .label(span, "not a plain space")
            .help("write a plain space");
    }
    Diagnostic::new(Code::Syntax, format!("typographic {what} `{found}`"))
        .label(span, format!("U+{code:04X}"))
        .help(format!("write `{write}`"))
}

pub(super) fn no_block(statement: Statement<'_>, rule: Rule, brace: Option<u32>) -> Diagnostic {
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

pub(super) fn nameless(brace: Span) -> Diagnostic {
    Diagnostic::new(Code::Syntax, "a block without a head")
        .label(brace, "opens a block of nothing")
        .help("write what it is before the `{`, such as `workload cart {`")
}

pub(super) fn no_place_for_block(statement: Statement<'_>, brace: Span) -> Diagnostic {
    let (_, word) = token_at(statement.words(), 0);
    Diagnostic::new(Code::Syntax, format!("{} takes no block", quote(word)))
        .label(brace, "not expected here")
        .help("`mesh`, `workload`, `for` and `test` have blocks; a list stands in `[ ]`")
}

pub(super) fn unreadable(statement: Statement<'_>) -> Diagnostic {
    Diagnostic::new(Code::Syntax, "this statement cannot be read")
        .label(statement.span(), "not understood")
        .help("compare it with the reference")
}

/// The name that a statement declares, also where the rest of it could not be read.
pub(super) fn declared(statement: Statement<'_>, rule: Rule) -> Option<Name> {
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

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| in_word(c) && c != '-')
}

/// Whether a token is a word of the language that cannot be a name.
pub(super) fn is_reserved(token: &str) -> bool {
    rule_for(token).is_some() || mesh_grammar::statement::is_reserved(token)
}
