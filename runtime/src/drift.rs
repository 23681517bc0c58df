//! What can differ from what was applied: facts, which whoever shows them puts into words.

use std::net::IpAddr;
use std::path::PathBuf;

use mesh_bpf::map::Table;

use crate::error::Error;
use crate::member::Key;

/// A difference between what was applied and what the kernel holds. Members and pods are told by their names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drift {
    /// This build cannot read what is live.
    Unreadable {
        /// The error's code.
        error: &'static str,
        /// The error in words.
        said: String,
    },
    /// A namespace, of a pod or the `host`, has no ruleset.
    RulesetMissing(String),
    /// It has that of another generation.
    RulesetBehind {
        /// The pod, or `host`.
        namespace: String,
        /// The generation that decides there.
        generation: u64,
    },
    /// It has one that was made for other addresses or cgroups.
    RulesetStale(String),
    /// Somebody else changed it.
    RulesetChanged(String),
    /// A policy table was modified since it was applied.
    TableChanged(Table),
    /// The cgroup that the programs are attached to is gone.
    AttachedCgroupGone(PathBuf),
    /// A program is not attached.
    ProgramMissing(&'static str),
    /// A program is not attached that decides datagrams to many, and those with a pod's own source.
    DatagramProgramMissing(&'static str),
    /// A program that accelerates is not attached.
    AcceleratorMissing(&'static str),
    /// The network namespace of the host has no program.
    HostProgramMissing,
    /// Sockets listen in the network namespace of the host that are not known.
    HostSocketsUnknown,
    /// A cgroup that the policy names does not exist.
    CgroupMissing(String),
    /// A member has no entry in the kernel.
    MemberMissing(String),
    /// A member does not have the profile of its workload.
    MemberProfile(String),
    /// A member's entry in the kernel is not what is registered.
    MemberChanged(String),
    /// The kernel does not know all addresses of a member.
    MemberAddressesMissing(String),
    /// The kernel has a member that is not registered.
    MemberUnregistered(Key),
    /// The kernel knows this many addresses that no member has.
    AddressesUnregistered(usize),
    /// A command that ended left a member between two steps.
    CommandUnfinished(Key),
    /// No more connections of a member can be on their way to a sidecar.
    RedirectedFull(Full),
    /// No more connections of exempt identities can be on their way within a member.
    ExemptFull(Full),
    /// A pod has no program in its network namespace.
    PodProgramMissing(String),
    /// A pod that is decided by tc has rules that translate addresses.
    PodTranslates(String),
    /// A pod has an interface without a program.
    PodInterfaceMissed(String),
    /// Interfaces or routes of a member are not those that its exemptions were last brought in line with.
    MemberInterfaces(String),
    /// A member has more routes than can be followed to tell what leaves by exempt interfaces.
    MemberRoutesMany(String),
    /// Sockets listen in a pod that are not known.
    PodSocketsUnknown(String),
    /// A pod has more addresses than can be its own.
    PodAddressesMany {
        /// The pod.
        pod: String,
        /// How many of them count as its own.
        own: usize,
    },
    /// A pod's connections come from another of its addresses than is known.
    PodSourceChanged(String),
    /// A pod got an address that is not known to be its own.
    PodAddressAdded(String, IpAddr),
    /// A pod lost an address that counts as its own.
    PodAddressLost(String, IpAddr),
    /// The node has more addresses than this, and others are not told from those of anybody else.
    NodeAddressesMany(usize),
    /// The node got an address that is not known to be its own.
    NodeAddressAdded(IpAddr),
    /// The node lost an address that counts as its own.
    NodeAddressLost(IpAddr),
    /// A pod's connections may take ports that its sidecars need.
    PodPortsNotReserved {
        /// The pod.
        pod: String,
        /// Those ports.
        ports: Vec<u16>,
    },
}

/// A full quota of connections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Full {
    /// The member.
    pub member: String,
    /// The user whose quota it is; none for that of the whole member.
    pub user: Option<u32>,
    /// How many connections it has.
    pub connections: i64,
}

/// In what a pod is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodFault {
    /// It is not registered.
    NotRegistered,
    /// One of its interfaces is not.
    InterfaceNotRegistered(String),
    /// Something differs from what was applied.
    Drift(Drift),
}

/// A code for each variant, and all of them.
macro_rules! codes {
    ($($variant:pat => $code:literal,)*) => {
        impl Drift {
            /// The code of each kind.
            pub const CODES: &'static [&'static str] = &[$($code),*];

            /// What kind it is: a word that stays as it is while the wording changes.
            #[must_use]
            pub const fn code(&self) -> &'static str {
                match self { $($variant => $code,)* }
            }
        }
    };
}

