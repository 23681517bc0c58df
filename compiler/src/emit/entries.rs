//! Every entry, one a line, by profile: addresses and ports with the verdict and the item that made it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use mesh_bpf::flow::Direction;
use mesh_bpf::image::{MapImage, Profile, Source, SourceId, SourceKind};
use mesh_bpf::ports::{PortRange, PortSet};
use mesh_bpf::prefix::Prefix;

use super::classes::{Class, Known, Place, Ruling, classes};
use super::names::{identities, owner, owners};
use super::processes::class_of_profile;
use super::services::Within;
use super::sets::{Lists, Namer, Sets};
use super::toml::Quoted;

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Map {
    /// Ports on which connections are accelerated.
    Accelerate,
    /// Identities that are not touched.
    Exempt,
    /// Addresses and ports, with the verdict.
    Flows,
}

impl Map {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accelerate => "accelerate",
            Self::Exempt => "exempt",
            Self::Flows => "flows",
        }
    }
}

/// One entry, as a line of the compiled output.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// What it is about.
    pub map: Map,
    /// The profile that it is part of.
    pub profile: String,
    /// The direction of flows.
    pub direction: Option<Direction>,
    /// What is looked up.
    pub key: String,
    /// What is found.
    pub value: String,
    /// Which item made it.
    pub credit: String,
}

/// Every entry, profile by profile.
#[must_use]
pub fn entries(image: &MapImage, sets: &Sets) -> Vec<Entry> {
    let namer = Namer::of(sets);
    image.profiles.iter().flat_map(|profile| of_one(image, profile, &namer)).collect()
}

/// Those of one profile.
#[must_use]
pub fn entries_of(image: &MapImage, profile: &Profile, sets: &Sets) -> Vec<Entry> {
    of_one(image, profile, &Namer::of(sets))
}

fn of_one(image: &MapImage, profile: &Profile, namer: &Namer<'_>) -> Vec<Entry> {
    let mut lists = Lists::default();
    let mut all: Vec<Entry> = exemptions(image, profile).chain(accelerations(image, profile)).collect();
    for direction in Direction::ALL {
        let of_direction = Flows { image, profile, direction, namer };
        let (everybodys, otherwise) = of_direction.all(&mut lists);
        all.extend(everybodys);
        for (class, entries) in otherwise {
            let class = class.strip_prefix("as ").unwrap_or(&class);
            let named = |entry: Entry| Entry { key: format!("({class}) {}", entry.key), ..entry };
            all.extend(entries.into_iter().map(named));
        }
    }
    all
}

/// Writes a place for each mesh and workload, with the sections of its profiles. `told` are the lists that are above.
pub(super) fn write(text: &mut String, image: &MapImage, namer: &Namer<'_>, told: &[[Lists; 2]]) {
    let mut places: BTreeMap<String, Vec<(&Profile, &[Lists; 2])>> =
        owners(image).into_iter().map(|owner| (owner, Vec::new())).collect();
    for (profile, told) in image.profiles.iter().zip(told) {
        places.entry(owner(&profile.name)).or_default().push((profile, told));
    }
    for (owner, profiles) in &places {
        // The line stays where profiles come and go, so that edits of neighbours do not touch.
        let _ = writeln!(text, "\n# entries: {owner}");
        for (profile, told) in profiles {
            of_profile(text, image, profile, namer, told);
        }
    }
}

fn of_profile(text: &mut String, image: &MapImage, profile: &Profile, namer: &Namer<'_>, told: &[Lists; 2]) {
    let name = Quoted(&profile.name);
    let accelerated: Vec<Entry> = accelerations(image, profile).collect();
    if !accelerated.is_empty() {
        let _ = writeln!(text, "\n[entries.{name}.accelerate]");
        lines(text, &accelerated);
    }
    for (direction, told) in Direction::ALL.into_iter().zip(told) {
        let mut lists = told.others();
        let flows = Flows { image, profile, direction, namer };
        let (everybodys, otherwise) = flows.all(&mut lists);
        let _ = writeln!(text, "\n[entries.{name}.{direction}]");
        lists.write(text);
        lines(text, &everybodys);
        for (class, entries) in &otherwise {
            let _ = writeln!(text, "\n[entries.{name}.{direction}.{}]", Quoted(class));
            lines(text, entries);
        }
    }
}

