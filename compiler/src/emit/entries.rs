//! Every entry of the maps, one a line, sorted by map and key, each with the item that made it.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use mesh_bpf::flow::{Direction, Protocol, Verdict};
use mesh_bpf::image::{IdRange, MapImage, Node, Profile, Source, SourceId, parents};
use mesh_bpf::ports::PortRange;
use mesh_bpf::prefix::Prefix;

use super::names::{TableName, TableNames, owner, owners};
use super::toml::{Escaped, Quoted, push_prefix, push_range};

/// The maps, sorted by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Map {
    /// Ports on which connections are accelerated.
    Accelerate,
    /// Prefixes, with the port tables that decide there.
    Addresses,
    /// Identities that are not touched.
    Exempt,
    /// What happens where a sidecar is missing or a pod cannot be meshed.
    On,
    /// The same as addresses, for a member's own.
    OwnAddresses,
    /// Ports, with the verdict.
    Ports,
}

impl Map {
    /// All of them, sorted.
    pub const ALL: [Self; 6] =
        [Self::Accelerate, Self::Addresses, Self::Exempt, Self::On, Self::OwnAddresses, Self::Ports];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accelerate => "accelerate",
            Self::Addresses => "addresses",
            Self::Exempt => "exempt",
            Self::On => "on",
            Self::OwnAddresses => "own-addresses",
            Self::Ports => "ports",
        }
    }
}

/// One entry of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry<'a> {
    /// The map.
    pub map: Map,
    /// The profile that it is part of.
    pub profile: &'a str,
    /// The direction, where the map has one.
    pub direction: Option<Direction>,
    /// What is looked up.
    pub key: Key<'a>,
    /// What is found.
    pub value: Value,
    /// Which item made it: its source and its address.
    pub item: Option<(SourceId, Prefix)>,
}

/// What is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key<'a> {
    /// An address, by longest prefix.
    Prefix(Prefix),
    /// One of the member's own addresses.
    Own(Prefix),
    /// A port of a table.
    Ports(TableName, PortRange),
    /// A user id.
    Uid(IdRange),
    /// A group id.
    Gid(IdRange),
    /// A cgroup or a descendant.
    Cgroup(&'a str),
    /// A port between a member and its own sidecar.
    Local(PortRange),
    /// A port between the sidecars of two profiles.
    Peer(&'a str, PortRange),
    /// An event of `on`.
    Event(&'static str),
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Prefix(prefix) => write!(f, "{prefix}"),
            Self::Own(prefix) => write!(f, "own {prefix}"),
            Self::Ports(table, range) => write!(f, "{table} {}", real(range)),
            Self::Uid(range) => write!(f, "uid {range}"),
            Self::Gid(range) => write!(f, "gid {range}"),
            Self::Cgroup(path) => write!(f, "cgroup {path}"),
            Self::Local(range) => write!(f, "local {range}"),
            Self::Peer(peer, range) => write!(f, "{peer} {range}"),
            Self::Event(event) => f.write_str(event),
        }
    }
}

/// No rule names port 0; the kernel decides it as port 1.
fn real(range: PortRange) -> PortRange {
    PortRange { first: range.first.max(1), ..range }
}

/// What is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// The port tables for TCP and UDP.
    Tables(TableName, TableName),
    /// What happens to the flow.
    Verdict(Verdict),
    /// It is in the set.
    Member,
    /// What `on` says.
    Answer(&'static str),
}

/// As TOML.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tables(tcp, udp) => write!(f, "[{}, {}]", Quoted(tcp), Quoted(udp)),
            Self::Verdict(verdict) => Quoted(verdict).fmt(f),
            Self::Member => f.write_str("true"),
            Self::Answer(answer) => Quoted(answer).fmt(f),
        }
    }
}

/// Gives every entry to `each`, sorted by map, profile, direction and key.
pub fn for_each_entry<'a>(image: &'a MapImage, mut each: impl FnMut(&Entry<'a>)) {
    for map in Map::ALL {
        for profile in &image.profiles {
            entries_of(image, map, profile, &mut each);
        }
    }
}

