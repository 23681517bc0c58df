//! `leak`: TCP to a port is redirected by a rule that names it, while UDP to the same port and place goes
//! straight out and no rule speaks of it.

use std::collections::{BTreeSet, HashMap};

use mesh_bpf::flow::{Direction, Protocol, Verdict};
use mesh_bpf::ports::{PortRange, PortSet};
use mesh_bpf::prefix::Prefix;

use crate::diag::{Code, Diagnostic, Severity};
use crate::hir::{PortItem, Ports, Program, Rule, ScopeId};
use crate::ir::{Decider, Ir, Node, Outcome, Profile, TableId};
use crate::region::applies;

/// Ports on which clients speak either protocol: QUIC and DNS.
const EITHER: [u16; 2] = [53, 443];

/// Looks for leaks where rules are written; what is narrower has rules of its own.
pub(crate) fn check(program: &Program, ir: &Ir, diagnostics: &mut Vec<Diagnostic>) {
    let redirects = |rule: &&Rule| {
        rule.direction == Direction::Outbound && matches!(rule.verdict, Verdict::Redirected { .. })
    };
    // Rules that share their addresses are written at the same nodes.
    let mut known: HashMap<(ScopeId, usize), BTreeSet<[TableId; 2]>> = HashMap::new();
    for rule in program.rules.iter().filter(redirects) {
        let key = (rule.scope, rule.addresses.key());
        let tables = known.entry(key).or_insert_with(|| tables(program, ir, rule));
        for item in rule.ports.iter().filter(|item| item.protocol == Protocol::Tcp) {
            let leaking = leaking(ir, tables, rule, item);
            if !leaking.is_empty() {
                diagnostics.push(report(rule, item, &leaking));
            }
        }
    }
}

/// The profiles that a rule is part of.
fn profiles<'i>(program: &Program, ir: &'i Ir, rule: &Rule) -> Vec<&'i Profile> {
    let Some(scope) = program.scopes.get(rule.scope.index()) else { return Vec::new() };
    let of = |profile: &&Profile| profile.members.first().is_some_and(|&member| applies(scope, member));
    ir.profiles.iter().filter(of).collect()
}

/// The tables of TCP and UDP at each prefix of a rule.
fn tables(program: &Program, ir: &Ir, rule: &Rule) -> BTreeSet<[TableId; 2]> {
    let prefixes = rule.addresses.iter().map(|address| address.prefix);
    let prefixes: Vec<Prefix> =
        if rule.addresses.is_empty() { vec![Prefix::Any] } else { prefixes.collect() };
    let trees = profiles(program, ir, rule).into_iter().map(|profile| {
        let [outbound, _] = &profile.sides;
        &outbound.tree
    });
    trees
        .flat_map(|tree| prefixes.iter().filter_map(|&prefix| node(tree, prefix)))
        .map(|node| node.tables)
        .collect()
}

/// The ports of an item that leak at one of its rule's prefixes.
fn leaking(ir: &Ir, tables: &BTreeSet<[TableId; 2]>, rule: &Rule, item: &PortItem) -> PortSet {
    let ports: Vec<PortRange> = match &item.ports {
        Ports::Range(range) => vec![*range],
        // A catch-all names no port; a narrower rule, or none at all, is the usual case.
        Ports::All if rule.addresses.is_empty() => EITHER.map(PortRange::single).into(),
        Ports::All | Ports::Not(_) => return PortSet::default(),
    };
    let at = |tables| ports.iter().flat_map(move |&ports| leaks_at(ir, tables, rule, ports));
    tables.iter().copied().flat_map(at).collect()
}

fn node(tree: &[Node], prefix: Prefix) -> Option<&Node> {
    tree.binary_search_by_key(&prefix, |node| node.prefix).ok().and_then(|index| tree.get(index))
}

/// Ports where a node redirects TCP by this rule, and UDP by no rule at all.
fn leaks_at(ir: &Ir, [tcp, udp]: [TableId; 2], rule: &Rule, ports: PortRange) -> Vec<PortRange> {
    let by_rule = |outcome: Outcome| match outcome.decider {
        Decider::Item(item) => ir.items.get(item.0 as usize).is_some_and(|item| {
            (item.scope, item.always, item.verdict) == (rule.scope, rule.always, rule.verdict)
        }),
        _ => false,
    };
    let redirected = matching(ir, tcp.0, ports, by_rule);
    let straight = matching(ir, udp.0, ports, |outcome| outcome.decider == Decider::NoRule);
    redirected.intersection(&straight).ranges().to_vec()
}

fn matching(ir: &Ir, table: u32, ports: PortRange, wanted: impl Fn(Outcome) -> bool) -> PortSet {
    let Some(table) = ir.tables.get(table as usize) else { return PortSet::default() };
    let lasts = table.iter().skip(1).map(|step| step.0.saturating_sub(1)).chain([u16::MAX]);
    let steps = table.iter().zip(lasts).filter(|((_, outcome), _)| wanted(*outcome));
    let all: PortSet = steps.map(|(&(first, _), last)| PortRange { first, last }).collect();
    all.intersection(&ports.into())
}

fn report(rule: &Rule, item: &PortItem, leaking: &PortSet) -> Diagnostic {
    let deny = if rule.addresses.is_empty() { "" } else { " to …" };
    if item.ports == Ports::All {
        return Diagnostic::new(
            Code::Leak,
            format!("udp {leaking} goes straight out, past a redirect of all TCP"),
        )
        .severity(Severity::Note)
        .label(rule.span, "redirects tcp alone")
        .help(format!(
            "say what is meant, such as `deny outbound udp {leaking}`: clients then fall back to TCP"
        ));
    }
    Diagnostic::new(
        Code::Leak,
        format!("tcp {leaking} is redirected, and udp {leaking} to the same place goes straight out"),
    )
    .label(item.span, "names tcp alone")
    .help(format!(
        "add a rule for udp: `deny outbound udp {leaking}{deny}` makes clients fall back to TCP, and `exclude` says \
         that it is meant"
    ))
}
