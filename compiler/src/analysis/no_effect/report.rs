//! From units without effect to diagnostics: one for a rule, or for the items of one rule.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::flow::{Direction, Protocol, Verdict};
use mesh_bpf::image::Source;
use mesh_bpf::prefix::Prefix;

use super::units::{Effects, Unit, Units};
use crate::diag::{Code, Diagnostic, Severity, all_of};
use crate::hir::item;
use crate::hir::{NODE, Program, Rule, SERVICE, Who, WhoItem};
use crate::source::Span;

/// How many items of one rule are underlined.
const SHOWN: usize = 8;

pub(super) fn report(
    program: &Program,
    units: &Units<'_>,
    effects: &Effects,
    diagnostics: &mut Vec<Diagnostic>,
) {
    if effects.budget == 0 {
        diagnostics.extend(unsearched(program));
        return;
    }
    let idle: Vec<usize> = (0..program.rules.len())
        .filter(|&rule| units.statement(super::units::number(rule)) == super::units::number(rule))
        .filter(|&rule| !effects.is_effective(super::units::number(rule)))
        .filter(|&rule| reaches_anyone(program, rule))
        .collect();
    for group in identical(program, &idle) {
        diagnostics.extend(idle_rules(program, effects, &group));
    }
    let idle: BTreeSet<usize> = idle.into_iter().collect();
    for (rule, items) in idle_items(program, units, effects, &idle) {
        diagnostics.extend(idle_items_of(program, units, effects, rule, &items));
    }
}

/// The answer where the search was given up.
fn unsearched(program: &Program) -> Option<Diagnostic> {
    let first = program.rules.iter().map(|rule| rule.span).min()?;
    let message = "whether every rule has an effect was not found out: too many port ranges overlap";
    Some(
        Diagnostic::new(Code::NoEffect, message)
            .severity(Severity::Note)
            .label(first, "rules from here on")
            .help("join port ranges that say the same"),
    )
}

fn reaches_anyone(program: &Program, rule: usize) -> bool {
    let scope = program.rules.get(rule).and_then(|rule| program.scopes.get(rule.scope.index()));
    !program.workloads.is_empty() && scope.is_some_and(|scope| !scope.members.is_empty())
}

/// Rules that stand for the same boxes, together.
fn identical(program: &Program, idle: &[usize]) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for &index in idle {
        let Some(rule) = program.rules.get(index) else { continue };
        let boxes = |rule: &'_ Rule| {
            let addresses: BTreeSet<_> = rule.addresses.iter().map(|item| item.prefix).collect();
            let whos: BTreeSet<_> = rule.whos().map(|(_, who)| who.clone()).collect();
            (addresses, whos)
        };
        let ports: BTreeSet<_> = rule.ports.iter().map(|item| (item.protocol, &item.ports)).collect();
        let boxes: BTreeSet<_> = parts(program, rule).map(boxes).collect();
        let key = (rule.scope, rule.always, rule.direction, rule.verdict, ports, boxes);
        groups.entry(key).or_default().push(index);
    }
    groups.into_values().collect()
}

/// The rules that a statement stands for: two where it says something of the node and of addresses.
fn parts<'p>(program: &'p Program, rule: &'p Rule) -> impl Iterator<Item = &'p Rule> {
    program.rules.iter().filter(|part| part.span == rule.span)
}

/// Where the first item of what one of those is about is written.
fn first_item(rule: &Rule) -> Option<Span> {
    let node = rule.who.first().and_then(|item| item.spans.last().copied().flatten());
    rule.addresses.first().map(|item| item.span).or(node)
}

fn idle_rules(program: &Program, effects: &Effects, group: &[usize]) -> Option<Diagnostic> {
    let mut rules: Vec<&Rule> = group.iter().filter_map(|&index| program.rules.get(index)).collect();
    rules.sort_by_key(|rule| rule.span);
    let (&last, others) = rules.split_last()?;
    let text = text(program, last);
    if !others.is_empty() {
        let diagnostic = Diagnostic::new(Code::NoEffect, format!("{text} is written more than once"))
            .label(last.span, "says nothing new");
        let diagnostic = others.iter().fold(diagnostic, |found, rule| found.also(rule.span, "says the same"));
        return Some(diagnostic.help("remove one of them"));
    }
    let unit = super::units::number(*group.first()?);
    if is_intent(last) && effects.is_alone(unit) {
        return None;
    }
    let found = Diagnostic::new(Code::NoEffect, format!("{text} decides nothing"))
        .label(last.span, "without it every flow has the same verdict");
    Some(
        shadowed_by(program, effects, &[unit], found)
            .help("remove it, or make it narrower than what decides instead"),
    )
}

/// Whether a rule says that UDP is meant to go straight out: it answers `leak`, though no verdict depends
/// on it. It does so where no other rule would speak.
fn is_intent(rule: &Rule) -> bool {
    let udp = rule.ports.iter().all(|item| item.protocol == Protocol::Udp);
    udp && rule.direction == Direction::Outbound && rule.verdict == Verdict::Excluded
}

