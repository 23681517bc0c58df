//! Tables to ruleset. It decides nothing: what a stretch of addresses and ports becomes is read from the tables, and
//! [`prove`](crate::prove()) says whether it was read rightly.

mod address;
mod builder;
mod exact;
mod lowering;
mod process;

use std::cmp::Reverse;
use std::collections::BTreeSet;

use mesh_bpf::abi;
use mesh_bpf::flow::{Direction, Protocol};
use mesh_bpf::map::Table;
use mesh_bpf::selector::{LOOPBACK, interface_depth};
use mesh_bpf::sim::{Sim, ToldApart};
use mesh_bpf::tables::{Damaged, Tables};
use mesh_bpf::unpack::sources;

use crate::ruleset::{Action, Base, ChainId, End, Kind, Match, Rule, Ruleset, Way};
use crate::scene::{Cgroup, Resident, Scene};
use crate::unsupported::{SILENT, Unsupported, decisions, unsupported};
use builder::{Builder, goto};
use exact::Exact;
use lowering::{Lowering, Targets};

/// Why there is no ruleset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotLowered {
    /// The policy asks for what nftables cannot do.
    #[error("the policy asks for what nftables cannot do")]
    Unsupported(Vec<Unsupported>),
    /// The tables cannot be read.
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

/// Makes the ruleset of a policy for one network namespace.
///
/// # Errors
/// Where the policy asks for what nftables cannot do, whether a member here needs it or not: [`unsupported`].
pub fn lower(tables: &Tables, scene: &Scene) -> Result<Ruleset, NotLowered> {
    let unsupported = unsupported(tables)?;
    if !unsupported.is_empty() {
        return Err(NotLowered::Unsupported(unsupported));
    }
    let sim = Sim::new(tables)?;
    let exact = Exact::of(&sim, tables, scene)?;
    let lowering = Lowering {
        sim: &sim,
        scene,
        exact: &exact,
        records: tables.get(Table::Sources).records(),
        sources: sources(tables)?,
        nodes: tables.get(Table::Nodes).records::<abi::Node>().len(),
        builder: Builder::default(),
    };
    Ok(lowering.ruleset()?)
}

