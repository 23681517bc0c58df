//! Inbound connections of members. Who accepted one is known by its listening socket; what the live policy
//! says is asked with its two ends, as the programs would.

use std::net::{IpAddr, SocketAddr};

use mesh_bpf::abi::{LISTENER_SLOTS, ListenerKey, PROFILE_MISSING_SIDECAR_REFUSE, PortKey, PortOwner};
use mesh_bpf::flow::{Direction, Flow, Identity, Protocol, Verdict};
use mesh_bpf::map::{HOST_PORTS, LISTENERS, MapDef};
use mesh_bpf::pack::words;

use super::judge::{Judge, Sidecar};
use crate::attach::host;
use crate::error::Result;
use crate::member::{Key, Member};
use crate::system::{Accepted, System};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// What would become of a connection if it came now.
struct Outcome {
    verdict: Verdict,
    /// Where no sidecar listens, the application takes what is redirected.
    passes: bool,
}

impl Outcome {
    const STRAIGHT: Self = Self { verdict: Verdict::Excluded, passes: false };
}

impl<S: System> Judge<'_, S> {
    /// Whether another socket would take it now, or none.
    pub(super) fn decides_inbound_otherwise(&self, accepted: &Accepted) -> Result<bool> {
        // Nobody decided it, or it is judged by its other end.
        if accepted.by.decided == 0 {
            return Ok(false);
        }
        let Some(outcome) = self.outcome(accepted)? else { return Ok(false) };
        let straight = accepted.by.port == accepted.local.port();
        Ok(match outcome.verdict {
            Verdict::Denied => true,
            Verdict::Excluded => !straight,
            Verdict::Redirected { port, .. } if port == accepted.by.port => false,
            Verdict::Redirected { port, .. } => {
                !(straight && outcome.passes && !self.somebody_listens(accepted, port)?)
            }
        })
    }

    /// `None` where nobody knows whom it would be for: its pod has left, or the port of the host is nobody's.
    fn outcome(&self, accepted: &Accepted) -> Result<Option<Outcome>> {
        let (remote, local) = (accepted.remote.ip(), accepted.local.ip());
        // As `is_to_itself` in `inbound.h`.
        let to_itself = !remote.is_loopback() && (remote == local || local.is_loopback());
        if let Some(pod) = self.members.get(&Key::Netns(accepted.netns)) {
            return self.outcome_for(pod, accepted, to_itself || pod.addresses.contains(&remote));
        }
        let (host, decides) = host::netns(self.node.system, &self.maps.control)?;
        if accepted.netns != host {
            return Ok(None);
        }
        if !decides {
            return Ok(Some(Outcome::STRAIGHT));
        }
        let Some(owner) = self.owner_of(accepted.local)? else { return Ok(None) };
        let owner = owner.cgroup.iter().find_map(|&id| self.members.get(&Key::Cgroup(id)));
        let Some(owner) = owner else { return Ok(Some(Outcome::STRAIGHT)) };
        self.outcome_for(owner, accepted, to_itself)
    }

    fn outcome_for(&self, member: &Member, accepted: &Accepted, own: bool) -> Result<Option<Outcome>> {
        let Ok(workload) = member.workload(&self.policy) else { return Ok(None) };
        let Some(workload) = workload else { return Ok(Some(Outcome::STRAIGHT)) };
        // By which interface it came in is not known any more: most come in by the one that answers leave by.
        if !own && self.goes_by_exempt(member, 0, accepted.remote.ip())? {
            return Ok(Some(Outcome::STRAIGHT));
        }
        let flow = Flow {
            direction: Direction::Inbound,
            protocol: Protocol::Tcp,
            address: accepted.remote.ip(),
            port: accepted.local.port(),
            own,
        };
        let identity = Identity { node: self.nodes.contains(&flow.address), ..Identity::default() };
        let decided = self.sim.decide(workload.profile, &flow, &identity);
        let profile = self.profiles.get(workload.profile.0 as usize);
        Ok(decided.zip(profile).map(|(decided, profile)| Outcome {
            verdict: decided.verdict(),
            passes: profile.flags & PROFILE_MISSING_SIDECAR_REFUSE == 0,
        }))
    }

    /// Who listens there on the host: on that address, else on all of its family, else on all.
    fn owner_of(&self, local: SocketAddr) -> Result<Option<PortOwner>> {
        let (exact, family) = match local.ip() {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped().to_bits(), 0xffff_0000_0000),
            IpAddr::V6(v6) => (v6.to_bits(), 0),
        };
        for address in [exact, family, 0] {
            let place = PortKey { address: words(address), port: local.port(), ..PortKey::default() };
            let owner = self.noted(&HOST_PORTS, bytemuck::bytes_of(&place))?;
            if let Some(owner) = owner.and_then(|bytes| bytemuck::try_pod_read_unaligned(&bytes).ok()) {
                return Ok(Some(owner));
            }
        }
        Ok(None)
    }

    fn listens(&self, sidecar: Sidecar) -> Result<bool> {
        if let Some(&known) = self.sidecars.borrow().get(&sidecar) {
            return Ok(known);
        }
        let mut found = false;
        for slot in 0..LISTENER_SLOTS {
            let key = ListenerKey {
                netns: sidecar.netns,
                port: sidecar.port,
                family: sidecar.family,
                slot: u8::try_from(slot).unwrap_or_default(),
                ..ListenerKey::default()
            };
            found = found || self.noted(&LISTENERS, bytemuck::bytes_of(&key))?.is_some();
        }
        self.sidecars.borrow_mut().insert(sidecar, found);
        Ok(found)
    }

    /// A socket for all of IPv6 takes connections of IPv4, too.
    fn somebody_listens(&self, accepted: &Accepted, port: u16) -> Result<bool> {
        let on = |family| Sidecar { netns: accepted.netns, port, family };
        Ok((accepted.local.is_ipv4() && self.listens(on(AF_INET))?) || self.listens(on(AF_INET6))?)
    }

    /// What a map of the programs' own says.
    fn noted(&self, map: &MapDef, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(map) = self.node.system.open_map(&self.node.instance.maps().join(map.name))? else {
            return Ok(None);
        };
        Ok(self.node.system.lookup(&map, key)?)
    }
}
