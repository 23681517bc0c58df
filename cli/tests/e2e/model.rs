//! The kernel decides as the model does: generated flows over generated policies, really connected.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use mesh_testbed::{Client, Failure, Place, Tested, kernel_is_usable, long_runs_are_wanted};
use serde_json::Value;

use crate::command::{Answer, meshc};
use crate::random::Random;
use crate::seen::{Seen, seen};
use crate::stage::{PORTS, SIDECAR_PORTS, SIDECAR_UID, Stage, as_member};

/// Flows tried under each policy.
const FLOWS: usize = 25;

#[test]
fn kernel_and_model_agree_on_generated_flows_over_generated_policies() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let stage = Stage::new()?;
    let wanted = if long_runs_are_wanted() { 400 } else { 20 };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let (mut applied, mut seed) = (0, 0);
    while applied < wanted {
        seed += 1;
        let mut random = Random::new(seed);
        let policy = stage.policy("generated.mesh", &rules(&mut random))?;
        if !is_accepted(&policy)? {
            continue;
        }
        stage.apply(&policy)?;
        applied += 1;
        for (flow, kernel) in connect_all(&stage, &mut random)? {
            let model = explained(&policy, &flow)?;
            assert_eq!(kernel, model, "seed {seed}, {flow:?}: kernel and model; {}", text(&policy)?);
            *counts.entry(kind(&flow, kernel)).or_default() += 1;
        }
    }
    for verdict in ["redirected", "straight", "denied"] {
        for family in ["v4", "v6", "mapped"] {
            let name = format!("{verdict} {family}");
            assert!(counts.contains_key(&name), "no flow was {name}: {counts:?}");
        }
    }
    assert_eq!(counts.values().sum::<usize>(), wanted * FLOWS);
    Ok(())
}

/// One connection to try.
#[derive(Clone, Copy, Debug)]
struct Flow {
    workload: &'static str,
    target: SocketAddr,
    mapped: bool,
    exempt: bool,
}

impl Flow {
    fn any(random: &mut Random) -> Self {
        let address = random.one(TARGETS);
        let ip = address.parse().unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
        Self {
            workload: random.one(["cart", "batch"]),
            target: SocketAddr::new(ip, random.one(PORTS)),
            mapped: ip.is_ipv4() && random.often(3),
            exempt: random.often(1),
        }
    }

    fn place(&self, stage: &Stage) -> Place {
        let place = if self.workload == "cart" { stage.cart() } else { stage.batch() };
        if self.exempt { place.uid(SIDECAR_UID) } else { place }
    }

    fn connect(&self) -> Seen {
        let client = Client::to(self.target);
        seen(&if self.mapped { client.mapped() } else { client }, self.target)
    }
}

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

fn rules(random: &mut Random) -> String {
    let mut text = String::new();
    for _ in 0..2 + random.below(8) {
        text.push_str(&rule(random));
    }
    if random.often(5) {
        let inner: String = (0..1 + random.below(3)).map(|_| rule(random)).collect();
        text.push_str(&format!("for {} {{\n{inner}}}\n", random.one(["cart", "batch"])));
    }
    text
}

fn rule(random: &mut Random) -> String {
    let verb = random.one(["redirect", "redirect", "exclude", "deny"]);
    let always = if random.often(1) { "always " } else { "" };
    let ports = ports(random);
    let addresses = addresses(random);
    let leads = match verb {
        "redirect" => format!(" -> {}", random.one(SIDECAR_PORTS)),
        _ => String::new(),
    };
    format!("{always}{verb} outbound{ports}{addresses}{leads}\n")
}

fn ports(random: &mut Random) -> String {
    let (one, other) = (random.one(PORTS), random.one(PORTS));
    match random.below(6) {
        0 | 1 => String::new(),
        2 | 3 => format!(" tcp {one}"),
        4 => format!(" tcp {}-{}", one.min(other), one.max(other)),
        _ if one == other => format!(" tcp not {one}"),
        _ => format!(" tcp not {one}, {other}"),
    }
}

fn addresses(random: &mut Random) -> String {
    let (one, other) = (random.one(PREFIXES), random.one(PREFIXES));
    match random.below(4) {
        0 => String::new(),
        1 if one != other => format!(" to {one}, {other}"),
        _ => format!(" to {one}"),
    }
}

/// Whether meshc takes the policy: some contradict themselves, and are refused as such.
fn is_accepted(policy: &Path) -> Result<bool, Failure> {
    let answer = Answer::of(meshc().args(["--format", "json", "check"]).arg(policy))?;
    if answer.code == 0 {
        return Ok(true);
    }
    let said = answer.json()?;
    let diagnostics = said.get("diagnostics").and_then(Value::as_array).cloned().unwrap_or_default();
    let is = |diagnostic: &Value, key: &str, word: &str| diagnostic.get(key).is_some_and(|is| is == word);
    let mut errors = diagnostics.iter().filter(|diagnostic| is(diagnostic, "severity", "error"));
    if errors.all(|error| is(error, "code", "conflict")) { Ok(false) } else { Err(answer.stdout.into()) }
}

/// Connects the flows, those of one place by one process.
fn connect_all(stage: &Stage, random: &mut Random) -> Result<Vec<(Flow, Seen)>, Failure> {
    let mut flows: Vec<_> = (0..FLOWS).map(|_| Flow::any(random)).collect();
    flows.sort_by_key(|flow| (flow.workload, flow.exempt));
    let mut all = Vec::new();
    for group in flows.chunk_by(|one, two| (one.workload, one.exempt) == (two.workload, two.exempt)) {
        let Some(first) = group.first() else { continue };
        let seen: Vec<Seen> = as_member(&first.place(stage), || group.iter().map(Flow::connect).collect())?;
        all.extend(group.iter().copied().zip(seen));
    }
    Ok(all)
}

/// What the model says, by `meshc explain`.
fn explained(policy: &Path, flow: &Flow) -> Result<Seen, Failure> {
    let user = if flow.exempt { format!(" as uid {SIDECAR_UID}") } else { String::new() };
    let text = format!("{} -> {} tcp {}{user}", flow.workload, flow.target.ip(), flow.target.port());
    let answer =
        Answer::of(meshc().args(["--format", "json", "explain"]).arg(policy).arg(text))?.done()?.json()?;
    let port = answer.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    match (answer.get("verdict").and_then(Value::as_str), port) {
        (Some("redirected"), Some(port)) => Ok(Seen::Redirected(port)),
        (Some("excluded"), None) => Ok(Seen::Straight),
        (Some("denied"), None) => Ok(Seen::Denied),
        _ => Err(format!("explain says {answer}").into()),
    }
}

fn kind(flow: &Flow, seen: Seen) -> String {
    let verdict = match seen {
        Seen::Redirected(_) => "redirected",
        Seen::Straight => "straight",
        Seen::Denied => "denied",
        Seen::Wrong(_) => "wrong",
    };
    let family = match (flow.mapped, flow.target.is_ipv4()) {
        (true, _) => "mapped",
        (false, true) => "v4",
        (false, false) => "v6",
    };
    format!("{verdict} {family}")
}

fn text(policy: &Path) -> Result<String, Failure> {
    Ok(std::fs::read_to_string(policy)?)
}
