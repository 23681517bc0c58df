//! Commands on a terminal of their own.

use std::process::{Command, Stdio};

use crate::Failure;

/// What a command writes to a terminal that is so wide, both of its outputs together, as text; and its exit code. Nobody
/// types anything. The terminal is one of util-linux's `script`.
///
/// # Errors
/// Where it cannot be started, or writes no text.
pub fn on_terminal(command: &Command, columns: u16) -> Result<(String, i32), Failure> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted: Vec<String> =
        words.map(|word| format!("'{}'", word.to_string_lossy().replace('\'', "'\\''"))).collect();
    let line = format!("stty cols {columns} rows 50; exec {}", quoted.join(" "));
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).stdin(Stdio::null());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => script.env(key, value),
            None => script.env_remove(key),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        script.current_dir(dir);
    }
    let done = script.env_remove("COLUMNS").output()?;
    let code = done.status.code().ok_or_else(|| format!("{line}: {}", done.status))?;
    Ok((String::from_utf8(done.stdout)?.replace("\r\n", "\n"), code))
}
