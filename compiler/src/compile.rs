//! All passes in order: from files to a program that is checked, and to tables that are proved.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::panic::resume_unwind;
use std::thread;

use mesh_bpf::image::MapImage;
use mesh_bpf::membership::{Ambiguous, Membership};
use mesh_bpf::pack::{MAX_LINES, pack_within};
use mesh_bpf::selector::Endpoint;
use mesh_bpf::tables::Tables;

use crate::analysis::{Aside, Findings, Kept, Leaks, effects, leaks, over_capacity, untied};
use crate::check::{self, Checked, silence};
use crate::decide::{Decided, TooLarge, decide, decide_program, fit_by_far, is_small, things};
use crate::diag::{Code, Diagnostic, Severity, has_errors};
use crate::hir::region::applies;
use crate::hir::{Program, Scope, WorkloadId};
use crate::lower::{Origins, lower, lower_aside};
use crate::parse::Statements;
use crate::question::Members;
use crate::resolve::{Files, Loader, Location, Resolution, Services, load_after, resolve, unknown_services};
use crate::same::{changed, same};
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
    /// The same where its tests fail, or members are ambiguous.
    refused: Option<Compiled>,
    /// What is decided, and compiled when somebody asks for it.
    aside: Option<Aside>,
    /// What the analyses found.
    findings: Option<Findings>,
}

impl Compilation {
    /// An error for each service whose addresses are not known. Where there are some, what the policy means is not known
    /// either, and no node takes it.
    #[must_use]
    pub fn unknown_services(&self) -> Vec<Diagnostic> {
        unknown_services(&self.resolution.program, self.members.services())
    }

    /// Makes what it compiles to, where [`Versions`] have left that for later.
    pub fn finish(&mut self) {
        if has_errors(&self.diagnostics) {
            return;
        }
        let program = &self.resolution.program;
        if let Some(aside) = self.aside.take() {
            let made = Made::Aside(aside).tables(program);
            self.compiled =
                made.map(|(image, tables)| Compiled { image, tables, origins: Origins::of(program) });
        }
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
    let go_on = || Ok::<(), Infallible>(());
    let Ok(compilation) = passes(given, loader, inventory, lines, None, go_on);
    compilation
}

/// The versions of one program, one after the other: of what is as it was before, nothing is found out again. Each
/// comes out as [`compile`] would make it, but what it compiles to may be there only once it is asked to
/// [finish](Compilation::finish).
#[derive(Debug, Default)]
pub struct Versions {
    statements: Statements,
    last: Option<Last>,
    kept: Kept,
    /// What is of no use any more.
    over: Vec<Over>,
}

/// What is left of a version that is over. To take it apart takes a while, so that is done when nobody waits.
type Over = (Option<Last>, Files, Option<Origins>, Vec<Diagnostic>);

/// A version that was decided.
#[derive(Debug)]
struct Last {
    program: Program,
    made: Made,
    findings: Findings,
}

/// What came out of deciding.
#[derive(Debug)]
enum Made {
    /// To be lowered and packed when somebody asks for it. It is known to fit.
    Aside(Aside),
    /// All.
    Tables(Box<(MapImage, Tables)>),
}

impl Made {
    /// All of it.
    fn tables(self, program: &Program) -> Option<(MapImage, Tables)> {
        match self {
            Self::Tables(made) => Some(*made),
            Self::Aside(aside) => {
                let image = lower_aside(program, aside)?;
                let tables = pack_within(&image, MAX_LINES).ok()?;
                Some((image, tables))
            }
        }
    }
}

impl Versions {
    /// Compiles a version without an inventory. `go_on` is asked between passes.
    ///
    /// # Errors
    /// That of `go_on`: the version is given up.
    pub fn compile<G>(
        &mut self,
        given: Vec<(Location, Vec<u8>)>,
        loader: &mut dyn Loader,
        go_on: impl Fn() -> Result<(), G>,
    ) -> Result<Compilation, G> {
        passes(given, loader, || None, MAX_LINES, Some(self), go_on)
    }

    /// Takes back a version that is over, so that the next one may use what was found out about it.
    pub fn is_over(&mut self, version: Compilation) {
        let Compilation { files, resolution, compiled, refused, aside, findings, diagnostics, .. } = version;
        let (mut last, mut origins) = (None, None);
        let made = compiled.or(refused).map(|Compiled { image, tables, origins: of_version }| {
            origins = Some(of_version);
            Made::Tables(Box::new((image, tables)))
        });
        if let (Some(made), Some(findings)) = (made.or(aside.map(Made::Aside)), findings) {
            last = self.last.replace(Last { program: resolution.program, made, findings });
        }
        self.over.push((last, files, origins, diagnostics));
    }

