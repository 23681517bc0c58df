//! `empty-mesh`: a mesh, or a whole program, that nobody is a member of.

use super::library::HELP as LIBRARY;
use crate::diag::{Code, Diagnostic, Severity, quote};
use crate::resolve::Resolution;
use crate::source::Span;

pub(super) fn check(resolution: &Resolution, diagnostics: &mut Vec<Diagnostic>) {
    let (program, lost) = (&resolution.program, &resolution.lost);
    if lost.file {
        return;
    }
    let mut has_members = vec![false; program.meshes.len()];
    for workload in &program.workloads {
        if let Some(has) = has_members.get_mut(workload.mesh.index()) {
            *has = true;
        }
    }
    for (i, mesh) in program.meshes.iter().enumerate() {
        let read = !lost.meshes.iter().any(|lost| lost.index() == i);
        // Who imports a library may add the workloads.
        if has_members.get(i) == Some(&false) && read && !resolution.is_library {
            let diagnostic =
                Diagnostic::new(Code::EmptyMesh, format!("mesh {} has no workload", quote(&mesh.name)))
                    .label(mesh.span, "nobody is a member of it");
            diagnostics.push(match resolution.libraries.contains(&mesh.span.file) {
                true => diagnostic.severity(Severity::Note).help(
                    "nothing to do where it is there for other programs that import this library; a mesh of yours needs its name",
                ),
                false => diagnostic.help(format!("say who is: `workload NAME {{ address 10.42.1.0/24 }}`{LIBRARY}")),
            });
        }
    }
    if program.meshes.is_empty() && !lost.statement {
        diagnostics.extend(no_mesh(resolution));
    }
}

/// A file that only others import is fine by itself, but reaches nobody; an empty one is a mistake.
fn no_mesh(resolution: &Resolution) -> Option<Diagnostic> {
    let diagnostic = match (resolution.first_statement, resolution.first_file) {
        (Some(_), _) if resolution.is_library => return None,
        (Some(span), _) => {
            Diagnostic::new(Code::EmptyMesh, "there is no mesh, so nothing here reaches anybody")
                .severity(Severity::Warning)
                .label(span, "for every mesh, and there is none")
        }
        (None, Some(file)) => Diagnostic::new(Code::EmptyMesh, "the policy is empty")
            .label(Span { file, start: 0, end: 0 }, "no statement in it"),
        (None, None) => return None,
    };
    Some(
        diagnostic
            .help(format!("write a mesh with a workload: `mesh NAME {{ workload NAME {{ … }} }}`{LIBRARY}")),
    )
}

#[cfg(test)]
mod tests {
    use crate::check::fixture::{diagnostics, expect};
    use crate::diag::Severity;

    #[test]
    fn a_mesh_needs_a_workload() {
        expect("mesh m { deny outbound }", &[("empty-mesh", "mesh `m` has no workload", &["m"])]);
    }

    #[test]
    fn a_workload_in_another_block_of_the_mesh_will_do() {
        expect("mesh m { deny outbound }\nmesh m { workload a { any } }", &[]);
    }

    #[test]
    fn a_workload_that_could_not_be_read_is_not_missed() {
        expect(
            "mesh m { workload 7up { any } }\nmesh n { blob bar { any } }",
            &[
                ("syntax", "expected a name, found `7up`", &["7up"]),
                ("syntax", "`blob` does not begin a statement", &["blob"]),
            ],
        );
        expect("mesh m { deny outbound", &[("syntax", "a block is never closed", &["{"])]);
    }

    #[test]
    fn a_library_needs_nobody() {
        expect("# Ours.\n# meshc: library\n\nset s = 1.1.1.1\nmesh m { deny outbound }", &[]);
        expect("# meshc: library\nset s = 1.1.1.1\nredirect outbound tcp 80 -> 15001", &[]);
        expect("# meshc: library\n", &[("empty-mesh", "the policy is empty", &[""])]);
    }

    #[test]
    fn an_empty_policy_is_an_error_and_one_without_a_mesh_a_warning() {
        expect("# nothing\n", &[("empty-mesh", "the policy is empty", &[""])]);
        let (_, found) = diagnostics("deny outbound\n");
        assert_eq!(found[0].severity, Severity::Warning);
    }
}
