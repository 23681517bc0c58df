//! What was found out about a set of workloads, for the next version of the program: where their rules say what they
//! said, it is not looked for again.

use std::collections::{BTreeSet, HashMap};

use mesh_bpf::flow::{Direction, Protocol, Verdict};
use mesh_bpf::ports::PortSet;
use mesh_bpf::prefix::Prefix;

use super::units::{Effects, NOBODY, NONE, Note, Unit, Units, number};
use crate::hir::{Program, Scope, ScopeId, Who};

/// Sets of workloads with more units are looked at each time: to compare them takes as long.
const LARGEST: usize = 20_000;

/// What is known, by the scopes that reach the workloads.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    scopes: Vec<Scope>,
    now: HashMap<Vec<ScopeId>, Found>,
    before: HashMap<Vec<ScopeId>, Found>,
}

/// What was found out about some workloads.
#[derive(Debug)]
struct Found {
    said: Said,
    notes: Vec<Note>,
    /// How many boxes were looked at.
    looks: u64,
}

/// All that it depends on. Units, boxes and bundles have their places among those of the same workloads, so that what
/// stands elsewhere does not count.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    rules: Vec<Rule>,
    boxes: Vec<Plain>,
    bundles: Vec<Vec<(Prefix, u32)>>,
    /// Units of ports that other rules name too, also of other workloads.
    shared: Vec<u32>,
    /// Units of which an effect was known before.
    effective: Vec<bool>,
}

#[derive(Debug, PartialEq, Eq)]
struct Rule {
    scope: ScopeId,
    direction: Direction,
    verdict: Verdict,
    bundle: u32,
    shape: u32,
    /// The first rule of its statement.
    statement: u32,
    boxes: Vec<[u32; 6]>,
}

#[derive(Debug, PartialEq, Eq)]
struct Plain {
    always: bool,
    verdict: Verdict,
    protocol: Protocol,
    ports: PortSet,
    who: Who,
}

/// Some workloads of a version.
pub(super) struct Now {
    scopes: Vec<ScopeId>,
    said: Said,
    /// Their units, sorted.
    units: Vec<Unit>,
    budget: u64,
}

impl Kept {
    /// Begins a version.
    pub(super) fn next_version(&mut self, program: &Program) {
        self.before = std::mem::take(&mut self.now);
        if self.scopes != program.scopes {
            self.before.clear();
            self.scopes.clone_from(&program.scopes);
        }
    }

    /// Notes what is known of some workloads. Gives them back where it is to be found out, and kept.
    pub(super) fn recall(&mut self, now: Now, effects: &mut Effects) -> Option<Now> {
        let known = self.before.remove(&now.scopes);
        let Some(found) = known.filter(|known| known.said == now.said && known.looks < effects.budget) else {
            return Some(now);
        };
        effects.budget -= found.looks;
        let unit = |&place: &u32| now.units.get(place as usize).copied().unwrap_or(place);
        for note in &found.notes {
            let shadowed_by: Vec<u32> = note.shadowed_by.iter().map(unit).collect();
            effects.note(unit(&note.unit), note.effective, &shadowed_by);
        }
        self.now.insert(now.scopes, found);
        None
    }

    /// Keeps what was noted since.
    pub(super) fn keep(&mut self, now: Now, mut notes: Vec<Note>, effects: &Effects) {
        let mut is_whole = true;
        let mut place = |unit: &mut u32| match now.units.binary_search(unit) {
            Ok(place) => *unit = number(place),
            Err(_) => is_whole &= *unit == NONE,
        };
        for note in &mut notes {
            place(&mut note.unit);
            note.shadowed_by.iter_mut().for_each(&mut place);
        }
        // Where the search was given up, it is given up again.
        if is_whole && effects.budget > 0 {
            let looks = now.budget - effects.budget;
            self.now.insert(now.scopes, Found { said: now.said, notes, looks });
        }
    }
}

