//! The real machine.

#[cfg(feature = "acceleration")]
mod acceleration;
mod address_changes;
mod bare;
mod btf_subset;
mod clock;
mod conntrack;
mod enter;
mod files;
mod info;
mod iterator;
mod kernel;
mod links;
mod load;
mod loader;
mod map;
mod maps;
mod nat;
mod netfilter;
mod netlink;
mod netns;
mod network;
mod new_network;
mod pod_program;
mod prefetch;
mod probe;
mod proc;
mod programs;
mod ring;
mod route;
mod rulesets;
mod small;
mod sock_diag;
mod socket_holders;
mod sockets;
mod step;
mod storage_btf;
mod syscall;
mod translations;

#[cfg(feature = "acceleration")]
pub(crate) use acceleration::{counts_all, is_charged};
pub use address_changes::Changes;
pub(crate) use bare::Bare;
pub(crate) use enter::apart;
pub use files::is_bpffs;
pub use kernel::Kernel;
pub use map::KernelMap;
pub(crate) use new_network::new_network;
pub(crate) use probe::Detached;
pub(crate) use ring::Ring;
pub(crate) use syscall::Watches;
pub use translations::Translation;
pub(crate) use translations::translations;
