//! The flows that are decided otherwise, piece by piece.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use mesh_bpf::flow::{Direction, Protocol, Verdict};
use mesh_bpf::image::{Classes, IdRange, MapImage, ProfileId, SourceId};
use mesh_bpf::map::Table;
use mesh_bpf::pack::Ports;
use mesh_bpf::ports::{PortRange, PortSet};
use mesh_bpf::sim::{AddressSpan, Sim, TreeOf};
use mesh_bpf::tables::Damaged;

use super::merge::{Patch, merge};
use super::processes::joint;
use super::{Ends, ExemptionChange, FlowChange, MemberChange, MemberChangeKind, Side};
use crate::hir::region::{AddressRange, Family};

/// Ports that two port tables decide differently.
type PortChanges = Vec<(PortSet, Verdict, Verdict)>;
/// Pieces of flow space by how they change.
type Pieces = BTreeMap<(Direction, bool, Protocol, Verdict, Verdict), Vec<(AddressRange, PortSet)>>;
/// The same, merged.
type Changes = Vec<((Direction, bool, Protocol, Verdict, Verdict), Patch)>;
/// Changes with who is at the ends, where not all are meant.
type Whose = Vec<(Changes, Option<Ends>)>;

const DAMAGED: Damaged = Damaged { table: Table::Trees, what: "it is no tree" };

/// Every flow whose verdict changes, in the fewest lines for each workload.
pub(super) fn changes(old: Option<Side<'_>>, new: Option<Side<'_>>) -> Result<Vec<FlowChange>, Damaged> {
    let mut comparison =
        Comparison { old: Reader::new(old)?, new: Reader::new(new)?, ports: BTreeMap::new() };
    let mut by_profiles: BTreeMap<(Option<ProfileId>, Option<ProfileId>), Rc<Whose>> = BTreeMap::new();
    let profile = |side: Option<Side<'_>>, name: &str| Some(side?.image.workload(name)?.profile);
    let mut found = Vec::new();
    let images = (old.map(|side| side.image), new.map(|side| side.image));
    let renames = renames(images.0, images.1);
    for name in names(images.0, images.1, &renames) {
        let renamed = renames.get(name).copied();
        let pair = (profile(old, renamed.unwrap_or(name)), profile(new, name));
        let changes = match by_profiles.get(&pair) {
            Some(known) => Rc::clone(known),
            None => {
                let profiles = [(images.0, pair.0), (images.1, pair.1)];
                let classes = profiles.map(|(image, profile)| Some(&image?.profile(profile?)?.classes));
                let changes = Rc::new(comparison.profiles(pair, classes)?);
                by_profiles.insert(pair, Rc::clone(&changes));
                changes
            }
        };
        for (changes, who) in changes.iter() {
            found.extend(changes.iter().map(|&((direction, own, protocol, before, after), ref patch)| {
                FlowChange {
                    workload: name.to_owned(),
                    renamed: renamed.map(str::to_owned),
                    direction,
                    protocol,
                    patch: patch.clone(),
                    own,
                    who: who.clone(),
                    before,
                    after,
                }
            }));
        }
    }
    Ok(found)
}

/// New names with the old ones.
type Renames<'a> = BTreeMap<&'a str, &'a str>;

/// Workloads that are only in the new policy and select what one does that is only in the old one.
fn renames<'a>(old: Option<&'a MapImage>, new: Option<&'a MapImage>) -> Renames<'a> {
    let (Some(old), Some(new)) = (old, new) else { return Renames::new() };
    let gone = old.workloads.iter().filter(|workload| new.workload(&workload.name).is_none());
    let gone: BTreeMap<_, _> = gone.map(|workload| (&workload.selector, workload.name.as_str())).collect();
    let come = new.workloads.iter().filter(|workload| old.workload(&workload.name).is_none());
    come.filter_map(|workload| Some((workload.name.as_str(), *gone.get(&workload.selector)?))).collect()
}

/// All workloads, renamed ones by their new names.
fn names<'a>(
    old: Option<&'a MapImage>,
    new: Option<&'a MapImage>,
    renames: &Renames<'a>,
) -> BTreeSet<&'a str> {
    let all = [old, new].into_iter().flatten().flat_map(|image| &image.workloads);
    let gone: BTreeSet<&str> = renames.values().copied().collect();
    all.map(|workload| workload.name.as_str()).filter(|name| !gone.contains(name)).collect()
}

/// One side of the comparison, read through its tables.
struct Reader<'a>(Option<Sim<'a>>);

impl<'a> Reader<'a> {
    fn new(side: Option<Side<'a>>) -> Result<Self, Damaged> {
        Ok(Self(side.map(|side| Sim::new(side.tables)).transpose()?))
    }

