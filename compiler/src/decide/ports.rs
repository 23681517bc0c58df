//! Decides the ports of one node: of the boxes on its way to the root, which decides at which port.
//!
//! The ports are swept from low to high. No two boxes are compared unless they meet at a port, and where
//! many do, [`thin`](super::thin) first leaves only those that are the narrowest of their place.

use mesh_bpf::flow::{Direction, Protocol, Verdict};
use mesh_bpf::ports::{PortRange, PortSet};

use super::boxes::{Boxes, Contender, Piece};
use super::profiles::SidecarPorts;
use super::thin;
use crate::hir::item::BuiltIn;
use crate::ir::{Decider, Outcome, PortIntervals, count};

/// Above this many boxes it pays to thin them out first.
const MANY: usize = 32;

/// How many ties of one winner are noted at a node: of a thousand redirects that all tie the reader corrects
/// a few, and then asks again.
const TIES: usize = 8;

/// Two redirects that tie at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tie {
    pub(crate) port: u16,
    pub(crate) one: Contender,
    pub(crate) other: Contender,
}

/// The ties of a node, and where one counts.
struct Ties {
    found: Vec<Tie>,
    /// Ports where what is swept decides. Elsewhere `always` or the language itself does, and nothing ties.
    decided: PortSet,
}

impl Ties {
    const fn at(decided: PortSet) -> Self {
        Self { found: Vec::new(), decided }
    }

    /// Takes away the ports where something won.
    fn leave_out(&mut self, won: &Stretches) {
        let ends = won.iter().skip(1).map(|&(first, _)| first.saturating_sub(1)).chain([u16::MAX]);
        let free = won.iter().zip(ends).filter(|((_, winner), _)| winner.is_none());
        let free: PortSet = free.map(|(&(first, _), last)| PortRange { first, last }).collect();
        self.decided = self.decided.intersection(&free);
    }

    /// The first of these ports where a tie counts.
    fn first_within(&self, ports: PortRange) -> Option<u16> {
        let ranges = self.decided.ranges();
        let next = ranges.get(ranges.partition_point(|range| range.last < ports.first))?;
        let first = next.first.max(ports.first);
        (first <= ports.last).then_some(first)
    }
}

/// What deciding needs to know beside the boxes.
pub(crate) struct PortDecider<'a> {
    pub(crate) boxes: Boxes<'a>,
    /// Ports of sidecars, where some things are not let in.
    pub(crate) sidecar_ports: &'a SidecarPorts,
}

/// What a port table is about, beside its boxes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableContext {
    pub(crate) direction: Direction,
    pub(crate) protocol: Protocol,
    /// How many nodes below the root its node is.
    pub(crate) depth: u8,
    /// What decides where no box matches.
    pub(crate) default: Decider,
}

impl TableContext {
    /// Whether what comes from there may be somebody else's.
    fn is_elsewhere(self) -> bool {
        let member = [BuiltIn::OwnAddress, BuiltIn::Loopback].map(Decider::BuiltIn);
        !member.contains(&self.default)
    }
}

/// The ports of a node.
pub(crate) struct DecidedPorts {
    pub(crate) intervals: PortIntervals,
    pub(crate) ties: Vec<Tie>,
}

/// Who won at a stretch of ports, until the next one begins.
type Stretches = Vec<(u16, Option<Contender>)>;

/// Who wins where some boxes do not take part.
struct Closed<'a> {
    /// Ports where nothing is redirected.
    sidecars: &'a PortSet,
    /// Who wins there.
    closed: Stretches,
    /// Those of them that belong to the member.
    outbound: &'a PortSet,
    /// Who wins there.
    belonging: Stretches,
}

