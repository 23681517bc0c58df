//! Whether the trees will fit, before one is grown.

use mesh_bpf::flow::Direction;
use mesh_bpf::map::Table;
use mesh_bpf::pack::Unpackable;

use super::placement::Placed;
use super::processes::{CLASSES, Processes, TooMany};
use super::profiles::Class;
use super::written::Written;
use crate::hir::{Program, Rule, RuleId};

/// Why a program is not decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TooLarge {
    /// Its trees do not fit.
    Tables(Unpackable),
    /// Its rules tell apart too many kinds of processes.
    Classes {
        /// The profile.
        profile: String,
        /// The rules that name processes or the node, of the profile's scopes.
        rules: Vec<RuleId>,
    },
}

/// Counts the nodes of all trees before one is grown, where there may be too many: a program a hundred times as large as
/// the tables would not fit into memory either.
pub(super) fn foresee(program: &Program, written: &mut Written, limit: usize) -> Result<(), TooLarge> {
    const EACH: usize = size_of::<mesh_bpf::abi::Node>();
    let lines = |nodes: usize| nodes.saturating_mul(EACH).div_ceil(64);
    let most = program.rules.iter().map(|rule| placed(program, rule)).fold(0, usize::saturating_add);
    let names_processes = program.rules.iter().any(|rule| !rule.who.is_empty());
    let classes = if names_processes { 1 + CLASSES } else { 1 };
    if lines(most.saturating_mul(classes)) <= limit {
        return Ok(());
    }
    let needed = lines(nodes(program, written)?);
    if needed <= limit {
        Ok(())
    } else {
        Err(TooLarge::Tables(Unpackable::OverCapacity { table: Table::Nodes, needed, limit }))
    }
}

/// How many prefixes the trees of all profiles have at the least, without growing one.
fn nodes(program: &Program, written: &mut Written) -> Result<usize, TooLarge> {
    let Written { items, groups, placement, classes, .. } = written;
    let distinct = |placed: &[Placed]| placed.chunk_by(|a, b| a.prefix == b.prefix).count();
    let mut nodes = 0;
    for class in classes {
        let [outbound, inbound] = Direction::ALL.map(|direction| placement.merged(direction, &class.scopes));
        for placed in [outbound, inbound] {
            let processes = Processes::of(items, groups, &placed);
            let processes = processes.map_err(|TooMany| too_many_classes(program, class))?;
            for at in 0..=processes.len() {
                nodes += distinct(&processes.placed(at, items, groups, &placed));
            }
        }
    }
    Ok(nodes)
}

/// The refusal of a profile, with its rules that name processes.
pub(super) fn too_many_classes(program: &Program, class: &Class) -> TooLarge {
    let rules = (0u32..).map(RuleId).zip(&program.rules);
    let named = rules.filter(|(_, rule)| !rule.who.is_empty() && class.scopes.contains(&rule.scope));
    TooLarge::Classes { profile: class.name.clone(), rules: named.map(|(id, _)| id).collect() }
}

