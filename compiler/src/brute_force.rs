//! Random programs in a small world, decided once more from the words of the manual (docs/language.md).
//!
//! What is here shares no line with the compiler: rules are the words that were written, and every flow of the
//! world is decided by going through all of them. The compiler must find a tie if and only if some flow is
//! tied, with a flow that is; where none is, the tables must decide each flow alike; and the proof must refuse
//! the tables of a program with a tie, wherever that stands.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use mesh_bpf::flow::{Direction, Flow, Identity, Protocol, Verdict};
use mesh_bpf::pack::pack;
use mesh_bpf::sim::{Decided, Sim};

use crate::analysis::fixture::{image, ties};
use crate::compile::{Compilation, compile};
use crate::diag::{Code, Severity};
use crate::prove::prove;
use crate::random::Random;
use crate::resolve::{Location, NoImports};

/// Programs of the random test. Each has some ten thousand flows, and more where rules name processes.
const SEEDS: u64 = 400;

/// Each with its mesh and its addresses.
const WORKLOADS: [(&str, &str, &str); 4] = [
    ("m", "a", "100.64.1.0/24"),
    ("m", "b", "100.64.2.0/24"),
    ("m", "c", "100.64.3.0/24"),
    ("n", "d", "100.64.4.0/24, fd64::/64"),
];

/// Where rules are written: the level, and the workloads that it is about.
const SCOPES: [(Level, &[usize]); 11] = [
    (Level::Top, &[0, 1, 2, 3]),
    (Level::Top, &[0, 1, 2, 3]),
    (Level::Mesh, &[0, 1, 2]),
    (Level::Mesh, &[0, 1, 2]),
    (Level::Mesh, &[3]),
    (Level::For, &[0, 1]),
    (Level::For, &[1, 2]),
    (Level::For, &[1]),
    (Level::Workload, &[0]),
    (Level::Workload, &[1]),
    (Level::Workload, &[3]),
];
const PORTS: [&str; 14] =
    ["", "", "", "1-5", "2-3", "3-7", "1-8", "4", "7", "1-65535", "2, 4-5", "not 3", "not 1-3, 7", "6-15001"];
const TARGETS: [u16; 5] = [1, 4, 7, 15001, 65535];
const ADDRESSES: [&str; 26] = [
    "node",
    "node",
    "10.0.0.0/8, node",
    "node, 100.64.1.1",
    "",
    "",
    "",
    "",
    "0.0.0.0/0",
    "::/0",
    "::/1",
    "0.0.0.0/1",
    "10.0.0.0/8",
    "10.0.0.0/31",
    "10.0.0.0",
    "10.0.0.1, 10.0.0.2",
    "127.0.0.0/8",
    "127.0.0.1",
    "224.0.0.0/4",
    "224.0.0.251",
    "::1",
    "fd64::/16",
    "100.64.1.1",
    "100.64.0.0/10",
    "fd64::1, 100.64.1.1",
    "10.0.0.0/8, fd64::1",
];
const FLOW_ADDRESSES: [&str; 16] = [
    "10.0.0.0",
    "10.0.0.1",
    "10.0.0.2",
    "10.9.0.0",
    "100.64.1.1",
    "100.64.9.1",
    "203.0.113.1",
    "127.0.0.1",
    "127.0.0.2",
    "224.0.0.251",
    "fe80::1",
    "ff02::fb",
    "::1",
    "fd64::1",
    "2001:db8::1",
    "9001::1",
];
/// Whose sockets a rule is about.
const WHOS: [&str; 10] = [
    "",
    "",
    "",
    "uid 1000",
    "uid 1000-1999, 7",
    "gid 7",
    "uid 1000-1999 and gid 5, 7-9",
    "cgroup \"/jobs\"",
    "uid 7 and cgroup \"/jobs/a\", \"/x\"",
    "gid 7-9 and cgroup \"/jobs\"",
];
/// Users, groups and cgroups of processes.
const USERS: [u32; 4] = [7, 999, 1000, 1999];
const GROUPS: [u32; 3] = [5, 7, 10];
const CGROUPS: [&str; 3] = ["/jobs", "/jobs/a/b", "/xy"];

