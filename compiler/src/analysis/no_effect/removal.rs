//! Removes units one by one and looks whether a verdict changes.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::boxes::boxes_at;
use super::probe::Probe;
use super::sites::{Site, Sites};
use super::units::{Effects, NONE, SidecarPorts, Unit, Units, Written, number};
use crate::hir::Who;

/// The site around a site, and whether what comes from there may be somebody else's.
type Around = (Option<usize>, bool);

/// Outcomes by what is around and the shape of what is written.
type ByShape = HashMap<(Around, Vec<u32>), Rc<Vec<Outcome>>>;

/// Outcomes by what is around and the bundles that are written, each with the number of its address.
type ByBundles = HashMap<(Around, Vec<(u32, u32)>), Rc<Vec<Address>>>;

/// Tries what is written at the sites of one direction.
pub(super) struct RemovalAnalysis<'a, 'p> {
    units: &'a Units<'p>,
    sites: &'a Sites<'a>,
    /// Ports where not all take part.
    closed: &'a SidecarPorts,
    /// Whether the addresses are the member's own.
    own: bool,
    /// Whose boxes take part, beside those of everybody.
    whos: &'a BTreeSet<&'p Who>,
    by_shape: ByShape,
    by_bundles: ByBundles,
}

/// What a probe found about the `nth` unit that is new at a site.
struct Outcome {
    nth: usize,
    effective: bool,
    shadowed_by: Vec<Decider>,
}

/// What a probe found about the address of the `nth` bundle that is written at a site.
struct Address {
    nth: usize,
    effective: bool,
    shadowed_by: Vec<u32>,
}

/// A rule that decides without the unit: the `nth` that is new at the site, or a certain one.
#[derive(Clone, Copy)]
enum Decider {
    New(usize),
    Rule(u32),
}

/// Units in the order in which they were first met, each with its number.
#[derive(Default)]
struct Numbered {
    units: Vec<Unit>,
    numbers: HashMap<Unit, u32>,
}

impl Numbered {
    fn of(&mut self, unit: Unit) -> u32 {
        *self.numbers.entry(unit).or_insert_with(|| {
            self.units.push(unit);
            number(self.units.len() - 1)
        })
    }

    fn find(&self, unit: Unit) -> Option<usize> {
        self.numbers.get(&unit).map(|&number| number as usize)
    }
}

impl<'a, 'p> RemovalAnalysis<'a, 'p> {
    pub(super) fn new(
        units: &'a Units<'p>,
        sites: &'a Sites<'a>,
        closed: &'a SidecarPorts,
        own: bool,
        whos: &'a BTreeSet<&'p Who>,
    ) -> Self {
        Self { units, sites, closed, own, whos, by_shape: HashMap::new(), by_bundles: HashMap::new() }
    }

    /// Looks at every site that decides an address.
    pub(super) fn run(mut self, effects: &mut Effects) {
        for &index in &self.sites.live {
            let Some(site) = self.sites.get(index) else { continue };
            if effects.budget == 0 {
                return;
            }
            effects.charge(site.written.len());
            // What rules for everybody alone decide is looked at with the processes that no rule names.
            if !self.whos.is_empty() && !self.is_about_some(index) {
                continue;
            }
            // Where the same rules are written, only their addresses are others.
            let elsewhere = !self.own && !site.prefix.is_loopback();
            let around = (site.parent, elsewhere);
            let bundles = (around, bundles(site));
            if let Some(outcomes) = self.by_bundles.get(&bundles) {
                apply_to_addresses(outcomes, site, effects);
                continue;
            }
            let (shape, new) = self.shape(site, effects);
            let shape = (around, shape);
            let outcomes = match self.by_shape.get(&shape) {
                Some(outcomes) => Rc::clone(outcomes),
                None => Rc::new(self.try_site(index, elsewhere, &new, effects)),
            };
            apply(&outcomes, &new, effects);
            self.by_bundles.insert(bundles, Rc::new(of_addresses(&outcomes, site, &new)));
            self.by_shape.insert(shape, outcomes);
        }
    }

    /// Whether a box of the processes that are looked at is written at a site or around it.
    fn is_about_some(&self, index: usize) -> bool {
        let rules =
            self.sites.way_out(index).flat_map(|site| site.written).flat_map(|one| self.units.rules_of(one));
        let boxes = rules.filter_map(|&rule| self.units.of_rule.get(rule as usize)).flatten();
        boxes
            .filter_map(|one| self.units.boxes.get(one.number as usize))
            .any(|plain| self.whos.contains(plain.who))
    }

