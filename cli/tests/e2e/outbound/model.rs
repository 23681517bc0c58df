//! The kernel decides as the model does: generated flows over generated policies, really connected.
//!
//! The model is the walk of `mesh_bpf::sim` over the tables that the policy compiles to. The policies are
//! compiled here and by the meshc that applies them, so the two must agree about the tables first.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use mesh_bpf::flow::{Direction, Flow as Asked, Identity, Protocol, Verdict};
use mesh_bpf::sim::Sim;
use mesh_compiler::compile::Compiled;
use mesh_testbed::kernel_test as test;
use mesh_testbed::{Cgroup, Client, Failure, Manner, Place, Server, Tested, long_runs_are_wanted};

use crate::fixtures::compiled::{compiled, node_with};
use crate::fixtures::datagrams::{asked, servers};
use crate::fixtures::random::{Random, ports};
use crate::fixtures::seen::{Seen, seen};
use crate::fixtures::stage::{PORTS, SIDECAR_PORTS, SIDECAR_UID, Stage, as_member};

/// Flows tried under each policy.
const FLOWS: usize = 30;

#[test]
fn kernel_and_model_agree_on_generated_flows_over_generated_policies() -> Tested {
    agree(&Stage::new()?, Members::Cgroups, &[])
}

#[test]
fn so_they_do_for_a_pod_which_reaches_its_own_addresses_too() -> Tested {
    let stage = Stage::new()?;
    let own = OWN.iter().flat_map(|ip| PORTS.map(|port| ip.parse().map(|ip| SocketAddr::new(ip, port))));
    let _itself = Server::start(&stage.pair().client, "itself", &own.collect::<Result<Vec<_>, _>>()?)?;
    agree(&stage, Members::Pod, &OWN)
}

/// How the processes that connect are members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Members {
    /// Two workloads, each a cgroup.
    Cgroups,
    /// One, by their network namespace.
    Pod,
}

/// Applies generated policies, which may name the addresses of `own`, and tries flows under each.
fn agree(stage: &Stage, members: Members, own: &[&str]) -> Tested {
    let _datagrams = servers(stage, &RESOLVERS)?;
    // Whoever applies is on the node, whose addresses are these.
    let node = node_with(&NODE)?;
    let jobs = Jobs::of(stage, members)?;
    let wanted = if long_runs_are_wanted() { 400 } else { 36 };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut of_classes: BTreeMap<&str, usize> = BTreeMap::new();
    let prefixes = [&PREFIXES[..], own].concat();
    let (mut applied, mut seed, mut to_node) = (0, 0, 0);
    while applied < wanted {
        seed += 1;
        let mut random = Random::new(seed);
        let rules = rules(&mut random, &Words { prefixes: &prefixes, cgroups: &jobs.paths });
        let policy = match members {
            Members::Cgroups => stage.policy("generated.mesh", &rules)?,
            Members::Pod => of_a_pod(stage, &rules)?,
        };
        let Some(compiled) = compiled(&policy)? else { continue };
        node.run(|| stage.apply(&policy))??;
        if applied == 0 && members == Members::Pod {
            let netns = stage.pair().client.path().display().to_string();
            let own: Vec<_> = own.iter().flat_map(|ip| ["--address", ip]).collect();
            let named = ["attach", "--netns", &netns, "--name", "cart-1", "--label", "app=cart"];
            node.run(|| stage.ask(&[&named[..], &own].concat()))??;
        }
        applied += 1;
        for (flow, kernel) in connect_all(stage, members, (own, &jobs), &mut random)? {
            let (model, class) = decided(&compiled, &flow, &jobs)?;
            assert_eq!(kernel, model, "seed {seed}, {flow:?}: kernel and model; {rules}");
            *counts.entry(kind(&flow, kernel)).or_default() += 1;
            to_node += usize::from(class != 0 && flow.who.uid == 0 && flow.who.gid == 0 && flow.is_to_node());
            if class != 0 && !flow.who.is_exempt() {
                *of_classes.entry(verdict(kernel)).or_default() += 1;
            }
        }
    }
    // Others tie, or tell too many kinds of processes apart.
    assert!(applied as u64 * 2 > seed, "{applied} of {seed} generated policies compile");
    assert!(to_node > 0, "no flow to the node was decided by a rule about it");
    assert!(of_classes.len() == 3 && of_classes.values().all(|&flows| flows > 10), "{of_classes:?}");
    for verdict in ["redirected", "straight", "denied"] {
        for family in ["tcp v4", "tcp v6", "tcp mapped", "udp v4", "udp v6", "udp mapped"] {
            let name = format!("{verdict} {family}");
            assert!(counts.contains_key(&name), "no flow was {name}: {counts:?}");
        }
        let own_name = format!("{verdict} own");
        assert_eq!(counts.contains_key(&own_name), !own.is_empty(), "{own_name}: {counts:?}");
    }
    assert_eq!(counts.values().sum::<usize>(), wanted * FLOWS);
    Ok(())
}

