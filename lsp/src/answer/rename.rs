//! Renaming what is declared, wherever it is named.

use std::collections::BTreeMap;

use lsp_types::{PrepareRenameResponse, TextEdit};
use mesh_compiler::diag::Code;
use mesh_compiler::hir::{SERVICE, Service};
use mesh_compiler::parse::parse_file;
use mesh_compiler::resolve::{Loader, Location, Services, load, resolve};
use mesh_compiler::source::{FileId, Span};
use mesh_grammar::statement::is_name;

use super::index::{self, Declared, Kind};
use super::{View, range};
use crate::program::Program;
use crate::text::Text;

/// What would be renamed at a place.
pub fn prepare(view: View<'_>, offset: usize) -> Option<PrepareRenameResponse> {
    let Some((declared, span)) = index::at(view.program, view.file, offset) else {
        let (_, span) = index::service_at(view.program, view.file, offset)?;
        let placeholder = view.program.words(span).trim_start_matches(SERVICE).trim().to_owned();
        let range = range(&Text::new(view.text()), span);
        let start = u32::try_from(SERVICE.len()).unwrap_or(0) + 1;
        let start = lsp_types::Position { character: range.start.character + start, ..range.start };
        let range = lsp_types::Range { start, ..range };
        return Some(PrepareRenameResponse::RangeWithPlaceholder { range, placeholder });
    };
    let range = range(&Text::new(view.text()), span);
    Some(PrepareRenameResponse::RangeWithPlaceholder { range, placeholder: declared.name.value.clone() })
}

/// Edits by what stands for their files.
pub type Edits = BTreeMap<String, Vec<TextEdit>>;

/// What has to change.
///
/// # Errors
/// Why it cannot be renamed so, in words.
pub fn rename(view: View<'_>, offset: usize, name: &str) -> Result<Edits, String> {
    let program = view.program;
    let Some((declared, _)) = index::at(program, view.file, offset) else {
        let (service, _) = index::service_at(program, view.file, offset)
            .ok_or("here is no name of a set, a group, a workload, a mesh or a service")?;
        return rename_service(program, service, name);
    };
    if !is_name(name) {
        return Err(format!(
            "`{name}` cannot be a name: letters, digits, `_` and `-`, a letter first, and no word of the language"
        ));
    }
    let lost = &program.compilation.resolution.lost;
    if lost.statement || lost.file {
        return Err("a part of the policy cannot be read, and may hold the name: correct it first".to_owned());
    }
    let mut spans: Vec<Span> = index::uses(program, declared).collect();
    spans.extend(index::declarations(program, declared));
    spans.sort_unstable();
    spans.dedup();
    if name != declared.name.value {
        keeps_its_meaning(program, declared, &spans, name)?;
    }
    let mut edits = Edits::new();
    for span in spans {
        let (Some(key), Some(source)) = (program.key(span.file), program.source(span.file)) else { continue };
        let range = range(&Text::new(&source.text), span);
        edits.entry(key.to_owned()).or_default().push(TextEdit { range, new_text: name.to_owned() });
    }
    Ok(edits)
}

/// Another service at each place where one is named.
fn rename_service(program: &Program, service: &Service, name: &str) -> Result<Edits, String> {
    let text = format!("deny outbound to {SERVICE} {name}");
    let (tree, found) = parse_file(FileId::new(0), &text);
    if !found.is_empty() || tree.body.rules.len() != 1 || tree.services().count() != 1 || name.contains('#') {
        return Err(format!("`{name}` cannot be the name of a service: `NAME` or `NAMESPACE/NAME`"));
    }
    let mut edits = Edits::new();
    for &span in &service.uses {
        let (Some(key), Some(source)) = (program.key(span.file), program.source(span.file)) else { continue };
        let range = range(&Text::new(&source.text), span);
        let new_text = format!("{SERVICE} {name}");
        edits.entry(key.to_owned()).or_default().push(TextEdit { range, new_text });
    }
    Ok(edits)
}

/// Whether every name stands for what it stood for before. It is resolved once more, with the new name.
fn keeps_its_meaning(
    program: &Program,
    declared: Declared<'_>,
    spans: &[Span],
    name: &str,
) -> Result<(), String> {
    let taken = || format!("`{name}` is taken, or would be mistaken for something else");
    if declared.kind == Kind::Mesh
        && index::all(program).any(|other| other.kind == Kind::Mesh && other.name.value == name)
    {
        return Err(format!("there is a mesh `{name}` already, and the two would become one"));
    }
    let mut texts: Vec<String> =
        program.compilation.files.sources.iter().map(|(_, source)| source.text.clone()).collect();
    for span in spans.iter().rev() {
        if let Some(text) = texts.get_mut(span.file.index()) {
            text.replace_range(span.start as usize..span.end as usize, name);
        }
    }
    let locations = program.compilation.files.locations.iter().cloned();
    let given = locations.zip(texts.into_iter().map(String::into_bytes)).collect();
    let (files, found) = load(given, &mut AllGiven);
    // What services stand for is no matter of names.
    let (resolution, found) = resolve(&files, found, &Services::new());
    let errors = |all: &[mesh_compiler::diag::Diagnostic]| {
        // Nothing is imported here: all files are given.
        all.iter().filter(|it| !matches!(it.code, Code::ImportMissing | Code::ImportCycle)).count()
    };
    let (before, was) = {
        let files = &program.compilation.files;
        let (resolution, found) = resolve(files, Vec::new(), &Services::new());
        (resolution, errors(&found))
    };
    let moved = |span: Span| Span {
        start: moved(spans, name, span.file, span.start),
        end: moved(spans, name, span.file, span.end),
        ..span
    };
    let expected = before.uses.iter().map(|it| (moved(it.span), moved(it.declared)));
    let same = expected.eq(resolution.uses.iter().map(|it| (it.span, it.declared)));
    if same && errors(&found) == was { Ok(()) } else { Err(taken()) }
}

/// Where a byte is after the renaming. The first byte of a name stays, its end moves.
fn moved(spans: &[Span], name: &str, file: FileId, at: u32) -> u32 {
    let before = spans.iter().filter(|span| span.file == file && span.end <= at && span.start < at);
    let new = u32::try_from(name.len()).unwrap_or(u32::MAX);
    let (count, old) =
        before.fold((0u32, 0u32), |(count, old), span| (count + 1, old + (span.end - span.start)));
    (at + count.saturating_mul(new)).saturating_sub(old)
}

/// Every file is given, so nothing has to be imported.
struct AllGiven;

impl Loader for AllGiven {
    fn find(&mut self, _: &Location, _: &str) -> Result<Vec<Location>, String> {
        Ok(Vec::new())
    }

    fn read(&mut self, _: &Location) -> Result<Vec<u8>, String> {
        Err(String::new())
    }
}
