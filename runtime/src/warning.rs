//! What a command did not do, or what it costs: facts, which whoever shows them puts into words.

use mesh_bpf::program::Inbound;

use crate::drift::Drift;
use crate::error::Error;
use crate::stuck_reader::StuckReader;

/// What should be known of a policy that is live all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Something is not as it was applied, and `apply --repair` brings it back.
    Drift(Drift),
    /// The kernel refuses a program that this policy asks for.
    ProgramRefused {
        /// What is not attached.
        program: Drift,
        /// What the kernel said.
        why: String,
    },
    /// The kernel refuses what decides inbound traffic to pods, and no rule asks for it.
    InboundUndecided {
        /// By what it would be decided.
        by: Inbound,
        /// What the kernel said.
        why: String,
    },
    /// The same of services of the host.
    HostUndecided {
        /// What the kernel said.
        why: String,
    },
    /// The network namespace of a pod cannot be found.
    PodNamespaceMissing(String),
    /// The policy accelerates, and nothing keeps a reader from `splice` in mid-connection.
    SpliceNotRefused,
    /// The policy accelerates, and `FIONREAD` is wrong: readers that were told too little are known.
    FionreadNoticed,
    /// The same where they are not known.
    FionreadWrong,
    /// A stalled reader was helped.
    ReaderHelped(StuckReader),
    /// Stalled readers could not be helped.
    ReadersNotHelped(Cause),
    /// What ended with the policy before could not be taken away.
    NotSettled(Cause),
    /// Programs that accelerate could not be detached, though the policy does not accelerate.
    AcceleratorsLeft(Cause),
    /// Connections that the policy decides otherwise could not be closed.
    ConnectionsNotReset(Cause),
    /// Whether sidecars listen could not be found out.
    SidecarsUnknown(Cause),
    /// Flows of datagrams could not be made to be decided again.
    FlowsNotForgotten(Cause),
    /// Programs could not be told whether to keep the last decisions.
    KeepingUnchanged(Cause),
}

/// An error after which the command went on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The error's code.
    pub error: &'static str,
    /// The error in words.
    pub said: String,
}

impl From<&Error> for Cause {
    fn from(error: &Error) -> Self {
        Self { error: error.code(), said: error.to_string() }
    }
}

/// A code for each variant, and all of them.
macro_rules! codes {
    ($($variant:pat => $code:literal,)*) => {
        impl Warning {
            /// The code of each kind but drift, which has codes of its own.
            pub const CODES: &'static [&'static str] = &[$($code),*];

            /// What kind it is: a word that stays as it is while the wording changes.
            #[must_use]
            pub const fn code(&self) -> &'static str {
                match self {
                    Self::Drift(drift) => drift.code(),
                    $($variant => $code,)*
                }
            }
        }
    };
}

codes! {
    Self::ProgramRefused { .. } => "program-refused",
    Self::InboundUndecided { .. } => "inbound-undecided",
    Self::HostUndecided { .. } => "host-undecided",
    Self::PodNamespaceMissing(_) => "pod-namespace-missing",
    Self::SpliceNotRefused => "splice-not-refused",
    Self::FionreadNoticed => "fionread-noticed",
    Self::FionreadWrong => "fionread-wrong",
    Self::ReaderHelped(_) => "reader-helped",
    Self::ReadersNotHelped(_) => "readers-not-helped",
    Self::NotSettled(_) => "not-settled",
    Self::AcceleratorsLeft(_) => "accelerators-left",
    Self::ConnectionsNotReset(_) => "connections-not-reset",
    Self::SidecarsUnknown(_) => "sidecars-unknown",
    Self::FlowsNotForgotten(_) => "flows-not-forgotten",
    Self::KeepingUnchanged(_) => "keeping-unchanged",
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_words_and_each_is_of_one_kind_of_warning_or_drift() {
        let all = || Warning::CODES.iter().chain(Drift::CODES);
        let distinct: BTreeSet<&&str> = all().collect();
        assert_eq!(distinct.len(), all().count());
        let is_word = |code: &&str| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        assert!(Warning::CODES.iter().all(is_word), "{:?}", Warning::CODES);
    }

    #[test]
    fn drift_keeps_its_code() {
        let missing = Drift::ProgramMissing("mesh_connect4");
        assert_eq!(Warning::Drift(missing.clone()).code(), missing.code());
    }
}
