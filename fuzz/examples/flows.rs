//! Random policies as the page of `meshc view` has them, with flows and what the compiler says of each: a line of JSON a
//! policy, for the page's own walk to be held against. `cargo run -p mesh-fuzz --example flows -- POLICIES FLOWS`

use std::collections::BTreeSet;
use std::error::Error;
use std::io::Write;
use std::net::IpAddr;

use mesh_bpf::flow::{Direction, Flow, Identity, Protocol};
use mesh_bpf::image::{IdRange, MapImage, Profile};
use mesh_bpf::prefix::Prefix;
use mesh_bpf::sim::{Decided, Sim};
use mesh_compiler::compile::{Compilation, Compiled, Inventory, compile};
use mesh_compiler::emit::Sets;
use mesh_compiler::explain::{Beaten, Cause, Explanation, Reason, Why, explain};
use mesh_compiler::hir::region::Family;
use mesh_compiler::hir::span::Span;
use mesh_compiler::hir::{NODE, WorkloadId};
use mesh_compiler::question::{OtherEnd, Question};
use mesh_compiler::resolve::{Location, NoImports};
use mesh_fuzz::choice::Choices;
use mesh_fuzz::program;
use mesh_fuzz::random::Random;
use mesh_view::{Picture, Policy, Written, data};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let numbers = std::env::args().skip(1).map(|number| number.parse()).collect::<Result<Vec<u64>, _>>()?;
    let &[policies, flows] = numbers.as_slice() else {
        return Err("how many policies, and flows of each?".into());
    };
    let mut out = std::io::stdout().lock();
    for seed in 0..policies {
        let mut random = Random::new(seed);
        let length = 40 + random.below(600);
        let text = program::program(&mut Choices::new(&random.bytes(length)));
        let place = Location { key: "a.mesh".to_owned(), name: "a.mesh".to_owned() };
        let inventory = Inventory { services: program::services(), endpoints: None };
        let compilation = compile(vec![(place, text.into_bytes())], &mut NoImports, Some(inventory));
        if let Some(compiled) = &compilation.compiled {
            writeln!(out, "{}", line(seed, &compilation, compiled, flows, &mut random)?)?;
        }
    }
    Ok(())
}

fn line(
    seed: u64,
    compilation: &Compilation,
    compiled: &Compiled,
    flows: u64,
    random: &mut Random,
) -> Result<Value, Box<dyn Error>> {
    let sources = &compilation.files.sources;
    let place = |span: Span| {
        let source = sources.get(span.file)?;
        Some((source.name.clone(), source.line(span.start)))
    };
    let program = &compilation.resolution.program;
    let services = Sets::of(program);
    let services = services.services().map(|it| (format!("service {}", it.name), it.addresses.clone()));
    let policy = Policy {
        name: "random",
        image: &compiled.image,
        sets: services.collect(),
        source: Some(Written { program, place: &place }),
        place: &|_, _| None,
    };
    let (changes, notes) = (Vec::new(), Vec::new());
    let picture = Picture { title: "random", policies: vec![policy], changes, notes, live: false };
    let sim = Sim::new(&compiled.tables)?;
    let mut found = Vec::new();
    for _ in 0..flows {
        found.extend(asked(compilation, &compiled.image, &sim, random));
    }
    Ok(json!({ "seed": seed, "data": serde_json::from_str::<Value>(&data(&picture))?, "flows": found }))
}

