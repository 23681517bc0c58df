//! All passes in order: from files to a program that is checked, and to tables that are proved.

use std::collections::BTreeSet;

use mesh_bpf::image::MapImage;
use mesh_bpf::membership::{Ambiguous, Membership};
use mesh_bpf::pack::{MAX_LINES, pack_within};
use mesh_bpf::selector::Endpoint;
use mesh_bpf::tables::Tables;

use crate::analysis::{analyze, over_capacity};
use crate::check::{self, Checked, silence};
use crate::decide::{Decided, TooLarge, decide};
use crate::diag::{Code, Diagnostic, Severity, has_errors};
use crate::hir::Program;
use crate::lower::{Origins, lower};
use crate::question::Members;
use crate::resolve::{Files, Loader, Location, Resolution, Services, load, resolve, unknown_services};
use crate::testing::{self, Report};

/// What somebody knows of the cluster that a policy is compiled for.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Endpoints; none where only the rest is known.
    pub endpoints: Option<Vec<Endpoint>>,
    /// Services, with their addresses.
    pub services: Services,
}

/// A program and everything that there is to say about it.
#[derive(Debug)]
pub struct Compilation {
    /// Its files.
    pub files: Files,
    /// Its meaning. Where there were errors, without what they are about.
    pub resolution: Resolution,
    /// The endpoints of the inventory by workload, and its services.
    pub members: Members,
    /// What came out of its tests; nothing where it does not compile.
    pub tests: Report,
    /// Errors, warnings and notes, in the order of their places.
    pub diagnostics: Vec<Diagnostic>,
    /// What it compiles to; none where there are errors.
    pub compiled: Option<Compiled>,
}

impl Compilation {
    /// An error for each service whose addresses are not known. Where there are some, what the policy means is not known
    /// either, and no node takes it.
    #[must_use]
    pub fn unknown_services(&self) -> Vec<Diagnostic> {
        unknown_services(&self.resolution.program, self.members.services())
    }

    /// The program as it is decided before it is lowered: again, since that is kept nowhere. `None` where its
    /// statements have errors, or it is too large.
    #[must_use]
    pub fn decided(&self, lines: usize) -> Option<Decided<'_>> {
        let (checked, _) = check::check(&self.resolution);
        decide(checked?, lines).ok()
    }
}

/// What a program compiles to.
#[derive(Debug)]
pub struct Compiled {
    /// What it means, canonically.
    pub image: MapImage,
    /// As the kernel will hold it.
    pub tables: Tables,
    /// Which words of the policy each entry comes from.
    pub origins: Origins,
}

/// Compiles a program from its files' places and bytes, against an inventory if there is one; imports are
/// read through `loader`. Does not prove the result.
pub fn compile(
    given: Vec<(Location, Vec<u8>)>,
    loader: &mut dyn Loader,
    inventory: Option<Inventory>,
) -> Compilation {
    compile_within(given, loader, || inventory, MAX_LINES)
}

/// The same, for tables of at most this many lines of 64 bytes. The inventory is asked for when it is needed, which
/// is late where the program names no service: it may be read meanwhile.
pub fn compile_within(
    given: Vec<(Location, Vec<u8>)>,
    loader: &mut dyn Loader,
    inventory: impl FnOnce() -> Option<Inventory>,
    lines: usize,
) -> Compilation {
    let (files, found) = load(given, loader);
    let mut inventory = Asked { ask: Some(inventory), known: None };
    let names_services = files.trees.iter().any(|tree| tree.services().next().is_some());
    let services = if names_services { inventory.get().map(|known| &known.services) } else { None };
    let (resolution, mut diagnostics) = resolve(&files, found, services.unwrap_or(&Services::new()));
    let (checked, found) = check::check(&resolution);
    diagnostics.extend(found);
    let compiled = checked.and_then(|checked| tables(checked, lines, &mut diagnostics));
    let mut members = Members::default();
    if let Some(Compiled { image, .. }) = &compiled
        && let Some(inventory) = inventory.get()
        && let Some(endpoints) = inventory.endpoints.take()
    {
        let (found, problems) = place(&resolution.program, image, endpoints);
        members = found;
        diagnostics.extend(problems);
    }
    members = members.with_services(inventory.known.map(|known| known.services).unwrap_or_default());
    let mut tests = Report::default();
    if let Some(Compiled { image, tables, origins }) = &compiled {
        tests = testing::run(&resolution.program, image, tables, origins, &members);
        diagnostics.extend(testing::diagnostics(&tests));
    }
    let diagnostics = silence(&resolution, diagnostics, compiled.is_some());
    let compiled = compiled.filter(|_| !has_errors(&diagnostics));
    Compilation { files, resolution, members, diagnostics, tests, compiled }
}

