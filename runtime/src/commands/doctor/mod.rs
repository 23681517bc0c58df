//! What this kernel and machine can do: every feature is tried, none is guessed from a version.
//!
//! Maps and programs are the real ones. They are pinned in file systems that nobody else sees, attached to a
//! cgroup made for it and to network namespaces that end with the thread or process that made them; a member
//! then opens real connections. Nothing is left, whatever happens, but an empty cgroup where the process is
//! killed, which the next look removes.

#[cfg(feature = "acceleration")]
mod acceleration;
mod checkup;
mod feature;
mod findings;
mod namespace;
mod nftables;
#[cfg(not(feature = "acceleration"))]
mod no_acceleration;
mod probes;
mod trial;

use std::process::Command;

pub use crate::system::linux::Translation;
pub use checkup::{Checkup, DoctorTarget, Finding, Outcome, Rights};
pub use feature::{Feature, Need};
pub use mesh_nft::PRIORITY as RULESET_PRIORITY;
pub use trial::trial;

use crate::commands::preflight;
use crate::system::linux::{Kernel, translations};

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
pub fn examine(target: &DoctorTarget, member: Command) -> Checkup {
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
            [] => probes::all(&kernel, target, member),
            // The kernel would refuse everything alike, and that would say nothing of it.
            _ => vec![probes::rights(&missing)],
        },
        translations: translations().unwrap_or_default(),
        rights: COMMANDS.iter().map(|(commands, needed)| Rights { commands, lacks: lacks(needed) }).collect(),
    }
}