    /// Gives back the memory of what is of no use any more.
    pub fn tidy_up(&mut self) {
        self.over.clear();
    }

    /// What is known of a program, if the last one said the same.
    fn known(&mut self, program: &Program) -> Option<Last> {
        self.last.take_if(|last| same(&last.program, program))
    }
}

/// All passes.
fn passes<G>(
    given: Vec<(Location, Vec<u8>)>,
    loader: &mut dyn Loader,
    inventory: impl FnOnce() -> Option<Inventory>,
    lines: usize,
    mut versions: Option<&mut Versions>,
    go_on: impl Fn() -> Result<(), G>,
) -> Result<Compilation, G> {
    let statements = versions.as_deref_mut().map(|versions| {
        versions.statements.next_version();
        &mut versions.statements
    });
    let (files, found) = load_after(given, loader, statements);
    go_on()?;
    let mut inventory = Asked { ask: Some(inventory), known: None };
    let names_services = files.trees.iter().any(|tree| tree.services().next().is_some());
    let services = if names_services { inventory.get().map(|known| &known.services) } else { None };
    let (resolution, mut diagnostics) = resolve(&files, found, services.unwrap_or(&Services::new()));
    let (checked, found) = check::check(&resolution);
    diagnostics.extend(found);
    go_on()?;
    let program = &resolution.program;
    let mut findings = None;
    let (mut compiled, mut aside) = (None, None);
    if let Some(checked) = checked {
        // Whoever writes wants to know what is wrong, and seldom what comes out.
        let may_wait = versions.is_some() && program.tests.is_empty();
        let known = versions.as_deref_mut().and_then(|versions| versions.known(program));
        let (kept, last) = match versions {
            Some(Versions { kept, last, .. }) => (Some(kept), last.as_ref()),
            None => (None, None),
        };
        let decided = match known {
            Some(Last { made, findings, .. }) => Some((made, findings)),
            None => made((checked, kept, last), (lines, may_wait), &mut diagnostics, go_on)?,
        };
        if let Some((made, found)) = decided {
            diagnostics.extend(found.report(program));
            findings = Some(found);
            match made {
                Made::Aside(left) if may_wait => aside = Some(left),
                made => {
                    let made = made.tables(program);
                    compiled =
                        made.map(|(image, tables)| Compiled { image, tables, origins: Origins::of(program) });
                }
            }
        }
    }
    let mut members = Members::default();
    if let Some(Compiled { image, .. }) = &compiled
        && let Some(inventory) = inventory.get()
        && let Some(endpoints) = inventory.endpoints.take()
    {
        let (found, problems) = place(program, image, endpoints);
        members = found;
        diagnostics.extend(problems);
    }
    members = members.with_services(inventory.known.map(|known| known.services).unwrap_or_default());
    let mut tests = Report::default();
    if let Some(Compiled { image, tables, origins }) = &compiled {
        if program.tests.is_empty() {
            tests = testing::untested(program);
        } else {
            tests = testing::run(program, image, tables, origins, &members);
            diagnostics.extend(testing::diagnostics(&tests));
        }
    } else if aside.is_some() {
        tests = testing::untested(program);
    }
    let diagnostics = silence(&resolution, diagnostics, compiled.is_some() || aside.is_some());
    let (compiled, refused) = if has_errors(&diagnostics) { (None, compiled) } else { (compiled, None) };
    Ok(Compilation { files, resolution, members, diagnostics, tests, compiled, refused, aside, findings })
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

/// The passes from a checked program to tables, or to what `may_wait`. Gives nothing back where redirects tie or the
/// result is too large.
fn made<G>(
    (checked, mut kept, last): (Checked<'_>, Option<&mut Kept>, Option<&Last>),
    (lines, may_wait): (usize, bool),
    diagnostics: &mut Vec<Diagnostic>,
    go_on: impl Fn() -> Result<(), G>,
) -> Result<Option<(Made, Findings)>, G> {
    let program = checked.program();
    let (packed, beside) = if is_worth_a_thread(program) && is_small(program, lines) {
        thread::scope(|scope| {
            let beside = thread::Builder::new().spawn_scoped(scope, || effects(program, kept.as_deref_mut()));
            let packed = packed((checked, last), (lines, may_wait), go_on);
            // Where no thread is to be had, there is none.
            let join =
                |it: thread::ScopedJoinHandle<'_, _>| it.join().unwrap_or_else(|panic| resume_unwind(panic));
            (packed, beside.ok().map(join))
        })
    } else {
        (packed((checked, last), (lines, may_wait), go_on), None)
    };
    // Where it is not decided, nobody wants to know.
    let is_decided = matches!(packed, Ok(Packed::All(..) | Packed::TooLarge(Some(_), _)));
    let effects = beside.unwrap_or_else(|| if is_decided { effects(program, kept) } else { None });
    Ok(match packed? {
        Packed::All(made, leaks, things) => Some((made, Findings { leaks, effects, things })),
        Packed::Tied(conflicts) => {
            diagnostics.extend(conflicts);
            None
        }
        Packed::TooLarge(leaks, error) => {
            // What was found out is said, too.
            let found = leaks.map(|leaks| Findings { leaks, effects, things: None });
            diagnostics.extend(found.iter().flat_map(|found| found.report(program)));
            diagnostics.push(over_capacity(program, &error));
            None
        }
    })
}

/// Whether a program is so large that two threads are sooner done than one.
fn is_worth_a_thread(program: &Program) -> bool {
    const ENOUGH: usize = 500;
    let words = program.rules.iter().map(|rule| 1 + rule.addresses.len());
    words
        .scan(0usize, |sum, words| {
            *sum = sum.saturating_add(words);
            Some(*sum)
        })
        .any(|sum| sum >= ENOUGH)
}

/// What packing comes to.
enum Packed {
    /// All went well; with how many things there are at the most, where that is known.
    All(Made, Leaks, Option<usize>),
    /// Redirects tie.
    Tied(Vec<Diagnostic>),
    /// It does not fit; with what leaks where it was decided.
    TooLarge(Option<Leaks>, TooLarge),
}

/// Decides, lowers and packs.
fn packed<G>(
    (checked, last): (Checked<'_>, Option<&Last>),
    (lines, may_wait): (usize, bool),
    go_on: impl Fn() -> Result<(), G>,
) -> Result<Packed, G> {
    let program = checked.program();
    if let Some(last) = last.filter(|_| may_wait)
        && let Some(things) = decides_as_before(last, program, lines)
    {
        return Ok(Packed::All(Made::Aside(Aside::undecided()), Leaks::new(), Some(things)));
    }
    let decided = match decide(checked, lines) {
        Ok(decided) => decided,
        Err(error) => return Ok(Packed::TooLarge(None, error)),
    };
    go_on()?;
    let analyzed = match untied(decided) {
        Ok(analyzed) => analyzed,
        Err(conflicts) => return Ok(Packed::Tied(conflicts)),
    };
    let leaks = leaks(&analyzed);
    let things = things(program, analyzed.ir());
    if may_wait && things.is_some_and(|things| fit_by_far(things, lines)) {
        return Ok(Packed::All(Made::Aside(analyzed.aside()), leaks, things));
    }
    go_on()?;
    let image = lower(analyzed);
    Ok(match pack_within(&image, lines) {
        Ok(tables) => Packed::All(Made::Tables(Box::new((image, tables))), leaks, things),
        Err(error) => Packed::TooLarge(Some(leaks), TooLarge::Tables(error)),
    })
}

/// How many things there are at the most in a program that differs from the last one in the rules of some workloads, where
/// it is known by theirs that no redirects tie, that nothing leaks and that it fits. Other workloads' flows are decided as
/// they were.
fn decides_as_before(last: &Last, program: &Program, lines: usize) -> Option<usize> {
    let before = last.findings.things.filter(|_| last.findings.leaks.is_empty())?;
    if !is_small(program, lines) {
        return None;
    }
    let part = part_that_changed(&last.program, program)?;
    let analyzed = untied(decide_program(&part, lines).ok()?).ok()?;
    // What has changed is counted twice.
    let things = things(&part, analyzed.ir())?.saturating_add(before);
    (leaks(&analyzed).is_empty() && fit_by_far(things, lines)).then_some(things)
}

/// The program with all rules that reach one of the workloads of which a rule has changed, and without the others. None
/// where that is the whole, or more than rules has changed.
fn part_that_changed(last: &Program, program: &Program) -> Option<Program> {
    let changed = changed(last, program)?;
    let changed: Vec<&Scope> = changed.iter().filter_map(|id| program.scopes.get(id.index())).collect();
    let workloads = (0u32..).map(WorkloadId).zip(&program.workloads).map(|(id, _)| id);
    let concerned: Vec<WorkloadId> =
        workloads.filter(|&id| changed.iter().any(|scope| applies(scope, id))).collect();
    let reaches: Vec<bool> =
        program.scopes.iter().map(|scope| concerned.iter().any(|&id| applies(scope, id))).collect();
    let rules = program.rules.iter().filter(|rule| reaches.get(rule.scope.index()) == Some(&true));
    if rules.clone().count() == program.rules.len() {
        return None;
    }
    Some(Program {
        meshes: program.meshes.clone(),
        workloads: program.workloads.clone(),
        groups: program.groups.clone(),
        sets: Vec::new(),
        services: program.services.clone(),
        names: program.names.clone(),
        scopes: program.scopes.clone(),
        rules: rules.cloned().collect(),
        exempts: program.exempts.clone(),
        ons: program.ons.clone(),
        accelerations: program.accelerations.clone(),
        tests: Vec::new(),
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::resolve::NoImports;

    fn given(text: &str) -> Vec<(Location, Vec<u8>)> {
        vec![(Location { key: "a".into(), name: "a".into() }, text.as_bytes().to_vec())]
    }

    /// A rule of any kind; many of them tie, leak, are shadowed or have no effect.
    fn rule(random: &mut Random) -> String {
        let ports = random.of(&["", " tcp 443", " tcp 80", " tcp 1-1000", " udp", " udp 443", " tcp"]);
        let address = random.of(&["", "", " to s", " to 10.1.0.0/16", " to 10.1.2.0/24", " to 10.0.0.0/8"]);
        match random.below(6) {
            0 => format!("deny outbound{ports}{address}"),
            1 => format!("exclude outbound{ports}{address}"),
            2 => format!("always deny outbound{ports}{address}"),
            3 => format!("redirect outbound{}{address} -> 15002", ports.replace(" udp", " tcp")),
            4 => format!("redirect inbound tcp 80{} -> 15003", address.replace(" to ", " from ")),
            _ => format!("redirect outbound{}{address} -> 15001", ports.replace(" udp", " tcp")),
        }
    }

    const PLACES: [&str; 6] = ["", "mesh", "workload a", "workload b", "workload c", "for g"];

    fn policy(rules: &[Vec<String>; 6]) -> String {
        let [top, mesh, a, b, c, group] = rules.each_ref().map(|rules| rules.join("\n"));
        format!(
            "exempt uid 1500\nset s = 10.1.0.0/16, 10.2.0.0/16\n{top}\nmesh m {{\n{mesh}\nworkload a {{ label app = a\n{a}\n}}\n\
             workload b {{ label app = b\n{b}\n}}\nworkload c {{ label app = c\n{c}\n}}\ngroup g = a, b\nfor g {{\n{group}\n}}\n}}\n"
        )
    }

    /// Where a rule of some workloads has changed, the others are not decided again, and what is said and made is what a
    /// fresh check says and makes.
    #[test]
    fn workloads_whose_rules_stay_are_not_decided_again() {
        let (mut in_part, mut tied, mut leaked) = (0, 0, 0);
        for seed in 1..=20u64 {
            let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut rules = PLACES.map(|_| Vec::new());
            let few = [1, 1, 2, 2, 2, 1];
            for (rules, most) in rules.iter_mut().zip(few) {
                rules.extend((0..=random.below(most)).map(|_| rule(&mut random)));
            }
            let mut versions = Versions::default();
            for _ in 0..40 {
                // Sometimes two places change, or one changes back and forth.
                for _ in 0..1 + random.below(5) / 4 {
                    let place = &mut rules[random.below(PLACES.len())];
                    let at = random.below(place.len() + 1);
                    match random.below(3) {
                        0 if place.len() < 4 => place.insert(at, rule(&mut random)),
                        1 if at < place.len() => place[at] = rule(&mut random),
                        _ if at < place.len() => drop(place.remove(at)),
                        _ => {}
                    }
                }
                let text = policy(&rules);
                let Ok(mut version) =
                    versions.compile(given(&text), &mut NoImports, || Ok::<(), Infallible>(()));
                let fresh = compile(given(&text), &mut NoImports, None);
                assert_eq!(
                    format!("{:?}", version.diagnostics),
                    format!("{:?}", fresh.diagnostics),
                    "seed {seed}: {text}"
                );
                let things = |of: &Compilation| of.findings.as_ref().and_then(|found| found.things);
                // What is the same is counted twice.
                let is_in_part = things(&version) > things(&fresh);
                in_part += usize::from(is_in_part);
                let has = |code| fresh.diagnostics.iter().any(|found| found.code == code);
                tied += usize::from(has(Code::Conflict));
                leaked += usize::from(has(Code::Leak));
                if random.below(2) == 0 {
                    version.finish();
                    let made =
                        |of: &Compilation| of.compiled.as_ref().map(|made| format!("{:?}", made.image));
                    assert_eq!(made(&version), made(&fresh), "seed {seed}: {text}");
                }
                versions.is_over(version);
            }
        }
        assert!(in_part > 20 && tied > 20 && leaked > 20, "{in_part}, {tied}, {leaked}");
    }
}
