//! From a name to its declaration and to its uses.

use lsp_types::Location;

use super::{View, index, touches};
use crate::uri;

/// Where the name at a place is declared; for the path of an import, the files that it means.
pub fn definition(view: View<'_>, offset: usize) -> Vec<Location> {
    if let Some((declared, _)) = index::at(view.program, view.file, offset) {
        let spans = index::declarations(view.program, declared);
        return spans.into_iter().filter_map(|span| view.location(span)).collect();
    }
    // Kubernetes declares services: what can be gone to is where they are named.
    if let Some((service, _)) = index::service_at(view.program, view.file, offset) {
        return service.uses.iter().filter_map(|&span| view.location(span)).collect();
    }
    imported(view, offset)
}

fn imported(view: View<'_>, offset: usize) -> Vec<Location> {
    let Some(tree) = view.program.tree(view.file) else { return Vec::new() };
    let Some(import) = tree.imports.iter().find(|import| touches(import.path.span, view.file, offset)) else {
        return Vec::new();
    };
    let Some(key) = view.program.key(view.file) else { return Vec::new() };
    let dir = std::path::Path::new(key).parent().unwrap_or(std::path::Path::new(""));
    let target = clean(&dir.join(&import.path.value));
    let files = view.program.files().map(|(_, key)| key).filter(|key| {
        let file = std::path::Path::new(key);
        file == target || file.parent() == Some(&target)
    });
    let start = lsp_types::Range::default();
    files
        .filter_map(|key| view.open.uri(key).or_else(|| uri::of(std::path::Path::new(key))))
        .map(|uri| Location { uri, range: start })
        .collect()
}

/// A path without `.` and `..`.
fn clean(path: &std::path::Path) -> std::path::PathBuf {
    let mut clean = std::path::PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => drop(clean.pop()),
            other => clean.push(other),
        }
    }
    clean
}

/// Where what is named at a place is used, and declared if that is asked for.
pub fn references(view: View<'_>, offset: usize, with_declaration: bool) -> Vec<Location> {
    let Some((declared, _)) = index::at(view.program, view.file, offset) else {
        let service = index::service_at(view.program, view.file, offset);
        let uses = service.into_iter().flat_map(|(service, _)| &service.uses);
        return uses.filter_map(|&span| view.location(span)).collect();
    };
    let mut spans: Vec<_> = index::uses(view.program, declared).collect();
    if with_declaration {
        spans.extend(index::declarations(view.program, declared));
    }
    spans.sort_unstable();
    spans.into_iter().filter_map(|span| view.location(span)).collect()
}
