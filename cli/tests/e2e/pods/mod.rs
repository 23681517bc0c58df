//! How pods become members, and cease to be.

mod addresses;
mod churn;
mod cni;
mod cri;
mod namespaces;
mod plugin_install;
mod runtimes;
