//! What is declared, for outlines and for searching.

use std::collections::BTreeMap;

use lsp_types::{DocumentSymbol, OneOf, SymbolKind, WorkspaceSymbol};
use mesh_compiler::ast;
use mesh_compiler::source::Span;
use mesh_grammar::scan::{Piece, scan};

use super::index::{self, Kind};
use super::{View, range};
use crate::text::Text;

/// The outline of a file.
pub fn of_document(view: View<'_>) -> Vec<DocumentSymbol> {
    let Some(tree) = view.program.tree(view.file) else { return Vec::new() };
    let outline = Outline { text: Text::new(view.text()), ends: ends(view.text()), view };
    let sets = tree.sets.iter().map(|set| outline.symbol(Kind::Set, &set.name, set.span, Vec::new()));
    let meshes = tree.meshes.iter().filter_map(|mesh| outline.mesh(mesh));
    sorted(sets.chain(meshes).collect())
}

/// What is declared under a name that `query` is a part of.
pub fn of_program(view: View<'_>, query: &str) -> Vec<WorkspaceSymbol> {
    let query = query.to_lowercase();
    let found = index::all(view.program).filter(|it| it.name.value.to_lowercase().contains(&query));
    found
        .filter_map(|it| {
            Some(WorkspaceSymbol {
                name: it.name.value.clone(),
                kind: kind(it.kind),
                tags: None,
                container_name: it.mesh.map(str::to_owned),
                location: OneOf::Left(view.location(it.name.span)?),
                data: None,
            })
        })
        .collect()
}

const fn kind(kind: Kind) -> SymbolKind {
    match kind {
        Kind::Mesh => SymbolKind::NAMESPACE,
        Kind::Set => SymbolKind::ARRAY,
        Kind::Group => SymbolKind::ENUM,
        Kind::Workload => SymbolKind::CLASS,
    }
}

/// Where each block ends, by where its head begins.
fn ends(text: &str) -> BTreeMap<u32, u32> {
    let mut open = Vec::new();
    let mut ends = BTreeMap::new();
    for piece in scan(text).pieces {
        match piece {
            Piece::Head { extent, .. } => open.push(extent.start),
            Piece::Close(brace) => ends.extend(open.pop().map(|start| (start, brace + 1))),
            Piece::Statement(_) => {}
        }
    }
    ends
}

fn sorted(mut symbols: Vec<DocumentSymbol>) -> Vec<DocumentSymbol> {
    symbols.sort_by_key(|symbol| (symbol.range.start, symbol.range.end));
    symbols
}

struct Outline<'a> {
    view: View<'a>,
    text: Text<'a>,
    ends: BTreeMap<u32, u32>,
}

impl Outline<'_> {
    fn mesh(&self, mesh: &ast::Mesh) -> Option<DocumentSymbol> {
        let sets = mesh.sets.iter().map(|set| self.symbol(Kind::Set, &set.name, set.span, Vec::new()));
        let groups =
            mesh.groups.iter().map(|group| self.symbol(Kind::Group, &group.name, group.span, Vec::new()));
        let workloads = mesh.workloads.iter().filter_map(|workload| {
            Some(self.symbol(Kind::Workload, workload.name.as_ref()?, workload.span, Vec::new()))
        });
        let fors = mesh.fors.iter().map(|it| {
            let head = self.view.program.words(it.span).trim_end_matches(['{', ' ', '\t', '\n', '\r']);
            self.block(head.to_owned(), SymbolKind::OBJECT, it.span, it.span)
        });
        let tests = mesh.tests.iter().filter_map(|test| {
            let name = test.name.as_ref()?;
            Some(self.block(format!("test \"{}\"", name.value), SymbolKind::EVENT, test.span, name.span))
        });
        let children = sets.chain(groups).chain(workloads).chain(fors).chain(tests).collect();
        Some(self.symbol(Kind::Mesh, mesh.name.as_ref()?, mesh.span, sorted(children)))
    }

    fn symbol(
        &self,
        what: Kind,
        name: &ast::Name,
        statement: Span,
        children: Vec<DocumentSymbol>,
    ) -> DocumentSymbol {
        let children = Some(children).filter(|children| !children.is_empty());
        DocumentSymbol { children, ..self.block(name.value.clone(), kind(what), statement, name.span) }
    }

    #[expect(deprecated, reason = "the field has to be there")]
    fn block(&self, name: String, kind: SymbolKind, head: Span, selected: Span) -> DocumentSymbol {
        let end = self.ends.get(&head.start).copied().unwrap_or(head.end).max(selected.end);
        DocumentSymbol {
            name,
            detail: None,
            kind,
            tags: None,
            deprecated: None,
            range: range(&self.text, Span { end, ..head }),
            selection_range: range(&self.text, selected),
            children: None,
        }
    }
}
