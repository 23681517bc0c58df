//! Running meshc.

use std::path::Path;
use std::process::{Command, Output};

use mesh_testbed::Failure;
use mesh_testbed::refuse::{OPTIONAL, Refused, all_is_refused, refuse};
use serde_json::Value;

/// What one call of meshc answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Answer {
    /// Runs a command to its end.
    pub(crate) fn of(command: &mut Command) -> Result<Self, Failure> {
        let Output { status, stdout, stderr } = command.output()?;
        let code = status.code().ok_or_else(|| format!("{command:?}: {status}"))?;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| "meshc printed invalid UTF-8");
        Ok(Self { code, stdout: text(stdout)?, stderr: text(stderr)? })
    }

    /// The answer of a command that must succeed.
    pub(crate) fn done(self) -> Result<Self, Failure> {
        if self.code == 0 { Ok(self) } else { Err(format!("meshc failed: {self:#?}").into()) }
    }

    /// Its JSON.
    pub(crate) fn json(&self) -> Result<Value, Failure> {
        serde_json::from_str(&self.stdout).map_err(|error| format!("{error}: {self:#?}").into())
    }

    /// All that it said.
    pub(crate) fn words(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// The binary under test.
pub(crate) fn meshc() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshc"));
    if all_is_refused() {
        refused(&mut command, &OPTIONAL);
    }
    command
}

/// Lets the kernel refuse this to a command of meshc, unless it refuses everything that it may anyhow.
pub(crate) fn refusing(command: &mut Command, what: &[Refused]) {
    if !what.is_empty() && !all_is_refused() {
        refused(command, what);
    }
}

fn refused(command: &mut Command, what: &[Refused]) {
    let done = refuse(command, what, Path::new(env!("CARGO_TARGET_TMPDIR")));
    assert!(done.is_ok(), "the kernel cannot be made to refuse anything: {done:?}");
}

/// Copies a program, by another process: a file that this one has open for writing is, for a moment, also open in
/// every child that another test starts, and cannot be run as long.
pub(crate) fn copy_program(from: &Path, to: &Path) -> Result<(), Failure> {
    let done = Command::new("install").args(["-m", "755"]).arg(from).arg(to).status()?;
    if done.success() { Ok(()) } else { Err(format!("install {}: {done}", to.display()).into()) }
}
