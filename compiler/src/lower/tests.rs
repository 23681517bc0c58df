//! Which words of a policy an item leads back to.

use mesh_bpf::image::{Source, SourceKind};
use mesh_bpf::item::counter_key;
use mesh_bpf::prefix::Prefix;

use super::ItemOrigin;
use crate::compile::{Compilation, Compiled, compile};
use crate::fixture::prefix;
use crate::hir::NameId;
use crate::resolve::{Location, NoImports};
use crate::source::Span;

const POLICY: &str = "
exempt uid 1500, 1502
set blocked = 10.7.0.0/16, 10.9.0.0/16
set web = tcp 80, 443
mesh shop {
    workload cart { address 10.1.0.0/24 }
    workload till { address 10.2.0.0/24 }
    deny outbound tcp 25, 587 to blocked, 10.8.0.0/16
    always deny outbound tcp 25
    deny outbound tcp 25 to 10.9.0.0/16, 10.6.0.0/16
    exclude outbound web
    exclude outbound udp to blocked
    accelerate local for cart tcp 9
    accelerate local for till tcp 9, 8
    accelerate cart <-> till tcp 9
}
mesh stall {
    workload stand { address 10.3.0.0/24 }
    accelerate local tcp 9
}
";

/// The policy, compiled.
struct Written(Compilation);

impl Written {
    fn compile() -> Self {
        let place = Location { key: "m.mesh".to_owned(), name: "m.mesh".to_owned() };
        Self(compile(vec![(place, POLICY.as_bytes().to_vec())], &mut NoImports, None))
    }

    fn compiled(&self) -> &Compiled {
        self.0.compiled.as_ref().unwrap()
    }

    fn words(&self, span: Span) -> &str {
        self.0.files.sources.slice(span)
    }

    /// A name that stands for something, or nothing.
    fn name(&self, id: NameId) -> &str {
        self.0.resolution.program.names.get(id.index()).map_or("", String::as_str)
    }

    /// The only source with this scope and text.
    fn source(&self, scope: &str, head: &str) -> &Source {
        let sources = &self.compiled().image.sources;
        let mut found = sources.iter().filter(|one| one.scope == scope && one.head == head);
        let source = found.next().unwrap_or_else(|| panic!("{scope}: {head} is none of {sources:#?}"));
        assert_eq!(found.next(), None);
        source
    }
}

/// Rule, ports and address as written, and the names that stand for ports and address.
type Words<'t> = [&'t str; 5];

