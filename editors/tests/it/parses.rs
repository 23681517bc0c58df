//! The tree-sitter grammar accepts what the compiler reads without a message `syntax`, and nothing else.

use mesh_compiler::diag::{Code, Diagnostic};
use mesh_compiler::parse::parse_file;
use mesh_compiler::source::Sources;
use mesh_fuzz::random::Random;
use tree_sitter::{InputEdit, Parser, Point, Tree};

use crate::corpus::{self, Text};

pub(crate) fn parser() -> Parser {
    let mut parser = Parser::new();
    parser.set_language(&tree_sitter_mesh::LANGUAGE.into()).unwrap();
    parser
}

/// What the compiler says about a text.
enum Read {
    /// Nothing that has to do with how it is written.
    Right,
    /// A number or an address is none. A mistake of another kind in the same statement may not be reported then.
    OddValue,
    /// A message `syntax`.
    Refused(String),
}

/// What the compiler says of it, but for comments that say something to the compiler.
fn read(text: &str) -> Read {
    let mut sources = Sources::default();
    let (id, found) = sources.add("a.mesh", text.as_bytes().to_vec());
    assert!(found.is_empty());
    let text = &sources.get(id).unwrap().text;
    let comments = mesh_grammar::scan::scan(text).comments;
    let (_, mut found) = parse_file(id, text);
    // What a comment says to the compiler is underlined as a whole, or is no matter of syntax.
    let about_comment = |it: &Diagnostic| {
        let Some(span) = it.labels.first().map(|label| label.span) else { return false };
        comments.iter().any(|comment| match it.code {
            Code::Syntax => (comment.extent.start, comment.extent.end) == (span.start, span.end),
            _ => comment.extent.start <= span.start && span.start < comment.extent.end,
        })
    };
    found.retain(|it| !about_comment(it));
    if let Some(at) = found.iter().position(|it| it.code == Code::Syntax) {
        return Read::Refused(found.swap_remove(at).message);
    }
    if found.is_empty() { Read::Right } else { Read::OddValue }
}

/// Where the tree has its first error.
fn first_error(tree: &Tree) -> Option<Point> {
    let mut cursor = tree.walk();
    if !cursor.node().has_error() {
        return None;
    }
    loop {
        let node = cursor.node();
        if node.is_error() || node.is_missing() {
            return Some(node.start_position());
        }
        let goes_down = node.has_error() && cursor.goto_first_child();
        if !goes_down && !cursor.goto_next_sibling() {
            return Some(node.start_position());
        }
        while !cursor.node().has_error() && cursor.goto_next_sibling() {}
    }
}

#[derive(Default)]
struct Counted {
    right: usize,
    wrong: usize,
    /// How many have both a wrong value and a mistake that only tree-sitter speaks of.
    unclear: usize,
}

impl Counted {
    /// Without this a law would hold of texts that are all of one kind.
    #[track_caller]
    fn enough(&self, right: usize, wrong: usize, unclear: usize) {
        let enough = self.right >= right && self.wrong >= wrong && self.unclear <= unclear;
        assert!(enough, "{} right, {} wrong, {} unclear", self.right, self.wrong, self.unclear);
    }

    #[track_caller]
    fn compare(&mut self, parser: &mut Parser, it: &Text) {
        let tree = parser.parse(&it.text, None).unwrap();
        match (read(&it.text), first_error(&tree)) {
            (Read::Right | Read::OddValue, None) => self.right += 1,
            (Read::Refused(_), Some(_)) => self.wrong += 1,
            (Read::OddValue, Some(_)) => self.unclear += 1,
            (Read::Right, Some(at)) => panic!(
                "{}: the compiler reads it, tree-sitter stops at {}:{}\n{}\n{}",
                it.name,
                at.row + 1,
                at.column + 1,
                it.text,
                tree.root_node()
            ),
            (Read::Refused(message), None) => {
                panic!("{}: tree-sitter reads it, the compiler says: {message}\n{}", it.name, it.text)
            }
        }
    }
}

#[test]
fn all_policies_of_the_repository_are_read_alike() {
    let (mut parser, mut counted) = (parser(), Counted::default());
    for it in corpus::policies() {
        counted.compare(&mut parser, &it);
    }
    counted.enough(30, 1, 0);
}

