//! What the runtime promises, on a machine in memory and on the real kernel.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test ends where something is not as expected"
)]

#[cfg(feature = "acceleration")]
mod acceleration;
mod builds;
mod classes;
mod common;

mod confirm;

mod flips;
mod grace;
mod hardship;
mod interfaces;

mod kernel;
mod model;
mod namespaces;
mod node_addresses;
mod past;
mod pods;
mod publish;
mod quotas;
mod recent;
mod recovery;
mod refusals;
mod reset;
mod steps;
mod tallies;
mod upgrade;
