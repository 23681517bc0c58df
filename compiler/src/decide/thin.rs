//! Thins out a great many boxes before the sweep: of those at one place (one scope, one prefix, the same
//! processes), only the narrowest ranges at each port can decide.
//!
//! Ranges at one port that do not hold each other form a staircase: sorted by their first port, they are
//! sorted by their last. A range that holds a step waits until that step ends; then it is looked at again.

use std::collections::{BTreeMap, HashMap};

use mesh_bpf::ports::PortRange;

use super::boxes::{Boxes, Contender, Piece};
use super::items::WhoId;
use crate::hir::ScopeId;

/// The ranges where each box is among the narrowest of its place. Boxes with holes are left whole.
pub(crate) fn narrowest(boxes: Boxes<'_>, ranked: &[Contender]) -> Vec<Piece> {
    let mut places: HashMap<(Option<ScopeId>, u8, WhoId), usize> = HashMap::new();
    let mut staircases: Vec<BTreeMap<(u16, u16), Vec<u32>>> = Vec::new();
    let mut pieces = Vec::new();
    for (rank, &one) in (0u32..).zip(ranked) {
        let Some(extent) = boxes.extent(one) else { continue };
        match extent.hull {
            Some(hull) if extent.holed.is_none() => {
                let place =
                    *places.entry((boxes.scope(one), one.depth, extent.who)).or_insert(staircases.len());
                if place == staircases.len() {
                    staircases.push(BTreeMap::new());
                }
                if let Some(ranges) = staircases.get_mut(place) {
                    // A wider range sorts before a narrower one that begins at the same port.
                    ranges.entry((hull.first, u16::MAX - hull.last)).or_default().push(rank);
                }
            }
            _ => pieces.extend(boxes.pieces(rank, one)),
        }
    }
    for ranges in &staircases {
        Staircase::of(ranges).climb(&mut pieces);
    }
    pieces
}

/// The narrowest ranges at the present port, and those that wait for them.
struct Staircase<'a> {
    /// All ranges of the place, by first port, wider before narrower.
    ranges: Vec<Range<'a>>,
    /// Those that no other holds, sorted by first port, and so by last port too.
    steps: Vec<usize>,
}

struct Range<'a> {
    ports: PortRange,
    ranks: &'a [u32],
    /// Since which port it has been a step.
    since: u16,
    /// Wider ranges that hold it and are not looked at before it ends.
    waiting: Vec<usize>,
}

impl<'a> Staircase<'a> {
    fn of(ranges: &'a BTreeMap<(u16, u16), Vec<u32>>) -> Self {
        let range = |(&(first, from_top), ranks): (&(u16, u16), &'a Vec<u32>)| Range {
            ports: PortRange { first, last: u16::MAX - from_top },
            ranks,
            since: first,
            waiting: Vec::new(),
        };
        Self { ranges: ranges.iter().map(range).collect(), steps: Vec::new() }
    }

    fn climb(mut self, pieces: &mut Vec<Piece>) {
        let mut next = 0;
        loop {
            let start = self.ranges.get(next).map(|range| range.ports.first);
            let end = self.steps.first().and_then(|&step| self.ports(step)?.last.checked_add(1));
            let Some(port) = start.into_iter().chain(end).min() else { break };
            let mut arriving = self.leave(port, pieces);
            while self.ports(next).is_some_and(|ports| ports.first == port) {
                arriving.push(next);
                next += 1;
            }
            // Narrow ones first, so that few have to be taken down again.
            arriving.sort_by_key(|&range| self.ports(range).map(|ports| ports.last - ports.first));
            for range in arriving {
                self.arrive(range, port, pieces);
            }
        }
        for step in std::mem::take(&mut self.steps) {
            self.end(step, u16::MAX, pieces);
        }
    }

    fn ports(&self, range: usize) -> Option<PortRange> {
        self.ranges.get(range).map(|range| range.ports)
    }

    /// How many steps, from the first, satisfy a condition that later ones do not.
    fn steps_while(&self, condition: impl Fn(PortRange) -> bool) -> usize {
        self.steps.partition_point(|&step| self.ports(step).is_some_and(&condition))
    }

    /// Takes away the steps that end before `port`; gives back who waited for them and still holds it.
    fn leave(&mut self, port: u16, pieces: &mut Vec<Piece>) -> Vec<usize> {
        let gone = self.steps_while(|ports| ports.last < port);
        let mut ended: Vec<usize> = self.steps.drain(..gone).collect();
        for &step in &ended {
            self.end(step, u16::MAX, pieces);
        }
        let mut freed = Vec::new();
        while let Some(range) = ended.pop() {
            let waiting = self.ranges.get_mut(range).map(|range| std::mem::take(&mut range.waiting));
            for range in waiting.unwrap_or_default() {
                let over = self.ports(range).is_some_and(|ports| ports.last < port);
                if over { &mut ended } else { &mut freed }.push(range);
            }
        }
        freed
    }

