//! The kernel decides as the tables do: generated flows under generated policies, really connected.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use mesh_bpf::flow::{Direction, Flow, Identity, Protocol, Verdict};
use mesh_bpf::sim::Sim;
use mesh_nft::Scene;
use mesh_testbed::kernel_test as test;
use mesh_testbed::{Cgroup as Made, Failure, Manner, Place, Tested, long_runs_are_wanted};

use crate::fixtures::{OWN, PORTS, Policy, SIDECAR, Seen, Stage, cgroup, load};

/// Flows under each policy.
const FLOWS: usize = 24;
/// Addresses within, beside and at the edges of [`PREFIXES`], which answer datagrams too.
const TARGETS: [&str; 8] = [
    "10.0.3.9",
    "10.0.4.0",
    "10.9.0.1",
    "172.16.5.5",
    "fd10:0:0:3::9",
    "fd10:0:0:4::",
    "fd10:1::1",
    "fd10:ffff::1",
];
const PREFIXES: [&str; 10] = [
    "10.0.0.0/8",
    "10.0.3.0/24",
    "10.0.3.9",
    "172.16.0.0/12",
    "0.0.0.0/0",
    "fd10::/16",
    "fd10:0:0:3::/64",
    "fd10:0:0:3::9",
    "192.168.7.2",
    "fd07::2",
];
/// Those of [`TARGETS`] that are the node's.
const NODE: [&str; 3] = ["10.9.0.1", "172.16.5.5", "fd10:1::1"];
/// Where connections to the pod come from.
const OUTSIDE: [&str; 4] = ["10.0.3.9", "172.16.5.5", "fd10:0:0:3::9", "fd10:1::1"];
const IDS: [u32; 4] = [0, 999, 1000, 1999];

#[test]
fn kernel_and_tables_agree_on_generated_flows_under_generated_policies() -> Tested {
    let stage = Stage::new()?;
    let job = Made::new()?;
    let step = job.child("step")?;
    let paths = [job.within()?, step.within()?];
    let wanted = if long_runs_are_wanted() { 300 } else { 30 };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let (mut loaded, mut seed) = (0, 0);
    while loaded < wanted {
        seed += 1;
        let mut random = Random(seed);
        let rules = rules(&mut random, &paths);
        let Some(policy) = Policy::read(&rules) else { continue };
        let mut scene = policy.pod("cart", &OWN)?;
        scene.node = NODE.iter().map(|ip| ip.parse()).collect::<Result<_, _>>()?;
        scene.cgroups = [(paths[0].clone(), cgroup(&job)?), (paths[1].clone(), cgroup(&step)?)].into();
        load(&stage.pair.client, seed, policy.ruleset(&scene)?)?;
        loaded += 1;
        for _ in 0..FLOWS {
            let asked = Asked::any(&mut random);
            let place = match asked.depth {
                0 => stage.pod(),
                1 => stage.pod().cgroup(&job),
                _ => stage.pod().cgroup(&step),
            };
            let kernel = asked.seen(&stage, place)?;
            let tables = asked.decided(&policy, &scene, &paths)?;
            assert_eq!(kernel, tables, "seed {seed}, {asked:?}: kernel and tables; {rules}");
            let of = format!("{:?} {:?} {}", asked.direction, asked.protocol, word(&kernel));
            *counts.entry(of).or_default() += 1;
        }
    }
    for verdict in ["Redirected", "Straight", "Denied"] {
        for of in ["Outbound Tcp", "Outbound Udp", "Inbound Tcp", "Inbound Udp"] {
            let name = format!("{of} {verdict}");
            // No policy can redirect what a member receives by datagram.
            assert!(counts.contains_key(&name) != (name == "Inbound Udp Redirected"), "{name}: {counts:?}");
        }
    }
    Ok(())
}

/// One flow.
#[derive(Debug)]
struct Asked {
    direction: Direction,
    protocol: Protocol,
    ip: IpAddr,
    port: u16,
    uid: u32,
    gid: u32,
    depth: usize,
}

impl Asked {
    fn any(random: &mut Random) -> Self {
        let direction = if random.often(7) { Direction::Outbound } else { Direction::Inbound };
        let protocol = if random.often(7) { Protocol::Tcp } else { Protocol::Udp };
        let ip = match (direction, protocol) {
            (Direction::Inbound, _) => random.one(&OUTSIDE),
            (_, Protocol::Udp) => random.one(&OUTSIDE),
            _ => random.one(&TARGETS),
        };
        Self {
            direction,
            protocol,
            ip: ip.parse().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
            port: random.one(&PORTS),
            uid: if random.often(1) { 1500 } else { random.one(&IDS) },
            gid: random.one(&IDS),
            depth: random.below(3),
        }
    }