codes! {
    Self::Unreadable { .. } => "unreadable",
    Self::RulesetMissing(_) => "ruleset-missing",
    Self::RulesetBehind { .. } => "ruleset-behind",
    Self::RulesetStale(_) => "ruleset-stale",
    Self::RulesetChanged(_) => "ruleset-changed",
    Self::TableChanged(_) => "table-changed",
    Self::AttachedCgroupGone(_) => "attached-cgroup-gone",
    Self::ProgramMissing(_) => "program-missing",
    Self::DatagramProgramMissing(_) => "datagram-program-missing",
    Self::AcceleratorMissing(_) => "accelerator-missing",
    Self::HostProgramMissing => "host-program-missing",
    Self::HostSocketsUnknown => "host-sockets-unknown",
    Self::CgroupMissing(_) => "cgroup-missing",
    Self::MemberMissing(_) => "member-missing",
    Self::MemberProfile(_) => "member-profile",
    Self::MemberChanged(_) => "member-changed",
    Self::MemberAddressesMissing(_) => "member-addresses-missing",
    Self::MemberUnregistered(_) => "member-unregistered",
    Self::AddressesUnregistered(_) => "addresses-unregistered",
    Self::CommandUnfinished(_) => "command-unfinished",
    Self::RedirectedFull(_) => "redirected-full",
    Self::ExemptFull(_) => "exempt-full",
    Self::PodProgramMissing(_) => "pod-program-missing",
    Self::PodTranslates(_) => "pod-translates",
    Self::PodInterfaceMissed(_) => "pod-interface-missed",
    Self::MemberInterfaces(_) => "member-interfaces",
    Self::MemberRoutesMany(_) => "member-routes-many",
    Self::PodSocketsUnknown(_) => "pod-sockets-unknown",
    Self::PodAddressesMany { .. } => "pod-addresses-many",
    Self::PodSourceChanged(_) => "pod-source-changed",
    Self::PodAddressAdded(..) => "pod-address-added",
    Self::PodAddressLost(..) => "pod-address-lost",
    Self::NodeAddressesMany(_) => "node-addresses-many",
    Self::NodeAddressAdded(_) => "node-address-added",
    Self::NodeAddressLost(_) => "node-address-lost",
    Self::PodPortsNotReserved { .. } => "pod-ports-not-reserved",
}

impl Drift {
    pub(crate) fn unreadable(error: &Error) -> Self {
        Self::Unreadable { error: error.code(), said: error.to_string() }
    }

    /// The same with nothing counted: two that are equal by this are about the same thing, though a number moved.
    #[must_use]
    pub fn uncounted(&self) -> Self {
        let empty = |full: &Full| Full { connections: 0, ..full.clone() };
        match self {
            Self::AddressesUnregistered(_) => Self::AddressesUnregistered(0),
            Self::RedirectedFull(full) => Self::RedirectedFull(empty(full)),
            Self::ExemptFull(full) => Self::ExemptFull(empty(full)),
            other => other.clone(),
        }
    }
}

impl From<Drift> for PodFault {
    fn from(drift: Drift) -> Self {
        Self::Drift(drift)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_words_and_each_is_of_one_kind() {
        let distinct: BTreeSet<&str> = Drift::CODES.iter().copied().collect();
        assert_eq!(distinct.len(), Drift::CODES.len());
        let is_word = |code: &&str| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        assert!(Drift::CODES.iter().all(is_word), "{:?}", Drift::CODES);
    }

    #[test]
    fn a_number_that_moved_makes_it_no_other_drift_and_another_user_does() {
        let full = |user, connections| Full { member: "cart".into(), user, connections };
        let same = |a: Drift, b: Drift| a.uncounted() == b.uncounted();
        assert!(same(Drift::RedirectedFull(full(None, 7)), Drift::RedirectedFull(full(None, 8))));
        assert!(same(Drift::ExemptFull(full(Some(1), 7)), Drift::ExemptFull(full(Some(1), 8))));
        assert!(same(Drift::AddressesUnregistered(1), Drift::AddressesUnregistered(2)));
        assert!(!same(Drift::RedirectedFull(full(None, 7)), Drift::RedirectedFull(full(Some(1), 7))));
        assert!(!same(Drift::RedirectedFull(full(None, 7)), Drift::ExemptFull(full(None, 7))));
        let missing = |name: &str| Drift::MemberMissing(name.into());
        assert!(!same(missing("a"), missing("b")) && same(missing("a"), missing("a")));
    }
}