    /// Puts a range among the steps, or lets it wait for the one within it that holds out longest.
    fn arrive(&mut self, range: usize, port: u16, pieces: &mut Vec<Piece>) {
        let Some(ports) = self.ports(range) else { return };
        let inner = self.steps_while(|step| step.first < ports.first);
        let inner_end = self.steps_while(|step| step.last <= ports.last);
        if let Some(&step) = self.steps.get(inner..inner_end).and_then(<[usize]>::last) {
            self.wait(range, step);
            return;
        }
        let outer = self.steps_while(|step| step.last < ports.last);
        let outer_end = self.steps_while(|step| step.first <= ports.first);
        let holders: Vec<usize> = self.steps.splice(outer..outer_end.max(outer), [range]).collect();
        for step in holders {
            if let Some(before) = port.checked_sub(1) {
                self.end(step, before, pieces);
            }
            self.wait(step, range);
        }
        if let Some(range) = self.ranges.get_mut(range) {
            range.since = port;
        }
    }

    fn wait(&mut self, range: usize, step: usize) {
        if let Some(step) = self.ranges.get_mut(step) {
            step.waiting.push(range);
        }
    }

    /// A step is none any more after `last`, or after its own last port.
    fn end(&self, step: usize, last: u16, pieces: &mut Vec<Piece>) {
        let Some(range) = self.ranges.get(step) else { return };
        let ports = PortRange { first: range.since, last: range.ports.last.min(last) };
        if ports.first <= ports.last {
            pieces.extend(range.ranks.iter().map(|&rank| Piece { ports, rank }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use mesh_bpf::ports::PortSet;

    use super::*;
    use crate::decide::items::Items;
    use crate::fixture::Fixture;
    use crate::ir::ItemId;
    use crate::random::Random;

    const PORTS: [u16; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 20, 65534, 65535];

    /// At each port those boxes are left that hold no other one of their place which holds the port too.
    #[test]
    fn only_the_narrowest_of_each_place_are_left() {
        let mut thinned = 0;
        for seed in 1..=400u64 {
            let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut fixture = Fixture::new(&["a"]);
            for _ in 0..random.below(16) {
                let (scope, verb) = (random.of(&["m", "m", "m/a"]), random.of(&["deny", "exclude"]));
                let (one, other) = (random.of(&PORTS), random.of(&PORTS));
                let not = if random.below(8) == 0 { "not " } else { "" };
                let ports = format!("{not}{}-{}", one.min(other), one.max(other));
                fixture.rule(scope, &format!("{verb} outbound tcp {ports}"));
            }
            let (items, _) = Items::of(&fixture.program);
            let boxes = Boxes { items: &items, scopes: &fixture.program.scopes };
            let ranked: Vec<Contender> = (0u32..)
                .zip(&items.items)
                .map(|(id, _)| Contender { item: ItemId(id), depth: u8::from(random.below(4) == 0) })
                .collect();
            let ports = |rank: u32| -> PortSet {
                let one = ranked[rank as usize];
                boxes.pieces(rank, one).map(|piece| piece.ports).collect()
            };
            let place = |rank: u32| (boxes.scope(ranked[rank as usize]), ranked[rank as usize].depth);
            let is_whole = |rank: u32| ports(rank).ranges().len() == 1;
            let left = narrowest(boxes, &ranked);
            for port in PORTS.into_iter().chain([10, 65533]) {
                let here: Vec<u32> = (0u32..)
                    .zip(&ranked)
                    .map(|(rank, _)| rank)
                    .filter(|&rank| ports(rank).contains(port))
                    .collect();
                let holds = |one: u32, other: u32| {
                    let (one, other) = (ports(one), ports(other));
                    one != other && one.covers(&other)
                };
                let expected: BTreeSet<u32> = (here.iter().copied())
                    .filter(|&one| {
                        let mut others =
                            here.iter().filter(|&&other| is_whole(other) && place(one) == place(other));
                        !is_whole(one) || !others.any(|&other| holds(one, other))
                    })
                    .collect();
                let at_port = left.iter().filter(|piece| piece.ports.contains(port));
                let found: Vec<u32> = at_port.map(|piece| piece.rank).collect();
                assert_eq!(
                    found.iter().copied().collect::<BTreeSet<_>>(),
                    expected,
                    "seed {seed}, port {port}"
                );
                // Each once.
                assert_eq!(found.len(), expected.len(), "seed {seed}, port {port}");
                thinned += here.len() - expected.len();
            }
        }
        assert!(thinned > 1000, "{thinned}");
    }
}
