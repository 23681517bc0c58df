//! One name stands for a diagnostic, its page and its minimal policy, and the policy yields just that one. More
//! policies of one diagnostic have a second word: `wrong-kind.as-inbound.mesh`. What is only said of settings that are
//! imported has those, as YAML: the tests of the command line import them.

#![expect(clippy::disallowed_methods, reason = "the test reads files")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use mesh_bpf::pack::MAX_LINES;
use mesh_compiler::compile::compile_within;
use mesh_compiler::diag::{Code, Diagnostic, Severity};
use mesh_compiler::format::format;
use mesh_compiler::resolve::{Loader, Location};
use mesh_compiler::source::Sources;

/// The first comment of each policy is where its reason stands.
const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/reject");

/// Lines that a table may have where the kernel's limit is not to be reached by a policy that anyone would read.
const FEW_LINES: usize = 30;

/// Imports of a policy in `DIR`, or of an example that stands for one.
struct Directory;

impl Loader for Directory {
    fn find(&mut self, _from: &Location, path: &str) -> Result<Vec<Location>, String> {
        let there = path == "platform.mesh" || Path::new(DIR).join(path).exists();
        let location = Location { key: path.to_owned(), name: path.to_owned() };
        if there { Ok(vec![location]) } else { Err("does not exist".to_owned()) }
    }

    fn read(&mut self, file: &Location) -> Result<Vec<u8>, String> {
        if file.key == "platform.mesh" {
            return Ok(b"set private = 10.0.0.0/8\n".to_vec());
        }
        fs::read(Path::new(DIR).join(&file.key)).map_err(|error| error.to_string())
    }
}

fn diagnostics(code: Code, text: &str) -> Vec<Diagnostic> {
    let name = format!("{code}.mesh");
    let place = Location { key: name.clone(), name };
    let lines = if code == Code::OverCapacity { FEW_LINES } else { MAX_LINES };
    compile_within(vec![(place, text.as_bytes().to_vec())], &mut Directory, || None, lines).diagnostics
}

/// Every policy, with the code that its name begins with.
fn policies() -> Vec<(Code, String)> {
    let entries = fs::read_dir(DIR).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let names = names.filter(|name| Path::new(name).extension().is_some_and(|it| it == "mesh"));
    let code = |name: String| {
        let (word, _) = name.split_once('.')?;
        Some((Code::ALL.into_iter().find(|code| code.word() == word)?, name))
    };
    names.filter_map(code).collect()
}

fn policy(code: Code) -> PathBuf {
    Path::new(DIR).join(format!("{code}.mesh"))
}

/// What is imported, where a diagnostic is about that and no policy: settings, or a listing of rules.
fn imported(code: Code) -> Option<PathBuf> {
    let files = ["yaml", "txt"].map(|extension| Path::new(DIR).join(format!("{code}.{extension}")));
    files.into_iter().find(|file| file.exists())
}

/// Every code that is said of policies.
fn of_policies() -> impl Iterator<Item = Code> {
    Code::ALL.into_iter().filter(|&code| imported(code).is_none())
}

/// The examples of a page: what is wrong, and what is right instead.
fn examples(code: Code) -> Vec<&'static str> {
    blocks(code, "```mesh\n")
}

fn blocks(code: Code, fence: &str) -> Vec<&'static str> {
    let blocks = code.page().split(fence).skip(1);
    blocks.filter_map(|rest| rest.split_once("```").map(|(block, _)| block)).collect()
}

#[test]
fn every_diagnostic_has_a_policy_and_every_policy_a_diagnostic() {
    let names: BTreeSet<String> = policies().into_iter().map(|(_, name)| name).collect();
    for code in of_policies() {
        assert!(names.contains(&format!("{code}.mesh")), "{code} has no policy");
    }
    let all = Code::ALL.len() - of_policies().count() + names.len();
    assert_eq!(all, fs::read_dir(DIR).unwrap().count(), "a file is named by no code");
}

