//! Interfaces that policies exempt: which of a member's network namespace they are, and where its routes lead by them.
//!
//! A policy names interfaces, and the kernel's programs see numbers and destinations. So what a member's namespace has is
//! looked at when the member joins, when a policy comes, and when the agent is told of a change; the programs look it up by the
//! member's number. Nothing is looked at for members that no interface is exempt of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use mesh_bpf::abi::{InterfaceKey, NamedCgroup, ROUTE_BITS, RouteKey};
use mesh_bpf::image::SourceId;
use mesh_bpf::membership::Membership;
use mesh_bpf::pack::words;
use mesh_bpf::prefix::{Apart, Prefix};
use mesh_bpf::selector::interface_by;

use crate::attach::pod;
use crate::error::Result;
use crate::maps::slot::PerSlot;
use crate::member::{Key, Member};
use crate::members::files;
use crate::members::registry::{Policies, Registry};
use crate::system::{HOST_NETNS, Network, System};

/// So many exempt interfaces of a member count: whoever may make interfaces must not fill what all members' are kept in.
const INTERFACES: usize = 1024;
/// So many prefixes of a member may be told apart by whether routes lead there by exempt interfaces. Where there are more, no
/// route is followed, and the policy decides.
const ROUTES: usize = 1024;

/// The entries of the kernel's maps.
type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// What the policy exempts of the interfaces that a member's network namespace has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExemptInterfaces {
    /// The interfaces of the namespace by their names, and whether each is exempt.
    pub interfaces: Vec<(String, bool)>,
    /// How many prefixes routes lead to by those, or within these by others.
    pub routes: usize,
    /// How many rules and routes look at more than a destination: what they choose is not followed.
    pub special: usize,
    /// There are more routes than are followed, and none is.
    pub has_too_many: bool,
}

/// What of a network namespace one policy exempts.
#[derive(Debug, Default)]
struct NamespaceExemptions {
    interfaces: BTreeMap<u32, SourceId>,
    /// The addresses as of IPv6, v4-mapped; 0: not by exempt interfaces.
    routes: Vec<(Block, SourceId)>,
    has_too_many: bool,
}

/// The network address as of IPv6, and the length.
type Block = (u128, u8);

const NOT_EXEMPT: SourceId = SourceId(0);

impl NamespaceExemptions {
    fn of(network: &Network, patterns: &[(String, SourceId)]) -> Self {
        let source = |name: &str| interface_by(patterns, Some(name)).map(|&(_, source)| source);
        let interfaces =
            network.interfaces.iter().filter_map(|(&number, name)| Some((number, source(name)?)));
        let interfaces: BTreeMap<u32, SourceId> = interfaces.take(INTERFACES).collect();
        let routes = routes(network, &interfaces);
        let has_too_many = network.has_too_many || routes.len() > ROUTES;
        Self { interfaces, routes: if has_too_many { Vec::new() } else { routes }, has_too_many }
    }

    fn entries(&self, member: u32, slot: u32) -> [Entries; 2] {
        let value = |source: SourceId| source.0.to_ne_bytes().to_vec();
        let interfaces = self.interfaces.iter().map(|(&index, &source)| {
            let key = InterfaceKey { member, slot, index };
            (bytemuck::bytes_of(&key).to_vec(), value(source))
        });
        let routes = self.routes.iter().map(|&((address, len), source)| {
            let key = RouteKey { bits: ROUTE_BITS + u32::from(len), member, slot, address: words(address) };
            (bytemuck::bytes_of(&key).to_vec(), value(source))
        });
        [interfaces.collect(), routes.collect()]
    }
}

/// The prefixes at which it changes whether a route leads by exempt interfaces alone, the wider ones first.
fn routes(network: &Network, exempt: &BTreeMap<u32, SourceId>) -> Vec<(Block, SourceId)> {
    let block = |prefix: Prefix| match prefix {
        Prefix::Any => (0, 0),
        Prefix::V4 { bits, len } => (0xffff_0000_0000 | u128::from(bits), len + 96),
        Prefix::V6 { bits, len } => (bits, len),
    };
    // No route of IPv6 leads to IPv4, and nothing leaves by loopback.
    let no_route = [(block(Prefix::V4 { bits: 0, len: 0 }), NOT_EXEMPT)];
    let mut all: BTreeMap<Block, SourceId> = BTreeMap::from(no_route);
    all.extend(network.routes.iter().map(|(&prefix, by)| {
        let sources: Option<Vec<SourceId>> = by.iter().map(|number| exempt.get(number).copied()).collect();
        (block(prefix), sources.unwrap_or_default().first().copied().unwrap_or(NOT_EXEMPT))
    }));
    all.extend(Apart::Loopback.prefixes().iter().map(|&prefix| (block(prefix), NOT_EXEMPT)));
    let mut changes: Vec<(Block, SourceId)> = Vec::new();
    let mut around: Vec<(Block, SourceId)> = Vec::new();
    for (block, source) in all {
        while around.pop_if(|(wider, _)| !holds(*wider, block)).is_some() {}
        if around.last().map_or(NOT_EXEMPT, |&(_, source)| source) != source {
            changes.push((block, source));
            around.push((block, source));
        }
    }
    changes
}

