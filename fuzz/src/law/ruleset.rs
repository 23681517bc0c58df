//! A policy as a ruleset of nftables: it is proved, and judged as the tables decide, in any namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mesh_bpf::flow::{Direction, Flow, Identity, Protocol, Verdict};
use mesh_bpf::image::{MapImage, ProfileId};
use mesh_bpf::item::counter_key;
use mesh_bpf::pack::pack;
use mesh_bpf::sim::{Decided, Sim};
use mesh_bpf::tables::Tables;
use mesh_compiler::compile::Compiled;
use mesh_nft::{Cgroup, CounterKind, Held as Known, IdMap, Marker, Resident, Ruleset, Scene, TableName};
use mesh_nft::{decode, lower, prove, unsupported};

use crate::random::Random;
use crate::{Broken, Held, holds};

/// Flows that are asked about in one scene.
const ASKED: usize = 60;

/// What holds of any policy that compiles. `random` says who is where, and which flows are asked about.
///
/// # Errors
/// The law that it breaks.
pub fn ruleset(compiled: &Compiled, random: &mut Random) -> Held {
    refused(&compiled.tables)?;
    let image = supported(compiled.image.clone());
    let Ok(tables) = pack(&image) else { return Ok(()) };
    let none = unsupported(&tables).map_err(|found| Broken::new("tables are read", found.to_string()))?;
    holds("what is left out is supported", none.is_empty(), || format!("{none:?}"))?;
    for _ in 0..2 {
        let scene = scene(&image, random);
        let ruleset =
            lower(&tables, &scene).map_err(|found| Broken::new("it is lowered", found.to_string()))?;
        prove(&tables, &scene, &ruleset)
            .map_err(|found| Broken::new("a ruleset is proved", format!("{found}\n{}", shown(&ruleset))))?;
        judged(&tables, &scene, &ruleset, random)?;
        written(&ruleset)?;
    }
    Ok(())
}

/// Any bytes as a kernel's answer: they are read without a panic.
///
/// # Errors
/// The law that they break.
pub fn answer(bytes: &[u8]) -> Held {
    let table = TableName::of("a");
    let names = [decode::chains(bytes, &table), decode::sets(bytes, &table)];
    for name in names.iter().flatten().flatten() {
        let marker = Marker::parse(name);
        let again = marker.as_ref().map(Marker::name);
        holds("a marker has one name", again.is_none_or(|again| again == *name), || name.clone())?;
    }
    let _ = (decode::counters(bytes, &table), decode::generation(bytes));
    Ok(())
}

/// What cannot be had is refused, and not lowered otherwise.
fn refused(tables: &Tables) -> Held {
    let asked = unsupported(tables).map_err(|found| Broken::new("tables are read", found.to_string()))?;
    let lowered = lower(tables, &Scene::default()).is_ok();
    holds("what is not supported is refused", lowered == asked.is_empty(), || format!("{asked:?}"))
}

/// The same policy without what nftables cannot do.
fn supported(mut image: MapImage) -> MapImage {
    for table in &mut image.port_tables {
        for (_, decision) in &mut table.stretches {
            if let Verdict::Redirected { transparent, .. } = &mut decision.verdict {
                *transparent = false;
            }
        }
    }
    for profile in &mut image.profiles {
        profile.acceleration = mesh_bpf::image::Acceleration::default();
        profile.missing_sidecar_refuse = true;
    }
    image.canonical()
}

/// Somebody in a namespace: a pod, or some cgroups of a host.
fn scene(image: &MapImage, random: &mut Random) -> Scene {
    let mut paths = BTreeSet::new();
    for profile in &image.profiles {
        let exempt = profile.exempt.cgroups.iter().map(|(path, _)| path);
        paths.extend(exempt.chain(profile.classes.cgroups.iter().map(|(path, _)| path)).cloned());
    }
    // Some do not exist.
    let cgroups: BTreeMap<String, Cgroup> = (100..)
        .zip(paths)
        .filter(|_| random.below(5) != 0)
        .map(|(id, path)| {
            let level = path.split('/').filter(|part| !part.is_empty()).count();
            (path, Cgroup { level: u32::try_from(level).unwrap_or(0), id })
        })
        .collect();
    let addresses = addresses(image);
    let some = |random: &mut Random| {
        let count = random.below(4);
        (0..count).filter_map(|_| addresses.get(random.below(addresses.len())).copied()).collect()
    };
    let profile = |random: &mut Random| {
        ProfileId(u32::try_from(random.below(image.profiles.len().max(1))).unwrap_or(0))
    };
    let residents = match (image.profiles.len(), random.below(3)) {
        (0, _) => Vec::new(),
        (_, 0) => (0..1 + random.below(3))
            .map(|at| Resident {
                profile: profile(random),
                own: some(random),
                // Levels that no policy here names: whether they can lie within each other is not known.
                cgroup: Some(Cgroup { level: 40 + u32::try_from(at % 2).unwrap_or(0), id: at as u64 }),
            })
            .collect(),
        _ => vec![Resident { profile: profile(random), own: some(random), cgroup: None }],
    };
    let users = match random.below(3) {
        0 => IdMap::read("0 1000 5000\n7000 0 1000\n").unwrap_or_default(),
        _ => IdMap::default(),
    };
    let beside_bpf = false;
    Scene { residents, node: some(random), cgroups, users, groups: IdMap::default(), beside_bpf }
}

