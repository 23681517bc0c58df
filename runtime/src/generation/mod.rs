//! How one policy follows another: under the lock, with recovery from whoever was killed.

pub(crate) mod reset;
pub(crate) mod session;
