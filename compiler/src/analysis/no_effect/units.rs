//! What can be removed, and the boxes that it supports.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::flow::{Direction, Protocol, Verdict};
use mesh_bpf::intern::Interner;
use mesh_bpf::ports::{PortRange, PortSet};
use mesh_bpf::prefix::Prefix;

use crate::hir::region::real_ports;
use crate::hir::{Program, Rule, Scope, ScopeId, Who};
use crate::source::Span;

/// A number for each rule, then for each item of addresses, of ports and of processes. A statement that says something of
/// the node and of addresses is two rules, and its number that of the first.
pub(super) type Unit = u32;

/// No unit: a rule without addresses.
pub(super) const NONE: Unit = u32::MAX;

/// In the place of a rule that shadows a unit: somewhere, without the unit, none does.
pub(super) const NOBODY: u32 = u32::MAX;

/// How many deciding rules are remembered for a unit without effect.
pub(super) const REMEMBERED: usize = 3;

/// All units of a program.
pub(super) struct Units<'p> {
    /// Boxes without their addresses.
    pub(super) boxes: Vec<PlainBox<'p>>,
    /// For each rule its boxes.
    pub(super) of_rule: Vec<Vec<RuleBox>>,
    /// For each rule the first one of its statement.
    statements: Vec<u32>,
    /// For each rule a number that is equal for rules with the same boxes, in the same order.
    pub(super) shapes: Vec<u32>,
    /// Rules of one direction and scope that share their addresses.
    pub(super) bundles: Vec<Bundle>,
    /// For each rule its bundle.
    bundle_of: Vec<u32>,
    /// The words of each unit.
    pub(super) spans: Vec<Span>,
    /// For each direction and scope its bundles.
    written: BTreeMap<(Direction, ScopeId), Vec<u32>>,
    /// Units of ports that several rules name.
    pub(super) shared: BTreeSet<Unit>,
}

/// A box without its address.
pub(super) struct PlainBox<'p> {
    pub(super) scope: &'p Scope,
    pub(super) always: bool,
    pub(super) verdict: Verdict,
    pub(super) protocol: Protocol,
    pub(super) ports: PortSet,
    pub(super) who: &'p Who,
}

/// A box that a rule writes, by its number, with the units of its items.
#[derive(Clone, Copy)]
pub(super) struct RuleBox {
    pub(super) number: u32,
    pub(super) ports: Unit,
    /// Of users, groups, cgroups and the node.
    pub(super) who: [Unit; 4],
}

impl RuleBox {
    /// The units of its ports and processes.
    pub(super) fn units(self) -> impl Iterator<Item = Unit> {
        [self.ports].into_iter().chain(self.who).filter(|&unit| unit != NONE)
    }
}

/// Rules that share their addresses.
pub(super) struct Bundle {
    pub(super) rules: Vec<u32>,
    /// The units of their addresses.
    addresses: Vec<Unit>,
}

impl Bundle {
    /// The units of its addresses.
    pub(super) fn addresses(&self) -> &[Unit] {
        &self.addresses
    }
}

/// A bundle at one of its prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Written {
    pub(super) prefix: Prefix,
    pub(super) bundle: u32,
    pub(super) address: Unit,
}

