//! A policy taken apart just so far that its statements, blocks and lists can be moved about.
//!
//! It works on text that reads without an error, and rests on the scanner alone: that the compiler's
//! syntax tree keeps no order is one of the things to be tested.

use mesh_grammar::scan::{Piece, scan};

use crate::random::Random;

/// Something that stands in a file or a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A statement.
    Statement(Vec<Part>),
    /// A head with what stands in its block.
    Block(Vec<Part>, Vec<Node>),
}

/// A part of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A word, a string or a sign.
    Word(String),
    /// Things with commas between them, two or more. Their order means nothing.
    List(Vec<String>),
}

/// Statements whose lists stand for that many separate statements.
const SPLIT: [&str; 7] = ["always", "redirect", "exclude", "deny", "exempt", "address", "cgroup"];

/// Takes a policy apart. Comments are left out.
#[must_use]
pub fn read(text: &str) -> Vec<Node> {
    let mut open: Vec<(Vec<Part>, Vec<Node>)> = Vec::new();
    let mut nodes = Vec::new();
    for piece in scan(text).pieces {
        match piece {
            Piece::Statement(extent) => nodes.push(Node::Statement(parts(extent.of(text)))),
            Piece::Head { extent, .. } => open.push((parts(extent.of(text)), std::mem::take(&mut nodes))),
            Piece::Close(_) => {
                if let Some((head, before)) = open.pop() {
                    let inner = std::mem::replace(&mut nodes, before);
                    nodes.push(Node::Block(head, inner));
                }
            }
        }
    }
    nodes
}

/// Writes it again.
#[must_use]
pub fn write(nodes: &[Node]) -> String {
    let mut text = String::new();
    for node in nodes {
        let (parts, inner) = match node {
            Node::Statement(parts) => (parts, None),
            Node::Block(parts, inner) => (parts, Some(inner)),
        };
        for part in parts {
            match part {
                Part::Word(word) => text.push_str(word),
                Part::List(items) => text.push_str(&items.join(", ")),
            }
            text.push(' ');
        }
        if let Some(inner) = inner {
            text.push_str("{\n");
            text.push_str(&write(inner));
            text.push('}');
        }
        text.push('\n');
    }
    text
}

/// The same policy otherwise: statements and items in another order, lists as separate statements, blocks in
/// two.
#[must_use]
pub fn shuffled(nodes: &[Node], random: &mut Random) -> Vec<Node> {
    let mut mixed = Vec::with_capacity(nodes.len());
    for node in nodes {
        match node {
            Node::Statement(parts) => {
                let parts = mix(parts, random);
                mixed.extend(split(parts, random).into_iter().map(Node::Statement));
            }
            Node::Block(head, inner) => mixed.extend(halves(mix(head, random), inner, random)),
        }
    }
    random.shuffle(&mut mixed);
    mixed
}

/// A block, or two that together say the same.
fn halves(head: Vec<Part>, inner: &[Node], random: &mut Random) -> Vec<Node> {
    let mut first = shuffled(inner, random);
    let may_be_two = matches!(first_word(&head), "mesh" | "for");
    if !may_be_two || first.len() < 2 || random.once_in(2) {
        return vec![Node::Block(head, first)];
    }
    let second = first.split_off(random.below(first.len() - 1) + 1);
    vec![Node::Block(head.clone(), first), Node::Block(head, second)]
}

fn mix(parts: &[Part], random: &mut Random) -> Vec<Part> {
    let mut parts = parts.to_vec();
    for part in &mut parts {
        if let Part::List(items) = part {
            random.shuffle(items);
        }
    }
    parts
}

/// A list as separate statements, where that means the same: not after `not`, which covers its whole list.
fn split(parts: Vec<Part>, random: &mut Random) -> Vec<Vec<Part>> {
    let at = parts.iter().position(|part| matches!(part, Part::List(_)));
    let after_not = parts.contains(&Part::Word("not".to_owned()));
    if after_not || !SPLIT.contains(&first_word(&parts)) || random.once_in(2) {
        return vec![parts];
    }
    let Some((before, [Part::List(items), after @ ..])) = at.and_then(|at| parts.split_at_checked(at)) else {
        return vec![parts];
    };
    let one = |item: &String| [before, &[Part::Word(item.clone())], after].concat();
    items.iter().flat_map(|item| split(one(item), random)).collect()
}

fn first_word(parts: &[Part]) -> &str {
    match parts.first() {
        Some(Part::Word(word)) => word,
        _ => "",
    }
}

