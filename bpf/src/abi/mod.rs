//! The binary interface between Rust and the BPF programs: every structure and constant that both sides see, defined
//! once. Each module has what lives equally long. [`header`](crate::header) prints all of it as C; a test keeps
//! `include/mesh_abi.h` fresh.
//!
//! Two numbers tell versions apart. [`POLICY_ABI`] covers what a generation's tables hold, [`FLOW_ABI`] what is kept for
//! live connections.
//!
//! All structures are `repr(C)` without padding (`bytemuck::Pod` refuses padding at compile time). Numbers are in host
//! byte order unless a field says *network order*.

#[macro_use]
mod layout;

mod acceleration;
mod connections;
mod control;
mod counters;
mod datagrams;
mod entry;
mod listening;
mod members;
mod observe;
mod policy;
mod quotas;

pub use acceleration::*;
pub use connections::*;
pub use control::*;
pub use counters::*;
pub use datagrams::*;
pub use entry::*;
pub use layout::{Constant, Field, Layout};
pub use listening::*;
pub use members::*;
pub use observe::*;
pub use policy::*;
pub use quotas::*;

/// Every constant that programs see, in the order in which the header prints them.
pub const CONSTANTS: &[&[Constant]] = &[
    policy::CONSTANTS,
    members::CONSTANTS,
    connections::CONSTANTS,
    datagrams::CONSTANTS,
    listening::CONSTANTS,
    quotas::CONSTANTS,
    entry::CONSTANTS,
    observe::CONSTANTS,
    acceleration::CONSTANTS,
    counters::CONSTANTS,
];

/// Every structure, in the order in which the header prints them: what another contains comes before it.
pub const LAYOUTS: &[&[Layout]] = &[
    control::LAYOUTS,
    policy::LAYOUTS,
    members::LAYOUTS,
    connections::LAYOUTS,
    datagrams::LAYOUTS,
    listening::LAYOUTS,
    quotas::LAYOUTS,
    entry::LAYOUTS,
    observe::LAYOUTS,
    acceleration::LAYOUTS,
    counters::LAYOUTS,
];
