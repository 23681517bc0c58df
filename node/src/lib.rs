//! meshc on a node of a cluster: the CNI plugin that attaches a pod before its first process runs, what puts
//! that plugin in place, and the agent that keeps a node in step.
//!
//! | module | what it does |
//! |---|---|
//! | [`cni`] | answers a container runtime: ADD, DEL, CHECK, GC, STATUS, VERSION |
//! | [`agent`] | keeps a node in step |
//! | [`cluster`] | what a node is told of its cluster, and by whom |
//! | [`wire`] | what plugin and agent say to each other |
//! | [`install`] | puts the plugin in place, and a network's list of plugins in order |
//! | [`splice`] | changes that list and no other byte |
//! | [`watch`] | tells when somebody touched a directory |
//! | [`admit`] | attaches a pod, or says whether it may start without |
//!
//! Nothing here depends on a process that stays alive: the plugin does by itself what the agent would have
//! done, with what is in the kernel. This crate prints nothing; its callers hand in where to write to.

#![cfg(target_os = "linux")]

pub mod admit;
pub mod agent;
pub mod cluster;
pub mod cni;
pub mod install;
pub mod splice;
pub mod watch;
pub mod wire;
