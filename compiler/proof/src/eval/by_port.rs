//! The law at every port at once, for boxes that all hold one address.
//!
//! [`contest`](super::contest()) says who wins at one port. Here the ports are walked from low to high, and
//! only what begins or ends at a port is looked at. Two facts make that exact. Being narrower is
//! transitive, so a box is beaten if and only if one that stands beats it; and a box that is beaten has no
//! effect, whether it is there or not.

use super::contest::{Contender, weakness};

/// Who wins, as an index of contenders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Winner {
    /// Of equal ones the earliest.
    pub index: usize,
    /// The earliest redirect that nothing beats either and that leads elsewhere.
    pub tied: Option<usize>,
}

/// Who wins from a port on, until the next stretch begins.
pub type Stretch = (u16, Option<Winner>);

/// The winner at every port from 1 on.
#[must_use]
pub fn by_port(contenders: &[Contender<'_>]) -> Vec<Stretch> {
    let part = |always| {
        (0..contenders.len()).filter(move |&i| contenders.get(i).is_some_and(|c| c.always == always))
    };
    let over = Walk::new(contenders, part(true).collect()).run();
    let under = Walk::new(contenders, part(false).collect()).run();
    join(&over, &under, |over, under| over.or(under))
}

/// Two step functions that begin at port 1, made one.
#[must_use]
pub fn join<A: Copy, B: Copy, C: PartialEq>(
    over: &[(u16, A)],
    under: &[(u16, B)],
    combine: impl Fn(A, B) -> C,
) -> Vec<(u16, C)> {
    let mut starts: Vec<u16> =
        over.iter().map(|step| step.0).chain(under.iter().map(|step| step.0)).collect();
    starts.sort_unstable();
    starts.dedup();
    let mut joined: Vec<(u16, C)> = Vec::new();
    for port in starts {
        if let (Some(a), Some(b)) = (at(over, port), at(under, port)) {
            let value = combine(a, b);
            if joined.last().is_none_or(|(_, last)| *last != value) {
                joined.push((port, value));
            }
        }
    }
    joined
}

/// The value of a step function at a port.
#[must_use]
pub fn at<T: Copy>(steps: &[(u16, T)], port: u16) -> Option<T> {
    let after = steps.partition_point(|step| step.0 <= port);
    steps.get(after.checked_sub(1)?).map(|step| step.1)
}

/// One walk over the ports, for boxes that are all with or all without `always`.
struct Walk<'c, 'p> {
    contenders: &'c [Contender<'p>],
    /// Narrower boxes come before those that they beat.
    order: Vec<usize>,
    /// By place in `order`: whether the box holds the present port.
    present: Vec<bool>,
    /// Places in `order` of the boxes that nothing beats.
    standing: Vec<usize>,
}

impl<'c, 'p> Walk<'c, 'p> {
    fn new(contenders: &'c [Contender<'p>], mut order: Vec<usize>) -> Self {
        order.sort_by_key(|&i| contenders.get(i).map(|contender| contender.bounds.width()));
        Self { contenders, present: vec![false; order.len()], order, standing: Vec::new() }
    }

    fn run(mut self) -> Vec<Stretch> {
        let events = self.events();
        let mut stretches: Vec<Stretch> = vec![(1, None)];
        for run in events.chunk_by(|a, b| a.0 == b.0) {
            let Some(&(port, ..)) = run.first() else { continue };
            let mut lost = false;
            for &(_, _, place) in run.iter().filter(|(_, begins, _)| !begins) {
                lost |= self.end(place);
            }
            for &(_, _, place) in run.iter().filter(|(_, begins, _)| *begins) {
                self.begin(place, lost);
            }
            if lost {
                self.stand_again();
            }
            let winner = self.winner();
            if stretches.last().is_some_and(|&(_, last)| last != winner) {
                stretches.push((port, winner));
            }
        }
        // What begins at port 1 leaves nothing of the first stretch.
        if stretches.get(1).is_some_and(|&(port, _)| port == 1) {
            stretches.remove(0);
        }
        stretches
    }

    /// Where boxes begin and where they have ended, in order of ports.
    fn events(&self) -> Vec<(u16, bool, usize)> {
        let mut events = Vec::new();
        for (place, contender) in
            self.order.iter().enumerate().filter_map(|(place, &i)| Some((place, self.contenders.get(i)?)))
        {
            for range in contender.bounds.ports.ranges() {
                events.push((range.first, true, place));
                events.extend(range.last.checked_add(1).map(|end| (end, false, place)));
            }
        }
        events.sort_unstable();
        events
    }

    fn at(&self, place: usize) -> Option<&'c Contender<'p>> {
        self.contenders.get(*self.order.get(place)?)
    }

    fn beats(&self, one: usize, other: usize) -> bool {
        matches!((self.at(one), self.at(other)), (Some(one), Some(other)) if one.bounds.is_narrower(&other.bounds))
    }

    /// A box ends; says whether it stood.
    fn end(&mut self, place: usize) -> bool {
        if let Some(present) = self.present.get_mut(place) {
            *present = false;
        }
        let before = self.standing.len();
        self.standing.retain(|&other| other != place);
        self.standing.len() < before
    }

    /// A box begins. `later` leaves it to [`stand_again`](Self::stand_again) who stands.
    fn begin(&mut self, place: usize, later: bool) {
        if let Some(present) = self.present.get_mut(place) {
            *present = true;
        }
        if !later && !self.standing.iter().any(|&other| self.beats(other, place)) {
            let standing = std::mem::take(&mut self.standing);
            self.standing = standing.into_iter().filter(|&other| !self.beats(place, other)).collect();
            self.standing.push(place);
        }
    }

    /// Finds again who stands.
    fn stand_again(&mut self) {
        self.standing.clear();
        for place in 0..self.order.len() {
            let present = self.present.get(place).copied().unwrap_or(false);
            if present && !self.standing.iter().any(|&other| self.beats(other, place)) {
                self.standing.push(place);
            }
        }
    }

    /// The strongest of those that stand; of equal ones the earliest contender.
    fn winner(&self) -> Option<Winner> {
        let standing = || {
            let one = |&place| {
                Some((weakness(self.at(place)?.verdict), *self.order.get(place)?, self.at(place)?.verdict))
            };
            self.standing.iter().filter_map(one)
        };
        let (strength, index, verdict) = standing().min_by_key(|&(weakness, index, _)| (weakness, index))?;
        let elsewhere = standing().filter(|&(weakness, _, other)| weakness == strength && other != verdict);
        Some(Winner { index, tied: elsewhere.map(|(_, index, _)| index).min() })
    }
}