/// Its prefixes, for each workload that it reaches.
pub(crate) fn placed(program: &Program, rule: &Rule) -> usize {
    let workloads = program.scopes.get(rule.scope.index()).map_or(1, |scope| scope.members.len().max(1));
    rule.addresses.len().max(1).saturating_mul(workloads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::decide_program;
    use crate::fixture::Fixture;

    fn foresee(program: &Program, limit: usize) -> Result<(), TooLarge> {
        decide_program(program, limit).map(drop)
    }

    #[test]
    fn too_many_classes_come_with_the_rules_of_that_profile_that_name_processes() {
        let mut fixture = Fixture::new(&["cart", "till"]);
        for user in 0..65 {
            fixture.rule("m/cart", &format!("deny outbound tcp 80 as uid {}", 1000 + 2 * user));
        }
        let of_cart: Vec<RuleId> = (0..65).map(RuleId).collect();
        let refusal = |found: Result<(), TooLarge>| match found {
            Err(TooLarge::Classes { profile, rules }) => (profile, rules),
            other => panic!("{other:?}"),
        };
        assert_eq!(refusal(foresee(&fixture.program, 1 << 20)), ("m/cart".to_owned(), of_cart.clone()));
        fixture.rule("m/cart", "deny outbound tcp 81").rule("m/till", "deny outbound tcp 80 as uid 1");
        assert_eq!(refusal(foresee(&fixture.program, 1 << 20)), ("m/cart".to_owned(), of_cart));
    }

    #[test]
    fn a_program_is_refused_where_its_trees_do_not_fit_and_not_where_its_rules_share_prefixes() {
        let rules = |address: &dyn Fn(usize) -> String| {
            let mut fixture = Fixture::new(&["cart"]);
            for number in 0..64 {
                let port = 1000 + number;
                fixture.rule("m", &format!("deny outbound tcp {port} to {}", address(number)));
            }
            fixture.program
        };
        let needed = (64 * size_of::<mesh_bpf::abi::Node>()).div_ceil(64);
        let distinct = rules(&|number| format!("10.0.{number}.0/24"));
        let refusal =
            TooLarge::Tables(Unpackable::OverCapacity { table: Table::Nodes, needed, limit: needed - 1 });
        assert_eq!(foresee(&distinct, needed - 1), Err(refusal));
        assert_eq!(foresee(&distinct, needed), Ok(()));
        // What a workload receives counts as well.
        let mut received = Fixture::new(&["cart"]);
        for number in 0..64 {
            received.rule("m", &format!("deny inbound tcp {} from 10.0.{number}.0/24", 1000 + number));
        }
        assert!(foresee(&received.program, needed - 1).is_err());
        assert_eq!(foresee(&received.program, needed), Ok(()));
        let shared = rules(&|_| "10.0.0.0/24".into());
        assert_eq!(foresee(&shared, 1), Ok(()));
    }

    #[test]
    fn each_class_of_processes_has_trees_of_its_own() {
        let lines = |nodes: usize| (nodes * size_of::<mesh_bpf::abi::Node>()).div_ceil(64);
        let list = |second: u8, count: usize| {
            let all = (0..count).map(|at| format!("10.{second}.{}.{}", at / 256, at % 256));
            all.collect::<Vec<_>>().join(",")
        };
        // For 1, for 2 and for 3.
        let mut overlapping = Fixture::new(&["cart"]);
        overlapping.rule("m", &format!("deny outbound to {} as uid 1-2", list(1, 100)));
        overlapping.rule("m", &format!("deny outbound to {} as uid 2-3", list(2, 100)));
        let needed = lines(100 + 200 + 100);
        assert!(foresee(&overlapping.program, needed - 1).is_err());
        assert_eq!(foresee(&overlapping.program, needed), Ok(()));
        // As many classes as there can be, and everybody else.
        let mut all = Fixture::new(&["cart"]);
        all.rule("m", &format!("deny outbound to {}", list(1, 5000)));
        for user in 0..64 {
            all.rule("m", &format!("deny outbound to 10.2.0.{user} as uid {}", 10 * user));
        }
        assert!(foresee(&all.program, lines(65 * 5000 + 64) - 1).is_err());
    }

    #[test]
    fn a_rule_is_placed_at_each_of_its_prefixes_for_each_workload_that_it_reaches() {
        let mut fixture = Fixture::new(&["cart", "till", "web"]);
        for (scope, rule, expected) in [
            ("", "deny outbound", 3),
            ("", "deny outbound to 10.0.0.0/8,10.1.0.0/16", 6),
            ("m", "deny outbound tcp 80,443 to 10.0.0.0/8", 3),
            ("m+cart,web", "deny inbound from 10.0.0.1,10.0.0.2,10.0.0.3", 6),
            ("m/till", "deny outbound", 1),
            ("m/till", "deny outbound to 10.0.0.0/8,fd00::/8", 2),
        ] {
            fixture.rule(scope, rule);
            let written = fixture.program.rules.last().unwrap();
            assert_eq!(placed(&fixture.program, written), expected, "{scope}: {rule}");
        }
    }
}
