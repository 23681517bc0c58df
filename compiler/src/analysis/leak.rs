//! `leak`: TCP to a port is redirected by a rule that names it, while UDP to the same port and place goes
//! straight out and no rule speaks of it.

use std::collections::{BTreeSet, HashMap};

use mesh_bpf::flow::{Direction, Protocol, Verdict};
use mesh_bpf::ports::{PortRange, PortSet};
use mesh_bpf::prefix::Prefix;

use crate::diag::{Code, Diagnostic, Severity};
use crate::hir::region::applies;
use crate::hir::{PortItem, Ports, Program, Rule, ScopeId};
use crate::ir::{Decider, Ir, Node, Outcome, Profile, TableId};

const DNS: u16 = 53;
const QUIC: u16 = 443;

/// Ports on which clients speak either protocol.
const EITHER: [u16; 2] = [DNS, QUIC];

/// Ports of an item of a rule that leak.
#[derive(Debug)]
pub(crate) struct Leak {
    rule: usize,
    item: usize,
    ports: PortSet,
}

impl Leak {
    /// Says it of a program that it is true of.
    pub(super) fn report(&self, program: &Program) -> Option<Diagnostic> {
        let rule = program.rules.get(self.rule)?;
        Some(report(rule, rule.ports.get(self.item)?, &self.ports))
    }
}

