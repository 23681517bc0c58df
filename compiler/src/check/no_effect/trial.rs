//! Removes units one by one and looks whether a verdict changes.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use mesh_bpf::flow::{Protocol, Verdict};
use mesh_bpf::prefix::Prefix;

use super::sites::{Site, Sites};
use super::units::{Effects, NONE, PlainBox, Unit, Units, Written};
use crate::region::FlowBox;

/// Findings by the site around and what is written.
type Known = HashMap<(Option<usize>, Vec<u32>), Rc<Vec<Finding>>>;

/// Where the sites of one direction are heard.
pub(super) struct Court<'a, 'p> {
    units: &'a Units<'p>,
    sites: &'a Sites<'a>,
    /// Ports where nothing is redirected.
    closed: &'a [u16],
    /// By the site around and what is written here: the findings about what is written here.
    known: Known,
}

/// What a trial found about the `nth` unit that is new at a site.
struct Finding {
    nth: usize,
    effective: bool,
    instead: Vec<Decider>,
}

/// A rule that decides instead: the `nth` that is new at the site, or a certain one.
#[derive(Clone, Copy)]
enum Decider {
    New(usize),
    Rule(u32),
}

impl<'a, 'p> Court<'a, 'p> {
    pub(super) fn new(units: &'a Units<'p>, sites: &'a Sites<'a>, closed: &'a [u16]) -> Self {
        Self { units, sites, closed, known: HashMap::new() }
    }

    /// Looks at every site that decides an address.
    pub(super) fn hear(mut self, effects: &mut Effects) {
        for &index in &self.sites.live {
            let Some(site) = self.sites.get(index) else { continue };
            let (key, new) = self.key(site);
            let key = (site.parent, key);
            if let Some(findings) = self.known.get(&key) {
                let findings = Rc::clone(findings);
                apply(&findings, &new, effects);
                continue;
            }
            let findings = Rc::new(self.try_site(index, &new, effects));
            apply(&findings, &new, effects);
            self.known.insert(key, findings);
        }
    }

    /// What is written at a site, with units that are new there numbered; and those units.
    fn key(&self, site: &Site<'_>) -> (Vec<u32>, Vec<Unit>) {
        let mut written: Vec<&Written> = site.written.iter().collect();
        let shape = |rule: u32| self.units.shapes.get(rule as usize).copied().unwrap_or(NONE);
        written.sort_by_key(|written| (shape(written.rule), written.rule, written.address));
        let (mut key, mut new) = (Vec::with_capacity(4 * written.len()), Vec::new());
        for one in written {
            key.push(shape(one.rule));
            let above = self.is_above(site, one.rule);
            let ports =
                self.units.of_rule.get(one.rule as usize).into_iter().flatten().map(|&(_, unit)| unit);
            let units = [one.rule, one.address].into_iter().chain(ports);
            for unit in units.filter(|&unit| unit != NONE) {
                let certain = self.units.shared.contains(&unit) || (above && unit != one.address);
                key.push(if certain { unit } else { NONE - 1 - local(&mut new, unit) });
            }
            key.push(NONE);
        }
        (key, new)
    }

    /// Whether a rule is written around a site, too.
    fn is_above(&self, site: &Site<'_>, rule: u32) -> bool {
        let outer = site.parent.into_iter().flat_map(|outer| self.sites.way_out(outer));
        outer.into_iter().any(|site| site.written.binary_search_by_key(&rule, |written| written.rule).is_ok())
    }

