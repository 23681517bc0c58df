//! One direction of one profile, address by address.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::flow::{Direction, Flow, Protocol};
use mesh_bpf::image::{Decision, MapImage, ProfileId};
use mesh_bpf::intern::Interner;
use mesh_bpf::pack::Ports;
use mesh_bpf::ports::PortRange;
use mesh_bpf::prefix::{Apart, Prefix};
use mesh_bpf::sim::{AddressSpan, Sim, TreeOf};
use mesh_hir::item::BuiltIn;
use mesh_hir::region::{AddressRange, Cell, Family, cells};
use mesh_hir::{Program, ScopeId};

use super::disproof::{Disproof, plain};
use super::meaning::{Around, Boxes, Expected, SetId, SidecarPorts};

/// A direction of the profile that is looked at.
pub(super) struct Side<'a> {
    pub(super) boxes: &'a Boxes<'a>,
    pub(super) sim: &'a Sim<'a>,
    pub(super) image: &'a MapImage,
    pub(super) direction: Direction,
}

/// What is known of one tree of a profile, for all its classes of processes.
#[derive(Default)]
struct Known {
    /// Distinct sets of sets of boxes.
    distinct: Interner<Vec<SetId>>,
    /// Distinct ways out: the one from the prefix around, what kind of addresses, the sets that are written.
    ways: Interner<(Option<u32>, Option<Apart>, u32)>,
    /// Ways and port tables that say the same.
    agreed: BTreeSet<(u32, Protocol, Ports)>,
    meanings: BTreeMap<(u32, Protocol), Vec<(u16, Expected)>>,
}

/// What is known of both trees of a direction of a profile.
#[derive(Default)]
pub(super) struct Memory {
    trees: [Known; 2],
}

/// The prefixes that cut the addresses, in pre-order, and what is written there.
struct Sites {
    prefixes: Vec<Prefix>,
    /// For each its sets of boxes, by number.
    sets: Vec<u32>,
    /// For each the innermost prefix around it.
    parents: Vec<Option<usize>>,
    /// For each a number that is equal where the same is written all the way out.
    ways: Vec<u32>,
    own: bool,
}

impl Side<'_> {
    /// Proves both trees of a class of processes. `written` is what the scopes of the profile write about it.
    pub(super) fn prove(
        &self,
        program: &Program,
        scopes: &[ScopeId],
        (profile, class): (ProfileId, u32),
        written: &[(Prefix, SetId)],
        memory: &mut Memory,
    ) -> Result<(), Box<Disproof>> {
        let sidecar_ports = match self.direction {
            Direction::Outbound => SidecarPorts::default(),
            Direction::Inbound => self.boxes.sidecar_ports(program, scopes),
        };
        for (own, known) in [false, true].into_iter().zip(&mut memory.trees) {
            let sites = Sites::of(written, own, known);
            let tree = TreeOf { profile, class, direction: self.direction, own };
            let spans = self.sim.address_spans(tree);
            let spans = spans.ok_or_else(|| plain("a tree of addresses", "none"))?;
            Comparison {
                side: self,
                sites: &sites,
                sidecar_ports: &sidecar_ports,
                known,
                ways: Vec::new(),
                first: spans.iter().map(|span| span.node).min().unwrap_or(0),
            }
            .all(&spans)?;
        }
        Ok(())
    }
}

impl Sites {
    fn of(written: &[(Prefix, SetId)], own: bool, known: &mut Known) -> Self {
        let mut all: Vec<(Prefix, Option<SetId>)> = (written.iter())
            .filter(|(prefix, _)| !own || prefix.is_host())
            .map(|&(p, set)| (p, Some(set)))
            .collect();
        all.push((Prefix::Any, None));
        if !own {
            all.extend(Prefix::all_apart().map(|prefix| (prefix, None)));
        }
        all.sort();
        let mut sites =
            Self { prefixes: Vec::new(), sets: Vec::new(), parents: Vec::new(), ways: Vec::new(), own };
        let mut open: Vec<usize> = Vec::new();
        for run in all.chunk_by(|a, b| a.0 == b.0) {
            let Some(&(prefix, _)) = run.first() else { continue };
            while open.last().and_then(|&i| sites.prefixes.get(i)).is_some_and(|outer| !outer.covers(prefix))
            {
                open.pop();
            }
            let parent = open.last().copied();
            let sets = known.distinct.intern(run.iter().filter_map(|&(_, set)| set).collect());
            open.push(sites.prefixes.len());
            let inherits = parent.filter(|&parent| sites.reaches_on(parent, prefix));
            let outer = inherits.and_then(|parent| sites.ways.get(parent)).copied();
            sites.ways.push(known.ways.intern((outer, prefix.apart(), sets)));
            sites.prefixes.push(prefix);
            sites.sets.push(sets);
            sites.parents.push(parent);
        }
        sites
    }

