//! The flow that `observe` is asked for: as a test writes one, with parts left open.

use std::collections::BTreeSet;

use mesh_bpf::flow::{Direction, Protocol};
use mesh_bpf::prefix::Prefix;
use mesh_compiler::hir::NODE;
use mesh_runtime::Filter;

use crate::failure::Failure;

/// One end of a flow.
enum End {
    /// `any`
    Any,
    /// A workload's name.
    Workload(String),
    /// An address or a prefix.
    Network(Prefix),
    /// `node`
    Node,
}

impl End {
    /// Other ends than members: with their addresses, if these are known now.
    fn peer(self) -> Option<Filter> {
        match self {
            Self::Network(prefix) => Some(Filter { peer: Some(prefix), ..Filter::default() }),
            Self::Node => Some(Filter { nodes: Some(BTreeSet::new()), ..Filter::default() }),
            Self::Any => Some(Filter::default()),
            Self::Workload(_) => None,
        }
    }
}

/// `[inbound] END [-> END] [tcp|udp|any] [PORT|LOW-HIGH]`. Which addresses the node has, the caller finds out.
pub fn parse(text: &str) -> Result<Filter, Failure> {
    let mut words = text.split_whitespace().peekable();
    let inbound = words.next_if_eq(&"inbound").is_some();
    let left = match words.next_if(|word| *word != "->" && !is_protocol(word) && ports(word).is_none()) {
        Some(word) => end(word)?,
        None => End::Any,
    };
    let right = match words.next_if_eq(&"->") {
        Some(_) => Some(end(words.next().ok_or_else(|| wrong(text, "an end after `->`"))?)?),
        None => None,
    };
    let protocol = match words.next_if(|word| is_protocol(word)) {
        Some("tcp") => Some(Protocol::Tcp),
        Some("udp") => Some(Protocol::Udp),
        _ => None,
    };
    let ports =
        words.next().map(|word| ports(word).ok_or_else(|| wrong(text, "a port or a range"))).transpose()?;
    if let Some(word) = words.next() {
        return Err(wrong(text, &format!("the end instead of `{word}`")));
    }
    Ok(Filter { protocol, ports, ..ends(text, inbound, left, right)? })
}

/// Who is the member, and which direction that makes it.
fn ends(text: &str, inbound: bool, left: End, right: Option<End>) -> Result<Filter, Failure> {
    let inbound = inbound.then_some(Direction::Inbound);
    let (workload, other, direction) = match (left, right) {
        (End::Workload(name), None) => (Some(name), End::Any, inbound),
        (other, None) => (None, other, inbound),
        (End::Any, Some(End::Any)) => (None, End::Any, inbound),
        (End::Any, Some(End::Workload(name))) => (Some(name), End::Any, Some(Direction::Inbound)),
        (End::Any, Some(other)) => (None, other, Some(Direction::Outbound)),
        (other, Some(End::Any)) if !matches!(other, End::Workload(_)) => {
            (None, other, Some(Direction::Inbound))
        }
        (other @ (End::Network(_) | End::Node), Some(End::Workload(name))) => {
            (Some(name), other, Some(Direction::Inbound))
        }
        (End::Workload(name), Some(other)) => (Some(name), other, Some(Direction::Outbound)),
        (End::Network(_) | End::Node, Some(_)) => return Err(two_of_a_kind(text)),
    };
    let Some(peer) = other.peer() else { return Err(two_of_a_kind(text)) };
    if inbound.is_some() && direction == Some(Direction::Outbound) {
        return Err(wrong(text, "the workload right of the arrow, since the flow is inbound"));
    }
    Ok(Filter { workload, direction, ..peer })
}

fn two_of_a_kind(text: &str) -> Failure {
    wrong(text, "a workload at one end at the most, and addresses at the other")
}

fn is_protocol(word: &str) -> bool {
    matches!(word, "tcp" | "udp")
}