/// The parts of a statement. Brackets and last commas go; a protocol in a set is said before each port.
fn parts(text: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut listed = false;
    for token in plain(tokens(text)) {
        if token == "," {
            listed = true;
            continue;
        }
        match (parts.last_mut(), std::mem::take(&mut listed)) {
            (Some(Part::List(items)), true) => items.push(token.to_owned()),
            (Some(last @ Part::Word(_)), true) => {
                let Part::Word(first) = last.clone() else { continue };
                *last = Part::List(vec![first, token.to_owned()]);
            }
            _ => parts.push(Part::Word(token.to_owned())),
        }
    }
    if first_word(&parts) == "set" { set(text) } else { parts }
}

/// `set NAME =` and its items, each with its protocol.
fn set(text: &str) -> Vec<Part> {
    let tokens = tokens(text);
    let (head, list) = tokens.split_at_checked(3).unwrap_or((&tokens, &[]));
    let mut parts: Vec<Part> = head.iter().map(|word| Part::Word((*word).to_owned())).collect();
    let mut items: Vec<String> = Vec::new();
    let mut protocol = "";
    for item in plain(list.to_vec()).split(|token| *token == ",") {
        match item {
            // `not` covers all that follows up to the next word: such sets stay as they are.
            [_, "not", ..] => return vec![Part::Word(without_comments(text))],
            [word @ ("tcp" | "udp" | "any"), ..] => {
                protocol = word;
                items.push(item.join(" "));
            }
            [port] if !protocol.is_empty() && is_port(port) => items.push(format!("{protocol} {port}")),
            _ => {
                protocol = "";
                items.push(item.join(" "));
            }
        }
    }
    match <[String; 1]>::try_from(items) {
        Ok([only]) => parts.push(Part::Word(only)),
        Err(items) => parts.push(Part::List(items)),
    }
    parts
}

/// Tokens without brackets and the commas before closing ones.
fn plain(mut tokens: Vec<&str>) -> Vec<&str> {
    let last_comma = |pair: &[&str]| pair == [",", "]"];
    while let Some(at) = tokens.windows(2).position(last_comma) {
        tokens.remove(at);
    }
    tokens.retain(|token| !matches!(*token, "[" | "]"));
    tokens
}

fn is_port(token: &str) -> bool {
    token.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

fn without_comments(text: &str) -> String {
    tokens(text).join(" ")
}

/// Words, strings and signs; white space and comments lie between them.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '"' => rest.get(1..).and_then(|rest| rest.find('"')).map_or(rest.len(), |end| end + 2),
            '[' | ']' | ',' | '=' => 1,
            _ if first.is_whitespace() => first.len_utf8(),
            _ if rest.starts_with("->") => 2,
            _ if rest.starts_with("<->") => 3,
            _ => service(rest).unwrap_or_else(|| word(rest).max(first.len_utf8())),
        };
        let (token, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        if !first.is_whitespace() && first != '#' {
            tokens.push(token);
        }
        rest = after;
    }
    tokens
}

/// The length of `service NAME` at the start: one item of a list.
fn service(text: &str) -> Option<usize> {
    let rest = text.strip_prefix("service")?;
    let name = rest.trim_start_matches(' ');
    let is_one = name.len() < rest.len() && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    is_one.then(|| text.len() - name.len() + word(name))
}

/// The length of the word at the start.
fn word(text: &str) -> usize {
    let ends = |(at, found): (usize, char)| {
        let sign = matches!(found, '#' | '"' | '[' | ']' | ',' | '=') || found.is_whitespace();
        let arrow = text.get(at..).is_some_and(|rest| rest.starts_with("->") || rest.starts_with("<->"));
        (sign || arrow).then_some(at)
    };
    text.char_indices().find_map(ends).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &str) {
        assert_eq!(write(&read(text)), expect);
    }

    #[test]
    fn it_is_written_as_it_was_read() {
        check(
            "mesh m{workload a{any};exclude outbound tcp [80,# x\n81,] to b\n-> 5 }",
            "mesh m {\nworkload a {\nany \n}\nexclude outbound tcp 80, 81 to b -> 5 \n}\n",
        );
        check("accelerate a<->b tcp not 1,2", "accelerate a <-> b tcp not 1, 2 \n");
        check("deny outbound to service a/b,c,[service d]", "deny outbound to service a/b, c, service d \n");
        check("exempt cgroup \"/a,#b\", \"/c\"", "exempt cgroup \"/a,#b\", \"/c\" \n");
    }

    #[test]
    fn a_set_says_its_protocol_each_time() {
        check(
            "set a = tcp 53, 54-55, udp 443, b, 10.0.0.1",
            "set a = tcp 53, tcp 54-55, udp 443, b, 10.0.0.1 \n",
        );
        check("set a = tcp not 1, 2, udp 3", "set a = tcp not 1 , 2 , udp 3 \n");
    }

    #[test]
    fn a_list_is_split_into_statements() {
        let parts = parts("deny outbound tcp 1, 2 to a, b");
        let longest = (0..99).map(|seed| split(parts.clone(), &mut Random::new(seed)).len()).max();
        assert_eq!(longest, Some(4));
    }
}
