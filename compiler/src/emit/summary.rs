//! The top of the compiled output: what becomes of each workload's traffic.
//!
//! It names the items that decide at least one flow. An item that decides none (since narrower ones cover
//! it) is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use mesh_bpf::flow::{Direction, Protocol};
use mesh_bpf::image::{
    Exempt, MapImage, Node, PortTable, Profile, Side, Source, SourceId, SourceKind, parents,
};
use mesh_bpf::ports::{PortRange, PortSet};
use mesh_bpf::prefix::Prefix;

use super::names::{is_of_workload, selector_lines};
use super::toml::{Quoted, push_prefix, write_array};
use crate::hir::item::BuiltIn;

/// How many lines of one profile are written for each of its workloads. What is longer is written once.
const LONG: usize = 100;

/// Writes a section for each mesh and each workload. Where many workloads share a profile that is long, it
/// has a section of its own: a list of 100,000 prefixes is not there a thousand times.
pub(super) fn write(text: &mut String, image: &MapImage) {
    for mesh in &image.meshes {
        let _ = writeln!(text, "\n[mesh.{}]", Quoted(mesh));
    }
    let summarizer = Summarizer::of(image);
    let bodies: Vec<Body> = image.profiles.iter().map(|profile| Body::of(&summarizer, profile)).collect();
    for (profile, body) in image.profiles.iter().zip(&bodies).filter(|(_, body)| body.stands_apart) {
        body.write(text, &format!("profile.{}", Quoted(&profile.name)), "");
    }
    for workload in &image.workloads {
        let mut head = String::new();
        write_array(&mut head, "select", &selector_lines(&workload.selector));
        let name = format!("workload.{}", Quoted(&workload.name));
        let index = workload.profile.0 as usize;
        let (Some(profile), Some(body)) = (image.profiles.get(index), bodies.get(index)) else { continue };
        let _ = writeln!(head, "profile = {}", Quoted(&profile.name));
        if body.stands_apart {
            let _ = write!(text, "\n[{name}]\n{head}");
        } else {
            body.write(text, &name, &head);
        }
    }
}

/// What becomes of the traffic of a profile's workloads.
struct Body {
    head: String,
    sides: [String; 2],
    /// Whether it has a section of its own.
    stands_apart: bool,
}

impl Body {
    fn of(summarizer: &Summarizer<'_>, profile: &Profile) -> Self {
        let mut head = String::new();
        write_array(&mut head, "exempt", &exemptions(&profile.exempt));
        write_array(&mut head, "accelerate", &accelerations(summarizer.image, profile));
        write_array(&mut head, "on", &ons(profile));
        let sides = profile.sides.each_ref().map(|side| summarizer.side(side));
        let is_long = |text: &String| text.lines().nth(LONG).is_some();
        let stands_apart = !is_of_workload(&profile.name) && sides.iter().chain([&head]).any(is_long);
        Self { head, sides, stands_apart }
    }

    fn write(&self, text: &mut String, name: &str, above: &str) {
        let _ = write!(text, "\n[{name}]\n{above}{}", self.head);
        for (direction, side) in Direction::ALL.iter().zip(&self.sides) {
            let _ = write!(text, "\n[{name}.{direction}]\n{side}");
        }
    }
}

fn exemptions(exempt: &Exempt) -> Vec<String> {
    let uids = exempt.uids.iter().map(|(range, _)| format!("uid {range}"));
    let gids = exempt.gids.iter().map(|(range, _)| format!("gid {range}"));
    let cgroups = exempt.cgroups.iter().map(|(path, _)| format!("cgroup \"{path}\""));
    uids.chain(gids).chain(cgroups).collect()
}

fn accelerations(image: &MapImage, profile: &Profile) -> Vec<String> {
    let acceleration = &profile.acceleration;
    let all: BTreeSet<&str> = (acceleration.local.iter().chain(acceleration.peers.values().flatten()))
        .map(|(_, source)| image.source(*source).head.as_str())
        .collect();
    all.into_iter().map(|head| head.strip_prefix("accelerate ").unwrap_or(head).to_owned()).collect()
}