/// Writes a section for each map and, within, a place for each mesh and workload.
pub(super) fn write(text: &mut String, image: &MapImage) {
    let mut places: BTreeMap<String, Vec<&Profile>> =
        owners(image).into_iter().map(|owner| (owner, Vec::new())).collect();
    for profile in &image.profiles {
        places.entry(owner(&profile.name)).or_default().push(profile);
    }
    let mut pen = Pen::new(text, image);
    for map in Map::ALL {
        let _ = writeln!(pen.text, "\n[map.{}]", map.name());
        for (owner, profiles) in &places {
            // The line stays where profiles come and go, so that edits of neighbours do not touch.
            let _ = writeln!(pen.text, "\n# {}: {owner}", map.name());
            for profile in profiles {
                entries_of(image, map, profile, &mut |entry| pen.line(entry));
            }
        }
    }
}

/// Writes lines. There may be hundreds of thousands, so what repeats is formatted once.
struct Pen<'a> {
    text: &'a mut String,
    image: &'a MapImage,
    /// By source: what stands before and after the prefix of its items.
    credits: Vec<Option<(String, String)>>,
    /// The table names that were last quoted: of TCP and UDP.
    tables: [Option<(TableName, String)>; 2],
    /// The place that was last written.
    place: Option<(&'a str, Option<Direction>, String)>,
}

impl<'a> Pen<'a> {
    fn new(text: &'a mut String, image: &'a MapImage) -> Self {
        Self { text, image, credits: vec![None; image.sources.len()], tables: [None, None], place: None }
    }

    fn line(&mut self, entry: &Entry<'a>) {
        self.place(entry.profile, entry.direction);
        match entry.key {
            Key::Prefix(prefix) => push_prefix(self.text, prefix),
            Key::Own(prefix) => {
                self.text.push_str("own ");
                push_prefix(self.text, prefix);
            }
            Key::Ports(table, range) => {
                let _ = write!(self.text, "{table} ");
                push_range(self.text, real(range));
            }
            key => {
                let _ = write!(self.text, "{}", Escaped(key));
            }
        }
        self.text.push_str("\" = ");
        if let Value::Tables(tcp, udp) = entry.value {
            self.text.push('[');
            self.table(0, tcp);
            self.text.push_str(", ");
            self.table(1, udp);
            self.text.push(']');
        } else {
            let _ = write!(self.text, "{}", entry.value);
        }
        if let Some((source, prefix)) = entry.item {
            self.text.push_str(" # ");
            self.credit(source, prefix);
        }
        self.text.push('\n');
    }

    /// The quotation mark, the profile and the direction: no line is the same as one of another profile, so
    /// that texts can be compared and merged line by line.
    fn place(&mut self, profile: &'a str, direction: Option<Direction>) {
        let known = self.place.as_ref().filter(|known| (known.0, known.1) == (profile, direction));
        if known.is_none() {
            let direction_word = direction.map_or_else(String::new, |direction| format!("{direction} "));
            let text = format!("\"{} {direction_word}", Escaped(profile));
            self.place = Some((profile, direction, text));
        }
        self.text.push_str(self.place.as_ref().map_or("", |known| &known.2));
    }

    /// A table's name, quoted.
    fn table(&mut self, slot: usize, name: TableName) {
        let Some(slot) = self.tables.get_mut(slot) else { return };
        let (_, quoted) = match slot {
            Some(known) if known.0 == name => known,
            _ => slot.insert((name, Quoted(name).to_string())),
        };
        self.text.push_str(quoted);
    }

    /// The same as [`Source::credit`].
    fn credit(&mut self, id: SourceId, prefix: Prefix) {
        let source = self.image.source(id);
        if prefix == Prefix::Any || source.direction.is_none() {
            self.text.push_str(&source.credit(prefix));
            return;
        }
        let Some(slot) = self.credits.get_mut(id.0 as usize) else { return };
        let (before, after) = slot.get_or_insert_with(|| {
            let preposition = source.direction.map_or("", Direction::preposition);
            let plain = Source { tail: String::new(), ..source.clone() }.credit(Prefix::Any);
            (format!("{plain} {preposition} "), source.tail.clone())
        });
        self.text.push_str(before);
        push_prefix(self.text, prefix);
        self.text.push_str(after);
    }
}

impl Entry<'_> {
    /// Profile, direction and key, as the compiled output has them.
    #[must_use]
    pub fn place(&self) -> String {
        let direction = self.direction.map_or_else(String::new, |direction| format!("{direction} "));
        format!("{} {direction}{}", self.profile, self.key)
    }
}