/// A flow, mostly at the edge of something that the policy names, with what is decided and why.
fn asked(compilation: &Compilation, image: &MapImage, sim: &Sim<'_>, random: &mut Random) -> Option<Value> {
    let program = &compilation.resolution.program;
    let at = random.below(program.workloads.len());
    let workload = program.workloads.get(at)?;
    let name = format!("{}/{}", program.meshes.get(workload.mesh.index())?.name, workload.name);
    let id = image.workload(&name)?.profile;
    let profile = image.profile(id)?;
    let direction = if random.once_in(3) { Direction::Inbound } else { Direction::Outbound };
    let found = identity(profile, random);
    let identity = match direction {
        Direction::Outbound => found,
        Direction::Inbound => Identity { interface: found.interface, ..Identity::default() },
    };
    let identity = Identity { node: random.once_in(5), ..identity };
    let flow = Flow {
        direction,
        protocol: if random.once_in(4) { Protocol::Udp } else { Protocol::Tcp },
        address: match workload.selector.addresses.get(random.below(workload.selector.addresses.len())) {
            Some(prefix) if random.once_in(6) => prefix.first()?,
            _ => address(profile, direction, random),
        },
        port: port(image, random),
        own: random.once_in(6),
    };
    let decided = sim.decide(id, &flow, &identity)?;
    let (is_exempt, text) = match &decided {
        Decided::Exempt(source) => (true, image.source(*source).credit(Prefix::Any)),
        Decided::Policy(hit) => (false, image.source(hit.source).credit(hit.item)),
    };
    let verdict = match &decided {
        Decided::Exempt(_) => decided.verdict().to_string(),
        Decided::Policy(hit) => hit.verdict.to_string(),
    };
    let other = match random.below(8) {
        0 if direction == Direction::Outbound && !identity.node => {
            Some(random.below(program.workloads.len()))
        }
        _ => None,
    };
    let peer = other.and_then(|at| Some(OtherEnd::Workload(WorkloadId(u32::try_from(at).ok()?))));
    let end = |at: usize| {
        let workload = program.workloads.get(at)?;
        Some(format!("{}/{}", program.meshes.get(workload.mesh.index())?.name, workload.name))
    };
    let other = other.and_then(end).unwrap_or_else(|| match identity.node {
        true => NODE.to_owned(),
        false => flow.address.to_string(),
    });
    let question = Question {
        workload: WorkloadId(u32::try_from(at).ok()?),
        direction,
        peer: peer.unwrap_or_else(|| match identity.node {
            true => OtherEnd::Node,
            false => OtherEnd::Addresses(vec![flow.address]),
        }),
        member: None,
        protocol: flow.protocol,
        port: flow.port,
        identity: identity.clone(),
    };
    let answers = explain(program, image, &compilation.members, &question);
    let (from, to) = if direction == Direction::Outbound { (&name, &other) } else { (&other, &name) };
    let flow_text = format!("{from} -> {to} {} {}{}", flow.protocol, flow.port, identity.clause());
    Some(json!({
        "workload": name, "direction": direction as u8, "protocol": flow.protocol as u8,
        "address": flow.address, "port": flow.port, "own": flow.own,
        "uid": identity.uid, "gid": identity.gid, "cgroup": identity.cgroup, "interface": identity.interface,
        "node": identity.node,
        "verdict": verdict, "exempt": is_exempt, "by": text,
        "asked": flow_text, "answers": answers.iter().map(answer).collect::<Vec<_>>(),
    }))
}

fn answer(found: &Explanation) -> Value {
    let ranges: Vec<Value> = match &found.holds {
        None => Vec::new(),
        Some(holds) => (holds.ranges.iter())
            .map(|range| {
                json!([u8::from(range.family == Family::V6), range.first_address(), range.to_string()])
            })
            .collect(),
    };
    json!({
        "verdict": found.verdict.to_string(), "own": found.flow.own, "ranges": ranges, "by": cause(&found.cause),
        "also": found.also.iter().map(credit).collect::<Vec<_>>(),
        "beaten": found.beaten.iter().map(beaten).collect::<Vec<_>>(),
    })
}

fn beaten(found: &Beaten) -> Value {
    let why = match &found.why {
        Why::Exempt => "exempt".to_owned(),
        Why::Always => "always".to_owned(),
        Why::Stronger { verdict, than } => format!("stronger {verdict} {than}"),
        Why::BuiltIn(what) => what.word().to_owned(),
        Why::Narrower(all) => {
            let all = all.iter().map(|one| format!("{} {} in {}", one.respect.word(), one.inner, one.outer));
            format!("narrower {}", all.collect::<Vec<_>>().join("; "))
        }
    };
    json!([credit(&found.rule), cause(&found.by), why])
}

