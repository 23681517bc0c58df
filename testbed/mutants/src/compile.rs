//! Compiles the workspace with all mistakes in it, and finds out which do not compile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::Result;
use crate::mutant::Mutant;
use crate::switches::{SWITCH, rewrite};

/// How a switch begins, and how one does that is the guard of an arm.
const SWITCHED: &str = "crate::mutant(";
const ARM: &str = " if !crate::mutant(";

/// How often errors are looked at before it is given up.
const ROUNDS: usize = 60;

/// The workspace: one that is rewritten, and one that is not.
pub struct Workspace<'a> {
    pub tree: PathBuf,
    pub pristine: PathBuf,
    /// The packages that mistakes or tests are in.
    pub packages: BTreeSet<&'a str>,
}

/// What was compiled.
#[derive(Default)]
pub struct Compiled {
    /// Mistakes behind a switch.
    pub behind: BTreeSet<usize>,
    /// Mistakes that do not compile, each with the compiler's message.
    pub refused: BTreeMap<usize, String>,
    /// Test binaries by package and target, and where they run.
    pub tests: BTreeMap<(String, String), (PathBuf, PathBuf)>,
}

/// A line of what cargo tells.
#[derive(Deserialize)]
struct Told {
    reason: String,
    message: Option<Message>,
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

#[derive(Deserialize)]
struct Message {
    message: String,
    level: String,
    spans: Vec<Spot>,
}

#[derive(Deserialize)]
struct Spot {
    file_name: String,
    byte_start: usize,
    byte_end: usize,
    is_primary: bool,
}

impl Workspace<'_> {
    /// Compiles the tests, without the mistakes that do not compile.
    pub fn compile(&self, mutants: &[Mutant]) -> Result<Compiled> {
        let mut by_file: BTreeMap<&str, Vec<(usize, &Mutant)>> = BTreeMap::new();
        for (id, mutant) in mutants.iter().enumerate() {
            by_file.entry(&mutant.file).or_default().push((id, mutant));
        }
        let roots: BTreeSet<String> = by_file.keys().filter_map(|file| root(file)).collect();
        let (mut compiled, mut constant) = (Compiled::default(), BTreeSet::new());
        for _ in 0..ROUNDS {
            compiled.behind.clear();
            for file in by_file
                .keys()
                .copied()
                .map(String::from)
                .chain(roots.iter().cloned())
                .collect::<BTreeSet<_>>()
            {
                let text = fs::read_to_string(self.pristine.join(&file))?;
                let all = by_file.get(file.as_str()).map_or(&[][..], Vec::as_slice);
                let left: Vec<_> =
                    all.iter().copied().filter(|(id, _)| !compiled.refused.contains_key(id)).collect();
                let mut rewritten = rewrite(&text, &left, &constant)?;
                compiled.behind.append(&mut rewritten.behind);
                if roots.contains(&file) {
                    rewritten.text += SWITCH;
                }
                // cargo goes by the times of files.
                let file = self.tree.join(&file);
                if fs::read_to_string(&file).ok().as_ref() != Some(&rewritten.text) {
                    fs::write(file, rewritten.text)?;
                }
            }
            let is_done = self.cargo(&mut compiled, &mut constant)?;
            if is_done {
                return Ok(compiled);
            }
        }
        Err("what does not compile is not found".into())
    }

    /// Whether all compiles. What does not is refused from now on.
    fn cargo(&self, compiled: &mut Compiled, constant: &mut BTreeSet<String>) -> Result<bool> {
        let mut cargo = Command::new("cargo");
        cargo.args(["test", "--no-run", "--profile", "mutants", "--message-format", "json"]);
        for package in &self.packages {
            cargo.args(["--package", package]);
        }
        let built = cargo
            .current_dir(&self.tree)
            .env("RUSTFLAGS", "--cap-lints allow")
            .stderr(Stdio::piped())
            .output()?;
        let before = (compiled.refused.len(), constant.len());
        for line in built.stdout.split(|&byte| byte == b'\n') {
            let Ok(told) = serde_json::from_slice::<Told>(line) else { continue };
            match told {
                Told { message: Some(message), .. } if message.level == "error" => {
                    if let Some(function) = called_by_constant(&message.message) {
                        constant.insert(function.to_owned());
                    } else {
                        let blamed = self.to_blame(&message).into_iter();
                        compiled.refused.extend(blamed.map(|id| (id, message.message.clone())));
                    }
                }
                Told {
                    reason,
                    executable: Some(file),
                    manifest_path: Some(manifest),
                    target: Some(target),
                    profile: Some(Profile { test: true }),
                    ..
                } if reason == "compiler-artifact" => {
                    let directory = manifest.parent().map(Path::to_path_buf).unwrap_or_default();
                    let name =
                        if target.kind.iter().any(|kind| kind == "lib") { "lib".into() } else { target.name };
                    let package = package(&manifest)?;
                    compiled.tests.insert((package, name), (file, directory));
                }
                _ => {}
            }
        }
        if !built.status.success() && before == (compiled.refused.len(), constant.len()) {
            return Err(format!("it does not compile:\n{}", String::from_utf8_lossy(&built.stderr)).into());
        }
        Ok(built.status.success())
    }

    /// The mistakes that an error is about: those in what it underlines, else the last one before that. Of a `match` that
    /// is not exhaustive what it matches is underlined, and its arms are behind that.
    fn to_blame(&self, message: &Message) -> Vec<usize> {
        let (primary, others): (Vec<&Spot>, Vec<&Spot>) =
            message.spans.iter().partition(|spot| spot.is_primary);
        for spot in primary.into_iter().chain(others) {
            let Ok(text) = fs::read(self.tree.join(&spot.file_name)) else { continue };
            if message.message.starts_with("non-exhaustive patterns") {
                let after = text.get(spot.byte_end..).unwrap_or_default();
                return switches_after(after, ARM).first().copied().into_iter().collect();
            }
            let within = switches(text.get(spot.byte_start..spot.byte_end).unwrap_or_default());
            if !within.is_empty() {
                return within;
            }
            if let Some(&last) = switches(text.get(..spot.byte_end).unwrap_or_default()).last() {
                return vec![last];
            }
        }
        Vec::new()
    }
}

/// The numbers of the switches in a piece of source.
fn switches(text: &[u8]) -> Vec<usize> {
    switches_after(text, SWITCHED)
}

/// The same of those that stand behind such words.
fn switches_after(text: &[u8], words: &str) -> Vec<usize> {
    let text = String::from_utf8_lossy(text);
    text.split(words).skip(1).filter_map(|rest| rest.split(')').next()?.parse().ok()).collect()
}

/// The function of `cannot call non-const method `a::b` in constants`.
fn called_by_constant(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("cannot call non-const ")?;
    let name = rest.split('`').nth(1)?.rsplit("::").next()?;
    (name != "mutant").then_some(name)
}

/// The root of the crate that a file is in.
fn root(file: &str) -> Option<String> {
    let (krate, _) = file.split_once("/src/")?;
    Some(format!("{krate}/src/lib.rs"))
}

/// The name of a package.
fn package(manifest: &Path) -> Result<String> {
    let text = fs::read_to_string(manifest)?;
    let name = text.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    Ok(name.ok_or("a package has no name")?.to_owned())
}