#[test]
fn all_policies_of_the_manual_are_read_alike() {
    let (mut parser, mut counted) = (parser(), Counted::default());
    for it in corpus::manual() {
        counted.compare(&mut parser, &it);
    }
    counted.enough(100, 20, 0);
}

/// Seeds for a run on every machine; `MESHC_TEST_LONG` has ten times as many.
fn seeds() -> std::ops::Range<u64> {
    0..if std::env::var_os("MESHC_TEST_LONG").is_some() { 3000 } else { 300 }
}

#[test]
fn random_programs_are_read_alike() {
    let (mut parser, mut counted) = (parser(), Counted::default());
    for seed in seeds() {
        counted.compare(&mut parser, &corpus::random(seed));
    }
    counted.enough(250, 0, 0);
}

#[test]
fn damaged_programs_are_read_alike() {
    let (mut parser, mut counted) = (parser(), Counted::default());
    let mut texts = corpus::policies();
    texts.extend(corpus::manual());
    for seed in seeds() {
        let mut random = Random::new(seed);
        let base = if random.once_in(2) { &corpus::random(seed) } else { &texts[random.below(texts.len())] };
        for _ in 0..10 {
            let text = corpus::damaged(&base.text, &mut random);
            counted
                .compare(&mut parser, &Text { name: format!("{}, damaged by seed {seed}", base.name), text });
        }
    }
    let unclear = counted.wrong / 50;
    counted.enough(150, 1500, unclear);
}

/// Every way to write an end of a statement, and words where they are something else.
#[test]
fn lines_and_words_are_read_alike() {
    let (mut parser, mut counted) = (parser(), Counted::default());
    for text in [
        "",
        ";;\n;",
        "\u{feff}exempt uid 1",
        "exempt uid 1\r\nexempt gid 2\r\n",
        "exempt uid 1\rexempt gid 2",
        "# a\rexempt uid 1",
        "exempt uid 1, # a\n# b\n2",
        "exempt uid 1 # a\n, 2",
        "redirect outbound # a\n# b\n\n-> # c\n15001",
        "redirect outbound\n# a\nto 10.0.0.1\n# b\nas uid 1\nand gid 2\n-> 1 transparent",
        "redirect outbound to-> 1",
        "redirect\noutbound -> 1",
        "redirect outbound\nto-x -> 1",
        "redirect outbound tcp->1",
        "redirect outbound tcp 1->1transparent",
        "exclude outbound tcp:80",
        "exclude outbound tcp.x",
        "exclude outbound tcp 80 to",
        "exclude inbound tcp 80 to 10.0.0.1",
        "exclude inbound as uid 1",
        "exclude outbound as uid 1 and uid 2",
        "exclude outbound as cgroup \"/a\", \"/b\" and uid 1-2 and gid [3, 4,]",
        "deny outbound -> 1",
        "redirect outbound",
        "set a = [\n1,\n2\n]",
        "set a = [1 2]",
        "set a = []",
        "set a = tcp 53, 54, udp [1, 2,], not",
        "set a = tcp 1, service x/y, b, 10.0.0.1,",
        "set set = 1",
        "set node = 1",
        "set log-x = 1",
        "set a- = 1",
        "set a--b = 1",
        "mesh m {} mesh n {;}",
        "mesh m\n{ }",
        "mesh m { any }",
        "mesh m { workload a { any; not any } }",
        "mesh m { workload a { namespace any, deny,\nset\nlabel deny = 7up, a-\nnot label a/b.c } }",
        "mesh m { workload a { namespace a:b } }",
        "mesh m { workload a { label \"x y\" = [\n\"\", set, # c\n] } }",
        "mesh m { test \"\" { a->b tcp 1 is denied; inbound service deny -> 1::2 udp 1 as uid 1 gid 2 is redirected 3 } }",
        "mesh m { test \"\" { a -> b any 1 is denied } }",
        "mesh m { test \"\" { a -> b tcp 1 as uid 1 uid 2 is denied } }",
        "mesh m { accelerate local for a, b c; accelerate a<->b tcp not 1; accelerate all; accelerate a <- > b }",
        "import \"a\" import \"b\"",
        "import \"a",
        "import \"a\tb\"",
        "import \"a\u{7f}b\"",
        "exempt cgroup \"a\"\"b\"",
        "exempt uid [1, 2\nexempt uid 3",
        "exempt uid 1 }",
        "mesh m {",
        "exempt uid 1 {}",
        "[",
        "->",
        "\u{a0}exempt uid 1",
    ] {
        counted.compare(&mut parser, &Text { name: format!("{text:?}"), text: text.to_owned() });
    }
    counted.enough(18, 18, 0);
}

