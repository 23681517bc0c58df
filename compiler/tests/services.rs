//! Kubernetes services as addresses: what they mean, how the compiled text names them, and what is said of those that nobody
//! knows.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what fails here is the test"
)]

use std::collections::BTreeSet;

use mesh_bpf::image::MapImage;
use mesh_compiler::compile::{Compilation, Inventory, compile};
use mesh_compiler::diag::{Code, Diagnostic, Severity};
use mesh_compiler::diff::{Side, diff};
use mesh_compiler::emit::{Sets, emit};
use mesh_compiler::hir::NameId;
use mesh_compiler::prove::prove;
use mesh_compiler::resolve::{Location, NoImports, Services};

#[path = "../src/random.rs"]
mod random;
use random::Random;

fn services(known: &[(&str, &[&str])]) -> Services {
    let parsed = |all: &[&str]| all.iter().map(|one| one.parse().unwrap()).collect();
    known.iter().map(|&(name, all)| (name.to_owned(), parsed(all))).collect()
}

fn compiled(policy: &str, known: Services) -> Compilation {
    let place = Location { key: "a.mesh".into(), name: "a.mesh".into() };
    let inventory = Inventory { services: known, endpoints: None };
    compile(vec![(place, policy.as_bytes().to_vec())], &mut NoImports, Some(inventory))
}

fn image(done: &Compilation) -> &MapImage {
    &done.compiled.as_ref().unwrap_or_else(|| panic!("{:#?}", done.diagnostics)).image
}

fn text(policy: &str, known: Services) -> String {
    let done = compiled(policy, known);
    emit(image(&done), &Sets::of(&done.resolution.program))
}

fn said(done: &Compilation) -> Vec<(Severity, Code, String)> {
    let one = |found: &Diagnostic| (found.severity, found.code, found.message.clone());
    done.diagnostics.iter().map(one).collect()
}

const POLICY: &str = "exempt uid 1500
redirect outbound -> 15001
set control = service kubernetes, service osm/control, 192.0.2.53
mesh shop {
    exclude outbound tcp 443 to control
    exclude outbound tcp 9000 to 10.0.0.0/8
    workload cart {
        label app = cart
        exclude outbound tcp 5432 to service data/pg, service data/pg-ro
        deny outbound tcp 5433 to service data/pg-ro
    }
}
";

const KNOWN: [(&str, &[&str]); 4] = [
    ("default/kubernetes", &["10.43.0.1", "192.0.2.10"]),
    ("osm/control", &["10.43.0.2"]),
    ("data/pg", &["10.43.7.7", "10.42.3.9", "10.42.5.2", "fd00::7"]),
    ("data/pg-ro", &["10.43.7.8", "10.42.5.2"]),
];

