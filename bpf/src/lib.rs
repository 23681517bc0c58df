//! The contract that compiler, runtime and BPF programs share.
//!
//! Nothing here knows the policy language, and nothing here touches a kernel.

pub mod flow;
pub mod image;
pub mod ports;
pub mod prefix;
pub mod selector;
