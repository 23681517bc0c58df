//! The queries of the tree-sitter grammar, and those for Helix.

use std::collections::{BTreeMap, BTreeSet};

use mesh_editors::Words;
use tree_sitter::{Language, Node, Query, QueryCursor, StreamingIterator};

use crate::corpus::{Text, read};
use crate::parses::parser;
use crate::tokens::{self, Kind};

fn language() -> Language {
    tree_sitter_mesh::LANGUAGE.into()
}

fn query(name: &str) -> Query {
    Query::new(&language(), &read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What a query captures, with the range of bytes.
fn captures(query: &Query, text: &str) -> Vec<(String, std::ops::Range<usize>)> {
    let tree = parser().parse(text, None).unwrap();
    let mut cursor = QueryCursor::new();
    let mut found = Vec::new();
    let mut matches = cursor.matches(query, tree.root_node(), text.as_bytes());
    while let Some(it) = matches.next() {
        for capture in it.captures() {
            found.push((query.capture_names()[capture.index as usize].to_owned(), capture.node.byte_range()));
        }
    }
    found
}

#[test]
fn every_query_is_one() {
    for file in ["highlights", "folds", "indents", "injections", "locals"] {
        assert!(query(&format!("tree-sitter-mesh/queries/{file}.scm")).pattern_count() > 0);
    }
    for file in ["highlights", "indents", "injections", "locals", "textobjects"] {
        assert!(query(&format!("helix/queries/{file}.scm")).pattern_count() > 0);
    }
    for text in [
        tree_sitter_mesh::HIGHLIGHTS_QUERY,
        tree_sitter_mesh::FOLDS_QUERY,
        tree_sitter_mesh::INDENTS_QUERY,
        tree_sitter_mesh::INJECTIONS_QUERY,
        tree_sitter_mesh::LOCALS_QUERY,
    ] {
        Query::new(&language(), text).unwrap();
    }
}

/// Each token has one colour: editors do not agree on what wins where there are two.
#[test]
fn every_token_has_one_colour_of_its_kind() {
    let words = Words::read(&read("words.json")).unwrap();
    for (name, literal) in [("tree-sitter-mesh", "number"), ("helix", "constant.numeric")] {
        let query = query(&format!("{name}/queries/highlights.scm"));
        let mut coloured = BTreeSet::new();
        let mut of_class: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (Text { name: policy, text }, tokens) in tokens::policies() {
            let captures = captures(&query, &text);
            for token in tokens {
                let here: Vec<_> = captures.iter().filter(|(_, range)| *range == token.range).collect();
                let ([(capture, _)] | [_, (capture, _)]) = here.as_slice() else {
                    panic!("{policy}: `{}` is {here:?} for {name}", token.text)
                };
                // Comments that speak to the compiler are comments too.
                assert!(
                    here.len() == 1 || (name, capture.as_str()) == ("tree-sitter-mesh", "keyword.directive")
                );
                match token.kind {
                    Kind::Word => {
                        coloured.insert(token.text);
                        of_class.entry(token.class.unwrap()).or_default().insert(capture.clone());
                    }
                    Kind::Comment => assert!(
                        ["comment", "keyword.directive"].contains(&capture.as_str()),
                        "{policy}: {capture}"
                    ),
                    Kind::Literal => {
                        assert!([literal, "constant"].contains(&capture.as_str()), "{policy}: {capture}");
                    }
                    Kind::Text | Kind::Name | Kind::Sign => {}
                }
            }
        }
        let all: BTreeSet<String> = words.words.keys().cloned().collect();
        assert_eq!(coloured, all, "no policy of the repository or its manual has the others");
        for (class, captures) in of_class {
            assert_eq!(captures.len(), 1, "{name}: words of the class {class} are {captures:?}");
        }
    }
}

#[test]
fn blocks_and_lists_fold() {
    let text = "set a = [\n    1::2,\n]\nmesh m {\n    workload a {\n        any\n    }\n    test \"\" {\n    }\n}\n";
    let folds = captures(&query("tree-sitter-mesh/queries/folds.scm"), text);
    let rows: Vec<usize> = folds.iter().map(|(_, range)| text[..range.start].matches('\n').count()).collect();
    assert_eq!(rows, [0, 3, 4, 7]);
}

#[test]
fn names_lead_to_what_declares_them() {
    let text = "set private = 10.0.0.0/8\nmesh m {\n    workload a { any }\n    group g = a\n    deny outbound to private\n}\n";
    let of = |wanted: &str| -> Vec<String> {
        captures(&query("tree-sitter-mesh/queries/locals.scm"), text)
            .into_iter()
            .filter(|(name, _)| name == wanted)
            .map(|(_, range)| text[range].to_owned())
            .collect()
    };
    assert_eq!(of("local.definition"), ["private", "m", "a", "g"]);
    assert_eq!(of("local.reference"), ["a", "private"]);
}

/// Names of nodes are what others write queries against.
#[test]
fn a_policy_is_a_tree() {
    let text = "always deny outbound tcp not 80, 443 to private, service a/b as uid 1-2 and cgroup \"/c\"\n";
    let tree = parser().parse(text, None).unwrap();
    let rule: Node<'_> = tree.root_node().child(0).unwrap();
    assert_eq!(
        rule.to_sexp(),
        "(rule verb: \"deny\" direction: \"outbound\" (ports (protocol) (port) (port)) (addresses (reference) (service name: \
         (service_name))) (processes (id) (string)))"
            .replace("verb: \"deny\" direction: \"outbound\" ", "")
    );
    assert_eq!(rule.child_by_field_name("verb").map(|it| it.kind()), Some("deny"));
    assert_eq!(rule.child_by_field_name("direction").map(|it| it.kind()), Some("outbound"));
}
