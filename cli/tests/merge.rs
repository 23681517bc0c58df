//! Two branches that edit different workloads merge, the policy and its compiled output: with real git.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

const POLICY: &str = r#"exempt uid 1500
redirect outbound -> 15001

mesh shop {
    deny outbound tcp 25

    workload cart {
        cgroup "/cart"
        exclude outbound tcp 3306
    }

    workload till {
        cgroup "/till"
        exclude outbound tcp 5432
    }

    workload web {
        cgroup "/web"
        redirect outbound tcp 443 -> 15443
    }
}
"#;

struct Repository<'a>(&'a Path);

impl Repository<'_> {
    fn git(&self, arguments: &[&str]) -> bool {
        let output = Command::new("git")
            .current_dir(self.0)
            .args([
                "-c",
                "user.name=test",
                "-c",
                "user.email=test@example.com",
                "-c",
                "init.defaultBranch=main",
            ])
            .args(arguments)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        println!("git {arguments:?}: {said}");
        output.status.success()
    }

    fn meshc(&self, arguments: &[&str]) -> Option<i32> {
        let output =
            Command::new(env!("CARGO_BIN_EXE_meshc")).current_dir(self.0).args(arguments).output().unwrap();
        output.status.code()
    }

    /// Commits an edit of the policy with its compiled output.
    fn commit(&self, from: &str, to: &str) {
        let file = self.0.join("shop.mesh");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(&file, text.replacen(from, to, 1)).unwrap();
        assert_eq!(self.meshc(&["compile", "-q", "-o", "shop.toml", "shop.mesh"]), Some(0));
        assert!(self.git(&["add", "-A"]) && self.git(&["commit", "-qm", "edit"]));
    }
}

#[track_caller]
fn check(one: (&str, &str), other: (&str, &str)) {
    let dir = tempfile::tempdir().unwrap();
    let repository = Repository(dir.path());
    std::fs::write(dir.path().join("shop.mesh"), POLICY).unwrap();
    assert!(repository.git(&["init", "-q"]));
    repository.commit("exempt uid 1500", "exempt uid 1500");
    assert!(repository.git(&["checkout", "-qb", "one"]));
    repository.commit(one.0, one.1);
    assert!(repository.git(&["checkout", "-qb", "other", "main"]));
    repository.commit(other.0, other.1);
    assert!(repository.git(&["merge", "-q", "--no-edit", "one"]), "the outputs conflict");
    // What git made of the two texts is what the merged policy compiles to.
    assert_eq!(repository.meshc(&["compile", "--check", "-o", "shop.toml", "shop.mesh"]), Some(0));
}

#[test]
fn rules_of_neighbouring_workloads_merge() {
    check(
        (
            "exclude outbound tcp 3306",
            "exclude outbound tcp 3306\n        exclude outbound tcp 6379 to 10.0.0.0/8",
        ),
        ("exclude outbound tcp 5432", "exclude outbound tcp 5432\n        deny outbound udp 443"),
    );
}

#[test]
fn a_rule_that_goes_and_one_that_changes_merge() {
    check(
        ("        exclude outbound tcp 3306\n", ""),
        ("redirect outbound tcp 443 -> 15443", "redirect outbound tcp 443, 8443 -> 15444"),
    );
}

#[test]
fn selectors_and_rules_merge() {
    check(
        ("cgroup \"/cart\"", "cgroup \"/cart\", \"/cart-canary\"\n        exempt uid 1600"),
        ("cgroup \"/till\"", "cgroup \"/till.slice\"\n        exempt gid 7"),
    );
}

#[test]
fn a_new_workload_and_an_edit_merge() {
    check(
        (
            "    workload web {",
            "    workload vault {\n        cgroup \"/vault\"\n        deny outbound tcp 80\n    }\n\n    workload web {",
        ),
        ("exclude outbound tcp 3306", "exclude outbound tcp 3306, 3307"),
    );
}
