use std::collections::BTreeMap;

use mesh_bpf::flow::{Direction, Verdict};

use super::*;
use crate::diag::Severity;
use crate::hir::Peer;

/// A loader over files in memory; a directory is the files below its name.
struct Memory(BTreeMap<String, String>);

impl Loader for Memory {
    fn find(&mut self, _from: &Location, path: &str) -> Result<Vec<Location>, String> {
        let place = |name: &String| Location { key: name.clone(), name: name.clone() };
        if self.0.contains_key(path) {
            return Ok(vec![place(&path.to_owned())]);
        }
        let found: Vec<Location> =
            self.0.keys().filter(|name| name.starts_with(&format!("{path}/"))).map(place).collect();
        if found.is_empty() { Err("does not exist".to_owned()) } else { Ok(found) }
    }

    fn read(&mut self, file: &Location) -> Result<Vec<u8>, String> {
        self.0.get(&file.key).map(|text| text.clone().into_bytes()).ok_or_else(|| "cannot be read".to_owned())
    }
}

/// The first file is given, the others can be imported.
fn resolved(files: &[(&str, &str)]) -> (Files, Resolution, Vec<Diagnostic>) {
    let mut memory =
        Memory(files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect());
    let (name, text) = files[0];
    let place = Location { key: name.to_owned(), name: name.to_owned() };
    let (files, diagnostics) = load(vec![(place, text.as_bytes().to_vec())], &mut memory);
    let (resolution, diagnostics) = resolve(&files, diagnostics, &Services::new());
    (files, resolution, diagnostics)
}

/// `expect`: for each diagnostic, its code, message and all underlined words.
#[track_caller]
fn check_files(files: &[(&str, &str)], expect: &[(&str, &str, &[&str])]) {
    let (files, _, diagnostics) = resolved(files);
    let found: Vec<(&str, &str, Vec<&str>)> = (diagnostics.iter())
        .map(|d| {
            let words = d.labels.iter().map(|label| files.sources.slice(label.span)).collect();
            (d.code.word(), d.message.as_str(), words)
        })
        .collect();
    let expect: Vec<(&str, &str, Vec<&str>)> = expect.iter().map(|(c, m, w)| (*c, *m, w.to_vec())).collect();
    assert_eq!(found, expect);
}

#[track_caller]
fn check(text: &str, expect: &[(&str, &str, &[&str])]) {
    check_files(&[("a.mesh", text)], expect);
}

fn program(text: &str) -> Program {
    let (_, resolution, diagnostics) = resolved(&[("a.mesh", text)]);
    assert_eq!(diagnostics, []);
    resolution.program
}

#[test]
fn the_reference_program_resolves() {
    let (_, resolution, diagnostics) = resolved(&[
        ("bookstore.mesh", include_str!("../../../policies/bookstore.mesh")),
        ("platform.mesh", include_str!("../../../policies/platform.mesh")),
    ]);
    assert_eq!(diagnostics, []);
    let program = resolution.program;
    let names: Vec<&str> = program.scopes.iter().map(|scope| scope.name.as_str()).collect();
    assert_eq!(names, ["", "bookstore", "bookstore+storefront", "bookstore/cart"]);
    assert_eq!(program.rules.len(), 3 + 8 + 1 + 1);
    assert_eq!(program.tests[0].lines.len(), 6);
    let lines: Vec<(Direction, bool)> = (program.tests[0].lines.iter())
        .map(|line| (line.direction, matches!(line.peer, Peer::Address(_))))
        .collect();
    assert_eq!(lines[3], (Direction::Inbound, true));
    assert_eq!(program.tests[0].lines[2].identity.uid, Some(1500));
}

#[test]
fn a_rule_without_protocol_is_about_both_and_a_redirect_about_tcp() {
    let program = program("redirect outbound -> 1\ndeny outbound\ndeny outbound any 80, 81\n");
    let counts: Vec<usize> = program.rules.iter().map(|rule| rule.ports.len()).collect();
    assert_eq!(counts, [1, 2, 4]);
    assert_eq!(program.rules[0].verdict, Verdict::Redirected { port: 1, transparent: false });
}

