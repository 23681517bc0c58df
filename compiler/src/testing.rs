//! Runs the `test` blocks of a program, and tells which rules they cover.
//!
//! Flows are decided by the tables that the programs read, which the proof has shown to say what the
//! policy means.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::flow::{Flow, Verdict};
use mesh_bpf::image::{MapImage, ProfileId, SourceKind};
use mesh_bpf::prefix::Prefix;
use mesh_bpf::sim::{Decided, Sim};
use mesh_bpf::tables::Tables;

use crate::diag::{Code, Diagnostic};
use crate::explain::{Accelerated, Cause, Reason, accelerated, elsewhere, profile_of};
use crate::hir::{Expected, Program, RuleId, TestLine};
use crate::lower::Origins;
use crate::question::{Members, Question};
use crate::source::Span;

/// What came out of all tests of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// One for each line, in the order of meshes and tests.
    pub lines: Vec<LineResult>,
    /// For each rule that is written whether it decides a tested flow.
    pub covered: BTreeMap<RuleId, bool>,
}

/// What came out of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineResult {
    /// The name of its test.
    pub test: String,
    /// The flow as written.
    pub span: Span,
    /// The expectation as written.
    pub expected_span: Span,
    /// `redirected 15001`, `not accelerated`.
    pub expected: String,
    /// What happens to [`flow`](Self::flow).
    pub actual: String,
    /// Nobody can tell whether it holds: the workloads of which the address of the other end may be a member's.
    pub unknown: Vec<String>,
    /// Whether it holds for every flow that it stands for.
    pub passed: bool,
    /// The first flow for which it does not hold; if there is none, the first.
    pub flow: Option<Flow>,
    /// Whether its address is the node's: one of those that it may have.
    pub node: bool,
    /// What decides that flow.
    pub cause: Cause,
}

impl LineResult {
    /// `denied, not excluded`: what happens, and what does not, where it does not hold.
    #[must_use]
    pub fn difference(&self) -> String {
        let Self { actual, expected, .. } = self;
        match expected.strip_prefix("not ") {
            Some(_) => format!("{actual}, and should not be"),
            None => format!("{actual}, not {expected}"),
        }
    }
}

impl Report {
    /// Lines that hold.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.lines.iter().filter(|line| line.passed).count()
    }

    /// Lines that do not.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.lines.len() - self.passed()
    }

    /// The rules that decide no tested flow.
    pub fn uncovered(&self) -> impl Iterator<Item = RuleId> {
        self.covered.iter().filter(|(_, covered)| !**covered).map(|(id, _)| *id)
    }
}

/// Runs every test.
#[must_use]
pub fn run(
    program: &Program,
    image: &MapImage,
    tables: &Tables,
    origins: &Origins,
    members: &Members,
) -> Report {
    let mut report = Report::default();
    let mut covered = vec![false; program.rules.len()];
    let Ok(sim) = Sim::new(tables) else { return report };
    let runner = Runner { program, image, sim, origins, members };
    for test in &program.tests {
        for line in &test.lines {
            // Whoever names a service that nobody knows is told so once.
            report.lines.extend(runner.line(&test.name, line, &mut covered));
        }
    }
    report.covered = by_statement(program, covered);
    report
}

/// What comes out of a program without tests, whatever it compiles to.
#[must_use]
pub(crate) fn untested(program: &Program) -> Report {
    let covered = vec![false; program.rules.len()];
    Report { lines: Vec::new(), covered: by_statement(program, covered) }
}

/// For each rule that is written whether one of its rules is covered.
fn by_statement(program: &Program, covered: Vec<bool>) -> BTreeMap<RuleId, bool> {
    let mut by_statement = BTreeMap::new();
    // One that names the node beside addresses is two.
    let mut written: BTreeMap<Span, RuleId> = BTreeMap::new();
    for ((id, rule), covered) in (0u32..).map(RuleId).zip(&program.rules).zip(covered) {
        let first = *written.entry(rule.span).or_insert(id);
        *by_statement.entry(first).or_default() |= covered;
    }
    by_statement
}

/// A diagnostic for each line that does not hold.
#[must_use]
pub fn diagnostics(report: &Report) -> Vec<Diagnostic> {
    (report.lines.iter().filter(|line| !line.passed)).map(diagnostic).collect()
}

fn diagnostic(line: &LineResult) -> Diagnostic {
    if let (false, Some(flow)) = (line.unknown.is_empty(), line.flow) {
        let message =
            format!("test \"{}\": nobody can know here whether the flow is {}", line.test, line.expected);
        return Diagnostic::new(Code::TestFailed, message)
            .label(line.expected_span, may_be(flow, &line.unknown))
            .help(
                "name a workload in place of the address, or the endpoints in an inventory (`--inventory FILE`): a test \
                 must be able to fail",
            );
    }
    let message = format!("test \"{}\": the flow is {}", line.test, line.difference());
    let label = match line.flow {
        Some(Flow { direction, protocol, address, port, .. }) => {
            let node = if line.node { ", an address of the node," } else { "" };
            let preposition = direction.preposition();
            format!("{direction} {protocol} {port} {preposition} {address}{node} is {}", line.actual)
        }
        None => "stands for no flow".to_owned(),
    };
    let found = Diagnostic::new(Code::TestFailed, message).label(line.expected_span, label);
    let (Cause::Rule(reason) | Cause::Exempt(reason)) = &line.cause else {
        return found.help(match &line.cause {
            Cause::BuiltIn(word) => {
                format!("the language itself decides it ({word}): correct the test, or add a rule")
            }
            _ => "no rule reaches it: correct the test, or add a rule".to_owned(),
        });
    };
    let found = match reason.span {
        Some(span) => found.also(span, format!("`{}` decides it", reason.text)),
        None => found,
    };
    found.help("correct the test, or add a narrower rule")
}