    fn seen(&self, stage: &Stage, place: Place) -> Result<Seen, Failure> {
        let to = match (self.direction, self.ip) {
            (Direction::Outbound, ip) => ip,
            (Direction::Inbound, IpAddr::V4(_)) => OWN[0].parse()?,
            (Direction::Inbound, IpAddr::V6(_)) => OWN[1].parse()?,
        };
        let to = SocketAddr::new(to, self.port);
        let (place, from) = match self.direction {
            Direction::Outbound => (place.gid(self.gid).uid(self.uid), None),
            Direction::Inbound => (stage.outside(), Some(SocketAddr::new(self.ip, 0))),
        };
        Ok(match self.protocol {
            Protocol::Tcp => place.run(|| Seen::from_to(from, to))?,
            // What is refused by ICMP is heard by a socket that is connected.
            Protocol::Udp => place.run(|| Seen::of_datagram(from, to, Manner::Connected))?,
        })
    }

    fn decided(&self, policy: &Policy, scene: &Scene, paths: &[String; 2]) -> Result<Seen, Failure> {
        let flow = Flow {
            direction: self.direction,
            protocol: self.protocol,
            address: self.ip,
            port: self.port,
            own: false,
        };
        let identity = Identity {
            uid: Some(self.uid),
            gid: Some(self.gid),
            cgroup: self.depth.checked_sub(1).and_then(|at| paths.get(at)).cloned(),
            interface: Some("eth0".to_owned()),
            node: scene.node.contains(&self.ip),
        };
        let decided = Sim::new(&policy.tables)?.decide(policy.profile("cart")?, &flow, &identity);
        Ok(match decided.ok_or("a table does not answer")?.verdict() {
            Verdict::Redirected { port, .. } => Seen::Redirected(port),
            Verdict::Excluded => Seen::Straight,
            Verdict::Denied => Seen::Denied,
        })
    }
}

fn word(seen: &Seen) -> &'static str {
    match seen {
        Seen::Redirected(_) => "Redirected",
        Seen::Straight => "Straight",
        Seen::Denied => "Denied",
        Seen::Wrong(_) => "Wrong",
    }
}

fn rules(random: &mut Random, paths: &[String; 2]) -> String {
    let mut text = "exempt uid 1500\nmesh m {\nworkload cart { address 192.168.7.2, fd07::2 }\n".to_owned();
    if random.often(3) {
        text.push_str(&format!("exempt cgroup \"{}\"\n", paths[1]));
    }
    for _ in 0..3 + random.below(9) {
        text.push_str(&rule(random, paths));
    }
    text + "}\n"
}

fn rule(random: &mut Random, paths: &[String; 2]) -> String {
    let direction = random.one(&["outbound", "outbound", "inbound"]);
    let verb = random.one(&["redirect", "exclude", "deny"]);
    let protocol = match (verb, direction) {
        ("redirect", "inbound") => "tcp",
        _ => random.one(&["tcp", "udp", "any"]),
    };
    let (one, other) = (random.one(&PORTS), random.one(&PORTS));
    let ports = match random.below(5) {
        0 | 1 => String::new(),
        2 => format!(" {}-{}", one.min(other), one.max(other)),
        3 => format!(" not {one}"),
        _ => format!(" {one}"),
    };
    let to = if direction == "outbound" { "to" } else { "from" };
    let address = match random.below(6) {
        0 | 1 => String::new(),
        2 => format!(" {to} node"),
        _ => format!(" {to} {}", random.one(&PREFIXES)),
    };
    let who = match (direction, random.below(8)) {
        ("outbound", 0) => " as uid 1000-1999".to_owned(),
        ("outbound", 1) => " as gid 999".to_owned(),
        ("outbound", 2) => format!(" as cgroup \"{}\"", random.one(paths)),
        ("outbound", 3) => format!(" as uid 0 and cgroup \"{}\"", random.one(paths)),
        _ => String::new(),
    };
    let leads = match (verb, direction) {
        ("redirect", "inbound") => format!(" -> {}", SIDECAR[2]),
        ("redirect", _) => format!(" -> {}", random.one(&[SIDECAR[0], SIDECAR[1]])),
        _ => String::new(),
    };
    format!("{verb} {direction} {protocol}{ports}{address}{who}{leads}\n")
}

/// Numbers that look random and are the same on every run: SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    fn often(&mut self, times: usize) -> bool {
        self.below(10) < times
    }

    fn one<T: Clone + Default>(&mut self, of: &[T]) -> T {
        of.get(self.below(of.len())).cloned().unwrap_or_default()
    }
}