fn end(word: &str) -> Result<End, Failure> {
    if word == "any" {
        return Ok(End::Any);
    }
    if word == NODE {
        return Ok(End::Node);
    }
    if let Ok(address) = word.parse() {
        return Ok(End::Network(Prefix::host(address)));
    }
    if word.starts_with(|first: char| first.is_ascii_alphabetic()) && !word.contains(':') {
        return Ok(End::Workload(word.to_owned()));
    }
    network(word)
        .map(End::Network)
        .ok_or_else(|| wrong(word, "a workload, an address, a prefix, `node` or `any`"))
}

fn network(word: &str) -> Option<Prefix> {
    let (address, len) = word.split_once('/')?;
    let len: u8 = len.parse().ok()?;
    match Prefix::host(address.parse().ok()?) {
        Prefix::V4 { bits, .. } if len <= 32 => {
            Some(Prefix::V4 { bits: bits & mesh_bpf::prefix::mask32(len), len })
        }
        Prefix::V6 { bits, .. } if len <= 128 => {
            Some(Prefix::V6 { bits: bits & mesh_bpf::prefix::mask128(len), len })
        }
        _ => None,
    }
}

fn ports(word: &str) -> Option<(u16, u16)> {
    let (low, high) = word.split_once('-').unwrap_or((word, word));
    let (low, high) = (low.parse().ok()?, high.parse().ok()?);
    (low <= high).then_some((low, high))
}

fn wrong(text: &str, expected: &str) -> Failure {
    Failure::usage(format!("`{text}` is no filter: expected {expected}"))
        .help("such as 'cart', 'cart -> 10.0.0.0/8 tcp 443', 'any -> cart udp 53-60', 'tcp 25'")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Option<Prefix> {
        network(text)
    }

    #[test]
    fn a_filter_is_a_flow_with_parts_left_open() {
        let any = Filter::default;
        let cart = || Filter { workload: Some("cart".into()), ..any() };
        let (tcp, udp) = (Some(Protocol::Tcp), Some(Protocol::Udp));
        let (inbound, outbound) = (Some(Direction::Inbound), Some(Direction::Outbound));
        for (text, filter) in [
            ("any", any()),
            ("25", Filter { ports: Some((25, 25)), ..any() }),
            ("-> 10.0.0.1", Filter { direction: outbound, peer: net("10.0.0.1/32"), ..any() }),
            ("tcp 25", Filter { protocol: tcp, ports: Some((25, 25)), ..any() }),
            ("cart", cart()),
            ("inbound cart", Filter { direction: inbound, ..cart() }),
            ("cart -> any udp", Filter { direction: outbound, protocol: udp, ..cart() }),
            (
                "cart -> 10.0.3.9/8 tcp 1-443",
                Filter {
                    direction: outbound,
                    peer: net("10.0.0.0/8"),
                    protocol: tcp,
                    ports: Some((1, 443)),
                    ..cart()
                },
            ),
            ("fd00::/8 -> cart", Filter { direction: inbound, peer: net("fd00::/8"), ..cart() }),
            ("any -> cart 80", Filter { direction: inbound, ports: Some((80, 80)), ..cart() }),
            ("any -> 10.0.0.1", Filter { direction: outbound, peer: net("10.0.0.1/32"), ..any() }),
            ("10.0.0.1 -> any", Filter { direction: inbound, peer: net("10.0.0.1/32"), ..any() }),
            ("node -> cart", Filter { direction: inbound, nodes: Some(BTreeSet::new()), ..cart() }),
            ("cart -> node", Filter { direction: outbound, nodes: Some(BTreeSet::new()), ..cart() }),
            ("node tcp", Filter { protocol: tcp, nodes: Some(BTreeSet::new()), ..any() }),
            ("shop/cart", Filter { workload: Some("shop/cart".into()), ..any() }),
        ] {
            assert_eq!(parse(text).unwrap(), filter, "{text}");
        }
    }

    #[test]
    fn what_is_no_flow_is_refused() {
        for text in [
            "cart ->",
            "cart -> web",
            "10.0.0.1 -> 10.0.0.2",
            "node -> 10.0.0.2",
            "inbound cart -> 10.0.0.1",
            "cart -> 10.0.0.0/33",
            "cart tcp 80-25",
            "cart tcp 70000",
            "cart tcp 80 more",
            "-> cart tcp x",
        ] {
            assert_eq!(parse(text).unwrap_err().code, "usage", "{text}");
        }
    }
}