/// Addresses that a member may have as its own.
const OWN: [&str; 3] = ["100.64.1.1", "10.0.0.1", "fd64::1"];
const FLOW_PORTS: [u16; 14] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 15000, 15001, 15002, 65534, 65535];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Level {
    Top,
    Mesh,
    For,
    Workload,
}

/// A rule, as words.
#[derive(Clone, Debug)]
struct Rule {
    level: Level,
    members: &'static [usize],
    always: bool,
    /// `deny`, `exclude` or `redirect`.
    verb: &'static str,
    outbound: bool,
    /// `tcp`, `udp`, `any` or nothing.
    protocol: &'static str,
    ports: &'static str,
    addresses: &'static str,
    /// What stands behind `as`, or nothing.
    who: &'static str,
    /// What stands behind `->`.
    target: Option<(u16, bool)>,
}

impl Rule {
    fn text(&self) -> String {
        let mut text = String::new();
        if self.always {
            text.push_str("always ");
        }
        let (direction, preposition) = if self.outbound { ("outbound", "to") } else { ("inbound", "from") };
        write!(text, "{} {direction} {} {}", self.verb, self.protocol, self.ports).unwrap();
        if !self.addresses.is_empty() {
            write!(text, " {preposition} {}", self.addresses).unwrap();
        }
        if !self.who.is_empty() {
            write!(text, " as {}", self.who).unwrap();
        }
        if let Some((port, transparent)) = self.target {
            write!(text, " -> {port}{}", if transparent { " transparent" } else { "" }).unwrap();
        }
        text
    }
}

/// One box of a rule.
struct Box {
    level: Level,
    members: &'static [usize],
    always: bool,
    verdict: Verdict,
    outbound: bool,
    protocol: Protocol,
    ports: Ports,
    addresses: Where,
    who: Who,
}

/// What stands behind `to` or `from`.
#[derive(Clone, Copy)]
enum Where {
    Anywhere,
    In((IpAddr, u8)),
    Node,
}

/// Users, groups and a cgroup; none is all of them.
#[derive(Clone, Copy, Default)]
struct Who {
    uid: Option<(u32, u32)>,
    gid: Option<(u32, u32)>,
    cgroup: Option<&'static str>,
}

impl Who {
    fn holds(self, identity: &Identity) -> bool {
        let within = |range: Option<(u32, u32)>, id: Option<u32>| {
            range.is_none_or(|(first, last)| id.is_some_and(|id| first <= id && id <= last))
        };
        let below = |path: &str| {
            let cgroup = identity.cgroup.as_deref();
            cgroup.is_some_and(|cgroup| cgroup == path || cgroup.starts_with(&format!("{path}/")))
        };
        within(self.uid, identity.uid) && within(self.gid, identity.gid) && self.cgroup.is_none_or(below)
    }

    /// "each all where it is not named"
    fn lies_within(self, other: Self) -> bool {
        let ids = |one: Option<(u32, u32)>, other: Option<(u32, u32)>| match (one, other) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(one), Some(other)) => other.0 <= one.0 && one.1 <= other.1,
        };
        let cgroups = match (self.cgroup, other.cgroup) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(one), Some(other)) => one == other || one.starts_with(&format!("{other}/")),
        };
        ids(self.uid, other.uid) && ids(self.gid, other.gid) && cgroups
    }
}

