//! `conflict`: redirects that tie and lead to different places, each pair of rules with one flow.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::flow::{Direction, Flow, Protocol, Verdict};
use mesh_bpf::image::IdRange;
use mesh_bpf::ports::PortSet;
use mesh_bpf::prefix::Prefix;

use crate::decide::Conflict;
use crate::diag::{Code, Diagnostic};
use crate::hir::region::real_ports;
use crate::hir::{Level, NODE, PortItem, Ports, Program, Rule, ScopeId, Who};
use crate::ir::Item;
use crate::source::Span;

/// Rules with more addresses than this are shown by the address, not as a whole.
const LONG: usize = 8;

/// Reports what lowering found, once for each pair of rules.
pub(super) fn check(program: &Program, conflicts: &[Conflict], diagnostics: &mut Vec<Diagnostic>) {
    if conflicts.is_empty() {
        return;
    }
    let writers = writers(program);
    let mut reported = BTreeSet::new();
    for conflict in conflicts {
        let places = [&conflict.one, &conflict.other].map(|(item, prefix)| {
            let rules = writers.get(&Written::of(item)).map_or(&[][..], Vec::as_slice);
            written_at(program, rules, *prefix)
        });
        let [Some(one), Some(other)] = places else { continue };
        if reported.insert((one.rule.min(other.rule), one.rule.max(other.rule))) {
            diagnostics.push(report(program, conflict, &one, &other));
        }
    }
}

/// Where one of the two is written.
struct WrittenAt {
    rule: usize,
    span: Span,
}

/// What an item says, without its address.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Written<'p> {
    scope: ScopeId,
    always: bool,
    direction: Direction,
    verdict: Verdict,
    protocol: Protocol,
    ports: &'p Ports,
    who: &'p Who,
}

impl<'p> Written<'p> {
    const fn of(item: &'p Item) -> Self {
        let Item { scope, always, direction, verdict, protocol, ref ports, ref who } = *item;
        Self { scope, always, direction, verdict, protocol, ports, who }
    }

    const fn by(rule: &Rule, item: &'p PortItem, who: &'p Who) -> Self {
        let Rule { scope, always, direction, verdict, .. } = *rule;
        Self { scope, always, direction, verdict, protocol: item.protocol, ports: &item.ports, who }
    }
}

/// The rules that write each box.
fn writers(program: &Program) -> BTreeMap<Written<'_>, Vec<usize>> {
    let mut writers: BTreeMap<Written<'_>, Vec<usize>> = BTreeMap::new();
    for (index, rule) in program.rules.iter().enumerate() {
        for (item, who) in rule.boxes() {
            writers.entry(Written::by(rule, item, who)).or_default().push(index);
        }
    }
    writers
}

/// Where an item is written: the first of these rules that names the address.
fn written_at(program: &Program, rules: &[usize], prefix: Prefix) -> Option<WrittenAt> {
    let mut places = Vec::new();
    for (index, rule) in rules.iter().filter_map(|&index| Some((index, program.rules.get(index)?))) {
        let address = rule.addresses.iter().find(|address| address.prefix == prefix);
        match address {
            // Those of a service stand nowhere, and rules that name the same share them.
            Some(address) if rule.addresses.len() > LONG && program.service_named(address.by).is_none() => {
                places.push(WrittenAt { rule: index, span: address.span })
            }
            Some(_) => places.push(WrittenAt { rule: index, span: rule.span }),
            None if rule.addresses.is_empty() && prefix == Prefix::Any => {
                places.push(WrittenAt { rule: index, span: rule.span });
            }
            None => {}
        }
    }
    places.into_iter().min_by_key(|place| place.span)
}

fn report(program: &Program, conflict: &Conflict, one: &WrittenAt, other: &WrittenAt) -> Diagnostic {
    let target = |item: &Item| {
        let text = item.verdict.to_string();
        text.strip_prefix("redirected ").unwrap_or(&text).to_owned()
    };
    let (first, second) = (target(&conflict.one.0), target(&conflict.other.0));
    let witness = flow_text(program, conflict);
    let found = Diagnostic::new(
        Code::Conflict,
        format!("`{witness}` would be redirected to {first} and to {second}"),
    )
    .label(one.span, format!("to {first}"))
    .label(other.span, format!("to {second}, and neither rule is narrower"));
    if let ((one, near), (other, far)) = (&conflict.one, &conflict.other)
        && one.who.node != other.who.node
        && (*near, *far) != (Prefix::Any, Prefix::Any)
    {
        let first = if one.always { "" } else { ", or begin the one that shall decide with `always`" };
        return found.help(format!(
            "nobody can know which addresses the node will have, so none is narrower than `{NODE}`: lead both to one port{first}"
        ));
    }
    found.help(format!(
        "a rule for just the flows that both reach decides{}: `{}`",
        settling_place(program, conflict),
        settling(conflict)
    ))
}