/// Whether the second block lies in the first.
fn holds((address, len): Block, (other, longer): Block) -> bool {
    len <= longer && (address ^ other).checked_shr(128 - u32::from(len)).unwrap_or(0) == 0
}

/// Network namespaces that were read.
#[derive(Debug, Default)]
pub(super) struct SeenNetworks {
    host: Option<Network>,
}

impl<S: System> Registry<'_, S> {
    /// Brings what the programs know of a member's exempt interfaces in line with the policies. How much was changed.
    pub(crate) fn exempt_interfaces(&self, member: &Member, policies: Policies<'_>) -> Result<usize> {
        // Where nothing is exempt, the next refresh tidies up what is left of another policy.
        if !policies.into_iter().flatten().any(|policy| !policy.exempt_interfaces.is_empty()) {
            return Ok(0);
        }
        let wanted = self.interface_entries(member, policies, &mut SeenNetworks::default())?;
        self.align_interfaces(wanted, |id, slot| id == member.id && is_given(policies, slot))
    }

    /// The same of all members, and of cgroups that are not there yet.
    pub(crate) fn exempt_all_interfaces(
        &self,
        members: &[Member],
        paths: &BTreeMap<String, u32>,
        policies: Policies<'_>,
    ) -> Result<usize> {
        // A cgroup that is made at a path which a policy names joins by itself, with the number of that path.
        let to_come = paths.iter().map(|(path, &id)| Member::selected(id, Key::Cgroup(0), path));
        let all: Vec<Member> = members.iter().cloned().chain(to_come).collect();
        let known: BTreeSet<u32> = all.iter().map(|member| member.id).collect();
        let wanted = self.all_interface_entries(&all, policies)?;
        self.align_interfaces(wanted, |id, slot| is_given(policies, slot) || !known.contains(&id))
    }

    /// The same of processes of the host alone.
    pub(crate) fn exempt_host_interfaces(&self, policies: Policies<'_>) -> Result<usize> {
        let mut all = files::members(self.node)?;
        all.retain(|member| matches!(member.key, Key::Cgroup(_)));
        for (key, value) in self.node.system.entries(&self.maps.cgroup_paths)? {
            let Ok(named) = bytemuck::try_pod_read_unaligned::<NamedCgroup>(&value) else { continue };
            let path = key.split(|&byte| byte == 0).next().map(String::from_utf8_lossy).unwrap_or_default();
            all.push(Member::selected(named.becomes.id, Key::Cgroup(0), &path));
        }
        let known: BTreeSet<u32> = all.iter().map(|member| member.id).collect();
        let wanted = self.all_interface_entries(&all, policies)?;
        self.align_interfaces(wanted, |id, slot| is_given(policies, slot) && known.contains(&id))
    }

    fn all_interface_entries(&self, members: &[Member], policies: Policies<'_>) -> Result<[Entries; 2]> {
        let (mut wanted, mut seen) = ([Entries::new(), Entries::new()], SeenNetworks::default());
        if policies.into_iter().flatten().any(|policy| !policy.exempt_interfaces.is_empty()) {
            for member in members {
                let of_member = self.interface_entries(member, policies, &mut seen)?;
                wanted.iter_mut().zip(of_member).for_each(|(all, more)| all.extend(more));
            }
        }
        Ok(wanted)
    }

    /// Nothing of a member that leaves stays.
    pub(super) fn forget_interfaces(&self, id: u32) -> Result<()> {
        self.align_interfaces(Default::default(), |other, _| other == id).map(drop)
    }

    fn align_interfaces(
        &self,
        [interfaces, routes]: [Entries; 2],
        is_ours: impl Fn(u32, u32) -> bool,
    ) -> Result<usize> {
        let mut changed = 0;
        if let Some(map) = &self.maps.exempt_ifaces {
            let is_ours = |key: &[u8]| {
                let key = bytemuck::try_pod_read_unaligned::<InterfaceKey>(key);
                key.is_ok_and(|key| is_ours(key.member, key.slot))
            };
            changed += self.align(map, interfaces, is_ours)?;
        }
        if let Some(map) = &self.maps.exempt_routes {
            let is_ours = |key: &[u8]| {
                let key = bytemuck::try_pod_read_unaligned::<RouteKey>(key);
                key.is_ok_and(|key| is_ours(key.member, key.slot))
            };
            changed += self.align(map, routes, is_ours)?;
        }
        Ok(changed)
    }

    /// What the programs are to know of a member.
    fn interface_entries(
        &self,
        member: &Member,
        policies: Policies<'_>,
        seen: &mut SeenNetworks,
    ) -> Result<[Entries; 2]> {
        let (mut interfaces, mut routes) = (Entries::new(), Entries::new());
        for (slot, policy) in (0u32..).zip(policies) {
            let Some((exempt, _)) =
                policy.map(|policy| self.exemptions(member, policy, seen)).transpose()?.flatten()
            else {
                continue;
            };
            let [more_interfaces, more_routes] = exempt.entries(member.id, slot);
            interfaces.extend(more_interfaces);
            routes.extend(more_routes);
        }
        Ok([interfaces, routes])
    }

    /// What a policy exempts of a member's namespace; `None` where it exempts no interface of the member, or where the
    /// namespace has gone.
    fn exemptions(
        &self,
        member: &Member,
        policy: &Membership,
        seen: &mut SeenNetworks,
    ) -> Result<Option<(NamespaceExemptions, Network)>> {
        // One that two workloads select has no profile, and that is told elsewhere.
        let Ok(Some(workload)) = member.workload(policy) else { return Ok(None) };
        let Some(patterns) = policy.exempt_interfaces.get(&workload.profile) else { return Ok(None) };
        let Some(network) = self.network(member, seen)? else { return Ok(None) };
        Ok(Some((NamespaceExemptions::of(&network, patterns), network)))
    }

    fn network(&self, member: &Member, seen: &mut SeenNetworks) -> Result<Option<Network>> {
        let netns: PathBuf = match (member.key, &seen.host) {
            (Key::Cgroup(_), Some(host)) => return Ok(Some(host.clone())),
            (Key::Cgroup(_), None) => Path::new(HOST_NETNS).into(),
            (Key::Netns(cookie), _) => match pod::find(self.node.system, member, cookie)? {
                Some(netns) => netns,
                None => return Ok(None),
            },
        };
        match self.node.system.netns_network(&netns) {
            Ok(network) => {
                if matches!(member.key, Key::Cgroup(_)) {
                    seen.host = Some(network.clone());
                }
                Ok(Some(network))
            }
            // It ended just now.
            Err(cause) if cause.errno() == Some(libc::ENOENT) => Ok(None),
            Err(cause) => Err(cause.into()),
        }
    }

    /// What the live policy exempts of a member's interfaces, as they are; `None` where it exempts none.
    pub(crate) fn exempt_interfaces_of(
        &self,
        member: &Member,
        policy: &Membership,
    ) -> Result<Option<ExemptInterfaces>> {
        let found = self.exemptions(member, policy, &mut SeenNetworks::default())?;
        Ok(found.map(|(exempt, network)| ExemptInterfaces {
            interfaces: (network.interfaces.into_iter())
                .map(|(number, name)| (name, exempt.interfaces.contains_key(&number)))
                .collect(),
            routes: exempt.routes.len(),
            special: network.special,
            has_too_many: exempt.has_too_many,
        }))
    }

    /// Whether the programs know another of a member's exempt interfaces than there are.
    pub(super) fn has_other_interfaces(
        &self,
        member: &Member,
        number: u32,
        slot: u32,
        policy: &Membership,
    ) -> Result<bool> {
        if policy.exempt_interfaces.is_empty() {
            return Ok(false);
        }
        let member = Member { id: number, ..member.clone() };
        let policies = PerSlot::of(slot, Some(policy), None);
        let [interfaces, routes] = self.interface_entries(&member, policies, &mut SeenNetworks::default())?;
        let known = |map: &Option<S::Map>, is_ours: fn(&[u8]) -> Option<(u32, u32)>| {
            let Some(map) = map else { return Ok::<_, crate::error::Error>(Entries::new()) };
            let all = self.node.system.entries(map)?.into_iter();
            Ok(all.filter(|(key, _)| is_ours(key) == Some((number, slot))).collect())
        };
        let of_interface = |key: &[u8]| {
            let key: InterfaceKey = bytemuck::try_pod_read_unaligned(key).ok()?;
            Some((key.member, key.slot))
        };
        let of_route = |key: &[u8]| {
            let key: RouteKey = bytemuck::try_pod_read_unaligned(key).ok()?;
            Some((key.member, key.slot))
        };
        Ok(known(&self.maps.exempt_ifaces, of_interface)? != interfaces
            || known(&self.maps.exempt_routes, of_route)? != routes)
    }
}

