use mesh_bpf::pack::pack;
use proptest::prelude::*;

use super::kept::Now;
use super::units::{Units, number};
use super::{BUDGET, Effects, Kept, classes, effects, find, report};
use crate::analysis::fixture::{image, ties};
use crate::diff::{Side, diff};
use crate::emit::Sets;
use crate::fixture::Fixture;
use crate::hir::{Program, Rule};
use crate::laws::{program, program_with_sets, rule};

/// Whether two programs decide some flow differently.
fn differ(one: &Program, other: &Program) -> bool {
    let [one, other] = [one, other].map(image);
    let [one_tables, other_tables] = [&one, &other].map(|image| pack(image).unwrap());
    let sets = Sets::default();
    let old = Side { image: &one, tables: &one_tables, sets: &sets };
    let new = Side { image: &other, tables: &other_tables, sets: &sets };
    !diff(Some(old), Some(new)).unwrap().flows.is_empty()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn versions_are_looked_at_as_if_each_were_the_first(rules in prop::collection::vec(rule(), 1..10)) {
        let whole = program(&rules);
        let mut kept = Kept::default();
        for index in (0..=rules.len()).chain(0..2) {
            let mut version = whole.clone();
            if index < version.rules.len() {
                version.rules.remove(index);
            }
            let (again, first) = (find(&version, Some(&mut kept)), find(&version, None));
            prop_assert_eq!(format!("{again:?}"), format!("{first:?}"));
        }
    }

    #[test]
    fn a_unit_has_an_effect_where_its_removal_changes_a_flow(
        rules in prop::collection::vec(rule(), 1..10),
    ) {
        let program = program(&rules);
        prop_assume!(ties(&program).is_empty());
        let units = Units::of(&program);
        let effects = effects(&program, &units, None);
        for index in 0..program.rules.len() {
            // A statement about the node and addresses is two rules.
            let statement = program.rules[index].span;
            let parts = program.rules.iter().filter(|rule| rule.span == statement).count();
            let mut without = program.clone();
            without.rules.retain(|rule| rule.span != statement);
            // Without the rule redirects may tie that it beat.
            if !ties(&without).is_empty() {
                continue;
            }
            let expected = differ(&program, &without);
            // A redirect also closes its target to others. That counts as an effect, even
            // where another rule hides it: a warning must be right, and need not be complete.
            let closes_a_port = program.rules[index].verdict.port().is_some() && !expected;
            if !closes_a_port {
                let unit = units.statement(number(index));
                prop_assert_eq!(effects.is_effective(unit), expected, "rule {}", index);
            }
            for item in 0..program.rules[index].addresses.len() {
                let mut without = program.clone();
                let mut left = without.rules[index].addresses.to_vec();
                left.remove(item);
                without.rules[index].addresses = left.into();
                if without.rules[index].addresses.is_empty() && parts > 1 {
                    without.rules.remove(index);
                } else if without.rules[index].addresses.is_empty() {
                    continue;
                }
                if !ties(&without).is_empty() {
                    continue;
                }
                let unit = units.items_of(index).nth(item).unwrap();
                let expected = differ(&program, &without);
                if program.rules[index].verdict.port().is_none() || expected {
                    prop_assert_eq!(effects.is_effective(unit), expected, "address {} of rule {}", item, index);
                }
            }
            let redirects = program.rules[index].verdict.port().is_some();
            for unit in units.items_of(index).skip(program.rules[index].addresses.len()) {
                let mut without = program.clone();
                let span = units.spans[unit as usize];
                let is_node = |rule: &Rule| rule.who.iter().any(|one| one.spans[3] == Some(span));
                let mut is_whole = false;
                if parts > 1 && is_node(&program.rules[index]) {
                    without.rules.remove(index);
                } else {
                    for rule in without.rules.iter_mut().filter(|rule| rule.span == statement) {
                        let ports: Vec<_> = rule.ports.iter().filter(|item| item.span != span).cloned().collect();
                        let whos = rule.who.iter().filter(|one| !one.spans.contains(&Some(span)));
                        let whos: Vec<_> = whos.cloned().collect();
                        is_whole |= ports.is_empty() || whos.is_empty() != rule.who.is_empty();
                        (rule.ports, rule.who) = (ports.into(), whos.into());
                    }
                }
                if is_whole || !ties(&without).is_empty() {
                    continue;
                }
                let expected = differ(&program, &without);
                if !redirects || expected {
                    prop_assert_eq!(effects.is_effective(unit), expected, "ports or processes of rule {}", index);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn an_item_of_a_set_has_an_effect_where_its_removal_from_the_set_changes_a_flow(
        rules in prop::collection::vec(rule(), 1..10),
    ) {
        let program = program_with_sets(&rules);
        prop_assume!(ties(&program).is_empty());
        let units = Units::of(&program);
        let effects = effects(&program, &units, None);
        // A redirect closes its target to others, which counts, and is told elsewhere.
        for rule in program.rules.iter().filter(|rule| rule.verdict.port().is_none()) {
            for item in &rule.addresses {
                let mut without = program.clone();
                for other in without.rules.iter_mut().filter(|other| other.addresses.contains(item)) {
                    let left: Vec<_> = other.addresses.iter().filter(|other| *other != item).copied().collect();
                    other.addresses = left.into();
                }
                let emptied = |(old, new): (&Rule, &Rule)| new.addresses.len() < old.addresses.len()
                    && (new.addresses.is_empty() || new.verdict.port().is_some());
                let changed = program.rules.iter().zip(&without.rules);
                if changed.into_iter().any(emptied) || !ties(&without).is_empty() {
                    continue;
                }
                let unit = units.spans.iter().position(|span| *span == item.span).unwrap();
                prop_assert_eq!(effects.is_effective(number(unit)), differ(&program, &without), "{:?}", item);
            }
        }
    }
}

#[track_caller]
fn expect(fixture: &Fixture, expected: &[(&str, usize)]) {
    let mut diagnostics = Vec::new();
    report(&fixture.program, &find(&fixture.program, None), &mut diagnostics);
    let found: Vec<(&str, usize)> =
        diagnostics.iter().map(|found| (found.message.as_str(), found.labels.len())).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_rule_within_one_that_says_the_same() {
    let mut fixture = Fixture::new(&["a"]);
    fixture.rule("m", "deny outbound tcp 25").rule("m", "deny outbound tcp 25 to 10.0.0.0/8");
    expect(&fixture, &[("`deny outbound tcp 25 to 10.0.0.0/8` decides nothing", 2)]);
}

#[test]
fn identical_rules_are_told_once() {
    let mut fixture = Fixture::new(&["a"]);
    fixture.rule("m", "deny outbound tcp 25,26").rule("m", "deny outbound tcp 26,25");
    expect(&fixture, &[("`deny outbound tcp 26 …` is written more than once", 2)]);
}

#[test]
fn an_item_of_a_list() {
    let mut fixture = Fixture::new(&["a"]);
    fixture.rule("m", "deny outbound tcp 25 to 10.0.0.0/8,10.1.0.0/16,11.0.0.0/8");
    expect(&fixture, &[("`10.1.0.0/16` decides nothing in `deny outbound tcp 25 to 10.0.0.0/8 …`", 2)]);
}

#[test]
fn processes_that_a_wider_rule_names_already() {
    let mut fixture = Fixture::new(&["a"]);
    fixture.rule("m", "deny outbound tcp 25 as uid 5-9").rule("m", "deny outbound tcp 25 as uid 7 and gid 3");
    expect(&fixture, &[("`deny outbound tcp 25 as uid 7 and gid 3` decides nothing", 2)]);
    let mut fixture = Fixture::new(&["a"]);
    fixture.rule("m", "deny outbound tcp 25 as uid 5-9,7,20 and cgroup /a,/a/b,/c");
    expect(
        &fixture,
        &[(
            "`uid 7` and `cgroup \"/a/b\"` decide nothing in `deny outbound tcp 25 as uid 5-9 and cgroup \"/a\" …`",
            3,
        )],
    );
    // Neither is within the other.
    let mut fixture = Fixture::new(&["a"]);
    fixture.rule("m", "deny outbound tcp 25 as uid 5").rule("m", "deny outbound tcp 25 as gid 5");
    fixture.rule("m", "deny outbound tcp 25-26 as cgroup /a");
    expect(&fixture, &[]);
}

#[test]
fn the_node_and_addresses_of_one_statement_are_items_of_one_rule() {
    let both = "deny outbound tcp 25 to node,10.0.0.0/24";
    let mut fixture = Fixture::new(&["a"]);
    fixture.rule("m", "always exclude outbound tcp 25 to node").rule("m", both);
    expect(&fixture, &[("`node` decides nothing in `deny outbound tcp 25 to node …`", 2)]);
    let mut fixture = Fixture::new(&["a"]);
    fixture.rule("m", "always exclude outbound tcp 25 to 10.0.0.0/8");
    fixture.rule("m", "deny outbound tcp 25 to node,10.0.0.0/24");
    expect(&fixture, &[("`10.0.0.0/24` decides nothing in `deny outbound tcp 25 to node …`", 2)]);
    let mut fixture = Fixture::new(&["a"]);
    fixture.rule("m", "always exclude outbound tcp 25").rule("m", both);
    expect(&fixture, &[("`deny outbound tcp 25 to node …` decides nothing", 2)]);
    let mut fixture = Fixture::new(&["a"]);
    fixture.rule("m", both).rule("m", "deny outbound tcp 25 to 10.0.0.0/24,node");
    expect(&fixture, &[("`deny outbound tcp 25 to 10.0.0.0/24 …` is written more than once", 2)]);
    // What comes from the node is told from what comes from elsewhere.
    let mut fixture = Fixture::new(&["a"]);
    fixture.rule("m", "deny inbound tcp 80 from node").rule("m", "deny inbound tcp 80-81");
    expect(&fixture, &[("`deny inbound tcp 80 from node` decides nothing", 2)]);
    let mut fixture = Fixture::new(&["a"]);
    fixture.rule("m", "exclude inbound tcp 80 from node").rule("m", "deny inbound tcp 80-81");
    expect(&fixture, &[]);
}

#[test]
fn a_rule_for_everybody_that_all_others_are_beaten_by() {
    let mut fixture = Fixture::new(&["a"]);
    fixture.rule("m", "always deny outbound tcp 25").rule("m", "exclude outbound tcp 25 as uid 5");
    expect(&fixture, &[("`exclude outbound tcp 25 as uid 5` decides nothing", 2)]);
}

#[test]
fn a_rule_that_is_beaten_everywhere() {
    let mut fixture = Fixture::new(&["a"]);
    fixture.rule("", "always deny outbound tcp 25").rule("m/a", "redirect outbound tcp 25 -> 15001");
    // Alone it keeps others from 15001.
    expect(&fixture, &[]);
    fixture.rule("m", "redirect outbound tcp 80 -> 15001");
    expect(&fixture, &[("`redirect outbound tcp 25 -> 15001` decides nothing", 2)]);
}

#[test]
fn a_rule_at_a_port_that_belongs_to_the_member() {
    let mut fixture = Fixture::new(&["a"]);
    fixture
        .rule("", "redirect outbound -> 15001")
        .rule("m", "exclude inbound tcp 15001 from 10.0.0.0/8")
        .rule("m", "deny inbound tcp 15001 from 192.0.2.0/24")
        .rule("m", "exclude inbound tcp 15001-15002 from 198.51.100.0/24");
    expect(
        &fixture,
        &[
            ("`exclude inbound tcp 15001-15002 from 198.51.100.0/24` decides nothing", 1),
            ("`deny inbound tcp 15001 from 192.0.2.0/24` decides nothing", 1),
        ],
    );
}

#[test]
fn half_an_item_is_no_item() {
    let mut fixture = Fixture::new(&["a"]);
    // UDP goes straight anyway, but nobody wrote a rule for UDP alone.
    fixture.rule("", "redirect outbound -> 15001").rule("m", "exclude outbound to 10.0.0.0/8");
    expect(&fixture, &[]);
}

#[test]
fn a_rule_that_says_what_goes_without_saying() {
    let mut fixture = Fixture::new(&["a"]);
    fixture.rule("m", "exclude outbound tcp 80");
    expect(&fixture, &[("`exclude outbound tcp 80` decides nothing", 1)]);
}

#[test]
fn a_prefix_that_narrower_ones_cover() {
    let mut fixture = Fixture::new(&["a"]);
    fixture
        .rule("m", "deny outbound to 10.0.0.0/8")
        .rule("m", "redirect outbound tcp to 10.0.0.0/9,10.128.0.0/9 -> 15001")
        .rule("m", "exclude outbound udp to 10.0.0.0/9,10.128.0.0/9");
    expect(&fixture, &[("`deny outbound tcp to 10.0.0.0/8` decides nothing", 3)]);
}

#[test]
fn a_rule_that_decides_between_redirects_that_would_tie() {
    let mut fixture = Fixture::new(&["a"]);
    fixture
        .rule("m", "redirect outbound tcp 443 -> 15443")
        .rule("m", "redirect outbound tcp to 10.0.0.0/8 -> 15001")
        .rule("m", "redirect outbound tcp 443 to 10.0.0.0/8 -> 15443");
    expect(&fixture, &[]);
}

#[test]
fn an_exclusion_that_answers_leak() {
    let mut fixture = Fixture::new(&["a"]);
    fixture.rule("", "redirect outbound -> 15001").rule("m", "exclude outbound udp 53");
    expect(&fixture, &[]);
    // Although elsewhere narrower ones, or one with `always`, decide.
    fixture.rule("m", "exclude outbound any to 10.0.0.1").rule("", "always deny outbound to 169.254.169.254");
    fixture.rule("m", "redirect outbound udp 53 to 10.0.0.2 -> 15053");
    expect(&fixture, &[]);
}

#[test]
fn an_exclusion_of_udp_where_others_decide_everywhere() {
    let mut fixture = Fixture::new(&["a"]);
    fixture.rule("", "redirect outbound -> 15001").rule("m", "exclude outbound udp 53");
    fixture.rule("", "deny outbound udp to 10.0.0.0/8").rule("m", "exclude outbound udp 50-60 to 10.0.0.0/8");
    fixture.rule("m/a", "exclude outbound udp 50-60 to 10.0.0.1");
    expect(&fixture, &[("`exclude outbound udp 50-60 to 10.0.0.1` decides nothing", 3)]);
}

#[test]
fn what_is_said_again_for_some_workloads_is_not_looked_for_again() {
    let program = |port: u16| {
        let mut fixture = Fixture::new(&["a", "b"]);
        fixture.rule("", "redirect outbound -> 15001").rule("m/a", "deny outbound tcp 25 to 10.0.0.0/8");
        fixture.rule("m/a", "deny outbound tcp 25 to 10.1.0.0/16");
        fixture.rule("m/b", &format!("deny outbound tcp {port}")).rule("m/b", "deny outbound tcp 25");
        fixture.program
    };
    let mut kept = Kept::default();
    for port in [25, 26, 26, 25] {
        let program = program(port);
        let (again, first) = (find(&program, Some(&mut kept)), find(&program, None));
        assert_eq!(format!("{again:?}"), format!("{first:?}"), "{port}");
    }
    // Of the next version what is said for one of them is known.
    let program = program(27);
    let units = Units::of(&program);
    let mut effects = Effects::new(&units, BUDGET);
    kept.next_version(&program);
    let known: Vec<bool> = classes(&program)
        .iter()
        .filter_map(|scopes| Now::of(&program, &units, scopes, &effects))
        .collect::<Vec<_>>()
        .into_iter()
        .map(|now| kept.recall(now, &mut effects).is_none())
        .collect();
    assert_eq!(known.iter().filter(|known| **known).count(), 1, "{known:?}");
}
