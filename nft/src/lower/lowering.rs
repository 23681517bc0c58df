//! What chains are made with: a lowering, and the pieces that all of it is made of.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mesh_bpf::abi;
use mesh_bpf::flow::{Direction, Protocol, Verdict};
use mesh_bpf::image::{Decision, Source};
use mesh_bpf::item::counter_key;
use mesh_bpf::map::Table;
use mesh_bpf::pack::Ports;
use mesh_bpf::prefix::Prefix;
use mesh_bpf::selector::LOOPBACK;
use mesh_bpf::sim::Sim;
use mesh_bpf::tables::Damaged;

use super::builder::{Builder, goto};
use super::exact::Exact;
use crate::ruleset::{Action, ChainId, Counter, CounterKind, Element, End, Family, Key, Match, Rule, Way};
use crate::scene::{Cgroup, Scene};

/// All that a chain is made of, and what was made.
pub(super) struct Lowering<'a> {
    pub(super) sim: &'a Sim<'a>,
    pub(super) scene: &'a Scene,
    pub(super) exact: &'a Exact,
    pub(super) records: &'a [abi::Source],
    pub(super) sources: Vec<Source>,
    /// How many nodes the tables have.
    pub(super) nodes: usize,
    pub(super) builder: Builder,
}

/// What happens to a flow, and which item is credited: none where the items of its source are counted together.
pub(super) type Outcome = (Decision, Option<Prefix>);

/// The chains that nodes lead to: of one direction of one member.
pub(super) struct Targets {
    pub(super) direction: Direction,
    /// Where what goes straight is offered, if it stays in the namespace.
    pub(super) within: Option<ChainId>,
    pub(super) by_node: Vec<Option<ChainId>>,
    pub(super) by_ports: BTreeMap<[Ports; 2], Shared>,
}

/// A chain of nodes with equal ports, and the items that it counts one by one: how many steps above the node each is.
pub(super) struct Shared {
    pub(super) items: Vec<(u8, Prefix)>,
    pub(super) chain: ChainId,
}

impl Targets {
    pub(super) fn new(direction: Direction, within: Option<ChainId>, nodes: usize) -> Self {
        Self { direction, within, by_node: vec![None; nodes], by_ports: BTreeMap::new() }
    }

    /// The end whose address a rule names.
    pub(super) const fn end(&self) -> End {
        match self.direction {
            Direction::Outbound => End::Destination,
            Direction::Inbound => End::Source,
        }
    }
}

impl Lowering<'_> {
    /// Looks the cgroup up, the deepest first.
    pub(super) fn by_cgroup(&mut self, mut cgroups: Vec<(Cgroup, ChainId)>) -> Vec<Rule> {
        cgroups.sort();
        cgroups.dedup_by_key(|&mut (cgroup, _)| cgroup);
        let mut rules = Vec::new();
        for level in cgroups.chunk_by(|(one, _), (two, _)| one.level == two.level).rev() {
            let Some(&(Cgroup { level: depth, .. }, _)) = level.first() else { continue };
            let element = |&(cgroup, chain): &(Cgroup, ChainId)| {
                let id = u128::from(cgroup.id);
                Element { first: id, last: id, chain }
            };
            rules.extend(self.builder.look(Key::Cgroup(depth), false, level.iter().map(element)));
        }
        rules
    }

    /// Goes on with one chain where the node is at an end, and with another where it is not.
    pub(super) fn by_node(&mut self, end: End, node: ChainId, other: ChainId) -> ChainId {
        if node == other {
            return other;
        }
        let mut rules = self.exactly(end, self.scene.node.iter().map(|&address| (address, node)));
        rules.push(goto(other));
        self.builder.chain("of the node", rules)
    }

    /// Looks single addresses up.
    pub(super) fn exactly(
        &mut self,
        end: End,
        addresses: impl Iterator<Item = (IpAddr, ChainId)> + Clone,
    ) -> Vec<Rule> {
        let element = |key, chain| Element { first: key, last: key, chain };
        let v4 = addresses.clone().filter_map(|(address, chain)| match address {
            IpAddr::V4(address) => Some(element(address.to_bits().into(), chain)),
            IpAddr::V6(_) => None,
        });
        let v6 = addresses.filter_map(|(address, chain)| match address {
            IpAddr::V6(address) => Some(element(address.to_bits(), chain)),
            IpAddr::V4(_) => None,
        });
        let mut rules: Vec<Rule> = Vec::new();
        rules.extend(self.builder.look(Key::Address(end, Family::V4), false, v4));
        rules.extend(self.builder.look(Key::Address(end, Family::V6), false, v6));
        rules
    }

    /// The chain of what an exemption leaves alone.
    pub(super) fn exempt(&mut self, source: u32) -> Result<ChainId, Damaged> {
        let count = self.count(source, None)?;
        let comment = format!("exempt: {}", self.credit(source, None));
        Ok(self.builder.chain(&comment, vec![count, Rule { matches: Vec::new(), action: Action::Accept }]))
    }

    /// The chain that ends a flow.
    pub(super) fn decided(
        &mut self,
        targets: &Targets,
        (decision, item): Outcome,
    ) -> Result<ChainId, Damaged> {
        let Decision { verdict, source, .. } = decision;
        let mut rules = vec![self.count(source.0, item)?];
        let then = |action| Rule { matches: Vec::new(), action };
        let tcp = |action| Rule { matches: vec![Match::Protocol(Protocol::Tcp)], action };
        match (verdict, targets.direction) {
            (Verdict::Excluded, _) => {
                if let Some(offered) = targets.within {
                    let lo = LOOPBACK.to_owned();
                    let matches = vec![Match::Interface { way: Way::Out, pattern: lo, is: true }];
                    rules.push(Rule { matches, action: Action::Goto(offered) });
                }
                rules.push(then(Action::Accept));
            }
            (Verdict::Redirected { port, .. }, _) => rules.extend(Protocol::ALL.map(|protocol| Rule {
                matches: vec![Match::Protocol(protocol)],
                action: Action::Redirect(port),
            })),
            (Verdict::Denied, Direction::Outbound) => {
                rules.extend([tcp(Action::Reset), then(Action::Drop)]);
            }
            (Verdict::Denied, Direction::Inbound) => {
                rules.extend([tcp(Action::Reset), then(Action::Unreachable)]);
            }
        }
        let comment = format!("{verdict}: {}", self.credit(source.0, item));
        Ok(self.builder.chain(&comment, rules))
    }

    pub(super) fn credit(&self, source: u32, item: Option<Prefix>) -> String {
        let source = self.sources.get(source as usize);
        source.map(|source| source.credit(item.unwrap_or(Prefix::Any))).unwrap_or_default()
    }

    pub(super) fn count(&mut self, source: u32, item: Option<Prefix>) -> Result<Rule, Damaged> {
        let record = self.records.get(source as usize);
        let hash =
            record.ok_or(Damaged { table: Table::Sources, what: "it is shorter than others say" })?.hash;
        let counter = match item {
            Some(prefix) => Counter { kind: CounterKind::Item, key: counter_key(hash, prefix) },
            None => Counter { kind: CounterKind::Source, key: hash },
        };
        Ok(Rule { matches: Vec::new(), action: Action::Count(self.builder.counter(counter)) })
    }
}
