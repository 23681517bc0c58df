//! Nothing that a command says is wider than the terminal; in a pipe lines are whole.

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Failure, Tested, on_terminal};

use crate::fixtures::command::Answer;
use crate::fixtures::seen::Seen;
use crate::fixtures::stage::Stage;

const SETS: &str = "set partners-of-the-shop = [
    198.51.100.0/24,
    203.0.113.0/25,
    192.0.2.0/24,
    2001:db8:4711::/48,
]
set databases-of-the-shop = tcp 3306, 5432, 6379-6380
";
const OLD: &str = "redirect outbound -> 15001
exclude outbound databases-of-the-shop
deny outbound tcp 25, 465 to partners-of-the-shop";
const NEW: &str = "redirect outbound -> 15002
exclude outbound databases-of-the-shop to partners-of-the-shop
deny outbound tcp 1-1024 to partners-of-the-shop
workload a-workload-with-quite-a-long-name { cgroup \"/there/is/no/cgroup/of/that/name/on/this/node.slice\" }";

/// The lines of a text that are wider than that and have several words, which could stand on lines of their own.
fn wide(text: &str, columns: u16) -> Vec<&str> {
    let is_wide =
        |line: &&str| line.chars().count() > usize::from(columns) && line.split_whitespace().nth(1).is_some();
    text.lines().filter(is_wide).collect()
}

#[test]
fn nothing_is_wider_than_the_terminal() -> Tested {
    let stage = Stage::new()?;
    let rules = |rules: &str| format!("{SETS}{rules}");
    let old = stage.policy("the-policy-that-was-there-before.mesh", &rules(OLD))?.display().to_string();
    let new = stage.policy("the-policy-that-comes-after-it.mesh", &rules(NEW))?.display().to_string();
    stage.ask(&["apply", "--keep-decisions", "on", &old])?;
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));
    assert_eq!(stage.dial("203.0.113.9:25")?, Seen::Denied);
    let flow = "cart -> 203.0.113.9 tcp 25";
    let shown = |arguments: &[&str], columns| -> Result<String, Failure> {
        Ok(on_terminal(stage.meshc().args(arguments).args(["--color", "never"]), columns)?.0)
    };
    let asked: [&[&str]; 13] = [
        &["plan", &new],
        &["plan", "--entries", &new],
        &["diff", "live", &new],
        &["history"],
        &["history", "-v"],
        &["status"],
        &["status", "-v"],
        &["explain", "--live", flow],
        &["observe", "--since", "1h"],
        &["observe", "--since", "1h", "--top"],
        &["attach", "--netns", "/there/is/no/network/namespace", "--name", "of-that-name"],
        &["detach", "--name", "a-pod-that-there-is-not", "--namespace", "anywhere"],
        &["rollback"],
    ];
    for columns in [80, 120] {
        for arguments in asked {
            let text = shown(arguments, columns)?;
            assert!(!text.is_empty(), "{arguments:?}");
            assert!(wide(&text, columns).is_empty(), "{columns} {arguments:?}: {text}");
        }
        // A terminal is asked, and answers nothing.
        let text = shown(&["apply", "-v", &new], columns)?;
        assert!(text.contains("apply? [y/N]") && wide(&text, columns).is_empty(), "{columns}: {text}");
    }
    for arguments in [&["plan", &new][..], &["history"], &["explain", "--live", flow]] {
        let piped = Answer::of(stage.meshc().args(arguments).env("COLUMNS", "80"))?.stdout;
        assert!(!wide(&piped, 80).is_empty(), "{arguments:?}: {piped}");
        let of = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(of(&shown(arguments, 80)?), of(&piped), "the words are the same");
    }
    for columns in [80, 120] {
        let text = shown(&["apply", "--yes", if columns == 80 { &new } else { &old }], columns)?;
        assert!(text.contains("applied generation") && wide(&text, columns).is_empty(), "{columns}: {text}");
    }
    Ok(())
}
