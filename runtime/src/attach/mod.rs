//! Programs and links: where they are attached, by which pin they are found again.

pub(crate) mod dispatch;
pub(crate) mod hooks;
pub(crate) mod host;
pub(crate) mod link;
pub(crate) mod listening;
pub(crate) mod netns_links;
pub(crate) mod pod;