    /// Tries the units that are new at a site, and those around it that have shown no effect yet.
    fn try_site(&self, index: usize, new: &[Unit], effects: &mut Effects) -> Vec<Finding> {
        let boxes = self.boxes(index);
        let mut others: BTreeSet<Unit> = BTreeSet::new();
        for support in boxes.iter().flat_map(|one| &one.supports) {
            let units = support.units().into_iter();
            others.extend(
                units.filter(|&unit| unit != NONE && !effects.is_effective(unit) && !new.contains(&unit)),
            );
        }
        for unit in others {
            let (effective, instead) = self.try_unit(&boxes, unit, effects);
            effects.note(unit, effective, &instead);
        }
        let mut findings = Vec::with_capacity(new.len());
        for (nth, &unit) in new.iter().enumerate() {
            let (effective, instead) = self.try_unit(&boxes, unit, effects);
            let decider = |rule: u32| {
                new.iter().position(|&unit| unit == rule).map_or(Decider::Rule(rule), Decider::New)
            };
            findings.push(Finding { nth, effective, instead: instead.into_iter().map(decider).collect() });
        }
        findings
    }

    /// The boxes at a site, narrower ones before those that they beat.
    fn boxes(&self, index: usize) -> Vec<Present<'_, 'p>> {
        let mut boxes: HashMap<(usize, u32), Present<'_, 'p>> = HashMap::new();
        for (up, site) in self.sites.way_out(index).enumerate() {
            for written in site.written {
                for &(number, ports) in self.units.of_rule.get(written.rule as usize).into_iter().flatten() {
                    let Some(plain) = self.units.boxes.get(number as usize) else { continue };
                    let support = Support { rule: written.rule, address: written.address, ports };
                    let new =
                        || Present { plain, prefix: site.prefix, supports: Vec::new(), order: (up, number) };
                    boxes.entry((up, number)).or_insert_with(new).supports.push(support);
                }
            }
        }
        let mut boxes: Vec<Present<'_, 'p>> = boxes.into_values().collect();
        boxes.sort_by_key(|one| (width(one), one.order));
        boxes
    }

    /// Whether a verdict changes without a unit; if none does, rules that decide where its boxes are.
    fn try_unit(&self, boxes: &[Present<'_, 'p>], unit: Unit, effects: &mut Effects) -> (bool, Vec<u32>) {
        let mut instead = Vec::new();
        let gone = |one: &Present<'_, 'p>| one.supports.iter().all(|support| support.units().contains(&unit));
        let lost: Vec<&Present<'_, 'p>> = boxes.iter().filter(|one| one.supported_by(unit)).collect();
        for protocol in Protocol::ALL {
            for port in self.ports(boxes, &lost, protocol) {
                effects.budget = effects.budget.saturating_sub(2 * boxes.len() as u64);
                if effects.budget == 0 {
                    return (true, Vec::new());
                }
                let here = |one: &&Present<'_, 'p>| {
                    one.plain.protocol == protocol
                        && one.plain.ports.contains(port)
                        && (one.plain.verdict.port().is_none() || !self.closed.contains(&port))
                };
                let before = standing(boxes.iter().filter(here));
                let after = standing(boxes.iter().filter(here).filter(|one| !gone(one)));
                // One verdict, unless redirects tie that the unit beats: then it decides between them.
                if verdicts(&before) != verdicts(&after) {
                    return (true, Vec::new());
                }
                let rules =
                    after.first().into_iter().flat_map(|one| &one.supports).map(|support| support.rule);
                for rule in rules.filter(|&rule| rule != unit) {
                    if instead.len() < 3 && !instead.contains(&rule) {
                        instead.push(rule);
                    }
                }
            }
        }
        (false, instead)
    }

    /// One port of each piece that the ports of `lost` are cut into by all boxes.
    fn ports(
        &self,
        boxes: &[Present<'_, 'p>],
        lost: &[&Present<'_, 'p>],
        protocol: Protocol,
    ) -> BTreeSet<u16> {
        let lost = || lost.iter().filter(|one| one.plain.protocol == protocol);
        let starts = |one: &Present<'_, 'p>| -> Vec<u16> {
            let ranges = one.plain.ports.ranges().iter();
            ranges.flat_map(|range| [Some(range.first), range.last.checked_add(1)]).flatten().collect()
        };
        let mut cuts: BTreeSet<u16> = lost().flat_map(|one| starts(one)).collect();
        let (Some(first), Some(last)) = (
            cuts.first().copied(),
            lost().filter_map(|one| one.plain.ports.ranges().last()).map(|range| range.last).max(),
        ) else {
            return cuts;
        };
        for one in boxes.iter().filter(|one| one.plain.protocol == protocol) {
            cuts.extend(starts(one).into_iter().filter(|&port| first <= port && port <= last));
        }
        let closed = self.closed.iter().flat_map(|&port| [Some(port), port.checked_add(1)]).flatten();
        cuts.extend(closed.filter(|&port| first <= port && port <= last));
        cuts.retain(|&port| lost().any(|one| one.plain.ports.contains(port)));
        cuts
    }
}

