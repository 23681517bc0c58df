//! Brings back what is not as it was applied.

use mesh_bpf::tables::Tables;
use mesh_runtime::{Apply, Owner};
use tracing::{error, info, warn};

use super::cgroups::{CgroupKeeper, refresh};
use super::log;
use super::policy::{PolicyKeeper, note};
use super::state::Shared;

/// A repair that helped nothing is not tried again for so many looks.
const GIVING_UP: u32 = 20;

/// Repairs: first what costs nothing, then everything.
#[derive(Debug, Default)]
pub(super) struct Repairer {
    /// Looks until a repair is tried again.
    patience: u32,
    /// What it did not help against.
    given_up: Vec<String>,
}

impl Repairer {
    pub(super) fn repair(&mut self, shared: &Shared, cgroups: &CgroupKeeper, policy: &PolicyKeeper) {
        let (drift, _) = drift(shared, cgroups);
        let is_known = drift.iter().all(|what| self.given_up.contains(what));
        if drift.is_empty() {
            self.given_up.clear();
            return;
        }
        if is_known && self.patience > 0 {
            self.patience -= 1;
            return;
        }
        for what in &drift {
            warn!(drift = what, "the kernel is not as the policy says");
        }
        refresh(&shared.runtime);
        let (left, owner) = self::drift(shared, cgroups);
        if left.iter().any(|what| drift.contains(what)) {
            write_again(shared, policy.tables().filter(|_| owner == Owner::Agent), owner);
        }
        // What is new meanwhile is for the next look.
        let (mut left, _) = self::drift(shared, cgroups);
        left.retain(|what| drift.contains(what));
        if left.is_empty() {
            shared.change(|state| state.repaired += 1);
            info!("repaired");
        } else {
            for what in &left {
                error!(drift = what, "it cannot be repaired");
            }
            self.patience = GIVING_UP;
        }
        self.given_up = left;
    }
}

/// What drifted and can be brought back, and who applied what is live. A cgroup that is not there cannot.
fn drift(shared: &Shared, cgroups: &CgroupKeeper) -> (Vec<String>, Owner) {
    let status = match shared.runtime.status() {
        Ok(status) => status,
        Err(error) => {
            log::failed("cannot tell whether anything drifted", &error);
            return (Vec::new(), Owner::Agent);
        }
    };
    let missing: Vec<String> =
        cgroups.missing(&shared.runtime).into_iter().map(|path| format!("`{path}`")).collect();
    let mut drift = status.drift;
    drift.retain(|what| !missing.iter().any(|path| what.contains(path)));
    (drift, status.head.owner)
}

/// Writes the policy again, the folder's or else the one that is live; whoever applied it, its owner stays.
fn write_again(shared: &Shared, wanted: Option<&Tables>, owner: Owner) {
    // Tables that were damaged in the kernel are kept as they were applied.
    let kept = || {
        let generation = shared.runtime.head().ok()?.generation;
        Some(shared.runtime.kept(generation).ok()?.1)
    };
    let Some(tables) = wanted.cloned().or_else(kept) else { return };
    let request = Apply { owner, repair: true, origin: "repair by the agent", ..Apply::of(&tables) };
    match shared.runtime.apply(request) {
        Ok(applied) => note(shared, &applied),
        Err(error) => log::failed("the policy cannot be written again", &error),
    }
}
