//! Whether a sidecar waits where the live policy sends its members' connections.
//!
//! The programs send a connection to a port, whoever listens there: where nobody does, the application is refused, as
//! by a policy that denies. So the sockets of each pod are asked for what its workload needs. Where the members of a
//! workload are known by their cgroup, their processes may be in any network namespace; those are asked in which a
//! connection was not taken.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use mesh_bpf::abi::{FAMILY_V4, SidecarKey};
use mesh_bpf::flow::{Direction, Protocol, Verdict};
use mesh_bpf::image::{Exempt, IdRange, MapImage, Profile, SourceId};
use mesh_bpf::map::NOT_TAKEN;
use mesh_bpf::membership::Membership;
use mesh_bpf::prefix::Prefix;

use crate::attach::pod;
use crate::commands::status::State;
use crate::error::Result;
use crate::member::{Key, Member};
use crate::members::files;
use crate::runtime::Runtime;
use crate::system::{System, Waits};

/// The family of what is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address, which is not v4-mapped.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A port at which a sidecar has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Whether its members open what comes there, or receive it.
    pub direction: Direction,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Of what is dialled.
    pub family: Family,
    /// Its number.
    pub port: u16,
}

impl Port {
    /// Whether a socket takes what is sent there.
    fn is_served_by(self, socket: &Waits) -> bool {
        let is_there = socket.at.port() == self.port && socket.is_udp == (self.protocol == Protocol::Udp);
        let of_family = match self.family {
            Family::V4 => socket.at.is_ipv4() || socket.takes_v4,
            Family::V6 => socket.at.is_ipv6(),
        };
        // What is opened goes to loopback; inbound traffic is handed to whatever socket has the port.
        let ip = socket.at.ip();
        let reaches = match self.direction {
            Direction::Inbound => true,
            Direction::Outbound => ip.is_unspecified() || ip == self.loopback(),
        };
        is_there && of_family && reaches
    }

    /// The address of loopback: where what is opened is sent.
    #[must_use]
    pub const fn loopback(self) -> IpAddr {
        match self.family {
            Family::V4 => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            Family::V6 => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        }
    }
}

/// A port of a sidecar at which nobody waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unheard {
    /// The member's name.
    pub member: String,
    /// Its Kubernetes namespace.
    pub namespace: Option<String>,
    /// It is a pod, and no process of a cgroup.
    pub is_pod: bool,
    /// The workload that it falls under.
    pub workload: String,
    /// Where its sidecar is needed.
    pub port: Port,
    /// Where somebody waits on a port of that number, and gets nothing.
    pub elsewhere: Vec<SocketAddr>,
    /// Connections that were sent there and not taken, since the maps were made.
    pub not_taken: u64,
}

/// What is known of the sidecars of members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sidecars {
    /// Where one is needed and nobody waits.
    pub unheard: Vec<Unheard>,
    /// Workload and name of the pods in which one waits at a port where it is needed. Who is in neither list needs none,
    /// or cannot be asked.
    pub heard: BTreeSet<(String, String)>,
}

/// A port of a sidecar at which only processes wait that the policy does not exempt, though it exempts some: who is
/// not the sidecar may have taken its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The member's name.
    pub member: String,
    /// Its Kubernetes namespace.
    pub namespace: Option<String>,
    /// The workload that it falls under.
    pub workload: String,
    /// Where its sidecar is needed.
    pub port: Port,
    /// Who waits there.
    pub by: Vec<Stranger>,
}

/// A socket that somebody else than a sidecar has on its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// Where it waits.
    pub at: SocketAddr,
    /// The user that made it.
    pub uid: u32,
    /// The process that has it, with its name as it is to be shown; none where that cannot be found.
    pub process: Option<(u32, String)>,
}

/// Connections that a sidecar did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotTaken {
    /// The member's name.
    pub member: String,
    /// Whether it opened them, or received them.
    pub direction: Direction,
    /// Of what was dialled.
    pub family: Family,
    /// The sidecar's port.
    pub port: u16,
    /// How many.
    pub times: u64,
}

/// The sockets of one namespace.
struct WaitingSockets {
    sockets: Vec<Waits>,
}

impl WaitingSockets {
    fn serves(&self, port: Port) -> bool {
        self.serving(port).next().is_some()
    }

    fn serving(&self, port: Port) -> impl Iterator<Item = &Waits> {
        self.sockets.iter().filter(move |socket| port.is_served_by(socket))
    }

    fn elsewhere(&self, port: Port) -> Vec<SocketAddr> {
        let alike = |socket: &&Waits| {
            socket.at.port() == port.port && socket.is_udp == (port.protocol == Protocol::Udp)
        };
        let found: BTreeSet<SocketAddr> = self.sockets.iter().filter(alike).map(|socket| socket.at).collect();
        found.into_iter().collect()
    }
}

