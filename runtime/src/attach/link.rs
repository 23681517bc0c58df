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

pub(crate) fn unpin(system: &impl System, pin: &Path) -> Result<()> {
    if let Some(link) = system.open_link(pin)? {
        system.detach(&link)?;
    }
    Ok(system.remove(pin)?)
}
