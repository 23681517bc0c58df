//! What an observer tells.

use std::net::IpAddr;

use mesh_bpf::flow::{Direction, Protocol, Verdict};
use mesh_bpf::image::SourceKind;

/// What an observer has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObserverEvent {
    /// Something was decided.
    Decision(Box<Decided>),
    /// This many decisions did not fit the buffer.
    Lost(u64),
    /// The observer was stopped for so long that its place was given up: what was decided meanwhile is not known.
    Gap,
    /// This process was asked to end.
    Ended,
    /// Nothing came for as long as was to be waited.
    Silence,
}

/// A decision, with the names of whom and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Microseconds since 1970.
    pub time: u64,
    /// How often within a second from then on the same process asked for the same, and got the same answer: decisions that
    /// are told as they happen are told each, those that are kept take one place.
    pub times: u64,
    /// `mesh/workload`; none where the generation is not known any more.
    pub workload: Option<String>,
    /// The member: the pod's name, or the unit's; none where it has left.
    pub member: Option<String>,
    /// The process; none where no process asked, as for inbound connections.
    pub process: Option<ProcessInfo>,
    /// Which end the member is.
    pub direction: Direction,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where it comes from, as far as the kernel has chosen it.
    pub source: (Option<IpAddr>, Option<u16>),
    /// Where it was going.
    pub destination: (Option<IpAddr>, u16),
    /// The member at the other end, where the node has exactly one of that address.
    pub peer: Option<Peer>,
    /// What was decided.
    pub verdict: Verdict,
    /// What decided.
    pub reason: Reason,
    /// The generation that did.
    pub generation: u64,
    /// The digest, in hexadecimal, of its policy; none where it is not known any more.
    pub digest: Option<String>,
    /// The cookie of the network namespace that it is sent in.
    pub netns: u64,
}

/// A member at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// `mesh/workload`; none where it falls under no workload of that generation.
    pub workload: Option<String>,
    /// The member's name.
    pub member: String,
}

/// What is kept of the past.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recalled {
    /// What was decided, the oldest first.
    pub decisions: Vec<Decided>,
    /// From when on all that was asked for is kept, in microseconds since 1970, where something before that made room for
    /// later decisions.
    pub whole_since: Option<u64>,
}

/// The process that asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its number.
    pub pid: u32,
    /// Its effective user id.
    pub uid: u32,
    /// Its name.
    pub name: String,
}

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// An item of the generation's policy.
    Item {
        /// What it is.
        kind: SourceKind,
        /// Where it is written.
        scope: String,
        /// Its text.
        text: String,
        /// The key of its counter.
        key: u64,
    },
    /// The generation is neither live nor kept.
    Unknown,
}
