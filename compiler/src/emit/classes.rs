//! Addresses of one direction of a profile, in classes with equal rulings.
//!
//! A ruling is what a prefix decides otherwise than the prefix around it. Since a prefix says only that, a change of
//! what it inherits is written where it is made, and nowhere else.

use std::collections::{BTreeMap, HashMap};

use mesh_bpf::flow::{Protocol, Verdict};
use mesh_bpf::image::{
    Decision, MapImage, Node, PortTable, PortTableId, Side, SourceId, SourceKind, parents,
};
use mesh_bpf::ports::{PortRange, PortSet};
use mesh_bpf::prefix::Prefix;

use crate::hir::item;

/// Ports that a prefix decides otherwise than the one around it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ruling {
    /// What happens.
    pub(crate) verdict: Verdict,
    /// Which item decided, without its address.
    pub(crate) source: SourceId,
    /// Whose address the item has.
    pub(crate) place: Place,
    /// The ports. Port 0, which no rule names, goes with port 1.
    pub(crate) ports: PortSet,
}

/// Whose address the item of a ruling has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Place {
    /// That of a prefix so many steps around this one: 0 is its own.
    Around(u8),
    /// It has none, or it is built in.
    Any,
}

/// Prefixes with equal rulings.
#[derive(PartialEq, Eq)]
pub(super) struct Class {
    /// Whether they are a member's own addresses.
    pub(super) own: bool,
    /// Sorted.
    pub(super) prefixes: Vec<Prefix>,
    /// The item that made them, where it is not the least of those that decide.
    pub(super) maker: Option<SourceId>,
    /// Of TCP, then UDP; sorted.
    pub(super) rulings: [Vec<Ruling>; 2],
}

/// All classes: `any` first, then by what made them, so that no class moves where another prefix comes.
pub(super) fn classes(image: &MapImage, side: &Side, rulings: &mut Known<'_>) -> Vec<Class> {
    let mut found: BTreeMap<(bool, bool, SourceId, [usize; 2]), Vec<Prefix>> = BTreeMap::new();
    for (own, nodes) in [(false, &side.tree), (true, &side.own)] {
        let parents = parents(nodes);
        let mut depths: Vec<u8> = Vec::with_capacity(nodes.len());
        for (node, parent) in nodes.iter().zip(parents) {
            let parent = parent.map(|parent| parent as usize);
            let depth = parent.and_then(|at| depths.get(at)).map_or(0, |depth| depth.saturating_add(1));
            depths.push(depth);
            let around = parent.and_then(|at| nodes.get(at));
            let both = Protocol::ALL.map(|protocol| rulings.of_node(node, around, depth, protocol));
            found.entry((own, node.prefix != Prefix::Any, node.source, both)).or_default().push(node.prefix);
        }
    }
    let mut classes: Vec<_> = (found.into_iter())
        .map(|((own, _, source, both), prefixes)| {
            let rulings = both.map(|id| rulings.all.get(id).cloned().unwrap_or_default());
            let maker = maker(image, source, &rulings);
            (source, Class { own, prefixes, maker, rulings })
        })
        .collect();
    classes.sort_by(|(one_source, one), (other_source, other)| {
        let key = |source, class: &Class| (class.own, class.prefixes.first() != Some(&Prefix::Any), source);
        (key(*one_source, one), &one.rulings).cmp(&(key(*other_source, other), &other.rulings))
    });
    classes.into_iter().map(|(_, class)| class).collect()
}

/// The item that made a prefix is mostly the least of those that decide there with its address, and need not be told.
fn maker(image: &MapImage, source: SourceId, rulings: &[Vec<Ruling>; 2]) -> Option<SourceId> {
    let place = rulings.iter().flatten().map(|ruling| (!is_rule(image, ruling.source), ruling.place)).min();
    let decides = |ruling: &&Ruling| Some((!is_rule(image, ruling.source), ruling.place)) == place;
    let sources = rulings.iter().flatten().filter(decides).map(|ruling| ruling.source);
    let least = sources.min_by_key(|&source| item::order(image.source(source), Prefix::Any));
    (least != Some(source)).then_some(source)
}

fn is_rule(image: &MapImage, source: SourceId) -> bool {
    image.source(source).kind == SourceKind::Rule
}

/// What a node itself decides about a protocol; `around` is the node around it.
#[must_use]
pub(crate) fn own_rulings(
    image: &MapImage,
    node: &Node,
    around: Option<&Node>,
    depth: u8,
    protocol: Protocol,
) -> Vec<Ruling> {
    let table = |node: &Node| image.port_table(node.table(protocol));
    let ranges = match (table(node), around.and_then(table)) {
        (Some(table), Some(around)) => otherwise(image, table, around),
        (Some(table), None) => table.ranges().collect(),
        (None, _) => Vec::new(),
    };
    let mut by_decision: BTreeMap<(Verdict, SourceId, Place), Vec<PortRange>> = BTreeMap::new();
    for (range, Decision { verdict, source, up }) in ranges {
        let is_any = up >= depth || !is_rule(image, source);
        let place = if is_any { Place::Any } else { Place::Around(up) };
        by_decision.entry((verdict, source, place)).or_default().push(range);
    }
    let ruling = |((verdict, source, place), ranges): (_, Vec<PortRange>)| Ruling {
        verdict,
        source,
        place,
        ports: ranges.into_iter().collect(),
    };
    by_decision.into_iter().map(ruling).collect()
}

/// The ranges of `table` that are not inherited from `around`.
fn otherwise(image: &MapImage, table: &PortTable, around: &PortTable) -> Vec<(PortRange, Decision)> {
    // What is built in has no address, so it is as near everywhere.
    let inherited = |other: Decision| match is_rule(image, other.source) {
        true => Decision { up: other.up.saturating_add(1), ..other },
        false => other,
    };
    let (mut ours, mut theirs) = (table.ranges().peekable(), around.ranges().peekable());
    let mut found = Vec::new();
    while let (Some(&(a, own)), Some(&(b, other))) = (ours.peek(), theirs.peek()) {
        if own != inherited(other) {
            found.push((PortRange { first: a.first.max(b.first), last: a.last.min(b.last) }, own));
        }
        if a.last <= b.last {
            ours.next();
        }
        if b.last <= a.last {
            theirs.next();
        }
    }
    found
}

/// Rulings that were seen, each once.
pub(super) struct Known<'a> {
    image: &'a MapImage,
    by_tables: HashMap<(PortTableId, Option<PortTableId>, u8), usize>,
    ids: HashMap<Vec<Ruling>, usize>,
    all: Vec<Vec<Ruling>>,
}

impl<'a> Known<'a> {
    pub(super) fn of(image: &'a MapImage) -> Self {
        Self { image, by_tables: HashMap::new(), ids: HashMap::new(), all: Vec::new() }
    }

    fn of_node(&mut self, node: &Node, around: Option<&Node>, depth: u8, protocol: Protocol) -> usize {
        let key = (node.table(protocol), around.map(|around| around.table(protocol)), depth);
        if let Some(&known) = self.by_tables.get(&key) {
            return known;
        }
        let rulings = own_rulings(self.image, node, around, depth, protocol);
        let next = self.all.len();
        let id = *self.ids.entry(rulings.clone()).or_insert(next);
        if id == next {
            self.all.push(rulings);
        }
        self.by_tables.insert(key, id);
        id
    }
}
