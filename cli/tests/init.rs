//! What `meshc init` writes is right as it is: its workflow is where it runs, and each of its steps succeeds.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

fn run(dir: &Path, line: &str) -> Output {
    let words = line.split_whitespace().skip(1);
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshc"));
    command.current_dir(dir).env("NO_COLOR", "1").env_remove("GITHUB_WORKSPACE").args(words).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A repository with policies in one of its directories, as `init` made them.
fn repository() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join(".git")).unwrap();
    let made = run(root.path(), "meshc init teams/shop");
    assert!(made.status.success(), "{}", text(&made.stderr));
    root
}

/// The value of a key of the workflow, without its comment.
fn value<'w>(workflow: &'w str, key: &str) -> Vec<&'w str> {
    let lines = workflow.lines().filter_map(|line| line.trim().strip_prefix(key));
    lines.map(|value| value.split(" #").next().unwrap_or_default().trim()).collect()
}

#[test]
fn every_step_of_the_workflow_succeeds_on_what_was_written_with_it() {
    let root = repository();
    let workflow =
        std::fs::read_to_string(root.path().join(".github/workflows/meshc-teams-shop.yml")).unwrap();
    let dir = value(&workflow, "working-directory:").concat();
    assert_eq!(dir, "teams/shop");
    let steps: Vec<&str> =
        value(&workflow, "run:").into_iter().filter(|step| step.starts_with("meshc ")).collect();
    assert_eq!(steps.len(), 4, "{workflow}");
    for step in steps {
        let done = run(&root.path().join(&dir), step);
        let said = text(&done.stdout) + &text(&done.stderr);
        assert!(done.status.success(), "{step}: {said}");
        assert!(
            !["::", "note", "warning", "no test reaches"].iter().any(|word| said.contains(word)),
            "{said}"
        );
    }
}

#[test]
fn a_failing_step_shows_what_is_wrong_in_its_log_and_beside_the_source() {
    let root = repository();
    let (dir, policy) = (root.path().join("teams/shop"), root.path().join("teams/shop/app.mesh"));
    let right = std::fs::read_to_string(&policy).unwrap();
    let failing = |wrong: &str, step: &str, code: i32| {
        std::fs::write(&policy, wrong).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshc"));
        let step = step.split_whitespace().chain(["--format", "github"]);
        let done = command.current_dir(&dir).env("GITHUB_WORKSPACE", root.path().canonicalize().unwrap());
        let done = done.args(step).output().unwrap();
        assert_eq!(done.status.code(), Some(code), "{}", text(&done.stderr));
        (text(&done.stdout), text(&done.stderr))
    };
    let (commands, log) = failing(&right.replace("tcp 5432  #", "tcp nope  #"), "check", 1);
    assert!(
        commands.starts_with(
            "::error file=teams/shop/app.mesh,line=5,endLine=5,col=26,endColumn=30,title=syntax::`nope` cannot stand here%0Ahelp: "
        ),
        "{commands}"
    );
    assert!(log.contains("5 │     exclude outbound tcp nope"), "{log}");
    let (answer, _) = failing(&right.replace("is denied", "is excluded"), "test", 1);
    assert!(answer.contains("FAILED ") && answer.contains(",title=test-failed::"), "{answer}");
    let (answer, _) = failing(&right.replace("  #", " #"), "fmt --check", 3);
    assert!(answer.contains("\n::error file=teams/shop/app.mesh,title=fmt::"), "{answer}");
    let other = right.replace("exclude outbound", "deny inbound tcp 9\n    exclude outbound");
    let (answer, _) = failing(&other, "compile --check -o compiled.toml", 3);
    assert!(answer.contains("\n::error file=teams/shop/compiled.toml,title=stale::"), "{answer}");
    let (answer, _) = failing(&right, "compile --check -o nosuch/compiled.toml", 3);
    assert!(answer.contains("title=stale::"), "{answer}");
    let (answer, _) = failing(&right, "check nosuch", 1);
    assert!(answer.starts_with("::error title=unreadable::`nosuch` does not exist"), "{answer}");
}

#[test]
fn what_is_there_is_kept_and_a_policy_with_errors_is_said() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("other.mesh"), "mesh other { deny outbound tcp 25 }\n").unwrap();
    let made = run(root.path(), "meshc init");
    assert_eq!(made.status.code(), Some(1));
    assert!(text(&made.stderr).contains("compiled.toml was not written"), "{}", text(&made.stderr));
    assert!(root.path().join(".github/workflows/meshc.yml").exists());
    std::fs::remove_file(root.path().join("other.mesh")).unwrap();
    let again = text(&run(root.path(), "meshc init").stdout);
    assert!(again.contains("kept  platform.mesh") && again.contains("wrote compiled.toml"), "{again}");
}

#[test]
fn a_directory_is_quoted_where_it_is_no_plain_word() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join(".git")).unwrap();
    std::fs::create_dir_all(root.path().join("a: b")).unwrap();
    assert!(run(&root.path().join("a: b"), "meshc init").status.success());
    let workflow = std::fs::read_to_string(root.path().join(".github/workflows/meshc-a: b.yml")).unwrap();
    assert_eq!(value(&workflow, "working-directory:"), ["\"a: b\""]);
}

#[test]
fn the_current_directory_is_the_policy_where_none_is_named() {
    let root = repository();
    let dir = root.path().join("teams/shop");
    for line in ["meshc check", "meshc test", "meshc compile", "meshc fmt --check"] {
        assert!(run(&dir, line).status.success(), "{line}");
    }
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshc"));
        command.current_dir(&dir);
        command
    };
    let asked = command().args(["explain", "app -> 10.0.3.9 tcp 5432"]).output().unwrap();
    assert!(text(&asked.stdout).contains("is excluded"), "{}", text(&asked.stderr));
    assert_eq!(run(&dir, "meshc explain app.mesh").status.code(), Some(2));
    for line in ["meshc check", "meshc fmt", "meshc compile"] {
        let refused = run(root.path(), line);
        assert_eq!(refused.status.code(), Some(1), "{line}");
        assert!(text(&refused.stderr).contains("the current directory has no `.mesh` files"), "{line}");
    }
}
