//! `meshc import` on clusters of the shape that people have: what comes out is in `snapshots/imported`, for people who
//! review a change, and it is a policy like any other.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn meshc(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshc"));
    command.current_dir(root()).env("COLUMNS", "100").env("NO_COLOR", "1").args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that fails early does not read all of it.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The clusters, each with the mesh that it has.
fn clusters() -> Vec<(String, PathBuf)> {
    let dir = root().join("cli/tests/data/import");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mesh =
        |file: &Path| file.file_stem().unwrap().to_str().unwrap().split('.').next().unwrap().to_owned();
    files.into_iter().map(|file| (mesh(&file), file.strip_prefix(root()).unwrap().to_owned())).collect()
}

#[test]
fn every_cluster_is_imported_as_its_snapshot() {
    for (mesh, file) in clusters() {
        let output = meshc(&["import", "--report", &mesh, file.to_str().unwrap()], b"");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(root().join("snapshots/imported"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        let said = text(&output.stderr);
        let name = file.file_stem().unwrap().to_str().unwrap();
        settings.bind(|| {
            insta::assert_snapshot!(name, text(&output.stdout));
            insta::assert_snapshot!(format!("{name}.report"), said);
        });
    }
}

#[test]
fn what_is_imported_is_checked_tested_and_laid_out() {
    for (mesh, file) in clusters() {
        let policy = meshc(&["import", "-q", &mesh, file.to_str().unwrap()], b"").stdout;
        for arguments in [
            &["check", "--deny", "warnings", "-"][..],
            &["test", "--min-coverage", "95", "-"],
            &["fmt", "--check", "-"],
        ] {
            let output = meshc(arguments, &policy);
            let said = text(&output.stdout) + &text(&output.stderr);
            assert!(output.status.success(), "{mesh}: {arguments:?}\n{said}\n{}", text(&policy));
        }
    }
}

#[test]
fn a_report_counts_what_is_no_rule() {
    let output = meshc(&["import", "--format", "json", "istio", "cli/tests/data/import/istio.yaml"], b"");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let counts = &answer["report"]["settings"];
    assert_eq!((counts["bad"].as_u64(), counts["comment"].as_u64()), (Some(1), Some(1)), "{counts}");
    let lines = answer["report"]["lines"].as_array().unwrap();
    let line = |setting: &str| lines.iter().find(|line| line["setting"] == setting).unwrap();
    assert_eq!(line("traffic.sidecar.istio.io/excludeInterfaces")["became"], "rule");
    let probes = line("sidecar.istio.io/rewriteAppHTTPProbers");
    assert_eq!(probes["became"], "comment");
    assert_eq!(probes["file"], "cli/tests/data/import/istio.yaml");
    assert!(probes["line"].as_u64() > Some(100) && probes["why"].is_string(), "{probes}");
    assert!(answer["policy"].as_str().unwrap().contains("workload ledger {"));
}

#[test]
fn json_says_what_yaml_says() {
    let yaml = "kind: Pod\nmetadata: {name: a, namespace: b, labels: {app: c}, annotations: \
                {traffic.sidecar.istio.io/excludeInboundPorts: '80'}}\n";
    let json = "{\n    \"kind\": \"Pod\",\n    \"metadata\": {\"name\": \"a\", \"namespace\": \"b\", \"labels\": {\"app\": \"c\"}, \
                \"annotations\": {\"traffic.sidecar.istio.io/excludeInboundPorts\": \"80\"}}\n}\n";
    let [yaml, json] = [yaml, json].map(|input| meshc(&["import", "-q", "istio"], input.as_bytes()).stdout);
    assert_eq!(text(&yaml), text(&json));
    assert!(text(&yaml).contains("exclude inbound tcp 80 "));
}

#[test]
fn settings_that_cannot_be_read_are_errors_where_that_is_asked_for() {
    let file = "policies/reject/bad-setting.yaml";
    assert_eq!(meshc(&["import", "istio", file], b"").status.code(), Some(0));
    let output = meshc(&["import", "--deny", "warnings", "istio", file], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("exclude outbound tcp 3306 "));
    let output = meshc(&["import", "istio", "policies/reject/bad-yaml.yaml"], b"");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
}