/// `10.0.3.9 may be a member of shop/cart`
#[must_use]
pub fn may_be(flow: Flow, workloads: &[String]) -> String {
    let or = workloads.join(" or ");
    format!("{} may be a member of {or}, and no address tells", flow.address)
}

struct Runner<'a> {
    program: &'a Program,
    image: &'a MapImage,
    sim: Sim<'a>,
    origins: &'a Origins,
    members: &'a Members,
}

/// A flow's decision.
struct Answer {
    flow: Flow,
    verdict: Verdict,
    accelerated: Accelerated,
    cause: Cause,
}

impl Runner<'_> {
    fn line(&self, test: &str, line: &TestLine, covered: &mut [bool]) -> Option<LineResult> {
        let question = Question::of_test(self.program, line)?;
        let mut shown: Option<Answer> = None;
        let mut passed = true;
        if let Some(profile) = profile_of(self.program, self.image, line.workload) {
            for flow in question.flows(self.program, self.members) {
                let Some(answer) = self.answer(&question, profile, flow, covered) else { continue };
                let holds = holds(line.expected, &answer);
                if shown.is_none() || (passed && !holds) {
                    shown = Some(answer);
                }
                passed &= holds;
            }
        }
        Some(LineResult {
            test: test.to_owned(),
            span: line.span,
            expected_span: line.expected_span,
            expected: expected_text(line.expected),
            actual: shown
                .as_ref()
                .map_or_else(|| "no flow".to_owned(), |answer| actual(line.expected, answer)),
            unknown: shown.as_ref().map(|answer| unknown(line.expected, answer)).unwrap_or_default(),
            passed: passed && shown.is_some(),
            flow: shown.as_ref().map(|answer| answer.flow),
            node: question.identity.node,
            cause: shown.map_or(Cause::NoRule, |answer| answer.cause),
        })
    }

    fn answer(
        &self,
        question: &Question,
        profile: ProfileId,
        flow: Flow,
        covered: &mut [bool],
    ) -> Option<Answer> {
        let decided = self.sim.decide(profile, &flow, &question.identity)?;
        let (source, prefix) = match decided {
            Decided::Exempt(source) => (source, Prefix::Any),
            Decided::Policy(hit) => (hit.source, hit.item),
        };
        let source = self.image.source(source);
        let places = self.origins.of_item(source, prefix);
        let rules: BTreeSet<RuleId> = places.iter().filter_map(|place| place.id).collect();
        for rule in rules {
            if let Some(covered) = covered.get_mut(rule.index()) {
                *covered = true;
            }
        }
        let span = places.first().map(|place| place.rule);
        let named = places.first().map_or([None; 2], |place| {
            let [ports, address] = place.by;
            [Some((ports, place.ports)), place.address.map(|span| (address, span))]
        });
        let reason =
            Reason { elsewhere: elsewhere(self.program, named), ..Reason::of_source(source, prefix, span) };
        let cause = match source.kind {
            SourceKind::NoRule | SourceKind::Accelerate => Cause::NoRule,
            SourceKind::BuiltIn => Cause::BuiltIn(source.head.clone()),
            SourceKind::Exempt => Cause::Exempt(reason),
            SourceKind::Rule => Cause::Rule(reason),
        };
        let verdict = decided.verdict();
        let accelerated = accelerated(self.program, self.image, self.members, question, &flow, verdict);
        Some(Answer { flow, verdict, accelerated, cause })
    }
}

fn holds(expected: Expected, answer: &Answer) -> bool {
    match expected {
        Expected::Redirected(None) => answer.verdict.port().is_some(),
        Expected::Redirected(port) => answer.verdict.port() == port,
        Expected::Excluded => answer.verdict == Verdict::Excluded,
        Expected::Denied => answer.verdict == Verdict::Denied,
        Expected::Accelerated(accelerated) => answer.accelerated.known() == Some(accelerated),
    }
}

fn expected_text(expected: Expected) -> String {
    match expected {
        Expected::Redirected(None) => "redirected".to_owned(),
        Expected::Redirected(Some(port)) => format!("redirected {port}"),
        Expected::Excluded => "excluded".to_owned(),
        Expected::Denied => "denied".to_owned(),
        Expected::Accelerated(true) => "accelerated".to_owned(),
        Expected::Accelerated(false) => "not accelerated".to_owned(),
    }
}

fn actual(expected: Expected, answer: &Answer) -> String {
    match expected {
        Expected::Accelerated(_) => match answer.accelerated.known() {
            Some(accelerated) => expected_text(Expected::Accelerated(accelerated)),
            None => "not known".to_owned(),
        },
        _ => answer.verdict.to_string(),
    }
}

/// Whose member the other end may be, where that is asked for and nobody can tell.
fn unknown(expected: Expected, answer: &Answer) -> Vec<String> {
    match (expected, &answer.accelerated) {
        (Expected::Accelerated(_), Accelerated::If(workloads)) => workloads.clone(),
        _ => Vec::new(),
    }
}