/// How a line of another profile names this one: by its workload if it has one, so that no line changes
/// when a scope of that workload begins or ceases to write something.
fn party(profile: &str) -> &str {
    profile.rsplit_once('/').map_or(profile, |(_, workload)| workload)
}

/// The entries of one profile in one map.
fn entries_of<'a>(image: &'a MapImage, map: Map, profile: &'a Profile, each: &mut dyn FnMut(&Entry<'a>)) {
    let entry = |key, value, item| Entry { map, profile: &profile.name, direction: None, key, value, item };
    match map {
        Map::Accelerate => {
            for &(range, source) in &profile.acceleration.local {
                each(&entry(Key::Local(range), Value::Member, Some((source, Prefix::Any))));
            }
            for (peer, ranges) in &profile.acceleration.peers {
                let peer = image.profile(*peer).map_or("", |peer| party(&peer.name));
                for &(range, source) in ranges {
                    each(&entry(Key::Peer(peer, range), Value::Member, Some((source, Prefix::Any))));
                }
            }
        }
        Map::Exempt => {
            let exempt = &profile.exempt;
            let uids = exempt.uids.iter().map(|&(range, source)| (Key::Uid(range), source));
            let gids = exempt.gids.iter().map(|&(range, source)| (Key::Gid(range), source));
            let cgroups = exempt.cgroups.iter().map(|(path, source)| (Key::Cgroup(path), *source));
            for (key, source) in uids.chain(gids).chain(cgroups) {
                each(&entry(key, Value::Member, Some((source, Prefix::Any))));
            }
        }
        Map::On => {
            for (event, refuse, other) in [
                ("failed-attach", profile.failed_attach_refuse, "start"),
                ("missing-sidecar", profile.missing_sidecar_refuse, "pass"),
            ] {
                let answer = Value::Answer(if refuse { "refuse" } else { other });
                each(&entry(Key::Event(event), answer, None));
            }
        }
        Map::Addresses | Map::OwnAddresses | Map::Ports => {
            for direction in Direction::ALL {
                let entry =
                    |key, value, item| Entry { direction: Some(direction), ..entry(key, value, item) };
                of_side(image, map, profile, direction, &mut |key, value, item| {
                    each(&entry(key, value, Some(item)));
                });
            }
        }
    }
}

fn of_side(
    image: &MapImage,
    map: Map,
    profile: &Profile,
    direction: Direction,
    each: &mut dyn FnMut(Key<'static>, Value, (SourceId, Prefix)),
) {
    let side = profile.side(direction);
    let names = TableNames::of(side);
    let nodes = match map {
        Map::Addresses => &side.tree,
        Map::OwnAddresses => &side.own,
        _ => {
            let trees = [&side.tree, &side.own].map(|tree| Tree { nodes: tree, parents: parents(tree) });
            for &id in &names.order {
                if let (Some(&name), Some(table)) = (names.get(id), image.port_table(id)) {
                    let [tree, own] = &trees;
                    for (range, decision) in table.ranges() {
                        let prefix = if name.own { own } else { tree }.above(name.node, decision.up);
                        let item = (decision.source, prefix);
                        each(Key::Ports(name, range), Value::Verdict(decision.verdict), item);
                    }
                }
            }
            return;
        }
    };
    let key = if map == Map::OwnAddresses { Key::Own } else { Key::Prefix };
    for node in nodes {
        let [tcp, udp] = Protocol::ALL.map(|protocol| names.get(node.table(protocol)).copied());
        if let (Some(tcp), Some(udp)) = (tcp, udp) {
            each(key(node.prefix), Value::Tables(tcp, udp), (node.source, node.prefix));
        }
    }
}

struct Tree<'a> {
    nodes: &'a [Node],
    parents: Vec<Option<u32>>,
}

impl Tree<'_> {
    /// The prefix of the node `up` steps above.
    fn above(&self, node: usize, up: u8) -> Prefix {
        let mut at = node;
        for _ in 0..up {
            at = self.parents.get(at).copied().flatten().map_or(at, |parent| parent as usize);
        }
        self.nodes.get(at).map_or(Prefix::Any, |node| node.prefix)
    }
}