/// "`as uid 1, 5 and gid 7` is two boxes"
fn whos(text: &'static str) -> Vec<Who> {
    let mut whos = vec![Who::default()];
    for part in text.split(" and ").filter(|part| !part.is_empty()) {
        let (kind, items) = part.split_once(' ').unwrap();
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Some((first.parse().unwrap(), last.parse().unwrap()))
        };
        let mut chosen = Vec::new();
        for one in whos {
            chosen.extend(items.split(", ").map(|item| match kind {
                "uid" => Who { uid: range(item), ..one },
                "gid" => Who { gid: range(item), ..one },
                _ => Who { cgroup: Some(item.trim_matches('"')), ..one },
            }));
        }
        whos = chosen;
    }
    whos
}

/// Nobody who is known, and one process of each combination.
fn identities() -> Vec<Identity> {
    let mut all = vec![Identity::default()];
    for uid in USERS {
        for gid in GROUPS {
            for cgroup in CGROUPS {
                all.push(Identity {
                    uid: Some(uid),
                    gid: Some(gid),
                    cgroup: Some(cgroup.to_owned()),
                    interface: None,
                    node: false,
                });
            }
        }
    }
    all
}

/// Ranges of ports, or with `not` all others.
#[derive(Clone)]
struct Ports {
    not: bool,
    ranges: Vec<(u16, u16)>,
}

impl Ports {
    fn contains(&self, port: u16) -> bool {
        self.ranges.iter().any(|&(first, last)| first <= port && port <= last) != self.not
    }

    /// Of the world's ports: between two of them no range begins or ends.
    fn lie_within(&self, other: &Self) -> bool {
        FLOW_PORTS.into_iter().all(|port| other.contains(port) || !self.contains(port))
    }
}

/// What the words mean for one flow.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Decided(Verdict),
    /// Redirects that lead to these places.
    Tied(Vec<Verdict>),
}

/// The bits of an address, left-aligned, and how many there are.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

fn network(text: &str) -> (IpAddr, u8) {
    let (address, length) = text.split_once('/').unwrap_or((text, ""));
    let address: IpAddr = address.parse().unwrap();
    (address, length.parse().unwrap_or(bits(address).1))
}

fn holds((network, length): (IpAddr, u8), address: IpAddr) -> bool {
    let ((one, of), (other, too)) = (bits(network), bits(address));
    of == too && (length == 0 || (one ^ other) >> (128 - u32::from(length)) == 0)
}

fn lies_in(inner: (IpAddr, u8), outer: (IpAddr, u8)) -> bool {
    holds(outer, inner.0) && inner.1 >= outer.1
}

/// "Loopback (127.0.0.0/8, 0.0.0.0, ::1, ::)"
const LOOPBACK: [&str; 4] = ["127.0.0.0/8", "0.0.0.0", "::1", "::"];
/// "multicast and broadcast (224.0.0.0/4, 255.255.255.255, ff00::/8), IPv6 link-local (fe80::/10)"
const OTHERS_APART: [&str; 4] = ["224.0.0.0/4", "255.255.255.255", "ff00::/8", "fe80::/10"];

/// The one of these that holds an address.
fn one_of(networks: &[&str], address: IpAddr) -> Option<(IpAddr, u8)> {
    networks.iter().map(|text| network(text)).find(|&all| holds(all, address))
}

/// "a port that only outbound redirects of a workload lead to belongs to the member", "by protocol"
fn belongs(reaching: &[&Box], protocol: Protocol, port: u16) -> bool {
    let leads = |outbound: bool| {
        let redirects = reaching.iter().filter(|one| one.outbound == outbound && one.protocol == protocol);
        redirects.into_iter().any(|one| one.verdict.port() == Some(port))
    };
    leads(true) && !leads(false)
}

