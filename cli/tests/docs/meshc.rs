//! Runs the tool as a reader of the manual would.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::Tested;

/// What a command printed on a terminal, and how it ended.
pub(crate) struct Printed {
    pub(crate) text: String,
    pub(crate) code: i32,
}

/// Runs it in a directory, with both of its streams in one, as on a terminal.
pub(crate) fn run(dir: &Path, arguments: &[String]) -> Tested<Printed> {
    let path = dir.join(".printed");
    let file = File::create(&path)?;
    let status = command(dir, arguments).stdout(file.try_clone()?).stderr(file).status()?;
    let text = std::fs::read_to_string(&path)?;
    std::fs::remove_file(path)?;
    Ok(Printed { text, code: status.code().unwrap_or(-1) })
}

/// The diagnostics of a program: the codes of errors, and those of warnings.
pub(crate) fn codes(dir: &Path, arguments: &[String]) -> Tested<[Vec<String>; 3]> {
    let output = command(dir, arguments).args(["--format", "json"]).output()?;
    let answer: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stderr)))?;
    let found = answer.get("diagnostics").and_then(Value::as_array);
    let found = found.ok_or_else(|| format!("no diagnostics in {answer}"))?;
    let of = |severity: &str| -> Vec<String> {
        let codes = found.iter().filter(|one| one["severity"] == severity);
        let codes: BTreeSet<&str> = codes.filter_map(|one| one["code"].as_str()).collect();
        codes.into_iter().map(str::to_owned).collect()
    };
    Ok(["error", "warning", "note"].map(of))
}

/// The help of a command, or of all of them.
pub(crate) fn help(command: &[&str]) -> Tested<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_meshc")).args(command).arg("--help").output()?;
    Ok(String::from_utf8(output.stdout)?)
}

/// The commands that a help lists.
pub(crate) fn commands(help: &str) -> impl Iterator<Item = &str> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| line.starts_with("  "));
    listed.filter_map(|line| line.split_whitespace().next()).filter(|&command| command != "help")
}

/// The long options that a help lists.
pub(crate) fn options(help: &str) -> impl Iterator<Item = &str> {
    let lines = help.lines().map(|line| line.trim_start()).filter(|line| line.starts_with('-'));
    let words = lines.flat_map(|line| line.split([' ', ',', '.', '=']));
    words.filter(|word| word.starts_with("--") && !["--help", "--version"].contains(word))
}

/// The words after `meshc` of each command line in a line of a page: in a block of one that begins with it as a shell is given
/// it, elsewhere of what stands in backticks.
pub(crate) fn command_lines(line: &str, in_block: bool) -> Vec<Vec<String>> {
    let before = ["$ ", "# ", "sudo ", "run: ", "exec "];
    let given = before.into_iter().fold(line.trim(), |line, word| line.trim_start_matches(word));
    let quoted = line.split('`').skip(1).step_by(2);
    let lines: Vec<&str> = if in_block { vec![given] } else { quoted.collect() };
    let lines = lines.into_iter().filter_map(|line| line.strip_prefix("meshc "));
    let words = lines.map(|line| {
        let words =
            line.split_whitespace().take_while(|word| !word.starts_with(['#', '|', '>', '&', '<', '`']));
        words.map(|word| word.trim_matches(['[', ']', ';', '…']).to_owned()).collect::<Vec<_>>()
    });
    let is_command = |words: &Vec<String>| {
        words.first().is_some_and(|word| {
            !word.is_empty()
                && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
                && !word.starts_with('-')
        })
    };
    words.filter(is_command).collect()
}

fn command(dir: &Path, arguments: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshc"));
    command.current_dir(dir).args(arguments).env("COLUMNS", "110").env("NO_COLOR", "1");
    command
}

/// The words of a command line: quotes keep spaces, and there is nothing else.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut quote, mut word): (_, Option<String>) = (None, None);
    for found in line.chars() {
        match (quote, found) {
            (Some(open), _) if found == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(found);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(found),
        }
    }
    words.extend(word);
    words
}

#[test]
fn quotes_keep_spaces() {
    assert_eq!(
        words("explain a.mesh 'cart -> 10.0.0.1 tcp 80'"),
        ["explain", "a.mesh", "cart -> 10.0.0.1 tcp 80"]
    );
}