/// Items without effect of rules that have one, by the first rule that names them. The words of a
/// workload's selector are no item of a rule.
fn idle_items(
    program: &Program,
    units: &Units<'_>,
    effects: &Effects,
    idle: &BTreeSet<usize>,
) -> BTreeMap<usize, BTreeSet<Unit>> {
    let selectors: BTreeSet<Span> =
        program.workloads.iter().flat_map(|workload| &workload.selector_spans).copied().collect();
    let in_selector = |span: Span| selectors.iter().any(|selector| selector.covers(span));
    let mut first: BTreeMap<Unit, (usize, bool)> = BTreeMap::new();
    for (index, _) in program.rules.iter().enumerate().filter(|(index, _)| reaches_anyone(program, *index)) {
        for unit in units.items_of(index) {
            let known = first.entry(unit).or_insert((index, false));
            known.1 |= !idle.contains(&(units.statement(super::units::number(index)) as usize));
        }
    }
    let mut items: BTreeMap<usize, BTreeSet<Unit>> = BTreeMap::new();
    for (unit, (rule, used)) in first {
        let span = units.spans.get(unit as usize).copied();
        if used && !effects.is_effective(unit) && span.is_some_and(|span| !in_selector(span)) {
            items.entry(rule).or_default().insert(unit);
        }
    }
    items
}

fn idle_items_of(
    program: &Program,
    units: &Units<'_>,
    effects: &Effects,
    rule: usize,
    items: &BTreeSet<Unit>,
) -> Option<Diagnostic> {
    let rule = program.rules.get(rule)?;
    let mut spans: Vec<Span> =
        items.iter().filter_map(|&unit| units.spans.get(unit as usize)).copied().collect();
    spans.sort_unstable();
    let message = match spans.as_slice() {
        [] => return None,
        few @ ([_] | [_, _] | [_, _, _]) => {
            let names: Vec<String> = few.iter().filter_map(|&span| words_of(program, rule, span)).collect();
            let verb = if names.len() == 1 { "decides" } else { "decide" };
            format!("{} {verb} nothing in {}", all_of(&names), text(program, rule))
        }
        many => format!("{} items decide nothing in {}", many.len(), text(program, rule)),
    };
    let found = spans.iter().take(SHOWN).fold(Diagnostic::new(Code::NoEffect, message), |found, &span| {
        found.label(span, "without it every flow has the same verdict")
    });
    let units: Vec<Unit> = items.iter().copied().collect();
    Some(shadowed_by(program, effects, &units, found).help("remove what decides nothing"))
}

/// Adds the rules by which these units are shadowed.
fn shadowed_by(program: &Program, effects: &Effects, units: &[Unit], found: Diagnostic) -> Diagnostic {
    let rules: BTreeSet<u32> = units.iter().flat_map(|&unit| effects.shadowed_by(unit)).collect();
    let spans: BTreeSet<Span> =
        rules.iter().filter_map(|&rule| program.rules.get(rule as usize)).map(|rule| rule.span).collect();
    let labelled: BTreeSet<Span> = found.labels.iter().map(|label| label.span).collect();
    let others = spans.into_iter().filter(|span| !labelled.contains(span)).take(3);
    others.fold(found, |found, span| found.also(span, "decides instead"))
}

/// What the item that is written at `span` says.
fn words_of(program: &Program, rule: &Rule, span: Span) -> Option<String> {
    if let Some(service) = program.service_at(span) {
        return Some(format!("`{}`", service.label()));
    }
    let mut addresses = parts(program, rule).flat_map(|part| &part.addresses);
    if let Some(address) = addresses.find(|item| item.span == span) {
        return Some(format!("`{}`", address.prefix));
    }
    let mut whos = parts(program, rule).flat_map(|part| &part.who);
    if let Some(text) = whos.find_map(|item| words_of_who(item, span)) {
        return Some(text);
    }
    let ports = rule.ports.iter().find(|item| item.span == span)?;
    let mut text = ports.protocol.to_string();
    item::write_ports(&mut text, &ports.ports);
    Some(format!("`{text}`"))
}

/// What the words at `span` say of a process, or of the node.
fn words_of_who(item: &WhoItem, span: Span) -> Option<String> {
    let Who { uid, gid, ref cgroup, .. } = item.who;
    let side = item.spans.iter().position(|&written| written == Some(span))?;
    let who = match side {
        0 => Who { uid, ..Who::EVERYBODY },
        1 => Who { gid, ..Who::EVERYBODY },
        2 => Who { cgroup: cgroup.clone(), ..Who::EVERYBODY },
        _ => return Some(format!("`{NODE}`")),
    };
    Some(format!("`{who}`"))
}

/// A statement as its first item says it; `…` where there are more.
fn text(program: &Program, rule: &Rule) -> String {
    let rule = parts(program, rule).min_by_key(|part| first_item(part)).unwrap_or(rule);
    let address = rule.addresses.first();
    let prefix = address.map_or(Prefix::Any, |item| item.prefix);
    let service = address.and_then(|item| program.service_named(item.by));
    let who = rule.who.first().map_or(&Who::EVERYBODY, |item| &item.who);
    let source = rule.ports.first().map(|ports| item::rule_source(program, rule, ports, who));
    let first = source.map_or_else(String::new, |source| match service {
        Some(service) => {
            let place = format!("{} {SERVICE} {service}", rule.direction.preposition());
            let head = format!("{} {place}", source.head);
            Source { head, direction: None, ..source }.text(Prefix::Any)
        }
        None => source.text(prefix),
    });
    // Both protocols of one item are one item to who wrote it, and so are all addresses of a service.
    let spans: BTreeSet<Span> = rule.ports.iter().map(|item| item.span).collect();
    let places: BTreeSet<Span> = rule.addresses.iter().map(|item| item.span).collect();
    let is_more = if service.is_some() { places.len() > 1 } else { rule.addresses.len() > 1 };
    let is_more = is_more || rule.who.len() > 1 || parts(program, rule).count() > 1;
    let more = if spans.len() > 1 || is_more { " …" } else { "" };
    format!("`{first}{more}`")
}
