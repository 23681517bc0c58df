//! Syntax trees of all files to one program. Nothing is decided here: what rules mean together is not
//! looked at, and no file is read but through the caller's [`Loader`].

mod accelerate;
mod bodies;
mod cycle;
mod flows;
mod groups;
mod items;
mod load;
mod names;
mod selectors;
mod sets;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use self::groups::Groups;
use self::names::{Declaration, Meant, Names, Target};
use self::sets::Sets;
use crate::ast;
use crate::diag::{Code, Diagnostic, has_errors, quote};
use crate::hir::{self, Level, MeshId, Program, Scope, ScopeId, WorkloadId};
use crate::source::{FileId, Span};

use mesh_bpf::selector::Condition;

pub use self::flows::{ResolvedFlow, resolve_flow};
pub use self::load::{Files, Loader, Location, NoImports, load};

/// A program with all names resolved, and what later passes need beside it.
#[derive(Clone, Debug)]
pub struct Resolution {
    /// The program. Where there were errors, without what they are about.
    pub program: Program,
    /// `# meshc: allow(…)` comments of all files.
    pub allows: Vec<ast::Allow>,
    /// Files that nobody named but an `import`: what is unused there may be used elsewhere.
    pub imported_only: BTreeSet<FileId>,
    /// Sets and groups that nothing names.
    pub unused: Vec<Unused>,
    /// The words of each workload's selectors.
    pub places: BTreeMap<WorkloadId, Places>,
    /// What could not be read, so that its absence is no further mistake.
    pub lost: Lost,
    /// The first statement, if there is any.
    pub first_statement: Option<Span>,
    /// The first file, if there is any.
    pub first_file: Option<FileId>,
    /// Whether parsing and resolving found no error.
    pub sound: bool,
}

/// By what a workload chooses its members, each with its words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Items of its `address` lines.
    pub addresses: Vec<hir::AddressItem>,
    /// Items of its `cgroup` lines.
    pub cgroups: Vec<(String, Span)>,
    /// Its other lines.
    pub conditions: Vec<(Condition, Span)>,
}

/// A declaration that nothing names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unused {
    /// `set` or `group`.
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// The name where it is declared.
    pub span: Span,
}

/// What could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// A whole file, or an import.
    pub file: bool,
    /// An `exempt`, or one of its items.
    pub exempt: bool,
    /// Something in a mesh that may have been a workload.
    pub meshes: BTreeSet<MeshId>,
    /// Something in a workload that may have been a selector.
    pub workloads: BTreeSet<WorkloadId>,
    /// Any statement at all.
    pub statement: bool,
}

/// Resolves all files as one program. `earlier` are the diagnostics of loading them; a name that may be
/// declared in a file that is missing is shown there.
#[must_use]
pub fn resolve(files: &Files, mut earlier: Vec<Diagnostic>) -> (Resolution, Vec<Diagnostic>) {
    let collected = Collected::new(&files.trees);
    let (mut names, twice) = collected.names(&files.trees);
    earlier.extend(twice);
    let sets = Sets::new(&collected.sets, &mut names, &mut earlier);
    let groups = Groups::new(&collected, &mut names, &mut earlier);
    let mut resolver = Resolver {
        collected: &collected,
        names,
        sets,
        groups,
        program: Program::default(),
        scopes: BTreeMap::new(),
        places: BTreeMap::new(),
        lost: lost(files),
        port_lists: BTreeMap::new(),
        address_lists: BTreeMap::new(),
        diagnostics: earlier,
    };
    resolver.declare();
    resolver.bodies(&files.trees);
    let meant = resolver.names.meant();
    let unused = resolver.unused(&files.trees, &meant);
    resolver.names.report_unknown(&meant, &mut resolver.diagnostics);
    let Resolver { program, places, lost, mut diagnostics, .. } = resolver;
    crate::diag::sort(&mut diagnostics);
    let resolution = Resolution {
        program,
        allows: files.trees.iter().flat_map(|tree| tree.allows.clone()).collect(),
        imported_only: files.imported_only.clone(),
        unused,
        places,
        lost,
        first_statement: files.trees.iter().filter_map(first_statement).min(),
        first_file: files.trees.first().map(|tree| tree.id),
        sound: !has_errors(&diagnostics),
    };
    (resolution, diagnostics)
}

/// A mesh: all blocks of one name, or one block whose name could not be read.
struct Mesh<'a> {
    name: Option<&'a ast::Name>,
    blocks: Vec<&'a ast::Mesh>,
}

