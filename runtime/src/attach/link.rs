//! A link and its pin.

use std::path::Path;

use crate::error::Result;
use crate::system::{LinkInfo, System};

/// A pinned link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pinned {
    /// Its name: that of the program.
    pub(crate) name: String,
    /// What the kernel says.
    pub(crate) info: LinkInfo,
}

pub(crate) fn unpin(store: &impl System, pin: &Path) -> Result<()> {
    if let Some(link) = store.open_link(pin)? {
        store.detach(&link)?;
    }
    Ok(store.remove(pin)?)
}
