//! `meshc completions` and `meshc man`: generated from the definition of the command line.

use clap::CommandFactory;

use crate::args::{Cli, Completions, Man};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Prints a completion script.
pub fn completions(output: &Output, args: &Completions) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "meshc", &mut script);
    output.text(&String::from_utf8_lossy(&script));
    Ok(Exit::Done)
}

/// Prints one man page, or writes all of them to a directory.
pub fn man(output: &Output, args: &Man) -> Result<Exit, Failure> {
    let Some(dir) = &args.output else {
        output.text(&String::from_utf8_lossy(&page(&Cli::command())?));
        return Ok(Exit::Done);
    };
    let failed = |error: std::io::Error| {
        Failure::refused("write", format!("cannot write man pages to `{}`: {error}", dir.display()))
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let mut command = Cli::command();
    command.build();
    std::fs::write(dir.join("meshc.1"), page(&command)?).map_err(failed)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        let name = format!("meshc-{}", sub.get_name());
        let renamed = sub.clone().name(name.clone()).bin_name(name.replacen('-', " ", 1));
        std::fs::write(dir.join(format!("{name}.1")), page(&renamed)?).map_err(failed)?;
    }
    output.info(&format!("wrote man pages to `{}`", dir.display()));
    Ok(Exit::Done)
}

fn page(command: &clap::Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .render(&mut page)
        .map_err(|error| Failure::refused("write", format!("cannot render the man page: {error}")))?;
    Ok(page)
}