impl Lowering<'_> {
    fn ruleset(mut self) -> Result<Ruleset, Damaged> {
        if self.scene.residents.is_empty() {
            return Ok(Ruleset::default());
        }
        let mut entries = Vec::new();
        for resident in &self.scene.residents {
            entries.push((resident.cgroup, self.resident(resident)?));
        }
        let [opened, offered] = [0, 1].map(|side| self.entry(&entries, side));
        let mut base = Base { output: guards(), prerouting: guards() };
        if self.scene.beside_bpf {
            base.output.extend(self.taken_by_bpf()?);
        }
        base.output.extend(both(opened));
        for kind in [Kind::Local, Kind::Broadcast, Kind::Multicast] {
            let rules = both(offered)
                .into_iter()
                .map(|rule| Rule { matches: [rule.matches, vec![Match::Destined(kind)]].concat(), ..rule });
            base.prerouting.extend(rules);
        }
        Ok(self.builder.finish(base))
    }

    /// The chain at which flows of one direction are told apart by member.
    fn entry(&mut self, entries: &[(Option<Cgroup>, [ChainId; 2])], side: usize) -> ChainId {
        let of = |chains: &[ChainId; 2]| chains.get(side).copied();
        let whole = entries.iter().find(|(cgroup, _)| cgroup.is_none());
        let cgroups = entries.iter().filter_map(|(cgroup, chains)| Some(((*cgroup)?, of(chains)?)));
        let mut rules = self.by_cgroup(cgroups.collect());
        match whole.and_then(|(_, chains)| of(chains)) {
            Some(chain) => rules.push(goto(chain)),
            None => rules.push(Rule { matches: Vec::new(), action: Action::Accept }),
        }
        self.builder.chain(if side == 0 { "opened" } else { "offered" }, rules)
    }

    /// The chains of flows that a member opens, and of those that it receives.
    fn resident(&mut self, resident: &Resident) -> Result<[ChainId; 2], Damaged> {
        let told = self.sim.told_apart(resident.profile).ok_or(SILENT)?;
        let offered = self.offered(resident, &told)?;
        // What the host sends to itself is bound before the receiver is known.
        let within = resident.cgroup.is_none().then_some(offered);
        Ok([self.opened(resident, &told, within)?, offered])
    }

    fn opened(
        &mut self,
        resident: &Resident,
        told: &ToldApart<'_>,
        within: Option<ChainId>,
    ) -> Result<ChainId, Damaged> {
        let mut targets = Targets::new(Direction::Outbound, within, self.nodes);
        let mut classes = Vec::new();
        for class in 0..=self.sim.classes(resident.profile, Direction::Outbound).ok_or(SILENT)? {
            let rules = self.trees(resident, class, &[], &mut targets)?;
            classes.push(self.builder.chain("by address", rules));
        }
        let mut rules = self.exempt_processes(told)?;
        rules.extend(self.exempt_interfaces(told, Way::Out)?);
        rules.push(goto(self.class(resident, told, &classes)?));
        Ok(self.builder.chain("opened", rules))
    }

    fn offered(&mut self, resident: &Resident, told: &ToldApart<'_>) -> Result<ChainId, Damaged> {
        let mut targets = Targets::new(Direction::Inbound, None, self.nodes);
        let exempt = self.exempt_interfaces(told, Way::In)?;
        let mut classes = Vec::new();
        for class in 0..=self.sim.classes(resident.profile, Direction::Inbound).ok_or(SILENT)? {
            let rules = self.trees(resident, class, &exempt, &mut targets)?;
            classes.push(self.builder.chain("by address", rules));
        }
        let mut chains = classes.into_iter();
        let plain = chains.next().ok_or(SILENT)?;
        match chains.next() {
            Some(from_node) => Ok(self.by_node(End::Source, from_node, plain)),
            None => Ok(plain),
        }
    }

    /// Leaves alone what goes by exempt interfaces, the most specific pattern first. Nothing exempts loopback.
    fn exempt_interfaces(&mut self, told: &ToldApart<'_>, way: Way) -> Result<Vec<Rule>, Damaged> {
        let mut patterns: Vec<_> = told.exempt_interfaces.iter().collect();
        patterns.sort_by_key(|(pattern, _)| Reverse(interface_depth(pattern)));
        let mut rules = Vec::new();
        for (pattern, source) in patterns {
            let lo = Match::Interface { way, pattern: LOOPBACK.to_owned(), is: false };
            let mut matches = vec![lo];
            if pattern != "*" {
                matches.push(Match::Interface { way, pattern: pattern.clone(), is: true });
            }
            rules.push(Rule { matches, action: Action::Goto(self.exempt(*source)?) });
        }
        Ok(rules)
    }

    /// Leaves alone what BPF programs have sent to a sidecar.
    fn taken_by_bpf(&self) -> Result<Vec<Rule>, Damaged> {
        let mut ports = BTreeSet::new();
        for resident in &self.scene.residents {
            for decision in decisions(self.sim, resident.profile, Direction::Outbound)? {
                ports.extend(decision.verdict.port());
            }
        }
        let lo = Match::Interface { way: Way::Out, pattern: LOOPBACK.to_owned(), is: true };
        let rule = |port, protocol| Rule {
            matches: vec![lo.clone(), Match::Led(protocol, port)],
            action: Action::Accept,
        };
        Ok(ports.into_iter().flat_map(|port| Protocol::ALL.map(|protocol| rule(port, protocol))).collect())
    }
}

/// What is no first packet of a flow is left alone: the reset that a refusal makes is related to the flow that it refuses,
/// and connections that were open before conntrack was switched on are taken for new in mid-stream.
fn guards() -> Vec<Rule> {
    let accept = |matches| Rule { matches: vec![matches], action: Action::Accept };
    vec![accept(Match::New(false)), accept(Match::MidStream)]
}

/// Goes on with a chain with both protocols.
fn both(chain: ChainId) -> Vec<Rule> {
    let rule = |protocol| Rule { matches: vec![Match::Protocol(protocol)], action: Action::Goto(chain) };
    Protocol::ALL.map(rule).into()
}
