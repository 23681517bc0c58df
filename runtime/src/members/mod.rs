//! The registry: which endpoints are members, outside the generations.
//!
//! An endpoint is one entry in a kernel map, with the profile that it falls under in each slot, and one file
//! of the state directory with what its workload is chosen by (name, labels, addresses). A pod that comes or
//! goes is never a generation.

pub(crate) mod addresses;
pub(crate) mod cgroups;
pub(crate) mod command_cgroups;
pub(crate) mod counts;
pub(crate) mod decisions;
pub(crate) mod drift;
pub(crate) mod files;
pub(crate) mod interfaces;
pub(crate) mod namespaces;
pub(crate) mod node_addresses;
pub(crate) mod pod;
pub(crate) mod registry;
pub(crate) mod reserved_ports;
pub(crate) mod sweep;
