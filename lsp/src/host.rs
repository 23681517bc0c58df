//! What the server cannot do itself.

use std::path::{Path, PathBuf};

use mesh_compiler::compile::{Compilation, Compiled};
use mesh_compiler::question::Question;
use mesh_compiler::resolve::{Loader, Location};

/// A program as somebody names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The policies of a directory.
    Directory(PathBuf),
    /// A file.
    File(PathBuf),
}

/// Reads files, and has words for answers.
pub trait Host: Loader {
    /// What stands for a file, whether it is there or not.
    fn key(&self, path: &Path) -> String;

    /// A directory's own policies, sorted, named as they are in it; and what keeps others from being read, a line each.
    fn policies(&mut self, dir: &Path) -> (Vec<Location>, Vec<String>);

    /// What `meshc.toml` above a file names as programs, absolute. Nothing where there is none.
    ///
    /// # Errors
    /// Why it cannot be read, in a line.
    fn roots(&self, file: &Path) -> Result<Vec<Place>, String>;

    /// What `meshc explain` says of a flow, of which `asked` are the words.
    fn explain(&self, program: &Compilation, compiled: &Compiled, question: &Question, asked: &str)
    -> String;
}
