//! `meshc compile`: the compiled output.

use std::path::Path;

use mesh_bpf::artifact;
use mesh_bpf::flow::Direction;
use mesh_bpf::image::Profile;
use mesh_bpf::map::Table;
use mesh_compiler::compile::{Compilation, Compiled};
use mesh_compiler::diag::Severity;
use mesh_compiler::emit::{Sets, emit};
use mesh_compiler::print;
use serde_json::json;

use crate::args::{Compile, Pass};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::render::size::size;
use crate::tint::Tint;
use crate::{files, github, program, text_diff};

/// Prints or writes what a program compiles to.
pub fn run(output: &Output, args: &Compile) -> Result<Exit, Failure> {
    let compilation = program::compile_proved(output, &args.program)?;
    // What is written for people says by name what is not known.
    let severity = if args.artifact { Severity::Error } else { Severity::Warning };
    let knows_all = program::knows_services(output, &compilation, severity);
    if let Some(pass) = args.print {
        return print(output, args, &compilation, pass);
    }
    let Some(compiled) = compilation.compiled.filter(|_| knows_all || !args.artifact) else {
        return Ok(Exit::Refused);
    };
    if args.summary {
        summary(output, &compiled);
        return Ok(Exit::Done);
    }
    if output.verbose {
        output.info(summary_text(&compiled).trim_end());
    }
    let bytes = match args.artifact {
        true => artifact::encode(&compiled.tables),
        false => emit(&compiled.image, &Sets::of(&compilation.resolution.program)).into_bytes(),
    };
    match &args.output {
        Some(file) if args.check => check(output, file, &bytes),
        file => write(output, file.as_deref(), &bytes),
    }
}

/// To the file, or to standard output.
fn write(output: &Output, file: Option<&Path>, bytes: &[u8]) -> Result<Exit, Failure> {
    if let Some(file) = file {
        files::write(file, bytes)?;
        output.info(&format!("wrote {}, {}", file.display(), size(bytes.len())));
    } else {
        let text = String::from_utf8_lossy(bytes);
        output.document(&json!({ "output": text }), || text.to_string());
    }
    Ok(Exit::Done)
}

/// What a pass makes, as far as the program came.
fn print(output: &Output, args: &Compile, compilation: &Compilation, pass: Pass) -> Result<Exit, Failure> {
    let program = &compilation.resolution.program;
    let text = match pass {
        Pass::Hir => Some(print::hir(program)),
        Pass::Ir => {
            compilation.decided(args.program.max_lines).map(|decided| print::ir(program, decided.ir()))
        }
        Pass::Image => compilation.compiled.as_ref().map(|compiled| print::image(&compiled.image)),
    };
    if let Some(text) = text {
        write(output, args.output.as_deref(), text.as_bytes())?;
    }
    Ok(if compilation.compiled.is_some() { Exit::Done } else { Exit::Refused })
}

/// Shows where the file differs from what it should be.
fn check(output: &Output, file: &Path, wanted: &[u8]) -> Result<Exit, Failure> {
    let found = if file.exists() { files::read(file)? } else { Vec::new() };
    if found == wanted {
        output.answer(&json!({ "equal": true }), || format!("{} is up to date\n", file.display()));
        return Ok(Exit::Done);
    }
    let (found, wanted) = (String::from_utf8_lossy(&found), String::from_utf8_lossy(wanted));
    let name = file.display().to_string();
    let diff = text_diff::unified(&found, &wanted, &name, &format!("{name} (compiled now)"));
    output.tinted(&json!({ "equal": false, "diff": diff }), Tint::Difference, || diff.clone());
    let stale = format!("{name} is stale: `meshc compile -o {name} …` rewrites it");
    output.info(&stale);
    if output.is_github() {
        output.text(&github::command("error", Some((&name, None)), "stale", &stale));
    }
    Ok(Exit::Different)
}

fn summary(output: &Output, compiled: &Compiled) {
    let Compiled { image, tables, .. } = compiled;
    let answer = json!({
        "digest": digest(compiled),
        "meshes": image.meshes.len(),
        "workloads": image.workloads.len(),
        "profiles": image.profiles.len(),
        "prefixes": nodes(compiled),
        "port_tables": image.port_tables.len(),
        "bytes": tables.size(),
        "tables": sizes(compiled).map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect::<Vec<_>>(),
    });
    output.answer(&answer, || summary_text(compiled));
}

fn summary_text(compiled: &Compiled) -> String {
    let Compiled { image, tables, .. } = compiled;
    let mut text = format!("digest       {}\n", digest(compiled));
    for (name, count) in [
        ("meshes", image.meshes.len()),
        ("workloads", image.workloads.len()),
        ("profiles", image.profiles.len()),
        ("prefixes", nodes(compiled)),
        ("port tables", image.port_tables.len()),
    ] {
        text.push_str(&format!("{name:<12} {count}\n"));
    }
    text.push_str(&format!("tables       {}\n", size(tables.size())));
    for (name, bytes) in sizes(compiled) {
        text.push_str(&format!("  {name:<10} {:>12}\n", size(bytes)));
    }
    text
}

fn digest(compiled: &Compiled) -> String {
    compiled.tables.digest().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Prefixes of all trees.
fn nodes(compiled: &Compiled) -> usize {
    let trees =
        |profile| Direction::ALL.into_iter().flat_map(move |direction| Profile::trees(profile, direction));
    let sides = compiled.image.profiles.iter().flat_map(trees);
    sides.map(|side| side.tree.len() + side.own.len()).sum()
}

/// Bytes of each table.
fn sizes(compiled: &Compiled) -> impl Iterator<Item = (&'static str, usize)> {
    Table::ALL.into_iter().skip(1).map(|table| (table.word(), compiled.tables.get(table).bytes().len()))
}
