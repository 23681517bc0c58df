//! The one list, and what is written from it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::files::Style;

/// What `words.json` holds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// The words of the grammar, each with its class: words of a class are coloured alike.
    pub words: BTreeMap<String, String>,
    /// Words that are no names, because they are kept for later.
    pub kept: Vec<String>,
}

/// What is wrong with a list, or with the place for it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `words.json` cannot be read.
    #[error("words.json: {0}")]
    Words(#[from] serde_json::Error),
    /// A class that no word has.
    #[error("line {line}: no word of words.json has the class `{class}`")]
    Class {
        /// The line that names it, from 1.
        line: usize,
        /// The class.
        class: String,
    },
    /// The line after `words: CLASS` has no list.
    #[error("line {line}: a list of words belongs here, between `{open}` and `{close}`")]
    List {
        /// The line, from 1.
        line: usize,
        /// What begins it.
        open: &'static str,
        /// What ends it.
        close: &'static str,
    },
    /// A class for which the file has no place.
    #[error("no line has `words: {0}`")]
    Missing(String),
}

impl Words {
    /// Reads `words.json`.
    ///
    /// # Errors
    /// Where it is no such list.
    pub fn read(text: &str) -> Result<Self, Error> {
        Ok(serde_json::from_str(text)?)
    }

    /// The words of a class, sorted. Lists are tried to their end, so that `exclude` hides no `excluded`.
    #[must_use]
    pub fn of(&self, class: &str) -> Vec<&str> {
        let of_class = self.words.iter().filter(|(_, its_class)| *its_class == class);
        of_class.map(|(word, _)| word.as_str()).collect()
    }

    /// The header that the scanner of the tree-sitter grammar includes.
    #[must_use]
    pub fn header(&self) -> String {
        let rows = |words: &mut dyn Iterator<Item = &String>| {
            words.map(|word| format!("\t\"{word}\",\n")).collect::<String>()
        };
        let longest = self.words.keys().chain(&self.kept).map(String::len).max().unwrap_or_default();
        format!(
            "/* Written by editors/generate/run from editors/words.json. */\n#ifndef MESH_WORDS_H\n#define \
             MESH_WORDS_H\n\n#define LONGEST_WORD {longest}\n\n/* The words of the grammar, in the order of its \
             external tokens. */\nstatic const char *const WORDS[] = {{\n{}}};\n\n/* Kept for later: no names \
             either. */\nstatic const char *const KEPT[] = {{\n{}}};\n\n#endif\n",
            rows(&mut self.words.keys()),
            rows(&mut self.kept.iter()),
        )
    }

    /// A file with the lists that belong into it.
    ///
    /// # Errors
    /// Where the file lacks a class, has one that there is not, or no list where one belongs.
    pub fn filled(&self, text: &str, style: Style) -> Result<String, Error> {
        let (open, close) = style.around();
        let mut seen = Vec::new();
        let mut class: Option<&str> = None;
        let mut filled = String::with_capacity(text.len());
        for (at, line) in text.split_inclusive('\n').enumerate() {
            match class.take() {
                None => filled.push_str(line),
                Some(class) => {
                    let parts = line.split_once(open).and_then(|(before, rest)| {
                        let (_, after) = rest.split_once(close)?;
                        Some((before, after))
                    });
                    let (before, after) = parts.ok_or(Error::List { line: at + 1, open, close })?;
                    let words = self.of(class);
                    if words.is_empty() {
                        return Err(Error::Class { line: at, class: class.to_owned() });
                    }
                    filled.push_str(before);
                    filled.push_str(open);
                    filled.push_str(&style.list(&words));
                    filled.push_str(close);
                    filled.push_str(after);
                    seen.push(class);
                }
            }
            class = line
                .split_once("words: ")
                .map(|(_, class)| class.trim_end().trim_end_matches(|c: char| !c.is_ascii_alphabetic()));
        }
        match self.words.values().find(|class| !seen.contains(&class.as_str())) {
            Some(class) => Err(Error::Missing(class.clone())),
            None => Ok(filled),
        }
    }
}