fn cause(cause: &Cause) -> String {
    match cause {
        Cause::NoRule => "no rule".to_owned(),
        Cause::BuiltIn(what) => format!("built-in: {what}"),
        Cause::Exempt(reason) | Cause::Rule(reason) => credit(reason),
    }
}

fn credit(reason: &Reason) -> String {
    let scope = if reason.scope.is_empty() { "top level" } else { &reason.scope };
    format!("{scope}: {}", reason.text)
}

/// At an edge of a prefix of the profile.
fn address(profile: &Profile, direction: Direction, random: &mut Random) -> IpAddr {
    let sides: Vec<_> = profile.trees(direction).collect();
    let nodes = sides.get(random.below(sides.len())).map_or(&[][..], |side| &side.tree);
    let prefix = nodes.get(random.below(nodes.len())).map_or(Prefix::Any, |node| node.prefix);
    let away = i8::from(random.once_in(4)) - i8::from(random.once_in(4));
    let is_last = random.once_in(3);
    let (family, bits) = match prefix {
        Prefix::Any => (Family::V4, u128::from(random.number() & u64::from(u32::MAX))),
        Prefix::V4 { bits, len } => {
            let hosts = if is_last { u32::MAX.checked_shr(len.into()).unwrap_or(0) } else { 0 };
            (Family::V4, (bits | hosts).wrapping_add_signed(away.into()).into())
        }
        Prefix::V6 { bits, len } => {
            let hosts = if is_last { u128::MAX.checked_shr(len.into()).unwrap_or(0) } else { 0 };
            (Family::V6, (bits | hosts).wrapping_add_signed(away.into()))
        }
    };
    family.address(bits).to_canonical()
}

/// At an edge of a stretch, or any.
fn port(image: &MapImage, random: &mut Random) -> u16 {
    let edges: BTreeSet<u16> = (image.port_tables.iter().flat_map(|table| table.ranges()))
        .flat_map(|(range, _)| [range.first, range.last])
        .collect();
    let edges: Vec<u16> = edges.into_iter().collect();
    let any = u16::try_from(random.number() & 0xffff).unwrap_or(1);
    edges.get(random.below(edges.len() + 2)).copied().unwrap_or(any).max(1)
}

/// Nobody, or somebody at an edge of what the profile tells apart.
fn identity(profile: &Profile, random: &mut Random) -> Identity {
    fn edges<T>(ranges: &[(IdRange, T)]) -> impl Iterator<Item = u32> + '_ {
        ranges.iter().flat_map(|(range, _)| {
            [range.first, range.last, range.first.saturating_sub(1), range.last.saturating_add(1)]
        })
    }
    let mut one = |all: Vec<u32>| all.get(random.below(all.len() * 2 + 1)).copied();
    let uid = one(edges(&profile.exempt.uids).chain(edges(&profile.classes.uids)).collect());
    let gid = one(edges(&profile.exempt.gids).chain(edges(&profile.classes.gids)).collect());
    let exempt = profile.exempt.cgroups.iter().map(|(path, _)| path);
    let paths: Vec<&String> = exempt.chain(profile.classes.cgroups.iter().map(|(path, _)| path)).collect();
    let cgroup = paths.get(random.below(paths.len() * 2 + 1)).map(|path| match random.below(3) {
        0 => format!("{}/below", path.trim_end_matches('/')),
        1 => format!("{}beside", path.trim_end_matches('/')),
        _ => (*path).clone(),
    });
    let cgroup = cgroup.filter(|path| path.len() > 1 || path == "/");
    let names = ["net1", "net", "eth0", "eth01", "lo"];
    let interface = names.get(random.below(names.len() * 2)).map(|&name| name.to_owned());
    Identity { uid, gid, cgroup, interface, node: false }
}
