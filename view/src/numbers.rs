//! Numbers for what occurs again.

use std::collections::HashMap;
use std::hash::Hash;

use mesh_bpf::flow::Verdict;
use mesh_bpf::image::{Node, PortTable, Side};
use mesh_bpf::prefix::Prefix;

/// Values, each once, with their numbers.
pub(crate) struct Numbered<T> {
    values: Vec<T>,
    known: HashMap<T, u32>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { values: Vec::new(), known: HashMap::new() }
    }
}

impl<T: Hash + Eq + Clone> Numbered<T> {
    /// The number of a value.
    pub(crate) fn of(&mut self, value: T) -> u32 {
        *self.known.entry(value).or_insert_with_key(|value| {
            self.values.push(value.clone());
            number(self.values.len() - 1)
        })
    }

    pub(crate) fn into_values(self) -> Vec<T> {
        self.values
    }
}

/// An index as the page has it.
pub(crate) fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// Numbers that are given while a model is made.
#[derive(Default)]
pub(crate) struct Numbers {
    pub(crate) prefixes: Numbered<Prefix>,
    pub(crate) verdicts: Numbered<Verdict>,
    pub(crate) trees: Numbered<Vec<u32>>,
}

impl Numbers {
    fn tree(&mut self, nodes: &[Node]) -> u32 {
        let flat = nodes.iter().flat_map(|node| {
            let [tcp, udp] = node.ports;
            [self.prefixes.of(node.prefix), tcp.0, udp.0]
        });
        let flat = flat.collect();
        self.trees.of(flat)
    }

    /// The trees of a side: on all addresses, and on a member's own.
    pub(crate) fn side(&mut self, side: &Side) -> [u32; 2] {
        [self.tree(&side.tree), self.tree(&side.own)]
    }

    /// A port table: where each stretch begins, verdict, source, steps up.
    pub(crate) fn ports(&mut self, table: &PortTable) -> Vec<u32> {
        let stretches = table.stretches.iter();
        stretches
            .flat_map(|&(first, decision)| {
                let verdict = self.verdicts.of(decision.verdict);
                [first.into(), verdict, decision.source.0, decision.up.into()]
            })
            .collect()
    }
}