#[test]
fn sets_stand_for_what_is_in_them_through_other_sets() {
    let text =
        "set a = b, 10.0.0.0/8\nset b = c\nset c = fd00::/8, 1.1.1.1\ndeny outbound to a, a9\nset a9 = b\n";
    let program = program(text);
    let mut prefixes: Vec<String> =
        program.rules[0].addresses.iter().map(|item| item.prefix.to_string()).collect();
    prefixes.sort();
    assert_eq!(prefixes, ["1.1.1.1", "1.1.1.1", "10.0.0.0/8", "fd00::/8", "fd00::/8"]);
}

#[test]
fn a_workload_as_an_address_stands_for_its_prefixes() {
    let program = program(
        "mesh m {\n workload a { address 10.0.0.0/8, fd00::/8 }\n workload b { any\n deny outbound to g }\n group g = a\n}\n",
    );
    assert_eq!(program.rules[0].addresses.len(), 2);
}

#[test]
fn blocks_of_one_mesh_are_one_and_names_are_seen_everywhere() {
    let program = program("mesh m { deny outbound to s }\nmesh m { workload a { any } }\nset s = 1.1.1.1\n");
    assert_eq!((program.meshes.len(), program.scopes.len()), (1, 2));
    assert_eq!(program.scopes[1].members.len(), 1);
}

#[test]
fn two_meshes_may_use_one_name() {
    let program =
        program("mesh m { workload a { address 1.1.1.1 } }\nmesh n { workload a { address 1.1.1.2 } }\n");
    assert_eq!(program.workloads.len(), 2);
}

#[test]
fn a_name_that_nothing_declares_is_one_error_for_all_its_uses() {
    check(
        "mesh m {\n workload catalog { any }\n deny outbound to catalgo\n for catalgo { deny inbound }\n deny outbound to nowhere\n}\n",
        &[
            ("unknown-name", "nothing is named `catalgo`", &["catalgo", "catalgo"]),
            ("unknown-name", "nothing is named `nowhere`", &["nowhere"]),
        ],
    );
}

#[test]
fn a_name_declared_twice_underlines_both() {
    check(
        "set a = 1.1.1.1\nmesh m {\n group a = b\n workload b { any }\n workload b { address 1.1.1.1 }\n}\n",
        &[
            ("duplicate-name", "`a` is declared twice", &["a", "a"]),
            ("duplicate-name", "`b` is declared twice", &["b", "b"]),
        ],
    );
}

#[test]
fn a_declaration_that_could_not_be_read_causes_no_second_error() {
    check(
        "set a = 10.0.0.0/8 11.0.0.0/8\ndeny outbound to a\n",
        &[("syntax", "expected `,` or the end of the statement, found `11.0.0.0/8`", &["11.0.0.0/8"])],
    );
}

#[test]
fn a_name_of_the_wrong_kind_underlines_the_declaration_too() {
    check(
        "set p = tcp 80\nset q = 1.1.1.1\ndeny outbound q to p\nmesh m {\n workload a { label x }\n deny outbound to a\n for q { deny inbound }\n accelerate within m\n}\n",
        &[
            ("wrong-kind", "`q` is a set of addresses, and ports belong here", &["q", "q"]),
            ("wrong-kind", "`p` is a set of ports, and addresses belong here", &["p", "p"]),
            ("wrong-kind", "the addresses of workload `a` are not known here", &["a", "label x"]),
            ("wrong-kind", "`q` is a set, and a workload or a group belongs here", &["q", "q"]),
            ("wrong-kind", "`m` is a mesh, not a set, group or workload", &["m", "m"]),
        ],
    );
    check(
        "set a = tcp 80, b\nset b = 1.1.1.1\n",
        &[("wrong-kind", "the set `a` holds both ports and addresses", &["b", "tcp 80"])],
    );
}

#[test]
fn cycles_are_shown_with_their_whole_path() {
    check(
        "set a = b\nset b = c\nset c = a\n",
        &[("set-cycle", "sets contain each other: `a` -> `b` -> `c` -> `a`", &["b", "c", "a"])],
    );
    check(
        "mesh m { group g = h\n group h = g\n group i = i }\n",
        &[
            ("group-cycle", "groups contain each other: `g` -> `h` -> `g`", &["h", "g"]),
            ("group-cycle", "a group contains itself: `i` -> `i`", &["i"]),
        ],
    );
}

