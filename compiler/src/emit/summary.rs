//! The top of the compiled output: what becomes of each workload's traffic.
//!
//! It names the items that decide at least one flow, as rules. An item that decides none (since narrower ones
//! cover it) is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use mesh_bpf::flow::{Direction, Protocol};
use mesh_bpf::image::{
    Exempt, MapImage, Node, PortTable, Profile, Side, Source, SourceId, SourceKind, parents,
};
use mesh_bpf::ports::{PortRange, PortSet};
use mesh_bpf::prefix::Prefix;

use super::names::{identities, is_of_workload, scope, selector_lines};
use super::services::Within;
use super::sets::{Lists, Namer};
use super::toml::{Quoted, write_array, write_credited};
use crate::hir::item::BuiltIn;

/// Writes a section for each mesh, each profile that is not of one workload alone, and each workload. Gives back the
/// lists that are written there, by profile and direction.
pub(super) fn write(text: &mut String, image: &MapImage, namer: &Namer<'_>) -> Vec<[Lists; 2]> {
    for mesh in &image.meshes {
        let _ = writeln!(text, "\n[mesh.{}]", Quoted(mesh));
    }
    let summarizer = Summarizer { image, namer, deciders: image.port_tables.iter().map(deciders).collect() };
    let (bodies, lists): (Vec<_>, Vec<_>) =
        image.profiles.iter().map(|profile| summarizer.profile(profile)).unzip();
    for (profile, body) in image.profiles.iter().zip(&bodies) {
        if !is_of_workload(&profile.name) {
            body.write(text, &format!("profile.{}", Quoted(&profile.name)), "");
        }
    }
    for workload in &image.workloads {
        let index = workload.profile.0 as usize;
        let (Some(profile), Some(body)) = (image.profiles.get(index), bodies.get(index)) else { continue };
        let mut head = String::new();
        write_array(&mut head, "select", &selector_lines(&workload.selector));
        let _ = writeln!(head, "profile = {}", Quoted(&profile.name));
        let name = format!("workload.{}", Quoted(&workload.name));
        if is_of_workload(&profile.name) {
            body.write(text, &name, &head);
        } else {
            let _ = write!(text, "\n[{name}]\n{head}");
        }
    }
    lists
}

/// What becomes of the traffic of a profile's workloads.
struct Body {
    head: String,
    sides: [String; 2],
}

impl Body {
    fn write(&self, text: &mut String, name: &str, above: &str) {
        let _ = write!(text, "\n[{name}]\n{above}{}", self.head);
        for (direction, side) in Direction::ALL.iter().zip(&self.sides) {
            let _ = write!(text, "\n[{name}.{direction}]\n{side}");
        }
    }
}

fn exemptions(image: &MapImage, exempt: &Exempt) -> Vec<(String, String)> {
    let credit = |who: &str, source: SourceId| match image.source(source) {
        source if source.head == format!("exempt {who}") => scope(&source.scope).to_owned(),
        source => source.credit(Prefix::Any),
    };
    identities(exempt)
        .map(|(who, source)| (credit(&who, source), who))
        .map(|(credit, who)| (who, credit))
        .collect()
}

fn accelerations(image: &MapImage, profile: &Profile) -> Vec<(String, String)> {
    let acceleration = &profile.acceleration;
    let all: BTreeSet<&Source> = (acceleration.local.iter().chain(acceleration.peers.values().flatten()))
        .map(|(_, source)| image.source(*source))
        .collect();
    let bare = |source: &Source| source.head.strip_prefix("accelerate ").unwrap_or(&source.head).to_owned();
    all.into_iter().map(|source| (bare(source), scope(&source.scope).to_owned())).collect()
}

fn ons(profile: &Profile) -> [String; 2] {
    let word = |refuse, other| if refuse { "refuse" } else { other };
    [
        format!("missing-sidecar {}", word(profile.missing_sidecar_refuse, "pass")),
        format!("failed-attach {}", word(profile.failed_attach_refuse, "start")),
    ]
}

/// The source of a rule, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shape<'a> {
    always: bool,
    verb: &'a str,
    tail: &'a str,
    scope: &'a str,
    protocol: &'a str,
    /// The words after the protocol: ports, `not` and ports, or none.
    ports: &'a str,
}

