//! The files of the state directory, and locks. Nothing here knows the kernel.

pub(crate) mod lock;
pub(crate) mod record;
