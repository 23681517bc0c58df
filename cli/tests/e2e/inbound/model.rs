//! The kernel decides inbound traffic to a pod as the model does: generated flows over generated policies, really
//! connected. See [`crate::outbound::model`] for the other direction.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use mesh_bpf::flow::{Direction, Flow as Asked, Identity, Protocol, Verdict};
use mesh_bpf::sim::Sim;
use mesh_compiler::compile::Compiled;
use mesh_testbed::kernel_test as test;
use mesh_testbed::{
    Client, Errno, Failure, Manner, Netns, ServerTask, Tested, Town, UdpAnswer, UdpClient, UdpServer,
    long_runs_are_wanted,
};

use crate::fixtures::compiled::{compiled, node_with};
use crate::fixtures::random::{Random, ports};
use crate::fixtures::seen::{Seen, Wrong};
use crate::fixtures::stage::{PORTS, SIDECAR_PORTS};
use crate::fixtures::town::{POD, Pod, Reached, addresses, reached};

/// Flows tried under each policy.
const FLOWS: usize = 30;

/// Sources inside, at the edges of and outside the prefixes of [`PREFIXES`].
const SOURCES: [&str; 10] = [
    "10.9.3.9",
    "10.9.3.255",
    "10.9.4.0",
    "172.16.5.5",
    "172.20.0.1",
    "10.42.1.2",
    "fd10::1",
    "fd10:0:0:3::9",
    "fd10:0:0:3:ffff:ffff:ffff:ffff",
    "fd10:0:0:4::",
];

/// Those of them that are the node's.
const NODE: [&str; 5] = ["10.9.3.9", "172.16.5.5", "10.42.1.2", "fd10::1", "fd10:0:0:3::9"];

const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];

const PREFIXES: [&str; 16] = [
    "10.0.0.0/8",
    "10.9.3.0/24",
    "10.9.3.9",
    "172.16.0.0/12",
    "172.16.5.4/31",
    "0.0.0.0/0",
    "fd10::/16",
    "fd10:0:0:3::/64",
    "fd10:0:0:3::9",
    "::/0",
    "10.42.0.2",
    "fd42::2",
    "10.43.0.1",
    "fd43::1",
    "127.0.0.0/8",
    "::1",
];

#[test]
fn kernel_and_model_agree_on_generated_inbound_connections() -> Tested {
    let pod = Pod::new(super::WAY)?;
    pod.attach()?;
    let _servers = serve(&pod)?;
    // Whoever applies is on the node, whose addresses are these.
    let node = node_with(&NODE)?;
    let reached_at = ReachedAt { town: pod.town(), netns: &pod.town().pod, addresses: POD, nodes: &NODE };
    let apply = |rules: &str| {
        let policy = pod.policy(rules)?;
        let Some(compiled) = compiled(&policy)? else { return Ok(None) };
        node.run(|| pod.ask(&["apply", "--allow-leaving", &policy.display().to_string()]))??;
        Ok(Some(compiled))
    };
    let ports = [&PORTS[..], &SIDECAR_PORTS[..1]].concat();
    let counts = reached_at.agree(&[Protocol::Tcp, Protocol::Tcp, Protocol::Udp], &ports, apply)?;
    for kind in ["straight", "redirected", "denied"] {
        for rest in ["tcp v4", "tcp v6", "tcp own v4", "tcp own v6", "udp v4", "udp v6"] {
            let name = format!("{kind} {rest}");
            let expected = !name.starts_with("redirected udp");
            assert_eq!(counts.contains_key(&name), expected, "{name}: {counts:?}");
        }
    }
    Ok(())
}

/// What connections come to.
pub(crate) struct ReachedAt<'a> {
    pub(crate) town: &'a Town,
    /// The namespace, and an address of it by either family.
    pub(crate) netns: &'a Netns,
    pub(crate) addresses: [&'a str; 2],
    /// Those of [`SOURCES`] that are the node's.
    pub(crate) nodes: &'a [&'a str],
}

