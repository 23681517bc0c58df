//! `meshc view`: a page is one file, the same for the same policy, and nothing is written for one that is refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const POLICY: &str = "redirect outbound -> 15001\nexempt uid 1500\nmesh shop {\n    deny outbound tcp 25\n    workload cart { namespace shop }\n}\n";

fn meshc(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_meshc")).current_dir(dir).args(arguments).output().unwrap()
}

/// What a page has for its script.
fn data(page: &str) -> Value {
    let (_, data) = page.split_once("type=\"application/json\">").unwrap();
    serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap()
}

fn directory(files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    files.iter().for_each(|(name, text)| fs::write(dir.path().join(name), text).unwrap());
    dir
}

#[test]
fn a_page_is_one_file_and_the_same_for_the_same_policy() {
    let dir = directory(&[("shop.mesh", POLICY)]);
    let printed = meshc(dir.path(), &["view"]);
    assert_eq!(printed.status.code(), Some(0), "{printed:?}");
    assert_eq!(meshc(dir.path(), &["view", "-o", "page.html"]).status.code(), Some(0));
    let page = fs::read_to_string(dir.path().join("page.html")).unwrap();
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), page);
    // An address that is no place to load from is the name of a kind of markup.
    let others = page.replace("http://www.w3.org/2000/svg", "");
    for loads in ["http:", "https:", " src=", " srcset=", "@import", "url("] {
        assert!(!others.contains(loads), "it has `{loads}`");
    }
    assert!(page.contains("default-src 'none'; script-src 'nonce-"));
    let data = data(&page);
    assert_eq!(data["policies"][0]["workloads"][0]["name"], "shop/cart");
    assert_eq!(data["policies"][0]["rules"]["files"][0], "shop.mesh");
    let answer: Value =
        serde_json::from_slice(&meshc(dir.path(), &["view", "shop.mesh", "--format", "json"]).stdout)
            .unwrap();
    assert!(answer["page"].as_str().unwrap().starts_with("<!doctype html>"));
}

#[test]
fn two_policies_are_shown_with_what_changes() {
    let changed = POLICY.replace("tcp 25", "tcp 25-26").replace("uid 1500", "uid 1501");
    let dir = directory(&[("old.mesh", POLICY), ("new.mesh", &changed)]);
    let page = String::from_utf8(meshc(dir.path(), &["view", "old.mesh", "new.mesh"]).stdout).unwrap();
    let changed = data(&page);
    let changes = changed["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 1, "{changes:#?}");
    assert_eq!((&changes[0]["before"], &changes[0]["after"]), (&"redirected 15001".into(), &"denied".into()));
    assert_eq!((&changes[0]["workload"], &changes[0]["ports"]), (&"shop/cart".into(), &"26".into()));
    let notes = changed["notes"].to_string();
    assert!(notes.contains("uid 1500: is no longer exempt") && notes.contains("uid 1501: becomes exempt"));
    let same = String::from_utf8(meshc(dir.path(), &["view", "old.mesh", "old.mesh"]).stdout).unwrap();
    assert_eq!(data(&same)["changes"], Value::Array(Vec::new()));
}

#[test]
fn nothing_is_written_for_a_policy_that_is_refused() {
    let dir = directory(&[("shop.mesh", "mesh shop {\n    deny outbound tcp 70000\n}\n")]);
    let refused = meshc(dir.path(), &["view", "-o", "page.html"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(!dir.path().join("page.html").exists());
}
