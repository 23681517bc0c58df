//! Lists of iptables rules as meshes make them, and what they do to a flow.

use std::net::IpAddr;

use ipnet::IpNet;
use mesh_bpf::flow::Protocol;

/// Where a rule leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Return,
    Redirect(u16),
}

/// One rule. What is `None` matches all.
#[derive(Clone, Debug)]
pub struct Rule {
    pub protocol: Option<Protocol>,
    pub ports: Option<(u16, u16)>,
    pub source: Option<IpNet>,
    pub destination: Option<IpNet>,
    pub uid: Option<(u32, u32)>,
    /// Of none of these groups.
    pub no_gid: &'static [u32],
    /// Of this group.
    pub gid: Option<u32>,
    pub interface: Option<&'static str>,
    pub target: Target,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub protocol: Protocol,
    /// The other end.
    pub address: IpAddr,
    pub port: u16,
    pub uid: u32,
    pub gid: u32,
    /// The interface that it goes by.
    pub interface: &'static str,
}

pub const ALL: Rule = Rule {
    protocol: None,
    ports: None,
    source: None,
    destination: None,
    uid: None,
    no_gid: &[],
    gid: None,
    interface: None,
    target: Target::Return,
};

pub fn tcp(port: u16, target: Target) -> Rule {
    Rule { protocol: Some(Protocol::Tcp), ports: Some((port, port)), target, ..ALL }
}

pub fn udp(port: u16, target: Target) -> Rule {
    Rule { protocol: Some(Protocol::Udp), ..tcp(port, target) }
}

pub fn to(net: IpNet, target: Target) -> Rule {
    Rule { destination: Some(net), target, ..ALL }
}

pub fn uid(id: u32) -> Rule {
    Rule { uid: Some((id, id)), ..ALL }
}

/// What goes by an interface is left alone.
pub fn by(interface: &'static str) -> Rule {
    Rule { interface: Some(interface), ..ALL }
}

/// A redirect is always of TCP, whatever leads to it.
pub fn all_tcp(port: u16) -> Rule {
    Rule { protocol: Some(Protocol::Tcp), target: Target::Redirect(port), ..ALL }
}

impl Rule {
    fn matches(&self, asked: &Asked) -> bool {
        self.protocol.is_none_or(|protocol| protocol == asked.protocol)
            && self.ports.is_none_or(|(first, last)| (first..=last).contains(&asked.port))
            && self.source.is_none_or(|net| net.contains(&asked.address))
            && self.destination.is_none_or(|net| net.contains(&asked.address))
            && self.uid.is_none_or(|(first, last)| (first..=last).contains(&asked.uid))
            && !self.no_gid.contains(&asked.gid)
            && self.gid.is_none_or(|gid| gid == asked.gid)
            && self.interface.is_none_or(|name| name == asked.interface)
    }
}

/// The port that a flow is redirected to; `None` where it goes straight.
pub fn walk(rules: &[Rule], asked: &Asked) -> Option<u16> {
    let first = rules.iter().find(|rule| rule.matches(asked))?;
    match first.target {
        Target::Return => None,
        // `-j CHAIN` without a protocol, whose only rule is of TCP.
        Target::Redirect(port) => {
            (first.protocol.is_some() || asked.protocol == Protocol::Tcp).then_some(port)
        }
    }
}

/// Nets of a list as a mesh's shell code reads it.
pub fn nets(list: &str) -> Vec<IpNet> {
    let words = list.split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| word.parse().unwrap_or_else(|_| IpNet::from(word.parse::<IpAddr>().unwrap()))).collect()
}

/// Ports and ranges of them.
pub fn ranges(list: &str) -> Vec<(u16, u16)> {
    let words = list.split(',').map(str::trim).filter(|word| !word.is_empty());
    let port = |word: &str| word.parse().unwrap();
    words
        .map(|word| {
            word.split_once('-').map_or_else(|| (port(word), port(word)), |(a, b)| (port(a), port(b)))
        })
        .collect()
}

/// TCP to these.
pub fn tcp_range(ports: (u16, u16), target: Target) -> Rule {
    Rule { ports: Some(ports), ..tcp(0, target) }
}

/// Ports likewise.
pub fn ports(list: &str) -> Vec<u16> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty()).map(|word| word.parse().unwrap()).collect()
}