#[test]
fn imports_are_followed_once_and_cycles_shown() {
    check_files(
        &[
            ("a.mesh", "import \"b\"\ndeny outbound to s\n"),
            ("b/x.mesh", "set s = 1.1.1.1\n"),
            ("b/y.mesh", ""),
        ],
        &[],
    );
    check_files(
        &[("a.mesh", "import \"b.mesh\"\n"), ("b.mesh", "import \"a.mesh\"\n")],
        &[(
            "import-cycle",
            "files import each other: `a.mesh` -> `b.mesh` -> `a.mesh`",
            &["\"b.mesh\"", "\"a.mesh\""],
        )],
    );
}

#[test]
fn a_missing_import_explains_the_names_that_are_missing_with_it() {
    check(
        "import \"b.mesh\"\ndeny outbound to there\nset near = 1.1.1.1\ndeny outbound to nera\n",
        &[
            ("import-missing", "`b.mesh` does not exist", &["\"b.mesh\"", "there"]),
            ("unknown-name", "nothing is named `nera`", &["nera"]),
        ],
    );
}

#[test]
fn a_rule_whose_items_were_all_wrong_does_not_become_wider() {
    let (_, resolution, _) =
        resolved(&[("a.mesh", "deny outbound tcp 0\ndeny outbound to 1.1.1.1/8\ndeny outbound nope\n")]);
    assert!(resolution.program.rules.is_empty());
    assert!(!resolution.sound);
}

#[test]
fn a_flow_must_ask_for_the_decision_of_a_workload() {
    check(
        "mesh m {\n workload a { address 1.1.1.1 }\n group g = a\n test \"t\" {\n  1.1.1.1 -> 2.2.2.2 tcp 80 is denied\n  g -> 1.1.1.1 tcp 80 is denied\n  inbound a -> 1.1.1.1 tcp 80 is denied\n  1.1.1.1 -> a tcp 80 as uid 1 is denied\n }\n}\n",
        &[
            ("wrong-kind", "neither end of the flow is a workload", &["1.1.1.1 -> 2.2.2.2 tcp 80"]),
            ("wrong-kind", "`g` is a group, and a workload or an address belongs here", &["g", "g"]),
            (
                "wrong-kind",
                "`inbound` asks for the decision of a workload on the right",
                &["1.1.1.1", "inbound"],
            ),
            ("wrong-kind", "`as` does not go with an inbound flow", &["1"]),
        ],
    );
}

#[test]
fn udp_is_not_accelerated() {
    check(
        "set p = tcp 80, udp 81\nmesh m {\n workload a { any }\n accelerate all p\n}\n",
        &[("unsupported", "udp cannot be accelerated", &["81", "accelerate all p"])],
    );
}

#[test]
fn what_is_named_twice_in_one_list_is_said() {
    check(
        "set a = 1.1.1.1\ndeny outbound to a, a\n",
        &[("no-effect", "`a` is named twice in one list", &["a", "a"])],
    );
}

#[test]
fn what_nothing_uses_is_kept_for_the_check() {
    let (_, resolution, _) =
        resolved(&[("a.mesh", "set a = 1.1.1.1\nset b = a\nmesh m { group g = w\n workload w { any } }\n")]);
    let names: Vec<&str> = resolution.unused.iter().map(|unused| unused.name.as_str()).collect();
    assert_eq!(names, ["b", "g"]);
}

/// What a program of several files comes to, with the passes after resolving; the first file is given.
fn said(files: &[(&str, &str)]) -> Vec<(Severity, String)> {
    let (_, resolution, mut diagnostics) = resolved(files);
    let (_, found) = crate::check::check(&resolution);
    diagnostics.extend(found);
    let kept = crate::check::silence(&resolution, diagnostics, true);
    kept.into_iter().map(|found| (found.severity, found.message)).collect()
}

#[test]
fn a_mesh_of_a_library_may_be_there_for_other_programs() {
    let team = ("team.mesh", "import \"all.mesh\"\nmesh shop { workload cart { any } }");
    let bank = "mesh shop { deny outbound tcp 25 }\nmesh bank { deny outbound tcp 25 }";
    let library = format!("# meshc: library\n{bank}");
    let empty = |severity| vec![(severity, "mesh `bank` has no workload".to_owned())];
    assert_eq!(said(&[team, ("all.mesh", &library)]), empty(Severity::Note));
    assert_eq!(said(&[team, ("all.mesh", bank)]), empty(Severity::Error));
    assert_eq!(said(&[("all.mesh", &library)]), []);
}