#[test]
fn an_item_leads_to_every_place_where_it_is_written() {
    let written = Written::compile();
    let origins = &written.compiled().origins;
    let many = "deny outbound tcp 25, 587 to blocked, 10.8.0.0/16";
    let again = "deny outbound tcp 25 to 10.9.0.0/16, 10.6.0.0/16";
    let always = "always deny outbound tcp 25";
    let cases: [(&str, &str, Prefix, &[Words<'_>]); 13] = [
        (
            "shop",
            "deny outbound tcp 25",
            prefix("10.7.0.0/16"),
            &[[many, "25", "10.7.0.0/16", "", "blocked"]],
        ),
        ("shop", "deny outbound tcp 25", prefix("10.8.0.0/16"), &[[many, "25", "10.8.0.0/16", "", ""]]),
        (
            "shop",
            "deny outbound tcp 25",
            prefix("10.9.0.0/16"),
            &[[many, "25", "10.9.0.0/16", "", "blocked"], [again, "25", "10.9.0.0/16", "", ""]],
        ),
        (
            "shop",
            "deny outbound tcp 587",
            prefix("10.9.0.0/16"),
            &[[many, "587", "10.9.0.0/16", "", "blocked"]],
        ),
        // Both have addresses, and neither this one.
        ("shop", "deny outbound tcp 25", prefix("10.8.0.0/24"), &[]),
        ("shop", "deny outbound tcp 25", Prefix::Any, &[]),
        // It has none.
        ("shop", always, Prefix::Any, &[[always, "25", "", "", ""]]),
        ("shop", always, prefix("10.7.0.0/16"), &[]),
        ("shop", "exclude outbound tcp 443", Prefix::Any, &[["exclude outbound web", "443", "", "web", ""]]),
        (
            "shop",
            "exclude outbound udp",
            prefix("10.9.0.0/16"),
            &[["exclude outbound udp to blocked", "udp", "10.9.0.0/16", "", "blocked"]],
        ),
        ("", "exempt uid 1502", Prefix::Any, &[["1502", "1502", "", "", ""]]),
        (
            "shop",
            "accelerate cart <-> till tcp 9",
            Prefix::Any,
            &[["accelerate cart <-> till tcp 9", "accelerate cart <-> till tcp 9", "", "", ""]],
        ),
        (
            "stall",
            "accelerate local tcp 9",
            Prefix::Any,
            &[["accelerate local tcp 9", "accelerate local tcp 9", "", "", ""]],
        ),
    ];
    for (scope, head, prefix, expected) in cases {
        let found = origins.of_item(written.source(scope, head), prefix);
        let shown = |origin: &ItemOrigin| {
            let [ports, by] = origin.by;
            let address = origin.address.map_or("", |span| written.words(span));
            [
                written.words(origin.rule),
                written.words(origin.ports),
                address,
                written.name(ports),
                written.name(by),
            ]
        };
        assert_eq!(found.iter().map(shown).collect::<Vec<_>>(), expected, "{scope}: {head} {prefix}");
        // What is no rule has no number of one.
        let is_rule = written.source(scope, head).kind == SourceKind::Rule;
        for origin in found {
            let rule = origin.id.map(|id| written.0.resolution.program.rules[id.index()].span);
            assert_eq!(rule, is_rule.then_some(origin.rule));
        }
    }
    // One item that two statements write together.
    let local = written.source("shop", "accelerate local tcp 9");
    let found = origins.of_item(local, Prefix::Any);
    let statements: Vec<&str> = found.iter().map(|origin| written.words(origin.rule)).collect();
    assert_eq!(statements, ["accelerate local for cart tcp 9", "accelerate local for till tcp 9, 8"]);
}

#[test]
fn a_counter_leads_to_the_first_rule_that_has_its_item() {
    let written = Written::compile();
    let origins = &written.compiled().origins;
    let counters = origins.by_counter();
    assert!(counters.is_sorted_by(|one, next| one.counter < next.counter));
    let many = "deny outbound tcp 25, 587 to blocked, 10.8.0.0/16";
    let cases: [(&str, &str, Prefix, &str, [&str; 2]); 8] = [
        ("shop", "deny outbound tcp 25", prefix("10.9.0.0/16"), many, ["", "blocked: 10.9.0.0/16"]),
        ("shop", "deny outbound tcp 587", prefix("10.8.0.0/16"), many, ["", ""]),
        (
            "shop",
            "deny outbound tcp 25",
            prefix("10.6.0.0/16"),
            "deny outbound tcp 25 to 10.9.0.0/16, 10.6.0.0/16",
            ["", ""],
        ),
        ("shop", "exclude outbound tcp 80", Prefix::Any, "exclude outbound web", ["web: 80", ""]),
        ("shop", "always deny outbound tcp 25", Prefix::Any, "always deny outbound tcp 25", ["", ""]),
        ("", "exempt uid 1500", Prefix::Any, "1500", ["", ""]),
        ("shop", "accelerate local tcp 9", Prefix::Any, "accelerate local for cart tcp 9", ["", ""]),
        (
            "shop",
            "accelerate local for till tcp 8",
            Prefix::Any,
            "accelerate local for till tcp 9, 8",
            ["", ""],
        ),
    ];
    for (scope, head, prefix, rule, elsewhere) in cases {
        let counter = counter_key(written.source(scope, head).stable_hash(), prefix);
        let at = counters.binary_search_by_key(&counter, |origin| origin.counter);
        let origin = &counters[at.unwrap_or_else(|_| panic!("{scope}: {head} {prefix} is not counted"))];
        let named = origin.elsewhere.map(|named| {
            named.map_or_else(String::new, |(by, span)| {
                format!("{}: {}", written.name(by), written.words(span))
            })
        });
        assert_eq!(written.words(origin.rule), rule, "{scope}: {head} {prefix}");
        assert_eq!(named, elsewhere, "{scope}: {head} {prefix}");
    }
    // A rule with addresses counts nothing without one.
    let hash = written.source("shop", "deny outbound tcp 25").stable_hash();
    assert!(counters.iter().all(|origin| origin.counter != counter_key(hash, Prefix::Any)));
}
