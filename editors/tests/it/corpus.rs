//! Policies to try grammars with: those of the repository, those of its manual, and random ones.

use std::path::{Path, PathBuf};

use mesh_fuzz::choice::Choices;
use mesh_fuzz::program::program;
use mesh_fuzz::random::Random;

/// A policy, and where it is from.
pub(crate) struct Text {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// The top of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file of this crate.
pub(crate) fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below a directory whose names end so, sorted.
fn below(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in
        std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
    {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(below(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every policy file in the repository's own directories.
pub(crate) fn policies() -> Vec<Text> {
    let directories = ["policies", "fuzz/tests", "cli/tests/data", "compiler/tests", "packaging", "bench"];
    let files = directories.iter().flat_map(|directory| below(&root().join(directory), ".mesh"));
    files
        .map(|path| Text { text: std::fs::read_to_string(&path).unwrap(), name: path.display().to_string() })
        .collect()
}

/// Every policy in the manual and in the pages of diagnostics. Parts of policies are put into a mesh too.
pub(crate) fn manual() -> Vec<Text> {
    let directories = ["docs", "compiler/src/diag/pages"];
    let mut pages: Vec<PathBuf> = directories.iter().flat_map(|it| below(&root().join(it), ".md")).collect();
    pages.push(root().join("README.md"));
    let mut texts = Vec::new();
    for path in pages {
        let page = std::fs::read_to_string(&path).unwrap();
        let mut open: Option<(usize, String)> = None;
        for (at, line) in page.lines().enumerate() {
            match (&mut open, line.strip_prefix("```")) {
                (None, Some(words)) if words.starts_with("mesh") => open = Some((at + 1, String::new())),
                (Some(_), Some("")) => {
                    let Some((line, text)) = open.take() else { continue };
                    let name = format!("{}:{line}", path.display());
                    texts.push(Text {
                        name: format!("{name}, in a mesh"),
                        text: format!("mesh m {{\n{text}\n}}\n"),
                    });
                    texts.push(Text { name, text });
                }
                (Some((_, text)), None) => {
                    text.push_str(line);
                    text.push('\n');
                }
                _ => {}
            }
        }
    }
    texts
}

/// A random program.
pub(crate) fn random(seed: u64) -> Text {
    let mut random = Random::new(seed);
    let length = 40 + random.below(600);
    Text { name: format!("seed {seed}"), text: program(&mut Choices::new(&random.bytes(length))) }
}

/// What stands between tokens, tokens, and characters that belong nowhere.
const PIECES: [&str; 81] = [
    "\n",
    "\n",
    "\n",
    " ",
    " ",
    "# d\n",
    "\r\n",
    "\n\n",
    ";\n",
    "\n # e\n",
    "\r",
    "\t",
    " ",
    " ",
    ";",
    "{",
    "}",
    "{ ",
    " }\n",
    "[",
    "]",
    "[\n",
    "\n]",
    ",",
    ",\n",
    ", ",
    "=",
    " = ",
    "->",
    " -> ",
    "\n->",
    "\n  to ",
    "\nas ",
    "\nand ",
    "\nfrom ",
    "<->",
    "< ->",
    "-",
    "--",
    "\"",
    "\"a b\"",
    "\"a\n",
    "# c\n",
    "#",
    "# meshc: allow(leak)\n",
    "\u{2028}",
    "\u{202e}",
    "\u{a0}",
    "\u{7f}",
    "é",
    "→",
    "\0",
    "_",
    ".",
    ":",
    "%",
    "/",
    "a",
    "a-",
    "a.b",
    "a::1",
    "7up",
    "-a",
    "0",
    "1-2",
    "1--2",
    "10.0.0.0/8",
    "cafe::1",
    " tcp ",
    " udp 53",
    " any",
    " not ",
    " service ",
    " service x/y",
    " deny",
    " as uid 1",
    " and gid 2",
    "\nlabel a = b",
    "\nany\n",
    "transparent",
    "\nexempt uid 1",
];

/// The text with some changes: pieces put in, cut out, or moved, words in the place of others.
pub(crate) fn damaged(text: &str, random: &mut Random) -> String {
    let mut text = text.to_owned();
    let boundary = |text: &str, random: &mut Random| {
        let mut at = random.below(text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    for _ in 0..=random.below(3) {
        let at = boundary(&text, random);
        let end = (at..=text.len()).skip(1 + random.below(8)).find(|&end| text.is_char_boundary(end));
        let end = end.unwrap_or(text.len());
        match random.below(7) {
            0 => text.replace_range(at..end, ""),
            1 => text.replace_range(at..end, PIECES[random.below(PIECES.len())]),
            2 => {
                let moved: String = text.drain(at..end).collect();
                let to = boundary(&text, random);
                text.insert_str(to, &moved);
            }
            3 if random.once_in(6) => text.truncate(at),
            4 | 5 => exchange(&mut text, random),
            _ => text.insert_str(at, PIECES[random.below(PIECES.len())]),
        }
    }
    text
}

/// One word of the text in the place of another.
fn exchange(text: &mut String, random: &mut Random) {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    if words.is_empty() {
        return;
    }
    let (old, new) = (words[random.below(words.len())], words[random.below(words.len())].to_owned());
    let places: Vec<usize> = text.match_indices(old).map(|(at, _)| at).collect();
    let (at, length) = (places[random.below(places.len())], old.len());
    text.replace_range(at..at + length, &new);
}
