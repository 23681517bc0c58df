//! Names that no two living processes share, and that tell who made a thing.

use std::fmt;
use std::path::Path;
use std::process;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::sweep;

/// What every name of this crate begins with; [`sweep`] looks for it.
const PREFIX: &str = "mtb-";

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

/// Whether `name` is one of ours whose maker is gone, or has the id of the process that asks.
pub(crate) fn is_left_over(name: &str, me: u32) -> bool {
    let Some(maker) = maker(name) else { return false };
    maker == me || !Path::new(&format!("/proc/{maker}")).exists()
}

fn maker(name: &str) -> Option<u32> {
    let (pid, number) = name.strip_prefix(PREFIX)?.split_once('-')?;
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_tell_their_maker() {
        let (one, two) = (Name::new(), Name::new());
        assert_ne!(one, two);
        assert_eq!(maker(one.as_str()), Some(process::id()));
    }

    #[test]
    fn only_names_of_the_dead_are_left_over() {
        // Process ids end below 2^22, so the first is nobody's.
        assert!(is_left_over("mtb-4194999-1", 7));
        assert!(is_left_over("mtb-7-1", 7));
        assert!(!is_left_over(&format!("mtb-{}-1", process::id()), 7));
        for other in ["mtb-", "mtb-x-1", "mtb-4194999", "mtb-4194999-x", "other-4194999-1", ""] {
            assert!(!is_left_over(other, 7), "{other}");
        }
    }
}
