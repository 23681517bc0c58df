//! The one gate: everything that the runtime does to a kernel, a file system or a clock goes through
//! [`System`], one call a step.
//!
//! That makes each step a place where a test can fail the call, or end the process: see
//! `faults`, with the feature `testing`. A step is atomic, or harmless when cut in two; what is not (a
//! file, a set of pins) is made beside its place and renamed.
//!
//! There is a trait for each subject, and a file with its implementation for each machine. One that is not BPF says
//! which of them it has.

#[cfg(feature = "acceleration")]
mod acceleration;
mod clock;
mod error;
#[cfg(feature = "testing")]
pub mod faults;
mod files;
mod links;
pub(crate) mod linux;
mod maps;
#[cfg(feature = "testing")]
pub mod memory;
mod mounts;
mod netns;
pub(crate) mod nftables;
mod prepared;
mod programs;
mod rulesets;
mod sockets;

#[cfg(feature = "acceleration")]
pub use acceleration::Acceleration;
pub use clock::{Clock, Process};
pub use error::{SysError, SysResult};
pub use files::{Files, Locked};
pub use links::{LinkInfo, Links, Target};
pub use maps::{MapInfo, Maps, Word};
pub(crate) use mounts::{Mount, mounts};
pub use netns::HOST_NETNS;
pub use netns::{Netns, Network, Sources};
pub use prepared::Prepared;
pub(crate) use prepared::{Begun, Made, Waited};
pub use programs::{ProgramInfo, Programs};
pub use rulesets::{Held, Rulesets, Tracked};
pub use sockets::{Accepted, Holds, Noted, Sockets, Waits};

/// What a machine has for acceleration: nothing is asked of it in this build.
#[cfg(not(feature = "acceleration"))]
pub trait Acceleration {}

#[cfg(not(feature = "acceleration"))]
impl<S> Acceleration for S {}

/// What the runtime needs from a machine. Handles close what they hold when they are dropped.
pub trait System:
    Clock + Files + Netns + Rulesets + Maps + Programs + Links + Sockets + Acceleration
{
}

impl<S: Clock + Files + Netns + Rulesets + Maps + Programs + Links + Sockets + Acceleration> System for S {}