    /// Every address with its node. A workload that is not there has one piece a family and no node.
    fn spans(&self, tree: Option<TreeOf>) -> Result<Vec<Piece>, Damaged> {
        match (&self.0, tree) {
            (Some(sim), Some(tree)) => {
                Ok(sim.address_spans(tree).ok_or(DAMAGED)?.into_iter().map(Piece::of).collect())
            }
            _ => Ok(Family::ALL.map(|family| Piece { range: AddressRange::all(family), node: None }).into()),
        }
    }

    fn by_port(&self, node: Option<u32>, protocol: Protocol) -> Option<Ports> {
        self.0.as_ref()?.ports(node?, protocol)
    }

    fn ports(&self, by_port: Option<Ports>) -> Result<Vec<(PortRange, Verdict)>, Damaged> {
        match (&self.0, by_port) {
            (Some(sim), Some(by_port)) => {
                let ranges = sim.port_ranges(by_port).ok_or(DAMAGED)?;
                Ok(ranges.into_iter().map(|(range, decision)| (range, decision.verdict)).collect())
            }
            _ => Ok(vec![(PortRange::ALL, Verdict::Excluded)]),
        }
    }
}

/// Addresses that one node serves.
#[derive(Clone, Copy)]
struct Piece {
    range: AddressRange,
    node: Option<u32>,
}

impl Piece {
    fn of(span: AddressSpan) -> Self {
        let bits = |address| match address {
            IpAddr::V4(address) => (Family::V4, u128::from(address.to_bits())),
            IpAddr::V6(address) => (Family::V6, address.to_bits()),
        };
        let ((family, first), (_, last)) = (bits(span.first), bits(span.last));
        Self { range: AddressRange { family, first, last }, node: Some(span.node) }
    }
}

/// Compares two sides and remembers which pairs of port tables it has seen.
struct Comparison<'a> {
    old: Reader<'a>,
    new: Reader<'a>,
    ports: BTreeMap<(Option<Ports>, Option<Ports>), Rc<PortChanges>>,
}

impl Comparison<'_> {
    /// What changes for everybody first, then what does for some alone.
    fn profiles(
        &mut self,
        profiles: (Option<ProfileId>, Option<ProfileId>),
        classes: [Option<&Classes>; 2],
    ) -> Result<Whose, Damaged> {
        let nobody = Classes::default();
        let [old, new] = classes.map(|classes| classes.unwrap_or(&nobody));
        let (mut everybodys, mut whose) = (Vec::new(), Vec::new());
        for direction in Direction::ALL {
            let joint = joint(direction, old, new);
            let by_pair: Vec<Changes> = (joint.pairs.iter())
                .map(|&classes| self.of_classes(profiles, classes, direction))
                .collect::<Result<_, _>>()?;
            // Each change once, with the pairs of classes that it is about.
            let mut changes: Vec<(&_, BTreeSet<usize>)> = Vec::new();
            let mut places: BTreeMap<&_, usize> = BTreeMap::new();
            for (pair, change) in
                by_pair.iter().enumerate().flat_map(|(pair, all)| all.iter().map(move |it| (pair, it)))
            {
                let place = *places.entry(change).or_insert(changes.len());
                match changes.get_mut(place) {
                    Some((_, pairs)) => drop(pairs.insert(pair)),
                    None => changes.push((change, BTreeSet::from([pair]))),
                }
            }
            let (all, some): (Vec<_>, Vec<_>) =
                changes.into_iter().partition(|(_, pairs)| pairs.len() == by_pair.len());
            everybodys.extend(all.into_iter().map(|(change, _)| change.clone()));
            let named = |(change, pairs): (&_, _)| (vec![Clone::clone(change)], Some(joint.named(&pairs)));
            whose.extend(some.into_iter().map(named));
        }
        whose.insert(0, (everybodys, None));
        Ok(whose)
    }

    fn of_classes(
        &mut self,
        (old, new): (Option<ProfileId>, Option<ProfileId>),
        [old_class, new_class]: [u32; 2],
        direction: Direction,
    ) -> Result<Changes, Damaged> {
        let mut pieces = Pieces::new();
        for own in [false, true] {
            let tree = |class: u32| move |profile: ProfileId| TreeOf { profile, class, direction, own };
            let left = self.old.spans(old.map(tree(old_class)))?;
            let right = self.new.spans(new.map(tree(new_class)))?;
            for (range, before, after) in cut(&left, &right) {
                for protocol in Protocol::ALL {
                    let pair = (self.old.by_port(before, protocol), self.new.by_port(after, protocol));
                    for (ports, before, after) in self.port_changes(pair)?.iter() {
                        let key = (direction, own, protocol, *before, *after);
                        pieces.entry(key).or_default().push((range, ports.clone()));
                    }
                }
            }
        }
        let merged = pieces
            .into_iter()
            .flat_map(|(key, pieces)| merge(&pieces).into_iter().map(move |patch| (key, patch)));
        Ok(merged.collect())
    }

    fn port_changes(&mut self, pair: (Option<Ports>, Option<Ports>)) -> Result<Rc<PortChanges>, Damaged> {
        if let Some(known) = self.ports.get(&pair) {
            return Ok(Rc::clone(known));
        }
        let (left, right) = (self.old.ports(pair.0)?, self.new.ports(pair.1)?);
        let mut changed: BTreeMap<(Verdict, Verdict), Vec<PortRange>> = BTreeMap::new();
        let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
        while let (Some(&(a, before)), Some(&(b, after))) = (left.peek(), right.peek()) {
            // No rule names port 0, which is decided as port 1.
            let common = PortRange { first: a.first.max(b.first).max(1), last: a.last.min(b.last) };
            if before != after && common.first <= common.last {
                changed.entry((before, after)).or_default().push(common);
            }
            if a.last <= b.last {
                left.next();
            }
            if b.last <= a.last {
                right.next();
            }
        }
        let changes = (changed.into_iter())
            .map(|((before, after), ranges)| (ranges.into_iter().collect(), before, after))
            .collect();
        let changes = Rc::new(changes);
        self.ports.insert(pair, Rc::clone(&changes));
        Ok(changes)
    }
}

