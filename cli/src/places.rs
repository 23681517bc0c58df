//! File and line of every item of a policy, and what its sets are. They are kept beside its artifact, outside its digest: an apply
//! of the same policy refreshes them without a new generation.

use mesh_bpf::prefix::Prefix;
use mesh_compiler::compile::Compilation;
use mesh_compiler::emit::{NamedSet, Sets};
use mesh_compiler::explain::Reason;
use mesh_compiler::source::Sources;
#[cfg(all(feature = "kernel", target_os = "linux"))]
use mesh_runtime::Runtime;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Where items are written, by the keys of their counters.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Places {
    files: Vec<String>,
    /// Key, index of the file, line.
    lines: Vec<(u64, u32, u32)>,
    /// Name, addresses, ports.
    sets: Vec<(String, Vec<Prefix>, Vec<String>)>,
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
        let sets = Sets::of(&compilation.resolution.program);
        let sets = sets.iter().map(|set| (set.name.clone(), set.addresses.clone(), set.ports.clone()));
        Self { files, lines, sets: sets.collect() }
    }

    /// File and line of the item that this counter is of.
    pub fn find(&self, key: u64) -> Option<(&str, u32)> {
        let at = self.lines.binary_search_by_key(&key, |&(key, ..)| key).ok()?;
        let &(_, file, line) = self.lines.get(at)?;
        Some((self.files.get(file as usize)?, line))
    }

    /// The sets of the policy.
    pub fn sets(&self) -> Sets {
        let sets = self.sets.iter().cloned();
        Sets::new(sets.map(|(name, addresses, ports)| NamedSet { name, addresses, ports }).collect())
    }

    /// Those that were kept of a policy, by its digest.
    #[cfg(all(feature = "kernel", target_os = "linux"))]
    pub fn kept(runtime: &Runtime, digest: &str) -> Self {
        Self::decode(&runtime.lines(digest).ok().flatten().unwrap_or_default())
    }

    /// From what was kept. Where that is missing or damaged nothing is known of any item: the policy itself is in the
    /// kernel.
    #[cfg_attr(
        not(all(feature = "kernel", target_os = "linux")),
        expect(dead_code, reason = "for commands that touch a kernel")
    )]
    pub fn decode(bytes: &[u8]) -> Self {
        postcard::from_bytes(bytes).unwrap_or_default()
    }

    /// What is kept.
    #[cfg_attr(
        not(all(feature = "kernel", target_os = "linux")),
        expect(dead_code, reason = "for commands that touch a kernel")
    )]
    pub fn encode(&self) -> Result<Vec<u8>, Failure> {
        postcard::to_stdvec(self).map_err(|error| {
            Failure::cannot("places", format!("cannot keep which line each item is from: {error}"))
        })
    }

    /// Whether no file is known, as of a policy that was given as an artifact.
    #[cfg_attr(
        not(all(feature = "kernel", target_os = "linux")),
        expect(dead_code, reason = "for commands that touch a kernel")
    )]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// Where items of explanations are written.
#[derive(Clone, Copy, Debug)]
pub enum Locations<'a> {
    /// In sources that are at hand.
    Sources(&'a Sources),
    /// Where they were when the policy was applied.
    #[cfg_attr(
        not(all(feature = "kernel", target_os = "linux")),
        expect(dead_code, reason = "for commands that touch a kernel")
    )]
    Kept(&'a Places),
}

impl Locations<'_> {
    /// File and line of an item.
    pub fn of(&self, reason: &Reason) -> Option<(&str, u32)> {
        match self {
            Self::Sources(sources) => {
                let span = reason.span?;
                let source = sources.get(span.file)?;
                Some((source.name.as_str(), source.line(span.start)))
            }
            Self::Kept(places) => places.find(reason.counter),
        }
    }
}
