//! What an apply takes away is said before, and it needs a yes: on a terminal by asking, elsewhere by a flag.

use std::io::{IsTerminal, stderr, stdin};

use crate::args::Apply;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::render::moves::Changes;

/// Asks, or sees whether the arguments say yes. Whether somebody was asked. `flows` says what else changes, in short.
pub fn ask(
    output: &Output,
    args: &Apply,
    changes: &Changes,
    flows: impl FnOnce() -> Result<String, Failure>,
) -> Result<bool, Failure> {
    let asks = !output.is_json() && stdin().is_terminal() && stderr().is_terminal();
    if asks && args.yes {
        return Ok(false);
    }
    if asks {
        return confirm(output, &(changes.text(false) + &flows()?)).map(|()| true);
    }
    if changes.takes_away() && !args.allow_leaving {
        let text = changes.text(false);
        let what = text.trim_end().replace('\n', "; ");
        return Err(Failure::refused("leaving", what).help(
            "`meshc plan` shows what changes; where that is meant, `--allow-leaving` goes on, and `meshc rollback` undoes it",
        ));
    }
    Ok(false)
}

fn confirm(output: &Output, changes: &str) -> Result<(), Failure> {
    // Whoever is asked sees what for, with `--quiet`, too.
    output.print_error(changes.trim_end());
    output.print_error("apply? [y/N]");
    let mut line = String::new();
    let read = stdin().read_line(&mut line);
    if read.is_ok() && matches!(line.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Failure::new(Exit::Refused, "not-confirmed", "nothing was applied"))
}
