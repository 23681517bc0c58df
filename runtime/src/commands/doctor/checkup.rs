//! What is looked at, and what was found.

use std::path::PathBuf;

use super::feature::{Feature, Need};
use crate::instance::Backend;
use crate::system::linux::Translation;

/// Where to look: as an instance has it, but what is missing is part of the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoctorTarget {
    /// The directory that pins are to be below.
    pub bpffs: PathBuf,
    /// Where the version 2 hierarchy is mounted, if it is.
    pub hierarchy: Option<PathBuf>,
    /// The cgroup that programs are to be attached to.
    pub cgroup: PathBuf,
}

/// What became of a feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was tried, and works.
    Works,
    /// It was tried, and does not; what the kernel said.
    Fails(String),
    /// It could not be tried; what it would have needed.
    Untried(String),
}

/// A feature, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub feature: Feature,
    /// What became of it.
    pub outcome: Outcome,
}

/// Commands with the capabilities that they need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Their names.
    pub commands: &'static [&'static str],
    /// Those that this process lacks.
    pub lacks: Vec<&'static str>,
}

/// All that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkup {
    /// The kernel's release.
    pub kernel: String,
    /// Every feature.
    pub findings: Vec<Finding>,
    /// Who else translates destinations in this network namespace, in their order.
    pub translations: Vec<Translation>,
    /// Who may do what.
    pub rights: Vec<Rights>,
}

impl Checkup {
    /// Capabilities for want of which nothing was tried.
    #[must_use]
    pub fn lacks(&self) -> Vec<&'static str> {
        let mut lacks: Vec<_> = self.rights.iter().flat_map(|rights| rights.lacks.iter().copied()).collect();
        lacks.sort_unstable();
        lacks.dedup();
        lacks
    }

    /// Whether this node can enforce policies by a backend, by this process: every feature that all policies need there
    /// works.
    #[must_use]
    pub fn is_able(&self, backend: Backend) -> bool {
        let concerns = |feature: &Feature| {
            feature.need == Need::Everything && feature.backend.is_none_or(|only| only == backend)
        };
        let mut needed = self.findings.iter().filter(|finding| concerns(&finding.feature));
        // Where nothing of it was tried, nobody knows.
        let was_tried = self.findings.iter().any(|finding| finding.feature.backend == Some(backend));
        was_tried && needed.all(|finding| finding.outcome == Outcome::Works)
    }
}
