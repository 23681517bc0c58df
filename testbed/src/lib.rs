//! The ground that meshc is tested on: network namespaces as pods, cgroups as host workloads, real proxies
//! as sidecars, small clients and servers that say what they saw, and a harness that kills a command at a
//! chosen system call.
//!
//! Everything made here has a name that begins with the process id of its maker ([`Name`]), so any number of
//! test processes run side by side and beside a live meshc. Everything is removed when its owner is dropped,
//! also while a panic unwinds. What a process that was killed left behind, the next process sweeps.
//!
//! Nothing here knows meshc: the crate depends on none of its packages, so it can contradict all of them.

mod lonely;
mod name;
mod sweep;

mod bpffs;
mod cgroup;
mod ground;
mod mounts;
mod netns;
mod pair;
mod terminal;
mod tool;
mod town;

mod place;
mod process;
mod task;

mod arrival;
mod dial;
mod errno;
mod server;
mod udp;
mod wait;
mod zero_copy;

mod other;

pub mod census;
pub mod fault;
pub mod netfilter;
pub mod proxy;
pub mod refuse;
pub mod storage;
pub mod vm;

mod raw;

pub use arrival::{Arrival, Level, original_destination, raw_option, set_raw_option};
pub use bpffs::BpfFs;
pub use cgroup::Cgroup;
pub use dial::{Client, Dialled, Stream};
pub use errno::Errno;
pub use ground::{Ground, first_step, long_runs_are_wanted};
pub use lonely::Lonely;
pub use mesh_testbed_macros::kernel_test;
pub use mounts::hierarchy;
pub use name::Name;
pub use netns::{Netns, veth};
pub use other::{Ring, receive_socket, send_many, send_socket};
pub use pair::Pair;
pub use place::{Place, act_as, leave_users};
pub use process::Process;
pub use server::{Server, ServerTask};
pub use task::{Line, Task};
pub use terminal::on_terminal;
pub use tool::tool;
pub use town::Town;
pub use udp::{Manner, UdpAnswer, UdpAsker, UdpClient, UdpServer, UdpServerTask, ask, ask_all, control};
pub use wait::{listens, until};
pub use zero_copy::{allow_zero_copy, send_zero_copy, zero_copied};

/// Why a test failed, from whatever library.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What a test returns: helpers of tests pass errors on with `?` rather than panic.
pub type Tested = Result<(), Failure>;
