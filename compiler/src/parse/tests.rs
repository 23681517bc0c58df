use super::*;
use crate::source::Sources;

/// `expect`: for each diagnostic, its code, message and the underlined words.
#[track_caller]
fn check(text: &str, expect: &[(&str, &str, &str)]) {
    let mut sources = Sources::default();
    let (id, _) = sources.add("a.mesh", text.as_bytes().to_vec());
    let (_, diagnostics) = parse_file(id, text);
    let found: Vec<(&str, &str, &str)> = (diagnostics.iter())
        .map(|d| (d.code.word(), d.message.as_str(), sources.slice(d.span().unwrap())))
        .collect();
    assert_eq!(found, expect);
}

#[track_caller]
fn check_help(text: &str, help: &str) {
    let mut sources = Sources::default();
    let (id, _) = sources.add("a.mesh", text.as_bytes().to_vec());
    let (_, diagnostics) = parse_file(id, text);
    let helps: Vec<Option<&str>> = diagnostics.iter().map(|d| d.help.as_deref()).collect();
    assert_eq!(helps, [Some(help)]);
}

fn tree(text: &str) -> ast::File {
    let mut sources = Sources::default();
    let (id, _) = sources.add("a.mesh", text.as_bytes().to_vec());
    let (file, diagnostics) = parse_file(id, text);
    assert_eq!(diagnostics, []);
    file
}

#[test]
fn the_reference_program_is_read() {
    let file = tree(include_str!("../../../policies/bookstore.mesh"));
    let mesh = &file.meshes[0];
    assert_eq!(mesh.workloads.len(), 3);
    assert_eq!(mesh.workloads[0].selectors.len(), 3);
    assert_eq!((mesh.groups.len(), mesh.fors.len(), mesh.accelerations.len()), (1, 1, 2));
    assert_eq!(mesh.tests[0].lines.len(), 6);
    assert_eq!((mesh.body.rules.len(), mesh.body.ons.len()), (8, 2));
}

#[test]
fn every_error_of_a_file_is_found_in_one_run() {
    check(
        "set a = 10.0.0.1/8\n\
         redirect sideways\n\
         exempt uid 5-4\n\
         mesh m {\n\
         workload 7up { address 1.1.1.1 }\n\
         exclude outbound tcp 99999\n\
         deny outbound to 1.2.3.4:80\n\
         workload w { cgroup \"x\" }\n\
         }\n\
         mehs n { }\n",
        &[
            ("bad-address", "`10.0.0.1/8` has bits set beyond its prefix", "10.0.0.1/8"),
            ("syntax", "expected `inbound` or `outbound`, found `sideways`", "sideways"),
            ("bad-range", "the id range `5-4` ends before it begins", "5-4"),
            ("syntax", "expected a name, found `7up`", "7up"),
            ("bad-port", "`99999` is over 65535", "99999"),
            ("bad-address", "`1.2.3.4:80` has a port in it", "1.2.3.4:80"),
            ("bad-path", "the cgroup path `x` does not begin with `/`", "\"x\""),
            ("syntax", "`mehs` does not begin a statement", "mehs"),
        ],
    );
}

#[test]
fn a_comma_before_a_keyword_or_a_brace_says_so() {
    check("exclude outbound tcp 80, to 10.0.0.0/8", &[("syntax", "a comma before `to`", ",")]);
    check("exclude outbound tcp 80,\ndeny outbound", &[("syntax", "a comma before `deny`", ",")]);
    check("mesh m { group g = a, b, }", &[("syntax", "a comma before `}`", ",")]);
    check("exclude outbound tcp 80, udp 53", &[("syntax", "the ports of a rule have one protocol", "udp")]);
    check("exempt uid 1,", &[("syntax", "a comma at the end of a statement", ",")]);
    check("exempt uid [1, 2,]", &[]);
}

