//! What was decided, counted by verdict.

use mesh_bpf::abi::{COUNTED_EXEMPT, MemberCounts, VERDICT_DENIED, VERDICT_EXCLUDED, VERDICT_REDIRECTED};
use serde::{Deserialize, Serialize};

/// Nanoseconds in a millisecond.
const NANOS: u64 = 1_000_000;

/// Decisions by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decisions {
    /// Sent to the sidecar.
    pub redirected: u64,
    /// Went straight.
    pub excluded: u64,
    /// Refused.
    pub denied: u64,
    /// Of exempt processes.
    pub exempt: u64,
    /// When one was last denied, in milliseconds since boot.
    pub denied_at: Option<u64>,
}

impl Decisions {
    pub(super) fn add(&mut self, other: &Self) {
        self.redirected += other.redirected;
        self.excluded += other.excluded;
        self.denied += other.denied;
        self.exempt += other.exempt;
        self.denied_at = self.denied_at.max(other.denied_at);
    }

    pub(super) fn of(counts: &MemberCounts) -> Self {
        let decided = |verdict: usize| counts.decided.get(verdict).copied().unwrap_or_default();
        Self {
            redirected: decided(VERDICT_REDIRECTED.into()),
            excluded: decided(VERDICT_EXCLUDED.into()),
            denied: decided(VERDICT_DENIED.into()),
            exempt: decided(COUNTED_EXEMPT as usize),
            denied_at: (counts.denied_at > 0).then_some(counts.denied_at / NANOS),
        }
    }
}
