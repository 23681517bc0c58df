//! Helps that are edits.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;

use lsp_types::{CodeAction, CodeActionKind, CodeActionOrCommand, Range, TextEdit, WorkspaceEdit};
use mesh_compiler::ast;
use mesh_compiler::diag::{Code, Diagnostic, Severity};
use mesh_compiler::parse::{Statements, parse_file_after};
use mesh_compiler::source::Span;
use mesh_grammar::scan::{Extent, Piece, scan};

use super::{View, range};
use crate::text::Text;

/// What can be done about what is wrong in a range.
pub fn actions(view: View<'_>, asked: Range) -> Vec<CodeActionOrCommand> {
    let text = Text::new(view.text());
    let (from, to) = (text.offset(asked.start), text.offset(asked.end));
    let here = |found: &&Diagnostic| {
        found.span().is_some_and(|span| {
            span.file == view.file && span.start as usize <= to && from <= span.end as usize
        })
    };
    let (known, mistakes) = (RefCell::default(), OnceCell::new());
    let fixes = Fixes { view, text, known, mistakes };
    view.program.compilation.diagnostics.iter().filter(here).flat_map(|found| fixes.of(found)).collect()
}

struct Fixes<'a> {
    view: View<'a>,
    text: Text<'a>,
    /// Statements that were read, so that a text with one change is read fast.
    known: RefCell<Statements>,
    /// How many mistakes the text has for the parser.
    mistakes: OnceCell<usize>,
}

/// Bytes of the file, and what should stand there.
type Edit = (usize, usize, String);

