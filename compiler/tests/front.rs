//! Laws of reading and formatting, on generated programs: any input is read without a panic, every program
//! that the grammar allows is read without an error, and formatting is a fixed point that changes no meaning.

use mesh_compiler::ast;
use mesh_compiler::diag::Diagnostic;
use mesh_compiler::format::format;
use mesh_compiler::parse::parse_file;
use mesh_compiler::source::{FileId, Sources};
use proptest::prelude::*;
use proptest::sample::select;

fn file() -> FileId {
    Sources::default().add("a.mesh", Vec::new()).0
}

fn read(text: &str) -> (ast::File, Vec<Diagnostic>) {
    parse_file(file(), text)
}

/// The tree without places, in a form that can be compared.
fn meaning(text: &str) -> String {
    let shown = format!("{:?}", read(text).0);
    let mut rest = shown.as_str();
    let mut meaning = String::new();
    while let Some((before, after)) = rest.split_once("Span {") {
        meaning.push_str(before);
        rest = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    meaning.push_str(rest);
    meaning
}

fn name() -> impl Strategy<Value = String> {
    select(vec!["cart", "catalog", "web-1", "x_y", "Z", "in-side"]).prop_map(str::to_owned)
}

fn port() -> impl Strategy<Value = String> {
    prop_oneof![
        (1u16..).prop_map(|port| port.to_string()),
        (1u16..60000).prop_map(|first| format!("{first}-{}", first + 9))
    ]
}

fn place() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<u32>().prop_map(|bits| std::net::Ipv4Addr::from_bits(bits).to_string()),
        any::<u16>().prop_map(|bits| format!("10.{}.{}.0/24", bits >> 8, bits & 255)),
        any::<u16>().prop_map(|bits| format!("fd00:{bits:x}::/32")),
        name(),
    ]
}

/// The ways in which a list can be written. In brackets newlines, comments and a last comma are free.
fn list(item: impl Strategy<Value = String> + 'static) -> BoxedStrategy<String> {
    let joint = select(vec![", ", ",", ",\n\t", ", # x, y\n  ", ",\n # own line\n\n  "]);
    let around = select(vec![
        ("", ""),
        ("[", "]"),
        ("[ ", ", ]"),
        ("[\n", "\n]"),
        ("[ # c\n", " # last\n]"),
        ("[\n# c\n", ",\n# d\n]"),
    ]);
    (prop::collection::vec(item, 1..12), joint, around)
        .prop_map(|(items, joint, (before, after))| format!("{before}{}{after}", items.join(joint)))
        .boxed()
}

fn ports() -> BoxedStrategy<String> {
    let protocol = select(vec!["tcp", "udp", "any"]);
    prop_oneof![
        protocol.clone().prop_map(str::to_owned),
        (protocol, any::<bool>(), list(port())).prop_map(|(protocol, not, list)| {
            format!("{protocol} {}{list}", if not { "not " } else { "" })
        }),
        list(name()),
    ]
    .boxed()
}

fn rule() -> BoxedStrategy<String> {
    let join = select(vec![" ", "\n    ", " # why\n  ", "  "]);
    let verb = select(vec!["redirect", "exclude", "deny"]);
    let parts =
        (any::<bool>(), verb, any::<bool>(), prop::option::of(ports()), prop::option::of(list(place())));
    (parts, any::<u16>(), join)
        .prop_map(|((always, verb, outbound, ports, places), port, join)| {
            let (direction, preposition) = if outbound { ("outbound", "to") } else { ("inbound", "from") };
            let mut text = format!("{}{verb} {direction}", if always { "always " } else { "" });
            text.extend(ports.map(|ports| format!(" {ports}")));
            text.extend(places.map(|places| format!("{join}{preposition} {places}")));
            if verb == "redirect" {
                text.push_str(&format!("{join}-> {}", port.max(1)));
            }
            text
        })
        .boxed()
}

fn common() -> BoxedStrategy<String> {
    prop_oneof![
        4 => rule(),
        1 => list((0u32..70000).prop_map(|id| id.to_string())).prop_map(|ids| format!("exempt uid {ids}")),
        1 => Just("exempt cgroup \"/a\\x2d{;#b\"".to_owned()),
        1 => Just("on missing-sidecar pass".to_owned()),
    ]
    .boxed()
}