/// Where that rule must stand to be narrower than both: nothing where both stand in one place.
fn settling_place(program: &Program, conflict: &Conflict) -> String {
    let scope = |item: &Item| program.scopes.get(item.scope.index());
    let (Some(one), Some(other)) = (scope(&conflict.one.0), scope(&conflict.other.0)) else {
        return String::new();
    };
    let inner = match (one.covers(other), other.covers(one)) {
        (true, true) => return String::new(),
        (true, false) => Some(other),
        (false, true) => Some(one),
        (false, false) => None,
    };
    match inner.map(|scope| (scope.level, scope.name.as_str())) {
        Some((Level::Mesh, name)) => format!(", in mesh `{name}`"),
        Some((Level::For, _)) => ", in the same `for` as the inner one".to_owned(),
        _ => {
            let name = program.workloads.get(conflict.workload.index()).map_or("", |workload| &workload.name);
            format!(", in workload `{name}`")
        }
    }
}

/// A flow as tests write it. Of the node one address stands for all, unless a rule names some.
fn flow_text(program: &Program, conflict: &Conflict) -> String {
    let Conflict { workload, flow, identity, one: (_, near), other: (_, far) } = conflict;
    let name = program.workloads.get(workload.index()).map_or("", |workload| workload.name.as_str());
    let Flow { protocol, address, port, own, .. } = flow;
    let (peer, told) = match (identity.node, *own) {
        (true, _) if (*near, *far) == (Prefix::Any, Prefix::Any) => (NODE.to_owned(), ""),
        (true, _) => (address.to_string(), ", an address of the node"),
        (false, true) => (address.to_string(), ", its own address"),
        (false, false) => (address.to_string(), ""),
    };
    match flow.direction {
        Direction::Outbound => {
            format!("{name} -> {peer} {protocol} {port}{}{told}", identity.clause())
        }
        Direction::Inbound => format!("{peer} -> {name} {protocol} {port}{told}"),
    }
}

/// A redirect for just the flows that two redirects have in common.
fn settling(conflict: &Conflict) -> String {
    let ((one, near), (other, far)) = (&conflict.one, &conflict.other);
    let prefix = if near.covers(*far) { *far } else { *near };
    let ports: PortSet = real_ports(&one.ports).intersection(&real_ports(&other.ports));
    let all = ports == real_ports(&Ports::All);
    let ports = if all { String::new() } else { format!(" {ports}") };
    let who = common(&one.who, &other.who);
    let preposition = one.direction.preposition();
    let place = match prefix {
        Prefix::Any if who.node => format!(" {preposition} {NODE}"),
        Prefix::Any => String::new(),
        prefix => format!(" {preposition} {prefix}"),
    };
    let always = if one.always { "always " } else { "" };
    let target = one.verdict.to_string();
    let target = target.strip_prefix("redirected ").unwrap_or(&target);
    let who = if who.is_every_process() { String::new() } else { format!(" as {who}") };
    format!("{always}redirect {} {}{ports}{place}{who} -> {target}", one.direction, one.protocol)
}

/// Who two rules have in common: there is somebody.
fn common(one: &Who, other: &Who) -> Who {
    let ids = |one: Option<IdRange>, other: Option<IdRange>| match (one, other) {
        (Some(one), Some(other)) => {
            Some(IdRange { first: one.first.max(other.first), last: one.last.min(other.last) })
        }
        (one, other) => one.or(other),
    };
    // Of two paths that hold one process the longer one lies within the other.
    let cgroup = [&one.cgroup, &other.cgroup].into_iter().flatten().max_by_key(|path| path.len()).cloned();
    let node = one.node || other.node;
    Who { uid: ids(one.uid, other.uid), gid: ids(one.gid, other.gid), cgroup, node }
}

#[cfg(test)]
mod tests {
    use crate::compile::compile;
    use crate::diag::{Code, Diagnostic};
    use crate::resolve::{Location, NoImports};

    fn conflicts(text: &str) -> Vec<Diagnostic> {
        let place = Location { key: "a.mesh".to_owned(), name: "a.mesh".to_owned() };
        let done = compile(vec![(place, text.as_bytes().to_vec())], &mut NoImports, None);
        done.diagnostics.into_iter().filter(|found| found.code == Code::Conflict).collect()
    }

    #[test]
    fn redirects_that_tie_for_some_processes_name_one_and_the_help_settles_it() {
        let program =
            |rules: &str| format!("exempt uid 1500\nmesh m {{ workload a {{ label app = a }}\n{rules}\n}}\n");
        let rules =
            "redirect outbound tcp 80 as uid 1000-1999 -> 15001\nredirect outbound tcp as gid 7 -> 15002";
        let found = conflicts(&program(rules));
        let [one] = found.as_slice() else { panic!("{found:?}") };
        assert!(one.message.contains(" tcp 80 as uid 1000 gid 7`"), "{}", one.message);
        let rule = "redirect outbound tcp 80 as uid 1000-1999 and gid 7 -> 15002";
        assert!(one.help.as_ref().is_some_and(|help| help.contains(rule)), "{one:?}");
        assert_eq!(conflicts(&program(&format!("{rules}\n{rule}"))), []);
        let apart = "redirect outbound tcp as uid 1 -> 15001\nredirect outbound tcp as uid 2 -> 15002";
        assert_eq!(conflicts(&program(apart)), []);
    }