fn lines<'e>(text: &mut String, entries: impl IntoIterator<Item = &'e Entry>) {
    for Entry { key, value, credit, .. } in entries {
        let _ = writeln!(text, "{} = {} # {credit}", Quoted(key), Quoted(value));
    }
}

/// They have no lines among the entries: the summary has them in full.
fn exemptions<'a>(image: &'a MapImage, profile: &'a Profile) -> impl Iterator<Item = Entry> + 'a {
    identities(&profile.exempt).map(|(key, source)| Entry {
        map: Map::Exempt,
        profile: profile.name.clone(),
        direction: None,
        key,
        value: "exempt".to_owned(),
        credit: image.source(source).credit(Prefix::Any),
    })
}

fn accelerations<'a>(image: &'a MapImage, profile: &'a Profile) -> impl Iterator<Item = Entry> + 'a {
    let acceleration = &profile.acceleration;
    let mut ports: BTreeMap<(&str, SourceId), Vec<PortRange>> = BTreeMap::new();
    let peers = acceleration.peers.iter().map(|(peer, ranges)| {
        let peer = image.profile(*peer).map_or("", |peer| party(&peer.name));
        (peer, ranges)
    });
    for (peer, ranges) in peers.chain([(LOCAL, &acceleration.local)]) {
        for &(range, source) in ranges {
            ports.entry((peer, source)).or_default().push(range);
        }
    }
    ports.into_iter().map(|((peer, source), ranges)| Entry {
        map: Map::Accelerate,
        profile: profile.name.clone(),
        direction: None,
        key: format!("{peer} tcp {}", ports_text(&ranges.into_iter().collect())).trim_end().to_owned(),
        value: "accelerated".to_owned(),
        credit: image.source(source).credit(Prefix::Any),
    })
}

/// Stands for a member's own sidecar; no workload has this name, since it is a word of the language.
const LOCAL: &str = "local";

/// How a line of another profile names this one: by its workload if it has one, so that no line changes
/// when a scope of that workload begins or ceases to write something.
fn party(profile: &str) -> &str {
    profile.rsplit_once('/').map_or(profile, |(_, workload)| workload)
}

/// One direction of a profile, from which entries are made.
struct Flows<'a> {
    image: &'a MapImage,
    profile: &'a Profile,
    direction: Direction,
    namer: &'a Namer<'a>,
}

/// Addresses with equal rulings, and their entries.
struct Group {
    addresses: String,
    entries: Vec<Entry>,
}

/// The entries of a class, by its name: `as uid 1000`, `to node`.
type OfProcesses = (String, Vec<Entry>);

impl Flows<'_> {
    /// Every entry about everybody; then, for each class that rules name, what it has otherwise.
    fn all(&self, lists: &mut Lists) -> (Vec<Entry>, Vec<OfProcesses>) {
        let mut known = Known::of(self.image);
        let mut trees = self.profile.trees(self.direction);
        let first = trees.next();
        let everybodys: Vec<Class> =
            first.into_iter().flat_map(|side| classes(self.image, side, &mut known)).collect();
        let within = self.namer.within(first.as_slice());
        let groups: Vec<Group> = everybodys.iter().map(|class| self.group(class, &within, lists)).collect();
        let mut named: Vec<OfProcesses> = (1..)
            .zip(trees)
            .map(|(class, side)| {
                let of_class = classes(self.image, side, &mut known);
                let within = self.namer.within(&[side]);
                let entries = self.otherwise((&of_class, &within), (&everybodys, &groups), lists);
                (class_of_profile(&self.profile.classes, self.direction, class).clause(), entries)
            })
            .collect();
        named.sort_unstable();
        (groups.into_iter().flat_map(|group| group.entries).collect(), named)
    }

    fn group(&self, class: &Class, within: &Within, lists: &mut Lists) -> Group {
        let own = if class.own { "own " } else { "" };
        let addresses =
            format!("{own}{}", self.namer.addresses(&self.profile.name, &class.prefixes, within, lists));
        let lines = of_class(self.image, class, self.direction).into_iter();
        let entries =
            lines.map(|(ports, value, credit)| self.entry(format!("{addresses}{ports}"), value, credit));
        Group { entries: entries.collect(), addresses }
    }

    /// The entries of a class of processes where everybody else has not the same for the same addresses.
    fn otherwise(
        &self,
        (of_class, within): (&[Class], &Within),
        (everybodys, groups): (&[Class], &[Group]),
        lists: &mut Lists,
    ) -> Vec<Entry> {
        fn addresses(class: &Class) -> (bool, &[Prefix]) {
            (class.own, &class.prefixes)
        }
        let known: HashMap<_, &Class> = everybodys.iter().map(|class| (addresses(class), class)).collect();
        let there: HashSet<_> = of_class.iter().map(addresses).collect();
        let others = of_class.iter().filter(|class| known.get(&addresses(class)) != Some(class));
        let entries = others.flat_map(|class| self.group(class, within, lists).entries).collect::<Vec<_>>();
        let gone = everybodys.iter().zip(groups).filter(|(class, _)| !there.contains(&addresses(class)));
        entries.into_iter().chain(gone.map(|(_, group)| self.gone(group))).collect()
    }

    /// These addresses are no group of a class: other lines of it have them, or what is around them does.
    fn gone(&self, group: &Group) -> Entry {
        self.entry(group.addresses.clone(), "by other lines".to_owned(), "no lines of their own".to_owned())
    }

    fn entry(&self, key: String, value: String, credit: String) -> Entry {
        let profile = self.profile.name.clone();
        Entry { map: Map::Flows, profile, direction: Some(self.direction), key, value, credit }
    }
}