fn is_given(policies: Policies<'_>, slot: u32) -> bool {
    (0u32..).zip(policies).any(|(given, policy)| given == slot && policy.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NET1: SourceId = SourceId(7);
    const NET2: SourceId = SourceId(8);

    fn prefix(text: &str) -> Prefix {
        let (address, len) = text.split_once('/').unwrap();
        Prefix::host(address.parse().unwrap()).shortened(len.parse().unwrap()).unwrap()
    }

    /// `eth0` is 2, `net1` is 3 and `net2` is 4.
    fn network(routes: &[(&str, &[u32])]) -> Network {
        let named = [(2, "eth0"), (3, "net1"), (4, "net2")];
        Network {
            interfaces: named.map(|(number, name)| (number, name.to_owned())).into(),
            routes: routes.iter().map(|(text, by)| (prefix(text), by.iter().copied().collect())).collect(),
            ..Network::default()
        }
    }

    /// The prefixes that are told apart.
    fn told(routes: &[(&str, &[u32])]) -> Vec<(String, u32)> {
        let patterns = [("net1".to_owned(), NET1), ("net2".to_owned(), NET2)];
        let exempt = NamespaceExemptions::of(&network(routes), &patterns);
        let text = |(address, len): Block| {
            let v6 = std::net::Ipv6Addr::from(address);
            match v6.to_canonical() {
                std::net::IpAddr::V4(v4) => format!("{v4}/{}", len - 96),
                std::net::IpAddr::V6(v6) => format!("{v6}/{len}"),
            }
        };
        exempt.routes.into_iter().map(|(block, source)| (text(block), source.0)).collect()
    }

    fn is(found: &[(String, u32)], expected: &[(&str, u32)]) {
        let found: Vec<(&str, u32)> = found.iter().map(|(text, source)| (text.as_str(), *source)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn only_what_routes_tell_apart_is_told() {
        is(&told(&[("0.0.0.0/0", &[2]), ("10.244.0.0/16", &[2]), ("::/0", &[2])]), &[]);
        is(
            &told(&[
                ("0.0.0.0/0", &[2]),
                ("192.168.5.0/24", &[3]),
                ("192.168.5.2/32", &[]),
                ("192.168.5.9/32", &[3]),
                ("192.168.6.0/24", &[4]),
                ("fd05::/64", &[3]),
            ]),
            &[("192.168.5.0/24", 7), ("192.168.5.2/32", 0), ("192.168.6.0/24", 8), ("fd05::/64", 7)],
        );
    }

    #[test]
    fn a_default_route_exempts_neither_loopback_nor_the_other_family() {
        is(
            &told(&[("::/0", &[3]), ("10.0.0.0/8", &[2])]),
            &[("::/0", 7), ("::/128", 0), ("::1/128", 0), ("0.0.0.0/0", 0)],
        );
        is(
            &told(&[("0.0.0.0/0", &[3]), ("10.0.0.0/8", &[2])]),
            &[("0.0.0.0/0", 7), ("0.0.0.0/32", 0), ("10.0.0.0/8", 0), ("127.0.0.0/8", 0)],
        );
    }

    #[test]
    fn of_several_ways_all_must_be_exempt() {
        is(&told(&[("10.0.0.0/8", &[3, 2])]), &[]);
        is(&told(&[("10.0.0.0/8", &[3, 4])]), &[("10.0.0.0/8", 7)]);
    }

    #[test]
    fn too_many_routes_are_followed_no_more() {
        let text: Vec<String> = (0..1025).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect();
        let one = |text: &String| (prefix(text), [3].into());
        let of =
            |count: usize| Network { routes: text.iter().take(count).map(one).collect(), ..network(&[]) };
        let patterns = [("net1".to_owned(), NET1)];
        let (fits, over) =
            (NamespaceExemptions::of(&of(1024), &patterns), NamespaceExemptions::of(&of(1025), &patterns));
        assert_eq!((fits.routes.len(), fits.has_too_many), (1024, false));
        assert_eq!((over.routes.len(), over.has_too_many, over.interfaces.len()), (0, true, 1));
        let unread = NamespaceExemptions::of(&Network { has_too_many: true, ..of(1) }, &patterns);
        assert_eq!((unread.routes.len(), unread.has_too_many), (0, true));
    }
}