/// The same workloads, by the labels of pods.
fn of_a_pod(stage: &Stage, rules: &str) -> Result<PathBuf, Failure> {
    let text = format!(
        "exempt uid {SIDECAR_UID}\n\nmesh bookstore {{\n{rules}\nworkload cart {{ label app = cart }}\n\
         workload batch {{ label app = batch }}\n}}\n"
    );
    Ok(stage.ground().write("generated.mesh", text)?)
}

/// Cgroups of the workload `cart`, or beside it: its own, one below it, and one below that.
struct Jobs {
    _made: [Cgroup; 2],
    paths: [String; 3],
    places: [Place; 3],
}

impl Jobs {
    fn of(stage: &Stage, members: Members) -> Result<Self, Failure> {
        let (place, cgroup): (fn(&Stage) -> Place, _) = match members {
            Members::Cgroups => (Stage::cart, stage.cart_cgroup()),
            Members::Pod => (Stage::beside, stage.beside_cgroup()),
        };
        let job = cgroup.child("job")?;
        let step = job.child("step")?;
        Ok(Self {
            paths: [cgroup.within()?, job.within()?, step.within()?],
            places: [place(stage), place(stage).cgroup(&job), place(stage).cgroup(&step)],
            _made: [step, job],
        })
    }
}

/// Which process opens a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Who {
    workload: &'static str,
    uid: u32,
    gid: u32,
    /// How deep below the workload's own cgroup.
    depth: usize,
}

impl Who {
    /// One of few, so that a process can open many.
    fn any(random: &mut Random, members: Members) -> Self {
        let workload = if members == Members::Pod { "cart" } else { random.one(["cart", "batch"]) };
        let [uid, gid] = [random.one(IDS), random.one(IDS)];
        match (workload, random.below(10)) {
            (_, 0) => Self { workload, uid: SIDECAR_UID, gid, depth: 0 },
            (_, 1..4) => Self { workload, uid: 0, gid: 0, depth: 0 },
            (_, 4 | 5) => Self { workload, uid, gid: 0, depth: 0 },
            (_, 6) => Self { workload, uid: 0, gid, depth: 0 },
            ("cart", 7 | 8) => Self { workload, uid, gid: 0, depth: 1 + random.below(2) },
            _ => Self { workload, uid, gid, depth: 0 },
        }
    }

    const fn is_exempt(&self) -> bool {
        self.uid == SIDECAR_UID
    }

    fn place(&self, stage: &Stage, jobs: &Jobs) -> Place {
        let place = match self.workload {
            "cart" => jobs.places.get(self.depth).cloned().unwrap_or_else(|| stage.cart()),
            _ => stage.batch(),
        };
        place.gid(self.gid).uid(self.uid)
    }

    fn identity(&self, jobs: &Jobs) -> Identity {
        let path = jobs.paths.get(self.depth).filter(|_| self.workload == "cart");
        Identity {
            uid: Some(self.uid),
            gid: Some(self.gid),
            cgroup: path.cloned(),
            interface: None,
            node: false,
        }
    }
}

/// Users and groups at the edges of ranges, inside and outside.
const IDS: [u32; 5] = [0, 999, 1000, 1999, u32::MAX - 1];

/// One connection or datagram to try.
#[derive(Clone, Copy, Debug)]
struct Flow {
    who: Who,
    target: SocketAddr,
    protocol: Protocol,
    mapped: bool,
    connected: bool,
    own: bool,
}

