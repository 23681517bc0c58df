//! `meshc man`: pages of the definition of the command line, and of what else is said of each command.

use std::path::Path;

use clap_mangen::Man as Generated;
use roff::{Inline, Roff, bold, italic, roman};

use crate::args::{self, Man};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::manual::{self, Row};
use crate::output::Output;

/// Prints one page, or writes all of them to a directory.
pub fn run(output: &Output, args: &Man) -> Result<Exit, Failure> {
    let mut command = args::command();
    command.build();
    let Some(dir) = &args.output else {
        output.text(&String::from_utf8_lossy(&page(&command, "meshc")?));
        return Ok(Exit::Done);
    };
    std::fs::create_dir_all(dir).map_err(|error| unwritable(dir, &error))?;
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(dir.join(name), bytes).map_err(|error| unwritable(dir, &error))
    };
    write("meshc.1", &page(&command, "meshc")?)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        let name = format!("meshc-{}", sub.get_name());
        let renamed = sub
            .clone()
            .name(name.clone())
            .display_name(name.clone())
            .bin_name(format!("meshc {}", sub.get_name()));
        write(&format!("{name}.1"), &page(&renamed, sub.get_name())?)?;
    }
    output.info(&format!("wrote man pages to `{}`", dir.display()));
    Ok(Exit::Done)
}

fn unwritable(dir: &Path, error: &std::io::Error) -> Failure {
    Failure::refused("write", format!("cannot write man pages to `{}`: {error}", dir.display()))
}

/// One page; `name` is the command's, or `meshc`.
fn page(command: &clap::Command, name: &str) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    let generated = Generated::new(command.clone()).manual("meshc");
    let render = |page: &mut Vec<u8>| {
        generated.render_title(page)?;
        generated.render_name_section(page)?;
        generated.render_synopsis_section(page)?;
        generated.render_description_section(page)?;
        if command.get_arguments().next().is_some() {
            generated.render_options_section(page)?;
        }
        if command.has_subcommands() {
            generated.render_subcommands_section(page)?;
        }
        rest(command, name).to_writer(page)?;
        generated.render_version_section(page)
    };
    render(&mut page)
        .map_err(|error| Failure::refused("write", format!("cannot render the man page: {error}")))?;
    Ok(page)
}

/// What clap does not know.
fn rest(command: &clap::Command, name: &str) -> Roff {
    let said = manual::page(name);
    let mut page = Roff::default();
    section(
        &mut page,
        "EXIT STATUS",
        &manual::EXIT.map(|(code, what)| (vec![bold(code.to_string())], what.to_owned())),
    );
    let mut environment: Vec<_> = command.get_arguments().filter_map(variable).collect();
    environment.extend(manual::ENVIRONMENT.map(|(word, what)| (vec![bold(word)], what.to_owned())));
    section(&mut page, "ENVIRONMENT", &environment);
    let files: Vec<_> =
        said.files.iter().map(|(file, what)| (vec![italic(*file)], (*what).to_owned())).collect();
    section(&mut page, "FILES", &files);
    if !said.examples.is_empty() {
        page.control("SH", ["EXAMPLES"]);
        said.examples.iter().for_each(|example| show(&mut page, *example));
    }
    page.control("SH", ["SEE ALSO"]);
    let others: Vec<String> = match name {
        "meshc" => vec!["the page of each command, as meshc-apply(1)".into()],
        _ => ["meshc".into()]
            .into_iter()
            .chain(said.see_also.iter().map(|other| format!("meshc-{other}")))
            .map(|page| page + "(1)")
            .collect(),
    };
    page.text([roman(others.join(", "))]);
    page
}

/// The variable that stands for an option.
fn variable(option: &clap::Arg) -> Option<(Vec<Inline>, String)> {
    let name = option.get_env()?.to_string_lossy().into_owned();
    Some((vec![bold(name)], format!("As --{}.", option.get_long()?)))
}

/// A list of words and what they mean.
fn section(page: &mut Roff, title: &str, rows: &[(Vec<Inline>, String)]) {
    if rows.is_empty() {
        return;
    }
    page.control("SH", [title]);
    for (word, what) in rows {
        page.control("TP", []);
        page.text(word.clone());
        page.text([roman(what.as_str())]);
    }
}

fn show(page: &mut Roff, (line, what): Row) {
    page.control("TP", []);
    page.text([bold(line)]);
    page.text([roman(what)]);
}
