//! Endpoints: pods and cgroups, outside the generations.

pub(crate) mod registry;
pub(crate) mod reserved_ports;
