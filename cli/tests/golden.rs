//! How everything looks: what each policy compiles to, each diagnostic, the command line itself. The
//! snapshots are in `snapshots/`, where people who review a change see it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn meshc(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshc"));
    command.current_dir(root()).env("COLUMNS", "100").env("NO_COLOR", "1").args(arguments);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Files of a directory of policies, relative to the repository.
fn policies(dir: &str) -> Vec<PathBuf> {
    files(dir, ".mesh")
}

fn files(dir: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(dir)).unwrap().map(|entry| entry.unwrap().file_name());
    let mut files: Vec<PathBuf> = entries
        .filter(|name| name.to_str().unwrap().ends_with(ending))
        .map(|name| Path::new(dir).join(name))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{dir} has no policies");
    files
}

fn snapshot(dir: &str, name: &str, content: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(root().join("snapshots").join(dir));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, content));
}

#[test]
fn every_policy_compiles_to_its_snapshot() {
    for policy in policies("policies") {
        let inventory = policy.with_extension("toml");
        let mut arguments = vec!["compile", policy.to_str().unwrap()];
        if root().join(&inventory).exists() {
            arguments.extend(["--inventory", inventory.to_str().unwrap()]);
        }
        let output = meshc(&arguments);
        assert!(output.status.success(), "{}: {}", policy.display(), text(&output.stderr));
        snapshot("compiled", policy.file_stem().unwrap().to_str().unwrap(), &text(&output.stdout));
    }
}

#[test]
fn every_diagnostic_looks_like_its_snapshot() {
    for settings in files("policies/reject", ".yaml") {
        let output = meshc(&["import", "-v", "istio", settings.to_str().unwrap()]);
        snapshot("diagnostics", settings.file_stem().unwrap().to_str().unwrap(), &text(&output.stderr));
    }
    for rules in files("policies/reject", ".txt") {
        let output = meshc(&["import", "-v", "iptables", rules.to_str().unwrap()]);
        snapshot("diagnostics", rules.file_stem().unwrap().to_str().unwrap(), &text(&output.stderr));
    }
    for policy in policies("policies/reject") {
        let mut arguments = vec!["check", policy.to_str().unwrap()];
        if policy.ends_with("over-capacity.mesh") {
            arguments.extend(["--max-lines", "30"]);
        }
        let output = meshc(&arguments);
        snapshot("diagnostics", policy.file_stem().unwrap().to_str().unwrap(), &text(&output.stderr));
    }
}

#[test]
fn ten_mistakes_are_ten_diagnostics() {
    let output = meshc(&["check", "--format", "json", "cli/tests/data/ten-mistakes.mesh"]);
    assert_eq!(output.status.code(), Some(1));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let found: Vec<String> = (answer["diagnostics"].as_array().unwrap().iter())
        .filter(|found| found["severity"] == "error")
        .map(|found| {
            let label = &found["labels"][0];
            format!("{}:{} {}", label["line"], label["column"], found["code"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        found,
        [
            "2:27 bad-address",
            "3:28 syntax",
            "4:12 bad-id",
            "6:26 bad-port",
            "6:35 unknown-name",
            "7:26 bad-range",
            "8:18 syntax",
            "9:14 syntax",
            "11:14 duplicate-name",
            "12:18 unknown-name",
        ]
    );
}

#[test]
fn the_command_line_is_described() {
    let help = text(&meshc(&["--help"]).stdout);
    snapshot("command-line", "help", &help);
    let commands =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for command in commands.filter_map(|line| line.split_whitespace().next()).filter(|word| *word != "help") {
        snapshot("command-line", command, &text(&meshc(&[command, "--help"]).stdout));
    }
}

/// What people see who work on the compiler. How it looks is no promise, so it has no snapshot.
#[test]
fn passes_are_printed() {
    for (pass, line) in [("hir", "mesh bookstore\n"), ("ir", "\nports 0\n"), ("image", "source 0: no rule\n")]
    {
        let output = meshc(&["compile", "--print", pass, "policies/bookstore.mesh"]);
        assert!(output.status.success() && text(&output.stdout).contains(line), "{}", text(&output.stdout));
        let again = meshc(&["compile", "--print", pass, "policies/bookstore.mesh"]);
        assert_eq!(text(&output.stdout), text(&again.stdout));
    }
    let tied = meshc(&["compile", "--print", "ir", "policies/reject/conflict.mesh"]);
    assert_eq!(tied.status.code(), Some(1));
    assert!(text(&tied.stdout).contains("\nports 0\n") && text(&tied.stderr).contains("conflict"));
    let image = meshc(&["compile", "--print", "image", "policies/reject/conflict.mesh"]);
    assert_eq!((image.status.code(), text(&image.stdout).as_str()), (Some(1), ""));
}

#[test]
fn a_compiled_file_that_is_stale_is_shown_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("out.toml");
    let name = file.to_str().unwrap();
    assert!(meshc(&["compile", "-q", "-o", name, "policies/hosts.mesh"]).status.success());
    assert_eq!(meshc(&["compile", "--check", "-o", name, "policies/hosts.mesh"]).status.code(), Some(0));
    let stale = std::fs::read_to_string(&file).unwrap().replace("to 192.0.2.0/24", "to 192.0.3.0/24");
    std::fs::write(&file, &stale).unwrap();
    let output = meshc(&["compile", "--check", "-o", name, "policies/hosts.mesh"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stdout).contains("\n+    \"exclude to 192.0.2.0/24, "), "{}", text(&output.stdout));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), stale);
}