    /// A prefix and the node are not comparable, and no rule is within both.
    #[test]
    fn redirects_that_tie_at_the_node_name_it_and_the_help_settles_it() {
        let program =
            |rules: &str| format!("exempt uid 1500\nmesh m {{ workload a {{ label app = a }}\n{rules}\n}}\n");
        let to_node = "redirect outbound tcp to node -> 15001";
        let rules = format!("{to_node}\nredirect outbound tcp to 10.0.0.0/8 -> 15002");
        let found = conflicts(&program(&rules));
        let [one] = found.as_slice() else { panic!("{found:?}") };
        assert!(one.message.starts_with("`a -> 10.0.0.0 tcp 1, an address of the node`"), "{}", one.message);
        assert!(one.help.as_ref().is_some_and(|help| help.contains("`always`")), "{one:?}");
        assert_eq!(conflicts(&program(&format!("always {rules}"))), []);
        assert_eq!(conflicts(&program(&rules.replace("15002", "15001"))), []);
        for narrower in ["", "tcp 80"] {
            let rules = format!("{to_node}\nredirect outbound {narrower} -> 15002");
            let tie = conflicts(&program(&rules));
            let Some(one) = tie.first() else {
                assert_eq!(narrower, "");
                continue;
            };
            assert!(one.message.starts_with("`a -> node tcp 80`"), "{}", one.message);
            let rule = "redirect outbound tcp 80 to node -> 15001";
            assert!(one.help.as_ref().is_some_and(|help| help.contains(rule)), "{one:?}");
            assert_eq!(conflicts(&program(&format!("{rules}\n{rule}"))), []);
        }
        let inbound = "redirect inbound tcp from node -> 15003\nredirect inbound tcp from fd00::/8 -> 15004";
        let found = conflicts(&program(inbound));
        let [one] = found.as_slice() else { panic!("{found:?}") };
        assert!(one.message.starts_with("`fd00:: -> a tcp 1, an address of the node`"), "{}", one.message);
    }

    /// Elsewhere a rule decides that does not reach a member's own address.
    #[test]
    fn redirects_may_tie_at_an_own_address_alone() {
        let rules = "always exclude outbound to 10.0.0.0/8\nredirect outbound tcp 80-90 to 10.0.0.1 -> 15001\n\
                     redirect outbound tcp 85-99 to 10.0.0.1 -> 15002";
        let text = format!("exempt uid 1500\nmesh m {{ workload a {{ label app = a }}\n{rules}\n}}\n");
        let found = conflicts(&text);
        let [one] = found.as_slice() else { panic!("{found:?}") };
        assert!(one.message.starts_with("`a -> 10.0.0.1 tcp 85, its own address`"), "{}", one.message);
    }

    /// Rules at the top, in the mesh, in two `for`s and in a workload.
    fn program(rules: [&str; 5]) -> String {
        let [top, mesh, two, other_two, workload] = rules;
        format!(
            "exempt uid 1500\n{top}\nmesh m {{\n{mesh}\nfor a, b {{ {two}\n}}\nfor b, c {{ {other_two}\n}}\n\
             workload a {{ label app = a }}\nworkload b {{ label app = b\n{workload}\n}}\nworkload c {{ label app = c }}\n}}\n"
        )
    }

    #[test]
    fn the_help_settles_the_conflict_where_it_says() {
        let [ports, prefix] =
            ["redirect outbound tcp 53,80-90 -> 15053", "redirect outbound to 10.0.0.0/8 -> 15001"];
        let places = ["", ", in mesh `m`", ", in the same `for` as the inner one", "", ", in workload `b`"];
        for one in 0..5 {
            for other in 0..5 {
                let mut rules = [String::new(), String::new(), String::new(), String::new(), String::new()];
                rules[one] = ports.to_owned();
                rules[other] = format!("{}\n{prefix}", rules[other]);
                // Two `for`s of which neither holds the other meet in one workload.
                let crossing = one.min(other) == 2 && one.max(other) == 3;
                let inner = if crossing { 4 } else { one.max(other) };
                for _ in 0..2 {
                    let text = program(rules.each_ref().map(String::as_str));
                    let Some(found) = conflicts(&text).into_iter().next() else { break };
                    let help = found.help.unwrap();
                    let place = if one == other { "" } else { places[if inner == 3 { 2 } else { inner }] };
                    let place = format!("decides{place}: `");
                    let rule = help.split_once(&place).unwrap_or_else(|| panic!("{help}\n{text}")).1;
                    rules[inner] = format!("{}\n{}", rules[inner], rule.trim_end_matches('`'));
                }
                let text = program(rules.each_ref().map(String::as_str));
                assert_eq!(conflicts(&text), [], "{text}");
            }
        }
    }
}
