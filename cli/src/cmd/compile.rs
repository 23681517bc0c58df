//! `meshc compile`: the compiled output.

use std::path::Path;

use mesh_bpf::artifact;
use mesh_bpf::map::Table;
use mesh_compiler::compile::{Compilation, Compiled};
use mesh_compiler::emit::{Sets, emit};
use mesh_compiler::print;
use serde_json::json;

use crate::args::{Compile, Pass};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::{files, github, program, text_diff};

/// Prints or writes what a program compiles to.
pub fn run(output: &Output, args: &Compile) -> Result<Exit, Failure> {
    let compilation = program::compile_proved(output, &args.program)?;
    if let Some(pass) = args.print {
        return print(output, args, &compilation, pass);
    }
    let Some(compiled) = compilation.compiled else { return Ok(Exit::Refused) };
    if args.summary {
        summary(output, &compiled);
        return Ok(Exit::Done);
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
        output.info(&format!("wrote {}", file.display()));
    } else {
        let text = String::from_utf8_lossy(bytes);
        output.answer(&json!({ "output": text }), || text.to_string());
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
    output.answer(&json!({ "equal": false, "diff": diff }), || diff.clone());
    let stale = format!("{name} is stale: `meshc compile -o {name} …` rewrites it");
    output.info(&stale);
    if output.is_github() {
        output.text(&github::command("error", Some((&name, None)), "stale", &stale));
    }
    Ok(Exit::Different)
}

fn summary(output: &Output, compiled: &Compiled) {
    let Compiled { image, tables, .. } = compiled;
    let digest: String = tables.digest().iter().map(|byte| format!("{byte:02x}")).collect();
    let nodes: usize = image
        .profiles
        .iter()
        .flat_map(|profile| &profile.sides)
        .map(|side| side.tree.len() + side.own.len())
        .sum();
    let sizes: Vec<_> =
        Table::ALL.into_iter().skip(1).map(|table| (table.word(), tables.get(table).bytes().len())).collect();
    let answer = json!({
        "digest": digest,
        "meshes": image.meshes.len(),
        "workloads": image.workloads.len(),
        "profiles": image.profiles.len(),
        "prefixes": nodes,
        "port_tables": image.port_tables.len(),
        "bytes": tables.size(),
        "tables": sizes.iter().map(|&(name, bytes)| json!({ "name": name, "bytes": bytes })).collect::<Vec<_>>(),
    });
    output.answer(&answer, || {
        let mut text = format!("digest       {digest}\n");
        for (name, count) in [
            ("meshes", image.meshes.len()),
            ("workloads", image.workloads.len()),
            ("profiles", image.profiles.len()),
            ("prefixes", nodes),
            ("port tables", image.port_tables.len()),
            ("bytes", tables.size()),
        ] {
            text.push_str(&format!("{name:<12} {count}\n"));
        }
        for (name, bytes) in &sizes {
            text.push_str(&format!("  {name:<10} {bytes}\n"));
        }
        text
    });
}
