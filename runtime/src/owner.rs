//! Who applied a policy, and who works on an instance at the moment.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::system::Process;

/// Who applied a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// Somebody at the command line.
    #[default]
    Cli,
    /// The node agent.
    Agent,
}

impl Owner {
    /// The word in answers for scripts.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::Agent => "agent",
        }
    }

    /// As the manifest has it.
    #[must_use]
    pub const fn wire(self) -> u32 {
        match self {
            Self::Cli => 0,
            Self::Agent => 1,
        }
    }

    /// From a manifest.
    #[must_use]
    pub const fn from_wire(wire: u32) -> Self {
        if wire == 1 { Self::Agent } else { Self::Cli }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cli => "command line",
            Self::Agent => "agent",
        })
    }
}

/// Who holds the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process.
    pub process: Process,
    /// Its command.
    pub command: String,
    /// Milliseconds since 1970.
    pub since: u64,
}