impl Fixes<'_> {
    fn of(&self, found: &Diagnostic) -> Vec<CodeActionOrCommand> {
        let help = found.help.as_deref().unwrap_or_default();
        let mut all = Vec::new();
        match found.code {
            Code::UnknownName | Code::UnknownService => {
                let word = quoted(help, "did you mean `", "`?");
                if let Some((word, edits)) = word.and_then(|word| Some((word, self.instead(found, word)?))) {
                    all.extend(self.action(format!("write `{word}`"), edits));
                }
            }
            Code::Leak => {
                for rule in rules(help) {
                    let edits = self.below(found, &rule);
                    all.extend(
                        edits.and_then(|(rule, edit)| self.action(format!("add `{rule}`"), vec![edit])),
                    );
                }
            }
            _ if found.severity == Severity::Error => {
                let fix = self.written(found, help);
                all.extend(fix.and_then(|(title, edit)| self.action(title, vec![edit])));
            }
            _ => {}
        }
        if let Some(edits) = self.removed(found) {
            all.extend(self.action("remove it".to_owned(), edits));
        }
        if found.severity != Severity::Error && found.code.severity() != Severity::Error {
            let edit = found.span().and_then(|span| self.allowed(span, found.code));
            all.extend(edit.and_then(|edit| self.action(format!("allow `{}` here", found.code), vec![edit])));
        }
        all
    }

    /// Another word at each place where the mistake is.
    fn instead(&self, found: &Diagnostic, word: &str) -> Option<Vec<Edit>> {
        let places = found.labels.iter().filter(|label| label.primary).map(|label| label.span);
        let edits: Vec<Edit> = places
            .filter(|span| span.file == self.view.file && span.start < span.end)
            .map(|span| (span.start as usize, span.end as usize, word.to_owned()))
            .collect();
        (!edits.is_empty()).then_some(edits)
    }

    /// What the help of an error says to write, or to leave out: the first of what it may mean after which the parser
    /// has less to say.
    fn written(&self, found: &Diagnostic, help: &str) -> Option<(String, Edit)> {
        const TRIED: usize = 12;
        let span = found.span().filter(|span| span.file == self.view.file)?;
        let (start, end) = (span.start as usize, span.end as usize);
        let mut tried: Vec<(String, Edit)> = Vec::new();
        for word in advised(help) {
            let title = || format!("write `{word}`");
            tried.push((title(), (start, end, word.to_owned())));
            tried.push((title(), (end, end, word.to_owned())));
            tried.push((title(), (start, start, format!("{word} "))));
            if word.starts_with('}') {
                let line = if self.view.text().ends_with('\n') { "" } else { "\n" };
                let all = self.view.text().len();
                tried.push((title(), (all, all, format!("{line}{word}\n"))));
            }
        }
        if help.contains("a comma between") {
            let before = self.view.text().get(..start)?.trim_end().len();
            tried.push(("write a comma between them".to_owned(), (before, before, ",".to_owned())));
        }
        if help.contains("on a line of its own") {
            tried.insert(0, ("write it on a line of its own".to_owned(), (start, start, "\n".to_owned())));
        }
        if help.starts_with("write a plain space") {
            tried.push((help.to_owned(), (start, end, " ".to_owned())));
        }
        if ["remove it", "remove the comma", "leave it out", "leave `"]
            .iter()
            .any(|words| help.starts_with(words))
        {
            let title = help.split([';', ':', ',']).next().unwrap_or_default();
            tried.insert(0, (title.to_owned(), (start, end, String::new())));
        }
        tried.truncate(TRIED);
        let before = *self.mistakes.get_or_init(|| self.mistakes_of(self.view.text()));
        tried.into_iter().find(|(_, (start, end, new))| {
            let mut text = self.view.text().to_owned();
            text.replace_range(*start..*end, new);
            self.mistakes_of(&text) < before
        })
    }

    fn mistakes_of(&self, text: &str) -> usize {
        let mut known = self.known.borrow_mut();
        known.next_version();
        parse_file_after(self.view.file, text, Some(&mut *known)).1.len()
    }

    /// Without what is of no use. A statement goes with its line where nothing else is there, an item of a list with a comma.
    fn removed(&self, found: &Diagnostic) -> Option<Vec<Edit>> {
        let span = found.span().filter(|span| span.file == self.view.file)?;
        let (start, end) = (span.start as usize, span.end as usize);
        match found.code {
            Code::NoEffect => {
                let statement = self.statement(span)?;
                if statement == (start, end) {
                    return Some(vec![self.line(statement)]);
                }
                let places = found.labels.iter().filter(|label| label.primary).map(|label| label.span);
                let places: Vec<Span> = places.filter(|place| place.file == span.file).collect();
                self.items(&places)
            }
            Code::Unused => {
                if let Some(comment) = self.allowing(start, end) {
                    return Some(vec![comment]);
                }
                let statement = self.statement(span).filter(|&(from, _)| {
                    let words = self.view.text().get(from..start).unwrap_or_default();
                    matches!(words.trim(), "set" | "group")
                })?;
                Some(vec![self.line(statement)])
            }
            _ => None,
        }
    }

    /// Without these bytes, and without their line where nothing else is there.
    fn line(&self, (start, end): (usize, usize)) -> Edit {
        let text = self.view.text();
        let before = text.get(..start).unwrap_or_default();
        let line = before.rfind('\n').map_or(0, |at| at + 1);
        let rest = text.get(end..).unwrap_or_default();
        let next = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let is_alone = before.get(line..).unwrap_or_default().trim().is_empty()
            && rest.get(..next).unwrap_or_default().trim().is_empty();
        if is_alone { (line, end + next, String::new()) } else { (start, end, String::new()) }
    }

    /// Without some items of lists, if the parser has nothing to say of what is left.
    fn items(&self, places: &[Span]) -> Option<Vec<Edit>> {
        let text = self.view.text();
        let mut places: Vec<(usize, usize)> =
            places.iter().map(|span| (span.start as usize, span.end as usize)).collect();
        places.sort_unstable();
        places.dedup();
        let mut edits: Vec<Edit> = Vec::new();
        for (start, end) in places {
            let rest = text.get(end..)?;
            let before = text.get(..start)?.trim_end();
            let edit = if let Some(after) = rest.trim_start().strip_prefix(',') {
                (start, text.len() - after.trim_start_matches([' ', '\t']).len(), String::new())
            } else {
                (before.strip_suffix(',')?.trim_end().len(), end, String::new())
            };
            // Where neighbours go together, the comma between them goes once.
            match edits.last_mut().filter(|last| edit.0 <= last.1) {
                Some(last) => last.1 = edit.1.max(last.1),
                None => edits.push(edit),
            }
        }
        let mut left = text.to_owned();
        for (start, end, _) in edits.iter().rev() {
            left.replace_range(*start..*end, "");
        }
        (!edits.is_empty() && self.mistakes_of(&left) == 0).then_some(edits)
    }

    /// Without a code of an `allow` comment, or without the comment where it has no other.
    fn allowing(&self, start: usize, end: usize) -> Option<Edit> {
        let allows = &self.view.program.tree(self.view.file)?.allows;
        let is_it =
            |code: &ast::Spanned<Code>| (code.span.start as usize, code.span.end as usize) == (start, end);
        let allow = allows.iter().find(|allow| allow.codes.iter().any(is_it))?;
        if allow.codes.len() == 1 {
            let text = self.view.text();
            let before = text.get(..allow.span.start as usize)?;
            let from = before.rfind('#').filter(|&at| before.get(at..).is_some_and(|it| !it.contains('\n')));
            let from = from.unwrap_or(allow.span.start as usize);
            let to = text.get(from..)?.find('\n').map_or(text.len(), |at| from + at);
            return Some(self.line((from, to)));
        }
        let rest = self.view.text().get(end..)?;
        let after = rest.trim_start().strip_prefix(',').map(str::trim_start);
        Some(match after {
            Some(after) => (start, self.view.text().len() - after.len(), String::new()),
            None => {
                let before = self.view.text().get(..start)?.trim_end().strip_suffix(',')?;
                (before.len(), end, String::new())
            }
        })
    }

    /// A rule below that of the mistake, about the same addresses. `…` of a help stands for those.
    fn below(&self, found: &Diagnostic, rule: &str) -> Option<(String, Edit)> {
        let span = found.span().filter(|span| span.file == self.view.file)?;
        let (start, end) = self.statement(span)?;
        let text = self.view.text();
        let rules = &self.view.program.compilation.resolution.program.rules;
        let written = rules.iter().find(|rule| rule.span.covers(span))?;
        let place = {
            let words = text.get(written.span.start as usize..written.span.end as usize)?;
            let to = words.find(" to ").and_then(|at| words.get(at + 1..)).unwrap_or_default();
            to.split(" as ").next().unwrap_or_default().split("->").next().unwrap_or_default().trim()
        };
        let rule = rule.replace("to \u{2026}", place);
        if rule.contains('\u{2026}') || place.contains(['#', '\n']) {
            return None;
        }
        let before = text.get(..start)?;
        let line = before.rfind('\n').map_or(0, |at| at + 1);
        let indent = before.get(line..).filter(|indent| indent.trim().is_empty())?;
        // Behind a comment of its line.
        let rest = text.get(end..)?;
        let next = rest.find('\n').map_or(text.len(), |at| end + at);
        let tail = text.get(end..next)?.trim_start();
        let at = if tail.is_empty() || tail.starts_with('#') { next } else { return None };
        Some((rule.clone(), (at, at, format!("\n{indent}{rule}"))))
    }

    /// With a comment above the statement, where the statement begins its line.
    fn allowed(&self, span: Span, code: Code) -> Option<Edit> {
        let (start, _) = self.statement(span)?;
        let before = self.view.text().get(..start)?;
        let line = before.rfind('\n').map_or(0, |at| at + 1);
        let indent = before.get(line..)?;
        indent.trim().is_empty().then(|| (start, start, format!("# meshc: allow({code})\n{indent}")))
    }

    /// The statement, or the head of the block, that the words are in.
    fn statement(&self, span: Span) -> Option<(usize, usize)> {
        let pieces = scan(self.view.text()).pieces.into_iter().filter_map(|piece| match piece {
            Piece::Statement(extent) | Piece::Head { extent, .. } => Some(extent),
            Piece::Close(_) => None,
        });
        let mut around = pieces.filter(|it| it.start <= span.start && span.start < it.end);
        around.next().map(|Extent { start, end }| (start as usize, end as usize))
    }

    #[expect(clippy::mutable_key_type, reason = "the protocol's type of changes; the names are not changed")]
    fn action(&self, title: String, edits: Vec<Edit>) -> Option<CodeActionOrCommand> {
        let file = self.view.file;
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let edits = edits.into_iter().map(|(start, end, new_text)| {
            let span = Span { file, start: place(start), end: place(end) };
            TextEdit { range: range(&self.text, span), new_text }
        });
        let uri = self.view.open.uri(self.view.program.key(file)?)?;
        let changes = HashMap::from([(uri, edits.collect())]);
        Some(CodeActionOrCommand::CodeAction(CodeAction {
            title,
            kind: Some(CodeActionKind::QUICKFIX),
            edit: Some(WorkspaceEdit { changes: Some(changes), ..WorkspaceEdit::default() }),
            ..CodeAction::default()
        }))
    }
}

/// Rules that a help writes out whole.
fn rules(help: &str) -> impl Iterator<Item = String> {
    let whole = |text: &&str| text.contains(" outbound ") && !text.contains("PORT");
    quotes(help).filter(whole).map(str::to_owned)
}

/// What a help says to write; not what it lists, nor its examples.
fn advised(help: &str) -> impl Iterator<Item = &str> {
    const BEFORE: [&str; 7] =
        ["write ", "did you mean ", "in quotes: ", "close it with ", "add ", "written small: ", "joined by "];
    let parts: Vec<&str> = help.split('`').collect();
    let said = parts.chunks(2).filter_map(|pair| match *pair {
        [before, word] => Some((before, word)),
        _ => None,
    });
    let is_advice = |(before, word): &(&str, &str)| {
        BEFORE.iter().any(|words| before.ends_with(words)) && !word.is_empty() && !word.contains('\u{2026}')
    };
    said.filter(is_advice).map(|(_, word)| word).collect::<Vec<_>>().into_iter()
}

/// What stands in backticks.
fn quotes(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// What stands between two parts of a text, where nothing else does.
fn quoted<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    let inner = text.strip_prefix(before)?.strip_suffix(after)?;
    (!inner.contains('`')).then_some(inner)
}
