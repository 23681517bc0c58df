//! What changes between two policies: exactly the flows that are decided otherwise, who is exempt and
//! who is a member, then entries.
//!
//! Decisions are piecewise constant, so the difference is found piece by piece, on the tables as the
//! programs walk them: neither policy's source is needed, and either side may be what a kernel holds.

mod cause;
mod entries;
mod flows;
mod merge;
mod processes;
#[cfg(test)]
mod tests;

use mesh_bpf::flow::{Direction, Identity, Protocol, Verdict};
use mesh_bpf::image::MapImage;
use mesh_bpf::prefix::Prefix;
use mesh_bpf::tables::{Damaged, Tables};

use crate::emit::{ClassName, NamedService, Sets};

pub use cause::{Cause, causes};
pub use entries::{EntryChange, EntryChanges};
pub use merge::{Patch, addresses_text};

/// One policy, as it was compiled or read back.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// What it means.
    pub image: &'a MapImage,
    /// As the programs read it.
    pub tables: &'a Tables,
    /// Its sets, as far as they are known: entries are told by their names.
    pub sets: &'a Sets,
}

/// All differences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Flows whose verdict changes, by workload.
    pub flows: Vec<FlowChange>,
    /// Identities and interfaces that become or cease to be exempt.
    pub exemptions: Vec<ExemptionChange>,
    /// Workloads that come, go or select others.
    pub members: Vec<MemberChange>,
    /// Services that both policies name, whose addresses changed.
    pub services: Vec<ServiceChange>,
    /// Entries of the maps.
    pub entries: EntryChanges,
}

/// A service that has other addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceChange {
    /// With its namespace: `shop/cart`.
    pub name: String,
    /// Addresses that it has now and had not.
    pub added: Vec<Prefix>,
    /// Addresses that it had.
    pub removed: Vec<Prefix>,
}

/// Flows of one workload that are decided otherwise, all in the same way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowChange {
    /// `mesh/workload`.
    pub workload: String,
    /// What it was called under the old policy, where that is another name.
    pub renamed: Option<String>,
    /// Which connections.
    pub direction: Direction,
    /// The protocol.
    pub protocol: Protocol,
    /// The other end's addresses, and the ports.
    pub patch: Patch,
    /// The addresses are the member's own.
    pub own: bool,
    /// The processes that open them, where not all do.
    pub who: Option<Ends>,
    /// Under the old policy. What is in no mesh goes straight.
    pub before: Verdict,
    /// Under the new one.
    pub after: Verdict,
}

/// Some of the processes of a member.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ends {
    /// The processes in words, `uid 1000-1999`, `uid other`; nothing for all.
    pub processes: String,
    /// Whether the node is at the other end, `to node`, `not to node`, `from node`; nothing where that does not matter.
    pub node: String,
    /// One of them.
    pub example: Identity,
}

impl Ends {
    /// As it stands behind a flow: `as uid 1000`, `to node`, `as uid 1000 to node`.
    #[must_use]
    pub fn clause(&self) -> String {
        ClassName { processes: self.processes.clone(), node: self.node.clone() }.clause()
    }
}

/// An identity or interface that is exempt on one side only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExemptionChange {
    /// `mesh/workload`.
    pub workload: String,
    /// `uid 1500`, `gid 10-20`, `cgroup "/a"`.
    pub identity: String,
    /// Whether it is exempt now, and was not before.
    pub exempt: bool,
}

/// A change of who is a member.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberChange {
    /// `mesh/workload`.
    pub workload: String,
    /// What changed about it.
    pub what: MemberChangeKind,
}

/// What changed about a workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It selects what another one did, which is gone: `mesh/workload`.
    Renamed(String),
    /// Its selectors are others.
    Selectors,
}

impl MemberChangeKind {
    /// In words that follow the workload's name.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Added => "is new".to_owned(),
            Self::Removed => "is gone".to_owned(),
            Self::Renamed(from) => format!("was {from}"),
            Self::Selectors => "selects others".to_owned(),
        }
    }
}

impl FlowChange {
    /// The workload's name under the old policy.
    #[must_use]
    pub fn was(&self) -> &str {
        self.renamed.as_ref().unwrap_or(&self.workload)
    }
}

impl Difference {
    /// Whether nothing changes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn services(old: &Sets, new: &Sets) -> Vec<ServiceChange> {
    let without = |one: &[Prefix], other: &[Prefix]| {
        one.iter().filter(|prefix| other.binary_search(prefix).is_err()).copied().collect::<Vec<_>>()
    };
    let change = |before: &NamedService| {
        let now = new.services().find(|service| service.name == before.name)?;
        let (added, removed) =
            (without(&now.addresses, &before.addresses), without(&before.addresses, &now.addresses));
        let is_other = !added.is_empty() || !removed.is_empty();
        is_other.then(|| ServiceChange { name: before.name.clone(), added, removed })
    };
    old.services().filter_map(change).collect()
}

/// Compares two policies. `None` stands for no policy: then nobody is in a mesh.
///
/// # Errors
/// Where the tables of a side are not whole.
pub fn diff(old: Option<Side<'_>>, new: Option<Side<'_>>) -> Result<Difference, Damaged> {
    let empty = (&MapImage::default(), &Sets::default());
    let old_whole @ (old_image, _) = old.map_or(empty, |side| (side.image, side.sets));
    let new_whole @ (new_image, _) = new.map_or(empty, |side| (side.image, side.sets));
    if old_image == new_image {
        return Ok(Difference::default());
    }
    Ok(Difference {
        flows: flows::changes(old, new)?,
        exemptions: flows::exemptions(old_image, new_image),
        members: flows::members(old_image, new_image),
        services: services(old_whole.1, new_whole.1),
        entries: entries::changes(old_whole, new_whole),
    })
}