impl Flow {
    fn any(random: &mut Random, members: Members, own: &[&str]) -> Self {
        let protocol = random.one([Protocol::Tcp, Protocol::Tcp, Protocol::Udp]);
        let to_itself = protocol == Protocol::Tcp && !own.is_empty() && random.often(3);
        let ip: IpAddr = match protocol {
            _ if to_itself => own.get(random.below(own.len())).copied().unwrap_or_default(),
            Protocol::Tcp => random.one(TARGETS),
            Protocol::Udp => random.one(RESOLVERS),
        }
        .parse()
        .unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
        Self {
            who: Who::any(random, members),
            own: to_itself,
            target: SocketAddr::new(ip, random.one(PORTS)),
            protocol,
            mapped: ip.is_ipv4() && random.often(3),
            connected: random.often(5),
        }
    }

    fn is_to_node(&self) -> bool {
        NODE.iter().any(|ip| ip.parse() == Ok(self.target.ip()))
    }

    fn try_it(&self) -> Seen {
        match self.protocol {
            Protocol::Tcp => {
                let client = Client::to(self.target);
                seen(&if self.mapped { client.mapped() } else { client }, self.target)
            }
            Protocol::Udp => asked(self.target, self.manner()),
        }
    }

    const fn manner(&self) -> Manner {
        match (self.mapped, self.connected) {
            (false, false) => Manner::Unconnected,
            (false, true) => Manner::Connected,
            (true, false) => Manner::Mapped,
            (true, true) => Manner::MappedConnected,
        }
    }
}

/// Those of [`TARGETS`] that are the node's.
const NODE: [&str; 6] = ["10.0.3.9", "10.9.0.1", "172.16.5.5", "fd10::1", "fd10:0:0:3::9", "fd10:1::1"];

/// Those of [`TARGETS`] that answer datagrams.
const RESOLVERS: [&str; 6] =
    ["10.0.3.9", "10.0.4.0", "172.16.5.5", "fd10:0:0:3::9", "fd10:0:0:4::", "fd10:1::1"];

/// Addresses inside, at the edges of and outside the prefixes of [`PREFIXES`].
const TARGETS: [&str; 14] = [
    "10.0.0.1",
    "10.0.3.9",
    "10.0.3.255",
    "10.0.4.0",
    "10.9.0.1",
    "10.255.255.255",
    "172.16.5.5",
    "172.20.0.1",
    "fd10::1",
    "fd10:0:0:3::9",
    "fd10:0:0:3:ffff:ffff:ffff:ffff",
    "fd10:0:0:4::",
    "fd10:1::1",
    "fd10:ffff::1",
];

const PREFIXES: [&str; 14] = [
    "10.0.0.0/8",
    "10.0.0.0/16",
    "10.0.3.0/24",
    "10.0.3.9",
    "10.0.0.0/30",
    "172.16.0.0/12",
    "172.16.5.4/31",
    "0.0.0.0/0",
    "fd10::/16",
    "fd10:0:0:3::/64",
    "fd10:0:0:3::9",
    "fd10::/32",
    "::/0",
    "fd10:1::/32",
];

/// The pod's own addresses.
const OWN: [&str; 2] = ["192.168.7.2", "fd07::2"];

/// What rules may name.
struct Words<'a> {
    prefixes: &'a [&'a str],
    cgroups: &'a [String],
}

fn rules(random: &mut Random, words: &Words<'_>) -> String {
    let mut text = String::new();
    for _ in 0..2 + random.below(8) {
        text.push_str(&rule(random, words));
    }
    if random.often(5) {
        let inner: String = (0..1 + random.below(3)).map(|_| rule(random, words)).collect();
        text.push_str(&format!("for {} {{\n{inner}}}\n", random.one(["cart", "batch"])));
    }
    text
}

fn rule(random: &mut Random, words: &Words<'_>) -> String {
    let verb = random.one(["redirect", "redirect", "exclude", "deny"]);
    let always = if random.often(1) { "always " } else { "" };
    let ports = ports(random);
    let addresses = addresses(random, words.prefixes);
    let who = if random.often(4) { who(random, words.cgroups) } else { String::new() };
    let leads = match verb {
        "redirect" => format!(" -> {}", random.one(SIDECAR_PORTS)),
        _ => String::new(),
    };
    format!("{always}{verb} outbound{ports}{addresses}{who}{leads}\n")
}