impl Now {
    /// What is said for the workloads that these scopes reach; nothing where it is too much to compare.
    pub(super) fn of(
        program: &Program,
        units: &Units<'_>,
        scopes: &[ScopeId],
        effects: &Effects,
    ) -> Option<Self> {
        let mut bundles: Vec<u32> = units.bundles_of(scopes).collect();
        bundles.sort_unstable();
        let written = |bundle: &u32| units.bundles.get(*bundle as usize);
        let mut rules: Vec<u32> =
            bundles.iter().filter_map(written).flat_map(|it| &it.rules).copied().collect();
        rules.sort_unstable();
        let addresses = bundles.iter().filter_map(written).map(|it| it.addresses().len()).sum::<usize>();
        let boxes_of = |rule: &u32| units.of_rule.get(*rule as usize).map_or(&[][..], Vec::as_slice);
        let boxes = rules.iter().map(|rule| boxes_of(rule).len()).sum::<usize>();
        if addresses + boxes + rules.len() > LARGEST {
            return None;
        }
        let items = rules.iter().flat_map(|&rule| units.items_of(rule as usize));
        let own: BTreeSet<Unit> = rules.iter().copied().chain(items).filter(|&unit| unit != NONE).collect();
        let own: Vec<Unit> = own.into_iter().collect();
        let places = Places { units: &own };
        let numbers: BTreeSet<u32> = rules.iter().flat_map(boxes_of).map(|one| one.number).collect();
        let numbers: Vec<u32> = numbers.into_iter().collect();
        let shapes: BTreeSet<u32> =
            rules.iter().filter_map(|&rule| units.shapes.get(rule as usize)).copied().collect();
        let shapes: Vec<u32> = shapes.into_iter().collect();
        let rule = |&index: &u32| {
            let rule = program.rules.get(index as usize)?;
            let boxes = boxes_of(&index).iter().map(|one| {
                let [uid, gid, cgroup, node] = one.who.map(|unit| places.of(unit));
                [rank(&numbers, one.number), places.of(one.ports), uid, gid, cgroup, node]
            });
            Some(Rule {
                scope: rule.scope,
                direction: rule.direction,
                verdict: rule.verdict,
                bundle: rank(&bundles, units.bundle(index as usize)?),
                shape: rank(&shapes, *units.shapes.get(index as usize)?),
                statement: places.of(units.statement(index)),
                boxes: boxes.collect(),
            })
        };
        let plain = |&number: &u32| {
            let plain = units.boxes.get(number as usize)?;
            let (always, verdict, protocol) = (plain.always, plain.verdict, plain.protocol);
            Some(Plain { always, verdict, protocol, ports: plain.ports.clone(), who: plain.who.clone() })
        };
        let bundle = |it: &super::units::Bundle| {
            let first = it.rules.first().and_then(|&rule| program.rules.get(rule as usize));
            let prefixes = first.into_iter().flat_map(|rule| rule.addresses.iter());
            prefixes.zip(it.addresses()).map(|(item, &unit)| (item.prefix, places.of(unit))).collect()
        };
        let said = Said {
            rules: rules.iter().filter_map(rule).collect(),
            boxes: numbers.iter().filter_map(plain).collect(),
            bundles: bundles.iter().filter_map(written).map(bundle).collect(),
            shared: own
                .iter()
                .filter(|unit| units.shared.contains(unit))
                .map(|&unit| places.of(unit))
                .collect(),
            effective: own.iter().map(|&unit| effects.is_effective(unit)).collect(),
        };
        Some(Self { scopes: scopes.to_vec(), said, units: own, budget: effects.budget })
    }
}

/// Places of units among those of some workloads.
struct Places<'u> {
    units: &'u [Unit],
}

impl Places<'_> {
    fn of(&self, unit: Unit) -> u32 {
        if unit == NONE { NONE } else { rank(self.units, unit) }
    }
}

fn rank(all: &[u32], one: u32) -> u32 {
    all.binary_search(&one).map_or(NOBODY, number)
}
