//! Helps that are edits.

use std::collections::HashMap;

use lsp_types::{CodeAction, CodeActionKind, CodeActionOrCommand, Range, TextEdit, WorkspaceEdit};
use mesh_compiler::diag::{Code, Diagnostic, Severity};
use mesh_compiler::parse::parse_file;
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
    let fixes = Fixes { view, text };
    view.program.compilation.diagnostics.iter().filter(here).flat_map(|found| fixes.of(found)).collect()
}

struct Fixes<'a> {
    view: View<'a>,
    text: Text<'a>,
}

/// Bytes of the file, and what should stand there.
type Edit = (usize, usize, String);

impl Fixes<'_> {
    fn of(&self, found: &Diagnostic) -> Vec<CodeActionOrCommand> {
        let help = found.help.as_deref().unwrap_or_default();
        let mut all = Vec::new();
        if let Some(word) = quoted(help, "did you mean `", "`?").or_else(|| quoted(help, "write `", "`"))
            && let Some(edits) = self.instead(found, word)
        {
            all.extend(self.action(format!("write `{word}`"), edits));
        }
        if help.starts_with("remove it")
            && let Some(edit) = self.removed(found)
        {
            all.extend(self.action("remove it".to_owned(), vec![edit]));
        }
        if found.severity == Severity::Warning && found.code.severity() == Severity::Warning {
            let edit = found.span().and_then(|span| self.allowed(span, found.code));
            all.extend(edit.and_then(|edit| self.action(format!("allow `{}` here", found.code), vec![edit])));
        }
        all
    }

    /// Another word at each place where the mistake is. What the parser says about a word is taken where it has less to
    /// say afterwards.
    fn instead(&self, found: &Diagnostic, word: &str) -> Option<Vec<Edit>> {
        let places = found.labels.iter().filter(|label| label.primary).map(|label| label.span);
        let edits: Vec<Edit> = places
            .filter(|span| span.file == self.view.file && span.start < span.end)
            .map(|span| (span.start as usize, span.end as usize, word.to_owned()))
            .collect();
        let is_name = found.code == Code::UnknownName;
        (!edits.is_empty() && (is_name || self.reads_better(&edits))).then_some(edits)
    }

    fn reads_better(&self, edits: &[Edit]) -> bool {
        let mut text = self.view.text().to_owned();
        let before = parse_file(self.view.file, &text).1.len();
        for (start, end, new) in edits.iter().rev() {
            text.replace_range(*start..*end, new);
        }
        parse_file(self.view.file, &text).1.len() < before
    }

    /// Without the statement that is of no use, and without its line where nothing else is there.
    fn removed(&self, found: &Diagnostic) -> Option<Edit> {
        let span = found.span()?;
        let statement = match found.code {
            Code::NoEffect => {
                self.statement(span).filter(|it| *it == (span.start as usize, span.end as usize))
            }
            Code::Unused => self.statement(span).filter(|&(start, _)| {
                let words = self.view.text().get(start..span.start as usize).unwrap_or_default();
                matches!(words.trim(), "set" | "group")
            }),
            _ => None,
        };
        let (start, end) = statement?;
        let text = self.view.text();
        let before = text.get(..start).unwrap_or_default();
        let line = before.rfind('\n').map_or(0, |at| at + 1);
        let rest = text.get(end..).unwrap_or_default();
        let next = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let is_alone = before.get(line..).unwrap_or_default().trim().is_empty()
            && rest.get(..next).unwrap_or_default().trim().is_empty();
        Some(if is_alone { (line, end + next, String::new()) } else { (start, end, String::new()) })
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

/// What stands between two parts of a text, where nothing else does.
fn quoted<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    let inner = text.strip_prefix(before)?.strip_suffix(after)?;
    (!inner.contains('`')).then_some(inner)
}