/// An editor hands over what changed: the tree must be that of a fresh start.
#[test]
fn what_is_typed_is_read_as_what_is_opened() {
    let mut parser = parser();
    let point = |text: &str, at: usize| {
        let before = &text[..at];
        let row = before.matches('\n').count();
        Point { row, column: at - before.rfind('\n').map_or(0, |newline| newline + 1) }
    };
    for seed in seeds() {
        let mut random = Random::new(seed);
        let mut text = corpus::random(seed).text;
        let mut tree = parser.parse(&text, None).unwrap();
        for _ in 0..8 {
            let new = corpus::damaged(&text, &mut random);
            let same = |(a, b): &(char, char)| a == b;
            let start: usize =
                text.chars().zip(new.chars()).take_while(same).map(|(it, _)| it.len_utf8()).sum();
            let end: usize = (text[start..].chars().rev().zip(new[start..].chars().rev()))
                .take_while(same)
                .map(|(it, _)| it.len_utf8())
                .sum();
            tree.edit(&InputEdit {
                start_byte: start,
                old_end_byte: text.len() - end,
                new_end_byte: new.len() - end,
                start_position: point(&text, start),
                old_end_position: point(&text, text.len() - end),
                new_end_position: point(&new, new.len() - end),
            });
            tree = parser.parse(&new, Some(&tree)).unwrap();
            let fresh = parser.parse(&new, None).unwrap();
            assert_eq!(
                tree.root_node().has_error(),
                fresh.root_node().has_error(),
                "seed {seed}\n{text}\nthen\n{new}"
            );
            if !fresh.root_node().has_error() {
                assert_eq!(
                    tree.root_node().to_sexp(),
                    fresh.root_node().to_sexp(),
                    "seed {seed}\n{text}\nthen\n{new}"
                );
            }
            text = new;
        }
    }
}

/// A mistake hides no more than the statement that it is in.
#[test]
fn a_mistake_stays_where_it_is() {
    let mut parser = parser();
    for mistake in [
        "exclude outbound tcp 80,",
        "redirect outbound",
        "exempt uid",
        "deny sideways tcp 25",
        "set x = \"a",
        "group g =",
    ] {
        let text = format!(
            "exempt uid 1\nmesh m {{\n    deny outbound tcp 25\n    {mistake}\n    deny outbound udp 443\n    workload a {{ any }}\n}}\n"
        );
        let tree = parser.parse(&text, None).unwrap();
        let kinds = |kind: &str| {
            let mut stack = vec![tree.root_node()];
            let mut count = 0;
            while let Some(node) = stack.pop() {
                count += usize::from(node.is_named() && node.kind() == kind);
                stack.extend((0..node.child_count()).filter_map(|i| node.child(i)));
            }
            count
        };
        let shown = tree.root_node().to_sexp();
        assert!(tree.root_node().has_error(), "{mistake}: {shown}");
        assert_eq!((kinds("mesh"), kinds("workload")), (1, 1), "{mistake}: {shown}");
        assert!(kinds("exempt") >= 1 && kinds("rule") >= 2, "{mistake}: {shown}");
    }
}

/// Lists of a hundred thousand prefixes are usual.
#[test]
fn a_long_list_is_flat() {
    let items: Vec<String> =
        (0..100_000).map(|i| format!("10.{}.{}.{}/32", i >> 16, (i >> 8) & 255, i & 255)).collect();
    let text = format!("set a = [\n{},\n]", items.join(",\n"));
    let tree = parser().parse(&text, None).unwrap();
    assert!(!tree.root_node().has_error());
    let list = tree.root_node().child(0).and_then(|set| set.named_child(1)).unwrap();
    assert_eq!((list.kind(), list.named_child_count()), ("set_list", 100_000));
}