impl ReachedAt<'_> {
    /// Applies generated policies and tries flows under each; `apply` returns what it applied, and none where a policy
    /// contradicts itself. Returns how many flows there were of each kind.
    pub(crate) fn agree(
        &self,
        protocols: &[Protocol],
        ports: &[u16],
        apply: impl Fn(&str) -> Result<Option<Compiled>, Failure>,
    ) -> Result<BTreeMap<String, usize>, Failure> {
        self.reach()?;
        let wanted = if long_runs_are_wanted() { 400 } else { 36 };
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let (mut applied, mut seed) = (0, 0);
        while applied < wanted {
            seed += 1;
            let mut random = Random::new(seed);
            let text = rules(&mut random);
            let Some(compiled) = apply(&text)? else { continue };
            applied += 1;
            for _ in 0..FLOWS {
                let flow = self.any(&mut random, protocols, ports)?;
                let (kernel, model) = (flow.try_it(self)?, flow.decided(self, &compiled)?);
                assert_eq!(kernel, model, "seed {seed}, {flow:?}: kernel and model; {text}");
                *counts.entry(flow.kind(kernel)).or_default() += 1;
            }
        }
        Ok(counts)
    }

    /// Gives the other pod all sources, and tells each of them of every datagram that is denied: the kernel answers one
    /// address a few times a second at the most.
    fn reach(&self) -> Tested {
        for family in ["net/ipv4/icmp_ratelimit", "net/ipv6/icmp/ratelimit"] {
            self.netns.set(family, "0")?;
        }
        for (range, via) in
            [("10.9.0.0/16", "10.42.1.2"), ("172.16.0.0/12", "10.42.1.2"), ("fd10::/16", "fd42:1::2")]
        {
            self.town.other.own(range)?;
            self.town.host.ip(&format!("route add {range} via {via}"))?;
        }
        Ok(())
    }

    fn any(&self, random: &mut Random, protocols: &[Protocol], ports: &[u16]) -> Result<Flow, Failure> {
        let sources: Vec<_> = SOURCES.iter().chain(&self.addresses).chain(&LOOPBACK).collect();
        let source: IpAddr = sources.get(random.below(sources.len())).ok_or("no source")?.parse()?;
        let protocol = *protocols.get(random.below(protocols.len())).ok_or("no protocol")?;
        let [v4, v6] = self.addresses;
        let ip: IpAddr = match source {
            source if source.is_loopback() => source,
            IpAddr::V4(_) => v4.parse()?,
            IpAddr::V6(_) => v6.parse()?,
        };
        let ports = if protocol == Protocol::Udp { &PORTS } else { ports };
        let port = *ports.get(random.below(ports.len())).ok_or("no port")?;
        Ok(Flow { source, target: SocketAddr::new(ip, port), protocol })
    }
}