#[test]
fn what_is_no_plain_file_stays_what_it_is_when_it_is_written_to() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    let reader = Command::new("cat").arg(at("pipe")).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let written = meshc(&["compile", "-q", "-o", at("pipe").to_str().unwrap(), "policies/hosts.mesh"]);
    assert!(written.status.success(), "{}", text(&written.stderr));
    let read = reader.wait_with_output().unwrap().stdout;
    assert!(std::fs::symlink_metadata(at("pipe")).unwrap().file_type().is_fifo());
    std::fs::write(at("file"), "").unwrap();
    symlink("file", at("link")).unwrap();
    assert!(
        meshc(&["compile", "-q", "-o", at("link").to_str().unwrap(), "policies/hosts.mesh"]).status.success()
    );
    assert!(std::fs::symlink_metadata(at("link")).unwrap().is_symlink());
    assert_eq!(std::fs::read(at("file")).unwrap(), read);
}

#[test]
fn policies_are_in_the_canonical_layout() {
    let output = meshc(&["fmt", "--check", "policies"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
}

#[test]
fn what_changes_alike_for_several_workloads_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let policy = |name: &str, port: u16| {
        let file = dir.path().join(name);
        let text = format!(
            "exempt uid 1500\nmesh shop {{\n    redirect outbound tcp 80 -> {port}\n    deny outbound udp 80\n    \
             workload cart {{ address 10.1.0.0/24 }}\n    workload till {{ address 10.2.0.0/24 }}\n    \
             for cart {{ exclude outbound tcp 9000 }}\n}}\n"
        );
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let output = meshc(&["diff", &policy("old.mesh", 15001), &policy("new.mesh", 15002)]);
    assert_eq!(output.status.code(), Some(3));
    let told = "\
        shop/cart, shop/till outbound tcp 80 to any but loopback, multicast, link-local: redirected 15001 → \
        redirected 15002\n    by shop: redirect outbound tcp 80 -> 15002  DIR/new.mesh:3\n\
        shop/cart, shop/till inbound tcp 15002 from any but loopback: excluded → denied\n    by built-in: outbound-port\n\
        shop/cart, shop/till inbound tcp 15001 from any but loopback: denied → excluded\n    by no rule\n";
    let found = text(&output.stdout).replace(dir.path().to_str().unwrap(), "DIR");
    assert!(found.starts_with(told), "{found}");
}

#[test]
fn a_difference_is_told_as_people_speak() {
    let dir = tempfile::tempdir().unwrap();
    let policy = |name: &str, rule: &str, workload: &str| {
        let file = dir.path().join(name);
        let text = format!(
            "exempt uid 1500\nredirect outbound -> 15001\nset private = 10.0.0.0/8, fc00::/7\nmesh shop {{\n    {rule}\n    \
             workload {workload} {{ namespace shop }}\n    workload till {{ namespace till }}\n}}\n"
        );
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let old = policy("old.mesh", "deny outbound tcp 25", "cart");
    let new = policy("new.mesh", "exclude outbound tcp not 25, 3306 to private", "basket");
    let of = |arguments: &[&str]| {
        let output = meshc(&[&["diff", &old, &new], arguments].concat());
        assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
        text(&output.stdout).replace(dir.path().to_str().unwrap(), "DIR")
    };
    let told = "\
        workload shop/basket was shop/cart\n\
        shop/basket, shop/till outbound tcp all ports but 25, 3306 to private: redirected 15001 → excluded\n    \
        by shop: exclude outbound tcp not 25, 3306 to private  DIR/new.mesh:5 \
             (10.0.0.0/8, DIR/new.mesh:3; fc00::/7, DIR/new.mesh:3)\n\
        shop/basket, shop/till outbound tcp 25 to any but loopback, multicast, link-local: denied → redirected 15001\n    \
        without shop: deny outbound tcp 25  DIR/old.mesh:5\n";
    assert_eq!(of(&[]), format!("{told}entries that change: 4 (`--entries` shows them)\n"));
    let entries = "\
        entries: 2 added, 2 removed, 0 changed\n  - shop outbound any tcp 25 = denied\n  \
        - shop outbound any tcp not 25 = redirected 15001\n  + shop outbound any tcp = redirected 15001\n  \
        + shop outbound private tcp not 25, 3306 = excluded\n";
    assert_eq!(of(&["--entries"]), format!("{told}{entries}"));
    let answer: serde_json::Value = serde_json::from_str(&of(&["--entries", "--format", "json"])).unwrap();
    assert_eq!(answer["entry_changes"].as_array().unwrap().len(), 4);
    assert_eq!(answer["members"][0]["renamed_from"], "shop/cart");
    let flow = &answer["flows"][0];
    assert_eq!((&flow["set"], &flow["ports"]), (&"private".into(), &"1-24, 26-3305, 3307-65535".into()));
    assert_eq!((&flow["causes"][0]["line"], &flow["causes"][0]["gone"]), (&5.into(), &false.into()));
}

#[test]
fn compiled_text_is_recognised_where_a_policy_belongs() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("out.toml");
    let name = file.to_str().unwrap();
    assert!(meshc(&["compile", "-q", "-o", name, "policies/hosts.mesh"]).status.success());
    for arguments in [vec!["check", name], vec!["diff", name, "policies/hosts.mesh"], vec!["compile", name]] {
        let output = meshc(&arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = text(&output.stderr);
        assert!(said.contains("text for people to read") && said.contains("--artifact"), "{said}");
    }
}
