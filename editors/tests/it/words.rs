//! All editors know the words of the language, and no others.

use std::collections::BTreeSet;
use std::path::Path;

use mesh_editors::{FILES, HEADER, PARSER_SOURCES, Words, of_sources};
use mesh_grammar::symbol::symbol;

use crate::corpus::{read, root};

/// What to do where a list is not what it should be.
const RECIPE: &str = "see \"Add a word\" in CONTRIBUTING.md";

fn words() -> Words {
    Words::read(&read("words.json")).unwrap()
}

fn grammar() -> String {
    std::fs::read_to_string(root().join("grammar/mesh.pest")).unwrap()
}

/// The words that the grammar has rules for.
fn of_grammar() -> BTreeSet<String> {
    let grammar = grammar();
    let rules = grammar.lines().filter_map(|line| line.strip_prefix("kw_")?.split_once(" = @{ \""));
    rules.map(|(_, rest)| rest.split_once('"').unwrap().0.to_owned()).collect()
}

/// The words that the grammar does not take for names.
fn reserved() -> BTreeSet<String> {
    let grammar = grammar();
    let (_, rest) = grammar.split_once("reserved = @{").unwrap();
    rest.split_once('}').unwrap().0.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_list_has_the_words_of_the_grammar() {
    let known: BTreeSet<String> = words().words.into_keys().collect();
    let grammar = of_grammar();
    assert!(grammar.len() > 40, "{grammar:?}");
    let missing: Vec<_> = grammar.difference(&known).collect();
    assert!(missing.is_empty(), "grammar/mesh.pest has {missing:?}, editors/words.json does not; {RECIPE}");
    let extra: Vec<_> = known.difference(&grammar).collect();
    assert!(extra.is_empty(), "editors/words.json has {extra:?}, grammar/mesh.pest does not; {RECIPE}");
    // That the words were found where they are: the compiler's messages name them too.
    assert_eq!(symbol(mesh_grammar::Rule::kw_missing_sidecar), "`missing-sidecar`");
}

#[test]
fn the_list_has_the_words_that_are_no_names() {
    let words = words();
    let known: BTreeSet<String> = words.words.into_keys().chain(words.kept).collect();
    let reserved = reserved();
    assert!(reserved.iter().all(|word| mesh_grammar::statement::is_reserved(word)), "{reserved:?}");
    assert_eq!(
        known, reserved,
        "`words` and `kept` of editors/words.json are together what `reserved` of grammar/mesh.pest has; {RECIPE}"
    );
}

/// The tree-sitter grammar takes the order of its tokens from the file, the scanner that of the alphabet.
#[test]
fn the_list_is_sorted() {
    let text = read("words.json");
    let written: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split_once("\": \""))
        .map(|it| it.0)
        .collect();
    let sorted: Vec<String> = words().words.into_keys().collect();
    assert_eq!(written, sorted);
}

#[test]
fn every_file_has_the_list() {
    let words = words();
    assert_eq!(read(HEADER), words.header(), "run editors/generate/run; {RECIPE}");
    for (name, style) in FILES {
        let text = read(name);
        let filled = words.filled(&text, style).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(
            filled == text,
            "{name} has other words than editors/words.json: run editors/generate/run; {RECIPE}"
        );
    }
}

#[test]
fn the_parser_is_made_of_the_grammar() {
    let sources = of_sources(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert_eq!(
        read(PARSER_SOURCES),
        sources,
        "the C parser is that of another grammar: run editors/generate/run"
    );
}

/// A word that no rule of the tree-sitter grammar takes would be coloured nowhere.
#[test]
fn every_word_stands_somewhere_in_the_tree_sitter_grammar() {
    let grammar: serde_json::Value =
        serde_json::from_str(&read("tree-sitter-mesh/src/grammar.json")).unwrap();
    let rules = grammar["rules"].to_string();
    for word in words().words.keys() {
        let token = serde_json::json!({ "type": "STRING", "value": word }).to_string();
        assert!(
            rules.contains(&token),
            "`{word}` stands in no rule of editors/tree-sitter-mesh/grammar.js; {RECIPE}"
        );
    }
}