/// "A rule is shorthand for several boxes, one for each combination of its items"
fn boxes(rules: &[Rule]) -> Vec<Box> {
    let mut boxes = Vec::new();
    for rule in rules {
        let protocols: &[Protocol] = match (rule.protocol, rule.verb) {
            ("tcp", _) | ("", "redirect") => &[Protocol::Tcp],
            ("udp", _) => &[Protocol::Udp],
            _ => &Protocol::ALL,
        };
        let verdict = match rule.verb {
            "deny" => Verdict::Denied,
            "exclude" => Verdict::Excluded,
            _ => rule.target.map(|(port, transparent)| Verdict::Redirected { port, transparent }).unwrap(),
        };
        for ports in port_items(rule.ports) {
            let addresses = if rule.addresses.is_empty() {
                vec![Where::Anywhere]
            } else {
                let place = |text| if text == "node" { Where::Node } else { Where::In(network(text)) };
                rule.addresses.split(", ").map(place).collect()
            };
            for (addresses, who) in
                addresses.into_iter().flat_map(|one| whos(rule.who).into_iter().map(move |who| (one, who)))
            {
                boxes.extend(protocols.iter().map(|&protocol| Box {
                    level: rule.level,
                    members: rule.members,
                    always: rule.always,
                    verdict,
                    outbound: rule.outbound,
                    protocol,
                    ports: ports.clone(),
                    addresses,
                    who,
                }));
            }
        }
    }
    boxes
}

/// "`tcp 80, 81` is two boxes; `tcp not 25, 80` is one box, whose ports are all the others"
fn port_items(text: &str) -> Vec<Ports> {
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        (first.parse().unwrap(), last.parse().unwrap())
    };
    if text.is_empty() {
        return vec![Ports { not: false, ranges: vec![(1, u16::MAX)] }];
    }
    if let Some(others) = text.strip_prefix("not ") {
        return vec![Ports { not: true, ranges: others.split(", ").map(range).collect() }];
    }
    text.split(", ").map(|text| Ports { not: false, ranges: vec![range(text)] }).collect()
}

/// "Box A is narrower than box B where A's ports, addresses and scope each lie within B's, and B's do not all lie
/// within A's."
fn is_narrower(one: &Box, other: &Box) -> bool {
    let within = |one: &Box, other: &Box| {
        let scope = if one.level == other.level {
            one.members.iter().all(|member| other.members.contains(member))
        } else {
            one.level > other.level
        };
        let addresses = match (one.addresses, other.addresses) {
            (_, Where::Anywhere) | (Where::Node, Where::Node) => true,
            (Where::In(one), Where::In(other)) => lies_in(one, other),
            // "against a prefix it is never narrower or wider"
            _ => false,
        };
        scope && addresses && one.who.lies_within(other.who) && one.ports.lie_within(&other.ports)
    };
    within(one, other) && !within(other, one)
}

