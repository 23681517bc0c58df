//! One page, and whether it holds.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::Tested;
use crate::block::Block;
use crate::meshc::{self, Printed};

/// What a fragment is put into.
const BEFORE: &str = "set private = 10.0.0.0/8\nexempt uid 1500\nmesh example {\n\
     workload cart { cgroup \"/cart\" }\nworkload catalog { address 10.42.1.0/24 }\n";

/// A program that is too large for the kernel's tables is too large for a page.
const TOO_LARGE: &str = "over-capacity";

/// A page with its own directory for the files of its blocks.
pub(crate) struct Page {
    path: PathBuf,
    text: String,
    dir: TempDir,
    /// The arguments that check the last program.
    last: Vec<String>,
    /// How the last command ended.
    code: i32,
    /// What should stand in place of a block.
    updates: Vec<(Block, String)>,
    /// The code that the next program must yield: the first of a diagnostic's page is the wrong one.
    subject: Option<String>,
}

impl Page {
    pub(crate) fn read(path: &Path) -> Tested<Self> {
        let (text, dir) = (fs::read_to_string(path)?, TempDir::new()?);
        let subject = path.to_string_lossy().contains("/diag/pages/").then(|| stem(path));
        Ok(Self {
            path: path.to_owned(),
            text,
            dir,
            last: Vec::new(),
            code: 0,
            updates: Vec::new(),
            subject: subject.filter(|code| code != TOO_LARGE),
        })
    }

    /// All that is wrong with it, each with its place.
    pub(crate) fn hold(&mut self) -> Tested<Vec<String>> {
        let mut wrong = Vec::new();
        for block in Block::all(&self.text) {
            if let Some(found) = self.block(&block)? {
                wrong.push(format!("{}:{}: {found}", self.path.display(), block.lines.start + 1));
            }
        }
        Ok(wrong)
    }

    /// Puts what is printed now into the page.
    pub(crate) fn write(&mut self) -> Tested {
        let mut lines: Vec<String> = self.text.lines().map(str::to_owned).collect();
        self.updates.sort_by_key(|(block, _)| std::cmp::Reverse(block.lines.start));
        for (block, text) in self.updates.drain(..) {
            lines.splice(block.lines, text.lines().map(str::to_owned));
        }
        Ok(fs::write(&self.path, lines.join("\n") + "\n")?)
    }

    fn block(&mut self, block: &Block) -> Tested<Option<String>> {
        if let Some(name) = block.shows() {
            let text = fs::read_to_string(self.dir.path().join(name))
                .map_err(|error| format!("{}: {name}: {error}", self.path.display()))?;
            return Ok(self.compare(block, &block.text, &plain(&text)));
        }
        match block.kind() {
            "toml" | "yaml" | "txt" => {
                if let Some(name) = block.file() {
                    fs::write(self.dir.path().join(name), &block.text)?;
                }
                Ok(None)
            }
            "mesh" | "mesh-reject" => self.program(block, &block.text.clone()),
            "mesh-fragment" => self.program(block, &format!("{BEFORE}{}}}\n", block.text)),
            "text" if block.codes() == ["check"] => self.shown(block),
            // What needs a kernel is run by the tests that have one.
            "console" if block.codes() == ["root"] => Ok(None),
            "console" => self.console(block),
            _ => Ok(None),
        }
    }

    fn program(&mut self, block: &Block, text: &str) -> Tested<Option<String>> {
        let subject = if block.file().is_none() { self.subject.take() } else { None };
        let name = subject.as_ref().map(|code| format!("{code}.mesh"));
        let name = name.as_deref().or_else(|| block.file()).unwrap_or("policy.mesh");
        fs::write(self.dir.path().join(name), text)?;
        let inventory = block.inventory().map(|file| ["--inventory".to_owned(), file.to_owned()]);
        self.last = vec!["check".to_owned(), name.to_owned()];
        self.last.extend(inventory.into_iter().flatten());
        let [errors, warnings, notes] = meshc::codes(self.dir.path(), &self.last)?;
        let holds = match subject {
            Some(code) if errors.is_empty() && warnings.is_empty() => notes == [code],
            Some(code) => errors.iter().chain(&warnings).eq([&code]),
            None => as_tagged(block, &errors, &warnings),
        };
        Ok((!holds).then(|| {
            let printed = meshc::run(self.dir.path(), &self.last).map_or_else(|e| e.to_string(), |p| p.text);
            format!("errors {errors:?}, warnings {warnings:?}\n{printed}")
        }))
    }