impl<'a> Shape<'a> {
    fn of(source: &'a Source) -> Option<Self> {
        let plain = source.head.strip_prefix("always ");
        let (verb, rest) = plain.unwrap_or(&source.head).split_once(' ')?;
        let (_, rest) = rest.split_once(' ')?;
        let (protocol, ports) = rest.split_once(' ').unwrap_or((rest, ""));
        let always = plain.is_some();
        Some(Self { always, verb, tail: &source.tail, scope: &source.scope, protocol, ports })
    }

    /// Without its ports, if they can stand in one list with those of others.
    fn lead(&self) -> Lead<'a> {
        let apart = if self.ports.is_empty() || self.ports.starts_with("not ") { self.ports } else { LIST };
        let Self { always, verb, tail, scope, .. } = *self;
        Lead { always, verb, tail, scope, apart }
    }
}

/// Stands for ports that are listed.
const LIST: &str = "list";

/// What items have in common that are one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Lead<'a> {
    always: bool,
    verb: &'a str,
    tail: &'a str,
    scope: &'a str,
    apart: &'a str,
}

/// Protocol and ports, as [`Shape`] has them.
type PortItem<'a> = (&'a str, &'a str);

/// A line of a summary: rules that differ in their ports alone.
struct Line<'a> {
    lead: Lead<'a>,
    prefixes: Vec<Prefix>,
    items: Vec<PortItem<'a>>,
}

impl Line<'_> {
    /// Narrower before wider, then what wins a tie.
    fn order(&self) -> impl Ord + use<'_> {
        let Lead { always, verb, scope, tail, apart } = self.lead;
        let of_node = [" to node", " from node"].iter().any(|words| tail.starts_with(words));
        let widest = self.prefixes.iter().map(|&prefix| if of_node { 0 } else { width(prefix) }).max();
        let ports = self.items.iter().map(|(_, ports)| count(ports)).max();
        let everybodys = !tail.contains(" as ");
        (
            !always,
            widest,
            ports,
            everybodys,
            level(scope),
            verb,
            (scope, tail, apart),
            &self.items,
            &self.prefixes,
        )
    }

    fn text(
        &self,
        profile: &str,
        direction: Direction,
        (namer, within): (&Namer<'_>, &Within),
        lists: &mut Lists,
    ) -> String {
        let Lead { always, verb, tail, .. } = self.lead;
        let mut text = format!("{}{verb}", if always { "always " } else { "" });
        for words in [self.ports(profile, namer)].iter().filter(|words| !words.is_empty()) {
            let _ = write!(text, " {words}");
        }
        if self.prefixes != [Prefix::Any] {
            let addresses = namer.addresses(profile, &self.prefixes, within, lists);
            let _ = write!(text, " {} {addresses}", direction.preposition());
        }
        text + tail
    }

    /// Sets, then ports that are in none; nothing for all.
    fn ports(&self, profile: &str, namer: &Namer<'_>) -> String {
        let mut items: Vec<String> = self
            .items
            .iter()
            .map(|(protocol, ports)| format!("{protocol} {ports}").trim_end().to_owned())
            .collect();
        items.sort_unstable();
        let (mut words, rest) = namer.ports(profile, &items);
        let of = |protocol: &str| {
            let mut ports: Vec<&str> =
                rest.iter().filter_map(|item| Some(item.strip_prefix(protocol)?.trim_start())).collect();
            ports.sort_by_key(|ports| (first(ports), *ports));
            ports
        };
        let (tcp, udp) = (of("tcp"), of("udp"));
        let list =
            |protocol: &str, ports: &[&str]| format!("{protocol} {}", ports.join(", ")).trim_end().to_owned();
        if tcp == udp && tcp != [""] && !tcp.is_empty() {
            words.push(list("any", &tcp));
        } else if tcp != udp {
            let both = [("tcp", &tcp), ("udp", &udp)].into_iter().filter(|(_, ports)| !ports.is_empty());
            words.extend(both.map(|(protocol, ports)| list(protocol, ports)));
        }
        words.join(", ")
    }
}

