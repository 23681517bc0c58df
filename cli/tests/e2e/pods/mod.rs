//! How pods become members, and cease to be.

mod addresses;
mod churn;
mod cni;
mod cri;
mod interfaces;
mod namespace_labels;
mod namespaces;
mod plugin_install;
mod rulesets;
mod runtimes;
