//! What the tree-sitter grammar says of each token: what other editors' colours are held against.

use std::ops::Range;

use mesh_editors::Words;
use tree_sitter::Node;

use crate::corpus::{self, Text, read};
use crate::parses::parser;

/// What a token is, whatever an editor calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Word,
    Comment,
    Text,
    Literal,
    Name,
    Sign,
}

/// A token.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) range: Range<usize>,
    /// From 0, and in bytes.
    pub(crate) row: usize,
    pub(crate) column: usize,
    pub(crate) text: String,
    /// The class of a word.
    pub(crate) class: Option<String>,
}

/// The tokens of a policy; none where it cannot be read.
pub(crate) fn tokens(text: &str) -> Option<Vec<Token>> {
    let words = Words::read(&read("words.json")).unwrap();
    let tree = parser().parse(text, None)?;
    if tree.root_node().has_error() {
        return None;
    }
    let mut tokens = Vec::new();
    let mut stack = vec![tree.root_node()];
    while let Some(node) = stack.pop() {
        if node.child_count() > 0 {
            let children = (0..node.child_count()).rev();
            stack.extend(children.filter_map(|i| node.child(i)));
        } else if node.start_byte() < node.end_byte() {
            tokens.push(token(node, text, &words));
        }
    }
    Some(tokens)
}

fn token(node: Node<'_>, text: &str, words: &Words) -> Token {
    let written = &text[node.byte_range()];
    let kind = match (node.is_named(), node.kind()) {
        (true, "comment") => Kind::Comment,
        (true, "string" | "value" | "key" | "service_name") => Kind::Text,
        (true, "port" | "id" | "address") => Kind::Literal,
        (true, _) => Kind::Name,
        (false, word) if words.words.contains_key(word) => Kind::Word,
        (false, _) => Kind::Sign,
    };
    let class = (kind == Kind::Word).then(|| words.words[written].clone());
    let start = node.start_position();
    let (row, column) = (start.row, start.column);
    Token { kind, range: node.byte_range(), row, column, text: written.to_owned(), class }
}

/// Policies that can be read, with their tokens. The last has what is coloured wrongly with ease.
pub(crate) fn policies() -> Vec<(Text, Vec<Token>)> {
    let odd = Text { name: "odd words".to_owned(), text: ODD.to_owned() };
    let texts = corpus::policies().into_iter().chain(corpus::manual()).chain([odd]);
    let read: Vec<_> =
        texts.filter_map(|it| tokens(&it.text).filter(|all| !all.is_empty()).map(|all| (it, all))).collect();
    assert!(read.iter().any(|(it, _)| it.text == ODD), "it must be read");
    read
}

const ODD: &str = r#"# deny outbound "tcp" 25
# meshc: library
import "deny outbound.mesh" # any
set tcp-ports = tcp 80, 8000-8999, udp not [53,], any 1
set private=10.0.0.0/8,cafe::1,  service deny, service a/b-c,
  to-be, service test
exempt uid 0-1,2
exempt interface "node", "by*"
exempt interface [
    "eth0", # interface
]
redirect outbound tcp-ports
    # why
    to [
        private, # here
        service kube-system/any,
        ::1
    ]
    as uid 1-2 and cgroup "/deny"
    -> 15001 transparent
mesh to-do { deny outbound any 5060;exclude inbound from private
    exclude inbound tcp 8081 from node,private; deny outbound
        to [ node, # by
            service node/by ]
    workload for-all { namespace set, mesh
        label app = deny, 7up, "x # y" # tcp
        not label tier
        label "a b" = [
            workload, # test
            tcp
        ]
        namespace-label any = on,
            off, is
        not namespace-label mesh/for
        service-account pod, all; pod a-b.c/d
        cgroup "/a", "/b"
    }
    workload b { any }
    group g = for-all,b
    accelerate for-all<->b tcp 80; accelerate all tcp-ports
    accelerate within g
    test "is \x" {
        for-all->service any/mesh udp 53 as gid 7 uid 1 is not accelerated
        inbound b -> ::ffff:1 tcp 1 is redirected 15001
        node->b tcp 8081 by interface "node" is excluded
        b -> node tcp 1 as uid 1 by interface "eth0" is denied
    }
}
"#;
