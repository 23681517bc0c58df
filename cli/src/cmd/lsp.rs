//! `meshc lsp`: answers an editor.

use std::path::Path;

use mesh_compiler::compile::{Compilation, Compiled};
use mesh_compiler::explain::explain;
use mesh_compiler::hir::NODE;
use mesh_compiler::question::{OtherEnd, Question};
use mesh_compiler::resolve::{Loader, Location};
use mesh_lsp::{Connection, Host, Place, serve};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::files::{self, FileSystem};
use crate::places::Locations;
use crate::render::explanation::{Shown, said};
use crate::roots;
use crate::version;

/// Answers until the editor says that it is done, or is gone. Exit code 1 where it did not say so before.
pub fn run() -> Result<Exit, Failure> {
    let (connection, threads) = Connection::stdio();
    let ended = serve(&connection, &mut Disk, version::LINE);
    // What writes waits for more as long as there may be some.
    drop(connection);
    let ended = ended.map_err(|error| Failure::refused("protocol", error.to_string()))?;
    threads.join().map_err(|error| Failure::refused("protocol", error.to_string()))?;
    Ok(if ended { Exit::Done } else { Exit::Refused })
}

/// The files of this machine, and the words of `meshc explain`.
struct Disk;

impl Loader for Disk {
    fn find(&mut self, from: &Location, path: &str) -> Result<Vec<Location>, String> {
        FileSystem.find(from, path)
    }

    fn read(&mut self, file: &Location) -> Result<Vec<u8>, String> {
        FileSystem.read(file)
    }
}

impl Host for Disk {
    fn key(&self, path: &Path) -> String {
        files::key(path)
    }

    fn policies(&mut self, dir: &Path) -> (Vec<Location>, Vec<String>) {
        files::policies(dir)
    }

    fn roots(&self, file: &Path) -> Result<Vec<Place>, String> {
        roots::above(file)
    }

    fn explain(
        &self,
        program: &Compilation,
        compiled: &Compiled,
        question: &Question,
        asked: &str,
    ) -> String {
        let found = explain(&program.resolution.program, &compiled.image, &program.members, question);
        let other = match &question.peer {
            OtherEnd::Addresses(all) => all.first().map(ToString::to_string).unwrap_or_default(),
            OtherEnd::Node => NODE.to_owned(),
            OtherEnd::Workload(_) | OtherEnd::Unknown => String::new(),
        };
        let locations = Locations::Sources(&program.files.sources);
        let shown = Shown { locations, asked, other: &other, direction: question.direction };
        found.iter().map(|found| said(&shown, found)).collect()
    }
}