    /// Whether rules of an outer prefix reach into an inner one.
    fn reaches_on(&self, outer: usize, inner: Prefix) -> bool {
        let outer = self.prefixes.get(outer).copied();
        outer.is_some_and(|outer| !self.own && outer.apart() == inner.apart())
    }

    /// What is written around the addresses of a site, inside out.
    fn around<'k>(&self, site: usize, known: &'k Interner<Vec<SetId>>) -> Option<Around<'k>> {
        let innermost = *self.prefixes.get(site)?;
        let mut levels = Vec::new();
        let mut next = Some(site);
        while let Some(at) = next {
            let sets = known.values().get(*self.sets.get(at)? as usize)?;
            levels.push((*self.prefixes.get(at)?, sets.as_slice()));
            next = (*self.parents.get(at)?).filter(|&outer| self.reaches_on(outer, innermost));
        }
        let default =
            if self.own { Some(BuiltIn::OwnAddress) } else { innermost.apart().map(BuiltIn::of_apart) };
        Some(Around { levels, default })
    }
}

/// The comparison of one tree.
struct Comparison<'a> {
    side: &'a Side<'a>,
    sites: &'a Sites,
    sidecar_ports: &'a SidecarPorts,
    known: &'a mut Known,
    /// By node, less `first`: the site that its way to the root was found to be that of.
    ways: Vec<Option<usize>>,
    /// The least node of the tree.
    first: u32,
}

