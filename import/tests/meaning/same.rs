//! Holds a policy against a model at every flow that could tell them apart.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use mesh_bpf::flow::{Direction, Flow, Identity, Protocol, Verdict};
use mesh_bpf::selector::Endpoint;
use mesh_compiler::compile::{Compilation, Inventory, compile};
use mesh_compiler::diag::Severity;
use mesh_compiler::eval::evaluate;
use mesh_compiler::format::format;
use mesh_compiler::hir::WorkloadId;
use mesh_compiler::resolve::{Location, NoImports};
use mesh_compiler::source::FileId;
use mesh_import::{Imported, Origin, import};
use proptest::prelude::*;
use proptest::sample::subsequence;

use crate::tables::Asked;

/// A deployment.
#[derive(Clone, Debug)]
pub struct Pod {
    pub name: String,
    pub namespace: String,
    pub labels: Vec<(String, String)>,
    pub annotations: Vec<(String, String)>,
}

impl Pod {
    /// With the label `app`.
    pub fn new(name: &str, namespace: &str, annotations: &[(&str, &str)]) -> Self {
        let own = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        Self {
            name: name.into(),
            namespace: namespace.into(),
            labels: own(&[("app", name)]),
            annotations: own(annotations),
        }
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
    }

    /// As a manifest.
    pub fn yaml(&self) -> String {
        let mut out = format!(
            "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {}, namespace: {}}}\nspec:\n  template:\n    \
             metadata:\n      labels:\n",
            self.name, self.namespace
        );
        let entries = |out: &mut String, entries: &[(String, String)]| {
            for (key, value) in entries {
                let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                let _ = writeln!(out, "        {key}: \"{value}\"");
            }
        };
        entries(&mut out, &self.labels);
        if !self.annotations.is_empty() {
            out.push_str("      annotations:\n");
            entries(&mut out, &self.annotations);
        }
        out.push_str("    spec: {containers: [{name: app}]}\n");
        out
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint {
            name: self.name.clone(),
            namespace: Some(self.namespace.clone()),
            labels: self.labels.iter().cloned().collect::<BTreeMap<_, _>>(),
            namespace_labels: std::sync::Arc::default(),
            service_account: None,
            addresses: Vec::new(),
            cgroup: None,
        }
    }
}

/// Imports, and checks what holds of every policy that comes out: it is laid out, has no error and no warning, and its
/// tests pass.
#[track_caller]
pub fn imported(origin: Origin, text: &str, as_it_behaves: bool) -> (String, Imported) {
    let files = vec![("cluster.yaml".to_owned(), text.as_bytes().to_vec())];
    let imported = import(origin, files, as_it_behaves);
    let policy = imported.policy.clone().unwrap_or_else(|| panic!("{:?}\n{text}", imported.diagnostics));
    let errors: Vec<_> = imported.diagnostics.iter().filter(|it| it.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:?}\n{policy}\n{text}");
    assert_eq!(format(FileId::new(0), &policy).unwrap(), policy);
    (policy, imported)
}

#[track_caller]
fn compiled(policy: &str, pods: &[Pod]) -> Compilation {
    let location = Location { key: "p.mesh".into(), name: "p.mesh".into() };
    let endpoints = Some(pods.iter().map(Pod::endpoint).collect());
    let inventory = Inventory { endpoints, ..Inventory::default() };
    let compilation = compile(vec![(location, policy.as_bytes().to_vec())], &mut NoImports, Some(inventory));
    let worse = compilation.diagnostics.iter().filter(|found| found.severity != Severity::Note);
    // An inventory may lack the pods of a namespace's own workload.
    let worse: Vec<_> = worse.filter(|found| found.code.word() != "empty-workload").collect();
    assert!(worse.is_empty(), "{worse:?}\n{policy}");
    compilation
}

