//! Which rule makes a flow change: one that is new, or one that is gone.

use mesh_bpf::flow::{Flow, Identity};
use mesh_bpf::image::{MapImage, Node, Source, SourceKind};
use mesh_bpf::item::counter_key;
use mesh_bpf::prefix::Prefix;

use super::{FlowChange, Side};
use crate::explain::look_up;

/// Addresses, and ports of each, at which a change is looked at. Its flows may have several causes.
const SAMPLES: usize = 3;

/// What makes flows change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    /// The item with its scope: `shop: exclude outbound tcp 3306`.
    pub text: String,
    /// Its items, by which lines are found: the key of the counter, and the text.
    pub items: Vec<(u64, String)>,
    /// It has more of them.
    pub are_more: bool,
    /// Whether it decided and is gone, rather than decides and is new.
    pub gone: bool,
}

/// The causes of a change: those of its first addresses and ports, each once.
#[must_use]
pub fn causes(old: Option<Side<'_>>, new: Option<Side<'_>>, change: &FlowChange) -> Vec<Cause> {
    let mut found: Vec<Found<'_>> = Vec::new();
    for flow in samples(change) {
        let identity = change.who.as_ref().map(|who| who.example.clone()).unwrap_or_default();
        let before = old.and_then(|side| Decider::of(side.image, change.was(), &flow, &identity));
        let after = new.and_then(|side| Decider::of(side.image, &change.workload, &flow, &identity));
        let Some((decider, gone)) = cause(before, after, (old, new), change) else { continue };
        match found.iter_mut().find(|known| (known.source, known.gone) == (decider.source, gone)) {
            Some(known) if known.prefixes.contains(&decider.prefix) => {}
            Some(known) => known.prefixes.push(decider.prefix),
            None => found.push(Found { source: decider.source, prefixes: vec![decider.prefix], gone }),
        }
    }
    let is_whole = change.patch.addresses.len() <= SAMPLES;
    found.iter().map(|found| found.cause(is_whole)).collect()
}

/// Items of one rule that make flows change.
struct Found<'a> {
    source: &'a Source,
    prefixes: Vec<Prefix>,
    gone: bool,
}

impl Found<'_> {
    /// `is_whole` says that all addresses were looked at.
    fn cause(&self, is_whole: bool) -> Cause {
        let first = self.prefixes.first().copied().unwrap_or(Prefix::Any);
        let hash = self.source.stable_hash();
        let item = |&prefix: &Prefix| (counter_key(hash, prefix), self.source.text(prefix));
        let items = self.prefixes.iter().map(item).collect();
        let text = match (self.prefixes.as_slice(), self.source.direction) {
            ([_, _, ..], Some(direction)) => {
                let prefixes: Vec<String> = self.prefixes.iter().map(ToString::to_string).collect();
                let more = if is_whole { "" } else { ", …" };
                let head =
                    format!("{} {} {}{more}", self.source.head, direction.preposition(), prefixes.join(", "));
                Source { head, direction: None, ..self.source.clone() }.credit(Prefix::Any)
            }
            _ => self.source.credit(first),
        };
        Cause { text, items, are_more: self.prefixes.len() > 1 && !is_whole, gone: self.gone }
    }
}

fn samples(change: &FlowChange) -> impl Iterator<Item = Flow> + '_ {
    let FlowChange { direction, protocol, own, ref patch, .. } = *change;
    patch.addresses.iter().take(SAMPLES).flat_map(move |range| {
        let address = range.first_address();
        let ports = patch.ports.ranges().iter().take(SAMPLES);
        ports.map(move |ports| Flow { direction, protocol, address, port: ports.first.max(1), own })
    })
}

/// The item that decides a flow.
struct Decider<'a> {
    source: &'a Source,
    prefix: Prefix,
}

impl<'a> Decider<'a> {
    fn of(image: &'a MapImage, workload: &str, flow: &Flow, identity: &Identity) -> Option<Self> {
        let found = look_up(image, image.workload(workload)?.profile, flow, identity)?;
        Some(Self { source: image.source(found.source), prefix: found.item })
    }

    /// Whether a workload has the same item.
    fn is_in(&self, image: &MapImage, workload: &str, change: &FlowChange) -> bool {
        let profile = image.workload(workload).and_then(|workload| image.profile(workload.profile));
        let Some(profile) = profile else { return false };
        let trees = profile.trees(change.direction);
        let trees = trees.map(|side| if change.own { &side.own } else { &side.tree });
        let at_prefix = |tree: &'_ Vec<Node>| {
            let node = tree.binary_search_by_key(&self.prefix, |node| node.prefix).ok();
            node.and_then(|at| tree.get(at)).map(|node| node.table(change.protocol))
        };
        let tables = trees.filter_map(at_prefix).filter_map(|table| image.port_table(table));
        tables
            .flat_map(|table| &table.stretches)
            .any(|(_, decision)| decision.up == 0 && image.source(decision.source) == self.source)
    }

    fn is_rule(&self) -> bool {
        self.source.kind == SourceKind::Rule
    }
}

/// What makes a flow change, and whether it is gone.
fn cause<'a>(
    before: Option<Decider<'a>>,
    after: Option<Decider<'a>>,
    (old, new): (Option<Side<'_>>, Option<Side<'_>>),
    change: &FlowChange,
) -> Option<(Decider<'a>, bool)> {
    let was = |one: &Decider<'_>| old.is_some_and(|side| one.is_in(side.image, change.was(), change));
    let is = |one: &Decider<'_>| new.is_some_and(|side| one.is_in(side.image, &change.workload, change));
    match (before, after) {
        (_, Some(after)) if after.is_rule() && !was(&after) => Some((after, false)),
        (Some(before), _) if before.is_rule() && !is(&before) => Some((before, true)),
        (_, after) => Some((after?, false)),
    }
}