impl<'p> Units<'p> {
    pub(super) fn of(program: &'p Program) -> Self {
        let mut spans: Vec<Span> = program.rules.iter().map(|rule| rule.span).collect();
        let mut by_words = Interner::default();
        let mut unit = |kind: Kind, span: Span| {
            let place = program.rules.len() + by_words.intern((kind, span)) as usize;
            if place == spans.len() {
                spans.push(span);
            }
            number(place)
        };
        let mut plain = Interner::default();
        let mut shapes = Interner::default();
        let mut units = Self {
            boxes: Vec::new(),
            of_rule: Vec::with_capacity(program.rules.len()),
            statements: Vec::with_capacity(program.rules.len()),
            shapes: Vec::with_capacity(program.rules.len()),
            bundles: Vec::new(),
            bundle_of: Vec::with_capacity(program.rules.len()),
            spans: Vec::new(),
            written: BTreeMap::new(),
            shared: BTreeSet::new(),
        };
        // By unit, the first rule that names it.
        let mut owners: Vec<u32> = Vec::new();
        let mut is_of_another = |unit: Unit, rule: u32| {
            let unit = unit as usize;
            if owners.len() <= unit {
                owners.resize(unit + 1, NOBODY);
            }
            let Some(owner) = owners.get_mut(unit) else { return false };
            if *owner == NOBODY {
                *owner = rule;
            }
            *owner != rule
        };
        let mut statements = Interner::default();
        let mut firsts: Vec<u32> = Vec::new();
        let mut known = Interner::default();
        for (index, rule) in (0u32..).zip(&program.rules) {
            let place = statements.intern(rule.span) as usize;
            if place == firsts.len() {
                firsts.push(index);
            }
            let statement = firsts.get(place).copied().unwrap_or(index);
            units.statements.push(statement);
            if statement != index {
                units.shared.insert(statement);
            }
            let next = number(units.bundles.len());
            let key = (rule.direction, rule.scope, rule.addresses.key());
            let bundle = known.intern(key);
            units.bundle_of.push(bundle);
            if bundle == next {
                units.written.entry((rule.direction, rule.scope)).or_default().push(bundle);
                let addresses = rule.addresses.iter().map(|item| unit(Kind::Address, item.span)).collect();
                units.bundles.push(Bundle { rules: vec![index], addresses });
            } else if let Some(bundle) = units.bundles.get_mut(bundle as usize) {
                bundle.rules.push(index);
            }
            let mut boxes = Vec::with_capacity(rule.ports.len());
            for item in &rule.ports {
                let ports = unit(Kind::Ports, item.span);
                if is_of_another(ports, index) {
                    units.shared.insert(ports);
                }
                for (place, who) in rule.whos() {
                    let said = (rule.scope, rule.always, rule.direction, rule.verdict);
                    let number = plain.intern((said, item.protocol, &item.ports, who));
                    if number as usize == units.boxes.len() {
                        units.boxes.extend(plain_box(program, rule, item, who));
                    }
                    let spans = place.and_then(|place| rule.who.get(place as usize)).map(|item| item.spans);
                    let who =
                        spans.unwrap_or_default().map(|span| span.map_or(NONE, |span| unit(Kind::Who, span)));
                    for &who in who.iter().filter(|&&who| who != NONE) {
                        if is_of_another(who, index) {
                            units.shared.insert(who);
                        }
                    }
                    boxes.push(RuleBox { number, ports, who });
                }
            }
            units.shapes.push(shapes.intern(shape(&boxes)));
            units.of_rule.push(boxes);
        }
        units.spans = spans;
        units
    }

    /// Every bundle of these scopes at each of its prefixes, sorted.
    pub(super) fn written(
        &self,
        program: &Program,
        scopes: &[ScopeId],
        direction: Direction,
    ) -> Vec<Written> {
        let mut written = Vec::new();
        for &bundle in scopes.iter().filter_map(|&scope| self.written.get(&(direction, scope))).flatten() {
            let Some(Bundle { rules, addresses }) = self.bundles.get(bundle as usize) else { continue };
            let rule = rules.first().and_then(|&rule| program.rules.get(rule as usize));
            let Some(rule) = rule else { continue };
            if rule.addresses.is_empty() {
                written.push(Written { prefix: Prefix::Any, bundle, address: NONE });
            }
            let items = rule.addresses.iter().zip(addresses);
            written.extend(items.map(|(item, &address)| Written { prefix: item.prefix, bundle, address }));
        }
        written.sort_unstable();
        written
    }

    /// The bundles of these scopes, in both directions.
    pub(super) fn bundles_of(&self, scopes: &[ScopeId]) -> impl Iterator<Item = u32> {
        let keys = Direction::ALL
            .into_iter()
            .flat_map(|direction| scopes.iter().map(move |&scope| (direction, scope)));
        keys.filter_map(|key| self.written.get(&key)).flatten().copied()
    }

    /// The bundle of a rule.
    pub(super) fn bundle(&self, rule: usize) -> Option<u32> {
        self.bundle_of.get(rule).copied()
    }

    /// The unit of a rule: that of its statement.
    pub(super) fn statement(&self, rule: u32) -> Unit {
        self.statements.get(rule as usize).copied().unwrap_or(rule)
    }

