//! What a policy says and this version does not do, or does at a price.

use mesh_bpf::flow::{Direction, Protocol};
use mesh_bpf::image::{MapImage, SourceId, SourceKind, Workload};
use mesh_bpf::ports::{PortRange, PortSet};

use crate::output::Output;

const UDP_RULES: &str = "udp-rules-not-enforced";
const UDP_PORT: &str = "udp-port-open";
const SIDECAR: &str = "sidecar-not-accelerated";
const BULK: &str = "bulk-accelerated";
/// All codes.
#[cfg(test)]
pub const CODES: [&str; 4] = [UDP_RULES, UDP_PORT, SIDECAR, BULK];

/// One of them: a code, which stays, and words, which may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caution {
    /// What kind it is.
    pub code: &'static str,
    /// For people.
    pub text: String,
}

/// Says them to people; for scripts they are in the answer.
pub fn warn(output: &Output, cautions: &[Caution]) {
    if !output.is_json() {
        cautions.iter().for_each(|caution| output.warn(&caution.text));
    }
}

/// All of them.
pub fn cautions(image: &MapImage) -> Vec<Caution> {
    unenforced_rules(image).into_iter().chain(bulk_acceleration(image)).collect()
}

/// What the policy says and the programs of this version do not do, or not for every application. Nothing is
/// silent.
fn unenforced_rules(image: &MapImage) -> Vec<Caution> {
    let hosts = || image.workloads.iter().filter(|workload| !workload.selector.cgroups.is_empty());
    let mut missing = Vec::new();
    for workload in hosts() {
        let name = &workload.name;
        let profile = image.profile(workload.profile);
        let decided =
            profile.into_iter().flat_map(|profile| profile.decided(Direction::Inbound, image, Protocol::Udp));
        let (built_in, by_rules): (Vec<_>, Vec<_>) =
            decided.partition(|(_, decision)| image.source(decision.source).kind == SourceKind::BuiltIn);
        if !by_rules.is_empty() {
            let text = format!(
                "inbound rules of `{name}` for udp are kept, but only TCP is decided for processes that are members by \
                 their cgroup"
            );
            missing.push(Caution { code: UDP_RULES, text });
        }
        if !built_in.is_empty() {
            let ports: PortSet = built_in.into_iter().map(|(ports, _)| ports).collect();
            let text = format!(
                "udp {ports} of `{name}` stays open to others: only TCP is decided for processes that are members by \
                 their cgroup"
            );
            missing.push(Caution { code: UDP_PORT, text });
        }
    }
    let peers =
        |of: &&Workload| image.profile(of.profile).is_some_and(|it| !it.acceleration.peers.is_empty());
    missing.extend(hosts().filter(peers).map(|workload| {
        let text = format!(
            "connections to the sidecar of `{}` are not accelerated: a cgroup's sidecar is not known by its \
             namespace; those that it opens to pods are",
            workload.name
        );
        Caution { code: SIDECAR, text }
    }));
    missing
}

/// That streams are accelerated, too, where a policy names no ports.
fn bulk_acceleration(image: &MapImage) -> Option<Caution> {
    let is_every = |ranges: &Vec<(PortRange, SourceId)>| {
        // Ranges of one list neither overlap nor touch, unless different items credit them.
        let ports: u32 = ranges.iter().map(|(range, _)| u32::from(range.last - range.first) + 1).sum();
        ports >= u32::from(u16::MAX)
    };
    let takes_every = |workload: &&Workload| {
        image.profile(workload.profile).is_some_and(|it| {
            is_every(&it.acceleration.local) || it.acceleration.peers.values().any(is_every)
        })
    };
    image.workloads.iter().find(takes_every).map(|workload| {
        let text = format!(
            "every port of `{}` is accelerated: bulk transfer, too, which takes 1.5 times the CPU a byte where both \
             ends are on one CPU; name the ports of questions and answers, such as `accelerate local tcp not 9092`",
            workload.name
        );
        Caution { code: BULK, text }
    })
}
