//! Programs: the files that are compiled together, with the editor's texts in the place of the disk's.

use std::path::{Path, PathBuf};

use mesh_compiler::ast;
use mesh_compiler::compile::{Compilation, Versions};
use mesh_compiler::emit::is_compiled;
use mesh_compiler::resolve::{Loader, Location};
use mesh_compiler::source::{FileId, Source, Span};

use crate::documents::{Documents, Root, is_policy};
use crate::host::Host;

/// A program, compiled.
#[derive(Debug)]
pub struct Program {
    /// What came out.
    pub compilation: Compilation,
    /// Why files of its directory are not part of it, a line each.
    pub problems: Vec<String>,
}

impl Program {
    /// Compiles what `meshc check` would in the directory, or the one file.
    /// What was found out about the version before is used again. `go_on` is asked between passes.
    ///
    /// # Errors
    /// That of `go_on`: the version is given up.
    pub fn compile<G>(
        host: &mut dyn Host,
        open: &Documents,
        root: &Root,
        versions: &mut Versions,
        go_on: impl Fn() -> Result<(), G>,
    ) -> Result<Self, G> {
        let mut problems = Vec::new();
        let given = match root {
            Root::Dir(dir) => directory(host, open, dir, &mut problems),
            Root::File(key) => {
                let name = Path::new(key).file_name().map(|name| name.to_string_lossy().into_owned());
                let name = name.filter(|_| key.starts_with('/')).unwrap_or_else(|| key.clone());
                let location = Location { key: key.clone(), name };
                match (Overlay { host, open }).read(&location) {
                    Ok(bytes) => vec![(location, bytes)],
                    Err(why) => {
                        problems.push(format!("`{}` {why}", location.name));
                        Vec::new()
                    }
                }
            }
        };
        let compilation = versions.compile(given, &mut Overlay { host, open }, go_on)?;
        Ok(Self { compilation, problems })
    }

    /// Its files with what stands for each.
    pub fn files(&self) -> impl Iterator<Item = (FileId, &str)> {
        let keys = self.compilation.files.locations.iter().map(|location| location.key.as_str());
        self.compilation.files.sources.iter().map(|(id, _)| id).zip(keys)
    }

    /// One of its files.
    pub fn file(&self, key: &str) -> Option<FileId> {
        self.files().find(|(_, other)| *other == key).map(|(id, _)| id)
    }

    /// What stands for a file.
    pub fn key(&self, file: FileId) -> Option<&str> {
        self.compilation.files.locations.get(file.index()).map(|location| location.key.as_str())
    }

    /// The text of a file.
    pub fn source(&self, file: FileId) -> Option<&Source> {
        self.compilation.files.sources.get(file)
    }

    /// The tree of a file.
    pub fn tree(&self, file: FileId) -> Option<&ast::File> {
        self.compilation.files.trees.get(file.index())
    }

    /// The words of a place.
    pub fn words(&self, span: Span) -> &str {
        self.compilation.files.sources.slice(span)
    }
}

fn directory(
    host: &mut dyn Host,
    open: &Documents,
    dir: &Path,
    problems: &mut Vec<String>,
) -> Vec<(Location, Vec<u8>)> {
    let (mut locations, found) = host.policies(dir);
    problems.extend(found);
    // What is not saved yet.
    let new = open.iter().filter(|(_, document)| matches!(&document.own, Root::Dir(root) if root == dir));
    for (key, _) in new.filter(|(key, _)| Path::new(key).parent() == Some(dir)) {
        if let Some(name) = Path::new(key).file_name().filter(|_| is_policy(Path::new(key)))
            && !locations.iter().any(|location| location.key == *key)
        {
            locations.push(Location { key: key.clone(), name: name.to_string_lossy().into_owned() });
        }
    }
    locations.sort_by(|one, other| one.name.cmp(&other.name));
    let mut overlay = Overlay { host, open };
    let mut files = Vec::with_capacity(locations.len());
    for location in locations {
        match overlay.read(&location) {
            Ok(bytes) if is_compiled(&bytes) => problems.push(format!(
                "`{}` is what a policy compiles to, and no part of the program",
                location.name
            )),
            Ok(bytes) => files.push((location, bytes)),
            Err(why) => problems.push(format!("`{}` {why}", location.name)),
        }
    }
    files
}

/// Files with what is open in front of them.
struct Overlay<'a> {
    host: &'a mut dyn Host,
    open: &'a Documents,
}

impl Loader for Overlay<'_> {
    fn find(&mut self, from: &Location, path: &str) -> Result<Vec<Location>, String> {
        self.host.find(from, path).or_else(|why| {
            // It may be open, and not saved yet.
            let beside = |base: &str| Path::new(base).parent().unwrap_or(Path::new("")).join(path);
            let target: PathBuf = beside(&from.key);
            let key = self.host.key(&target);
            let name = beside(&from.name).to_string_lossy().into_owned();
            if self.open.get(&key).is_some() { Ok(vec![Location { key, name }]) } else { Err(why) }
        })
    }

    fn read(&mut self, file: &Location) -> Result<Vec<u8>, String> {
        match self.open.get(&file.key) {
            Some(document) => Ok(document.text.clone().into_bytes()),
            None => self.host.read(file),
        }
    }
}