/// All declarations, in lists whose indices stand for them.
struct Collected<'a> {
    /// Named ones first, sorted by name; so a named mesh's index is its id.
    meshes: Vec<Mesh<'a>>,
    named_meshes: usize,
    sets: Vec<(&'a ast::Set, Option<usize>)>,
    groups: Vec<(&'a ast::Group, usize)>,
    /// Sorted by mesh and name.
    workloads: Vec<(&'a ast::Workload, usize)>,
}

impl<'a> Collected<'a> {
    fn new(files: &'a [ast::File]) -> Self {
        let mut named: BTreeMap<&str, Mesh<'a>> = BTreeMap::new();
        let mut nameless = Vec::new();
        for block in files.iter().flat_map(|file| &file.meshes) {
            match &block.name {
                Some(name) => {
                    let mesh = named.entry(&name.value);
                    mesh.or_insert(Mesh { name: Some(name), blocks: Vec::new() }).blocks.push(block);
                }
                None => nameless.push(Mesh { name: None, blocks: vec![block] }),
            }
        }
        let named_meshes = named.len();
        let meshes: Vec<Mesh<'a>> = named.into_values().chain(nameless).collect();
        let top = files.iter().flat_map(|file| &file.sets).map(|set| (set, None));
        let inner = blocks(&meshes).flat_map(|(i, block)| block.sets.iter().map(move |set| (set, Some(i))));
        let sets = top.chain(inner).collect();
        let groups =
            blocks(&meshes).flat_map(|(i, block)| block.groups.iter().map(move |group| (group, i))).collect();
        let mut workloads: Vec<(&ast::Workload, usize)> = blocks(&meshes)
            .flat_map(|(i, block)| block.workloads.iter().map(move |workload| (workload, i)))
            .collect();
        workloads.sort_by_key(|(workload, mesh)| {
            (*mesh, workload.name.as_ref().map(|name| (&name.value, name.span)))
        });
        Self { meshes, named_meshes, sets, groups, workloads }
    }

    fn names(&self, files: &'a [ast::File]) -> (Names<'a>, Vec<Diagnostic>) {
        let mesh_names =
            self.meshes.iter().filter_map(|mesh| mesh.name).map(|name| (name.value.as_str(), name.span));
        let sets = (self.sets.iter().enumerate()).map(|(i, &(set, mesh))| Declaration {
            name: &set.name,
            target: Target::Set(i),
            mesh,
        });
        let groups = (self.groups.iter().enumerate()).map(|(i, &(group, mesh))| Declaration {
            name: &group.name,
            target: Target::Group(i),
            mesh: Some(mesh),
        });
        let workloads = self.workloads.iter().enumerate().filter_map(|(i, (workload, mesh))| {
            let name = workload.name.as_ref()?;
            Some(Declaration { name, target: Target::Workload(i), mesh: Some(*mesh) })
        });
        let declarations = sets.chain(groups).chain(workloads).collect();
        Names::new(files, mesh_names.collect(), self.meshes.len(), declarations)
    }

    fn mesh_id(&self, mesh: usize) -> Option<MeshId> {
        (mesh < self.named_meshes).then(|| MeshId(id(mesh)))
    }
}

fn blocks<'m, 'a: 'm>(meshes: &'m [Mesh<'a>]) -> impl Iterator<Item = (usize, &'a ast::Mesh)> + 'm {
    meshes.iter().enumerate().flat_map(|(i, mesh)| mesh.blocks.iter().map(move |block| (i, *block)))
}

/// The pass itself. Its methods are spread over the modules of this directory, by kind of statement.
struct Resolver<'a, 'c> {
    collected: &'c Collected<'a>,
    names: Names<'a>,
    sets: Sets<'a>,
    groups: Groups,
    program: Program,
    /// Scopes by level and name, so that each is there once.
    scopes: BTreeMap<(Level, String), ScopeId>,
    /// The `address` items are also what a workload stands for in a rule.
    places: BTreeMap<WorkloadId, Places>,
    lost: Lost,
    /// Ports and addresses of rules that name nothing but sets (and groups and workloads), by the mesh and the names.
    port_lists: BTreeMap<(Option<usize>, Vec<&'a str>), hir::List<hir::PortItem>>,
    address_lists: BTreeMap<(Option<usize>, Vec<&'a str>), hir::List<hir::AddressItem>>,
    diagnostics: Vec<Diagnostic>,
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

    /// The scope of that level and name; each is there once, however many blocks it has.
    fn scope(&mut self, level: Level, name: String, members: Vec<WorkloadId>) -> ScopeId {
        let next = ScopeId(id(self.program.scopes.len()));
        let scope = *self.scopes.entry((level, name.clone())).or_insert(next);
        if scope == next {
            self.program.scopes.push(Scope { level, name, members });
        }
        scope
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

    /// A list that names one thing twice: the second says nothing.
    fn repeated(&mut self, names: impl IntoIterator<Item = &'a ast::Name>) {
        let mut seen: BTreeMap<&str, Span> = BTreeMap::new();
        for name in names {
            if let Some(&first) = seen.get(name.value.as_str()) {
                let message = format!("{} is named twice in one list", quote(&name.value));
                self.diagnostics.push(
                    Diagnostic::new(Code::NoEffect, message)
                        .label(name.span, "says nothing new")
                        .also(first, "named here")
                        .help("remove one of them"),
                );
            } else {
                seen.insert(&name.value, name.span);
            }
        }
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

/// Sources are shorter than 4 GiB, and each declaration takes some of it.
fn id(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