impl Comparison<'_> {
    /// Walks pieces of policy and of table side by side; both are in order and hold every address.
    fn all(mut self, spans: &[AddressSpan]) -> Result<(), Box<Disproof>> {
        let cells = cells(&self.sites.prefixes);
        let (mut cell, mut span) = (0, 0);
        while let (Some(piece), Some(stretch)) = (cells.get(cell), spans.get(span)) {
            let found = range(stretch).filter(|found| found.family == piece.range.family);
            let found = found.ok_or_else(|| plain("every address in order", "a gap"))?;
            self.piece(piece, found, stretch.node)?;
            if piece.range.last <= found.last {
                cell += 1;
            }
            if found.last <= piece.range.last {
                span += 1;
            }
        }
        if cell == cells.len() && span == spans.len() { Ok(()) } else { Err(plain("every address", "fewer")) }
    }

    /// Compares a piece with the node that serves it.
    fn piece(&mut self, piece: &Cell, found: AddressRange, node: u32) -> Result<(), Box<Disproof>> {
        let site = piece.deepest.ok_or_else(|| plain("a prefix for every address", "none"))?;
        let way = *self.sites.ways.get(site).ok_or_else(|| plain("a prefix for every address", "none"))?;
        let address = found.family.address(found.first.max(piece.range.first));
        self.way_out(node, site)?;
        for protocol in Protocol::ALL {
            let ports = self.side.sim.ports(node, protocol);
            let ports = ports.ok_or_else(|| plain("a port table", "none"))?;
            if self.known.agreed.contains(&(way, protocol, ports)) {
                continue;
            }
            self.ports(site, way, protocol, ports).map_err(|(port, expected, found)| {
                let (direction, own) = (self.side.direction, self.sites.own);
                let flow = Flow { direction, protocol, address, port, own };
                Box::new(Disproof { workload: None, flow: Some(flow), identity: None, expected, found })
            })?;
            self.known.agreed.insert((way, protocol, ports));
        }
        Ok(())
    }

    /// The node and those above it must have the prefixes around the site.
    fn way_out(&mut self, node: u32, site: usize) -> Result<(), Box<Disproof>> {
        let (mut node, mut site) = (node, site);
        while self.is_new(node, site) {
            let expected = self.sites.prefixes.get(site).copied();
            let (prefix, above) = self.side.sim.node(node).ok_or_else(|| plain("a node", "none"))?;
            let outer = self.sites.parents.get(site).copied().flatten();
            if Some(prefix) != expected || above.is_some() != outer.is_some() {
                let expected = expected.map_or_else(|| "no prefix".to_owned(), |prefix| prefix.to_string());
                return Err(plain(expected, prefix));
            }
            let (Some(above), Some(outer)) = (above, outer) else { break };
            (node, site) = (above, outer);
        }
        Ok(())
    }

    /// Whether this node was not yet looked at as that of `site`.
    fn is_new(&mut self, node: u32, site: usize) -> bool {
        let Some(index) = node.checked_sub(self.first) else { return true };
        if self.ways.len() <= index as usize {
            self.ways.resize(index as usize + 1, None);
        }
        self.ways.get_mut(index as usize).is_none_or(|known| known.replace(site) != Some(site))
    }

    /// Compares meaning and port table at every port; gives back the first that differs.
    fn ports(
        &mut self,
        site: usize,
        way: u32,
        protocol: Protocol,
        ports: Ports,
    ) -> Result<(), (u16, String, String)> {
        let (side, sites) = (self.side, self.sites);
        let ranges = side.sim.port_ranges(ports).unwrap_or_default();
        let Known { distinct, meanings, .. } = &mut *self.known;
        let meaning = meanings.entry((way, protocol)).or_insert_with(|| {
            let around = sites.around(site, distinct);
            around.map_or_else(Vec::new, |around| side.boxes.expected(&around, protocol, self.sidecar_ports))
        });
        let mut starts: Vec<u16> = meaning.iter().map(|step| step.0).collect();
        starts.extend(ranges.iter().map(|(range, _)| range.first.max(1)));
        starts.sort_unstable();
        starts.dedup();
        for port in starts {
            let expected = crate::eval::at(meaning, port);
            let found = decision_at(&ranges, port);
            let equal = expected.zip(found).is_some_and(|(expected, found)| {
                expected.tied.is_none()
                    && found.verdict == expected.verdict
                    && Some(found.source) == expected.source
                    && usize::from(found.up) == expected.up
            });
            if !equal {
                return Err((port, self.expectation(site, expected), self.finding(site, found)));
            }
        }
        Ok(())
    }

    fn expectation(&self, site: usize, expected: Option<Expected>) -> String {
        expected.map_or_else(
            || "a decision".to_owned(),
            |Expected { verdict, source, up, tied }| {
                let item = source.map(|source| self.side.image.source(source).credit(self.prefix(site, up)));
                let item = item.as_deref().unwrap_or("an item that the tables do not know");
                let tied = tied.and_then(|tied| Some((self.side.boxes.tied(tied)?, tied.up)));
                let tied = tied.map_or_else(String::new, |((verdict, source), up)| {
                    format!(" or, with the same right, {verdict} by {}", source.credit(self.prefix(site, up)))
                });
                format!("{verdict} by {item}{tied}")
            },
        )
    }

    fn finding(&self, site: usize, found: Option<Decision>) -> String {
        found.map_or_else(
            || "none".to_owned(),
            |found| {
                let prefix = self.prefix(site, found.up.into());
                format!("{} by {}", found.verdict, self.side.image.source(found.source).credit(prefix))
            },
        )
    }

    fn prefix(&self, site: usize, up: usize) -> Prefix {
        let around = self.sites.around(site, &self.known.distinct);
        around.and_then(|around| around.levels.get(up).map(|level| level.0)).unwrap_or(Prefix::Any)
    }
}

fn range(span: &AddressSpan) -> Option<AddressRange> {
    use std::net::IpAddr::{V4, V6};
    match (span.first, span.last) {
        (V4(first), V4(last)) => Some(AddressRange {
            family: Family::V4,
            first: first.to_bits().into(),
            last: last.to_bits().into(),
        }),
        (V6(first), V6(last)) => {
            Some(AddressRange { family: Family::V6, first: first.to_bits(), last: last.to_bits() })
        }
        _ => None,
    }
}

fn decision_at(ranges: &[(PortRange, Decision)], port: u16) -> Option<Decision> {
    let after = ranges.partition_point(|(range, _)| range.first <= port);
    let &(range, decision) = ranges.get(after.checked_sub(1)?)?;
    range.contains(port).then_some(decision)
}
