//! For tests: a program of one file, through all passes up to the checks.

use super::{Checked, check, silence};
use crate::diag::Diagnostic;
use crate::hir::Program;
use crate::resolve::{Files, Location, NoImports, Services, load, resolve};

/// A program that was put together by hand, as if it had passed.
pub(crate) const fn unchecked(program: &Program) -> Checked<'_> {
    Checked { program }
}

/// All diagnostics of a file, silenced as its comments say.
pub(super) fn diagnostics(text: &str) -> (Files, Vec<Diagnostic>) {
    let place = Location { key: "a.mesh".to_owned(), name: "a.mesh".to_owned() };
    let (files, diagnostics) = load(vec![(place, text.as_bytes().to_vec())], &mut NoImports);
    let (resolution, mut diagnostics) = resolve(&files, diagnostics, &Services::new());
    let (_, found) = check(&resolution);
    diagnostics.extend(found);
    let sound = resolution.sound;
    (files, silence(&resolution, diagnostics, sound))
}

/// `expect`: for each diagnostic, its code, message and all underlined words.
#[track_caller]
pub(super) fn expect(text: &str, expect: &[(&str, &str, &[&str])]) {
    let (files, diagnostics) = diagnostics(text);
    let found: Vec<(&str, &str, Vec<&str>)> = (diagnostics.iter())
        .map(|d| {
            let words = d.labels.iter().map(|label| files.sources.slice(label.span)).collect();
            (d.code.word(), d.message.as_str(), words)
        })
        .collect();
    let expect: Vec<(&str, &str, Vec<&str>)> = expect.iter().map(|(c, m, w)| (*c, *m, w.to_vec())).collect();
    assert_eq!(found, expect);
}

/// The selectors of two workloads, which must not be in each other's way, or must.
#[track_caller]
pub(super) fn expect_overlap(left: &str, right: &str, overlap: bool) {
    let text = format!("mesh m {{\n workload a {{ {left} }}\n workload b {{ {right} }}\n}}\n");
    let (_, diagnostics) = diagnostics(&text);
    let codes: Vec<&str> = diagnostics.iter().map(|diagnostic| diagnostic.code.word()).collect();
    let expect: &[&str] = if overlap { &["membership-overlap"] } else { &[] };
    assert_eq!(codes, expect, "{left} / {right}");
}
