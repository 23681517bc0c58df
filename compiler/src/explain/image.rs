//! One look-up in a map image: the decision, and the entries that make it.

use std::net::IpAddr;

use mesh_bpf::flow::{Direction, Flow, Identity, Verdict};
use mesh_bpf::image::{IdRange, MapImage, Node, Profile, ProfileId, Side, SourceId, parents};
use mesh_bpf::prefix::Prefix;
use mesh_bpf::selector::{deepest, interface_by};

use super::EntryText;
use crate::emit::{Map, class_text, own_rulings, ports_text};
use crate::hir::region::{AddressRange, Cell, cells};

/// What the maps say about a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What happens.
    pub verdict: Verdict,
    /// What decided, without its address.
    pub source: SourceId,
    /// Its address.
    pub item: Prefix,
    /// What was looked up, in order.
    pub entries: Vec<EntryText>,
}

/// Decides a flow as the programs do: identity, then longest prefix, then port. `None` where the image is
/// not whole.
#[must_use]
pub fn look_up(image: &MapImage, profile: ProfileId, flow: &Flow, identity: &Identity) -> Option<Found> {
    let profile = image.profile(profile)?;
    if let Some((key, source)) = exempt(profile, flow, identity) {
        let key = format!("{} {key}", profile.name);
        let entry = EntryText { map: Map::Exempt.name().to_owned(), key, value: "exempt".to_owned() };
        let verdict = Verdict::Excluded;
        return Some(Found { verdict, source, item: Prefix::Any, entries: vec![entry] });
    }
    let side = side(profile, flow.direction, identity)?;
    let tree = if flow.own { &side.own } else { &side.tree };
    let at = deciding(tree, flow)?;
    let (_, decision) = image.port_table(tree.get(at)?.table(flow.protocol))?.lookup(flow.port)?;
    let entry = entry(image, (profile, identity), tree, at, flow)?;
    let item = above(tree, at, decision.up)?;
    Some(Found { verdict: decision.verdict, source: decision.source, item, entries: vec![entry] })
}

/// What decides one port of a profile, address by address.
#[derive(Debug)]
pub struct ByAddress<'a> {
    image: &'a MapImage,
    tree: &'a [Node],
    cells: Vec<Cell>,
    flow: Flow,
}

impl<'a> ByAddress<'a> {
    /// Of a flow, whatever its address.
    #[must_use]
    pub fn new(image: &'a MapImage, profile: ProfileId, flow: &Flow, identity: &Identity) -> Option<Self> {
        let side = side(image.profile(profile)?, flow.direction, identity)?;
        let tree: &[Node] = if flow.own { &side.own } else { &side.tree };
        let prefixes: Vec<Prefix> = tree.iter().map(|node| node.prefix).collect();
        Some(Self { image, tree, cells: cells(&prefixes), flow: *flow })
    }

    /// Verdict and source at an address.
    #[must_use]
    pub fn at(&self, address: IpAddr) -> Option<(Verdict, SourceId)> {
        let at = AddressRange::of(Prefix::host(address))?;
        let after =
            self.cells.partition_point(|cell| (cell.range.family, cell.range.first) <= (at.family, at.first));
        let node = self.tree.get(self.cells.get(after.checked_sub(1)?)?.deepest?)?;
        let (_, decision) = self.image.port_table(node.table(self.flow.protocol))?.lookup(self.flow.port)?;
        Some((decision.verdict, decision.source))
    }

    /// The addresses that a member can have, in pieces that nothing cuts.
    pub fn pieces(&self) -> impl Iterator<Item = AddressRange> {
        let ranges = self.cells.iter().map(|cell| cell.range);
        ranges.filter(|range| Prefix::host(range.first_address()).apart().is_none())
    }
}

/// The entry that decides: of the prefix itself, or of the nearest one around it that names the port.
fn entry(
    image: &MapImage,
    (profile, identity): (&Profile, &Identity),
    tree: &[Node],
    node: usize,
    flow: &Flow,
) -> Option<EntryText> {
    let parents = parents(tree);
    let parent = |node: usize| parents.get(node).copied().flatten().map(|parent| parent as usize);
    let mut path: Vec<usize> = std::iter::successors(Some(node), |&node| parent(node)).collect();
    path.reverse();
    for (depth, &at) in path.iter().enumerate().rev() {
        let (node, around) = (tree.get(at)?, parent(at).and_then(|around| tree.get(around)));
        let rulings = own_rulings(image, node, around, u8::try_from(depth).ok()?, flow.protocol);
        let Some(ruling) = rulings.iter().find(|ruling| ruling.ports.contains(flow.port)) else { continue };
        let own = if flow.own { "own " } else { "" };
        let name = &profile.name;
        let class = match profile.classes.class_of(flow.direction, identity) {
            0 => String::new(),
            class => format!("({}) ", class_text(&profile.classes, flow.direction, class)),
        };
        let key = format!("{name} {} {class}{own}{} {}", flow.direction, node.prefix, flow.protocol);
        let key = format!("{key} {}", ports_text(&ruling.ports)).trim_end().to_owned();
        return Some(EntryText { map: Map::Flows.name().to_owned(), key, value: ruling.verdict.to_string() });
    }
    None
}

/// What decides about flows with these ends.
fn side<'p>(profile: &'p Profile, direction: Direction, identity: &Identity) -> Option<&'p Side> {
    profile.trees(direction).nth(profile.classes.class_of(direction, identity) as usize)
}

/// The node with the longest prefix that holds the flow's address: the last one, since a prefix comes
/// before all that it covers.
fn deciding(tree: &[Node], flow: &Flow) -> Option<usize> {
    tree.iter().rposition(|node| node.prefix.contains(flow.address))
}

fn above(tree: &[Node], node: usize, up: u8) -> Option<Prefix> {
    let mut at = node;
    if up > 0 {
        let parents = parents(tree);
        for _ in 0..up {
            at = (*parents.get(at)?)? as usize;
        }
    }
    tree.get(at).map(|node| node.prefix)
}

/// The exemption that covers a flow: uid, gid, then the deepest cgroup, then the interface.
fn exempt(profile: &Profile, flow: &Flow, identity: &Identity) -> Option<(String, SourceId)> {
    let by_id = |kind: &str, ranges: &[(IdRange, SourceId)], id: Option<u32>| {
        let id = id?;
        let (range, source) = ranges.iter().find(|(range, _)| range.contains(id))?;
        Some((format!("{kind} {range}"), *source))
    };
    let exempt = &profile.exempt;
    let by_cgroup = || {
        let found = deepest(&exempt.cgroups, identity.cgroup.as_deref());
        found.map(|(path, source)| (format!("cgroup {path}"), *source))
    };
    let by_interface = || {
        let found = interface_by(&exempt.interfaces, identity.interface.as_deref());
        found.map(|(name, source)| (format!("interface {name}"), *source))
    };
    match flow.direction {
        // What comes from an address of its own came in by loopback.
        Direction::Inbound if flow.own => None,
        Direction::Inbound => by_interface(),
        Direction::Outbound => by_id("uid", &exempt.uids, identity.uid)
            .or_else(|| by_id("gid", &exempt.gids, identity.gid))
            .or_else(by_cgroup)
            .or_else(by_interface),
    }
}
