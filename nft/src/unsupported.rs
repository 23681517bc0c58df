//! What a policy asks for and nftables cannot do: such a policy is refused, and not decided otherwise.

use std::collections::BTreeSet;

use mesh_bpf::abi;
use mesh_bpf::flow::{Direction, Protocol, Verdict};
use mesh_bpf::image::{Decision, ProfileId, Source};
use mesh_bpf::map::Table;
use mesh_bpf::membership::Membership;
use mesh_bpf::sim::{Sim, TreeOf};
use mesh_bpf::tables::{Damaged, Tables};
use mesh_bpf::unpack::sources;

/// Where the tables do not answer.
pub(crate) const SILENT: Damaged = Damaged { table: Table::Trees, what: "a tree does not answer" };

/// One thing that a policy asks for and nftables cannot do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unsupported {
    /// `accelerate`: bytes pass the TCP/IP stack only between sockets that BPF programs know.
    Accelerate {
        /// A workload whose connections are to be accelerated.
        workload: String,
    },
    /// `transparent`: a sidecar's own address is the original destination.
    Transparent {
        /// The rule, as it is credited.
        rule: String,
    },
    /// `on missing-sidecar pass`: a translation of addresses does not know whether anybody listens.
    MissingSidecarPass {
        /// A workload whose inbound connections are redirected, and are to reach the application where no sidecar is.
        workload: String,
    },
}

impl Unsupported {
    /// A word for it, that scripts can rely on.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Accelerate { .. } => "accelerate",
            Self::Transparent { .. } => "transparent",
            Self::MissingSidecarPass { .. } => "missing-sidecar-pass",
        }
    }
}

/// All that a policy asks for and nftables cannot do, whoever its members are: sorted, each once.
///
/// # Errors
/// Where the tables cannot be read.
pub fn unsupported(tables: &Tables) -> Result<Vec<Unsupported>, Damaged> {
    let sim = Sim::new(tables)?;
    let members = Membership::read(tables.get(Table::Names))?;
    let sources = sources(tables)?;
    let profiles: &[abi::Profile] = tables.get(Table::Profiles).records();
    let mut found = Vec::new();
    for workload in &members.workloads {
        let Some(profile) = profiles.get(workload.profile.0 as usize) else { continue };
        if profile.accelerate_local != 0 || profile.accelerate_peers != 0 {
            found.push(Unsupported::Accelerate { workload: workload.name.clone() });
        }
        let passes = profile.flags & abi::PROFILE_MISSING_SIDECAR_REFUSE == 0;
        for direction in Direction::ALL {
            for decision in decisions(&sim, workload.profile, direction)? {
                let Verdict::Redirected { transparent, .. } = decision.verdict else { continue };
                if transparent {
                    found.push(Unsupported::Transparent { rule: rule(&sources, decision) });
                }
                if passes && direction == Direction::Inbound {
                    found.push(Unsupported::MissingSidecarPass { workload: workload.name.clone() });
                }
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// The rule of a decision, without its address.
fn rule(sources: &[Source], decision: Decision) -> String {
    let source = sources.get(decision.source.0 as usize);
    source.map(|source| source.credit(mesh_bpf::prefix::Prefix::Any)).unwrap_or_default()
}

/// What can be decided about flows of a profile, in any class.
pub(crate) fn decisions(
    sim: &Sim<'_>,
    profile: ProfileId,
    direction: Direction,
) -> Result<Vec<Decision>, Damaged> {
    let mut tables = BTreeSet::new();
    for class in 0..=sim.classes(profile, direction).ok_or(SILENT)? {
        for own in [false, true] {
            let tree = TreeOf { profile, class, direction, own };
            for span in sim.address_spans(tree).ok_or(SILENT)? {
                tables
                    .extend(Protocol::ALL.into_iter().filter_map(|protocol| sim.ports(span.node, protocol)));
            }
        }
    }
    let mut found = Vec::new();
    for table in tables {
        let ranges = sim.port_ranges(table).ok_or(SILENT)?;
        found.extend(ranges.into_iter().map(|(_, decision)| decision));
    }
    found.sort();
    found.dedup();
    Ok(found)
}
