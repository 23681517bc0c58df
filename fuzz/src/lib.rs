//! What no input may break, and random programs to try it with.
//!
//! A [`law`] takes an input and says what it breaks. The same laws are run by libFuzzer (`targets/`, with
//! coverage as its guide: `fuzz/run`), by `tests/` on programs from seeds, and on every input that once
//! broke one (`regressions/`).
//!
//! The crate knows the compiler from outside only: it hands over bytes, and compares what comes back.

pub mod choice;
pub mod cluster;
pub mod law;
pub mod outline;
pub mod program;
pub mod random;
pub mod ruleset;

use std::fmt;

/// A law that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which, in words.
    pub law: &'static str,
    /// What was found instead, with the input where it was made on the way.
    pub found: String,
}

impl Broken {
    /// A law that does not hold, with what was found instead.
    pub fn new(law: &'static str, found: impl Into<String>) -> Self {
        Self { law, found: found.into() }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.law, self.found)
    }
}

impl std::error::Error for Broken {}

/// What a law says about an input.
pub type Held = Result<(), Broken>;

/// Nothing if it holds.
fn holds(law: &'static str, it: bool, found: impl FnOnce() -> String) -> Held {
    if it { Ok(()) } else { Err(Broken::new(law, found())) }
}
