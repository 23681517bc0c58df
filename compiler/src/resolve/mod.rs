//! Syntax trees of all files to one program. Nothing is decided here: what rules mean together is not
//! looked at, and no file is read but through the caller's [`Loader`].

mod accelerate;
mod bodies;
mod collected;
mod cycle;
mod flows;
mod groups;
mod items;
mod load;
mod names;
mod resolution;
mod resolver;
mod selectors;
mod services;
mod sets;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use self::collected::{Collected, blocks, id};
use self::groups::Groups;
use self::names::{Meant, Target};
use self::resolver::Resolver;
use self::sets::Sets;
use crate::ast;
use crate::diag::{Diagnostic, has_errors};
use crate::hir::{self, Level, Program, WorkloadId};
use crate::source::Span;

pub(crate) use self::flows::{identity, inbound_of_address, no_workload, only_an_interface};
pub(crate) use self::load::load_after;
pub use self::load::{Files, Loader, Location, NoImports, load};
pub use self::resolution::{Lost, Places, Resolution, Unused, Use};
pub use self::services::{Services, unknown_services};

/// Resolves all files as one program. `earlier` are the diagnostics of loading them; a name that may be
/// declared in a file that is missing is shown there. `services` are those that somebody knows.
#[must_use]
pub fn resolve(
    files: &Files,
    mut earlier: Vec<Diagnostic>,
    services: &Services,
) -> (Resolution, Vec<Diagnostic>) {
    let collected = Collected::new(&files.trees);
    let (mut names, twice) = collected.names(&files.trees);
    earlier.extend(twice);
    let sets = Sets::new(&collected.sets, &mut names, &mut earlier);
    let groups = Groups::new(&collected, &mut names, &mut earlier);
    let named = services::named(&files.trees, services);
    earlier.extend(services::notes(&named, services));
    let mut resolver = Resolver {
        collected: &collected,
        names,
        sets,
        groups,
        program: Program { services: named, ..Program::default() },
        scopes: BTreeMap::new(),
        places: BTreeMap::new(),
        lost: lost(files),
        port_lists: BTreeMap::new(),
        address_lists: BTreeMap::new(),
        name_ids: BTreeMap::new(),
        service_ids: BTreeMap::new(),
        diagnostics: earlier,
    };
    resolver.declare();
    resolver.bodies(&files.trees);
    resolver.named_sets();
    let meant = resolver.names.meant();
    let unused = resolver.unused(&files.trees, &meant);
    resolver.names.report_unknown(&meant, &mut resolver.diagnostics);
    let uses = resolver.names.take_uses();
    let Resolver { program, places, lost, mut diagnostics, .. } = resolver;
    crate::diag::sort(&mut diagnostics);
    let resolution = Resolution {
        program,
        allows: files.trees.iter().flat_map(|tree| tree.allows.clone()).collect(),
        for_others: files.for_others.clone(),
        libraries: files.libraries.clone(),
        is_library: files.is_library,
        uses,
        unused,
        places,
        lost,
        first_statement: files.trees.iter().filter_map(first_statement).min(),
        first_file: files.trees.first().map(|tree| tree.id),
        sound: !has_errors(&diagnostics),
    };
    (resolution, diagnostics)
}

impl<'a> Resolver<'a, '_> {
    /// Meshes, workloads and groups, and the scopes that every program has.
    fn declare(&mut self) {
        for mesh in self.collected.meshes.iter().take(self.collected.named_meshes) {
            let Some(name) = mesh.name else { continue };
            let span = mesh.blocks.iter().filter_map(|block| block.name.as_ref()).map(|name| name.span).min();
            self.program.meshes.push(hir::Mesh { name: name.value.clone(), span: span.unwrap_or(name.span) });
        }
        self.workloads();
        self.program.groups = self.groups.declared(self.collected);
        let everyone = (0..id(self.program.workloads.len())).map(WorkloadId).collect();
        self.scope(Level::Top, String::new(), everyone);
    }

    fn workloads(&mut self) {
        let collected = self.collected;
        let mut ids = Vec::with_capacity(collected.workloads.len());
        for (i, &(workload, mesh)) in collected.workloads.iter().enumerate() {
            let compiled = self.selector(workload, mesh);
            let counts = |name: &&ast::Name| self.names.counts(Some(mesh), &name.value, Target::Workload(i));
            let (Some(name), Some(mesh)) = (workload.name.as_ref().filter(counts), collected.mesh_id(mesh))
            else {
                ids.push(None);
                continue;
            };
            let id = WorkloadId(id(self.program.workloads.len()));
            if compiled.damaged {
                self.lost.workloads.insert(id);
            }
            ids.push(Some(id));
            self.places.insert(id, compiled.places);
            self.program.workloads.push(hir::Workload {
                mesh,
                name: name.value.clone(),
                selector: compiled.selector,
                span: name.span,
                selector_spans: compiled.spans,
            });
        }
        for (mesh, block) in blocks(&collected.meshes) {
            if let (true, Some(mesh)) = (block.damaged, collected.mesh_id(mesh)) {
                self.lost.meshes.insert(mesh);
            }
        }
        self.groups.set_ids(ids);
    }

    fn unused(&self, files: &[ast::File], meant: &Meant<'a>) -> Vec<Unused> {
        let meant: BTreeSet<&str> = meant.values().copied().collect();
        let mentioned =
            |name: &str| meant.contains(name) || files.iter().any(|file| file.mentioned.contains(name));
        let sets = self
            .collected
            .sets
            .iter()
            .enumerate()
            .map(|(i, (set, mesh))| (Target::Set(i), *mesh, "set", &set.name));
        let groups = (self.collected.groups.iter().enumerate())
            .map(|(i, (group, mesh))| (Target::Group(i), Some(*mesh), "group", &group.name));
        (sets.chain(groups))
            .filter(|(target, mesh, _, name)| {
                self.names.counts(*mesh, &name.value, *target) && !self.names.is_used(*target)
            })
            .filter(|(_, _, _, name)| !mentioned(&name.value))
            .map(|(_, _, what, name)| Unused { what, name: name.value.clone(), span: name.span })
            .collect()
    }
}

fn lost(files: &Files) -> Lost {
    let trees = &files.trees;
    Lost {
        file: files.unreadable > 0 || !files.missing_imports.is_empty(),
        exempt: trees.iter().any(|tree| tree.lost.exempt),
        statement: trees.iter().any(|tree| tree.lost.statement),
        ..Lost::default()
    }
}

fn first_statement(file: &ast::File) -> Option<Span> {
    let body = &file.body;
    let rules = body.rules.iter().map(|rule| rule.span).chain(body.ons.iter().map(|on| on.span));
    let exempts = body.exempts.iter().map(|exempt| exempt.span).chain(file.sets.iter().map(|set| set.span));
    let others =
        file.imports.iter().map(|import| import.span).chain(file.meshes.iter().map(|mesh| mesh.span));
    rules.chain(exempts).chain(others).min()
}
