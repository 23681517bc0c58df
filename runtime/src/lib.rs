//! Pushes a map image into the kernel, atomically, and says what the kernel holds. It knows nothing of the
//! policy language, prints nothing, and its threads end with the call that began them, or with [`Runtime::apply`].
//!
//! [`Runtime`] has one method a command:
//!
//! | method | takes | does |
//! |---|---|---|
//! | [`Runtime::prepare`] | | begins to load programs while the policy is compiled |
//! | [`Runtime::apply`] | [`Apply`] | makes a policy's tables live, or says that they are |
//! | [`Runtime::refresh`], [`Runtime::named_cgroups`] | | cgroups that were made since join; which there are |
//! | [`Runtime::head`] | | state, generation, digest, owner: whichever version applied |
//! | [`Runtime::status`] | | all that the kernel holds, is attached to, has counted, and what drifted |
//! | [`Runtime::unheard`], [`Runtime::is_heard`], [`Runtime::not_taken`] | the live image | where no sidecar waits for what it is sent, and what was not taken |
//! | [`Runtime::observe`] | [`Filter`] | decisions as they happen |
//! | [`Runtime::live`] | | the live tables, read back |
//! | [`Runtime::pause`], [`Runtime::resume`] | | stops deciding and keeps everything; brings it back |
//! | [`Runtime::detach_all`] | purge? | leaves nothing in the kernel |
//! | [`Runtime::run`] | a workload and a command | runs it as a member |
//! | [`Runtime::join`], [`Runtime::leave`] | a workload | the cgroup that `run` runs it in |
//! | [`Runtime::attach`], [`Runtime::detach`] | [`Pod`], [`Which`] | a pod comes or goes |
//! | [`Runtime::check`], [`Runtime::pods`], [`Runtime::sweep`] | [`Which`] | whether a pod is as it should be; all of them; those that ended go |
//! | [`Runtime::changes`], [`Runtime::follow`] | [`Key`] | tells when a pod's addresses change; brings what is known of them in line |
//! | [`Runtime::refuses`], [`Runtime::note_failed`], [`Runtime::failed`] | [`Pod`] | what the policy says of a pod that cannot be attached, and which could not |
//! | [`Runtime::history`], [`Runtime::kept`] | a generation | what was live, and its policy |
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
//! Every effect goes through [`store::Store`], so that tests can fail or end a command at each of its steps.

#![cfg(target_os = "linux")]

mod error;
mod instance;
mod record;

pub mod store;

pub mod faults;
mod kernel;
pub mod memory;

mod acceleration;
mod accelerators;
mod hooks;
mod inbound;
mod lock;
mod place;
mod registry;
mod reserved;
mod set;
mod slot;

mod session;

mod apply;
mod confirm;
pub mod doctor;
mod failed;
mod history;
mod observe;
mod pods;
mod rescue;
mod reset;
mod run;
mod sidecars;
mod status;
mod switch;

pub use acceleration::{
    Acceleration, AskerStatus, Carriage, ItemCarriage, PairStatus, Rescue, SplicerStatus, StuckReader, Why,
};
pub use accelerators::Counting;
pub use apply::{Applied, Apply};
pub use confirm::{Expiry, Waiting};
pub use error::{Class, Error, Result};
pub use failed::Failed;
pub use history::Kept;
pub use instance::{Instance, find_hierarchy, kept_inbound};
pub use kernel::{Changes, Kernel};
pub use observe::{By, Decided, Filter, Observer, Reason, Told, Wanted};
pub use pods::{Attachment, NEVER, Pod, PodAttached, Which};
pub use record::{Holder, Owner, Record, hex};
pub use registry::{Interface, Key, Member, Origin, Sandbox};
pub use run::Joined;
pub use sidecars::{Family, NotTaken, Port, Unheard};
pub use status::{Head, ItemHits, LivePolicy, MemberStatus, Occupancy, ProgramStatus, State, Status, items};
pub use store::Sources;
pub use switch::{Detached, Switched};

use store::Store;

/// What holds for every command of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Milliseconds to wait for another command's lock.
    pub lock_timeout: u64,
    /// How this command is called, for whoever waits for it.
    pub command: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { lock_timeout: 10_000, command: "meshc".into() }
    }
}

/// One instance on one machine.
#[derive(Debug)]
pub struct Runtime<S: Store = Kernel> {
    store: S,
    instance: Instance,
    options: Options,
}

impl Runtime<Kernel> {
    /// The instance on the kernel that we run on. Touches nothing.
    ///
    /// # Errors
    /// Where the instance's name cannot be the name of a pin.
    pub fn open(instance: Instance, options: Options) -> Result<Self> {
        Self::on(Kernel::new(), instance, options)
    }
}

impl<S: Store> Runtime<S> {
    /// The instance on another kernel, such as one that fails when a test asks it to.
    ///
    /// # Errors
    /// Where the instance's name cannot be the name of a pin.
    pub fn on(store: S, instance: Instance, options: Options) -> Result<Self> {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if instance.name.is_empty() || instance.name.len() > 64 || !instance.name.chars().all(fits) {
            return Err(Error::BadName(instance.name));
        }
        Ok(Self { store, instance, options })
    }

    /// Which instance it is.
    #[must_use]
    pub const fn instance(&self) -> &Instance {
        &self.instance
    }

    /// What its commands go through.
    pub const fn store(&self) -> &S {
        &self.store
    }
}