#[test]
fn preposition_and_arrow_must_fit() {
    check("deny inbound to 10.0.0.0/8", &[("syntax", "`to` does not go with `inbound`", "to")]);
    check("deny outbound from 10.0.0.0/8", &[("syntax", "`from` does not go with `outbound`", "from")]);
    check("deny outbound -> 15001", &[("syntax", "`deny` leads to no port", "-> 15001")]);
    check("redirect outbound tcp 80", &[("syntax", "`redirect` does not say to which port", "redirect")]);
}

#[test]
fn processes_stand_behind_the_addresses_of_an_outbound_rule() {
    check(
        "exclude outbound tcp 22 to 10.0.0.0/8\n as uid 1, 2-3\n and gid [4, 5,]\n and cgroup \"/a\", \"/b\"",
        &[],
    );
    check("redirect outbound as uid 7 -> 15001", &[]);
    check("deny inbound as uid 1", &[("wrong-kind", "`as` does not go with `inbound`", "as")]);
    check("deny outbound as uid 1 and uid 2", &[("syntax", "`uid` stands twice after `as`", "uid 2")]);
    check("deny outbound as uid 5-4", &[("bad-range", "the id range `5-4` ends before it begins", "5-4")]);
    check(
        "deny outbound as cgroup \"x\"",
        &[("bad-path", "the cgroup path `x` does not begin with `/`", "\"x\"")],
    );
    let kinds = "processes are named by user id, group id or cgroup: `as uid 1000-1999`, `as gid 100`, `as cgroup \"/jobs\"`";
    check_help("deny outbound as", kinds);
    check_help("deny outbound as root", kinds);
    check_help("deny outbound as uid root", "users and groups are named by their numbers: `uid 1000`");
    check_help("deny outbound as uid 5 gid 6", "kinds of processes are joined by `and`: write `and gid`");
    check_help("deny outbound as uid 5 to 10.0.0.1", "addresses stand before `as`: `to … as …`");
    check_help("deny outbound as uid 5 tcp 80", "ports stand before `as`, right after the direction");
}

#[test]
fn ports_and_addresses_without_their_word_are_explained() {
    check_help("exclude outbound 80", "write `tcp 80`");
    check_help("exclude outbound 10.0.0.0/8", "write `to 10.0.0.0/8`");
    check_help("exclude inbound 10.0.0.0/8", "write `from 10.0.0.0/8`");
    check_help(
        "deny outbound to example.com",
        "connections are decided by address, when they are opened: write its addresses, or let the sidecar decide by name",
    );
    check_help("deny outbound to 1.1.1.1 tcp 80", "ports stand before `to`, right after the direction");
    check_help("deny outbuond", "did you mean `outbound`?");
    check_help("import platform.mesh", "put it in quotes: `\"platform.mesh\"`");
    check_help("set log = tcp 1", "`log` is a word of the language: choose another name");
    check_help("set a = 10.0.0.0/8 11.0.0.0/8", "items of a list have a comma between them");
}

#[test]
fn two_statements_on_one_line_need_a_semicolon() {
    let help = |word| {
        format!("`{word}` begins a statement of its own: write it on a line of its own, or put `;` before it")
    };
    for (text, word) in [
        ("mesh m { workload a { namespace shop label app = cart } }", "label"),
        ("mesh m { workload a { label app = cart not namespace shop } }", "not"),
        ("mesh m { workload a { any deny outbound tcp 25 } }", "deny"),
        ("redirect outbound -> 15001 deny outbound tcp 25", "deny"),
        ("set a = tcp 80 set b = tcp 90", "set"),
    ] {
        check_help(text, &help(word));
    }
    check("mesh m { workload a { namespace shop; label app = cart } }", &[]);
    check_help("deny outbound tcp 80 too", "did you mean `to`?");
}

#[test]
fn a_missing_brace_is_noticed_by_indentation() {
    let text = "mesh m {\n  workload a {\n    any\n  workload b {\n    address 1.1.1.1\n  }\n}\n";
    check(text, &[("syntax", "`}` is missing before `workload`", "workload")]);
}

