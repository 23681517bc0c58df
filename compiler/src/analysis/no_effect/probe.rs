//! The law at every piece of the ports of one site, with and without each unit.

use std::collections::{BTreeSet, HashMap, HashSet};

use mesh_bpf::flow::{Protocol, Verdict};

use super::boxes::Present;
use super::units::{NOBODY, REMEMBERED, SidecarPorts, Unit};

/// Tries units of one site.
pub(super) struct Probe<'t, 'u, 'p> {
    /// Narrower ones before those that they beat.
    boxes: &'t [Present<'u, 'p>],
    /// Ports where not all take part.
    closed: &'t SidecarPorts,
    /// Whether the site is of a member's own addresses: there the language itself speaks where no rule does.
    own: bool,
    /// Whether what comes from there may be somebody else's.
    elsewhere: bool,
    found: HashMap<Unit, Found>,
}

/// What was found about a unit.
#[derive(Default)]
pub(super) struct Found {
    /// Whether a verdict changes without it.
    pub(super) effective: bool,
    /// If none does, rules that decide where its boxes are.
    pub(super) shadowed_by: Vec<u32>,
}

impl<'t, 'u, 'p> Probe<'t, 'u, 'p> {
    pub(super) fn new(
        boxes: &'t [Present<'u, 'p>],
        closed: &'t SidecarPorts,
        own: bool,
        elsewhere: bool,
        units: impl Iterator<Item = Unit>,
    ) -> Self {
        let found = units.map(|unit| (unit, Found::default())).collect();
        Self { boxes, closed, own, elsewhere, found }
    }

    /// Tries every unit at every piece. Ends early where the budget does.
    pub(super) fn run(mut self, budget: &mut u64) -> HashMap<Unit, Found> {
        for protocol in Protocol::ALL {
            let events = self.events(protocol);
            let mut active: BTreeSet<usize> = BTreeSet::new();
            for run in events.chunk_by(|a, b| a.0 == b.0) {
                for &(_, change) in run {
                    match change {
                        Change::Ends(index) => drop(active.remove(&index)),
                        Change::Begins(index) => drop(active.insert(index)),
                        Change::Cut => {}
                    }
                }
                *budget = budget.saturating_sub(active.len() as u64 + 1);
                if let Some(&(port, _)) = run.first() {
                    self.piece(port, protocol, &active, budget);
                }
                if *budget == 0 {
                    return self.found;
                }
            }
        }
        self.found
    }

    /// Where boxes begin and end, in the order of ports.
    fn events(&self, protocol: Protocol) -> Vec<(u16, Change)> {
        let mut events = Vec::new();
        for (index, one) in self.boxes.iter().enumerate().filter(|(_, one)| one.plain.protocol == protocol) {
            for range in one.plain.ports.ranges() {
                events.push((range.first, Change::Begins(index)));
                events.extend(range.last.checked_add(1).map(|end| (end, Change::Ends(index))));
            }
        }
        let closed = self.closed.all.iter().flat_map(|&port| [Some(port), port.checked_add(1)]).flatten();
        events.extend(closed.map(|port| (port, Change::Cut)));
        events.sort_unstable();
        events
    }

    /// Applies the law to the boxes at one port, and again without each unit that one of them needs.
    fn piece(&mut self, port: u16, protocol: Protocol, active: &BTreeSet<usize>, budget: &mut u64) {
        let boxes = self.boxes;
        let is_open = !self.closed.all.contains(&port);
        let belonging = self.closed.outbound(protocol);
        let belongs = self.elsewhere && belonging.contains(port);
        let takes_part = |one: &Present<'_, '_>| match one.plain.verdict {
            Verdict::Redirected { .. } => is_open,
            Verdict::Excluded => !belongs || belonging.covers(&one.plain.ports),
            Verdict::Denied => true,
        };
        let here: Vec<&Present<'_, '_>> =
            (active.iter()).filter_map(|&index| boxes.get(index)).filter(|one| takes_part(one)).collect();
        let default = if belongs { Verdict::Denied } else { Verdict::Excluded };
        let before = standing(here.iter().copied(), budget);
        let strongest = strongest(&before);
        let mut asked: HashSet<Unit> = HashSet::new();
        for one in &here {
            // Who is beaten has no effect, whether it is there or not.
            let stands = before.iter().any(|standing| std::ptr::eq(*standing, *one));
            *budget = budget.saturating_sub((one.supports.len() + before.len()) as u64);
            for unit in one.supports.iter().flat_map(|support| support.units()) {
                let Some(found) = self.found.get_mut(&unit).filter(|found| !found.effective) else {
                    continue;
                };
                if !(stands && one.needs.contains(&unit)) {
                    found.note(unit, &strongest);
                } else if asked.insert(unit) {
                    let left = here.iter().copied().filter(|one| !one.needs.contains(&unit));
                    let after = standing(left, budget);
                    // One verdict, unless redirects tie that the unit beats: then it decides between them.
                    found.effective = verdicts(&before, default) != verdicts(&after, default);
                    found.note(unit, &self::strongest(&after));
                    if after.is_empty() && !self.own && !belongs && !found.shadowed_by.contains(&NOBODY) {
                        found.shadowed_by.push(NOBODY);
                    }
                }
            }
        }
    }
}

/// What happens at a port. What ends there is gone before anything begins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Ends(usize),
    Begins(usize),
    Cut,
}

impl Found {
    /// Notes the rules that decide.
    fn note(&mut self, unit: Unit, strongest: &[&Present<'_, '_>]) {
        if self.shadowed_by.len() >= REMEMBERED {
            return;
        }
        let deciding = strongest.first().into_iter().flat_map(|one| &one.supports);
        for rule in deciding.map(|support| support.rule).filter(|&rule| rule != unit) {
            if self.shadowed_by.len() < REMEMBERED && !self.shadowed_by.contains(&rule) {
                self.shadowed_by.push(rule);
            }
            if self.shadowed_by.len() >= REMEMBERED {
                return;
            }
        }
    }
}

/// Those of boxes that all match which nothing beats; narrower ones come first.
fn standing<'b, 'u, 'p>(
    boxes: impl Iterator<Item = &'b Present<'u, 'p>> + Clone,
    budget: &mut u64,
) -> Vec<&'b Present<'u, 'p>> {
    let always = boxes.clone().any(|one| one.plain.always);
    let mut standing: Vec<&Present<'_, '_>> = Vec::new();
    for one in boxes.filter(|one| one.plain.always == always) {
        *budget = budget.saturating_sub(standing.len() as u64 + 1);
        // Being narrower is transitive: who is beaten is beaten by one that stands.
        if !standing.iter().any(|other| other.bounds().is_narrower(&one.bounds())) {
            standing.push(one);
        }
    }
    standing
}

/// Those of the strongest verdict.
fn strongest<'b, 'u, 'p>(standing: &[&'b Present<'u, 'p>]) -> Vec<&'b Present<'u, 'p>> {
    let weakest = standing.iter().map(|one| weakness(one.plain.verdict)).min();
    standing.iter().copied().filter(|one| Some(weakness(one.plain.verdict)) == weakest).collect()
}

const fn weakness(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Denied => 0,
        Verdict::Excluded => 1,
        Verdict::Redirected { .. } => 2,
    }
}

/// What happens to a flow: more than one thing where redirects tie.
fn verdicts(standing: &[&Present<'_, '_>], default: Verdict) -> BTreeSet<Verdict> {
    let strongest = strongest(standing);
    if strongest.is_empty() {
        return BTreeSet::from([default]);
    }
    strongest.iter().map(|one| one.plain.verdict).collect()
}