fn ons(profile: &Profile) -> [String; 2] {
    let word = |refuse, other| if refuse { "refuse" } else { other };
    [
        format!("missing-sidecar {}", word(profile.missing_sidecar_refuse, "pass")),
        format!("failed-attach {}", word(profile.failed_attach_refuse, "start")),
    ]
}

/// A source of a rule, taken apart. Items of both protocols that are else the same share a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shape<'a> {
    /// 0 redirected, 1 straight, 2 denied.
    array: usize,
    always: bool,
    ports: &'a str,
    preposition: &'static str,
    tail: &'a str,
}

impl<'a> Shape<'a> {
    fn of(source: &'a Source) -> Option<(Self, Protocol)> {
        let plain = source.head.strip_prefix("always ");
        let (verb, rest) = plain.unwrap_or(&source.head).split_once(' ')?;
        let (_, rest) = rest.split_once(' ')?;
        let (protocol, ports) = rest.split_once(' ').unwrap_or((rest, ""));
        let array = match verb {
            "redirect" => 0,
            "exclude" => 1,
            _ => 2,
        };
        let protocol = if protocol == "tcp" { Protocol::Tcp } else { Protocol::Udp };
        let preposition = source.direction.map_or("", Direction::preposition);
        let shape = Self { array, always: plain.is_some(), ports, preposition, tail: &source.tail };
        Some((shape, protocol))
    }
}

impl Shape<'_> {
    /// What stands before and after the prefix of its lines: quoted, with the comma.
    fn frame(&self, protocol: Option<Protocol>, has_prefix: bool) -> (String, String) {
        let mut words = Vec::with_capacity(4);
        match protocol {
            Some(Protocol::Tcp) => words.push("tcp"),
            Some(Protocol::Udp) => words.push("udp"),
            None if self.ports.is_empty() => {}
            None => words.push("any"),
        }
        if !self.ports.is_empty() {
            words.push(self.ports);
        }
        if has_prefix {
            words.extend([self.preposition, ""]);
        }
        let before = if words.is_empty() { "everything".to_owned() } else { words.join(" ") };
        let always = if self.always { " (always)" } else { "" };
        (format!("    \"{before}"), format!("{}{always}\",\n", self.tail))
    }
}

/// What is written in a summary: the shape by its place among all, and which protocols.
type Deciding = (Prefix, u32, Protocol);

/// What is known of the image before its profiles are looked at.
struct Summarizer<'a> {
    image: &'a MapImage,
    /// Distinct shapes, sorted.
    shapes: Vec<Shape<'a>>,
    /// For each source of a rule its shape and protocol.
    shape_of: Vec<Option<(u32, Protocol)>>,
    /// For each port table what decides in it, and how many nodes up it is written.
    deciders: Vec<Vec<(SourceId, u8)>>,
}

