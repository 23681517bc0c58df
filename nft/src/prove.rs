//! The proof that a ruleset decides and credits as the tables do that it was made of.
//!
//! It asks both once for each stretch of addresses and ports, and each kind of process, that either of them tells apart: the
//! ruleset's own bounds are asked too, so that nothing between two questions is decided otherwise. It imports nothing of
//! what lowers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use mesh_bpf::abi;
use mesh_bpf::flow::{Direction, Flow, Identity, Protocol, Verdict};
use mesh_bpf::image::{Decision, SourceId};
use mesh_bpf::item::counter_key;
use mesh_bpf::map::Table;
use mesh_bpf::pack::Ports;
use mesh_bpf::ports::PortRange;
use mesh_bpf::prefix::Prefix;
use mesh_bpf::selector::LOOPBACK;
use mesh_bpf::sim::{AddressSpan, Decided, Sim, TreeOf};
use mesh_bpf::tables::{Damaged, Tables};

use crate::judge::{At, Ended, Facts, Part, Process, Remote, Walk};
use crate::ruleset::{Action, ChainId, CounterKind, Family, KeyType, Kind, Ruleset};
use crate::scene::{Cgroup, Resident, Scene};
use crate::unsupported::{SILENT, decisions};

/// A flow that a ruleset decides otherwise than the tables, or tables that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counterexample {
    /// A flow.
    Flow(Box<Contradiction>),
    /// The tables.
    Damaged(Damaged),
}

/// A flow, and what is wrong about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// Which of the residents.
    pub resident: usize,
    /// The flow. What the ruleset says before it knows address, protocol or port, it says of all of them.
    pub flow: Flow,
    /// Who opens it.
    pub identity: Identity,
    /// What is wrong.
    pub what: &'static str,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(damaged) => damaged.fmt(f),
            Self::Flow(found) => {
                let Contradiction { resident, flow, identity, what } = found.as_ref();
                let Flow { direction, protocol, address, port, .. } = flow;
                let preposition = direction.preposition();
                write!(f, "{direction} {protocol} {preposition} {address} port {port}{}", identity.clause())?;
                write!(f, ", of member {resident}: {what}")
            }
        }
    }
}

impl std::error::Error for Counterexample {}

impl From<Damaged> for Counterexample {
    fn from(damaged: Damaged) -> Self {
        Self::Damaged(damaged)
    }
}

/// Holds a ruleset against the tables that it was made of.
///
/// # Errors
/// The first flow that is decided otherwise, or credited to another item.
pub fn prove(tables: &Tables, scene: &Scene, ruleset: &Ruleset) -> Result<(), Counterexample> {
    let sim = Sim::new(tables)?;
    let sources = tables.get(Table::Sources).records();
    for (at, resident) in scene.residents.iter().enumerate() {
        for direction in Direction::ALL {
            let proof = Proof { sim: &sim, sources, scene, ruleset, at, resident, direction };
            proof.side()?;
        }
    }
    Ok(())
}

/// The proof for one direction of one resident.
struct Proof<'a> {
    sim: &'a Sim<'a>,
    sources: &'a [abi::Source],
    scene: &'a Scene,
    ruleset: &'a Ruleset,
    at: usize,
    resident: &'a Resident,
    direction: Direction,
}

/// What is the same for all addresses: where the ruleset is before it asks for one, and what the tables are asked with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    walk: Walk,
    exempt: Option<SourceId>,
    /// Where the other end is not the node, and where it is.
    classes: [u32; 2],
}

/// By which interfaces packets come or go, for which a question is the same, and one who asks it.
struct Askers {
    identity: Identity,
    interfaces: BTreeSet<String>,
}

/// What was proved of nodes with equal ports, from where the ruleset is, by each interface, before it asks for one: with the items that are
/// counted one by one, each by how many steps it is above the node.
type Seen = BTreeMap<(Vec<Walk>, [Ports; 2]), BTreeSet<(u8, Prefix)>>;