/// An inventory that is asked for once, where it is needed.
struct Asked<F> {
    ask: Option<F>,
    known: Option<Inventory>,
}

impl<F: FnOnce() -> Option<Inventory>> Asked<F> {
    fn get(&mut self) -> Option<&mut Inventory> {
        if let Some(ask) = self.ask.take() {
            self.known = ask();
        }
        self.known.as_mut()
    }
}

/// The passes from a checked program to tables. Gives nothing back where redirects tie or the result is too
/// large.
fn tables(checked: Checked<'_>, lines: usize, diagnostics: &mut Vec<Diagnostic>) -> Option<Compiled> {
    let program = checked.program();
    let too_large = |error: TooLarge| over_capacity(program, &error);
    let decided = decide(checked, lines).map_err(|error| diagnostics.push(too_large(error))).ok()?;
    let (analyzed, found) = analyze(decided);
    diagnostics.extend(found);
    let image = lower(analyzed?);
    let tables = pack_within(&image, lines).map_err(TooLarge::Tables);
    let tables = tables.map_err(|error| diagnostics.push(too_large(error))).ok()?;
    Some(Compiled { image, tables, origins: Origins::of(program) })
}

/// Which workload each endpoint falls under.
fn place(program: &Program, image: &MapImage, inventory: Vec<Endpoint>) -> (Members, Vec<Diagnostic>) {
    let membership = Membership::of(image);
    let classifier = membership.classifier();
    let names: Vec<String> = (program.workloads.iter())
        .map(|workload| {
            let mesh = program.meshes.get(workload.mesh.index()).map_or("", |mesh| mesh.name.as_str());
            format!("{mesh}/{}", workload.name)
        })
        .collect();
    let mut by_workload = vec![Vec::new(); names.len()];
    let mut problems = Vec::new();
    let mut reported = BTreeSet::new();
    for endpoint in inventory {
        match classifier.classify(&endpoint) {
            Ok(None) => {}
            Ok(Some(workload)) => {
                let index = names.binary_search(&workload.name).ok();
                if let Some(members) = index.and_then(|index| by_workload.get_mut(index)) {
                    members.push(endpoint);
                }
            }
            // Two workloads are told once, with the first endpoint that both select.
            Err(ambiguous) => {
                if reported.insert((ambiguous.first.clone(), ambiguous.second.clone())) {
                    problems.push(overlap(program, &names, &ambiguous));
                }
            }
        }
    }
    for (workload, members) in program.workloads.iter().zip(&by_workload) {
        if members.is_empty() {
            let message = format!("no endpoint of the inventory is in the workload `{}`", workload.name);
            problems.push(
                Diagnostic::new(Code::EmptyWorkload, message)
                    .severity(Severity::Warning)
                    .label(workload.span, "selects none of them")
                    .help("compare its selectors with the inventory's names and labels"),
            );
        }
    }
    (Members::new(by_workload), problems)
}

fn overlap(program: &Program, names: &[String], ambiguous: &Ambiguous) -> Diagnostic {
    let span = |name: &String| {
        names
            .iter()
            .zip(&program.workloads)
            .find(|(known, _)| *known == name)
            .map(|(_, workload)| workload.span)
    };
    let mut diagnostic = Diagnostic::new(Code::MembershipOverlap, ambiguous.to_string());
    if let Some(first) = span(&ambiguous.first) {
        diagnostic = diagnostic.label(first, "selects it");
    }
    if let Some(second) = span(&ambiguous.second) {
        diagnostic = diagnostic.also(second, "and so does this one");
    }
    diagnostic.help("let one of the workloads ask for more, so that it is the narrower one")
}