/// The bounds of all prefixes, and what is beside them.
fn addresses(image: &MapImage) -> Vec<IpAddr> {
    let sides = image
        .profiles
        .iter()
        .flat_map(|profile| Direction::ALL.into_iter().flat_map(|direction| profile.trees(direction)));
    let nodes = sides.flat_map(|side| side.tree.iter().chain(&side.own));
    let mut all: BTreeSet<IpAddr> = BTreeSet::new();
    for first in nodes.filter_map(|node| node.prefix.first()) {
        all.insert(first);
        all.insert(match first {
            IpAddr::V4(address) => IpAddr::V4(address.to_bits().wrapping_sub(1).into()),
            IpAddr::V6(address) => IpAddr::V6(address.to_bits().wrapping_sub(1).into()),
        });
    }
    let others = ["10.0.0.7", "fd00::7", "127.0.0.1", "0.0.0.0"];
    all.extend(others.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()));
    all.into_iter().collect()
}

/// Flows that are asked one by one, in full: the interpreter and the proof go other ways through a ruleset.
fn judged(tables: &Tables, scene: &Scene, ruleset: &Ruleset, random: &mut Random) -> Held {
    let sim = Sim::new(tables).map_err(|found| Broken::new("tables are read", found.to_string()))?;
    let image = mesh_bpf::unpack::unpack(tables);
    let image = image.map_err(|found| Broken::new("tables are read", found.to_string()))?;
    let addresses = addresses(&image);
    let paths: Vec<&String> = scene.cgroups.keys().collect();
    for _ in 0..ASKED {
        let Some(resident) = scene.residents.get(random.below(scene.residents.len().max(1))) else {
            return Ok(());
        };
        let at = scene.residents.iter().position(|one| one == resident).unwrap_or(0);
        let Some(&address) = addresses.get(random.below(addresses.len())) else { return Ok(()) };
        let direction = if random.below(2) == 0 { Direction::Outbound } else { Direction::Inbound };
        let flow = Flow {
            direction,
            protocol: if random.below(2) == 0 { Protocol::Tcp } else { Protocol::Udp },
            address,
            port: one(random, [1, 2, 53, 79, 80, 81, 443, 3306, 15001, 65535]),
            own: resident.own.contains(&address),
        };
        let id = |random: &mut Random| Some(one(random, [0, 999, 1000, 1001, 1500, 1999, 3000]));
        let identity = Identity {
            uid: id(random).filter(|_| random.below(4) != 0),
            gid: id(random).filter(|_| random.below(4) != 0),
            cgroup: paths.get(random.below(paths.len() * 2 + 1)).map(|&path| format!("{path}/x")),
            interface: one(random, [None, Some("eth1"), Some("net7"), Some("lo")]).map(str::to_owned),
            node: scene.node.contains(&address),
        };
        let decided = sim.decide(resident.profile, &flow, &identity);
        let judged = ruleset.judge(scene, at, &flow, &identity);
        let agree = match (decided, judged) {
            (Some(decided), Some(judged)) => {
                let (source, item) = match decided {
                    Decided::Exempt(source) => (source, None),
                    Decided::Policy(hit) => (hit.source, Some(hit.item)),
                };
                let hash = image.source(source).stable_hash();
                let key = |kind| match (kind, item) {
                    (CounterKind::Item, Some(item)) => counter_key(hash, item),
                    _ => hash,
                };
                decided.verdict() == judged.verdict
                    && judged.counter.is_some_and(|counter| counter.key == key(counter.kind))
            }
            _ => false,
        };
        let found = || format!("{flow:?} {identity:?} {decided:?} {judged:?}\n{}", shown(ruleset));
        holds("a ruleset judges as the tables decide", agree, found)?;
    }
    Ok(())
}

/// One of them.
fn one<T: Copy + Default, const N: usize>(random: &mut Random, of: [T; N]) -> T {
    of.get(random.below(N)).copied().unwrap_or_default()
}

/// A batch is written of it whose messages follow one another.
fn written(ruleset: &Ruleset) -> Held {
    let marker = Marker { generation: 1, tables: [1; 8], ruleset: ruleset.digest(), paused: false };
    let batch = ruleset.replace(&TableName::of("a"), &marker, &Known::default());
    let bytes: Vec<u8> = batch.chunks().flatten().copied().collect();
    holds("a batch has its length", bytes.len() == batch.len(), || batch.len().to_string())?;
    let (mut rest, mut sequence) = (bytes.as_slice(), 0u32);
    while let Some(len) = rest.first_chunk().map(|&len| u32::from_ne_bytes(len) as usize) {
        let number = rest.get(8..12).and_then(|number| number.try_into().ok()).map(u32::from_ne_bytes);
        sequence += 1;
        let in_order = number == Some(sequence) && batch.step(sequence).is_some() && len < 1 << 16;
        holds("messages are in order, and short", in_order, || {
            format!("{sequence}: {number:?}, {len} bytes")
        })?;
        rest = rest.get(len..).unwrap_or_default();
    }
    holds("a message has a step", batch.step(sequence + 1).is_none(), String::new)
}

fn shown(ruleset: &Ruleset) -> String {
    let marker = Marker { generation: 1, tables: [0; 8], ruleset: [0; 8], paused: false };
    ruleset.text(&TableName::of(""), &marker)
}
