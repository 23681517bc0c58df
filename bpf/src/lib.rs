//! The contract that compiler, runtime and BPF programs share.
//!
//! Nothing here knows the policy language, and nothing here touches a kernel.

pub mod flow;
pub mod ports;
pub mod prefix;

pub mod image;
pub mod selector;

pub mod abi;
pub mod header;
pub mod item;
pub mod map;
pub mod program;
