//! Runs the machine's own tools.

use std::io::{self, Write};
use std::process::{Command, Stdio};

/// Runs a tool to its end and returns what it printed; what it complained of is in the error.
///
/// # Errors
/// If it cannot be started or does not exit with 0.
pub fn tool(program: &str, arguments: &[&str]) -> io::Result<String> {
    with_input(program, arguments, "")
}

/// The same with `input` on its standard input.
pub(crate) fn with_input(program: &str, arguments: &[&str], input: &str) -> io::Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("{program} {}: {}: {complaint}", arguments.join(" "), output.status)))
}