/// How many addresses, roughly: of both families on one scale.
const fn width(prefix: Prefix) -> u8 {
    match prefix {
        Prefix::Any => u8::MAX,
        Prefix::V4 { len, .. } => 32_u8.saturating_sub(len),
        Prefix::V6 { len, .. } => 128_u8.saturating_sub(len).div_ceil(4),
    }
}

/// How many ports an item has.
fn count(ports: &str) -> u32 {
    let number = |text: &str| text.parse::<u32>().unwrap_or_default();
    let range = |text: &str| match text.split_once('-') {
        Some((first, last)) => number(last).saturating_sub(number(first)) + 1,
        None => 1,
    };
    match ports.strip_prefix("not ") {
        Some(others) => 65_536_u32.saturating_sub(others.split(", ").map(range).sum()),
        None if ports.is_empty() => 65_536,
        None => range(ports),
    }
}

/// The first port of an item that is a port or a range.
fn first(ports: &str) -> u32 {
    ports.split('-').next().and_then(|first| first.parse().ok()).unwrap_or_default()
}

/// Narrow scopes first.
fn level(scope: &str) -> u8 {
    match scope {
        _ if scope.contains('/') => 0,
        _ if scope.contains('+') => 1,
        "" => 3,
        _ => 2,
    }
}

/// Reads rules out of an image.
struct Summarizer<'a> {
    image: &'a MapImage,
    namer: &'a Namer<'a>,
    deciders: Vec<Vec<(SourceId, u8)>>,
}

impl<'a> Summarizer<'a> {
    fn profile(&self, profile: &Profile) -> (Body, [Lists; 2]) {
        let mut head = String::new();
        write_credited(&mut head, "exempt", &exemptions(self.image, &profile.exempt));
        write_credited(&mut head, "accelerate", &accelerations(self.image, profile));
        write_array(&mut head, "on", &ons(profile));
        let mut lists = [Lists::default(), Lists::default()];
        let [outbound, inbound] = &mut lists;
        let sides = [(Direction::Outbound, outbound), (Direction::Inbound, inbound)];
        let sides = sides.map(|(direction, lists)| self.side(profile, direction, lists));
        (Body { head, sides }, lists)
    }

    /// The arrays of one direction.
    fn side(&self, profile: &Profile, direction: Direction, lists: &mut Lists) -> String {
        let sides: Vec<&Side> = profile.trees(direction).collect();
        let within = self.namer.within(&sides);
        let lines: Vec<(String, String)> = (self.lines(&sides).iter())
            .map(|line| {
                let text = line.text(&profile.name, direction, (self.namer, &within), lists);
                (text, scope(line.lead.scope).to_owned())
            })
            .collect();
        let mut text = String::new();
        lists.write(&mut text);
        write_credited(&mut text, "rules", &lines);
        write_array(&mut text, "built-in", &self.built_in(&sides));
        text
    }