impl PortDecider<'_> {
    /// Decides all ports. `contenders` are of the direction and protocol of `context`.
    pub(crate) fn decide(&self, contenders: &[Contender], context: TableContext) -> DecidedPorts {
        let inbound = context.direction == Direction::Inbound;
        let nothing = PortSet::default();
        let sidecars = if inbound { &self.sidecar_ports.all } else { &nothing };
        let [tcp, udp] = &self.sidecar_ports.outbound;
        let outbound = match context.protocol {
            _ if !inbound || !context.is_elsewhere() => &nothing,
            Protocol::Tcp => tcp,
            Protocol::Udp => udp,
        };
        let mut ties = Ties::at(sidecars.complement());
        let open = self.layered(contenders, &mut ties);
        if sidecars.is_empty() {
            let intervals = open.iter().map(|&(first, won)| (first, self.outcome(won, context))).collect();
            return DecidedPorts { intervals: from_zero(intervals), ties: ties.found };
        }
        let without = |leave: &dyn Fn(Contender) -> bool| {
            let standing: Vec<Contender> = contenders.iter().copied().filter(|one| !leave(*one)).collect();
            if standing.len() == contenders.len() {
                open.clone()
            } else {
                self.layered(&standing, &mut Ties::at(PortSet::default()))
            }
        };
        let closed = without(&|one| self.boxes.redirects(one));
        let belonging = if outbound.is_empty() {
            closed.clone()
        } else {
            without(&|one| self.boxes.redirects(one) || !self.enters(one, outbound))
        };
        let intervals = self.splice(&open, &Closed { sidecars, closed, outbound, belonging }, context);
        DecidedPorts { intervals: from_zero(intervals), ties: ties.found }
    }

    /// Whether a box takes part where only outbound redirects lead to, for what comes from elsewhere.
    fn enters(&self, one: Contender, outbound: &PortSet) -> bool {
        if self.boxes.verdict(one) == Some(Verdict::Denied) {
            return true;
        }
        let Some(extent) = self.boxes.extent(one) else { return false };
        match (&extent.holed, extent.hull) {
            (Some(holed), _) => outbound.covers(holed),
            (None, Some(hull)) => outbound.covers(&hull.into()),
            (None, None) => true,
        }
    }

    /// Boxes with `always` decide wherever one matches; below them the others.
    fn layered(&self, contenders: &[Contender], ties: &mut Ties) -> Stretches {
        let (always, others): (Vec<Contender>, Vec<Contender>) =
            contenders.iter().partition(|one| self.boxes.is_always(**one));
        if always.is_empty() {
            return self.sweep(contenders, ties);
        }
        let over = self.sweep(&always, ties);
        ties.leave_out(&over);
        let under = self.sweep(&others, ties);
        overlay(&over, &under, |_, over, under| over.or(under))
    }

    /// `closed` at the ports of sidecars, `open` elsewhere.
    fn splice(&self, open: &Stretches, closed: &Closed<'_>, context: TableContext) -> PortIntervals {
        let mut cuts: Vec<u16> = vec![1];
        for range in closed.sidecars.ranges().iter().chain(closed.outbound.ranges()) {
            cuts.extend([Some(range.first), range.last.checked_add(1)].into_iter().flatten());
        }
        cuts.sort_unstable();
        cuts.dedup();
        let cuts: Vec<(u16, ())> = cuts.into_iter().map(|cut| (cut, ())).collect();
        let both = overlay(open, &closed.closed, |_, open, closed| (open, closed));
        let all = overlay(&both, &closed.belonging, |_, both, belonging| (both, belonging));
        overlay(&all, &cuts, |port, ((open, standing), belonging), ()| {
            if closed.outbound.contains(port) {
                match belonging {
                    Some(_) => self.outcome(belonging, context),
                    None => built_in(Verdict::Denied, BuiltIn::OutboundPort),
                }
            } else if !closed.sidecars.contains(port) {
                self.outcome(open, context)
            } else if standing.is_none() && open.is_some() {
                built_in(Verdict::Excluded, BuiltIn::SidecarPort)
            } else {
                self.outcome(standing, context)
            }
        })
    }

    fn outcome(&self, won: Option<Contender>, context: TableContext) -> Outcome {
        match won.and_then(|won| Some((won, self.boxes.items.items.get(won.item.0 as usize)?))) {
            None => Outcome { verdict: Verdict::Excluded, decider: context.default, up: 0 },
            Some((won, item)) => {
                let up = context.depth.saturating_sub(won.depth);
                Outcome { verdict: item.verdict, decider: Decider::Item(won.item), up }
            }
        }
    }

    /// The winner at every port from 1 on, of boxes that are all with or all without `always`.
    fn sweep(&self, contenders: &[Contender], ties: &mut Ties) -> Stretches {
        let mut ranked = contenders.to_vec();
        ranked.sort_by_key(|one| self.boxes.priority(*one));
        let pieces = if ranked.len() > MANY {
            thin::narrowest(self.boxes, &ranked)
        } else {
            ranked.iter().enumerate().flat_map(|(rank, &one)| self.boxes.pieces(count(rank), one)).collect()
        };
        let mut sweep = Sweep { boxes: self.boxes, ranked: &ranked, active: Vec::new(), ties };
        sweep.run(pieces)
    }
}

/// One pass over the ports.
struct Sweep<'a> {
    boxes: Boxes<'a>,
    ranked: &'a [Contender],
    /// Ranks of the boxes that hold the present port, sorted. A box with holes may be in it once only,
    /// since its ranges are disjoint.
    active: Vec<u32>,
    ties: &'a mut Ties,
}