    /// What `check` prints about the program before.
    fn shown(&mut self, block: &Block) -> Tested<Option<String>> {
        let Printed { text, .. } = meshc::run(self.dir.path(), &self.last)?;
        Ok(self.compare(block, &block.text, &plain(&text)))
    }

    fn console(&mut self, block: &Block) -> Tested<Option<String>> {
        let mut now = String::new();
        let mut wrong = None;
        for part in commands(&block.text) {
            let (line, printed) = part.split_once('\n').unwrap_or((&part, ""));
            let found = self.command(line.trim_start_matches("$ "))?;
            let same = like(printed, &found);
            if !same {
                wrong.get_or_insert_with(|| format!("{line}\n--- says\n{printed}--- prints\n{found}"));
            }
            now.push_str(&format!("{line}\n{}", if same { printed } else { &found }));
        }
        if wrong.is_some() {
            self.updates.push((block.clone(), now));
        }
        Ok(wrong)
    }

    /// What a command prints: meshc, or `echo $?`.
    fn command(&mut self, line: &str) -> Tested<String> {
        if line == "echo $?" {
            return Ok(format!("{}\n", self.code));
        }
        let words = meshc::words(line);
        let Some((program, arguments)) = words.split_first().filter(|(program, _)| *program == "meshc")
        else {
            return Err(format!("{}: `{line}` is not a command of meshc", self.path.display()).into());
        };
        let Printed { text, code } = meshc::run(self.dir.path(), arguments)
            .map_err(|error| format!("{program} {arguments:?}: {error}"))?;
        self.code = code;
        Ok(plain(&text))
    }

    fn compare(&mut self, block: &Block, says: &str, prints: &str) -> Option<String> {
        if like(says, prints) {
            return None;
        }
        self.updates.push((block.clone(), prints.to_owned()));
        Some(format!("--- says\n{says}--- prints\n{prints}"))
    }
}

/// Whether a program has the mistakes that its block names, and no others.
fn as_tagged(block: &Block, errors: &[String], warnings: &[String]) -> bool {
    if block.kind() == "mesh-reject" {
        return errors == block.codes();
    }
    // What is there to be imported may have no use by itself, and neither may a part of a program.
    let lenient = block.kind() == "mesh-fragment" || block.file().is_some();
    errors.is_empty() && (lenient || warnings == block.codes())
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// A console block cut before each `$ `.
fn commands(text: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.starts_with("$ ") || commands.is_empty() {
            commands.push(String::new());
        }
        if let Some(command) = commands.last_mut() {
            command.push_str(line);
            command.push('\n');
        }
    }
    commands
}

/// Without spaces at the ends of lines and empty lines at the end.
fn plain(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
    if lines.is_empty() { String::new() } else { lines.join("\n") + "\n" }
}

/// Whether a page says what is printed, where a line `…` stands for any lines.
fn like(says: &str, prints: &str) -> bool {
    let says = plain(says);
    let parts: Vec<&str> = says.split("…\n").collect();
    let [first, between @ .., last] = parts.as_slice() else { return says == prints };
    let Some(mut rest) = prints.strip_prefix(first) else { return false };
    for part in between {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

#[test]
fn an_ellipsis_stands_for_any_lines() {
    assert!(like("a\n…\nd\n", "a\nb\nc\nd\n"));
    assert!(like("a\n", "a\n"));
    assert!(!like("a\n…\nd\n", "a\nb\nc\n"));
    assert!(!like("a\n", "a\nb\n"));
}
