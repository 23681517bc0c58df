//! Readers of the fast path that stall: facts, which whoever shows them puts into words.

use std::net::SocketAddr;

/// StallReason a reader waits for bytes that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StallReason {
    /// It turned to `splice` while bytes of the fast path were unread, which `splice` does not see.
    Splices,
    /// `FIONREAD` told it less than there was.
    Counts,
}

impl StallReason {
    /// The word in JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Splices => "splice",
            Self::Counts => "fionread",
        }
    }
}

/// What was done for a stalled reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rescue {
    /// Nothing yet.
    None,
    /// Its connection is not accelerated any more, and it was woken.
    Released,
    /// Its connection was closed, and both ends were told.
    Closed,
}

/// A reader that may wait for bytes that are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StuckReader {
    /// The name of its task.
    pub name: String,
    /// Its process.
    pub process: u32,
    /// Cookie of its network namespace.
    pub netns: u64,
    /// Its socket's cookie.
    pub cookie: u64,
    /// The connecting end.
    pub client: SocketAddr,
    /// The accepting end.
    pub server: SocketAddr,
    /// Whether it is the accepting end that waits.
    pub accepts: bool,
    /// StallReason.
    pub why: StallReason,
    /// How many bytes it has not read.
    pub unread: u64,
    /// Those of them that came past the stack.
    pub short: u64,
    /// Since when.
    pub milliseconds: u64,
    /// What was done.
    pub rescue: Rescue,
}