impl<'a> Summarizer<'a> {
    fn of(image: &'a MapImage) -> Self {
        let rule = |source: &'a Source| Shape::of(source).filter(|_| source.kind == SourceKind::Rule);
        let of_sources: Vec<Option<(Shape<'a>, Protocol)>> = image.sources.iter().map(rule).collect();
        let mut shapes: Vec<Shape<'a>> = of_sources.iter().flatten().map(|&(shape, _)| shape).collect();
        shapes.sort_unstable();
        shapes.dedup();
        let place = |(shape, protocol)| {
            let index = shapes.binary_search(&shape).ok()?;
            Some((u32::try_from(index).ok()?, protocol))
        };
        let shape_of = of_sources.iter().map(|of| of.and_then(place)).collect();
        Self { image, shape_of, shapes, deciders: image.port_tables.iter().map(deciders).collect() }
    }

    /// The arrays of one direction.
    fn side(&self, side: &Side) -> String {
        let mut deciding = Vec::new();
        for tree in [&side.tree, &side.own] {
            self.deciding(tree, &mut deciding);
        }
        deciding.sort_unstable();
        deciding.dedup();
        let mut arrays: [String; 3] = Default::default();
        let mut frames: BTreeMap<(u32, Option<Protocol>, bool), (String, String)> = BTreeMap::new();
        for run in deciding.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let Some(&(prefix, id, protocol)) = run.first() else { continue };
            let Some(shape) = self.shapes.get(id as usize) else { continue };
            let protocol = Some(protocol).filter(|_| run.len() == 1);
            let has_prefix = prefix != Prefix::Any;
            let (before, after) =
                frames.entry((id, protocol, has_prefix)).or_insert_with(|| shape.frame(protocol, has_prefix));
            if let Some(array) = arrays.get_mut(shape.array) {
                array.push_str(before);
                if has_prefix {
                    push_prefix(array, prefix);
                }
                array.push_str(after);
            }
        }
        let [_, straight, denied] = &mut arrays;
        self.built_in(side, straight, denied);
        let mut text = String::new();
        for (key, array) in ["redirected", "straight", "denied"].into_iter().zip(&arrays) {
            if !array.is_empty() {
                let _ = write!(text, "{key} = [\n{array}]\n");
            }
        }
        text
    }

    /// The items that decide at a node of `tree`, each with its own prefix.
    fn deciding(&self, tree: &[Node], deciding: &mut Vec<Deciding>) {
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
        deciding.extend(known.into_iter().filter_map(|(node, source)| {
            let (shape, protocol) = (*self.shape_of.get(source.0 as usize)?)?;
            Some((tree.get(node as usize)?.prefix, shape, protocol))
        }));
    }

    /// What goes straight, or is denied, without a rule that says so.
    fn built_in(&self, side: &Side, straight: &mut String, denied: &mut String) {
        let nodes = side.tree.iter().chain(&side.own);
        let tables: BTreeSet<_> =
            nodes.flat_map(|node| Protocol::ALL.map(|protocol| (protocol, node.table(protocol)))).collect();
        let mut found: BTreeSet<(SourceKind, &str)> = BTreeSet::new();
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
                        found.insert((source.kind, &source.head));
                    }
                    _ => {}
                }
            }
        }
        let mut by_port: BTreeMap<(&str, PortSet), Vec<Protocol>> = BTreeMap::new();
        for ((closed, protocol), ranges) in closed {
            by_port.entry((closed, ranges.into_iter().collect())).or_default().push(protocol);
        }
        for ((closed, ports), protocols) in &by_port {
            let protocol = match protocols.as_slice() {
                [Protocol::Tcp] => "tcp",
                [Protocol::Udp] => "udp",
                _ => "any",
            };
            let (array, which) = if *closed == BuiltIn::SidecarPort.word() {
                (&mut *straight, ", sidecars' own")
            } else {
                (&mut *denied, " from elsewhere, to which only outbound redirects lead")
            };
            let line = format_args!("{protocol} {ports}{which} (built-in)");
            let _ = writeln!(array, "    {},", Quoted(line));
        }
        for (kind, head) in found.into_iter().rev() {
            let line = match (kind, head) {
                (SourceKind::NoRule, _) => "whatever no rule names".to_owned(),
                (_, "own-address") => "own addresses that no rule names (built-in)".to_owned(),
                (_, "multicast") => "multicast and broadcast that no rule names (built-in)".to_owned(),
                (_, apart) => format!("{apart} that no rule names (built-in)"),
            };
            let _ = writeln!(straight, "    {},", Quoted(line));
        }
    }
}

/// What decides in a port table, each once.
fn deciders(table: &PortTable) -> Vec<(SourceId, u8)> {
    let mut all: Vec<(SourceId, u8)> =
        table.stretches.iter().map(|(_, decision)| (decision.source, decision.up)).collect();
    all.sort_unstable();
    all.dedup();
    all
}