/// A sidecar for each port, whose name is its port, and the application.
fn serve(pod: &Pod) -> Result<(Vec<ServerTask>, UdpServer), Failure> {
    let mut servers = Vec::new();
    let everywhere = |port: u16| [format!("0.0.0.0:{port}"), format!("[::]:{port}")];
    for port in SIDECAR_PORTS {
        let [v4, v6] = everywhere(port);
        servers.push(pod.serve(&port.to_string(), &[&v4, &v6])?);
    }
    let all: Vec<String> = PORTS.into_iter().flat_map(everywhere).collect();
    servers.push(pod.serve("application", &all.iter().map(String::as_str).collect::<Vec<_>>())?);
    let own = ["10.42.0.2", "[fd42::2]", "127.0.0.1", "[::1]"];
    let own: Vec<String> = (own.iter().flat_map(|ip| PORTS.map(|port| format!("{ip}:{port}")))).collect();
    let own = addresses(&own.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok((servers, UdpServer::start(&pod.town().pod, "application", &own)?))
}

fn rules(random: &mut Random) -> String {
    (0..2 + random.below(8)).map(|_| rule(random)).collect()
}

fn rule(random: &mut Random) -> String {
    if random.below(6) == 0 {
        return outbound(random);
    }
    let verb = random.one(["redirect", "redirect", "exclude", "deny"]);
    let always = if random.often(1) { "always " } else { "" };
    let mut ports = ports(random);
    let mut leads = String::new();
    if verb == "redirect" {
        // Datagrams cannot be.
        ports = ports.replace(" udp", " tcp").replace(" any", " tcp");
        leads = format!(" -> {}", random.one(SIDECAR_PORTS));
    }
    let (one, other) = (random.one(PREFIXES), random.one(PREFIXES));
    let from = match random.below(12) {
        0..4 => String::new(),
        4..7 if one != other => format!(" from {one}, {other}"),
        7 => " from node".to_owned(),
        8 if random.often(3) => format!(" from {one}, node"),
        _ => format!(" from {one}"),
    };
    format!("{always}{verb} inbound{ports}{from}{leads}\n")
}

/// A redirect of something else, whose port belongs to the member where no inbound redirect leads to it. Two that lead
/// to different ports meet nowhere.
fn outbound(random: &mut Random) -> String {
    let port = random.one([SIDECAR_PORTS[0], PORTS[0], PORTS[1], PORTS[2]]);
    let protocol = random.one(["tcp", "udp"]);
    format!("redirect outbound {protocol} {port} to 198.51.100.7 -> {port}\n")
}

/// One connection or datagram to try.
#[derive(Clone, Copy, Debug)]
struct Flow {
    source: IpAddr,
    target: SocketAddr,
    protocol: Protocol,
}

impl Flow {
    fn is_own(&self) -> bool {
        self.source == self.target.ip()
    }

    /// No outbound program decides it: this process is not below the instance's cgroup.
    fn try_it(&self, to: &ReachedAt<'_>) -> Result<Seen, Failure> {
        let from: &Netns = if self.is_own() { to.netns } else { &to.town.other };
        let source = SocketAddr::new(self.source, 0);
        if self.protocol == Protocol::Udp {
            let client = UdpClient::new(Manner::Connected).from(source);
            return Ok(judged(from.run(|| client.ask(self.target, "who?"))?));
        }
        let dialled = from.run(|| Client::to(self.target).from(source).dial())?;
        Ok(match reached(dialled, self.target) {
            Reached::Straight(_) => Seen::Straight,
            Reached::Redirected(who) => Seen::Redirected(who.parse()?),
            Reached::Failed(Errno::ECONNREFUSED) => Seen::Denied,
            Reached::Failed(Errno(error)) => Seen::Wrong(Wrong::Error(error)),
            Reached::Wrong(_) => Seen::Wrong(Wrong::Destination),
        })
    }

    /// What the model says.
    fn decided(&self, to: &ReachedAt<'_>, compiled: &Compiled) -> Result<Seen, Failure> {
        let asked = Asked {
            direction: Direction::Inbound,
            protocol: self.protocol,
            address: self.source,
            port: self.target.port(),
            own: self.is_own() && !self.source.is_loopback(),
        };
        let profile = compiled.image.workloads.first().ok_or("no workload")?.profile;
        let node = to.nodes.iter().any(|ip| ip.parse() == Ok(self.source));
        let identity = Identity { node, ..Identity::default() };
        let decided = Sim::new(&compiled.tables)?.decide(profile, &asked, &identity);
        Ok(match decided.ok_or("a table does not answer")?.verdict() {
            Verdict::Redirected { port, .. } => Seen::Redirected(port),
            Verdict::Excluded => Seen::Straight,
            Verdict::Denied => Seen::Denied,
        })
    }

    fn kind(&self, seen: Seen) -> String {
        let verdict = match seen {
            Seen::Redirected(_) => "redirected",
            Seen::Straight => "straight",
            Seen::Denied => "denied",
            Seen::Wrong(_) => "wrong",
        };
        let own = if self.is_own() && self.protocol == Protocol::Tcp { "own " } else { "" };
        let family = if self.source.is_ipv4() { "v4" } else { "v6" };
        format!("{verdict} {} {own}{family}", self.protocol)
    }
}

fn judged(answer: Result<UdpAnswer, Errno>) -> Seen {
    match answer {
        Ok(_) => Seen::Straight,
        Err(Errno::ECONNREFUSED) => Seen::Denied,
        Err(Errno(error)) => Seen::Wrong(Wrong::Error(error)),
    }
}
