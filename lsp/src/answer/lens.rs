//! What came out of tests, above them.

use lsp_types::{CodeLens, Command};
use mesh_compiler::ast;

use serde_json::json;

use super::{View, range};
use crate::text::Text;

/// Runs the test that stands at a place: the command of a lens. It takes the file and the place.
pub const RUN: &str = "meshc.test";

fn summary(held: usize, all: usize) -> String {
    match all {
        1 if held == 1 => "holds".to_owned(),
        1 => "does not hold".to_owned(),
        all if held == all => format!("all {all} lines hold"),
        all => format!("{held} of {all} lines hold"),
    }
}

/// What came out of the test at a place, in words, and whether it holds.
///
/// # Errors
/// There is no test, or the policy does not compile.
pub fn run(view: View<'_>, offset: usize) -> Result<(bool, String), &'static str> {
    let tree = view.program.tree(view.file).ok_or("the file cannot be read")?;
    let tests = tree.meshes.iter().flat_map(|mesh| &mesh.tests);
    let is_there = |test: &&ast::Test| {
        let end = test.lines.iter().map(|line| line.span.end).max().unwrap_or(test.span.end);
        (test.span.start as usize..=end as usize).contains(&offset)
    };
    let test = tests.clone().find(is_there).ok_or("no test stands there")?;
    let report = &view.program.compilation.tests;
    let of_test = |span| test.lines.iter().any(|line| line.span.covers(span));
    let results: Vec<_> = report.lines.iter().filter(|result| of_test(result.span)).collect();
    if results.is_empty() {
        return Err("nothing is tested while the policy has errors, or the test has no lines");
    }
    let held = results.iter().filter(|result| result.passed).count();
    let name = test.name.as_ref().map_or("", |name| name.value.as_str());
    let mut said = format!("test \"{name}\": {}", summary(held, results.len()));
    let text = Text::new(view.text());
    for result in results.iter().filter(|result| !result.passed) {
        let line = range(&text, result.span).start.line + 1;
        said.push_str(&format!("\nline {line}: `{}` is {}", view.program.words(result.span), result.actual));
    }
    Ok((held == results.len(), said))
}

/// One above each `test` block, and one above each line of it that does not hold. None where the policy does not compile.
pub fn lenses(view: View<'_>) -> Vec<CodeLens> {
    let Some(tree) = view.program.tree(view.file) else { return Vec::new() };
    let text = Text::new(view.text());
    let report = &view.program.compilation.tests;
    let mut lenses = Vec::new();
    let uri = view.program.key(view.file).and_then(|key| view.open.uri(key));
    let arguments = |span| Some(vec![json!(uri.as_ref()?), json!(range(&text, span).start)]);
    let lens = |span, title| CodeLens {
        range: range(&text, span),
        command: Some(Command { title, command: RUN.to_owned(), arguments: arguments(span) }),
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
        lenses.push(lens(test.span, summary(held, results.len())));
        for result in results.iter().filter(|result| !result.passed) {
            lenses.push(lens(result.span, format!("is {}", result.actual)));
        }
    }
    lenses
}