#[test]
fn a_block_in_the_wrong_place_is_one_error() {
    let text = "mesh m {\n  workload a {\n    workload b {\n      any\n    }\n    deny outbound\n  }\n}\n";
    check(text, &[("syntax", "`workload` is not allowed in a `workload` block", "workload")]);
}

#[test]
fn an_open_end_is_one_error() {
    check("mesh m {\n  workload a {\n    any\n", &[("syntax", "a block is never closed", "{")]);
    check("}}}", &[("syntax", "`}` closes no block", "}}}")]);
    check("mesh m {\n set a = [ 1.1.1.1,\n workload a { any }\n}", &[("syntax", "`[` is never closed", "[")]);
}

#[test]
fn a_brace_on_its_own_line_is_explained() {
    check("mesh m\n{\n workload a { any }\n}\n", &[("syntax", "`mesh` has no block", "{")]);
    check("mesh m\n workload a { any }\n}\n", &[("syntax", "`mesh` has no block", "")]);
    check("deny outbound { x }", &[("syntax", "`deny` takes no block", "{")]);
    check("{ }", &[("syntax", "a block without a head", "{")]);
}

#[test]
fn a_misspelled_block_is_still_read() {
    check(
        "mesh m { workloda a { any; deny otubound } }",
        &[
            ("syntax", "`workloda` does not begin a statement", "workloda"),
            ("syntax", "expected `inbound` or `outbound`, found `otubound`", "otubound"),
        ],
    );
}

#[test]
fn names_of_broken_declarations_are_kept() {
    let (file, _) =
        parse_file(Sources::default().add("a", Vec::new()).0, "set a = ?\nmesh m { gruop g = a }\n");
    let names: Vec<&str> = file.broken.iter().map(|name| name.value.as_str()).collect();
    assert_eq!(names, ["a", "g"]);
}

#[test]
fn typographic_characters_are_explained() {
    check_help("deny outbound tcp 80\u{2013}90", "write `-`");
    check_help("redirect outbound \u{2192} 15001", "write `->`");
    check_help("import \u{201c}a\u{201d}".trim_end_matches('\u{201d}'), "write `\"`");
    check_help("deny\u{a0}outbound", "write a plain space");
}

#[test]
fn an_allow_covers_the_statement_below_and_its_block() {
    let text = "# meshc: allow(unused)\nset a = 1.1.1.1\n# meshc: allow(leak, no-effect)\n# why\nmesh m {\n any\n}\n";
    let mut sources = Sources::default();
    let (id, _) = sources.add("a.mesh", text.as_bytes().to_vec());
    let (file, _) = parse_file(id, text);
    let scopes: Vec<&str> = file.allows.iter().map(|allow| sources.slice(allow.scope.unwrap())).collect();
    assert_eq!(scopes, ["set a = 1.1.1.1", "mesh m {\n any\n}"]);
    assert_eq!(file.allows[1].codes.len(), 2);
}

#[test]
fn an_allow_elsewhere_covers_nothing() {
    for text in [
        "# meshc: allow(unused)\n\nany",
        "any # meshc: allow(unused)",
        "mesh m {\n# meshc: allow(unused)\n}\nany",
    ] {
        let (file, _) = parse_file(Sources::default().add("a", Vec::new()).0, text);
        assert_eq!(file.allows[0].scope, None, "{text}");
    }
}

#[test]
fn an_unknown_code_in_an_allow_is_an_error() {
    check(
        "# meshc: allow(unusd)\nany",
        &[("unknown-name", "there is no diagnostic `unusd`", "unusd"), NO_ANY],
    );
    check(
        "# meshc: allow(conflict)\nany",
        &[("wrong-kind", "`conflict` is an error, and only warnings can be allowed", "conflict"), NO_ANY],
    );
    check(
        "# meshc: alow(unused)",
        &[("syntax", "a comment for `meshc:` that says nothing known", "# meshc: alow(unused)")],
    );
}

