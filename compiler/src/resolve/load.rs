//! Finds all files of a program by following its imports.

use std::collections::{BTreeMap, BTreeSet};

use super::cycle::{Edge, cycles};
use crate::ast;
use crate::diag::{Code, Diagnostic, quote};
use crate::parse::{Statements, parse_file_after};
use crate::source::{FileId, Sources, Span};

/// A file, as the caller's file system knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The same for all names of one file, so that a file counts once however often it is named.
    pub key: String,
    /// How messages name it.
    pub name: String,
}

/// What imports are read through. The compiler itself touches no file.
pub trait Loader {
    /// The files that `path` means as seen from the file `from`: itself, or the policies of a directory.
    ///
    /// # Errors
    /// Why there are none, in words that follow the path: `does not exist`.
    fn find(&mut self, from: &Location, path: &str) -> Result<Vec<Location>, String>;

    /// The bytes of a file.
    ///
    /// # Errors
    /// Why they cannot be had, in words that follow the path.
    fn read(&mut self, file: &Location) -> Result<Vec<u8>, String>;
}

/// A loader for programs whose files are all given: every import is missing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoImports;

impl Loader for NoImports {
    fn find(&mut self, _from: &Location, _path: &str) -> Result<Vec<Location>, String> {
        Err("cannot be read from here".to_owned())
    }

    fn read(&mut self, _file: &Location) -> Result<Vec<u8>, String> {
        Err("cannot be read from here".to_owned())
    }
}

/// All files of a program.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Their texts.
    pub sources: Sources,
    /// Their trees, in the same order.
    pub trees: Vec<ast::File>,
    /// Where they lie, in the same order.
    pub locations: Vec<Location>,
    /// Files that are there for others: those that nobody named but an `import`, and those that say so.
    pub for_others: BTreeSet<FileId>,
    /// Those that say so.
    pub libraries: BTreeSet<FileId>,
    /// Every file that somebody named says so.
    pub is_library: bool,
    /// `import` statements without a file.
    pub missing_imports: Vec<Span>,
    /// Files that could not be read as text, so that what they declare is not known.
    pub unreadable: usize,
}

/// Reads the given files and all that they import. Nothing is resolved beyond imports.
///
/// `given` holds each file's place and bytes; the caller has read them, because only it can say what a
/// missing one means.
pub fn load(given: Vec<(Location, Vec<u8>)>, loader: &mut dyn Loader) -> (Files, Vec<Diagnostic>) {
    load_after(given, loader, None)
}

/// The same, with what is known of statements that were read before.
pub(crate) fn load_after(
    given: Vec<(Location, Vec<u8>)>,
    loader: &mut dyn Loader,
    known: Option<&mut Statements>,
) -> (Files, Vec<Diagnostic>) {
    let mut loading = Loading { known, ..Loading::default() };
    for (location, bytes) in given {
        loading.take_in(location, bytes);
    }
    let given = loading.files.trees.len();
    let mut at = 0;
    while at < loading.files.trees.len() {
        loading.follow(at, loader);
        at += 1;
    }
    let Files { trees, libraries, for_others, is_library, .. } = &mut loading.files;
    libraries.extend(trees.iter().filter(|tree| tree.library).map(|tree| tree.id));
    let imported = trees.iter().skip(given).map(|tree| tree.id);
    *for_others = imported.chain(libraries.iter().copied()).collect();
    *is_library = given > 0 && trees.iter().take(given).all(|tree| tree.library);
    loading.report_cycles();
    (loading.files, loading.diagnostics)
}

#[derive(Default)]
struct Loading<'k> {
    known: Option<&'k mut Statements>,
    files: Files,
    by_key: BTreeMap<String, usize>,
    edges: Vec<Edge>,
    diagnostics: Vec<Diagnostic>,
}

impl Loading<'_> {
    /// The index of a file; it is parsed when it is first seen.
    fn take_in(&mut self, location: Location, bytes: Vec<u8>) -> usize {
        if let Some(&known) = self.by_key.get(&location.key) {
            return known;
        }
        let (id, problems) = self.files.sources.add(location.name.clone(), bytes);
        self.diagnostics.extend(problems);
        let tree = match self.files.sources.get(id).filter(|source| source.is_readable()) {
            Some(source) => {
                let (tree, problems) = parse_file_after(id, &source.text, self.known.as_deref_mut());
                self.diagnostics.extend(problems);
                tree
            }
            None => {
                self.files.unreadable += 1;
                ast::File::empty(id)
            }
        };
        let index = self.files.trees.len();
        self.files.trees.push(tree);
        self.by_key.insert(location.key.clone(), index);
        self.files.locations.push(location);
        index
    }

    fn follow(&mut self, from: usize, loader: &mut dyn Loader) {
        let Some(tree) = self.files.trees.get(from) else { return };
        for import in tree.imports.clone() {
            let Some(place) = self.files.locations.get(from).cloned() else { continue };
            match loader.find(&place, &import.path.value) {
                Ok(found) => {
                    let dir = found.len() > 1;
                    for location in found {
                        // A directory that the importing file itself lies in means its other files.
                        if !(dir && location.key == place.key) {
                            self.import(from, location, &import, loader);
                        }
                    }
                }
                Err(why) => self.missing(&import, &why),
            }
        }
    }

    fn import(&mut self, from: usize, location: Location, import: &ast::Import, loader: &mut dyn Loader) {
        let to = match self.by_key.get(&location.key) {
            Some(&known) => known,
            None => match loader.read(&location) {
                Ok(bytes) => self.take_in(location, bytes),
                Err(why) => return self.missing(import, &why),
            },
        };
        self.edges.push(Edge { from, to, span: import.path.span });
    }

    fn missing(&mut self, import: &ast::Import, why: &str) {
        self.files.missing_imports.push(import.path.span);
        self.diagnostics.push(
            Diagnostic::new(Code::ImportMissing, format!("{} {why}", quote(&import.path.value)))
                .label(import.path.span, "imported here")
                .help(
                    "an import names a file, or a directory of `.mesh` files, relative to the file that imports",
                ),
        );
    }

    fn report_cycles(&mut self) {
        for cycle in cycles(self.files.trees.len(), &self.edges) {
            let names = cycle.iter().filter_map(|edge| self.files.locations.get(edge.from));
            let mut path: Vec<String> = names.map(|location| quote(&location.name)).collect();
            path.extend(path.first().cloned());
            let what = if cycle.len() == 1 { "a file imports itself" } else { "files import each other" };
            let diagnostic = Diagnostic::new(Code::ImportCycle, format!("{what}: {}", path.join(" -> ")));
            let labelled = cycle.iter().enumerate().fold(diagnostic, |diagnostic, (i, edge)| {
                if i == 0 {
                    diagnostic.label(edge.span, "imports the next")
                } else {
                    diagnostic.also(edge.span, "and this one the next")
                }
            });
            self.diagnostics.push(
                labelled
                    .help("remove one of these imports: all files are one program and see all names anyway"),
            );
        }
    }
}
