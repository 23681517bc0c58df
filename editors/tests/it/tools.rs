//! Editors that are run. `./test` sets `MESHC_TEST_EDITORS`: then one that is missing is a failure.

use std::process::Command;

/// Whether an editor is there; where it is not, that is said.
pub(crate) fn have(editor: &str) -> bool {
    runs(editor) || missing(editor, "MESHC_TEST_EDITORS")
}

/// Whether there is a vim that runs scripts and colours: Debian's smallest one does neither.
pub(crate) fn have_vim() -> bool {
    let features = Command::new("vim").arg("--version").output();
    let found = features.is_ok_and(|it| String::from_utf8_lossy(&it.stdout).contains("+syntax"));
    found || missing("vim with +syntax", "MESHC_TEST_EDITORS")
}

/// Whether node is there, and packages of npm; only `./test --long` installs both.
pub(crate) fn have_node(packages: bool) -> bool {
    (runs("node") && packages) || missing("node, or `npm ci` in editors/vscode", "MESHC_TEST_LONG")
}

/// Says that something is not tried. Where it was promised by a variable, that is a failure.
pub(crate) fn missing(what: &str, promise: &str) -> bool {
    let promised = std::env::var_os(promise).is_some();
    assert!(!promised, "{what} is missing; scripts/setup.sh installs it");
    eprintln!("not tried: {what} is missing");
    false
}

fn runs(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}
