//! Pinned maps: the set that an instance has, its two slots, and what is live in one of them.

pub(crate) mod live;
pub(crate) mod pinned;
pub(crate) mod quota;
pub(crate) mod recent;
pub(crate) mod slot;
