//! From paths on the command line to a compiled program.

use std::thread;

use mesh_compiler::compile::{self, Compilation, Inventory};
use mesh_compiler::diag::Severity;
use mesh_compiler::prove::prove;
use mesh_compiler::resolve::Services;

use crate::args::{Deny, Program};
use crate::failure::Failure;
use crate::files::{FileSystem, read_given};
use crate::output::Output;
use crate::{heap, inventory, render};

/// Bytes of memory that a byte of policy takes, at most: short prefixes take most.
const SHARE: usize = 64;

/// Reads, checks and compiles a program. Nothing is printed.
pub fn compile(args: &Program) -> Result<Compilation, Failure> {
    compile_with(args, None)
}

/// The same, where services are known otherwise than from an inventory.
pub fn compile_with(args: &Program, services: Option<&Services>) -> Result<Compilation, Failure> {
    let given = read_given(&args.paths, &args.stdin_name)?;
    heap::reserve(given.iter().map(|(_, bytes)| bytes.len()).sum::<usize>().saturating_mul(SHARE));
    let mut compilation = thread::scope(|scope| {
        // The inventory may be much longer than the policy, and is needed late.
        let mut reading = args.inventory.as_deref().map(|path| {
            let thread = thread::Builder::new().spawn_scoped(scope, || inventory::read(path));
            // Where no thread can be had, it is read when it is needed.
            move || thread.map_or_else(|_| inventory::read(path), joined)
        });
        let mut failure = None;
        let read = || {
            let Some(read) = reading.take() else {
                return services.map(|known| Inventory { services: known.clone(), endpoints: None });
            };
            let found = read().map_err(|found| failure = Some(found)).ok()?;
            // One that has services alone says nothing of endpoints.
            let is_of_services = found.endpoints.is_empty() && !found.services.is_empty();
            let endpoints = (!is_of_services).then_some(found.endpoints);
            Some(Inventory { services: found.services, endpoints })
        };
        let compilation = compile::compile_within(given, &mut FileSystem, read, args.max_lines);
        // A policy with errors did not come to ask for it.
        match failure.or_else(|| reading.take()?().err()) {
            Some(failure) => Err(failure),
            None => Ok(compilation),
        }
    })?;
    if args.deny == Some(Deny::Warnings) {
        for found in &mut compilation.diagnostics {
            if found.severity == Severity::Warning {
                found.severity = Severity::Error;
                compilation.compiled = None;
            }
        }
    }
    Ok(compilation)
}

/// What the thread that reads came to.
fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T, Failure>>) -> Result<T, Failure> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Whether the addresses of all services are known that a policy names. Where they are not, that is said, as an error or
/// as a warning.
pub fn knows_services(output: &Output, compilation: &Compilation, severity: Severity) -> bool {
    let unknown: Vec<_> =
        compilation.unknown_services().into_iter().map(|found| found.severity(severity)).collect();
    render::say(output, &compilation.files.sources, &unknown);
    unknown.is_empty()
}

/// The same, and prints what is as bad as `least` or worse. Notes are for `check`.
pub fn compile_aloud(output: &Output, args: &Program, least: Severity) -> Result<Compilation, Failure> {
    let compilation = compile(args)?;
    let said: Vec<_> =
        compilation.diagnostics.iter().filter(|found| found.severity <= least).cloned().collect();
    render::say(output, &compilation.files.sources, &said);
    Ok(compilation)
}

/// The same as [`compile_aloud`], and proves that the tables mean what the policy says. Where they do not, it is this compiler
/// that is wrong: nothing comes out.
pub fn compile_proved(output: &Output, args: &Program) -> Result<Compilation, Failure> {
    let compilation = compile_aloud(output, args, Severity::Warning)?;
    if let Some(compiled) = &compilation.compiled {
        prove(&compilation.resolution.program, &compiled.tables).map_err(|disproof| {
            Failure::refused("disproved", disproof.to_string())
                .help("this is a bug in meshc, and nothing was written; please report it with the policy")
        })?;
    }
    Ok(compilation)
}
