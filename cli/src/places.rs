//! File and line of every item of the live policy. They live beside the image, outside its digest: an apply
//! of the same policy refreshes them without a new generation.

use std::path::Path;

use mesh_compiler::compile::Compilation;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::files;

/// Where items are written, by the keys of their counters.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Places {
    files: Vec<String>,
    /// Key, index of the file, line.
    lines: Vec<(u64, u32, u32)>,
}

impl Places {
    /// Those of a program that compiled.
    pub fn of(compilation: &Compilation) -> Self {
        let sources = &compilation.files.sources;
        let files = sources.iter().map(|(_, source)| source.name.clone()).collect();
        let origins = compilation.compiled.iter().flat_map(|compiled| compiled.origins.by_counter());
        let lines = origins
            .filter_map(|(key, span)| {
                let source = sources.get(span.file)?;
                Some((key, u32::try_from(span.file.index()).ok()?, source.line(span.start)))
            })
            .collect();
        Self { files, lines }
    }

    /// File and line of the item that this counter is of.
    pub fn find(&self, key: u64) -> Option<(&str, u32)> {
        let at = self.lines.binary_search_by_key(&key, |&(key, ..)| key).ok()?;
        let &(_, file, line) = self.lines.get(at)?;
        Some((self.files.get(file as usize)?, line))
    }

    /// Reads those of an instance. Where the file is missing or damaged nothing is known of any item: the
    /// policy itself is in the kernel.
    pub fn read(file: &Path) -> Self {
        let bytes = std::fs::read(file).unwrap_or_default();
        postcard::from_bytes(&bytes).unwrap_or_default()
    }

    /// Keeps them.
    pub fn write(&self, file: &Path) -> Result<(), Failure> {
        let bytes = postcard::to_stdvec(self).map_err(|error| {
            Failure::cannot("places", format!("cannot keep which line each item is from: {error}"))
        })?;
        files::write_private(file, &bytes)
    }
}