/// What a policy decides about the flows of a pod.
#[track_caller]
pub fn decides(policy: &str, pod: &Pod) -> impl Fn(Direction, &Asked) -> Verdict + use<> {
    let compilation = compiled(policy, std::slice::from_ref(pod));
    let count = u32::try_from(compilation.resolution.program.workloads.len()).unwrap();
    let is_its = |id: &WorkloadId| compilation.members.of(*id).iter().any(|it| it.name == pod.name);
    let Some(workload) = (0..count).map(WorkloadId).find(is_its) else {
        panic!("{} is in no workload\n{policy}", pod.name)
    };
    move |direction, asked| {
        let Asked { protocol, address, port, uid, gid, interface } = *asked;
        let flow = Flow { direction, protocol, address, port, own: false };
        let name = Some(interface.to_owned());
        let who = Identity { uid: Some(uid), gid: Some(gid), interface: name, ..Identity::default() };
        evaluate(&compilation.resolution.program, workload, &flow, &who).verdict
    }
}

/// Flows to ask for: everything at which a policy or a model may change.
pub struct Grid {
    pub ports: Vec<u16>,
    pub addresses: Vec<IpAddr>,
    pub uids: Vec<u32>,
    pub gids: Vec<u32>,
    pub interfaces: Vec<&'static str>,
}

/// Ports and nets that random settings have.
const PORTS: [u16; 8] = [22, 53, 80, 443, 3306, 8080, 9090, 15020];
const NETS: [&str; 9] = [
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.0/24",
    "10.96.0.10/32",
    "172.16.0.0/12",
    "0.0.0.0/0",
    "fd00::/8",
    "fd00:1::/32",
    "169.254.169.254/32",
];

