//! `meshc init`: a first policy with tests, what it compiles to, and a workflow that keeps them true.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use mesh_compiler::emit::{Sets, emit};
use serde_json::json;

use crate::args::{Init, Program};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::program;

/// Policies that are written, by name.
const POLICIES: [(&str, &str); 2] =
    [("platform.mesh", include_str!("init/platform.mesh")), ("app.mesh", include_str!("init/app.mesh"))];

/// The workflow, for whatever directory.
const WORKFLOW: &str = include_str!("init/meshc.yml");

/// What the policies compile to.
const COMPILED: &str = "compiled.toml";

/// Where GitHub looks for workflows, from the root of a repository.
const WORKFLOWS: &str = ".github/workflows";

/// What became of the files.
#[derive(Default)]
struct Files {
    written: Vec<PathBuf>,
    kept: Vec<PathBuf>,
}

/// Writes the files that are not there yet; never changes one that is.
pub fn run(output: &Output, args: &Init) -> Result<Exit, Failure> {
    let mut files = Files::default();
    let is_here = args.dir.as_os_str() == ".";
    let at = |name: &str| if is_here { PathBuf::from(name) } else { args.dir.join(name) };
    for (name, text) in POLICIES {
        files.create(at(name), text)?;
    }
    let repository = Repository::around(&args.dir)?;
    let compiled = compile(output, args)?;
    if let Some(text) = &compiled {
        files.create(at(COMPILED), text)?;
    }
    files.create(repository.workflow(), &WORKFLOW.replace("DIRECTORY", &repository.directory()))?;
    if compiled.is_none() {
        output.print_error(&format!(
            "{} was not written: the policies in this directory have errors",
            at(COMPILED).display()
        ));
    }
    if !repository.is_one && !is_here {
        output.info(&format!(
            "`{}` is in no git repository: the workflow runs once it is the root of one",
            args.dir.display()
        ));
    }
    let Files { written, kept } = &files;
    output.answer(&json!({ "written": written, "kept": kept }), || {
        let mut text = String::new();
        for path in written {
            text.push_str(&format!("wrote {}\n", path.display()));
        }
        for path in kept {
            text.push_str(&format!("kept  {} (it was there already)\n", path.display()));
        }
        let dir = if is_here { String::new() } else { format!(" {}", args.dir.display()) };
        text.push_str(&format!("next: meshc check{dir} && meshc test{dir}\n"));
        text
    });
    Ok(if compiled.is_some() { Exit::Done } else { Exit::Refused })
}

/// All policies of the directory as text, as the workflow compiles them. `None` where they have errors, which are said.
fn compile(output: &Output, args: &Init) -> Result<Option<String>, Failure> {
    let compilation = program::compile_proved(output, &Program::of(vec![args.dir.clone()]))?;
    let sets = Sets::of(&compilation.resolution.program);
    Ok(compilation.compiled.map(|compiled| emit(&compiled.image, &sets)))
}

impl Files {
    fn create(&mut self, path: PathBuf, text: &str) -> Result<(), Failure> {
        if create(&path, text)? {
            self.written.push(path)
        } else {
            self.kept.push(path)
        }
        Ok(())
    }
}

/// The git repository around a directory, or the directory itself where there is none.
struct Repository {
    root: PathBuf,
    /// From the root to the directory.
    below: PathBuf,
    is_one: bool,
}

impl Repository {
    fn around(dir: &Path) -> Result<Self, Failure> {
        let whole = std::fs::canonicalize(dir).map_err(|error| {
            Failure::refused("unreadable", format!("cannot enter `{}`: {error}", dir.display()))
        })?;
        // `.git` is a file in a worktree and in a submodule.
        let root = whole.ancestors().find(|root| root.join(".git").exists());
        let below = root.and_then(|root| whole.strip_prefix(root).ok()).unwrap_or(Path::new("")).to_owned();
        let is_one = root.is_some();
        Ok(Self { root: root.unwrap_or(&whole).to_owned(), below, is_one })
    }

    /// The workflow's file, each directory of policies its own, as one reads it from here.
    fn workflow(&self) -> PathBuf {
        let parts = self.below.components().map(|part| part.as_os_str().to_string_lossy());
        let name = ["meshc".into()].into_iter().chain(parts).collect::<Vec<_>>().join("-");
        from_here(&self.root).join(WORKFLOWS).join(format!("{name}.yml"))
    }

    /// The directory as YAML has it: where it is no plain word, a string of JSON.
    fn directory(&self) -> String {
        let dir = self.below.to_string_lossy();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
        match &*dir {
            "" => ".".into(),
            dir if dir.chars().all(is_plain) && dir.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                dir.into()
            }
            dir => serde_json::Value::from(dir).to_string(),
        }
    }
}

/// A directory's path from the current one, where it is above it or below it.
fn from_here(dir: &Path) -> PathBuf {
    let here = std::env::current_dir().and_then(std::fs::canonicalize).unwrap_or_default();
    if let Ok(below) = dir.strip_prefix(&here) {
        return below.to_owned();
    }
    match here.strip_prefix(dir) {
        Ok(above) => above.components().map(|_| "..").collect(),
        Err(_) => dir.to_owned(),
    }
}

/// `false` where the file exists.
fn create(path: &Path, text: &str) -> Result<bool, Failure> {
    let failed = |error: std::io::Error| {
        Failure::refused("write", format!("cannot write `{}`: {error}", path.display()))
    };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true).map_err(failed),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed(error)),
    }
}