#[test]
fn the_compiled_text_names_services_and_no_address_of_theirs() {
    let text = text(POLICY, services(&KNOWN));
    for (name, addresses) in KNOWN {
        assert!(text.contains(name), "{name}: {text}");
        for address in addresses {
            assert!(!text.contains(address), "{address}: {text}");
        }
    }
    let set = "[set.\"control\"]\naddresses = [\n    \"192.0.2.53\",\n]\nservices = [\n    \"default/kubernetes\",\n    \
               \"osm/control\",\n]\n";
    assert!(text.contains(set), "{text}");
    for line in [
        "exclude tcp 443 to control\"",
        "exclude tcp 5432 to service data/pg, service data/pg-ro\"",
        "deny tcp 5433 to service data/pg-ro\"",
        "\"service data/pg alone tcp 5432\" = \"excluded\"",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

/// Addresses of services are written nowhere: what is shown of an item is its rule, whichever name the address has.
#[test]
fn an_address_of_a_service_is_written_where_its_rule_is() {
    let policy = "exempt uid 1500\nredirect outbound -> 15001\nset far = 192.0.2.0/24\n\
                  mesh shop {\n    exclude outbound tcp 5432 to service data/pg\n    exclude outbound tcp 22 to far\n    \
                  workload cart { label app = cart }\n}\n";
    let done = compiled(policy, services(&[("data/pg", &["10.43.7.7"])]));
    let origins = done.compiled.as_ref().unwrap().origins.by_counter();
    let named = |name: &str| {
        let is_named = |id: &NameId| done.resolution.program.names[id.0 as usize] == name;
        let found = origins.iter().filter_map(|one| one.elsewhere[1].map(|(id, span)| (id, span, one.rule)));
        let found: Vec<bool> =
            found.filter(|(id, ..)| is_named(id)).map(|(_, span, rule)| span == rule).collect();
        found
    };
    assert_eq!((named("service data/pg"), named("far")), (vec![true], vec![false]));
}

#[test]
fn endpoints_that_come_and_go_change_the_image_and_no_line_of_its_text() {
    let now = [
        ("default/kubernetes", &["10.43.0.1", "192.0.2.11", "192.0.2.12"][..]),
        ("osm/control", &["10.43.0.2", "10.42.9.9"]),
        ("data/pg", &["10.43.7.7", "10.42.3.10", "10.42.5.9", "10.42.5.10", "fd00::9"]),
        ("data/pg-ro", &["10.43.7.8", "10.42.5.9"]),
    ];
    let (before, after) = (compiled(POLICY, services(&KNOWN)), compiled(POLICY, services(&now)));
    assert_ne!(image(&before), image(&after));
    assert_eq!(text(POLICY, services(&KNOWN)), text(POLICY, services(&now)));
    // They are told where somebody asks what changes.
    let sets = [&before, &after].map(|done| Sets::of(&done.resolution.program));
    let [old, new] = [(&before, &sets[0]), (&after, &sets[1])].map(|(done, sets)| {
        let compiled = done.compiled.as_ref().unwrap();
        Side { image: &compiled.image, tables: &compiled.tables, sets }
    });
    let found = diff(Some(old), Some(new)).unwrap();
    let shown =
        |prefixes: &[mesh_bpf::prefix::Prefix]| prefixes.iter().map(ToString::to_string).collect::<Vec<_>>();
    let changed: Vec<_> =
        found.services.iter().map(|it| (it.name.as_str(), shown(&it.added), shown(&it.removed))).collect();
    let texts = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect::<Vec<_>>();
    assert_eq!(
        changed,
        [
            (
                "data/pg",
                texts(&["10.42.3.10", "10.42.5.9", "10.42.5.10", "fd00::9"]),
                texts(&["10.42.3.9", "10.42.5.2", "fd00::7"])
            ),
            ("data/pg-ro", texts(&["10.42.5.9"]), texts(&["10.42.5.2"])),
            ("default/kubernetes", texts(&["192.0.2.11", "192.0.2.12"]), texts(&["192.0.2.10"])),
            ("osm/control", texts(&["10.42.9.9"]), texts(&[])),
        ]
    );
    assert!(!found.flows.is_empty() && found.entries == Default::default(), "{found:#?}");
}

#[test]
fn where_prefixes_around_decide_otherwise_the_text_says_within_which_a_part_lies() {
    let policy = "exempt uid 1500
mesh shop {
    deny outbound tcp 80 to 10.42.0.0/16
    redirect outbound tcp 80 to 10.43.0.0/16 -> 15002
    exclude outbound tcp to service a
    always deny outbound tcp 80 to 10.43.0.0/17
    workload cart { label app = cart }
}
";
    let known = || services(&[("default/a", &["10.42.0.1", "10.43.0.1", "10.43.128.1", "192.0.2.1"])]);
    let text = text(policy, known());
    for address in ["10.42.0.1", "10.43.0.1\"", "10.43.128.1", "192.0.2.1"] {
        assert!(!text.contains(address), "{address}: {text}");
    }
    assert!(
        text.contains(
            "\"service default/a in 10.42.0.0/16, service default/a in 10.43.0.0/17 tcp not 80\" = "
        ),
        "{text}"
    );
    assert!(text.contains("service default/a elsewhere, service default/a in 10.43.0.0/16 tcp"), "{text}");
    assert_eq!(text.matches("exclude tcp to service default/a\"").count(), 1, "{text}");
}

#[test]
fn a_service_that_nobody_knows_is_told_once_and_makes_no_rule_wider() {
    let policy = "exempt uid 1500
redirect outbound -> 15001
mesh shop {
    exclude outbound tcp 443 to service shop/crat
    exclude outbound tcp 444 to service shop/crat, 192.0.2.1
    workload cart { address 10.0.0.0/24 }
    test \"t\" {
        cart -> service shop/crat tcp 443 is excluded
        cart -> 192.0.2.1 tcp 444 is excluded
        cart -> 192.0.2.2 tcp 443 is redirected
        cart -> 192.0.2.2 tcp 444 is redirected
    }
}
";
    let done = compiled(policy, services(&[("shop/cart", &["10.0.0.9"])]));
    let message = "the addresses of service `shop/crat` are not known";
    assert_eq!(said(&done), [(Severity::Note, Code::UnknownService, message.to_owned())]);
    let [note] = done.diagnostics.as_slice() else { panic!() };
    assert_eq!((note.labels.len(), note.help.as_deref()), (3, Some("did you mean `service shop/cart`?")));
    assert_eq!((done.tests.passed(), done.tests.failed()), (3, 0));
    let [error] = done.unknown_services().try_into().unwrap();
    assert_eq!((error.severity, error.code), (Severity::Error, Code::UnknownService));
    // Whoever silences the note has not said what the addresses are.
    let silenced = policy.replace("mesh shop {", "# meshc: allow(unknown-service)\nmesh shop {");
    let done = compiled(&silenced, Services::new());
    assert_eq!((said(&done), done.unknown_services().len()), (vec![], 1));
}

#[test]
fn a_service_without_addresses_is_for_nobody() {
    let policy = "exempt uid 1500
redirect outbound -> 15001
deny outbound udp 53, 443
mesh shop {
    exclude outbound tcp 443 to service none
    workload cart { address 10.0.0.0/24 }
}
";
    let done = compiled(policy, services(&[("default/none", &[])]));
    let message = "service `default/none` has no address now".to_owned();
    assert_eq!(said(&done), [(Severity::Note, Code::NoEffect, message)]);
    assert!(done.unknown_services().is_empty());
    let without = policy.replace("    exclude outbound tcp 443 to service none\n", "");
    assert_eq!(image(&done), image(&compiled(&without, Services::new())));
    let test = " test \"t\" { cart -> service none tcp 443 is redirected }\n}\n";
    let tested = policy.replace("\n}\n", &format!("\n{test}"));
    let done = compiled(&tested, services(&[("default/none", &[])]));
    assert!(said(&done).iter().any(|(_, code, _)| *code == Code::TestFailed), "{:?}", said(&done));
}

/// Errors and warnings of a program with these statements in its mesh.
fn problems(statements: &str, known: &[(&str, &[&str])]) -> Vec<(Code, String, Vec<String>)> {
    let policy =
        format!("exempt uid 1500\nmesh m {{\n workload w {{ address 10.9.0.0/16 }}\n{statements}\n}}\n");
    let done = compiled(&policy, services(known));
    let labels = |found: &Diagnostic| {
        found.labels.iter().map(|label| done.files.sources.slice(label.span).to_owned()).collect()
    };
    let found = done.diagnostics.iter().filter(|found| found.severity != Severity::Note);
    found.map(|found| (found.code, found.message.clone(), labels(found))).collect()
}

#[test]
fn checks_speak_of_services_and_not_of_their_addresses() {
    let known: [(&str, &[&str]); 3] =
        [("default/a", &["10.0.0.1", "10.0.0.2"]), ("default/b", &["10.0.0.2"]), ("n/c", &["10.1.0.0"])];
    assert_eq!(
        problems(" deny outbound to service a\n deny outbound to service default/a", &known)[0].1,
        "`deny outbound tcp to service default/a` is written more than once"
    );
    assert_eq!(
        problems(" deny outbound to 10.1.0.0\n deny outbound tcp 80 to service n/c", &known),
        [(
            Code::NoEffect,
            "`deny outbound tcp 80 to service n/c` decides nothing".to_owned(),
            vec!["deny outbound tcp 80 to service n/c".to_owned(), "deny outbound to 10.1.0.0".to_owned()]
        )]
    );
    assert_eq!(
        problems(" deny outbound tcp 80 to service a, service n/c\n deny outbound to 10.1.0.0", &known),
        [(
            Code::NoEffect,
            "`service n/c` decides nothing in `deny outbound tcp 80 to service default/a …`".to_owned(),
            vec!["service n/c".to_owned(), "deny outbound to 10.1.0.0".to_owned()]
        )]
    );
    assert_eq!(
        problems(" deny outbound to service a, service default/a", &known),
        [(
            Code::NoEffect,
            "service `default/a` is named twice in one list".to_owned(),
            vec!["service default/a".to_owned(), "service a".to_owned()]
        )]
    );
    // It has no address that the other has not.
    assert_eq!(
        problems(" deny outbound to service a, service b", &known),
        [(
            Code::NoEffect,
            "`service default/b` decides nothing in `deny outbound tcp to service default/a …`".to_owned(),
            vec!["service b".to_owned(), "deny outbound to service a, service b".to_owned()]
        )]
    );
    let [(code, message, labels)] = problems(
        " redirect outbound tcp 80 to service a -> 1\n redirect outbound tcp 80 to service b -> 2\n deny outbound udp",
        &known,
    )
    .try_into()
    .unwrap();
    assert_eq!(
        (code, message.as_str()),
        (Code::Conflict, "`w -> 10.0.0.2 tcp 80` would be redirected to 1 and to 2")
    );
    assert_eq!(labels[1], "redirect outbound tcp 80 to service b -> 2");
    assert_eq!(
        problems(" workload x { address service a }", &known),
        [(
            Code::WrongKind,
            "a workload cannot be chosen by the addresses of a service".to_owned(),
            vec!["service a".to_owned()]
        )]
    );
    assert_eq!(
        problems(" set s = service a\n workload x { address s }", &known)[0].2,
        ["s".to_owned(), "service a".to_owned()]
    );
    let mixed = problems(" set s = service a, tcp 80\n deny outbound to s", &known);
    assert_eq!(mixed[0].1, "the set `s` holds both ports and addresses", "{mixed:?}");
}

/// What a rule says of the node holds also where the services beside it have no addresses.
#[test]
fn a_rule_of_the_node_and_a_service_without_addresses_is_of_the_node_alone() {
    let of = |line: &str| {
        let body = format!(" deny outbound tcp 22 to node, service a\n test \"t\" {{ {line} }}");
        problems(&body, &[("default/a", &[])])
    };
    assert_eq!(of("w -> node tcp 22 is denied"), []);
    let [(code, ..)] = of("w -> 192.0.2.1 tcp 22 is denied").try_into().unwrap();
    assert_eq!(code, Code::TestFailed);
}

#[test]
fn a_test_of_a_service_holds_for_all_its_addresses_and_tells_the_one_that_differs() {
    let known: [(&str, &[&str]); 1] = [("default/a", &["10.0.0.1", "10.0.0.2", "fd00::1"])];
    let of = |line: &str| {
        problems(
            &format!(
                " deny outbound to service a\n exclude outbound tcp 80 to 10.0.0.2\n test \"t\" {{ {line} }}"
            ),
            &known,
        )
    };
    assert_eq!(of("w -> service a tcp 81 is denied"), []);
    assert_eq!(of("service a -> w tcp 81 is excluded"), []);
    let [(code, message, _)] = of("w -> service a tcp 80 is denied").try_into().unwrap();
    assert_eq!((code, message.as_str()), (Code::TestFailed, "test \"t\": the flow is excluded, not denied"));
    for (line, message) in [
        ("service a -> 10.0.0.1 tcp 80 is excluded", "neither end of the flow is a workload"),
        ("service a -> service a tcp 80 is excluded", "neither end of the flow is a workload"),
        (
            "inbound w -> service a tcp 80 is excluded",
            "`inbound` asks for the decision of a workload on the right",
        ),
    ] {
        assert_eq!(of(line)[0].1, message, "{line}");
    }
}

#[test]
fn rules_that_name_the_same_services_share_their_addresses() {
    let many: BTreeSet<String> =
        (0..50_000).map(|n| format!("10.{}.{}.{}", 100 + n / 65_536, n / 256 % 256, n % 256)).collect();
    let all: Vec<&str> = many.iter().map(String::as_str).collect();
    let rules: String =
        (0..200).map(|n| format!(" exclude outbound tcp {} to service a, s\n", n * 2 + 1)).collect();
    let policy = format!(
        "exempt uid 1500\nset s = service b\nmesh m {{\n workload w {{ label app = w }}\n redirect outbound -> 15001\n{rules}}}\n"
    );
    let done = compiled(&policy, services(&[("default/a", &all), ("default/b", &["10.0.0.1"])]));
    let keys: BTreeSet<usize> =
        done.resolution.program.rules.iter().map(|rule| rule.addresses.key()).collect();
    assert_eq!(keys.len(), 2, "that of the redirect, and one of all others");
    assert_eq!(done.resolution.program.rules[1].addresses.len(), 50_001);
    prove(&done.resolution.program, &done.compiled.unwrap().tables).unwrap();
}

/// Services mean their addresses, whatever rules say of them: a policy with them and one with those written out compile to
/// the same, and are proved.
#[test]
fn services_mean_what_their_addresses_mean_written_out() {
    let places = ["10.0.0.1", "10.0.0.2", "10.0.1.1", "10.1.0.1", "fd00::1", "fd00::2", "192.0.2.1"];
    let prefixes = ["10.0.0.0/8", "10.0.0.0/24", "10.0.0.1", "fd00::/64", "0.0.0.0/0", "192.0.2.1"];
    let mut texts = 0;
    for seed in 1..=300 {
        let mut random = Random::new(seed * 7919);
        let known: Vec<(String, Vec<&str>)> = (0..3)
            .map(|n| {
                let count = 1 + random.below(4);
                let picked: BTreeSet<&str> = (0..count).map(|_| random.of(&places)).collect();
                (format!("n/s{n}"), picked.into_iter().collect())
            })
            .collect();
        let mut rules = [String::new(), String::new()];
        for n in 0..2 + random.below(5) {
            let (verb, end) = random.of(&[("exclude", ""), ("deny", ""), ("redirect", " -> 15001")]);
            let always = random.of(&["", "", "always "]);
            let ports = random.of(&["tcp", "tcp 80", "tcp 1-90", "udp 53"]);
            let service = random.below(3);
            let other =
                if random.below(2) == 0 { format!(", {}", random.of(&prefixes)) } else { String::new() };
            let is_named = random.below(4) > 0;
            for (plain, rules) in [false, true].into_iter().zip(&mut rules) {
                let (name, all) = &known[service];
                let service = if plain { all.join(", ") } else { format!("service {name}") };
                let place = if is_named { format!("{service}{other}") } else { random_prefix(n, &prefixes) };
                *rules += &format!("  {always}{verb} outbound {ports} to {place}{end}\n");
            }
        }
        let known: Services = known
            .iter()
            .map(|(name, all)| (name.clone(), all.iter().map(|one| one.parse().unwrap()).collect()))
            .collect();
        let [named, plain] = rules.map(|rules| {
            let policy = format!("exempt uid 1500\nmesh m {{\n workload w {{ label app = w }}\n{rules}}}\n");
            compiled(&policy, known.clone())
        });
        assert_eq!(named.compiled.is_some(), plain.compiled.is_some(), "seed {seed}");
        let (Some(one), Some(other)) = (&named.compiled, &plain.compiled) else { continue };
        assert_eq!(one.tables, other.tables, "seed {seed}");
        prove(&named.resolution.program, &one.tables).unwrap();
        // What is kept of a policy prints as it did.
        let sets = Sets::of(&named.resolution.program);
        let text = emit(&one.image, &sets);
        for entry in mesh_compiler::emit::entries(&one.image, &sets) {
            assert!(
                text.matches(&format!("\"{}\" = ", entry.key)).count() <= 2,
                "seed {seed}: {}",
                entry.key
            );
        }
        texts += usize::from(text.contains("service n/s"));
    }
    assert!(texts > 150, "{texts} texts name a service");
}

fn random_prefix(n: usize, prefixes: &[&str]) -> String {
    prefixes[n % prefixes.len()].to_owned()
}
