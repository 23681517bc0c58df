//! Any bytes as a file: they are read without a panic, every message points at something, and formatting
//! is a fixed point that changes no meaning.

use mesh_compiler::ast;
use mesh_compiler::diag::Diagnostic;
use mesh_compiler::format::format;
use mesh_compiler::parse::parse_file;
use mesh_compiler::source::{FileId, Sources};

use crate::{Broken, Held, holds};

/// Messages about one file at the most, so that no input makes more output than a person can use. The
/// last counts those that are not told.
const TOLD: usize = 1001;

/// What holds of any file.
///
/// # Errors
/// The law that it breaks.
pub fn text(bytes: &[u8]) -> Held {
    let mut sources = Sources::default();
    let (id, found) = sources.add("fuzz.mesh", bytes.to_vec());
    every_place_is_real(&sources, &found)?;
    let Some(source) = sources.get(id).filter(|source| source.is_readable()) else {
        return holds("a file that cannot be read has a message", !found.is_empty(), || "none".to_owned());
    };
    let (tree, found) = parse_file(id, &source.text);
    every_place_is_real(&sources, &found)?;
    holds("messages about a file are bounded", found.len() <= TOLD, || format!("{}", found.len()))?;
    match format(id, &source.text) {
        Ok(formatted) => {
            holds("only what reads is formatted", found.is_empty(), || format!("{found:?}"))?;
            formatting(id, &source.text, &formatted, &tree)
        }
        Err(again) => holds("formatting refuses what reading refuses", again == found, || {
            format!("{again:?} and {found:?}")
        }),
    }
}

/// Every label lies in a file, at the ends of characters.
pub(super) fn every_place_is_real(sources: &Sources, found: &[Diagnostic]) -> Held {
    for diagnostic in found {
        for label in &diagnostic.labels {
            let (start, end) = (label.span.start as usize, label.span.end as usize);
            let text = sources.get(label.span.file).map(|source| source.text.as_str());
            let real = text.is_some_and(|text| text.get(start..end).is_some());
            holds("every message underlines source", real, || format!("{diagnostic:?}"))?;
        }
    }
    Ok(())
}

fn formatting(id: FileId, text: &str, formatted: &str, tree: &ast::File) -> Held {
    let again = format(id, formatted)
        .map_err(|found| Broken::new("what is formatted reads", format!("{found:?}\n{formatted}")))?;
    holds("formatting is a fixed point", again == *formatted, || format!("{formatted}\nthen\n{again}"))?;
    let comments = |text: &str| text.bytes().filter(|&byte| byte == b'#').count();
    holds("formatting keeps every comment", comments(text) == comments(formatted), || formatted.to_owned())?;
    let (read, _) = parse_file(id, formatted);
    holds("formatting changes no meaning", meaning(&read) == meaning(tree), || formatted.to_owned())
}

/// A tree without places.
fn meaning(tree: &ast::File) -> String {
    let shown = format!("{tree:?}");
    let mut rest = shown.as_str();
    let mut meaning = String::with_capacity(shown.len());
    while let Some((before, after)) = rest.split_once("Span {") {
        meaning.push_str(before);
        rest = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    meaning.push_str(rest);
    meaning
}
