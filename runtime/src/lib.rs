//! Pushes a map image into the kernel, atomically, and says what the kernel holds. It knows nothing of the
//! policy language, prints nothing, and its threads end with the call that began them, or with [`Runtime::apply`].
//!
//! [`Runtime`] has one method a command:
//!
//! | method | takes | does |
//! |---|---|---|
//! | [`Runtime::prepare`] | | begins to load programs while the policy is compiled; [`Apply`] takes what it gives |
//! | [`Runtime::apply`] | [`Apply`] | makes a policy's tables live, or says that they are |
//! | [`Runtime::transition`] | an image | who would join, leave or change workload, and which `always` would go |
//! | [`Runtime::refresh`], [`Runtime::named_cgroups`] | | cgroups that were made since join; which there are |
//! | [`Runtime::head`] | | state, generation, digest, owner: whichever version applied |
//! | [`Runtime::status`] | | all that the kernel holds, is attached to, has counted, and what drifted |
//! | [`Runtime::members`], [`Runtime::hits`] | | who is registered; how often each item decided |
//! | [`Runtime::unheard`], [`Runtime::is_heard`], [`Runtime::not_taken`] | the live image | where no sidecar waits for what it is sent, and what was not taken |
//! | [`Runtime::held`] | the live image | where others have taken a sidecar's port |
//! | [`Runtime::observe`] | [`Filter`] | decisions as they happen |
//! | [`Runtime::recall`], [`Runtime::keep_decisions`] | [`Filter`] | the last decisions, whoever looked; whether they are kept |
//! | [`Runtime::live`] | | the live tables, read back |
//! | [`Runtime::pause`], [`Runtime::resume`] | | stops deciding and keeps everything; brings it back |
//! | [`Runtime::detach_all`] | purge? | leaves nothing in the kernel |
//! | [`Runtime::run`] | a workload and a command | runs it as a member |
//! | [`Runtime::join`], [`Runtime::leave`] | a workload | the cgroup that `run` runs it in |
//! | [`Runtime::attach`], [`Runtime::detach`] | [`Pod`], [`PodSelector`] | a pod comes or goes |
//! | [`Runtime::check`], [`Runtime::pods`], [`Runtime::sweep`] | [`PodSelector`] | whether a pod is as it should be; all of them; those that ended go |
//! | [`Runtime::label_namespaces`], [`Runtime::namespaces`] | labels by name | what the labels of Kubernetes namespaces are; which were told |
//! | [`Runtime::changes`], [`Runtime::follow`] | [`Key`] | tells when a pod's addresses change; brings what is known of them in line |
//! | [`Runtime::refuses`], [`Runtime::note_failed`], [`Runtime::failed`] | [`Pod`] | what the policy says of a pod that cannot be attached, and which could not |
//! | [`Runtime::history`], [`Runtime::kept`] | a generation | what was live, and its policy |
//! | [`Runtime::lines`] | a digest | which line of which file each item of a policy is from |
//! | [`Runtime::rollback`] | a generation | makes its policy live again |
//! | [`Runtime::restore`] | | after a boot: what was live before |
//! | [`Runtime::confirm`], [`Runtime::expire`] | | keeps, or takes back, what waits to be confirmed |
//!
//! # How a policy goes live
//! All programs read one word, the generation, once for each decision; its lowest bit names the slot whose
//! tables they then use. A writer fills the other slot and changes the word with one compare-and-swap
//! ([`apply`](Runtime::apply)). Killed at any step, the word has the old value or the new one, and
//! both slots' tables are whole; the next command finds out which by looking at the kernel, and sweeps what
//! is left over.
//!
//! Every effect goes through [`system::System`], so that tests can fail or end a command at each of its steps.

#![cfg(target_os = "linux")]

mod acceleration;
mod attach;
mod commands;
mod drift;
mod error;
mod generation;
mod instance;
mod maps;
mod member;
mod members;
mod node;
mod owner;
mod rulesets;
mod runtime;
mod state;
mod stuck_reader;
pub mod system;
mod warning;

pub use acceleration::{
    Acceleration, Carriage, Counting, FionreadReaderStatus, ItemCarriage, PairStatus, SpliceReaderStatus,
};
pub use commands::confirm::Expiry;
pub use commands::doctor;
pub use commands::failed::Failed;
pub use commands::history::Kept;
pub use commands::observe::{
    Decided, Filter, Observer, ObserverEvent, Peer, ProcessInfo, Reason, Recalled, VerdictFilter,
};
pub use commands::pods::NEVER;
pub use commands::run::Joined;
pub use commands::sidecars::{Family, Held, NotTaken, Port, Sidecars, Stranger, Unheard};
pub use commands::status::hits::{ItemHits, items};
pub use commands::status::{
    Head, LivePolicy, MemberStatus, Occupancy, ProgramStatus, RulesetStatus, State, Status, WorkloadStatus,
};
pub use commands::switch::{Detached, Switched};
pub use commands::transition::{Move, Transition};
pub use drift::{Drift, Full, PodFault};
pub use error::{Class, Error, Result};
pub use generation::confirmation::PendingConfirmation;
pub use generation::request::{Applied, Apply};
pub use instance::{Backend, Instance, Placement, find_hierarchy, kept_backend, kept_inbound};
pub use member::{Interface, Key, Member, Origin, Sandbox};
pub use members::command_cgroups::is_of_a_command;
pub use members::decisions::Decisions;
pub use members::interfaces::ExemptInterfaces;
pub use members::pod::{Attachment, Labels, Pod, PodAttached, PodSelector};
pub use mesh_nft::Difference;
pub use owner::{Holder, Owner};
pub use runtime::{Options, Runtime};
pub use state::record::{Record, hex};
pub use stuck_reader::{Rescue, StallReason, StuckReader};
pub use system::linux::{Changes, Kernel, is_bpffs};
pub use system::{Prepared, Sources};
pub use warning::{Cause, Warning};
