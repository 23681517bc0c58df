//! What this kernel and machine offer: every feature is tried, none is guessed from a version.
//!
//! Maps and programs are the real ones. They are pinned in file systems that nobody else sees, attached to a
//! cgroup made for it and to network namespaces that end with the thread or process that made them; a member
//! then opens real connections. Nothing is left, whatever happens, but an empty cgroup where the process is
//! killed, which the next look removes.

mod feature;
mod probes;
mod trial;

use std::path::PathBuf;
use std::process::Command;

pub use feature::{Feature, Need};
pub use trial::trial;

use crate::commands::preflight;
use crate::system::linux::Kernel;

/// Where to look: as an instance has it, but what is missing is part of the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bed {
    /// The folder that pins are to be below.
    pub bpffs: PathBuf,
    /// Where the version 2 hierarchy is mounted, if it is.
    pub hierarchy: Option<PathBuf>,
    /// The cgroup that programs are to be attached to.
    pub cgroup: Option<PathBuf>,
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

    /// Whether policies can be carried out here, by this process: every feature that all need works.
    #[must_use]
    pub fn is_able(&self) -> bool {
        (self.findings.iter())
            .all(|finding| finding.feature.need != Need::Everything || finding.outcome == Outcome::Works)
    }
}

/// Commands by what the kernel, or meshc before it, asks of them: one of each group. The others need no rights.
const COMMANDS: [(&[&str], &[&[&str]]); 3] = [
    // These are refused before their first write where one is missing.
    (&["apply", "rollback", "restore"], &[&["CAP_NET_ADMIN"], &["CAP_SYS_ADMIN"], &["CAP_BPF"]]),
    // Maps by id, namespaces.
    (
        &["attach", "run", "status", "show", "observe", "plan", "history", "explain --live", "diff live"],
        &[&["CAP_SYS_ADMIN"]],
    ),
    // Pins are files: who may write them may use them, where the kernel asks for no more than that.
    (&["pause", "resume", "detach"], &[&[OPEN, "CAP_BPF", "CAP_SYS_ADMIN"]]),
];

/// In a group: nothing is asked for where whoever has an object may use it.
const OPEN: &str = "";

/// Looks at the machine. `member` starts a process that calls [`trial`] and prints what it returns, a line for each
/// part: it is run in a cgroup that is a member.
#[must_use]
pub fn examine(bed: &Bed, member: Command) -> Checkup {
    let kernel = Kernel::new();
    let missing = preflight::own_missing_rights(&kernel);
    let is_open = kernel.may_use_pins();
    let lacking = |name: &&str| if *name == OPEN { !is_open } else { missing.contains(name) };
    let lacks = |needed: &[&[&'static str]]| {
        let unmet = needed.iter().filter(|group| group.iter().all(lacking));
        unmet.filter_map(|group| group.iter().copied().find(|name| *name != OPEN)).collect()
    };
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    Checkup {
        kernel: release,
        findings: match missing.as_slice() {
            [] => probes::all(&kernel, bed, member),
            // The kernel would refuse everything alike, and that would say nothing of it.
            _ => vec![probes::rights(&missing)],
        },
        rights: COMMANDS.iter().map(|(commands, needed)| Rights { commands, lacks: lacks(needed) }).collect(),
    }
}
