//! What the agent knows of itself: for its reports, its health and its metrics.

use std::time::{Duration, Instant};

use crate::wire::Report;

/// Numbers and words that the agent's threads share.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) report: Report,
    /// When the agent last looked at everything.
    pub(super) looked: Option<Instant>,
    pub(super) applies: Applies,
    pub(super) attached: u64,
    pub(super) detached: u64,
    pub(super) refused: u64,
    pub(super) let_in: u64,
    pub(super) swept: u64,
    pub(super) repaired: u64,
}

/// Applies since the agent started.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Applies {
    pub(super) done: u64,
    pub(super) failed: u64,
    /// Milliseconds to wait for the free slot, to write it, and to commit.
    pub(super) phases: [u64; 3],
    pub(super) compiling: Duration,
    pub(super) compiled: u64,
}

impl Facts {
    pub(super) fn new(folder: Option<String>) -> Self {
        Self {
            report: Report { pid: std::process::id(), folder, ..Report::default() },
            looked: None,
            applies: Applies::default(),
            attached: 0,
            detached: 0,
            refused: 0,
            let_in: 0,
            swept: 0,
            repaired: 0,
        }
    }
}
