//! Names that no two living processes share, and that tell who made a thing.

use std::fmt;
use std::process;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::sweep::{self, PREFIX};

static SWEPT: Once = Once::new();
static NEXT: AtomicU32 = AtomicU32::new(1);

/// The name of one namespace, cgroup or directory: `mtb-PID-N`.
///
/// The process id lets a later process see that the maker is dead, which is the only thing that survives
/// `kill -9`. At most 18 bytes long: too long for an interface, whose names need be unique only within
/// their namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// A name that this process has not used yet.
    ///
    /// The first call of a process sweeps what dead processes left, before anything of its own exists:
    /// an old process may have had the same id.
    pub fn new() -> Self {
        SWEPT.call_once(|| sweep::sweep(process::id()));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("{PREFIX}{}-{number}", process::id()))
    }

    /// The text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Name {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_tell_their_maker() {
        let (one, two) = (Name::new(), Name::new());
        assert_ne!(one, two);
        assert!(sweep::is_left_over(one.as_str(), process::id()) && !sweep::is_left_over(one.as_str(), 0));
    }
}
