//! What is shown between the words: how much a name stands for, and what never decides.

use lsp_types::{InlayHint, InlayHintKind, InlayHintLabel};
use mesh_compiler::diag::{Code, Severity};
use mesh_compiler::hir::{NameId, Rule};

use super::index::{self, Kind};
use super::{View, hover};
use crate::text::Text;

/// Behind the name of a set its size, behind a rule that names sets or services its items, and behind what has no effect
/// that it never decides.
pub fn hints(view: View<'_>, from: usize, to: usize) -> Vec<InlayHint> {
    let text = Text::new(view.text());
    let compilation = &view.program.compilation;
    let program = &compilation.resolution.program;
    let mut hints: Vec<(u32, InlayHintKind, String)> = Vec::new();
    if let Some(tree) = view.program.tree(view.file) {
        for set in index::declared(tree).filter(|declared| declared.kind == Kind::Set) {
            let size = hover::find_set(program, set).map(hover::size_of_set);
            hints.extend(size.map(|size| (set.name.span.end, InlayHintKind::TYPE, format!(": {size}"))));
        }
    }
    for rule in program.rules.iter().filter(|rule| rule.span.file == view.file && has_names(rule)) {
        let items = items(rule);
        let label = if items == 1 { "1 item".to_owned() } else { format!("{items} items") };
        hints.push((rule.span.end, InlayHintKind::TYPE, format!(" = {label}")));
    }
    let idle = compilation.diagnostics.iter();
    for found in idle.filter(|found| found.code == Code::NoEffect && found.severity == Severity::Warning) {
        let places = found.labels.iter().filter(|label| label.primary && label.span.file == view.file);
        hints.extend(places.map(|label| (label.span.end, InlayHintKind::TYPE, " never decides".to_owned())));
    }
    hints.retain(|&(at, ..)| from <= at as usize && at as usize <= to);
    hints.sort_by(|one, other| (one.0, &one.2).cmp(&(other.0, &other.2)));
    hints
        .into_iter()
        .map(|(at, kind, label)| InlayHint {
            position: text.position(at as usize),
            label: InlayHintLabel::String(label),
            kind: Some(kind),
            text_edits: None,
            tooltip: None,
            padding_left: None,
            padding_right: None,
            data: None,
        })
        .collect()
}

/// Whether a rule says less than it stands for.
fn has_names(rule: &Rule) -> bool {
    let names = rule.ports.iter().map(|item| item.by).chain(rule.addresses.iter().map(|item| item.by));
    names.into_iter().any(|by| by != NameId::WRITTEN_OUT)
}

/// For how many boxes a rule stands, of which each decides and is counted for itself.
fn items(rule: &Rule) -> usize {
    rule.ports.len().saturating_mul(rule.addresses.len().max(1)).saturating_mul(rule.who.len().max(1))
}