    /// The rules that are written at a place.
    pub(super) fn rules_of(&self, written: &Written) -> &[u32] {
        self.bundles.get(written.bundle as usize).map_or(&[][..], |bundle| &bundle.rules)
    }

    /// The units of a rule's addresses.
    pub(super) fn addresses_of(&self, rule: usize) -> &[Unit] {
        let bundle = self.bundle_of.get(rule).and_then(|&bundle| self.bundles.get(bundle as usize));
        bundle.map_or(&[][..], |bundle| &bundle.addresses)
    }

    /// The items of a rule.
    pub(super) fn items_of(&self, rule: usize) -> impl Iterator<Item = Unit> {
        let addresses = self.addresses_of(rule).iter().copied();
        let others = self.of_rule.get(rule).into_iter().flatten().flat_map(|one| one.units());
        addresses.chain(others)
    }

    /// Where redirects lead to. What alone leads to a port closes it to inbound redirects, and to those elsewhere
    /// where no inbound redirect leads to it; that is an effect.
    pub(super) fn sidecar_ports(
        &self,
        program: &Program,
        scopes: &[ScopeId],
        effects: &mut Effects,
    ) -> SidecarPorts {
        let mut by_port: BTreeMap<u16, Vec<Unit>> = BTreeMap::new();
        let mut by_target: BTreeMap<(Direction, Protocol, u16), Vec<Unit>> = BTreeMap::new();
        let mut inbound = false;
        for (&(direction, _), bundles) in self.written.iter().filter(|((_, scope), _)| scopes.contains(scope))
        {
            let bundles = bundles.iter().filter_map(|&bundle| self.bundles.get(bundle as usize));
            for (bundle, &rule) in
                bundles.flat_map(|bundle| bundle.rules.iter().map(move |rule| (bundle, rule)))
            {
                let port = program.rules.get(rule as usize).and_then(|rule| rule.verdict.port());
                let Some(port) = port else { continue };
                inbound |= direction == Direction::Inbound;
                for &one in self.of_rule.get(rule as usize).into_iter().flatten() {
                    let Some(plain) = self.boxes.get(one.number as usize) else { continue };
                    // Of several addresses none is needed.
                    let address = if let [only] = *bundle.addresses { Some(only) } else { None };
                    let rule = self.statement(rule);
                    let support: Vec<Unit> = [rule].into_iter().chain(one.units()).chain(address).collect();
                    let needs = |known: &mut Vec<Unit>| known.retain(|unit| support.contains(unit));
                    by_port.entry(port).and_modify(needs).or_insert_with(|| support.clone());
                    let target = (direction, plain.protocol, port);
                    by_target.entry(target).and_modify(needs).or_insert_with(|| support.clone());
                }
            }
        }
        let led_to = |direction, protocol, port| by_target.contains_key(&(direction, protocol, port));
        for (&(direction, protocol, port), units) in &by_target {
            let inbound_too = led_to(Direction::Inbound, protocol, port);
            let decides = match direction {
                Direction::Outbound => !inbound_too,
                Direction::Inbound => led_to(Direction::Outbound, protocol, port),
            };
            effects.keep(units.iter().filter(|_| decides));
        }
        effects.keep(by_port.values().flatten().filter(|_| inbound));
        let outbound = |protocol| {
            let ports = by_target.keys().filter(|&&(direction, of, port)| {
                direction == Direction::Outbound && of == protocol && !led_to(Direction::Inbound, of, port)
            });
            ports.map(|&(_, _, port)| PortRange::single(port)).collect()
        };
        SidecarPorts { all: by_port.keys().copied().collect(), outbound: Protocol::ALL.map(outbound) }
    }
}

/// Ports of sidecars.
#[derive(Clone, Default)]
pub(super) struct SidecarPorts {
    /// Those where nothing is redirected inbound.
    pub(super) all: Vec<u16>,
    /// For TCP and UDP those where, from elsewhere, only what is for them alone is let in.
    pub(super) outbound: [PortSet; 2],
}

impl SidecarPorts {
    /// The latter of one protocol.
    pub(super) const fn outbound(&self, protocol: Protocol) -> &PortSet {
        let [tcp, udp] = &self.outbound;
        match protocol {
            Protocol::Tcp => tcp,
            Protocol::Udp => udp,
        }
    }
}

