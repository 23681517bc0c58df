//! What a policy does otherwise by nftables than by BPF programs, though it decides alike.

use std::collections::BTreeSet;

use mesh_bpf::abi;
use mesh_bpf::flow::{Direction, Verdict};
use mesh_bpf::map::Table;
use mesh_bpf::membership::Membership;
use mesh_bpf::sim::Sim;
use mesh_bpf::tables::{Damaged, Tables};

use crate::unsupported::decisions;

/// One thing that is other than with the BPF programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// Where outbound flows are denied: `connect` of TCP is refused (`ECONNREFUSED`) and not forbidden (`EPERM`); with
    /// datagrams it succeeds, and sending is forbidden.
    DeniedOutbound,
    /// Datagrams are decided once for each flow that conntrack knows, and answers are part of it: those of a server in the
    /// pod are no outbound flows, those to its own datagrams no inbound ones.
    DatagramFlows,
    /// Who opens a flow is who made the socket (by the ids for files, and the cgroup at that time), where a rule has `as`
    /// or users, groups or cgroups are exempt.
    SocketMaker,
    /// Where outbound flows are redirected: the client's and the sidecar's socket have the pod's own address where they had
    /// loopback's, a socket that is bound to a device or to loopback does not come through, and a destination without a
    /// route is unreachable.
    RedirectedOutbound,
    /// Where inbound connections are redirected: the sidecar's socket has its own port, and a sidecar that listens on loopback
    /// alone gets nothing.
    RedirectedInbound,
    /// A host workload is not offered what comes from the host itself.
    HostItself,
}

impl Difference {
    /// All there are.
    pub const ALL: [Self; 6] = [
        Self::DeniedOutbound,
        Self::DatagramFlows,
        Self::SocketMaker,
        Self::RedirectedOutbound,
        Self::RedirectedInbound,
        Self::HostItself,
    ];

    /// A word for it, that scripts can rely on.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::DeniedOutbound => "denied-outbound",
            Self::DatagramFlows => "datagram-flows",
            Self::SocketMaker => "socket-maker",
            Self::RedirectedOutbound => "redirected-outbound",
            Self::RedirectedInbound => "redirected-inbound",
            Self::HostItself => "host-itself",
        }
    }
}

/// All that is other about a policy, whoever its members are.
///
/// # Errors
/// Where the tables cannot be read.
pub fn differences(tables: &Tables) -> Result<BTreeSet<Difference>, Damaged> {
    let sim = Sim::new(tables)?;
    let members = Membership::read(tables.get(Table::Names))?;
    let damaged = || Damaged { table: Table::Profiles, what: "a profile does not answer" };
    let lines: &[abi::Profile] = tables.get(Table::Profiles).records();
    let mut found = BTreeSet::new();
    let profiles: BTreeSet<_> = members.workloads.iter().map(|workload| workload.profile).collect();
    for &profile in &profiles {
        let told = sim.told_apart(profile).ok_or_else(damaged)?;
        if told.by_process() {
            found.insert(Difference::SocketMaker);
        }
        let flags = lines.get(profile.0 as usize).ok_or_else(damaged)?.flags;
        if flags & (abi::PROFILE_ANSWERS | abi::PROFILE_INBOUND_DATAGRAMS) != 0 {
            found.insert(Difference::DatagramFlows);
        }
        for direction in Direction::ALL {
            for decision in decisions(&sim, profile, direction)? {
                match (direction, decision.verdict) {
                    (Direction::Outbound, Verdict::Denied) => found.insert(Difference::DeniedOutbound),
                    (Direction::Outbound, Verdict::Redirected { .. }) => {
                        found.insert(Difference::RedirectedOutbound)
                    }
                    (Direction::Inbound, Verdict::Redirected { .. }) => {
                        found.insert(Difference::RedirectedInbound)
                    }
                    _ => continue,
                };
            }
        }
    }
    let on_host = |profile| {
        let mut workloads = members.workloads.iter().filter(|workload| workload.profile == profile);
        workloads.any(|workload| !workload.selector.cgroups.is_empty())
    };
    for &profile in profiles.iter().filter(|&&profile| on_host(profile)) {
        let inbound = decisions(&sim, profile, Direction::Inbound)?;
        if inbound.iter().any(|decision| decision.verdict != Verdict::Excluded) {
            found.insert(Difference::HostItself);
        }
    }
    Ok(found)
}