    /// Items with the same prefixes that differ in nothing but ports, together.
    fn lines(&self, sides: &[&Side]) -> Vec<Line<'a>> {
        // A rule without address is no part of a list.
        let mut prefixes: BTreeMap<(Shape<'a>, bool), BTreeSet<Prefix>> = BTreeMap::new();
        let trees = sides.iter().flat_map(|side| [&side.tree, &side.own]);
        let mut deciding: Vec<(Prefix, SourceId)> = trees.flat_map(|tree| self.deciding(tree)).collect();
        // Classes of processes have most of them in common.
        deciding.sort_unstable();
        deciding.dedup();
        for (prefix, source) in deciding {
            if let Some(shape) = Shape::of(self.image.source(source)) {
                prefixes.entry((shape, prefix == Prefix::Any)).or_default().insert(prefix);
            }
        }
        let mut lines: BTreeMap<(Lead<'a>, Vec<Prefix>), Vec<PortItem<'a>>> = BTreeMap::new();
        for ((shape, _), prefixes) in prefixes {
            let key = (shape.lead(), prefixes.into_iter().collect());
            lines.entry(key).or_default().push((shape.protocol, shape.ports));
        }
        let mut lines: Vec<Line<'_>> =
            lines.into_iter().map(|((lead, prefixes), items)| Line { lead, prefixes, items }).collect();
        lines.sort_by(|one, other| one.order().cmp(&other.order()));
        lines
    }

    /// The sources of rules that decide at nodes of `tree`, each with its own prefix.
    fn deciding(&self, tree: &[Node]) -> Vec<(Prefix, SourceId)> {
        let parents = parents(tree);
        let mut known: Vec<(u32, SourceId)> = Vec::new();
        for (index, node) in (0u32..).zip(tree) {
            for table in Protocol::ALL.map(|protocol| node.table(protocol)) {
                for &(source, up) in self.deciders.get(table.0 as usize).into_iter().flatten() {
                    let mut at = index;
                    for _ in 0..up {
                        at = parents.get(at as usize).copied().flatten().unwrap_or(at);
                    }
                    known.push((at, source));
                }
            }
        }
        known.sort_unstable();
        known.dedup();
        let is_rule = |source: SourceId| self.image.source(source).kind == SourceKind::Rule;
        let rules = known.into_iter().filter(|&(_, source)| is_rule(source));
        rules.filter_map(|(node, source)| Some((tree.get(node as usize)?.prefix, source))).collect()
    }

    /// What is excluded, or denied, without a rule that says so.
    fn built_in(&self, sides: &[&Side]) -> Vec<String> {
        let nodes = sides.iter().flat_map(|side| side.tree.iter().chain(&side.own));
        let tables: BTreeSet<_> =
            nodes.flat_map(|node| Protocol::ALL.map(|protocol| (protocol, node.table(protocol)))).collect();
        let mut unnamed: BTreeSet<(SourceKind, &str)> = BTreeSet::new();
        let closing = [BuiltIn::SidecarPort, BuiltIn::OutboundPort].map(BuiltIn::word);
        let mut closed: BTreeMap<(&str, Protocol), Vec<PortRange>> = BTreeMap::new();
        for &(protocol, table) in &tables {
            for (range, decision) in self.image.port_table(table).into_iter().flat_map(PortTable::ranges) {
                let source = self.image.source(decision.source);
                match source.kind {
                    SourceKind::BuiltIn if closing.contains(&source.head.as_str()) => {
                        closed.entry((&source.head, protocol)).or_default().push(range);
                    }
                    SourceKind::BuiltIn | SourceKind::NoRule => {
                        unnamed.insert((source.kind, &source.head));
                    }
                    _ => {}
                }
            }
        }
        let mut lines = closed_ports(closed);
        if !unnamed.is_empty() {
            let words: Vec<&str> =
                unnamed.into_iter().rev().map(|(kind, head)| unnamed_words(kind, head)).collect();
            lines.push(format!("exclude what no rule names: {}", words.join(", ")));
        }
        lines
    }
}

fn unnamed_words(kind: SourceKind, head: &str) -> &str {
    match (kind, head) {
        (SourceKind::NoRule, _) => "whatever is left",
        (_, "own-address") => "own addresses",
        (_, "multicast") => "multicast and broadcast",
        _ => head,
    }
}

/// Ports of sidecars.
fn closed_ports(closed: BTreeMap<(&str, Protocol), Vec<PortRange>>) -> Vec<String> {
    let mut by_port: BTreeMap<(&str, PortSet), Vec<Protocol>> = BTreeMap::new();
    for ((closed, protocol), ranges) in closed {
        by_port.entry((closed, ranges.into_iter().collect())).or_default().push(protocol);
    }
    let line = |((closed, ports), protocols): (&(&str, PortSet), &Vec<Protocol>)| {
        let protocol = match protocols.as_slice() {
            [Protocol::Tcp] => "tcp",
            [Protocol::Udp] => "udp",
            _ => "any",
        };
        if *closed == BuiltIn::SidecarPort.word() {
            format!("exclude {protocol} {ports}, sidecars' own")
        } else {
            format!("deny {protocol} {ports} from elsewhere, to which only outbound redirects lead")
        }
    };
    by_port.iter().map(line).collect()
}

/// What decides in a port table, each once.
fn deciders(table: &PortTable) -> Vec<(SourceId, u8)> {
    let mut all: Vec<(SourceId, u8)> =
        table.stretches.iter().map(|(_, decision)| (decision.source, decision.up)).collect();
    all.sort_unstable();
    all.dedup();
    all
}