fn set() -> BoxedStrategy<String> {
    let ports =
        (select(vec!["tcp", "udp"]), list(port())).prop_map(|(protocol, list)| format!("{protocol} {list}"));
    prop_oneof![
        (name(), list(place())).prop_map(|(name, list)| format!("set {name} = {list}")),
        (name(), ports.clone(), ports).prop_map(|(name, one, two)| format!("set {name} =\n  {one}, {two}")),
    ]
    .boxed()
}

fn selector() -> BoxedStrategy<String> {
    let value = select(vec!["shop", "7up", "deny", "a.b/c", "\"x, y\""]).prop_map(str::to_owned);
    prop_oneof![
        list(value.clone()).prop_map(|values| format!("namespace {values}")),
        list(value.clone()).prop_map(|values| format!("not label app.kubernetes.io/name = {values}")),
        list(value).prop_map(|values| format!("namespace-label mesh/in = {values}")),
        Just("not namespace-label mesh/in".to_owned()),
        list(place()).prop_map(|places| format!("address {places}")),
        Just("label tier".to_owned()),
        Just("any".to_owned()),
    ]
    .boxed()
}

fn block(head: &'static str, inner: BoxedStrategy<String>) -> BoxedStrategy<String> {
    let joint = select(vec!["\n", "; ", "\n\n\n", " # end\n", "\n# meshc: allow(unused)\n", "\r\n"]);
    (prop::collection::vec(inner, 0..5), joint, select(vec!["", "\n", " # c\n"]))
        .prop_map(move |(inner, joint, first)| format!("{head} {{{first}{}\n}}", inner.join(joint)))
        .boxed()
}

fn program() -> BoxedStrategy<String> {
    let flow = Just("cart -> 10.0.3.9 tcp 3306 as uid 1500 is not accelerated".to_owned()).boxed();
    let workload = block("workload cart", prop_oneof![selector(), common()].boxed());
    let mesh = block(
        "mesh shop",
        prop_oneof![
            common(),
            set(),
            workload,
            block("for cart,\n catalog", common()),
            block("test \"x {\"", flow),
            list(name()).prop_map(|names| format!("group g = {names}")),
            Just("accelerate cart<->catalog tcp not 9092".to_owned()),
        ]
        .boxed(),
    );
    block("", prop_oneof![common(), set(), mesh, Just("import \"x\"".to_owned())].boxed())
        .prop_map(|block| block.trim_start_matches(" {").trim_end_matches('}').to_owned())
        .boxed()
}

proptest! {
    #[test]
    fn every_program_of_the_grammar_is_read(text in program()) {
        prop_assert_eq!(read(&text).1, [], "{}", text);
    }

    #[test]
    fn formatting_is_a_fixed_point_and_changes_no_meaning(text in program()) {
        let once = format(file(), &text).unwrap();
        prop_assert_eq!(meaning(&once), meaning(&text), "{}", once);
        prop_assert_eq!(format(file(), &once).unwrap(), once);
    }

    #[test]
    fn formatting_keeps_every_comment(text in program()) {
        let comments = |text: &str| text.matches('#').count();
        prop_assert_eq!(comments(&format(file(), &text).unwrap()), comments(&text));
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC*") {
        read(&text);
    }

    #[test]
    fn any_words_of_the_language_are_read_without_a_panic(
        words in prop::collection::vec(select(vec![
            "set", "mesh", "m", "{", "}", "[", "]", ",", "->", "<->", "=", "\n", ";", "\"", "#", "tcp", "80", "to",
            "10.0.0.0/8", "not", "deny", "outbound", "redirect", "workload", "for", "test", "is", "\u{2014}", "\u{0}",
            "# meshc: allow(", ")", "unused", "any", "label", "namespace-label", "exempt uid", "1-0", "accelerate", "import",
        ]), 0..60)
    ) {
        let text = words.join(" ");
        let (_, diagnostics) = read(&text);
        for diagnostic in diagnostics {
            let span = diagnostic.span().unwrap();
            prop_assert!(text.get(span.start as usize..span.end as usize).is_some(), "{:?}", diagnostic);
        }
    }

    #[test]
    fn a_damaged_program_is_read_without_a_panic(text in program(), at in any::<prop::sample::Index>(), with in "\\PC{0,3}") {
        let cut = at.index(text.len() + 1);
        if let (Some(before), Some(after)) = (text.get(..cut), text.get(cut..)) {
            read(&format!("{before}{with}{after}"));
            read(before);
        }
    }
}