/// The boxes of a rule, and which of them share a unit of ports or of processes.
fn shape(boxes: &[RuleBox]) -> Vec<(u32, u32, [u32; 4])> {
    let mut local: Vec<Unit> = Vec::new();
    let mut whos = Interner::default();
    let mut shape = Vec::with_capacity(boxes.len());
    for one in boxes {
        // Items of one unit follow each other.
        if local.last() != Some(&one.ports) {
            local.push(one.ports);
        }
        let who = one.who.map(|unit| if unit == NONE { NONE } else { whos.intern(unit) });
        shape.push((one.number, number(local.len()), who));
    }
    shape
}

/// What the words of a unit say.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Address,
    Ports,
    Who,
}

fn plain_box<'p>(
    program: &'p Program,
    rule: &Rule,
    item: &crate::hir::PortItem,
    who: &'p Who,
) -> Option<PlainBox<'p>> {
    Some(PlainBox {
        scope: program.scopes.get(rule.scope.index())?,
        always: rule.always,
        verdict: rule.verdict,
        protocol: item.protocol,
        ports: real_ports(&item.ports),
        who,
    })
}

/// What is known of each unit.
#[derive(Debug)]
pub(crate) struct Effects {
    /// Whether a verdict changes without it.
    effective: Vec<bool>,
    /// For units that have shown no effect yet, rules by which they are shadowed.
    shadowed_by: BTreeMap<Unit, BTreeSet<u32>>,
    /// How many boxes may still be looked at.
    pub(super) budget: u64,
    /// What was noted, where somebody wants to know.
    pub(super) notes: Option<Vec<Note>>,
}

/// What was found about a unit at some place.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) unit: Unit,
    pub(super) effective: bool,
    /// Rules by which it is shadowed there.
    pub(super) shadowed_by: Vec<u32>,
}

impl Effects {
    pub(super) fn new(units: &Units<'_>, budget: u64) -> Self {
        Self { effective: vec![false; units.spans.len()], shadowed_by: BTreeMap::new(), budget, notes: None }
    }

    /// Whether every unit has an effect, and all were looked at.
    pub(super) fn are_all(&self) -> bool {
        self.budget > 0 && self.effective.iter().all(|&effective| effective)
    }

    pub(super) fn is_effective(&self, unit: Unit) -> bool {
        self.effective.get(unit as usize).copied().unwrap_or(true)
    }

    /// Looks at this many boxes or words.
    pub(super) const fn charge(&mut self, looks: usize) {
        self.budget = self.budget.saturating_sub(looks as u64);
    }

    /// Takes in what a probe found.
    pub(super) fn note(&mut self, unit: Unit, effective: bool, shadowed_by: &[u32]) {
        if let Some(notes) = &mut self.notes {
            notes.push(Note { unit, effective, shadowed_by: shadowed_by.to_vec() });
        }
        if self.is_effective(unit) {
            return;
        }
        if effective {
            if let Some(known) = self.effective.get_mut(unit as usize) {
                *known = true;
            }
            self.shadowed_by.remove(&unit);
        } else {
            let known = self.shadowed_by.entry(unit).or_default();
            let left = REMEMBERED - known.len().min(REMEMBERED);
            let rules = shadowed_by.iter().copied().filter(|&rule| rule != unit && rule != NOBODY);
            known.extend(rules.take(left));
            known.extend(shadowed_by.contains(&NOBODY).then_some(NOBODY));
        }
    }

    /// Whether somewhere this unit decides, and no other rule would.
    pub(super) fn is_alone(&self, unit: Unit) -> bool {
        self.shadowed_by.get(&unit).is_some_and(|known| known.contains(&NOBODY))
    }

    /// The rules that decide where this unit's boxes are.
    pub(super) fn shadowed_by(&self, unit: Unit) -> impl Iterator<Item = u32> {
        self.shadowed_by.get(&unit).into_iter().flatten().copied().filter(|&rule| rule != NOBODY)
    }

    /// Units that have an effect beyond their own flows.
    fn keep<'u>(&mut self, units: impl Iterator<Item = &'u Unit>) {
        units.for_each(|&unit| self.note(unit, true, &[]));
    }
}

/// Programs have fewer than 2³² words.
pub(super) fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