impl Proof<'_> {
    fn side(&self) -> Result<(), Counterexample> {
        let mut questions: BTreeMap<Question, Askers> = BTreeMap::new();
        for identity in self.identities()? {
            for question in self.questions(&identity)? {
                let asker = || Askers { identity: identity.clone(), interfaces: BTreeSet::new() };
                questions.entry(question).or_insert_with(asker).interfaces.extend(identity.interface.clone());
            }
        }
        for (question, askers) in &questions {
            self.addresses(question, askers)?;
        }
        Ok(())
    }

    fn wrong(&self, flow: Flow, identity: &Identity, what: &'static str) -> Counterexample {
        let found = Contradiction { resident: self.at, flow, identity: identity.clone(), what };
        Counterexample::Flow(Box::new(found))
    }

    fn flow(&self, address: IpAddr, protocol: Protocol, port: u16) -> Flow {
        let own = self.resident.own.contains(&address);
        Flow { direction: self.direction, protocol, address, port, own }
    }

    /// What each packet of a process, or for one, is led to before its addresses are asked for.
    fn questions(&self, identity: &Identity) -> Result<Vec<Question>, Counterexample> {
        let process = self.process(identity);
        let any = self.flow(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), Protocol::Tcp, 0);
        let foreign = Flow { own: false, ..any };
        let profile = self.resident.profile;
        let exempt = match self.sim.decide(profile, &foreign, identity).ok_or(SILENT)? {
            Decided::Exempt(source) => Some(source),
            Decided::Policy(_) => None,
        };
        let mut classes = [0; 2];
        for (node, class) in [false, true].into_iter().zip(&mut classes) {
            let identity = Identity { node, ..identity.clone() };
            *class = self.sim.class_of(profile, self.direction, &identity).ok_or(SILENT)?;
        }
        let interface = identity.interface.as_deref().unwrap_or(LOOPBACK);
        let is_led = self.scene.beside_bpf && self.direction == Direction::Outbound && self.redirects()?;
        let mut questions = Vec::new();
        for kind in [Kind::Local, Kind::Broadcast, Kind::Multicast] {
            for protocol in Protocol::ALL {
                let facts = |part| Facts {
                    direction: self.direction,
                    part,
                    kind,
                    process: Some(&process),
                    interface,
                    address: Remote::Unknown,
                    protocol: Some(protocol),
                    port: None,
                };
                let from = At::hook(self.direction);
                for part in [Part::Led, Part::Later, Part::MidStream] {
                    let is_asked = match part {
                        Part::Led => is_led && interface == LOOPBACK,
                        Part::MidStream => protocol == Protocol::Tcp,
                        Part::First | Part::Later => true,
                    };
                    let left_alone = Walk::Ended(Ended::Accepted, None);
                    if is_asked && self.ruleset.walk(from, &facts(part)) != left_alone {
                        let flow = Flow { protocol, ..any };
                        return Err(self.wrong(flow, identity, "a packet that is not the first is decided"));
                    }
                }
                let walk = self.ruleset.walk(from, &facts(Part::First));
                questions.push(Question { walk, exempt, classes });
            }
        }
        Ok(questions)
    }

    /// Whether anything is redirected.
    fn redirects(&self) -> Result<bool, Damaged> {
        let decisions = decisions(self.sim, self.resident.profile, self.direction)?;
        Ok(decisions.iter().any(|decision| decision.verdict.port().is_some()))
    }

    fn process(&self, identity: &Identity) -> Process {
        let mut cgroups = self.scene.cgroups_of(identity.cgroup.as_deref());
        cgroups.extend(self.resident.cgroup);
        Process {
            user: identity.uid.and_then(|id| self.scene.users.one(id)),
            group: identity.gid.and_then(|id| self.scene.groups.one(id)),
            cgroups,
        }
    }

    /// One process of each kind that the tables or the ruleset tell apart, by one interface of each kind.
    fn identities(&self) -> Result<Vec<Identity>, Damaged> {
        let told = self.sim.told_apart(self.resident.profile).ok_or(SILENT)?;
        let mut interfaces = BTreeSet::from([Some(LOOPBACK.to_owned()), Some("?".to_owned())]);
        for (pattern, _) in told.exempt_interfaces {
            let name = pattern.strip_suffix('*').unwrap_or(pattern);
            interfaces.extend([Some(name.to_owned()), Some(format!("{name}~"))]);
        }
        if self.direction == Direction::Inbound {
            let of = |interface| Identity { interface, ..Identity::default() };
            return Ok(interfaces.into_iter().map(of).collect());
        }
        let bounds = |ids: &[(mesh_bpf::image::IdRange, SourceId)], firsts: &[u32]| {
            let ends = ids.iter().flat_map(|(range, _)| [Some(range.first), range.last.checked_add(1)]);
            ends.flatten().chain(firsts.iter().copied()).collect::<BTreeSet<u32>>()
        };
        let users = bounds(&told.exempt_users, &told.class_users);
        let users = self.ids(users, KeyType::User, |id| self.scene.users.one(id));
        let groups = bounds(&told.exempt_groups, &told.class_groups);
        let groups = self.ids(groups, KeyType::Group, |id| self.scene.groups.one(id));
        let named = told.exempt_cgroups.iter().chain(told.class_cgroups).map(|(path, _)| path);
        let exist = named.filter(|path| self.scene.cgroups.contains_key(*path));
        let cgroups: BTreeSet<Option<String>> = exist.cloned().map(Some).chain([None]).collect();
        let mut all = Vec::new();
        for cgroup in cgroups {
            let at = Identity { cgroup, ..Identity::default() };
            if !self.may_be(&self.process(&at).cgroups) {
                continue;
            }
            for &uid in &users {
                for &gid in &groups {
                    let by = |interface: &Option<String>| Identity {
                        uid,
                        gid,
                        interface: interface.clone(),
                        ..at.clone()
                    };
                    all.extend(interfaces.iter().map(by));
                }
            }
        }
        Ok(all)
    }

    /// Whether a process can be in all of these, and is the resident's.
    fn may_be(&self, cgroups: &BTreeSet<Cgroup>) -> bool {
        let levels: BTreeSet<_> = cgroups.iter().map(|cgroup| cgroup.level).collect();
        let deeper = |other: &Resident| {
            other.cgroup.is_some_and(|cgroup| {
                cgroups.contains(&cgroup) && self.resident.cgroup.is_none_or(|own| own.level < cgroup.level)
            })
        };
        levels.len() == cgroups.len() && !self.scene.residents.iter().any(deeper)
    }

    /// Ids on both sides of every bound: those of the tables, and those of the ruleset's maps.
    fn ids(
        &self,
        mut bounds: BTreeSet<u32>,
        key: KeyType,
        inside: impl Fn(u32) -> Option<u32>,
    ) -> BTreeSet<Option<u32>> {
        for map in self.ruleset.maps.iter().filter(|map| map.key == key) {
            let ends = map.elements().flat_map(|element| [element.first, element.last.saturating_add(1)]);
            bounds.extend(ends.filter_map(|end| u32::try_from(end).ok()));
        }
        bounds.insert(0);
        let both = bounds.iter().flat_map(|&bound| [bound.checked_sub(1), Some(bound)]);
        // No process has the last number, nor one that the namespace has no number for.
        let is_one = |id: &u32| *id != u32::MAX && inside(*id).is_some();
        let ids: BTreeSet<_> = both.flatten().filter(is_one).map(Some).collect();
        ids.into_iter().chain([None]).collect()
    }

    fn addresses(&self, question: &Question, askers: &Askers) -> Result<(), Counterexample> {
        let trees = |class, own| {
            let profile = self.resident.profile;
            let tree = TreeOf { profile, class, direction: self.direction, own };
            self.sim.address_spans(tree).ok_or(SILENT)
        };
        let [other, node] = question.classes;
        // What is exempt whatever it says is so for all addresses.
        if question.exempt.is_some()
            && self.direction == Direction::Outbound
            && matches!(question.walk, Walk::Ended(..))
        {
            let address = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
            let asked = Asked { question, askers, address, node: 0, exempt: question.exempt };
            return self.ports(&asked, &mut Seen::new());
        }
        let all = [trees(other, false)?, if node == other { Vec::new() } else { trees(node, false)? }];
        let own = [trees(other, true)?, if node == other { Vec::new() } else { trees(node, true)? }];
        let single: Vec<IpAddr> = self.resident.own.iter().chain(&self.scene.node).copied().collect();
        let mut seen = Seen::new();
        // Addresses are asked in order.
        let mut cursors = [[0; 2]; 2];
        for address in self.starts(question, &all, &single) {
            let flow = self.flow(address, Protocol::Tcp, 0);
            let is_node = self.scene.node.contains(&address);
            let class = usize::from(is_node && node != other);
            let trees = if flow.own { &own } else { &all };
            let cursor = cursors.get_mut(usize::from(flow.own)).and_then(|cursors| cursors.get_mut(class));
            let (spans, cursor) = trees.get(class).zip(cursor).ok_or(SILENT)?;
            while spans.get(*cursor).is_some_and(|span| span.last < address) {
                *cursor += 1;
            }
            let span = spans.get(*cursor).filter(|span| span.first <= address).ok_or(SILENT)?;
            // What comes from an address of its own came by loopback, which nothing exempts.
            let within = self.direction == Direction::Inbound && flow.own;
            let exempt = question.exempt.filter(|_| !within);
            let asked = Asked { question, askers, address, node: span.node, exempt };
            self.ports(&asked, &mut seen)?;
        }
        Ok(())
    }

    /// The first address of every stretch that the tables or the ruleset tell apart.
    fn starts(
        &self,
        question: &Question,
        trees: &[Vec<AddressSpan>; 2],
        single: &[IpAddr],
    ) -> impl Iterator<Item = IpAddr> + use<> {
        let mut v4 = vec![0u32];
        let mut v6 = vec![0u128];
        let mut add = |address: IpAddr| match address {
            IpAddr::V4(address) => v4.push(address.to_bits()),
            IpAddr::V6(address) => v6.push(address.to_bits()),
        };
        trees.iter().flatten().for_each(|span| add(span.first));
        for &address in single {
            add(address);
            let next = match address {
                IpAddr::V4(address) => address.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
                IpAddr::V6(address) => address.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
            };
            next.into_iter().for_each(&mut add);
        }
        if let Walk::Asks(at) = question.walk {
            for map in self.maps_from(at) {
                let KeyType::Address(family) = map.key else { continue };
                for element in map.elements() {
                    let ends = [Some(element.first), element.last.checked_add(1)];
                    for end in ends.into_iter().flatten() {
                        match family {
                            Family::V4 => v4.extend(u32::try_from(end)),
                            Family::V6 => v6.push(end),
                        }
                    }
                }
            }
        }
        v4.sort_unstable();
        v4.dedup();
        v6.sort_unstable();
        v6.dedup();
        let v4 = v4.into_iter().map(|bits| IpAddr::V4(bits.into()));
        v4.chain(v6.into_iter().map(|bits| IpAddr::V6(bits.into())))
    }

    /// The maps that a walk from here can come by.
    fn maps_from(&self, at: At) -> impl Iterator<Item = &crate::ruleset::Map> {
        let (mut seen, mut maps) = (BTreeSet::new(), BTreeSet::new());
        let mut open: Vec<ChainId> = match at.within() {
            Some(chain) => vec![chain],
            None => {
                let count = u32::try_from(self.ruleset.chains.len()).unwrap_or(u32::MAX);
                (0..count).map(ChainId).collect()
            }
        };
        while let Some(chain) = open.pop() {
            if !seen.insert(chain) {
                continue;
            }
            for rule in self.ruleset.chain(chain).map_or(&[][..], |chain| &chain.rules) {
                match rule.action {
                    Action::Goto(next) => open.push(next),
                    Action::Look(_, map) if maps.insert(map) => {
                        let elements = self.ruleset.map(map).into_iter().flat_map(|map| map.elements());
                        let mut last = None;
                        for next in elements.map(|element| element.chain) {
                            if last.replace(next) != Some(next) {
                                open.push(next);
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
        maps.into_iter().filter_map(|map| self.ruleset.map(map))
    }

    fn ports(&self, asked: &Asked<'_>, seen: &mut Seen) -> Result<(), Counterexample> {
        let from = |interface| match asked.question.walk {
            Walk::Asks(at) => {
                let address = Remote::Is(asked.address);
                self.ruleset.walk(at, &Facts { address, ..self.facts(interface, None, None) })
            }
            ended @ Walk::Ended(..) => ended,
        };
        let walks: Vec<Walk> = asked.askers.interfaces.iter().map(|interface| from(interface)).collect();
        if let Some(source) = asked.exempt {
            return self.is_exempt(asked, &walks, source);
        }
        let mut ports = [Ports::Tree(0); 2];
        for (protocol, ports) in Protocol::ALL.into_iter().zip(&mut ports) {
            *ports = self.sim.ports(asked.node, protocol).ok_or(SILENT)?;
        }
        let key = (walks, ports);
        if let Some(items) = seen.get(&key) {
            let is_so = |&(up, prefix): &(u8, Prefix)| self.item(asked.node, up) == Some(prefix);
            if items.iter().all(is_so) {
                return Ok(());
            }
        }
        let mut items = BTreeSet::new();
        for (protocol, ports) in Protocol::ALL.into_iter().zip(ports) {
            let ranges = self.sim.port_ranges(ports).ok_or(SILENT)?;
            for port in self.port_starts(&key.0, &ranges) {
                let (_, decision) = ranges.iter().find(|(range, _)| range.contains(port)).ok_or(SILENT)?;
                let Decision { verdict, source, up } = *decision;
                let item = self.item(asked.node, up).ok_or(SILENT)?;
                if self.one(asked, &key.0, (protocol, port), Expected { verdict, source, item })? {
                    items.insert((up, item));
                }
            }
        }
        seen.insert(key, items);
        Ok(())
    }

    /// Holds for all ports what an exemption does.
    fn is_exempt(&self, asked: &Asked<'_>, walks: &[Walk], source: SourceId) -> Result<(), Counterexample> {
        let expected = Expected { verdict: Verdict::Excluded, source, item: Prefix::Any };
        for protocol in Protocol::ALL {
            for port in self.port_starts(walks, &[(PortRange::ALL, ())]) {
                self.one(asked, walks, (protocol, port), expected)?;
            }
        }
        Ok(())
    }

    fn port_starts<T>(&self, walks: &[Walk], ranges: &[(PortRange, T)]) -> BTreeSet<u16> {
        let mut starts: BTreeSet<u16> = ranges.iter().map(|(range, _)| range.first).collect();
        let asks = |walk: &Walk| match *walk {
            Walk::Asks(at) => Some(at),
            Walk::Ended(..) => None,
        };
        for at in walks.iter().filter_map(asks).collect::<BTreeSet<_>>() {
            for map in self.maps_from(at).filter(|map| map.key == KeyType::Port) {
                let ends = map.elements().flat_map(|element| [element.first, element.last.saturating_add(1)]);
                starts.extend(ends.filter_map(|end| u16::try_from(end).ok()));
            }
        }
        starts
    }

    const fn facts<'f>(
        &self,
        interface: &'f str,
        protocol: Option<Protocol>,
        port: Option<u16>,
    ) -> Facts<'f> {
        Facts {
            direction: self.direction,
            part: Part::First,
            kind: Kind::Local,
            // What depends on the process is asked before addresses are, and what depends on addresses before ports, else
            // this would prove too little.
            process: None,
            interface,
            address: Remote::Settled,
            protocol,
            port,
        }
    }

    /// Asks about one flow, by each interface. Whether its item is counted on its own.
    fn one(
        &self,
        asked: &Asked<'_>,
        walks: &[Walk],
        (protocol, port): (Protocol, u16),
        Expected { verdict, source, item }: Expected,
    ) -> Result<bool, Counterexample> {
        let hash = self.sources.get(source.0 as usize).ok_or(SILENT)?.hash;
        let mut is_single = false;
        for (interface, walk) in asked.askers.interfaces.iter().zip(walks) {
            let wrong = |what| {
                let flow = self.flow(asked.address, protocol, port);
                let interface = Some(interface.clone());
                Err(self.wrong(flow, &Identity { interface, ..asked.askers.identity.clone() }, what))
            };
            let end = match *walk {
                Walk::Asks(at) => self.ruleset.walk(at, &self.facts(interface, Some(protocol), Some(port))),
                ended @ Walk::Ended(..) => ended,
            };
            let Walk::Ended(ended, counted) = end else {
                return wrong("the ruleset asks what no flow has");
            };
            let Some(counted) = counted.and_then(|counted| self.ruleset.counter(counted)) else {
                return wrong("nothing is counted");
            };
            let key = match counted.kind {
                CounterKind::Item => counter_key(hash, item),
                CounterKind::Source => hash,
            };
            is_single |= counted.kind == CounterKind::Item;
            if counted.key != key {
                return wrong("another item is credited");
            }
            // What is exempt is not offered, and who receives what the host sends to itself is not known when it is bound.
            let is_offered = asked.exempt.is_none() && self.resident.cgroup.is_none();
            if !self.is_right(ended, verdict, protocol, interface == LOOPBACK && is_offered) {
                return wrong("the ruleset decides otherwise than the tables");
            }
        }
        Ok(is_single)
    }

    fn item(&self, node: u32, up: u8) -> Option<Prefix> {
        let mut at = node;
        for _ in 0..up {
            at = self.sim.node(at)?.1?;
        }
        Some(self.sim.node(at)?.0)
    }

    /// Whether a walk ended as a verdict must: also in how it refuses, and where it goes on to if it stays in a pod.
    fn is_right(&self, ended: Ended, verdict: Verdict, protocol: Protocol, stays: bool) -> bool {
        let outbound = self.direction == Direction::Outbound;
        match (verdict, ended) {
            (Verdict::Excluded, Ended::Offered(chain)) => outbound && stays && self.is_offered(chain),
            (Verdict::Excluded, Ended::Accepted) => !(outbound && stays),
            (Verdict::Denied, Ended::Reset) => protocol == Protocol::Tcp,
            (Verdict::Denied, Ended::Dropped) => protocol == Protocol::Udp && outbound,
            (Verdict::Denied, Ended::Unreachable) => protocol == Protocol::Udp && !outbound,
            (Verdict::Redirected { port, transparent: false }, Ended::Redirected(to)) => port == to,
            _ => false,
        }
    }

    /// Whether this chain is where inbound packets get to.
    fn is_offered(&self, chain: ChainId) -> bool {
        let process = Process::default();
        let facts = Facts {
            direction: Direction::Inbound,
            part: Part::First,
            kind: Kind::Local,
            process: Some(&process),
            interface: LOOPBACK,
            address: Remote::Unknown,
            protocol: None,
            port: None,
        };
        let tcp = Facts { protocol: Some(Protocol::Tcp), ..facts.clone() };
        let arrived = self.ruleset.walk(At::hook(Direction::Inbound), &tcp);
        let offered = self.ruleset.walk(At::chain(chain), &tcp);
        arrived == offered && arrived != Walk::Ended(Ended::Accepted, None)
    }
}

/// A stretch of addresses that is asked about.
struct Asked<'a> {
    question: &'a Question,
    askers: &'a Askers,
    address: IpAddr,
    /// The node that serves it.
    node: u32,
    exempt: Option<SourceId>,
}

/// What must come of a flow.
#[derive(Clone, Copy)]
struct Expected {
    verdict: Verdict,
    source: SourceId,
    item: Prefix,
}

#[cfg(test)]
mod tests {
    use mesh_bpf::image::ProfileId;
    use mesh_compiler::compile::compile;
    use mesh_compiler::resolve::{Location, NoImports};

    use super::*;
    use crate::lower::lower;
    use crate::ruleset::{Counter, Element, Elements, Match, Rule};

    const POLICY: &str = r#"
exempt uid 1500-1510
exempt gid 7
exempt cgroup "/sidecar"
exempt interface "net*"
redirect outbound any -> 15001
redirect inbound tcp -> 15003

mesh m {
    workload a { address 10.42.0.0/16 }
    exclude outbound tcp 3306 to 10.0.0.0/8, fd00::/8
    deny outbound tcp 5000-6000
    deny outbound udp 80
    deny inbound tcp 81 from 10.0.0.0/8, fd00::/8, 10.42.0.7
    deny inbound udp 53
    exclude outbound tcp 22 as uid 1000-1999
    deny outbound tcp 22 as gid 5
    deny outbound tcp 23 as cgroup "/job"
    deny outbound tcp 10250 to node
    exclude inbound tcp 8081 from node
}
"#;

    fn made(policy: &str) -> (Tables, Scene, Ruleset) {
        let place = Location { key: "m.mesh".to_owned(), name: "m.mesh".to_owned() };
        let compilation = compile(vec![(place, policy.as_bytes().to_vec())], &mut NoImports, None);
        let tables = compilation.compiled.expect("it compiles").tables;
        let own = ["10.42.0.7", "fd00:42::7"].map(|ip| ip.parse().unwrap()).into();
        let resident = Resident { profile: ProfileId(0), own, cgroup: None };
        let cgroup = |id| Cgroup { level: 1, id };
        let scene = Scene {
            residents: vec![resident],
            node: ["192.168.0.1", "fd00::1"].map(|ip| ip.parse().unwrap()).into(),
            cgroups: [("/sidecar".to_owned(), cgroup(8)), ("/job".to_owned(), cgroup(9))].into(),
            ..Scene::default()
        };
        let ruleset = lower(&tables, &scene).expect("it is lowered");
        assert_eq!(prove(&tables, &scene, &ruleset), Ok(()));
        (tables, scene, ruleset)
    }

    /// Of changes that are made one at a time, the proof refuses each that a flow can notice; and most are such.
    #[track_caller]
    fn all_refused(
        what: &str,
        changes: Vec<(String, Ruleset)>,
        (tables, scene, whole): (&Tables, &Scene, &Ruleset),
    ) {
        // Spread over all there are: each takes some milliseconds.
        let step = changes.len() / 10 + 1;
        let (mut refused, count) = (0, changes.len().div_ceil(step));
        let flows = flows(scene);
        let said = |ruleset: &Ruleset| {
            let judge = |(flow, who): &(Flow, Identity)| ruleset.judge(scene, 0, flow, who);
            flows.iter().map(judge).collect::<Vec<_>>()
        };
        let other = said(whole);
        for (place, changed) in changes.into_iter().step_by(step) {
            match prove(tables, scene, &changed) {
                Err(_) => refused += 1,
                Ok(()) => {
                    let one = said(&changed);
                    let differs =
                        flows.iter().zip(one.iter().zip(&other)).find(|(_, (one, other))| one != other);
                    assert_eq!(differs, None, "{what}, {place}: the proof accepts it");
                }
            }
        }
        assert!(refused * 3 > count, "{what}: {refused} of {count} are refused");
    }

    /// Flows at the bounds of all that the policy names.
    fn flows(scene: &Scene) -> Vec<(Flow, Identity)> {
        let ids = [None, Some(7), Some(5), Some(1000), Some(1500), Some(2000)];
        let mut identities = Vec::new();
        for (uid, gid) in ids.into_iter().flat_map(|uid| [None, Some(7), Some(5)].map(|gid| (uid, gid))) {
            identities.push(Identity { uid, gid, ..Identity::default() });
        }
        identities.extend(
            ["/job", "/sidecar"]
                .map(|path| Identity { cgroup: Some(path.to_owned()), ..Identity::default() }),
        );
        identities.extend(
            ["net1", "eth0", "lo"]
                .map(|name| Identity { interface: Some(name.to_owned()), ..Identity::default() }),
        );
        let addresses = [
            "9.255.255.255",
            "10.0.0.0",
            "10.42.0.7",
            "10.255.255.255",
            "11.0.0.0",
            "127.0.0.1",
            "192.168.0.1",
            "fcff::1",
            "fd00::",
            "fd00::1",
            "fd00:42::7",
            "fe00::1",
        ];
        let mut flows = Vec::new();
        for address in addresses.map(|ip| ip.parse().unwrap()) {
            for (direction, protocol) in
                Direction::ALL.into_iter().flat_map(|d| Protocol::ALL.map(|p| (d, p)))
            {
                for port in [22, 23, 53, 80, 81, 3306, 5000, 6001, 8081, 10250] {
                    let own = scene.residents[0].own.contains(&address);
                    let flow = Flow { direction, protocol, address, port, own };
                    let by = |who: &Identity| Identity { node: scene.node.contains(&address), ..who.clone() };
                    flows.extend(identities.iter().map(|who| (flow, by(who))));
                }
            }
        }
        flows
    }

    /// The same ruleset with each of its rules changed in turn.
    fn each_rule(of: &Ruleset, change: impl Fn(&mut Vec<Rule>, usize) -> bool) -> Vec<(String, Ruleset)> {
        let mut all = Vec::new();
        for chain in 0..of.chains.len() {
            for at in 0..of.chains[chain].rules.len() {
                let mut changed = of.clone();
                if change(&mut changed.chains[chain].rules, at) {
                    all.push((format!("chain {chain}, rule {at}"), changed));
                }
            }
        }
        let base = of.base.as_ref().unwrap();
        for (hook, len) in [base.output.len(), base.prerouting.len()].into_iter().enumerate() {
            for at in 0..len {
                let mut changed = of.clone();
                let base = changed.base.as_mut().unwrap();
                let rules = if hook == 0 { &mut base.output } else { &mut base.prerouting };
                if change(rules, at) {
                    all.push((format!("hook {hook}, rule {at}"), changed));
                }
            }
        }
        all
    }

    /// The same with each element of its maps changed in turn.
    fn each_element(of: &Ruleset, change: impl Fn(&mut Vec<Element<u128>>, usize)) -> Vec<(String, Ruleset)> {
        let mut all = Vec::new();
        for at in 0..of.maps.len() {
            for element in 0..of.maps[at].len() {
                let mut changed = of.clone();
                let map = &mut changed.maps[at];
                let mut elements: Vec<_> = map.elements().collect();
                change(&mut elements, element);
                *map = crate::ruleset::Map::new(map.key, map.interval, elements.into_iter());
                all.push((format!("map {at}, element {element}"), changed));
            }
        }
        all
    }

    #[test]
    fn a_rule_that_is_missing_is_noticed() {
        let (tables, scene, ruleset) = made(POLICY);
        let changes = each_rule(&ruleset, |rules, at| {
            rules.remove(at);
            true
        });
        all_refused("a rule is missing", changes, (&tables, &scene, &ruleset));
    }

    #[test]
    fn a_match_that_is_missing_is_noticed() {
        let (tables, scene, ruleset) = made(POLICY);
        let changes = each_rule(&ruleset, |rules, at| rules[at].matches.pop().is_some());
        all_refused("a match is missing", changes, (&tables, &scene, &ruleset));
    }

    #[test]
    fn another_action_is_noticed() {
        let (tables, scene, ruleset) = made(POLICY);
        for other in [Action::Accept, Action::Drop, Action::Reset, Action::Redirect(7), Action::Unreachable] {
            let changes =
                each_rule(&ruleset, |rules, at| std::mem::replace(&mut rules[at].action, other) != other);
            all_refused("another action", changes, (&tables, &scene, &ruleset));
        }
    }

    #[test]
    fn a_bound_that_is_off_by_one_is_noticed() {
        let (tables, scene, ruleset) = made(POLICY);
        let wider =
            each_element(&ruleset, |elements, at| elements[at].last = elements[at].last.wrapping_sub(1));
        // An element without a key is none.
        let wider = wider.into_iter().filter(|(_, changed)| {
            changed.maps.iter().all(|map| map.elements().all(|element| element.first <= element.last))
        });
        all_refused("an end is earlier", wider.collect(), (&tables, &scene, &ruleset));
        let changes = each_element(&ruleset, |elements, at| {
            elements.remove(at);
        });
        all_refused("an element is missing", changes, (&tables, &scene, &ruleset));
    }

    #[test]
    fn an_element_that_leads_elsewhere_is_noticed() {
        let (tables, scene, ruleset) = made(POLICY);
        let count = u32::try_from(ruleset.chains.len()).unwrap();
        let changes = each_element(&ruleset, |elements, at| {
            elements[at].chain = ChainId((elements[at].chain.0 + 1) % count);
        });
        all_refused("an element leads elsewhere", changes, (&tables, &scene, &ruleset));
        let changes = each_element(&ruleset, |elements, at| elements[at].chain = ChainId(count));
        all_refused("an element leads nowhere", changes, (&tables, &scene, &ruleset));
    }

    #[test]
    fn another_counter_is_noticed() {
        let (tables, scene, ruleset) = made(POLICY);
        let mut changes = Vec::new();
        for at in 0..ruleset.counters.len() {
            for change in [
                |counter: &mut Counter| counter.key ^= 1,
                |counter: &mut Counter| {
                    counter.kind = match counter.kind {
                        CounterKind::Item => CounterKind::Source,
                        CounterKind::Source => CounterKind::Item,
                    };
                },
            ] {
                let mut changed = ruleset.clone();
                change(&mut changed.counters[at]);
                changes.push((format!("counter {at}"), changed));
            }
        }
        // An item without an address has the key of its source.
        let (kinds, keys) = changes.into_iter().partition(|(_, changed): &(String, Ruleset)| {
            changed.counters.iter().zip(&ruleset.counters).all(|(one, other)| one.key == other.key)
        });
        all_refused("a counter is another", keys, (&tables, &scene, &ruleset));
        let kinds: Vec<(String, Ruleset)> = kinds;
        assert!(kinds.iter().any(|(_, changed)| prove(&tables, &scene, changed).is_err()));
    }

    #[test]
    fn a_map_of_another_type_is_noticed() {
        let (tables, scene, ruleset) = made(POLICY);
        let mut changes = Vec::new();
        for at in 0..ruleset.maps.len() {
            let mut changed = ruleset.clone();
            changed.maps[at].elements = Elements::Wide(Vec::new());
            changes.push((format!("map {at}"), changed));
        }
        all_refused("a map is empty", changes, (&tables, &scene, &ruleset));
        let negated = each_rule(&ruleset, |rules, at| {
            let mut interfaces = rules[at].matches.iter_mut().filter_map(|matched| match matched {
                Match::Interface { is, .. } => Some(is),
                _ => None,
            });
            interfaces.next().map(|is| *is = !*is).is_some()
        });
        all_refused("an interface is another", negated, (&tables, &scene, &ruleset));
    }
}