/// Looks for leaks where rules are written; what is narrower has rules of its own.
pub(super) fn find(program: &Program, ir: &Ir) -> Vec<Leak> {
    let redirects = |rule: &&Rule| {
        rule.direction == Direction::Outbound && matches!(rule.verdict, Verdict::Redirected { .. })
    };
    // Rules that share their addresses are written at the same nodes.
    let mut known: HashMap<(ScopeId, usize), BTreeSet<[TableId; 2]>> = HashMap::new();
    let mut leaks = Vec::new();
    for (index, rule) in program.rules.iter().enumerate().filter(|(_, rule)| redirects(rule)) {
        let key = (rule.scope, rule.addresses.key());
        let tables = known.entry(key).or_insert_with(|| tables(program, ir, rule));
        let tcp = |(_, item): &(usize, &PortItem)| item.protocol == Protocol::Tcp;
        for (place, item) in rule.ports.iter().enumerate().filter(tcp) {
            let ports = leaking(ir, tables, rule, item);
            if !ports.is_empty() {
                leaks.push(Leak { rule: index, item: place, ports });
            }
        }
    }
    leaks
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
    let trees = profiles(program, ir, rule).into_iter().flat_map(|profile| {
        let [outbound, _] = &profile.sides;
        // A rule about some processes decides for those alone.
        let classes = profile.classes.sides.iter().filter(|_| !rule.who.is_empty());
        std::iter::once(outbound).chain(classes).map(|side| &side.tree)
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
        Ports::All if rule.addresses.is_empty() && !is_to_node(rule) => EITHER.map(PortRange::single).into(),
        Ports::All | Ports::Not(_) => return PortSet::default(),
    };
    let at = |tables| ports.iter().flat_map(move |&ports| leaks_at(ir, tables, rule, ports));
    tables.iter().copied().flat_map(at).collect()
}

/// Whether a rule is about the node alone. It names no addresses then.
fn is_to_node(rule: &Rule) -> bool {
    rule.who.iter().any(|item| item.who.node)
}

fn node(tree: &[Node], prefix: Prefix) -> Option<&Node> {
    tree.binary_search_by_key(&prefix, |node| node.prefix).ok().and_then(|index| tree.get(index))
}

/// Ports where a node redirects TCP by this rule, and UDP by no rule at all.
fn leaks_at(ir: &Ir, [tcp, udp]: [TableId; 2], rule: &Rule, ports: PortRange) -> Vec<PortRange> {
    let by_rule = |outcome: Outcome| match outcome.decider {
        Decider::Item(item) => ir.items.get(item.0 as usize).is_some_and(|item| {
            (item.scope, item.always, item.verdict) == (rule.scope, rule.always, rule.verdict)
                && rule.whos().any(|(_, who)| *who == item.who)
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
    let help = help(rule, leaking, item.ports != Ports::All);
    if item.ports == Ports::All {
        return Diagnostic::new(
            Code::Leak,
            format!("udp {leaking} goes straight out, past a redirect of all TCP"),
        )
        .severity(Severity::Note)
        .label(rule.span, "redirects tcp alone")
        .help(format!("say what is meant: {help}"));
    }
    Diagnostic::new(
        Code::Leak,
        format!("tcp {leaking} is redirected, and udp {leaking} to the same place goes straight out"),
    )
    .label(item.span, "names tcp alone")
    .help(format!("add a rule for udp: {help}"))
}

/// What to write. Clients of QUIC fall back to TCP where UDP is denied. Resolvers do not: over UDP, DNS is either
/// answered or broken, so nobody is told to deny it.
fn help(rule: &Rule, leaking: &PortSet, names_port: bool) -> String {
    let place = match (is_to_node(rule), rule.addresses.is_empty()) {
        (true, _) => " to node",
        (false, true) => "",
        (false, false) => " to …",
    };
    let dns = PortSet::from(PortRange::single(DNS));
    let others = leaking.intersection(&dns.complement());
    let mut help = Vec::new();
    if others != *leaking {
        let target = rule.verdict.port().filter(|_| names_port).map(|port| port.to_string());
        let target = target.unwrap_or_else(|| "PORT".to_owned());
        help.push(format!(
            "`exclude outbound udp {DNS}{place}`, or `redirect outbound udp {DNS}{place} -> {target}` to a sidecar that \
             answers DNS (resolvers do not fall back to TCP)"
        ));
    }
    if !others.is_empty() {
        let falls_back = if others.contains(QUIC) { " (QUIC falls back to TCP)" } else { "" };
        help.push(format!(
            "`deny outbound udp {others}{place}`{falls_back}, or `exclude` if it may go straight"
        ));
    }
    help.join("; ")
}

#[cfg(test)]
mod tests {
    use crate::compile::compile;
    use crate::diag::{Code, has_errors};
    use crate::resolve::{Location, NoImports};

    fn helps(rules: &str) -> Vec<String> {
        let text = format!(
            "exempt uid 1500\nalways deny outbound to 169.254.169.254\nmesh m {{\nworkload w {{ any }}\n{rules}\n}}\n"
        );
        let place = Location { key: "a.mesh".to_owned(), name: "a.mesh".to_owned() };
        let done = compile(vec![(place, text.clone().into_bytes())], &mut NoImports, None);
        assert!(!has_errors(&done.diagnostics), "{text}: {:?}", done.diagnostics);
        assert!(
            done.diagnostics.iter().all(|found| found.code == Code::Leak),
            "{text}: {:?}",
            done.diagnostics
        );
        let leaks = done.diagnostics.into_iter();
        leaks.map(|found| found.help.unwrap()).collect()
    }

    /// The rules that a help writes out, in all its backticks.
    fn rules(help: &str) -> Vec<String> {
        let quoted = help.split('`').skip(1).step_by(2).filter(|text| text.contains("outbound"));
        quoted.map(|text| text.replace("PORT", "15053").replace("to …", "to 10.0.0.0/8")).collect()
    }

    const LEAKING: [&str; 7] = [
        "redirect outbound -> 15001",
        "redirect outbound tcp 53 -> 15053",
        "redirect outbound tcp 50-60, 443 -> 15001",
        "redirect outbound tcp 443 to 10.0.0.0/8 -> 15001",
        "redirect outbound tcp 53 to 10.0.0.0/8 -> 15053",
        "redirect outbound -> 15001; exclude outbound udp 53",
        "redirect outbound -> 15001; deny outbound udp 443",
    ];

    #[test]
    fn nobody_is_told_to_deny_dns() {
        for leaking in LEAKING {
            let helps = helps(leaking);
            assert!(!helps.is_empty(), "{leaking}");
            for rule in helps.iter().flat_map(|help| rules(help)) {
                let denied = rule.strip_prefix("deny outbound udp ").unwrap_or_default();
                let ports = denied.split(" to ").next().unwrap_or_default();
                let holds_dns = |range: &str| {
                    let (first, last) = range.split_once('-').unwrap_or((range, range));
                    (first.parse::<u16>().unwrap()..=last.parse().unwrap()).contains(&53)
                };
                assert!(denied.is_empty() || !ports.split(", ").any(holds_dns), "{rule}");
            }
        }
    }

    #[test]
    fn what_the_help_writes_settles_it() {
        for leaking in LEAKING {
            let advice: Vec<Vec<String>> = helps(leaking).iter().map(|help| rules(help)).collect();
            // One rule for each port that is told of apart; of two ways to say it, either will do.
            for way in [0, 1] {
                let chosen = advice.iter().flat_map(|rules| {
                    let dns: Vec<&String> = rules.iter().filter(|rule| !rule.starts_with("deny")).collect();
                    let denied = rules.iter().filter(|rule| rule.starts_with("deny"));
                    dns.get(way).copied().into_iter().chain(denied).collect::<Vec<_>>()
                });
                let text = chosen.fold(leaking.to_owned(), |text, rule| format!("{text}\n{rule}"));
                assert_eq!(helps(&text), Vec::<String>::new(), "{text}");
            }
        }
    }
}
