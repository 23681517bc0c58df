//! The last step of the tutorial prints what it says. The other steps need no kernel: the tests of the manual run them.

use std::process::Command;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Failure, Tested};

use crate::fixtures::command::Answer;
use crate::fixtures::stage::Stage;

const PAGE: &str = include_str!("../../../../docs/tutorial.md");

/// The text of the blocks that begin with these words, in their order.
fn blocks(words: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = PAGE.lines();
    while let Some(line) = lines.next() {
        if line.strip_prefix("```") == Some(words) {
            blocks.push(
                lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect(),
            );
        }
    }
    blocks
}

/// Commands, each with what the page says of it.
fn commands() -> Vec<(String, String)> {
    let text = blocks("console root").concat();
    let parts = text.split("$ sudo meshc ").skip(1).filter_map(|part| part.split_once('\n'));
    parts.map(|(line, says)| (line.to_owned(), says.to_owned())).collect()
}

/// Whether this is what the page says, where `…` stands for anything.
fn is_like(says: &str, prints: &str) -> bool {
    let parts: Vec<&str> = says.split('…').collect();
    let [first, between @ .., last] = parts.as_slice() else { return says == prints };
    let Some(mut rest) = prints.strip_prefix(first) else { return false };
    for part in between {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.trim_end().ends_with(last.trim_end())
}

/// Runs a command of meshc in a directory with both of its streams in one, as on a terminal.
fn printed(stage: &Stage, dir: &std::path::Path, line: &str) -> Result<String, Failure> {
    let meshc = stage.meshc();
    let mut shell = Command::new("sh");
    shell.current_dir(dir).arg("-c").arg(format!("exec '{}' {line} 2>&1", env!("CARGO_BIN_EXE_meshc")));
    shell.envs(meshc.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Ok(Answer::of(&mut shell)?.done()?.stdout)
}

#[test]
fn the_last_step_prints_what_it_says() -> Tested {
    let stage = Stage::new()?;
    let dir = tempfile::tempdir()?;
    printed(&stage, dir.path(), "init -q")?;
    for name in ["shop.mesh", "proposal.mesh"] {
        let text = blocks(&format!("mesh {name}")).pop().ok_or("the page has no such file")?;
        std::fs::write(dir.path().join(name), text)?;
    }
    let commands = commands();
    assert!(commands.len() > 8, "{commands:?}");
    for (line, says) in commands {
        let prints = printed(&stage, dir.path(), &line)?;
        assert!(is_like(&says, &prints), "meshc {line}\n--- says\n{says}--- prints\n{prints}");
    }
    Ok(())
}
