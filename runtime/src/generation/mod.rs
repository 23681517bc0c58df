//! How one policy follows another: under the lock, with recovery from whoever was killed.

pub(crate) mod confirmation;
pub(crate) mod host;
pub(crate) mod publish;
pub(crate) mod request;
pub(crate) mod reset;
pub(crate) mod session;