/// A box at a site, and who supports it.
struct Present<'u, 'p> {
    plain: &'u PlainBox<'p>,
    prefix: Prefix,
    supports: Vec<Support>,
    order: (usize, u32),
}

/// The units that write a box.
struct Support {
    rule: u32,
    address: Unit,
    ports: Unit,
}

impl Support {
    const fn units(&self) -> [Unit; 3] {
        [self.rule, self.address, self.ports]
    }
}

impl Present<'_, '_> {
    fn supported_by(&self, unit: Unit) -> bool {
        self.supports.iter().any(|support| support.units().contains(&unit))
    }

    fn bounds(&self) -> FlowBox<'_> {
        FlowBox { scope: self.plain.scope, ports: &self.plain.ports, prefix: self.prefix }
    }
}

/// Who decides among boxes that all match, narrower ones first: those of the strongest verdict that nothing
/// beats.
fn standing<'b, 'u, 'p>(boxes: impl Iterator<Item = &'b Present<'u, 'p>> + Clone) -> Vec<&'b Present<'u, 'p>>
where
    'u: 'b,
    'p: 'b,
{
    let always = boxes.clone().any(|one| one.plain.always);
    let mut standing: Vec<&Present<'_, '_>> = Vec::new();
    for one in boxes.filter(|one| one.plain.always == always) {
        // Being narrower is transitive: who is beaten is beaten by one that stands.
        if !standing.iter().any(|other| other.bounds().is_narrower(&one.bounds())) {
            standing.push(one);
        }
    }
    let strongest = standing.iter().map(|one| weakness(one.plain.verdict)).min();
    standing.retain(|one| Some(weakness(one.plain.verdict)) == strongest);
    standing
}

const fn weakness(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Denied => 0,
        Verdict::Excluded => 1,
        Verdict::Redirected { .. } => 2,
    }
}

/// What happens to a flow: more than one thing where redirects tie.
fn verdicts(standing: &[&Present<'_, '_>]) -> BTreeSet<Verdict> {
    if standing.is_empty() {
        return BTreeSet::from([Verdict::Excluded]);
    }
    standing.iter().map(|one| one.plain.verdict).collect()
}

/// Never greater for a box that lies within another; equal only for boxes of which neither is narrower.
fn width(one: &Present<'_, '_>) -> (u32, usize, std::cmp::Reverse<u8>, usize) {
    let ports = one.plain.ports.ranges().iter().map(|range| u32::from(range.last - range.first) + 1).sum();
    (ports, one.order.0, std::cmp::Reverse(one.plain.scope.level as u8), one.plain.scope.members.len())
}

/// The number of a unit among those that are new.
fn local(new: &mut Vec<Unit>, unit: Unit) -> u32 {
    let at = new.iter().position(|&known| known == unit).unwrap_or_else(|| {
        new.push(unit);
        new.len() - 1
    });
    super::units::number(at)
}

fn apply(findings: &[Finding], new: &[Unit], effects: &mut Effects) {
    for finding in findings {
        let Some(&unit) = new.get(finding.nth) else { continue };
        let rule = |decider: &Decider| match *decider {
            Decider::New(nth) => new.get(nth).copied(),
            Decider::Rule(rule) => Some(rule),
        };
        let instead: Vec<u32> = finding.instead.iter().filter_map(rule).collect();
        effects.note(unit, finding.effective, &instead);
    }
}
