//! Brings back what is not as it was applied.

use std::collections::BTreeSet;

use mesh_bpf::tables::Tables;
use mesh_runtime::{Apply, Drift, Owner};
use tracing::{error, info, warn};

use super::cgroups::refresh;
use super::log;
use super::policy::{PolicyKeeper, note};
use super::state::Shared;

/// A repair that helped nothing is not tried again for this many looks.
const GIVING_UP: u32 = 20;

/// Repairs: first what costs nothing, then everything.
#[derive(Debug, Default)]
pub(super) struct Repairer {
    /// Looks until a repair is tried again.
    patience: u32,
    /// What it did not help against.
    given_up: BTreeSet<Drift>,
}

impl Repairer {
    pub(super) fn repair(&mut self, shared: &Shared, policy: &PolicyKeeper) {
        let (drift, _) = drift(shared);
        if !self.tries(&drift) {
            return;
        }
        for what in &drift {
            let (code, words) = (what.code(), (shared.wording.drift)(what));
            warn!(code, drift = words, "the kernel is not as the policy says");
        }
        refresh(&shared.runtime);
        let (now, owner) = self::drift(shared);
        if !left(&drift, now).is_empty() {
            write_again(shared, policy.tables().filter(|_| owner == Owner::Agent), owner);
        }
        let left = left(&drift, self::drift(shared).0);
        if left.is_empty() {
            shared.change(|state| state.repaired += 1);
            info!("repaired");
        }
        for what in &left {
            error!(code = what.code(), drift = (shared.wording.drift)(what), "it cannot be repaired");
        }
        self.give_up(&left);
    }

    /// Whether something is to be repaired. What a repair did not help against has its rest.
    fn tries(&mut self, drift: &[Drift]) -> bool {
        if drift.is_empty() {
            self.given_up.clear();
            return false;
        }
        let is_known = drift.iter().all(|what| self.given_up.contains(&what.uncounted()));
        if is_known && self.patience > 0 {
            self.patience -= 1;
            return false;
        }
        true
    }

    fn give_up(&mut self, left: &[Drift]) {
        if !left.is_empty() {
            self.patience = GIVING_UP;
        }
        self.given_up = left.iter().map(Drift::uncounted).collect();
    }
}

/// What drifted and can be brought back, and who applied what is live.
fn drift(shared: &Shared) -> (Vec<Drift>, Owner) {
    match shared.runtime.status() {
        Ok(status) => (repairable(status.drift), status.head.owner),
        Err(error) => {
            log::failed("cannot tell whether anything drifted", &error);
            (Vec::new(), Owner::Agent)
        }
    }
}

/// What a repair may help against: no cgroup is made by one, and no address taken from the node.
fn repairable(mut drift: Vec<Drift>) -> Vec<Drift> {
    use Drift::{AttachedCgroupGone, CgroupMissing, NodeAddressesMany};
    drift.retain(|what| !matches!(what, CgroupMissing(_) | AttachedCgroupGone(_) | NodeAddressesMany(_)));
    drift
}

/// What there is now and was before. What is new meanwhile is for the next look.
fn left(before: &[Drift], mut now: Vec<Drift>) -> Vec<Drift> {
    let before: BTreeSet<Drift> = before.iter().map(Drift::uncounted).collect();
    now.retain(|what| before.contains(&what.uncounted()));
    now
}

/// Writes the policy again, the directory's or else the one that is live; whoever applied it, its owner stays.
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

#[cfg(test)]
mod tests {
    use mesh_runtime::Full;

    use super::*;

    fn full(connections: i64) -> Drift {
        Drift::RedirectedFull(Full { member: "cart".into(), user: None, connections })
    }

    fn missing(member: &str) -> Drift {
        Drift::MemberMissing(member.into())
    }

    #[test]
    fn a_cgroup_that_is_not_there_is_no_work_and_a_member_of_its_name_is() {
        let path = "/system.slice/cart.service";
        let found = repairable(vec![Drift::CgroupMissing(path.into()), missing(path)]);
        assert_eq!(found, [missing(path)]);
    }

    #[test]
    fn what_a_repair_did_not_help_against_rests_though_its_number_moves() {
        let mut repairer = Repairer::default();
        assert!(repairer.tries(&[full(7)]));
        let left = left(&[full(7)], vec![full(8), missing("new")]);
        assert_eq!(left, [full(8)]);
        repairer.give_up(&left);
        for _ in 0..GIVING_UP {
            assert!(!repairer.tries(&[full(9)]));
        }
        assert!(repairer.tries(&[full(9)]));
    }

    #[test]
    fn something_else_is_repaired_at_once_and_what_went_away_is_new_when_it_comes_back() {
        let mut repairer = Repairer::default();
        repairer.give_up(&[missing("one")]);
        assert!(repairer.tries(&[missing("one"), missing("two")]));
        assert!(!repairer.tries(&[missing("one")]));
        assert!(!repairer.tries(&[]));
        assert!(repairer.tries(&[missing("one")]));
    }
}