#[test]
fn each_policy_yields_its_diagnostic_and_no_other() {
    for (code, name) in policies() {
        let text = fs::read_to_string(Path::new(DIR).join(&name)).unwrap();
        let found = diagnostics(code, &text);
        let codes: Vec<Code> = found.iter().map(|diagnostic| diagnostic.code).collect();
        assert_eq!(codes, [code], "{name}: {found:#?}");
    }
}

#[test]
fn each_diagnostic_underlines_something_and_says_what_to_write() {
    for (code, name) in policies() {
        let text = fs::read_to_string(Path::new(DIR).join(name)).unwrap();
        for diagnostic in diagnostics(code, &text) {
            assert!(diagnostic.labels.iter().any(|label| label.primary), "{code} underlines nothing");
            assert!(diagnostic.help.is_some(), "{code} has no help");
            assert!(diagnostic.message.chars().next().is_some_and(|first| !first.is_uppercase()), "{code}");
            assert!(!diagnostic.message.ends_with('.'), "{code}");
        }
    }
}

#[test]
fn the_page_of_what_is_imported_shows_it() {
    for (code, file) in Code::ALL.into_iter().filter_map(|code| Some((code, imported(code)?))) {
        let fences = ["```yaml cart.yaml\n", "```yaml vm.yaml\n", "```txt rules.txt\n"];
        let shown: Vec<&str> = fences.iter().flat_map(|fence| blocks(code, fence)).collect();
        assert_eq!(shown, [fs::read_to_string(file).unwrap()], "{code}");
    }
}

#[test]
fn the_examples_of_each_page_are_what_they_say() {
    for code in of_policies() {
        let examples = examples(code);
        let (wrong, right) = examples.split_first().unwrap();
        assert!(!right.is_empty(), "the page of {code} says not what to write instead");
        let policy = fs::read_to_string(policy(code)).unwrap();
        assert!(policy.ends_with(*wrong), "the policy of {code} is not the example of its page");
        for right in right {
            let found = diagnostics(code, right);
            let bad: Vec<&Diagnostic> =
                found.iter().filter(|d| d.severity == Severity::Error || d.code == code).collect();
            assert!(bad.is_empty(), "a right example of {code}: {bad:#?}");
        }
    }
}

#[test]
fn what_can_be_read_is_in_canonical_layout() {
    for code in of_policies() {
        let policy = fs::read_to_string(policy(code)).unwrap();
        for text in examples(code).into_iter().chain([policy.as_str()]) {
            let (id, _) = Sources::default().add("a.mesh", Vec::new());
            if let Ok(formatted) = format(id, text) {
                assert_eq!(formatted, text, "{code}");
            }
        }
    }
}

#[test]
fn what_is_many_times_too_large_is_refused_before_it_is_made() {
    // 800 workloads with rules of their own, each with 800 prefixes.
    let prefixes: Vec<String> = (0..800).map(|n| format!("10.{}.{}.0/24", n / 250, n % 250)).collect();
    let workloads = (0..800).map(|n| {
        format!(
            "    workload w{n} {{\n        label app = w{n}\n        deny outbound tcp {} to s\n    }}\n",
            n + 1
        )
    });
    let workloads: String = workloads.collect();
    let text = format!("set s = {}\nmesh m {{\n{workloads}}}\n", prefixes.join(", "));
    let place = Location { key: "a.mesh".into(), name: "a.mesh".into() };
    let done = compile_within(vec![(place, text.into_bytes())], &mut Directory, || None, 1 << 14);
    let [only] = done.diagnostics.as_slice() else { panic!("{:#?}", done.diagnostics) };
    assert_eq!((only.code, only.labels.len()), (Code::OverCapacity, 3));
    assert!(
        only.message.contains("`nodes`") && only.message.ends_with("and 16384 is the limit"),
        "{}",
        only.message
    );
}
