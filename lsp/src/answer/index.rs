//! Who declares what, and where it is used.

use mesh_compiler::ast;
use mesh_compiler::hir::Service;
use mesh_compiler::source::{FileId, Span};

use super::touches;
use crate::program::Program;

/// What is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `mesh`
    Mesh,
    /// `set`
    Set,
    /// `group`
    Group,
    /// `workload`
    Workload,
}

impl Kind {
    /// The word of the language.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
            Self::Set => "set",
            Self::Group => "group",
            Self::Workload => "workload",
        }
    }
}

/// A declaration.
#[derive(Clone, Copy, Debug)]
pub struct Declared<'a> {
    /// What it declares.
    pub kind: Kind,
    /// The name.
    pub name: &'a ast::Name,
    /// The mesh that it stands in; none outside of all, and for meshes.
    pub mesh: Option<&'a str>,
}

/// Every declaration of a file, in no order.
pub fn declared(file: &ast::File) -> impl Iterator<Item = Declared<'_>> {
    file.sets.iter().map(|set| of_set(set, None)).chain(file.meshes.iter().flat_map(in_mesh))
}

fn of_set<'a>(set: &'a ast::Set, mesh: Option<&'a str>) -> Declared<'a> {
    Declared { kind: Kind::Set, name: &set.name, mesh }
}

fn in_mesh(block: &ast::Mesh) -> impl Iterator<Item = Declared<'_>> {
    let mesh = block.name.as_ref().map(|name| name.value.as_str());
    let itself = block.name.iter().map(|name| Declared { kind: Kind::Mesh, name, mesh: None });
    let sets = block.sets.iter().map(move |set| of_set(set, mesh));
    let groups =
        block.groups.iter().map(move |group| Declared { kind: Kind::Group, name: &group.name, mesh });
    let workloads = block.workloads.iter().filter_map(move |workload| {
        let name = workload.name.as_ref()?;
        Some(Declared { kind: Kind::Workload, name, mesh })
    });
    itself.chain(sets).chain(groups).chain(workloads)
}

/// Every declaration of a program.
pub fn all(program: &Program) -> impl Iterator<Item = Declared<'_>> {
    program.compilation.files.trees.iter().flat_map(declared)
}

/// What is named at a place, and the name there.
pub fn at(program: &Program, file: FileId, offset: usize) -> Option<(Declared<'_>, Span)> {
    let uses = &program.compilation.resolution.uses;
    if let Some(found) = uses.iter().find(|found| touches(found.span, file, offset)) {
        let declared = all(program).find(|declared| declared.name.span == found.declared)?;
        return Some((declared, found.span));
    }
    let tree = program.tree(file)?;
    let found = declared(tree).find(|declared| touches(declared.name.span, file, offset))?;
    Some((found, found.name.span))
}

/// The Kubernetes service that is named at a place, and its name there.
pub fn service_at(program: &Program, file: FileId, offset: usize) -> Option<(&Service, Span)> {
    program.compilation.resolution.program.services.iter().find_map(|service| {
        let span = service.uses.iter().copied().find(|&span| touches(span, file, offset))?;
        Some((service, span))
    })
}

/// Where it is declared: a mesh may have many blocks.
pub fn declarations(program: &Program, declared: Declared<'_>) -> Vec<Span> {
    match declared.kind {
        Kind::Mesh => all(program)
            .filter(|other| other.kind == Kind::Mesh && other.name.value == declared.name.value)
            .map(|other| other.name.span)
            .collect(),
        _ => vec![declared.name.span],
    }
}

/// Where it is used, without its declarations.
pub fn uses(program: &Program, declared: Declared<'_>) -> impl Iterator<Item = Span> {
    let uses = program.compilation.resolution.uses.iter();
    uses.filter(move |found| found.declared == declared.name.span).map(|found| found.span)
}
