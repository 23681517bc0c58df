//! Any bytes as what another mesh's users have: they are read without a panic, every message points at something, and the
//! policy that comes out is laid out and has no mistake.

use mesh_compiler::compile::compile;
use mesh_compiler::diag::{Diagnostic, Severity, has_errors};
use mesh_compiler::format::format;
use mesh_compiler::resolve::{Location, NoImports};
use mesh_compiler::source::FileId;
use mesh_import::{Origin, import as read};

use super::text::every_place_is_real;
use crate::{Broken, Held, holds};

/// A first byte that says that rules are read.
pub const RULES: u8 = 10;

/// What holds of any file, of whichever mesh. The first byte says of which.
///
/// # Errors
/// The law that it breaks.
pub fn import(bytes: &[u8]) -> Held {
    let (&first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let origin = Origin::ALL.into_iter().cycle().nth(usize::from(first / 2)).unwrap_or(Origin::Istio);
    let imported = read(origin, vec![("fuzz.yaml".to_owned(), rest.to_vec())], first % 2 == 1);
    every_place_is_real(&imported.sources, &imported.diagnostics)?;
    let Some(policy) = imported.policy else {
        return holds("what cannot be read has a message", has_errors(&imported.diagnostics), || {
            "none".to_owned()
        });
    };
    let broken = || format!("{:?}\n{policy}", imported.diagnostics);
    // Rules may know the sidecar by what a policy has no words for.
    let loops = |found: &Diagnostic| origin == Origin::Iptables && found.code.word() == "redirect-loop";
    let mut errors = imported.diagnostics.iter().filter(|found| found.severity == Severity::Error);
    holds("what is read makes a policy without errors", errors.all(loops), broken)?;
    let again = format(FileId::new(0), &policy)
        .map_err(|found| Broken::new("an imported policy reads", format!("{found:?}\n{policy}")))?;
    holds("an imported policy is laid out", again == policy, || format!("{policy}\nthen\n{again}"))?;
    let place = Location { key: "a".to_owned(), name: "a".to_owned() };
    let compilation = compile(vec![(place, policy.clone().into_bytes())], &mut NoImports, None);
    if compilation.diagnostics.iter().any(loops) {
        return Ok(());
    }
    let worst = compilation.diagnostics.iter().find(|found| found.severity != Severity::Note);
    let is_right = worst.is_none_or(|found| imported.workloads == 0 && found.code.word() == "empty-mesh");
    holds("an imported policy has no mistake", is_right, || format!("{worst:?}\n{policy}"))
}
