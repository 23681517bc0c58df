//! What came out of tests, above them.

use lsp_types::{CodeLens, Command};

use super::{View, range};
use crate::text::Text;

/// One above each `test` block, and one above each line of it that does not hold. None where the policy does not compile.
pub fn lenses(view: View<'_>) -> Vec<CodeLens> {
    let Some(tree) = view.program.tree(view.file) else { return Vec::new() };
    let text = Text::new(view.text());
    let report = &view.program.compilation.tests;
    let mut lenses = Vec::new();
    let lens = |span, title| CodeLens {
        range: range(&text, span),
        command: Some(Command { title, command: String::new(), arguments: None }),
        data: None,
    };
    for test in tree.meshes.iter().flat_map(|mesh| &mesh.tests) {
        let results =
            report.lines.iter().filter(|result| test.lines.iter().any(|line| line.span.covers(result.span)));
        let results: Vec<_> = results.collect();
        if results.is_empty() {
            continue;
        }
        let held = results.iter().filter(|result| result.passed).count();
        lenses.push(lens(
            test.span,
            match results.len() {
                1 if held == 1 => "holds".to_owned(),
                1 => "does not hold".to_owned(),
                all if held == all => format!("all {all} lines hold"),
                all => format!("{held} of {all} lines hold"),
            },
        ));
        for result in results.iter().filter(|result| !result.passed) {
            lenses.push(lens(result.span, format!("is {}", result.actual)));
        }
    }
    lenses
}
