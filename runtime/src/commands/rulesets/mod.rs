//! The same commands where nftables decides: see [`crate::rulesets`].

mod apply;
mod pods;
mod run;
mod status;

use crate::error::{Error, Result};
use crate::instance::{Backend, kept_backend_of};
use crate::rulesets::live::host_marker;
use crate::runtime::Runtime;
use crate::system::System;

/// What there is where nobody can be told of decisions.
pub(crate) const STATUS_TELLS: &str =
    "`meshc status --rules` says how often each rule decided, and `meshc explain --live` what it decides";

impl<S: System> Runtime<S> {
    /// Whether nftables decides.
    pub(crate) fn is_by_rulesets(&self) -> bool {
        self.instance.backend == Backend::Nft
    }

    /// Refuses what needs BPF programs.
    pub(crate) fn needs_programs(&self, what: &'static str, instead: &'static str) -> Result<()> {
        if self.is_by_rulesets() { Err(Error::NotByRulesets { what, instead }) } else { Ok(()) }
    }

    /// Whether the other backend decides: both at once would decide each other's connections.
    pub(crate) fn check_backend(&self) -> Result<()> {
        let wanted = self.instance.backend;
        let decides = match wanted {
            Backend::Nft => self.system.inode(&self.instance.maps())?.is_some(),
            Backend::Bpf => {
                kept_backend_of(&self.system, &self.instance)? == Backend::Nft
                    && host_marker(self.node())?.is_some()
            }
        };
        let live = if wanted == Backend::Nft { Backend::Bpf } else { Backend::Nft };
        if decides { Err(Error::OtherBackend { live, wanted }) } else { Ok(()) }
    }

    /// Notes what decides, for later commands; returns what it was.
    pub(crate) fn keep_backend(&self, backend: Backend) -> Result<Backend> {
        let before = kept_backend_of(&self.system, &self.instance)?;
        if before != backend {
            crate::state::record::write(&self.system, &self.instance.backend_file(), &backend, true)?;
        }
        Ok(before)
    }
}
