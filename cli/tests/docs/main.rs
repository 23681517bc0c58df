//! The manual and the pages of diagnostics say what the tool does: every program in them is compiled, every
//! command is run, and what they show of its output is compared.
//!
//! Fenced blocks are told apart by the words after the fence:
//!
//! | block | what must hold |
//! |---|---|
//! | `mesh` | a whole program: no errors, no warnings |
//! | `mesh warns CODE …` | no errors, and just these warnings |
//! | `mesh-reject CODE …` | errors, of just these codes |
//! | `mesh-fragment` | statements of a mesh: no errors when put into one |
//! | `text check` | what `meshc check` prints about the program before it |
//! | `… shows=FILE` | what stands in the file, which a command of the page wrote |
//! | `console` | commands after `$ `, and what they print; a line `…` stands for any lines |
//! | `console root` | the same on a node: `e2e/commands/tutorial.rs` runs those of the tutorial |
//!
//! A word with a dot names the file that the block is saved as; later blocks of the page find it there.
//! A named `mesh` block is only checked for errors, since it is there to be imported. A named `toml`,
//! `yaml` or `txt` block is saved; `inventory=FILE` after `mesh` checks the program against it. Other blocks are not looked at.
//!
//! On the page of a diagnostic the first program yields it, and the second is right.
//!
//! `MESHC_UPDATE_DOCS=1` writes what is printed now into the pages. Read the difference before you commit it.

mod block;
mod meshc;
mod page;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use page::Page;

type Tested<T = ()> = Result<T, Box<dyn Error>>;

#[test]
fn the_manual_says_what_the_tool_does() -> Tested {
    hold(&[root().join("docs"), root()])
}

#[test]
fn the_pages_of_diagnostics_say_what_the_tool_does() -> Tested {
    hold(&[root().join("compiler/src/diag/pages")])
}

#[test]
fn every_command_and_option_is_in_the_reference() -> Tested {
    let page = std::fs::read_to_string(root().join("docs/commands.md"))?;
    let spoken: Vec<&str> = page.split(|c: char| !(c.is_ascii_lowercase() || c == '-')).collect();
    let help = meshc::help(&[])?;
    let commands: Vec<&str> = meshc::commands(&help).collect();
    assert!(commands.contains(&"check"), "{help}");
    let mut missing = Vec::new();
    for command in commands {
        let headed = page.lines().any(|line| {
            line.strip_prefix("## ").is_some_and(|names| names.split(", ").any(|name| name == command))
        });
        let help = meshc::help(&[command])?;
        let options = meshc::options(&help).filter(|option| !spoken.contains(option));
        missing.extend(options.map(|option| format!("{command} {option}")));
        missing.extend((!headed).then(|| command.to_owned()));
    }
    assert!(missing.is_empty(), "docs/commands.md does not speak of {missing:?}");
    Ok(())
}

/// Lines that a shell would be given, in blocks and between backticks: there is such a command, and it has these options.
#[test]
fn every_command_line_in_the_manual_is_one() -> Tested {
    let mut helps: BTreeMap<String, String> = BTreeMap::new();
    let (mut wrong, mut lines) = (Vec::new(), 0);
    for path in [markdown(&root().join("docs"))?, markdown(&root())?].concat() {
        let page = std::fs::read_to_string(&path)?;
        let mut in_block = false;
        for (at, line) in page.lines().enumerate() {
            in_block ^= line.starts_with("```");
            for words in meshc::command_lines(line, in_block) {
                let Some((command, arguments)) = words.split_first() else { continue };
                let help = match helps.get(command) {
                    Some(help) => help,
                    None => helps.entry(command.clone()).or_insert(meshc::help(&[command])?),
                };
                let knows = |option: &str| meshc::options(help).any(|known| known == option);
                let options =
                    arguments.iter().take_while(|word| *word != "--").filter(|word| word.starts_with("--"));
                let unknown = options.filter_map(|word| word.split('=').next()).find(|option| !knows(option));
                if help.is_empty() || unknown.is_some() {
                    wrong.push(format!("{}:{}: meshc {}", path.display(), at + 1, words.join(" ")));
                }
                lines += 1;
            }
        }
    }
    assert!(lines > 100, "{lines} command lines");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    Ok(())
}

/// In the tutorial nothing is shown that no test looks at, but what a shell is given as root.
#[test]
fn every_listing_of_the_tutorial_is_looked_at() -> Tested {
    let page = std::fs::read_to_string(root().join("docs/tutorial.md"))?;
    let blocks = block::Block::all(&page);
    let is_checked = |block: &block::Block| {
        block.shows().is_some() || matches!(block.kind(), "mesh" | "mesh-reject" | "console" | "sh")
    };
    let others: Vec<&str> =
        blocks.iter().filter(|block| !is_checked(block)).map(|block| block.text.as_str()).collect();
    let [haproxy] = others.as_slice() else { return Err(format!("{others:?}").into()) };
    assert!(haproxy.starts_with("# haproxy.cfg"), "{haproxy}");
    Ok(())
}

/// Looks at all pages before it fails, so that one run shows all that is wrong.
fn hold(dirs: &[PathBuf]) -> Tested {
    let update = std::env::var_os("MESHC_UPDATE_DOCS").is_some();
    let (mut wrong, mut pages) = (Vec::new(), 0);
    for path in dirs.iter().map(|dir| markdown(dir)).collect::<Tested<Vec<_>>>()?.concat() {
        let mut page = Page::read(&path)?;
        wrong.extend(page.hold()?);
        pages += 1;
        if update {
            page.write()?;
        }
    }
    assert!(pages > 0, "no pages in {dirs:?}");
    assert!(wrong.is_empty(), "\n{}\n{} examples are wrong", wrong.join("\n"), wrong.len());
    Ok(())
}

fn markdown(dir: &Path) -> Tested<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
