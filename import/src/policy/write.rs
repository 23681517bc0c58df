//! The text of the policy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use mesh_bpf::flow::{Direction, Protocol};
use mesh_compiler::compile::{Compilation, compile};
use mesh_compiler::diag::{Code, Diagnostic, Severity};
use mesh_compiler::format::format;
use mesh_compiler::resolve::{Location, NoImports};
use mesh_compiler::source::FileId;

use super::flows::flows;
use super::place::{Cited, Line, Placed, place, redirects_all_udp};
use super::select::{Selected, Selector, Workload, select};
use crate::chain::{Flow, Rule, Verdict, prefix, range};
use crate::kube::Unit;
use crate::origin::{Fate, Found};
use crate::settings::{Chain, Exempt, words};
use crate::value::Range;

/// A policy, and what the compiler has to say about it: nothing, unless what was read cannot be said.
#[derive(Debug)]
pub struct Written {
    /// Its text, as `meshc fmt` lays it out.
    pub text: String,
    /// Workloads in it.
    pub workloads: usize,
    /// Rules and exemptions in it.
    pub rules: usize,
    /// Errors in it.
    pub errors: Vec<Diagnostic>,
}

/// What was read.
#[derive(Debug)]
pub struct Read<'r> {
    /// What the mesh does with each unit.
    pub found: &'r Found,
    /// The units.
    pub units: &'r [Unit<'r>],
    /// What becomes of a pod that says nothing itself, by namespace: of those in which every pod gets a sidecar.
    pub plain: BTreeMap<&'r str, Fate>,
    /// Objects that were left out, and why.
    pub left: &'r [(String, &'static str)],
    /// What the files are called.
    pub sources: &'r str,
}

/// Writes the policy of what was read. Where no pod is in the mesh, it is what `anybody` would be under.
pub fn write(read: &Read<'_>, anybody: impl FnOnce() -> Option<Fate>) -> Written {
    let Read { found, left, sources, .. } = *read;
    let (chains, of) = distinct(found.fates.iter().chain(read.plain.values()));
    let (of, plain) = of.split_at(found.fates.len().min(of.len()));
    let plain = read.plain.keys().copied().zip(plain.iter().copied()).collect();
    let selected = select(found, read.units, of, &plain);
    let under: Vec<usize> = selected.workloads.iter().map(|workload| workload.chain).collect();
    let placed = place(&chains, &under);
    let mut draft = Draft { text: String::new(), depth: 0, rules: 0 };
    draft.head(found, &selected, left, sources);
    match selected.workloads.is_empty().then(anybody).flatten() {
        Some(Fate::Member(chain)) => draft.library(found, &[chain]),
        _ => draft.body(found, &chains, &selected, &placed),
    }
    let (workloads, rules) = (selected.workloads.len(), draft.rules);
    let text = match format(FileId::new(0), &draft.text) {
        Ok(text) => text,
        Err(errors) => return Written { text: draft.text, workloads, rules, errors },
    };
    let compilation = compiled(&text);
    let allowed = allowed(&text, &compilation);
    let errors: Vec<Diagnostic> =
        compilation.diagnostics.into_iter().filter(|found| found.severity == Severity::Error).collect();
    let text = match format(FileId::new(0), &allowed) {
        Ok(allowed) if errors.is_empty() => allowed,
        _ => text,
    };
    Written { text, workloads, rules, errors }
}

fn compiled(text: &str) -> Compilation {
    let location = Location { key: OUTPUT.into(), name: OUTPUT.into() };
    compile(vec![(location, text.as_bytes().to_vec())], &mut NoImports, None)
}

/// What the policy is called in messages.
pub const OUTPUT: &str = "<the policy>";

/// What a chain says, whoever says it: rules, exemptions, notes.
type Meaning<'c> = (Vec<&'c Rule>, Vec<&'c Exempt>, &'c [String]);