fn meaning(boxes: &[Box], workload: usize, flow: &Flow, identity: &Identity) -> Meaning {
    let reaching: Vec<&Box> = boxes.iter().filter(|one| one.members.contains(&workload)).collect();
    let is_sidecars = reaching.iter().any(|one| one.verdict.port() == Some(flow.port));
    let comes_from_elsewhere =
        flow.direction == Direction::Inbound && !flow.own && one_of(&LOOPBACK, flow.address).is_none();
    let is_members = comes_from_elsewhere && belongs(&reaching, flow.protocol, flow.port);
    let all_belong = |one: &Box| {
        let mut ports = FLOW_PORTS.into_iter().filter(|&port| one.ports.contains(port));
        ports.all(|port| belongs(&reaching, flow.protocol, port))
    };
    let mut matching: Vec<&Box> = reaching
        .iter()
        .copied()
        .filter(|one| one.outbound == (flow.direction == Direction::Outbound))
        .filter(|one| one.protocol == flow.protocol && one.ports.contains(flow.port))
        .filter(|one| match one.addresses {
            Where::Anywhere => true,
            Where::In(network) => holds(network, flow.address),
            Where::Node => identity.node,
        })
        .filter(|one| one.who.holds(identity))
        // "are reached, in either direction, only by rules whose own addresses lie inside them"
        .filter(|one| match one_of(&[LOOPBACK, OTHERS_APART].concat(), flow.address) {
            _ if flow.own => {
                matches!(one.addresses, Where::In((_, length)) if length == bits(flow.address).1)
            }
            Some(apart) => matches!(one.addresses, Where::In(network) if lies_in(network, apart)),
            None => true,
        })
        // "no port that a workload redirects to is redirected inbound"
        .filter(|one| one.outbound || !is_sidecars || one.verdict.port().is_none())
        .collect();
    // "What comes to it from elsewhere is denied. Only an `exclude` whose own ports all belong to the member opens it; it
    // takes part in the contest with every `deny` that matches"
    if is_members {
        matching.retain(|one| match one.verdict {
            Verdict::Denied => true,
            Verdict::Excluded => all_belong(one),
            Verdict::Redirected { .. } => false,
        });
        if !matching.iter().any(|one| one.verdict == Verdict::Excluded) {
            return Meaning::Decided(Verdict::Denied);
        }
    }
    // "Where a rule with `always` matches a flow, rules without it do not take part."
    if matching.iter().any(|one| one.always) {
        matching.retain(|one| one.always);
    }
    // "matching boxes that a narrower matching box beats drop out"
    let left = matching.iter().filter(|one| !matching.iter().any(|other| is_narrower(other, one)));
    let verdicts: BTreeSet<Verdict> = left.map(|one| one.verdict).collect();
    // "the strongest verdict among those that remain decides: `deny`, then `exclude`, then `redirect`"
    if verdicts.contains(&Verdict::Denied) {
        return Meaning::Decided(Verdict::Denied);
    }
    if verdicts.contains(&Verdict::Excluded) || verdicts.is_empty() {
        return Meaning::Decided(Verdict::Excluded);
    }
    let verdicts: Vec<Verdict> = verdicts.into_iter().collect();
    match verdicts.as_slice() {
        [only] => Meaning::Decided(*only),
        _ => Meaning::Tied(verdicts),
    }
}

fn text(rules: &[Rule]) -> String {
    let mut text = "exempt uid 1500\n".to_owned();
    let at = |level: Level, members: &[usize]| {
        let those = rules.iter().filter(move |rule| rule.level == level && rule.members == members);
        those.fold(String::new(), |text, rule| text + &rule.text() + "\n")
    };
    text += &at(Level::Top, &[0, 1, 2, 3]);
    for (mesh, members) in [("m", &[0, 1, 2][..]), ("n", &[3])] {
        write!(text, "mesh {mesh} {{\n{}", at(Level::Mesh, members)).unwrap();
        for &member in members {
            let (_, name, addresses) = WORKLOADS[member];
            let own = at(Level::Workload, &[member]);
            writeln!(text, "workload {name} {{\naddress {addresses}\n{own}}}").unwrap();
        }
        let fors: BTreeSet<&[usize]> = (rules.iter())
            .filter(|rule| rule.level == Level::For && members.contains(&rule.members[0]))
            .map(|rule| rule.members)
            .collect();
        for members in fors {
            let names: Vec<&str> = members.iter().map(|&member| WORKLOADS[member].1).collect();
            writeln!(text, "for {} {{\n{}}}", names.join(", "), at(Level::For, members)).unwrap();
        }
        text += "}\n";
    }
    text
}

fn flows() -> impl Iterator<Item = Flow> {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let foreign = FLOW_ADDRESSES.into_iter().map(move |text| (address(text), false));
    let addresses: Vec<(IpAddr, bool)> = foreign.chain(OWN.map(|text| (address(text), true))).collect();
    Direction::ALL.into_iter().flat_map(move |direction| {
        let addresses = addresses.clone();
        Protocol::ALL.into_iter().flat_map(move |protocol| {
            addresses.clone().into_iter().flat_map(move |(address, own)| {
                FLOW_PORTS.map(|port| Flow { direction, protocol, address, port, own })
            })
        })
    })
}

fn compiled(text: &str) -> Compilation {
    let place = Location { key: "a.mesh".to_owned(), name: "a.mesh".to_owned() };
    compile(vec![(place, text.as_bytes().to_vec())], &mut NoImports, None)
}