impl<S: System> Runtime<S> {
    /// Where the live policy, which this is the image of, sends members' connections and no sidecar waits for them.
    /// Nothing is sent anywhere while the mesh is paused.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn unheard(&self, image: &MapImage) -> Result<Vec<Unheard>> {
        Ok(self.sidecars(image)?.unheard)
    }

    /// The same, and the pods whose sidecars wait where they are needed.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn sidecars(&self, image: &MapImage) -> Result<Sidecars> {
        if self.head()?.state != State::Active {
            return Ok(Sidecars::default());
        }
        let membership = Membership::of(image);
        let needs: Vec<BTreeSet<Port>> =
            image.profiles.iter().map(|profile| needed(image, profile)).collect();
        let counted = self.counted()?;
        let Sidecars { mut unheard, mut heard } = Sidecars::default();
        for member in files::members(self.node())? {
            let Some(workload) = member.workload(&membership).ok().flatten() else { continue };
            let Some(needs) = needs.get(workload.profile.0 as usize).filter(|needs| !needs.is_empty()) else {
                continue;
            };
            let mut not_taken: BTreeMap<(u64, Direction, Family, u16), u64> = BTreeMap::new();
            for (key, times) in counted.iter().filter(|(key, _)| key.member == member.id) {
                *not_taken.entry((key.netns, direction(key), family(key), key.port)).or_default() += times;
            }
            let mut namespaces: BTreeSet<u64> = not_taken.keys().map(|(netns, ..)| *netns).collect();
            let is_pod = matches!(member.key, Key::Netns(_));
            if let Key::Netns(cookie) = member.key {
                namespaces.insert(cookie);
            }
            for netns in namespaces {
                let Some(waiting) = self.waiting(&member, netns)? else { continue };
                for port in needs {
                    let is_dialled = is_pod && is_dialled(&member, port.family);
                    if waiting.serves(*port) {
                        if is_dialled {
                            heard.insert((workload.name.clone(), member.name.clone()));
                        }
                        continue;
                    }
                    let counted = (netns, port.direction, port.family, port.port);
                    let times = match port.protocol {
                        Protocol::Tcp => not_taken.get(&counted).copied().unwrap_or_default(),
                        Protocol::Udp => 0,
                    };
                    if times == 0 && !is_dialled {
                        continue;
                    }
                    unheard.push(Unheard {
                        member: member.name.clone(),
                        namespace: member.namespace.clone(),
                        is_pod,
                        workload: workload.name.clone(),
                        port: *port,
                        elsewhere: waiting.elsewhere(*port),
                        not_taken: times,
                    });
                }
            }
        }
        Ok(Sidecars { unheard, heard })
    }

    /// Ports of pods' sidecars at which only others wait than those whom the live policy, which this is the image of,
    /// exempts, and root, whom sidecars may begin as. Where it exempts nobody, nobody is known as the sidecar.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn held(&self, image: &MapImage) -> Result<Vec<Held>> {
        if self.head()?.state != State::Active {
            return Ok(Vec::new());
        }
        let membership = Membership::of(image);
        let mut held = Vec::new();
        for member in files::members(self.node())? {
            let Key::Netns(cookie) = member.key else { continue };
            let Some(workload) = member.workload(&membership).ok().flatten() else { continue };
            let Some(profile) = image.profiles.get(workload.profile.0 as usize) else { continue };
            let Exempt { uids, gids, cgroups, .. } = &profile.exempt;
            if uids.is_empty() && gids.is_empty() && cgroups.is_empty() {
                continue;
            }
            let needs = needed(image, profile);
            let waiting = if needs.is_empty() { None } else { self.waiting(&member, cookie)? };
            let Some(waiting) = waiting else { continue };
            let may_be_its = |socket: &Waits| socket.uid == 0 || is_among(uids, socket.uid);
            let mut doubtful: Vec<(Port, Vec<Waits>)> = Vec::new();
            for port in needs {
                let sockets: Vec<Waits> = waiting.serving(port).copied().collect();
                if !sockets.is_empty() && !sockets.iter().any(may_be_its) {
                    doubtful.push((port, sockets));
                }
            }
            let inodes =
                doubtful.iter().flat_map(|(_, sockets)| sockets).map(|socket| socket.inode).collect();
            let holders = self.system.holders(&inodes)?;
            let is_exempt = |socket: &Waits| {
                let holds = holders.get(&socket.inode);
                holds.is_some_and(|holds| {
                    is_among(gids, holds.gid) || cgroups.iter().any(|(path, _)| is_below(&holds.cgroup, path))
                })
            };
            for (port, sockets) in doubtful {
                if sockets.iter().any(is_exempt) {
                    continue;
                }
                let stranger = |socket: &Waits| Stranger {
                    at: socket.at,
                    uid: socket.uid,
                    process: holders.get(&socket.inode).map(|holds| (holds.process, holds.name.clone())),
                };
                held.push(Held {
                    member: member.name.clone(),
                    namespace: member.namespace.clone(),
                    workload: workload.name.clone(),
                    port,
                    by: sockets.iter().map(stranger).collect(),
                });
            }
        }
        Ok(held)
    }

    /// Whether somebody waits now where a connection was sent, in the network namespace with this cookie; `None` where
    /// that cannot be found.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn is_heard(&self, netns: u64, port: Port) -> Result<Option<bool>> {
        let Some(file) = self.system.find_netns(netns)? else { return Ok(None) };
        Ok(self.sockets(file, netns)?.map(|waiting| waiting.serves(port)))
    }

    /// Connections that sidecars did not take, of members that are there.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn not_taken(&self) -> Result<Vec<NotTaken>> {
        let counted = self.counted()?;
        let members = files::members(self.node())?;
        let names: BTreeMap<u32, &str> =
            members.iter().map(|member| (member.id, member.name.as_str())).collect();
        let mut all: BTreeMap<_, u64> = BTreeMap::new();
        for (key, times) in &counted {
            if let Some(name) = names.get(&key.member) {
                *all.entry((*name, direction(key), family(key), key.port)).or_default() += times;
            }
        }
        let of = |((member, direction, family, port), times): ((&str, Direction, Family, u16), u64)| {
            NotTaken { member: member.to_owned(), direction, family, port, times }
        };
        Ok(all.into_iter().map(of).collect())
    }

    /// What the programs added up.
    fn counted(&self) -> Result<Vec<(SidecarKey, u64)>> {
        let Some(map) = self.system.open_map(&self.instance.maps().join(NOT_TAKEN.name))? else {
            return Ok(Vec::new());
        };
        let read = |(key, value): (Vec<u8>, Vec<u8>)| {
            let key = bytemuck::try_pod_read_unaligned(&key).ok()?;
            Some((key, value.try_into().map(u64::from_ne_bytes).ok()?))
        };
        Ok(self.system.entries(&map)?.into_iter().filter_map(read).collect())
    }

    fn waiting(&self, member: &Member, netns: u64) -> Result<Option<WaitingSockets>> {
        let file = match member.key {
            Key::Netns(cookie) if cookie == netns => pod::find(&self.system, member, netns)?,
            _ => self.system.find_netns(netns)?,
        };
        file.map_or(Ok(None), |file| self.sockets(file, netns))
    }

    fn sockets(&self, file: PathBuf, netns: u64) -> Result<Option<WaitingSockets>> {
        match self.system.waiting(&file, netns) {
            Ok(sockets) => Ok(Some(WaitingSockets { sockets })),
            // It ended just now.
            Err(cause) if cause.has_ended() => Ok(None),
            Err(cause) => Err(cause.into()),
        }
    }
}