/// The chains that occur, each once, and which of them each unit is under.
fn distinct<'f>(fates: impl Iterator<Item = &'f Fate>) -> (Vec<Chain>, Vec<Option<usize>>) {
    let mut known: BTreeMap<Meaning<'_>, usize> = BTreeMap::new();
    let mut chains = Vec::new();
    let of = fates.map(|fate| {
        let Fate::Member(chain) = fate else { return None };
        let rules = chain.layers.iter().map(|layer| &layer.rule).collect();
        let exempts = chain.exempts.iter().map(|(exempt, _)| exempt).collect();
        let at = *known.entry((rules, exempts, &chain.notes)).or_insert_with(|| {
            chains.push(chain.clone());
            chains.len() - 1
        });
        Some(at)
    });
    let of = of.collect();
    (chains, of)
}

/// The text with a comment above each statement about which the compiler warns: what has no effect has none where it comes
/// from either.
fn allowed(text: &str, compilation: &Compilation) -> String {
    let rules = &compilation.resolution.program.rules;
    let mut at: BTreeMap<usize, BTreeSet<Code>> = BTreeMap::new();
    for found in compilation.diagnostics.iter().filter(|found| found.severity == Severity::Warning) {
        for span in found.labels.iter().filter(|label| label.primary).map(|label| label.span) {
            let rule = rules
                .iter()
                .map(|rule| rule.span)
                .find(|rule| rule.start <= span.start && span.end <= rule.end);
            let start = rule.unwrap_or(span).start as usize;
            let line = text.get(..start).unwrap_or_default().matches('\n').count();
            at.entry(line).or_default().insert(found.code);
        }
    }
    let mut out = String::with_capacity(text.len());
    for (number, line) in text.lines().enumerate() {
        if let Some(codes) = at.get(&number) {
            let indent: String = line.chars().take_while(|c| *c == ' ').collect();
            if codes.contains(&Code::NoEffect) {
                let _ = writeln!(
                    out,
                    "{indent}# Some of this decides nothing, here as there: other rules say the same."
                );
            }
            let codes: Vec<&str> = codes.iter().map(|code| code.word()).collect();
            let _ = writeln!(out, "{indent}# meshc: allow({})", codes.join(", "));
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

struct Draft {
    text: String,
    depth: usize,
    rules: usize,
}

/// Columns of a comment that stands on lines of its own.
const WIDE: usize = 110;

/// Columns up to which a comment stands behind its rule.
const BESIDE: usize = 120;

/// Objects that a comment names.
const NAMED: usize = 6;

impl Draft {
    fn line(&mut self, text: &str) {
        let indent = self.depth * 4;
        let _ = writeln!(self.text, "{:indent$}{text}", "");
    }

    fn open(&mut self, head: &str) {
        self.line(&format!("{head} {{"));
        self.depth += 1;
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.line("}");
    }

    /// Text on as many lines as it takes.
    fn comment(&mut self, text: &str) {
        let clean = mesh_bpf::text::one_line(text).into_owned();
        let width = WIDE.saturating_sub(self.depth * 4);
        let mut line = String::from("#");
        for word in clean.split_whitespace() {
            if line.len() > 1 && line.chars().count() + 1 + word.chars().count() > width {
                self.line(&line);
                line = String::from("#  ");
            }
            line.push(' ');
            line.push_str(word);
        }
        self.line(&line);
    }

    fn head(&mut self, found: &Found, selected: &Selected, left: &[(String, &'static str)], sources: &str) {
        let title = found.title;
        self.comment(&format!(
            "What {title} intercepts, as `meshc import {}` read it in {sources}.",
            found.mesh
        ));
        self.comment("Each rule names its setting. On purpose it is otherwise than there:");
        for difference in found.differences {
            self.comment(&format!("- {difference}"));
        }
        for (why, objects) in &selected.outside {
            self.comment(&format!("Not in the mesh, {why}: {}.", named(objects)));
        }
        let mut ended: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (object, why) in left {
            ended.entry(why).or_default().insert(object.clone());
        }
        for (why, objects) in &ended {
            self.comment(&format!("Left out, {why}: {}.", named(objects)));
        }
    }

    fn body(&mut self, found: &Found, chains: &[Chain], selected: &Selected, placed: &Placed) {
        self.shared(found, chains, placed);
        for (at, workload) in selected.workloads.iter().enumerate() {
            self.line("");
            self.workload(workload, placed.own.get(at).map(Vec::as_slice).unwrap_or_default());
        }
        let name = |at: &usize| selected.workloads.get(*at).map_or("", |workload| workload.name.as_str());
        let mut taken: BTreeSet<String> =
            selected.workloads.iter().map(|workload| workload.name.clone()).collect();
        for (set, lines) in &placed.shared {
            let names: Vec<&str> = set.iter().map(name).collect();
            self.line("");
            let whom = if names.len() > 3 {
                let free = (1..).map(|n| format!("group-{n}")).find(|name| !taken.contains(name));
                let group = free.unwrap_or_default();
                self.line(&format!("group {group} = {}", names.join(", ")));
                taken.insert(group.clone());
                group
            } else {
                names.join(", ")
            };
            self.open(&format!("for {whom}"));
            self.lines(lines.iter().collect());
            self.close();
        }
        self.tests(chains, selected);
        self.close();
    }

    /// What all workloads share: exemptions at the top, and the mesh, which stays open.
    fn shared(&mut self, found: &Found, chains: &[Chain], placed: &Placed) {
        let (top, mesh): (Vec<&Cited>, Vec<&Cited>) =
            placed.mesh.iter().partition(|(line, _)| matches!(line, Line::Exempt(_)));
        self.line("");
        self.lines(top);
        self.line("");
        self.open(&format!("mesh {}", found.mesh));
        self.lines(mesh);
        if !redirects_all_udp(chains) {
            self.line("exclude outbound udp  # UDP goes straight, unless a rule says otherwise");
        }
    }

    /// What any pod would be under, for others to import: no pods were found.
    fn library(&mut self, found: &Found, chains: &[Chain]) {
        self.comment(
            "No pods were found that are in the mesh: this is what any would be under, for others to import.",
        );
        self.line("# meshc: library");
        self.shared(found, chains, &place(chains, &[0]));
        self.close();
    }

    fn workload(&mut self, workload: &Workload, own: &[Cited]) {
        if workload.selectors.iter().any(Selector::is_any) {
            self.comment("everybody: the rules do not say whose they are. Select who was under them, by labels or cgroup");
        } else if workload.objects.is_empty() {
            self.comment("any other pod of a namespace that injects a sidecar");
        } else {
            self.comment(&named(&workload.objects));
        }
        self.open(&format!("workload {}", workload.name));
        for selector in &workload.selectors {
            self.line(&selector.text());
        }
        self.lines(own.iter().collect());
        self.close();
    }

    fn lines(&mut self, lines: Vec<&Cited>) {
        for (line, cite) in lines {
            let text = match line {
                Line::Note(note) => {
                    self.comment(note);
                    continue;
                }
                Line::Exempt(Exempt::Uid(ids)) => format!("exempt uid {}", range(*ids)),
                Line::Exempt(Exempt::Gid(ids)) => format!("exempt gid {}", range(*ids)),
                Line::Exempt(Exempt::Interfaces(names)) => {
                    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
                    format!("exempt interface {}", names.join(", "))
                }
                Line::Rule(rule) => text(&rule.0),
            };
            self.rules += 1;
            let cite = mesh_bpf::text::one_line(cite).into_owned();
            if self.depth * 4 + text.chars().count() + cite.chars().count() + 4 <= BESIDE {
                self.line(&format!("{text}  # {cite}"));
            } else {
                self.comment(&cite);
                self.line(&text);
            }
        }
    }

    fn tests(&mut self, chains: &[Chain], selected: &Selected) {
        let layers = chains.iter().flat_map(|chain| &chain.layers);
        let sidecar: BTreeSet<u16> = layers
            .filter_map(|layer| match layer.rule.verdict {
                Verdict::Redirect(port) => Some(port),
                Verdict::Exclude | Verdict::Deny => None,
            })
            .collect();
        for workload in &selected.workloads {
            let Some(chain) = chains.get(workload.chain) else { continue };
            let told = flows(chain, &sidecar);
            let mut lines: Vec<String> =
                told.iter().map(|(flow, verdict)| asked(&workload.name, flow, *verdict)).collect();
            lines.extend(by_interface(&workload.name, chain));
            if lines.is_empty() {
                continue;
            }
            self.line("");
            self.open(&format!("test \"{}: as before\"", workload.name));
            lines.iter().for_each(|line| self.line(line));
            self.close();
        }
    }
}

/// The first of some objects, and how many more there are.
fn named(objects: &BTreeSet<String>) -> String {
    let some: Vec<String> = objects.iter().take(NAMED).map(|object| words(object)).collect();
    let more = objects.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", some.join(", "))
}

/// A rule as a policy has it.
fn text(rule: &Rule) -> String {
    let verb = match rule.verdict {
        Verdict::Exclude => "exclude",
        Verdict::Redirect(_) => "redirect",
        Verdict::Deny => "deny",
    };
    let (direction, from) = match rule.direction {
        Direction::Outbound => ("outbound", "to"),
        Direction::Inbound => ("inbound", "from"),
    };
    let mut text = format!("{verb} {direction}");
    match rule.protocols.as_slice() {
        [Protocol::Tcp] if rule.verdict.is_redirect() && rule.ports.is_empty() => {}
        [Protocol::Tcp] => text.push_str(" tcp"),
        [Protocol::Udp] => text.push_str(" udp"),
        _ if rule.ports.is_empty() && !rule.verdict.is_redirect() => {}
        _ => text.push_str(" any"),
    }
    let mut list = |word: &str, items: Vec<String>| {
        if !items.is_empty() {
            let _ = write!(text, "{word} {}", items.join(", "));
        }
    };
    list("", rule.ports.iter().map(|&ports| range(ports)).collect());
    list(&format!(" {from}"), rule.addresses.iter().map(prefix).collect());
    let ids = |ids: &[Range<u32>]| ids.iter().map(|&ids| range(ids)).collect::<Vec<_>>().join(", ");
    let owner = &rule.owner;
    let cgroups: Vec<String> = owner.cgroups.iter().map(|path| format!("\"{path}\"")).collect();
    let who = [("uid", ids(&owner.users)), ("gid", ids(&owner.groups)), ("cgroup", cgroups.join(", "))];
    let who = who.iter().filter(|(_, list)| !list.is_empty());
    let who: Vec<String> = who.map(|(word, list)| format!("{word} {list}")).collect();
    if !who.is_empty() {
        let _ = write!(text, " as {}", who.join(" and "));
    }
    if let Verdict::Redirect(port) = rule.verdict {
        let _ = write!(text, " -> {port}");
    }
    text
}

/// Lines of a test about interfaces that are left alone.
fn by_interface(workload: &str, chain: &Chain) -> Vec<String> {
    let names = chain.exempts.iter().filter_map(|(exempt, _)| match exempt {
        Exempt::Interfaces(names) => names.first(),
        Exempt::Uid(_) | Exempt::Gid(_) => None,
    });
    let ways = |name: &String| {
        let by = format!("tcp 80 by interface \"{}\" is excluded", name.replace('*', "0"));
        [format!("{workload} -> 192.0.2.1 {by}"), format!("192.0.2.1 -> {workload} {by}")]
    };
    names.flat_map(ways).collect()
}

/// A line of a test.
fn asked(workload: &str, flow: &Flow, verdict: Verdict) -> String {
    let protocol = if flow.protocol == Protocol::Udp { "udp" } else { "tcp" };
    let (address, port) = (flow.address, flow.port);
    let who = [("uid", flow.user), ("gid", flow.group)];
    let who = who.into_iter().filter_map(|(word, id)| Some(format!(" {word} {}", id?)));
    let who: String = who.collect();
    let who = if who.is_empty() { who } else { format!(" as{who}") };
    let ends = match flow.direction {
        Direction::Outbound => format!("{workload} -> {address}"),
        Direction::Inbound => format!("{address} -> {workload}"),
    };
    let verdict = match verdict {
        Verdict::Exclude => "excluded".to_owned(),
        Verdict::Redirect(port) => format!("redirected {port}"),
        Verdict::Deny => "denied".to_owned(),
    };
    format!("{ends} {protocol} {port}{who} is {verdict}")
}
