//! What nodes without BPF programs need: a ruleset in a network namespace of its own, and connections that it decides.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mesh_bpf::image::ProfileId;
use mesh_bpf::pack::pack;
use mesh_bpf::tables::Tables;
use mesh_nft::{Cgroup, Held, Marker, Resident, Scene, TableName};

use super::feature::{self, Feature};
use super::findings::{Findings, Probe, words};
use super::namespace::{HERE, in_a_namespace};
use super::trial;
use crate::system::linux::Kernel;
use crate::system::{Netns, Rulesets};

/// How much of the kernel's room for connections may be taken before it is told, in percent.
const TAKEN: u64 = 90;

/// Everything, in the order in which one needs what the one before found. `cgroup` is the id of one that is there.
pub(super) fn all(kernel: &Kernel, cgroup: Option<u64>, findings: &mut Findings) {
    let tables = match pack(&trial::policy()) {
        Ok(tables) => tables,
        Err(error) => return rest(findings, &feature::NFT_ALL, &error.to_string()),
    };
    let pod = Scene {
        residents: vec![Resident { profile: ProfileId(0), ..Resident::default() }],
        ..Scene::default()
    };
    let tried = in_a_namespace(&trial::ADDRESSES, || {
        load(kernel, &tables, &pod)?;
        let tracks = tracks(kernel);
        Ok((tracks, trial::connections(feature::NFT_TRIALS, trial::REFUSED)))
    });
    let (tracks, parts) = match tried {
        Ok(tried) => tried,
        Err(error) => {
            findings.note(feature::NFT_RULESETS, Err(error));
            let [_, others @ ..] = feature::NFT_ALL;
            return rest(findings, &others, "it needs a ruleset");
        }
    };
    findings.note(feature::NFT_RULESETS, Ok(()));
    match cgroup {
        Some(id) => drop(findings.note(feature::NFT_CGROUPS, cgroups(kernel, &tables, id))),
        None => findings.untried(feature::NFT_CGROUPS, "it needs a cgroup"),
    }
    findings.note(feature::NFT_TRACKING, tracks);
    findings.note(feature::NFT_ROOM, room());
    for (part, result) in parts {
        findings.note(part, result.map_err(words));
    }
}

fn rest(findings: &mut Findings, features: &[Feature], why: &str) {
    features.iter().for_each(|&feature| findings.untried(feature, why));
}

/// Loads the ruleset of the trial's policy into this thread's namespace.
fn load(kernel: &Kernel, tables: &Tables, scene: &Scene) -> Probe {
    let ruleset = mesh_nft::lower(tables, scene).map_err(words)?;
    let marker = Marker { generation: 1, tables: [0; 8], ruleset: ruleset.digest(), paused: false };
    let batch = ruleset.replace(&TableName::of("doctor"), &marker, &Held::default());
    let here = Path::new(HERE);
    let cookie = kernel.netns_cookie(here).map_err(words)?;
    kernel.commit(here, cookie, &batch).map_err(words)
}

/// A ruleset that looks at the cgroup of a socket, as those of the host do.
fn cgroups(kernel: &Kernel, tables: &Tables, id: u64) -> Probe {
    let cgroup = Some(Cgroup { level: 1, id });
    let resident = Resident { profile: ProfileId(0), cgroup, ..Resident::default() };
    let host = Scene { residents: vec![resident], cgroups: BTreeMap::new(), ..Scene::default() };
    in_a_namespace(&[], || load(kernel, tables, &host))
}

/// Connections are listed when a policy changes.
fn tracks(kernel: &Kernel) -> Probe {
    let here = Path::new(HERE);
    let cookie = kernel.netns_cookie(here).map_err(words)?;
    kernel.tracked(here, cookie).map(drop).map_err(words)
}

/// Whether the kernel has room for more connections than it tracks here.
fn room() -> Probe {
    let number = |name: &str| {
        let file = format!("/proc/sys/net/netfilter/nf_conntrack_{name}");
        let text = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
        text.trim().parse::<u64>().map_err(|error| format!("{file}: {error}"))
    };
    let (count, most) = (number("count")?, number("max")?);
    // 0: as many as there is memory for.
    if most > 0 && count.saturating_mul(100) >= most.saturating_mul(TAKEN) {
        return Err(format!("{count} connections are tracked, and there is room for {most}"));
    }
    Ok(())
}