fn workload_index(compilation: &Compilation, index: usize) -> usize {
    let name = &compilation.resolution.program.workloads[index].name;
    WORKLOADS.iter().position(|(_, known, _)| known == name).unwrap()
}

/// What came out of one program.
struct Found {
    flows: usize,
    tied: usize,
}

/// Compares the compiler with the words on every flow of the world.
fn compare(rules: &[Rule]) -> Found {
    let (boxes, text) = (boxes(rules), text(rules));
    let done = compiled(&text);
    let errors = done.diagnostics.iter().filter(|found| found.severity == Severity::Error);
    let codes: BTreeSet<Code> = errors.map(|found| found.code).collect();
    let program = &done.resolution.program;
    let image = image(program);
    let tables = pack(&image).unwrap();
    let sim = Sim::new(&tables).unwrap();
    let mut found = Found { flows: 0, tied: 0 };
    let names_processes = rules.iter().any(|rule| !rule.who.is_empty());
    let mut processes = if names_processes { identities() } else { vec![Identity::default()] };
    if rules.iter().any(|rule| rule.addresses.contains("node")) {
        // "whatever addresses the node has": any may be one of them.
        let at_node: Vec<Identity> =
            processes.iter().step_by(5).map(|one| Identity { node: true, ..one.clone() }).collect();
        processes.extend(at_node);
    }
    for (index, (mesh, name, _)) in WORKLOADS.iter().enumerate() {
        let profile = image.workload(&format!("{mesh}/{name}")).unwrap().profile;
        for (flow, identity) in
            flows().flat_map(|flow| processes.iter().map(move |identity| (flow, identity)))
        {
            if flow.direction == Direction::Inbound && identity.uid.is_some() {
                continue;
            }
            found.flows += 1;
            match meaning(&boxes, index, &flow, identity) {
                Meaning::Tied(verdicts) => {
                    found.tied += 1;
                    assert_eq!(
                        codes,
                        [Code::Conflict].into(),
                        "{name} {flow:?} {identity:?} {verdicts:?}\n{text}"
                    );
                }
                Meaning::Decided(verdict) => match sim.decide(profile, &flow, identity) {
                    Some(Decided::Policy(hit)) => {
                        assert_eq!(hit.verdict, verdict, "{name} {flow:?} {identity:?}\n{text}");
                    }
                    _ => panic!("nothing decided {name} {flow:?} {identity:?}\n{text}"),
                },
            }
        }
    }
    // What the compiler says ties, ties; and the proof says the same, for itself.
    for tie in ties(program) {
        let workload = workload_index(&done, tie.workload.index());
        let Meaning::Tied(verdicts) = meaning(&boxes, workload, &tie.flow, &tie.identity) else {
            panic!("{:?} is not tied\n{text}", tie.flow);
        };
        for (item, _) in [tie.one, tie.other] {
            assert!(verdicts.contains(&item.verdict), "{:?} {verdicts:?}\n{text}", tie.flow);
        }
    }
    match prove(program, &tables) {
        Ok(()) => assert_eq!((&codes, found.tied), (&BTreeSet::new(), 0), "{text}"),
        Err(disproof) => {
            let name = disproof.workload.as_deref().unwrap().split_once('/').unwrap().1;
            let workload = WORKLOADS.iter().position(|(_, known, _)| *known == name).unwrap();
            let identity = disproof.identity.clone().unwrap_or_default();
            let meaning = meaning(&boxes, workload, &disproof.flow.unwrap(), &identity);
            assert!(matches!(meaning, Meaning::Tied(_)), "{disproof}: {meaning:?}\n{text}");
        }
    }
    found
}

