//! What the agent's threads share: the runtime, and what the agent knows of itself for reports, health and metrics.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mesh_runtime::{Drift, Runtime, Warning};

use crate::wire::Report;

/// What puts facts into words, for the log.
#[derive(Clone, Copy, Debug)]
pub struct Wording {
    /// What drifted.
    pub drift: fn(&Drift) -> String,
    /// What should be known of a policy that is live.
    pub warning: fn(&Warning) -> String,
}

/// The runtime and the state, for every thread and keeper.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) runtime: Arc<Runtime>,
    pub(super) wording: Wording,
    state: Arc<Mutex<AgentState>>,
}

impl Shared {
    pub(super) fn new(runtime: Runtime, wording: Wording, directory: Option<String>) -> Self {
        let state = AgentState {
            report: Report { pid: std::process::id(), directory, ..Report::default() },
            ..AgentState::default()
        };
        Self { runtime: Arc::new(runtime), wording, state: Arc::new(Mutex::new(state)) }
    }

    /// What is known now.
    pub(super) fn state(&self) -> AgentState {
        self.state.lock().map(|state| state.clone()).unwrap_or_default()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut AgentState)) {
        if let Ok(mut state) = self.state.lock() {
            change(&mut state);
        }
    }
}

/// Numbers and words.
#[derive(Clone, Debug, Default)]
pub(super) struct AgentState {
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
