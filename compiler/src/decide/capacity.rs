//! Whether the trees will fit, before one is grown.

use mesh_bpf::flow::Direction;
use mesh_bpf::image::Exempt;
use mesh_bpf::map::Table;
use mesh_bpf::pack::Unpackable;
use mesh_bpf::selector::{Selector, Subject};

use super::placement::Placed;
use super::processes::{CLASSES, Processes, TooMany};
use super::profiles::Class;
use super::written::Written;
use crate::hir::{Program, Rule, RuleId, ScopeId, Workload};
use crate::ir::{Ir, Profile};

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
    if is_small(program, limit) {
        return Ok(());
    }
    let needed = lines(nodes(program, written)?);
    if needed <= limit {
        Ok(())
    } else {
        Err(TooLarge::Tables(Unpackable::OverCapacity { table: Table::Nodes, needed, limit }))
    }
}

/// Whether the trees will fit, whatever rules share: most programs are such.
pub(crate) fn is_small(program: &Program, limit: usize) -> bool {
    let most = program.rules.iter().map(|rule| placed(program, rule)).fold(0, usize::saturating_add);
    let names_processes = program.rules.iter().any(|rule| !rule.who.is_empty());
    let classes = if names_processes { 1 + CLASSES } else { 1 };
    lines(most.saturating_mul(classes)) <= limit
}

/// The lines of so many nodes.
const fn lines(nodes: usize) -> usize {
    nodes.saturating_mul(size_of::<mesh_bpf::abi::Node>()).div_ceil(64)
}

/// Whether tables of so many things will fit when they are packed, by far. No table has more lines than there are things
/// in it, but trees: a line of theirs has many keys, and another one above it.
pub(crate) const fn fit_by_far(things: usize, limit: usize) -> bool {
    const EACH: usize = 16;
    things.saturating_mul(EACH) <= limit
}

/// How many things there are in what was decided, at the most. None where it cannot be told from that.
pub(crate) fn things(program: &Program, ir: &Ir) -> Option<usize> {
    if !program.accelerations.is_empty() || program.rules.iter().any(|rule| !rule.who.is_empty()) {
        return None;
    }
    let of_profile = |profile: &Profile| {
        let Exempt { uids, gids, cgroups, interfaces } = &profile.exempt;
        let paths = cgroups.iter().chain(interfaces).map(|(path, _)| text(path));
        let nodes = profile.sides.iter().map(|side| side.tree.len() + side.own.len());
        text(&profile.name) + uids.len() + gids.len() + paths.sum::<usize>() + nodes.sum::<usize>()
    };
    let of_scope = |scope: ScopeId| program.scopes.get(scope.index()).map_or(1, |scope| text(&scope.name));
    let of_workload = |workload: &Workload| {
        let Selector { addresses, cgroups, conditions } = &workload.selector;
        let conditions = conditions.iter().map(|one| key(&one.subject) + texts(&one.values));
        text(&workload.name) + addresses.len() + texts(cgroups) + conditions.sum::<usize>()
    };
    let mesh = program.meshes.iter().map(|mesh| text(&mesh.name)).max().unwrap_or(0);
    let things = ir.profiles.iter().map(of_profile).sum::<usize>()
        + ir.tables.iter().map(|table| 1 + table.len()).sum::<usize>()
        + ir.items.iter().map(|item| 2 + of_scope(item.scope)).sum::<usize>()
        + ir.sources.iter().map(|source| 1 + text(&source.scope) + text(&source.head)).sum::<usize>()
        + program.workloads.iter().map(|workload| mesh + of_workload(workload)).sum::<usize>()
        + mesh.saturating_mul(program.meshes.len());
    Some(things)
}

/// Lines of a text.
const fn text(text: &str) -> usize {
    1 + text.len() / 64
}

fn key(subject: &Subject) -> usize {
    match subject {
        Subject::Label(key) | Subject::NamespaceLabel(key) => text(key),
        Subject::Namespace | Subject::ServiceAccount | Subject::Pod => 1,
    }
}

fn texts(texts: &[String]) -> usize {
    texts.iter().map(|one| text(one)).sum()
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
    use crate::random::Random;

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

    /// What fits by far fits: the bound is above the lines that a program of any kind takes.
    #[test]
    fn what_fits_by_far_fits() {
        let mut far = 0;
        for seed in 1..=200u64 {
            let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let name = "w".repeat(1 + random.below(300));
            let mut fixture = Fixture::new(&[&name, "b"]);
            for at in 0..random.below(60) {
                let scope = random.of(&["", "m", "m/b"]);
                let address = match random.below(4) {
                    0 => format!(" to 10.{}.0.0/{}", random.below(200), 16 + random.below(16)),
                    1 => format!(" to fd00:{at:x}::/{}", 32 + random.below(90)),
                    2 => format!(" to 10.{at}.0.1,fd00::{at:x},fd00::1:{at:x}"),
                    _ => String::new(),
                };
                let ports =
                    random.of(&["", " tcp 80", " udp 1000-2000", " tcp 81,83,85-90", " tcp not 9000"]);
                fixture.rule(scope, &format!("exclude outbound{ports}{address}"));
            }
            let decided = decide_program(&fixture.program, 1 << 24).unwrap();
            let image = crate::analysis::fixture::image(&fixture.program);
            let tables = mesh_bpf::pack::pack(&image).unwrap();
            let needed = Table::ALL.into_iter().map(|table| tables.get(table).line_count()).max().unwrap();
            let things = things(&fixture.program, decided.ir()).unwrap();
            assert!(!fit_by_far(things, needed - 1), "seed {seed}: {needed}");
            far += usize::from(fit_by_far(things, needed * 400));
        }
        assert!(far > 150, "{far}");
    }
}