impl Random {
    fn rule(&mut self) -> Rule {
        let (level, members) = self.of(&SCOPES);
        let verb = self
            .of(&["redirect", "redirect", "redirect", "redirect", "redirect", "redirect", "exclude", "deny"]);
        let outbound = self.below(2) == 0;
        let target = (verb == "redirect").then(|| (self.of(&TARGETS), self.below(8) == 0));
        let protocol = match target {
            None => self.of(&["", "tcp", "udp", "any"]),
            Some((_, false)) if outbound => self.of(&["tcp", "tcp", "udp"]),
            Some(_) => "tcp",
        };
        let ports = if protocol.is_empty() { "" } else { self.of(&PORTS) };
        let (always, addresses) = (self.below(5) == 0, self.of(&ADDRESSES));
        let who = if outbound && self.below(3) > 0 { self.of(&WHOS) } else { "" };
        Rule { level, members, always, verb, outbound, protocol, ports, addresses, who, target }
    }
}

#[test]
fn random_programs_are_decided_as_the_words_say() {
    let (mut flows, mut tied, mut clean) = (0, 0, 0);
    for seed in 1..=SEEDS {
        let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let count = 3 + random.below(6);
        let rules: Vec<Rule> = (0..count).map(|_| random.rule()).collect();
        let found = compare(&rules);
        flows += found.flows;
        tied += usize::from(found.tied > 0);
        clean += usize::from(found.tied == 0);
    }
    // Without this it would hold of programs that never tie, or that always do.
    assert!(tied > 50 && clean > 50, "{tied} tied, {clean} not, {flows} flows");
}

fn redirect(outbound: bool, ports: &'static str, addresses: &'static str, target: u16) -> Rule {
    Rule {
        level: Level::Mesh,
        members: &[0, 1, 2],
        always: false,
        verb: "redirect",
        outbound,
        protocol: "tcp",
        ports,
        addresses,
        who: "",
        target: Some((target, false)),
    }
}

/// The tie begins at ports where `always` decides, and goes on behind them.
#[test]
fn a_tie_behind_the_ports_of_always_is_found() {
    let everywhere = redirect(true, "", "::/1", 15443);
    let everywhere = Rule { level: Level::Top, members: &[0, 1, 2, 3], ..everywhere };
    let hiding = Rule { always: true, ..redirect(true, "1-8", "", 15001) };
    assert!(compare(&[everywhere.clone(), redirect(true, "", "", 15001), hiding]).tied > 0);
    // Where `always` has every port, there is none.
    let hiding = Rule { always: true, ..redirect(true, "1-65535", "", 15001) };
    assert_eq!(compare(&[everywhere, redirect(true, "", "", 15001), hiding]).tied, 0);
}

/// The tie begins at a port of a sidecar, and goes on behind it.
#[test]
fn a_tie_behind_a_sidecar_s_port_is_found() {
    let rules = |ports| {
        let [all, some] = [redirect(false, "", "", 15003), redirect(false, "", "10.0.0.0/8", 15004)];
        [all, some, redirect(false, ports, "", 1)]
    };
    assert!(compare(&rules("1-5")).tied > 0);
    // At that port alone nothing is redirected, and nothing ties.
    let [all, some, _] = rules("1-5");
    assert_eq!(compare(&[all, some, redirect(false, "7", "", 7)]).tied, 0);
}

/// Each of many redirects ties with one that is wider in ports, at first where `always` decides.
#[test]
fn more_ties_than_are_noted_hide_none() {
    let targets: [(&str, u16); 10] = [
        ("1-5", 101),
        ("1-5", 102),
        ("1-5", 103),
        ("1-5", 104),
        ("1-5", 105),
        ("1-5", 106),
        ("1-5", 107),
        ("1-5", 108),
        ("1-5", 109),
        ("3-7", 110),
    ];
    let mut rules: Vec<Rule> =
        targets.map(|(ports, target)| redirect(true, ports, "", target)).into_iter().collect();
    rules.push(Rule { always: true, ..redirect(true, "1-5", "", 15001) });
    rules.push(redirect(true, "", "10.0.0.0/8", 15010));
    assert!(compare(&rules).tied > 0);
}