/// Whether an id is in one of these ranges.
fn is_among(ranges: &[(IdRange, SourceId)], id: u32) -> bool {
    ranges.iter().any(|(range, _)| (range.first..=range.last).contains(&id))
}

/// Whether the path of a cgroup is another one, or below that.
fn is_below(path: &str, other: &str) -> bool {
    path.strip_prefix(other.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a member may dial, or be dialled, by a family: it has an address that is routed.
fn is_dialled(member: &Member, family: Family) -> bool {
    member.own().iter().any(|address| {
        let of_a_link = match address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        Family::of(*address) == family && !of_a_link && !address.is_loopback()
    })
}

/// The ports that a profile sends to.
fn needed(image: &MapImage, profile: &Profile) -> BTreeSet<Port> {
    let mut tables = BTreeSet::new();
    for direction in Direction::ALL {
        for node in profile.trees(direction).flat_map(|side| side.tree.iter().chain(&side.own)) {
            let families: &[Family] = match node.prefix {
                Prefix::Any => &[Family::V4, Family::V6],
                Prefix::V4 { .. } => &[Family::V4],
                Prefix::V6 { .. } => &[Family::V6],
            };
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                // Many nodes share few tables.
                tables.extend(
                    families.iter().map(|family| (direction, protocol, *family, node.table(protocol).0)),
                );
            }
        }
    }
    let mut ports = BTreeSet::new();
    for (direction, protocol, family, table) in tables {
        let Some(table) = image.port_table(mesh_bpf::image::PortTableId(table)) else { continue };
        for (_, decision) in &table.stretches {
            if let Verdict::Redirected { port, .. } = decision.verdict {
                ports.insert(Port { direction, protocol, family, port });
            }
        }
    }
    ports
}

const fn direction(key: &SidecarKey) -> Direction {
    if key.direction == 0 { Direction::Outbound } else { Direction::Inbound }
}

const fn family(key: &SidecarKey) -> Family {
    if key.family == FAMILY_V4 { Family::V4 } else { Family::V6 }
}
