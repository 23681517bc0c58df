//! Time and processes.

use serde::{Deserialize, Serialize};

/// A process, so that it can be told from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub start: u64,
}

/// What the runtime asks a machine about time and processes.
pub trait Clock {
    /// Milliseconds since 1970. Other people set this clock; nothing depends on it but what is shown.
    fn wall_clock(&self) -> u64;
    /// Milliseconds since boot, on a clock that nobody sets and that is the same for every process.
    fn clock(&self) -> u64;
    /// Sleeps.
    fn sleep(&self, milliseconds: u64);
    /// This process.
    fn this_process(&self) -> Process;
    /// Whether that very process lives.
    fn is_alive(&self, process: Process) -> bool;
}
