//! An instance that decides by nftables: a ruleset in the network namespace of each member, and one in the host's for
//! members by cgroup.
//!
//! What is live is what the marker in the host's table says: a chain whose name has the generation, the beginning of the
//! policy's digest, and whether it is paused. A change goes to the host first, in one transaction, and then to each pod
//! in one of its own. While it lasts a file of the state directory says so; whoever finds that file brings every namespace
//! in line with the host's marker. So a command that is killed before it has reached the host has changed nothing, and one
//! that is killed after that is finished by the next.

pub(crate) mod cgroups;
pub(crate) mod datagrams;
pub(crate) mod hits;
pub(crate) mod live;
pub(crate) mod load;
pub(crate) mod namespaces;
pub(crate) mod publish;
pub(crate) mod registry;
pub(crate) mod scene;
pub(crate) mod session;
pub(crate) mod target;
