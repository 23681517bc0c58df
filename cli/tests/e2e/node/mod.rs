//! A node over time: the agent, boots, kills, what is full, what is hostile, kernels that refuse.

mod agent;
mod boot;
mod cgroup_storm;
mod crash;
mod full_maps;
mod hostile_input;
mod kernel_refusals;
mod mounts;
mod permissions;
mod systemd;