/// The pieces of both sides, cut at the boundaries of either.
fn cut(left: &[Piece], right: &[Piece]) -> Vec<(AddressRange, Option<u32>, Option<u32>)> {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    let mut cut = Vec::new();
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let (a_last, b_last) = (a.range.last, b.range.last);
        let first = a.range.first.max(b.range.first);
        cut.push((AddressRange { first, last: a_last.min(b_last), ..a.range }, a.node, b.node));
        if a_last <= b_last {
            left.next();
        }
        if b_last <= a_last {
            right.next();
        }
    }
    cut
}

/// Identities and interfaces that are exempt on one side only.
pub(super) fn exemptions(old: &MapImage, new: &MapImage) -> Vec<ExemptionChange> {
    let mut found = Vec::new();
    let renames = renames(Some(old), Some(new));
    for name in names(Some(old), Some(new), &renames) {
        let was = renames.get(name).copied().unwrap_or(name);
        let (before, after) = (identities(old, was), identities(new, name));
        let change = |identity: &String, exempt| ExemptionChange {
            workload: name.to_owned(),
            identity: identity.clone(),
            exempt,
        };
        found.extend(before.difference(&after).map(|identity| change(identity, false)));
        found.extend(after.difference(&before).map(|identity| change(identity, true)));
    }
    found
}

fn identities(image: &MapImage, workload: &str) -> BTreeSet<String> {
    let profile = image.workload(workload).and_then(|workload| image.profile(workload.profile));
    let Some(exempt) = profile.map(|profile| &profile.exempt) else { return BTreeSet::new() };
    let uids = joined(&exempt.uids).into_iter().map(|ids| format!("uid {ids}"));
    let gids = joined(&exempt.gids).into_iter().map(|ids| format!("gid {ids}"));
    let cgroups = exempt.cgroups.iter().map(|(path, _)| format!("cgroup \"{path}\""));
    // A name that another pattern covers is exempt without its own.
    let is_covered = |name: &str| {
        let others = exempt.interfaces.iter().map(|(other, _)| other.as_str()).filter(|other| *other != name);
        let beginning = name.strip_suffix('*').unwrap_or(name);
        others.filter_map(|other| other.strip_suffix('*')).any(|other| beginning.starts_with(other))
    };
    let interfaces = exempt.interfaces.iter().map(|(name, _)| name).filter(|name| !is_covered(name));
    let interfaces = interfaces.map(|name| format!("interface \"{name}\""));
    uids.chain(gids).chain(cgroups).chain(interfaces).collect()
}

/// Ranges that touch, as one: how they were written does not matter.
fn joined(ranges: &[(IdRange, SourceId)]) -> Vec<IdRange> {
    let mut joined: Vec<IdRange> = Vec::new();
    for &(range, _) in ranges {
        match joined.last_mut() {
            Some(last) if last.last.checked_add(1) == Some(range.first) => last.last = range.last,
            _ => joined.push(range),
        }
    }
    joined
}

/// Workloads that come, go or select others.
pub(super) fn members(old: &MapImage, new: &MapImage) -> Vec<MemberChange> {
    let renames = renames(Some(old), Some(new));
    let change = |name: &str| match (old.workload(name), new.workload(name)) {
        (None, _) => Some(match renames.get(name) {
            Some(&from) => MemberChangeKind::Renamed(from.to_owned()),
            None => MemberChangeKind::Added,
        }),
        (_, None) => Some(MemberChangeKind::Removed),
        (Some(before), Some(after)) => {
            (before.selector != after.selector).then_some(MemberChangeKind::Selectors)
        }
    };
    names(Some(old), Some(new), &renames)
        .into_iter()
        .filter_map(|name| Some(MemberChange { workload: name.to_owned(), what: change(name)? }))
        .collect()
}