/// Which processes a rule is about: one side of who they are, or two.
fn who(random: &mut Random, cgroups: &[String]) -> String {
    let kind = random.below(6);
    let mut sides = Vec::new();
    for (word, kinds) in [("uid", [0, 3, 5]), ("gid", [1, 3, 4])] {
        if kinds.contains(&kind) {
            let ids = ["0", "1000", "1000-1999", "0-999", "2000-4294967295", "999, 1999-4294967294"];
            sides.push(format!("{word} {}", random.one(ids)));
        }
    }
    if [2, 4, 5].contains(&kind) {
        let path = cgroups.get(random.below(cgroups.len())).map_or("", String::as_str);
        sides.push(format!("cgroup \"{path}\""));
    }
    format!(" as {}", sides.join(" and "))
}

fn addresses(random: &mut Random, prefixes: &[&str]) -> String {
    let [one, other] =
        [(); 2].map(|()| prefixes.get(random.below(prefixes.len())).copied().unwrap_or("::/0"));
    match random.below(12) {
        0..4 => String::new(),
        4..7 if one != other => format!(" to {one}, {other}"),
        7 => " to node".to_owned(),
        8 if random.often(3) => format!(" to {one}, node"),
        _ => format!(" to {one}"),
    }
}

/// Connects the flows, those of one place by one process.
fn connect_all(
    stage: &Stage,
    members: Members,
    (own, jobs): (&[&str], &Jobs),
    random: &mut Random,
) -> Result<Vec<(Flow, Seen)>, Failure> {
    let mut flows: Vec<_> = (0..FLOWS).map(|_| Flow::any(random, members, own)).collect();
    flows.sort_by_key(|flow| flow.who);
    let mut all = Vec::new();
    for group in flows.chunk_by(|one, two| one.who == two.who) {
        let Some(first) = group.first() else { continue };
        let seen: Vec<Seen> =
            as_member(&first.who.place(stage, jobs), || group.iter().map(Flow::try_it).collect())?;
        all.extend(group.iter().copied().zip(seen));
    }
    Ok(all)
}

/// What the model says, and of which class the process is.
fn decided(compiled: &Compiled, flow: &Flow, jobs: &Jobs) -> Result<(Seen, u32), Failure> {
    let name = format!("bookstore/{}", flow.who.workload);
    let workload = compiled.image.workloads.iter().find(|workload| workload.name == name);
    let profile = workload.ok_or_else(|| format!("no workload {name}"))?.profile;
    let Flow { protocol, target, .. } = *flow;
    let asked = Asked {
        direction: Direction::Outbound,
        protocol,
        address: target.ip(),
        port: target.port(),
        own: flow.own,
    };
    let identity = Identity { node: flow.is_to_node(), ..flow.who.identity(jobs) };
    let sim = Sim::new(&compiled.tables)?;
    let class = sim.class_of(profile, Direction::Outbound, &identity).ok_or("a table does not answer")?;
    let decided = sim.decide(profile, &asked, &identity).ok_or("a table does not answer")?;
    let seen = match decided.verdict() {
        Verdict::Redirected { port, .. } => Seen::Redirected(port),
        Verdict::Excluded => Seen::Straight,
        Verdict::Denied => Seen::Denied,
    };
    Ok((seen, class))
}

const fn verdict(seen: Seen) -> &'static str {
    match seen {
        Seen::Redirected(_) => "redirected",
        Seen::Straight => "straight",
        Seen::Denied => "denied",
        Seen::Wrong(_) => "wrong",
    }
}

fn kind(flow: &Flow, seen: Seen) -> String {
    let verdict = verdict(seen);
    if flow.own {
        return format!("{verdict} own");
    }
    let family = match (flow.mapped, flow.target.is_ipv4()) {
        (true, _) => "mapped",
        (false, true) => "v4",
        (false, false) => "v6",
    };
    format!("{verdict} {} {family}", flow.protocol)
}