impl Sweep<'_> {
    fn run(&mut self, mut pieces: Vec<Piece>) -> Stretches {
        pieces.sort_unstable_by_key(|piece| piece.ports.first);
        let mut ends: Vec<(u16, u32)> =
            pieces.iter().filter_map(|piece| Some((piece.ports.last.checked_add(1)?, piece.rank))).collect();
        ends.sort_unstable();
        let (mut starts, mut ends) = (pieces.iter().peekable(), ends.iter().peekable());
        let mut stretches: Stretches = Vec::new();
        let mut port = 1;
        loop {
            // Ends first: a box that ends here and begins again has a hole of no ports in between.
            while let Some(&(_, rank)) = ends.next_if(|&&(end, _)| end <= port) {
                if let Ok(index) = self.active.binary_search(&rank) {
                    self.active.remove(index);
                }
            }
            while let Some(piece) = starts.next_if(|piece| piece.ports.first <= port) {
                if let Err(index) = self.active.binary_search(&piece.rank) {
                    self.active.insert(index, piece.rank);
                }
            }
            let next = [ends.peek().map(|&&(end, _)| end), starts.peek().map(|piece| piece.ports.first)];
            let next = next.into_iter().flatten().min();
            let last = next.map_or(u16::MAX, |next| next.saturating_sub(1));
            let winner = self.winner(PortRange { first: port, last });
            if stretches.last().is_none_or(|&(_, last)| last != winner) {
                stretches.push((port, winner));
            }
            let Some(next) = next else { return stretches };
            port = next;
        }
    }

    /// The first of the active boxes that no other beats. They are the same at all of `ports`.
    fn winner(&mut self, ports: PortRange) -> Option<Contender> {
        let first = self.active.iter().position(|&rank| self.stands(rank))?;
        let winner = self.contender(*self.active.get(first)?)?;
        if self.boxes.redirects(winner)
            && let Some(port) = self.ties.first_within(ports)
        {
            self.note_ties(port, first, winner);
        }
        Some(winner)
    }

    /// Redirects behind the winner that nothing beats and that lead elsewhere.
    fn note_ties(&mut self, port: u16, first: usize, winner: Contender) {
        let verdict = self.boxes.verdict(winner);
        let mut known: Vec<Contender> =
            self.ties.found.iter().filter(|tie| tie.one == winner).map(|tie| tie.other).collect();
        for &rank in self.active.get(first + 1..).unwrap_or_default() {
            if known.len() >= TIES {
                return;
            }
            let Some(other) = self.contender(rank) else { continue };
            if self.boxes.verdict(other) != verdict && !known.contains(&other) && self.stands(rank) {
                self.ties.found.push(Tie { port, one: winner, other });
                known.push(other);
            }
        }
    }

    fn stands(&self, rank: u32) -> bool {
        let Some(one) = self.contender(rank) else { return false };
        let others = self.active.iter().filter_map(|&rank| self.contender(rank));
        others.into_iter().all(|other| !self.boxes.is_narrower(other, one))
    }

    fn contender(&self, rank: u32) -> Option<Contender> {
        self.ranked.get(rank as usize).copied()
    }
}

/// What the language itself decides at a port.
fn built_in(verdict: Verdict, built_in: BuiltIn) -> Outcome {
    Outcome { verdict, decider: Decider::BuiltIn(built_in), up: 0 }
}

/// Two step functions made one. Both begin at port 1.
fn overlay<A: Copy, B: Copy, C: PartialEq>(
    over: &[(u16, A)],
    under: &[(u16, B)],
    mut join: impl FnMut(u16, A, B) -> C,
) -> Vec<(u16, C)> {
    let (mut over, mut under) = (over.iter().peekable(), under.iter().peekable());
    let (mut a, mut b) = (None, None);
    let mut joined: Vec<(u16, C)> = Vec::new();
    while let Some(port) =
        [over.peek().map(|step| step.0), under.peek().map(|step| step.0)].into_iter().flatten().min()
    {
        a = over.next_if(|step| step.0 == port).map(|step| step.1).or(a);
        b = under.next_if(|step| step.0 == port).map(|step| step.1).or(b);
        if let (Some(a), Some(b)) = (a, b) {
            let value = join(port, a, b);
            if joined.last().is_none_or(|(_, last)| *last != value) {
                joined.push((port, value));
            }
        }
    }
    joined
}

/// Lets the first stretch begin at 0 and joins equal neighbours.
fn from_zero(mut intervals: PortIntervals) -> PortIntervals {
    intervals.dedup_by_key(|&mut (_, outcome)| outcome);
    if let Some((first, _)) = intervals.first_mut() {
        *first = 0;
    }
    intervals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::fixture::ties;
    use crate::fixture::Fixture;

    #[test]
    fn a_tie_counts_at_the_first_port_that_is_decided() {
        let range = |(first, last)| PortRange { first, last };
        let ties = Ties::at([(1, 9), (20, 29)].map(range).into_iter().collect());
        for (ports, counts) in [
            ((1, 9), Some(1)),
            ((5, 12), Some(5)),
            ((9, 19), Some(9)),
            ((10, 19), None),
            ((12, 20), Some(20)),
            ((25, 40), Some(25)),
            ((30, 40), None),
        ] {
            assert_eq!(ties.first_within(range(ports)), counts, "{ports:?}");
        }
    }
    /// Of redirects that all tie at some ports a few are noted, and all that tie elsewhere.
    #[test]
    fn many_ties_at_some_ports_leave_room_for_those_at_others() {
        let mut fixture = Fixture::new(&["a"]);
        for target in 0..20 {
            fixture.rule("m", &format!("redirect outbound tcp 1-5 -> {}", 101 + target));
        }
        fixture.rule("m", "redirect outbound tcp 6-9 -> 301").rule("m", "redirect outbound tcp 6-9 -> 302");
        let ties = ties(&fixture.program);
        let at = |port| ties.iter().filter(|tie| tie.flow.port == port).count();
        assert_eq!((at(1), at(6)), (TIES, 1));
        assert_eq!(ties.len(), TIES + 1);
    }
}