#[test]
fn a_library_says_so_above_its_first_statement() {
    let library = |text: &str| {
        let (file, found) = parse_file(Sources::default().add("a", Vec::new()).0, text);
        (file.library, found.len())
    };
    assert_eq!(library("# ours\n\n  # meshc: library\nset a = 1.1.1.1"), (true, 0));
    assert_eq!(library("set a = 1.1.1.1 # a library"), (false, 0));
    for late in ["set a = 1.1.1.1\n# meshc: library", "set a = 1.1.1.1 # meshc: library"] {
        assert_eq!(library(late), (false, 1), "{late}");
        check(late, &[("syntax", "`library` is about the whole file", "# meshc: library")]);
    }
}

const NO_ANY: (&str, &str, &str) = ("syntax", "`any` is not allowed at the top level", "any");

#[test]
fn a_million_errors_are_counted() {
    let text = "x\n".repeat(1_000_000);
    let (_, diagnostics) = parse_file(Sources::default().add("a", Vec::new()).0, &text);
    assert_eq!(diagnostics.len(), errors::TOLD + 1);
    assert_eq!(diagnostics.last().unwrap().message, "999000 more errors in this file are not shown");
}

/// Each of these is ten megabytes; none may take more than the time to read it a few times over.
#[test]
#[expect(clippy::disallowed_types, reason = "the test takes time")]
fn ten_megabytes_of_anything_are_read_in_linear_time() {
    for unit in [
        "a",
        "{",
        "}",
        "\"",
        "[",
        "]",
        ",",
        ";",
        "#",
        "\n",
        " ",
        "\u{0}",
        "\u{2192}",
        "a;",
        "mesh a {",
        "set a =",
        "1,",
        "\"\n",
        "[\n",
        "to\n",
        "-",
        "not ",
        "# meshc: allow(x)\n",
    ] {
        let text = unit.repeat(1_000_000 / unit.len());
        let start = std::time::Instant::now();
        let _ = parse_file(Sources::default().add("a", Vec::new()).0, &text);
        assert!(start.elapsed().as_secs() < 20, "{unit:?} took {:?}", start.elapsed());
    }
    let long = format!("set a = [ {} ]", "tcp 1, ".repeat(100_000));
    let _ = parse_file(Sources::default().add("a", Vec::new()).0, &long);
}

#[test]
fn a_flow_alone_is_read() {
    let id = Sources::default().add("flow", Vec::new()).0;
    let flow = parse_flow(id, " cart -> 10.0.3.9 tcp 3306 as uid 1500").unwrap();
    assert_eq!((flow.port, flow.identity.len()), (3306, 1));
    assert_eq!(parse_flow(id, "cart -> 10.0.0.0/8 tcp 3306").unwrap_err()[0].code.word(), "bad-address");
    assert_eq!(parse_flow(id, "cart to x").unwrap_err()[0].message, "expected `->`, found `to`");
}

#[test]
fn wherever_a_statement_breaks_off_there_is_help() {
    let statements = [
        "import \"platform.mesh\"",
        "set databases = tcp 3306, 5432",
        "exempt uid 1500",
        "exempt cgroup \"/a\"",
        "always redirect outbound tcp not 443 to 10.0.0.0/8 -> 15001 transparent",
        "on missing-sidecar refuse",
        "mesh m { workload a { not label app = x } }",
        "mesh m { workload a { cgroup \"/a\" } group g = a }",
        "mesh m { for a , b { deny inbound udp 9 from 10.0.0.1 } }",
        "mesh m { accelerate local for a tcp 9 }",
        "mesh m { accelerate a <-> b }",
        "mesh m { test \"x\" { a -> 10.0.0.1 tcp 9 as uid 7 is redirected 15001 } }",
    ];
    for statement in statements {
        let words: Vec<&str> = statement.split(' ').collect();
        for cut in 1..words.len() {
            for next in ["", "}", "->", "%", "nonesuch"] {
                let text = format!("{} {next}\n", words[..cut].join(" "));
                let (id, _) = Sources::default().add("a.mesh", Vec::new());
                for found in parse_file(id, &text).1 {
                    assert!(found.help.is_some(), "{text}: {found:#?}");
                }
            }
        }
    }
}
