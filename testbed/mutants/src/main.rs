//! Tries the mistakes that `cargo mutants --list --json` lists.
//!
//! cargo-mutants compiles and links all tests again for each mistake, which takes 15 to 90 seconds here. This program
//! puts every mistake behind a switch, compiles once, and runs the tests with one switch on at a time: what tests
//! notice mostly takes a tenth of a second. Mistakes that do not compile are left out, as cargo-mutants leaves them out.
//!
//! `mesh-mutants TREE PRISTINE LIST STEP…`: TREE is a copy of the workspace that is rewritten, PRISTINE another that
//! stays. A STEP is `PACKAGE:TARGET [ARGUMENT…]`, in one word: a test binary, and what it is told. A mistake goes
//! through them in order until one fails. Printed are those that came through all; the status is 2 then.
//! What does not compile is in the file `refused` beside LIST, with the compiler's messages.

mod compile;
mod mutant;
mod switches;
mod trial;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            eprintln!("mutants: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every mistake was noticed.
fn run() -> Result<bool> {
    let mut args = env::args().skip(1);
    let mut next = || args.next().ok_or("TREE PRISTINE LIST STEP… are expected");
    let (tree, pristine, list) = (PathBuf::from(next()?), PathBuf::from(next()?), next()?);
    let steps: Vec<trial::Step> = args.map(|step| trial::Step::read(&step)).collect::<Result<_>>()?;
    let mutants = mutant::read(&fs::read_to_string(&list)?)?;
    let packages: BTreeSet<&str> = (steps.iter().map(|step| step.package.as_str()))
        .chain(mutants.iter().map(|mutant| mutant.package.as_str()))
        .collect();
    let workspace = compile::Workspace { tree, pristine, packages };
    let compiled = workspace.compile(&mutants)?;
    println!(
        "{} mistakes: {} do not compile, {} are where no switch can be, {} are tried",
        mutants.len(),
        compiled.refused.len(),
        mutants.len() - compiled.refused.len() - compiled.behind.len(),
        compiled.behind.len(),
    );
    let name = |id: usize| mutants.get(id).map_or("", |mutant| &mutant.name);
    let refused = compiled.refused.iter().map(|(&id, message)| format!("{}\n    {message}\n", name(id)));
    fs::write(Path::new(&list).with_file_name("refused"), refused.collect::<String>())?;
    let survivors = trial::all(&workspace, &compiled, &steps)?;
    for &id in &survivors {
        println!("survived: {}", name(id));
    }
    println!("{} of {} were noticed", compiled.behind.len() - survivors.len(), compiled.behind.len());
    Ok(survivors.is_empty())
}
