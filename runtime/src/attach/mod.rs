//! Programs and links: where they are attached, by which pin they are found again.

pub(crate) mod accelerators;
pub(crate) mod hooks;
pub(crate) mod inbound;
