//! Two branches that edit different workloads merge their compiled outputs without conflict, and what comes
//! out is the compiled output of the merged policy: shown with git itself.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the test works with files and with git"
)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails here is the test")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use mesh_compiler::compile::compile;
use mesh_compiler::emit::{Sets, emit};
use mesh_compiler::resolve::{Location, NoImports};

/// A policy with one line for the body of each workload, apart enough for git to merge the source too.
fn policy(cart: &str, catalog: &str, batch: &str) -> String {
    format!(
        "exempt uid 1500
redirect outbound -> 15001
redirect inbound -> 15003
deny outbound udp 443, 53

mesh bookstore {{
    exclude outbound tcp 3306 to 10.0.0.0/8
    exclude inbound tcp 9090

    workload batch {{
        cgroup \"/system.slice/batch.service\"
        # batch


        {batch}


        # end of batch
    }}

    workload cart {{
        namespace shop
        # cart


        {cart}


        # end of cart
    }}

    workload catalog {{
        namespace stock
        # catalog


        {catalog}


        # end of catalog
    }}
}}
"
    )
}

fn compiled(policy: &str) -> String {
    let place = Location { key: "a".into(), name: "a.mesh".into() };
    let done = compile(vec![(place, policy.as_bytes().to_vec())], &mut NoImports, None);
    let compiled = done.compiled.unwrap_or_else(|| panic!("{policy}\n{:#?}", done.diagnostics));
    emit(&compiled.image, &Sets::of(&done.resolution.program))
}

fn git(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("git");
    command.current_dir(dir).args(["-c", "user.name=t", "-c", "user.email=t@localhost"]).args(arguments);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    command.output().unwrap()
}

#[track_caller]
fn done(output: &Output) {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
}

/// Edits of one workload's line, before and after.
const EDITS: [(&str, &str); 9] = [
    ("exclude outbound tcp 11211", "exclude outbound tcp 11211, 11311"),
    ("exclude outbound tcp 11211", "exclude outbound tcp 11211 to 10.1.0.0/16"),
    ("exclude outbound tcp 11211", "deny outbound udp 8125"),
    ("exclude outbound tcp 11211", ""),
    ("", "redirect outbound tcp 443 -> 15443"),
    ("deny outbound to 10.0.0.0/8", "deny outbound to 10.0.0.0/9, 10.128.0.0/10"),
    ("exempt uid 7", "exempt uid 8; exempt gid 3"),
    ("on missing-sidecar pass", "on missing-sidecar refuse"),
    ("redirect outbound udp 53 to 10.0.0.2 -> 15053", "deny outbound to 192.0.2.1, fd00::1"),
];

/// Merges with git's own merge of files, as `git merge` does for each file that both sides changed.
fn merge(dir: &Path, ours: &str, base: &str, theirs: &str) -> Result<String, String> {
    for (name, text) in [("ours", ours), ("base", base), ("theirs", theirs)] {
        fs::write(dir.join(name), text).unwrap();
    }
    let output = git(dir, &["merge-file", "-p", "ours", "base", "theirs"]);
    let text = String::from_utf8(output.stdout).unwrap();
    if output.status.success() { Ok(text) } else { Err(text) }
}

#[test]
fn edits_of_different_workloads_merge_to_what_the_merged_policy_compiles_to() {
    let dir = tempfile::tempdir().unwrap();
    for (before, after) in EDITS {
        for (other_before, other_after) in EDITS {
            // Batch has no rules of its own: the profile of all who have none is there throughout. Where
            // two branches take its last two workloads away, git keeps it, and `compile --check` says so.
            let batch = "";
            let base = compiled(&policy(before, other_before, batch));
            let ours = compiled(&policy(after, other_before, batch));
            let theirs = compiled(&policy(before, other_after, batch));
            let wanted = compiled(&policy(after, other_after, batch));
            let what = format!("{before} => {after}, {other_before} => {other_after}");
            match merge(dir.path(), &ours, &base, &theirs) {
                Ok(merged) => assert!(merged == wanted, "{what}"),
                Err(conflict) => panic!("{what}\n{conflict}"),
            }
        }
    }
}

#[test]
fn git_merges_two_branches() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let write = |cart: &str, catalog: &str| {
        let policy = policy(cart, catalog, "exclude outbound tcp 9");
        fs::write(at.join("bookstore.mesh"), &policy).unwrap();
        fs::write(at.join("bookstore.toml"), compiled(&policy)).unwrap();
    };
    done(&git(at, &["init", "-q", "-b", "main"]));
    write("exclude outbound tcp 11211", "deny outbound udp 8125");
    done(&git(at, &["add", "."]));
    done(&git(at, &["commit", "-q", "-m", "base"]));
    done(&git(at, &["checkout", "-q", "-b", "cart"]));
    write("exclude outbound tcp 11211, 11311 to 10.0.0.0/8", "deny outbound udp 8125");
    done(&git(at, &["commit", "-q", "-a", "-m", "cart"]));
    done(&git(at, &["checkout", "-q", "-b", "catalog", "main"]));
    write("exclude outbound tcp 11211", "deny outbound udp 8125, 8126; exclude inbound from 10.42.0.1");
    done(&git(at, &["commit", "-q", "-a", "-m", "catalog"]));
    done(&git(at, &["merge", "-q", "-m", "both", "cart"]));
    let policy = fs::read_to_string(at.join("bookstore.mesh")).unwrap();
    assert_eq!(fs::read_to_string(at.join("bookstore.toml")).unwrap(), compiled(&policy));
}
