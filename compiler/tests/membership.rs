//! Who is a member of what, decided once more from the words of the manual: every endpoint of a small world is held
//! against pairs of random workloads. `membership-overlap` must be said if and only if some endpoint falls in both and
//! neither is narrower, `empty-workload` if and only if no endpoint can be in one; and where nothing is wrong, the
//! compiled selectors must give each endpoint to the workload that the manual gives it to.

#![expect(clippy::indexing_slicing, reason = "what fails here is the test")]

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::membership::Membership;
use mesh_bpf::selector::Endpoint;
use mesh_compiler::compile::compile;
use mesh_compiler::diag::{Code, Severity};
use mesh_compiler::resolve::{Location, NoImports};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// What a line may ask for.
const SUBJECTS: [&str; 4] = ["namespace", "label k", "namespace-label k", "namespace-label j"];
/// What a policy names.
const NAMED: [&str; 2] = ["v", "w"];
/// What an endpoint may have of a subject: nothing, what a policy names, and something else.
const HAD: [Option<&str>; 4] = [None, Some("v"), Some("w"), Some("x")];

/// A line of a workload.
#[derive(Clone, Debug)]
struct Line {
    not: bool,
    subject: usize,
    values: Vec<&'static str>,
}

impl Line {
    fn text(&self) -> String {
        let not = if self.not { "not " } else { "" };
        let (subject, values) = (SUBJECTS[self.subject], self.values.join(", "));
        match (subject, values.as_str()) {
            ("namespace", values) => format!("{not}namespace {values}"),
            (subject, "") => format!("{not}{subject}"),
            (subject, values) => format!("{not}{subject} = {values}"),
        }
    }

    /// Places in [`HAD`] at which it holds: "`not label k = v` also holds where `k` is absent", "`label k`: pods that
    /// have the label, whatever its value".
    fn holds(&self) -> BTreeSet<usize> {
        let plain = |had: &Option<&str>| match had {
            None => false,
            Some(value) => self.values.is_empty() || self.values.contains(value),
        };
        (0..HAD.len()).filter(|&at| plain(&HAD[at]) != self.not).collect()
    }
}

/// What an endpoint has of each subject, as places in [`HAD`].
type Has = [usize; 4];

fn selects(lines: &[Line], has: &Has) -> bool {
    lines.iter().all(|line| line.holds().contains(&has[line.subject]))
}

/// "The same conditions and more": each line of the wider one is asked for by a line of the narrower one.
fn asks_all_of(narrow: &[Line], wide: &[Line]) -> bool {
    let implies =
        |one: &Line, other: &Line| one.subject == other.subject && one.holds().is_subset(&other.holds());
    wide.iter().all(|asked| narrow.iter().any(|line| implies(line, asked)))
}

fn world() -> Vec<Has> {
    let all = 0..HAD.len().pow(4);
    all.map(|n| [n % 4, n / 4 % 4, n / 16 % 4, n / 64]).collect()
}

fn endpoint(has: &Has) -> Endpoint {
    let of = |subject: usize| HAD[has[subject]].map(str::to_owned);
    let labels = |of: &[(&str, Option<String>)]| -> BTreeMap<String, String> {
        of.iter().filter_map(|(key, value)| Some(((*key).to_owned(), value.clone()?))).collect()
    };
    Endpoint {
        name: "pod".into(),
        namespace: of(0),
        labels: labels(&[("k", of(1))]),
        namespace_labels: std::sync::Arc::new(labels(&[("k", of(2)), ("j", of(3))])),
        ..Endpoint::default()
    }
}

fn line() -> impl Strategy<Value = Line> {
    (select(vec![0, 1, 2, 2, 2, 3]), any::<bool>(), subsequence(NAMED.to_vec(), 0..=2)).prop_map(
        |(subject, not, mut values)| {
            if subject == 0 && values.is_empty() {
                values.push("v");
            }
            Line { not, subject, values }
        },
    )
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    prop::collection::vec(line(), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 600 } else { 5000 }))]

    #[test]
    fn who_is_a_member_is_as_the_manual_says(a in lines(), b in lines()) {
        let block = |name: &str, lines: &[Line]| {
            format!("workload {name} {{ {} }}\n", lines.iter().map(Line::text).collect::<Vec<_>>().join("; "))
        };
        let text = format!("mesh m {{ deny outbound tcp 25\n{}{} }}\n", block("a", &a), block("b", &b));
        let place = Location { key: "a.mesh".into(), name: "a.mesh".into() };
        let done = compile(vec![(place, text.clone().into_bytes())], &mut NoImports, None);
        let errors: BTreeSet<Code> =
            done.diagnostics.iter().filter(|one| one.severity == Severity::Error).map(|one| one.code).collect();
        let world = world();
        let mut expected = BTreeSet::new();
        let empty = [&a, &b].map(|lines| !world.iter().any(|has| selects(lines, has)));
        if empty.contains(&true) {
            expected.insert(Code::EmptyWorkload);
        }
        let (narrower, wider) = (asks_all_of(&a, &b), asks_all_of(&b, &a));
        let both = world.iter().any(|has| selects(&a, has) && selects(&b, has));
        if both && narrower == wider {
            expected.insert(Code::MembershipOverlap);
        }
        prop_assert_eq!(&errors, &expected, "{}", text);
        if let Some(compiled) = &done.compiled {
            let membership = Membership::of(&compiled.image);
            for has in &world {
                let expected = match (selects(&a, has), selects(&b, has)) {
                    (true, true) => Some(if narrower { "m/a" } else { "m/b" }),
                    (true, false) => Some("m/a"),
                    (false, true) => Some("m/b"),
                    (false, false) => None,
                };
                let found = membership.classify(&endpoint(has)).unwrap().map(|one| one.name.as_str());
                prop_assert_eq!(found, expected, "{:?} in {}", has, text);
            }
        }
    }
}