pub fn some_ports() -> impl Strategy<Value = String> {
    subsequence(PORTS.to_vec(), 1..4)
        .prop_map(|some| some.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}

pub fn some_nets() -> impl Strategy<Value = String> {
    subsequence(NETS.to_vec(), 1..4).prop_map(|some| some.join(","))
}

/// Some of them, and some ranges.
pub fn some_ranges() -> impl Strategy<Value = String> {
    let words = vec!["22", "53", "80-90", "443", "3306", "8080", "8000-9090", "1-1024"];
    subsequence(words, 1..4).prop_map(|some| some.join(","))
}

pub fn maybe<S: Strategy<Value = String>>(some: S) -> impl Strategy<Value = Option<String>> {
    prop_oneof![2 => Just(None), 1 => some.prop_map(Some)]
}

/// One to four deployments, each with some of these annotations.
pub fn random_pods<const N: usize>(
    annotations: [(&'static str, BoxedStrategy<String>); N],
) -> impl Strategy<Value = Vec<Pod>> {
    let one: Vec<_> = annotations
        .into_iter()
        .map(|(name, value)| maybe(value).prop_map(move |value| Some((name.to_owned(), value?))))
        .collect();
    proptest::collection::vec(one, 1..5).prop_map(|all| {
        let one = |(at, annotations): (usize, Vec<Option<(String, String)>>)| Pod {
            annotations: annotations.into_iter().flatten().collect(),
            ..Pod::new(&format!("app{at}"), "shop", &[])
        };
        all.into_iter().enumerate().map(one).collect()
    })
}

impl Grid {
    /// Around what random settings have, and around these ports.
    pub fn usual(ports: &[u16], uids: &[u32]) -> Self {
        let nets: Vec<IpNet> = NETS.iter().filter_map(|net| net.parse().ok()).collect();
        Self::of(&[&PORTS[..], ports].concat(), &nets, uids)
    }

    /// At these ports and next to them, in these nets and next to them.
    pub fn of(ports: &[u16], nets: &[IpNet], uids: &[u32]) -> Self {
        let ports: BTreeSet<u16> =
            ports.iter().flat_map(|&port| [port, port.saturating_add(1)]).filter(|&port| port > 0).collect();
        let mut addresses: BTreeSet<IpAddr> = BTreeSet::new();
        for net in nets {
            addresses.extend([net.network(), net.broadcast()]);
            match (net.network(), net.broadcast()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => {
                    addresses.insert(Ipv4Addr::from(u32::from(first).saturating_sub(1)).into());
                    addresses.insert(Ipv4Addr::from(u32::from(last).saturating_add(1)).into());
                }
                (IpAddr::V6(first), IpAddr::V6(last)) => {
                    addresses.insert(Ipv6Addr::from(u128::from(first).saturating_sub(1)).into());
                    addresses.insert(Ipv6Addr::from(u128::from(last).saturating_add(1)).into());
                }
                _ => {}
            }
        }
        addresses.extend(["192.0.2.9".parse::<IpAddr>().unwrap(), "2001:db8::9".parse().unwrap()]);
        let apart: Vec<IpNet> = [
            "127.0.0.0/8",
            "0.0.0.0/32",
            "::/127",
            "224.0.0.0/3",
            "ff00::/8",
            "fe80::/10",
            "255.255.255.255/32",
        ]
        .map(|net| net.parse().unwrap())
        .into();
        let addresses =
            addresses.into_iter().filter(|address| !apart.iter().any(|net| net.contains(address)));
        let (ports, addresses) = (ports.into_iter().collect(), addresses.collect());
        Self { ports, addresses, uids: uids.to_vec(), gids: vec![7], interfaces: vec!["eth0"] }
    }

    /// Each user; and the last of them in each group, and by each interface.
    fn who(&self) -> Vec<(u32, u32, &'static str)> {
        let (Some(&gid), Some(&interface), Some(&uid)) =
            (self.gids.first(), self.interfaces.first(), self.uids.last())
        else {
            return Vec::new();
        };
        let users = self.uids.iter().map(|&uid| (uid, gid, interface));
        let groups = self.gids.iter().skip(1).map(|&gid| (uid, gid, interface));
        let interfaces = self.interfaces.iter().skip(1).map(|&interface| (uid, gid, interface));
        users.chain(groups).chain(interfaces).collect()
    }
}

/// Holds the decisions about these pods against a model: the port that a flow is redirected to. Inbound flows to a port of
/// the sidecar are otherwise on purpose, and are left out.
#[track_caller]
pub fn same(
    policy: &str,
    pods: &[Pod],
    grid: &Grid,
    sidecar: &[u16],
    model: impl Fn(&Pod, Direction, &Asked) -> Option<u16>,
) -> usize {
    same_verdicts(policy, pods, grid, sidecar, |pod, direction, asked| match model(pod, direction, asked) {
        Some(port) => Verdict::Redirected { port, transparent: false },
        None => Verdict::Excluded,
    })
}

/// The same with a model of whole verdicts.
#[track_caller]
pub fn same_verdicts(
    policy: &str,
    pods: &[Pod],
    grid: &Grid,
    sidecar: &[u16],
    model: impl Fn(&Pod, Direction, &Asked) -> Verdict,
) -> usize {
    let compilation = compiled(policy, pods);
    let program = &compilation.resolution.program;
    let mut held = 0;
    for pod in pods {
        let ids = (0..program.workloads.len()).map(|at| WorkloadId(u32::try_from(at).unwrap()));
        let is_its = |id: &WorkloadId| compilation.members.of(*id).iter().any(|it| it.name == pod.name);
        let Some(workload) = ids.clone().find(is_its) else {
            panic!("{} is in no workload\n{policy}", pod.name)
        };
        for direction in [Direction::Outbound, Direction::Inbound] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                for &address in &grid.addresses {
                    for &port in &grid.ports {
                        if direction == Direction::Inbound && sidecar.contains(&port) {
                            continue;
                        }
                        for (uid, gid, interface) in grid.who() {
                            let flow = Flow { direction, protocol, address, port, own: false };
                            let name = Some(interface.to_owned());
                            let who = Identity {
                                uid: Some(uid),
                                gid: Some(gid),
                                interface: name,
                                ..Identity::default()
                            };
                            let found = evaluate(program, workload, &flow, &who).verdict;
                            let asked = Asked { protocol, address, port, uid, gid, interface };
                            let expected = model(pod, direction, &asked);
                            assert_eq!(found, expected, "{flow:?} {who:?} of {pod:?}\n{policy}");
                            held += 1;
                        }
                    }
                }
            }
        }
    }
    held
}
