//! What `meshc check --format sarif` prints is valid by the schema of SARIF 2.1.0.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Reads the schema's path, then a log from standard input: exits with 0 where the log is valid.
const VALIDATE: &str = "
import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
errors = list(jsonschema.validators.validator_for(schema)(schema).iter_errors(json.load(sys.stdin)))
print('\\n'.join(error.message for error in errors[:5]))
sys.exit(1 if errors else 0)
";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The schema comes with the source of a crate that is never built.
fn schema() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let package = (metadata["packages"].as_array().unwrap().iter())
        .find(|package| package["name"] == "serde-sarif")
        .expect("serde-sarif is a dependency of the tests");
    let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap());
    manifest.with_file_name("src").join("schema.json")
}

/// Python's validator, from Debian's package python3-jsonschema.
fn validate(schema: &Path, log: &Path) -> (bool, String) {
    let output = Command::new("/usr/bin/python3")
        .args(["-c", VALIDATE])
        .arg(schema)
        .stdin(std::fs::File::open(log).unwrap())
        .output()
        .unwrap();
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), said)
}

fn has_validator() -> bool {
    let found = Command::new("/usr/bin/python3").args(["-c", "import jsonschema"]).output();
    found.is_ok_and(|output| output.status.success())
}

#[test]
fn every_rejected_policy_gives_valid_sarif() {
    if !has_validator() {
        assert!(std::env::var_os("MESHC_TEST_KERNEL").is_none(), "python3-jsonschema was promised");
        eprintln!("python3-jsonschema is not installed: not tested");
        return;
    }
    let (schema, dir) = (schema(), tempfile::tempdir().unwrap());
    let log = dir.path().join("log.sarif");
    std::fs::write(&log, "{\"version\":\"2.1.0\"}").unwrap();
    assert!(!validate(&schema, &log).0, "the schema checks nothing");
    let policies = ["policies/reject", "policies/hosts.mesh", "cli/tests/data/ten-mistakes.mesh"];
    for policy in policies {
        let output = Command::new(env!("CARGO_BIN_EXE_meshc"))
            .current_dir(root())
            .args(["check", "--format", "sarif", policy])
            .output()
            .unwrap();
        let parsed: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(!parsed["runs"][0]["results"].as_array().unwrap().is_empty(), "{policy}");
        std::fs::write(&log, &output.stdout).unwrap();
        let (valid, said) = validate(&schema, &log);
        assert!(valid, "{policy}: {said}");
    }
}