    /// What is written at a site, with units that are new there numbered; and those units.
    fn shape(&self, site: &Site<'_>, effects: &mut Effects) -> (Vec<u32>, Numbered) {
        let shape = |rule: u32| self.units.shapes.get(rule as usize).copied().unwrap_or(NONE);
        let mut written: Vec<(u32, u32, &Written)> = Vec::new();
        for one in site.written {
            written.extend(self.units.rules_of(one).iter().map(|&rule| (shape(rule), rule, one)));
        }
        written.sort_by_key(|&(shape, rule, one)| (shape, rule, one.address));
        let (mut key, mut new) = (Vec::with_capacity(4 * written.len()), Numbered::default());
        for (shape, rule, one) in written {
            key.push(shape);
            let above = self.is_above(site, one.bundle);
            let items =
                self.units.of_rule.get(rule as usize).into_iter().flatten().flat_map(|one| one.units());
            let units = [self.units.statement(rule), one.address].into_iter().chain(items);
            for unit in units.filter(|&unit| unit != NONE) {
                let certain = self.units.shared.contains(&unit) || (above && unit != one.address);
                key.push(if certain { unit } else { NONE - 1 - new.of(unit) });
            }
            key.push(NONE);
        }
        effects.charge(key.len());
        (key, new)
    }

    /// Whether a bundle is written around a site, too.
    fn is_above(&self, site: &Site<'_>, bundle: u32) -> bool {
        let mut outer = site.parent.into_iter().flat_map(|outer| self.sites.way_out(outer));
        outer.any(|site| site.written.binary_search_by_key(&bundle, |written| written.bundle).is_ok())
    }

    /// Tries the units that are new at a site, and those around it that have shown no effect yet.
    fn try_site(&self, index: usize, elsewhere: bool, new: &Numbered, effects: &mut Effects) -> Vec<Outcome> {
        let boxes = boxes_at(self.units, self.sites, index, self.whos);
        let supports = boxes.iter().flat_map(|one| &one.supports).flat_map(|support| support.units());
        let others = supports.filter(|&unit| new.find(unit).is_none() && !effects.is_effective(unit));
        let others: BTreeSet<Unit> = others.collect();
        let tried = new.units.iter().chain(&others).copied();
        let mut found = Probe::new(&boxes, self.closed, self.own, elsewhere, tried).run(&mut effects.budget);
        for unit in others {
            if let Some(found) = found.remove(&unit) {
                effects.note(unit, found.effective, &found.shadowed_by);
            }
        }
        let decider = |rule: u32| new.find(rule).map_or(Decider::Rule(rule), Decider::New);
        let outcome = |(nth, unit)| {
            let found = found.remove(unit).unwrap_or_default();
            let shadowed_by = found.shadowed_by.into_iter().map(decider).collect();
            Outcome { nth, effective: found.effective, shadowed_by }
        };
        new.units.iter().enumerate().map(outcome).collect()
    }
}

/// The rules that are written at a site. Their addresses differ from site to site; here it counts only which
/// of them are one.
fn bundles(site: &Site<'_>) -> Vec<(u32, u32)> {
    let mut addresses = Numbered::default();
    let one = |written: &Written| (written.bundle, addresses.of(written.address));
    site.written.iter().map(one).collect()
}

fn apply(outcomes: &[Outcome], new: &Numbered, effects: &mut Effects) {
    for outcome in outcomes {
        let Some(&unit) = new.units.get(outcome.nth) else { continue };
        effects.note(unit, outcome.effective, &shadowed_by(outcome, new));
    }
}

fn apply_to_addresses(outcomes: &[Address], site: &Site<'_>, effects: &mut Effects) {
    for outcome in outcomes {
        if let Some(written) = site.written.get(outcome.nth) {
            effects.note(written.address, outcome.effective, &outcome.shadowed_by);
        }
    }
}

fn of_addresses(outcomes: &[Outcome], site: &Site<'_>, new: &Numbered) -> Vec<Address> {
    let of = |(nth, written): (usize, &Written)| {
        let outcome = outcomes.get(new.find(written.address)?)?;
        Some(Address { nth, effective: outcome.effective, shadowed_by: shadowed_by(outcome, new) })
    };
    site.written.iter().enumerate().filter_map(of).collect()
}

fn shadowed_by(outcome: &Outcome, new: &Numbered) -> Vec<u32> {
    let rule = |decider: &Decider| match *decider {
        Decider::New(nth) => new.units.get(nth).copied(),
        Decider::Rule(rule) => Some(rule),
    };
    outcome.shadowed_by.iter().filter_map(rule).collect()
}
