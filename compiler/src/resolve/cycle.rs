//! Cycles among files, sets and groups.

use std::collections::{BTreeMap, VecDeque};

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::source::Span;

/// One thing names another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) to: usize,
    /// The words that name it.
    pub(super) span: Span,
}

/// One shortest cycle for each knot of things that name each other, from the first of them on.
pub(super) fn cycles(nodes: usize, edges: &[Edge]) -> Vec<Vec<Edge>> {
    let mut component_of = vec![usize::MAX; nodes];
    for (i, component) in components(nodes, edges).iter().enumerate() {
        for &node in component {
            if let Some(of) = component_of.get_mut(node) {
                *of = i;
            }
        }
    }
    let mut within: BTreeMap<usize, Vec<Edge>> = BTreeMap::new();
    for edge in edges {
        let (from, to) = (component_of.get(edge.from), component_of.get(edge.to));
        if let (Some(&from), true) = (from, from == to) {
            within.entry(from).or_default().push(*edge);
        }
    }
    let mut found: Vec<Vec<Edge>> = within.values().filter_map(|edges| shortest_cycle(edges)).collect();
    found.sort_by_key(|cycle| cycle.first().map(|edge| edge.span));
    found
}

/// Strongly connected components, each after all that it names.
pub(super) fn components(nodes: usize, edges: &[Edge]) -> Vec<Vec<usize>> {
    let mut graph: DiGraph<(), ()> = DiGraph::with_capacity(nodes, edges.len());
    for _ in 0..nodes {
        graph.add_node(());
    }
    for edge in edges {
        graph.add_edge(NodeIndex::new(edge.from), NodeIndex::new(edge.to), ());
    }
    kosaraju_scc(&graph)
        .into_iter()
        .map(|component| component.into_iter().map(NodeIndex::index).collect())
        .collect()
}

/// The shortest cycle through the first thing of a component; `edges` are all that stay within it.
fn shortest_cycle(edges: &[Edge]) -> Option<Vec<Edge>> {
    let start = edges.iter().map(|edge| edge.from).min()?;
    let mut leaving: BTreeMap<usize, Vec<Edge>> = BTreeMap::new();
    for edge in edges {
        leaving.entry(edge.from).or_default().push(*edge);
    }
    let mut reached: BTreeMap<usize, Edge> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        for edge in leaving.get(&node).into_iter().flatten() {
            if reached.contains_key(&edge.to) {
                continue;
            }
            reached.insert(edge.to, *edge);
            if edge.to == start {
                return Some(walk_back(start, &reached));
            }
            queue.push_back(edge.to);
        }
    }
    None
}

fn walk_back(start: usize, reached: &BTreeMap<usize, Edge>) -> Vec<Edge> {
    let mut path = Vec::new();
    let mut at = start;
    while let Some(edge) = reached.get(&at) {
        path.push(*edge);
        at = edge.from;
        if at == start {
            break;
        }
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Sources;

    fn edges(pairs: &[(usize, usize)]) -> Vec<Edge> {
        let (file, _) = Sources::default().add("a", Vec::new());
        let span = Span { file, start: 0, end: 0 };
        pairs.iter().map(|&(from, to)| Edge { from, to, span }).collect()
    }

    #[track_caller]
    fn check(nodes: usize, pairs: &[(usize, usize)], expect: &[&[usize]]) {
        let found: Vec<Vec<usize>> = cycles(nodes, &edges(pairs))
            .iter()
            .map(|cycle| cycle.iter().map(|edge| edge.from).collect())
            .collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn the_whole_path_of_a_cycle_is_found() {
        check(4, &[(0, 1), (1, 2), (2, 0), (3, 0)], &[&[0, 1, 2]]);
    }

    #[test]
    fn what_names_itself_is_a_cycle() {
        check(2, &[(0, 1), (1, 1)], &[&[1]]);
    }

    #[test]
    fn a_diamond_is_none() {
        check(4, &[(0, 1), (0, 2), (1, 3), (2, 3)], &[]);
    }

    #[test]
    fn a_long_chain_does_not_exhaust_the_stack() {
        let chain: Vec<(usize, usize)> = (0..100_000).map(|i| (i, i + 1)).collect();
        check(100_001, &chain, &[]);
    }
}
