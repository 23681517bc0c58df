//! Exit codes: the one type that says how a command ended.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or equal.
    Done = 0,
    /// Refused input: errors in the policy, a failed test.
    Refused = 1,
    /// Wrong usage.
    Usage = 2,
    /// There are differences or drift.
    Different = 3,
    /// This node cannot.
    Cannot = 4,
    /// Busy or stale: try again.
    Busy = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