/// Ports, verdict and credit of each line of a class. What TCP and UDP have in common is one line.
fn of_class(image: &MapImage, class: &Class, direction: Direction) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    if let Some(maker) = class.maker {
        let credit = image.source(maker).credit(Prefix::Any);
        found.push((String::new(), "prefix".to_owned(), credit));
    }
    let line = |protocol: &str, ruling: &Ruling| {
        let ports = ports_text(&ruling.ports);
        let space = if ports.is_empty() { "" } else { " " };
        let credit = credit(image.source(ruling.source), ruling.place, direction);
        (format!(" {protocol}{space}{ports}"), ruling.verdict.to_string(), credit)
    };
    let [tcp, udp] = &class.rulings;
    let mut left: Vec<&Ruling> = udp.iter().collect();
    for ruling in tcp {
        let twin = left.iter().position(|other| is_twin(image, ruling, other));
        if let Some(twin) = twin {
            left.remove(twin);
            let (ports, value, credit) = line("any", ruling);
            found.push((ports, value, of_both(&credit)));
        } else {
            found.push(line("tcp", ruling));
        }
    }
    found.extend(left.into_iter().map(|ruling| line("udp", ruling)));
    found
}

/// Whether a ruling about UDP says what another says about TCP.
fn is_twin(image: &MapImage, tcp: &Ruling, udp: &Ruling) -> bool {
    let (one, other) = (image.source(tcp.source), image.source(udp.source));
    let same = (tcp.verdict, tcp.place, &tcp.ports) == (udp.verdict, udp.place, &udp.ports);
    let texts = (&one.kind, &one.scope, &one.tail) == (&other.kind, &other.scope, &other.tail);
    let heads = match one.kind {
        SourceKind::Rule => one.head.replacen(" tcp", " udp", 1) == other.head,
        _ => one.head == other.head,
    };
    same && texts && heads
}

fn of_both(credit: &str) -> String {
    match credit.split_once("bound tcp") {
        Some((before, after)) => format!("{before}bound any{after}"),
        None => credit.to_owned(),
    }
}

fn credit(source: &Source, place: Place, direction: Direction) -> String {
    let text = source.credit(Prefix::Any);
    let preposition = direction.preposition();
    match (place, source.kind) {
        (Place::Around(0), SourceKind::Rule) => format!("{text} ({preposition} these)"),
        (Place::Around(0), _) | (Place::Any, _) => text,
        (Place::Around(1), _) => format!("{text} ({preposition} the prefix around)"),
        (Place::Around(steps), _) => format!("{text} ({preposition} the prefix {steps} around)"),
    }
}

/// Nothing for all ports; what is shorter of the ports and those that are left out.
pub(crate) fn ports_text(ports: &PortSet) -> String {
    // No rule names port 0; the kernel decides it as port 1.
    let real = |ranges: &PortSet| -> PortSet {
        let ranges = ranges.ranges().iter().filter(|range| range.last > 0);
        ranges.map(|range| PortRange { first: range.first.max(1), ..*range }).collect()
    };
    let (ports, others) = (real(ports), real(&ports.complement()));
    if others.is_empty() {
        String::new()
    } else if others.ranges().len() < ports.ranges().len() {
        format!("not {others}")
    } else {
        ports.to_string()
    }
}
