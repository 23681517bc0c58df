//! Policies made by hand, and an instance on ground of its own.

use std::net::SocketAddr;
use std::path::Path;

use mesh_bpf::flow::Verdict;
use mesh_bpf::image::{
    Classes, Decision, MapImage, Node, PortTable, PortTableId, Profile, ProfileId, Side, Source, SourceId,
    SourceKind, Workload,
};
use mesh_bpf::pack::pack;
use mesh_bpf::ports::PortRange;
use mesh_bpf::prefix::Prefix;
use mesh_bpf::program::Inbound;
use mesh_bpf::selector::{Condition, Selector, Subject};
use mesh_bpf::tables::Tables;
use mesh_runtime::system::Programs;
use mesh_runtime::{Apply, Backend, Instance, Options, Pod, Runtime, find_hierarchy};
use mesh_testbed::{Client, Dialled, Errno, Ground, Place};

/// One workload whose members' connections to some ports are decided, and all others go straight.
///
/// They are those that members open, unless it says [`Policy::inbound`].
#[derive(Clone, Debug, Default)]
pub struct Policy {
    ports: Vec<(u16, Verdict)>,
    cgroups: Vec<String>,
    exempt_cgroups: Vec<String>,
    exempt_interfaces: Vec<String>,
    conditions: Vec<Condition>,
    others: Vec<(Subject, String)>,
    prefixes: u32,
    inbound: bool,
    classes: Classes<Verdict>,
    accelerates: bool,
}

impl Policy {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn redirect(mut self, port: u16, sidecar: u16) -> Self {
        self.ports.push((port, Verdict::Redirected { port: sidecar, transparent: false }));
        self
    }

    pub fn deny(mut self, port: u16) -> Self {
        self.ports.push((port, Verdict::Denied));
        self
    }

    pub fn cgroup(mut self, path: impl Into<String>) -> Self {
        self.cgroups.push(path.into());
        self
    }

    pub fn label(mut self, key: &str, value: &str) -> Self {
        let subject = Subject::Label(key.into());
        self.conditions.push(Condition { subject, values: vec![value.into()], negated: false });
        self
    }

    /// Beside its one workload, one for each of these values of the label `tier`.
    pub fn tiers(mut self, tiers: &[&str]) -> Self {
        self.others.extend(tiers.iter().map(|&tier| (Subject::Label("tier".into()), tier.to_owned())));
        self
    }

    /// The same for each of these values of the label `mesh` of namespaces.
    pub fn meshes(mut self, values: &[&str]) -> Self {
        let subject = || Subject::NamespaceLabel("mesh".into());
        self.others.extend(values.iter().map(|&value| (subject(), value.to_owned())));
        self
    }

    pub fn exempt(mut self, path: impl Into<String>) -> Self {
        self.exempt_cgroups.push(path.into());
        self
    }

    /// By a name, or with `*` at the end by all that begin so.
    pub fn exempt_interface(mut self, name: &str) -> Self {
        self.exempt_interfaces.push(name.into());
        self
    }

    /// Processes of each class have one verdict, whatever they dial.
    pub fn classes(mut self, classes: Classes<Verdict>) -> Self {
        self.classes = classes;
        self
    }

    /// This many prefixes below 16.0.0.0/4 in the tree, whose connections all go straight.
    pub fn prefixes(mut self, prefixes: u32) -> Self {
        self.prefixes = prefixes;
        self
    }

    /// Its ports are those of connections that members receive.
    pub fn inbound(mut self) -> Self {
        self.inbound = true;
        self
    }

    /// Members and their sidecars exchange bytes past the stack.
    pub fn accelerate(mut self) -> Self {
        self.accelerates = true;
        self
    }

    pub fn image(&self) -> MapImage {
        let rule = |head: &str, tail: &str| Source {
            kind: SourceKind::Rule,
            scope: "shop".into(),
            head: head.into(),
            direction: None,
            tail: tail.into(),
        };
        let mut sources = vec![Source::default()];
        let nothing = Decision { verdict: Verdict::Excluded, source: SourceId(0), up: 0 };
        let mut ports = self.ports.clone();
        ports.sort_by_key(|&(port, _)| port);
        let mut stretches = vec![(0, nothing)];
        for (port, verdict) in ports {
            let source = SourceId(u32::try_from(sources.len()).unwrap());
            let tail = verdict.port().map_or(String::new(), |port| format!(" -> {port}"));
            sources.push(rule(&format!("decide outbound tcp {port}"), &tail));
            stretches.push((port, Decision { verdict, source, up: 0 }));
            stretches.push((port + 1, nothing));
        }
        let exempt = SourceId(u32::try_from(sources.len()).unwrap());
        sources.push(Source { kind: SourceKind::Exempt, ..rule("exempt cgroup", "") });
        let straight = PortTable { stretches: vec![(0, nothing)] };
        let mut port_tables = vec![PortTable { stretches }, straight];
        let classes = self.classes.clone().map(|verdict| {
            let source = SourceId(u32::try_from(sources.len()).unwrap());
            sources.push(rule(&format!("decide {verdict}"), ""));
            let ports = PortTableId(u32::try_from(port_tables.len()).unwrap());
            port_tables.push(PortTable { stretches: vec![(0, Decision { verdict, source, up: 0 })] });
            let node = Node { prefix: Prefix::Any, source, ports: [ports; 2] };
            Side { tree: vec![node], own: vec![node] }
        });
        let any = Node { prefix: Prefix::Any, source: SourceId(0), ports: [PortTableId(0), PortTableId(1)] };
        let far = (0..self.prefixes).map(|i| Node {
            prefix: Prefix::V4 { bits: 0x1000_0000 + i * 64, len: 28 },
            ports: [PortTableId(1); 2],
            ..any
        });
        let quiet = || Side {
            tree: vec![Node { ports: [PortTableId(1); 2], ..any }],
            own: vec![Node { ports: [PortTableId(1); 2], ..any }],
        };
        let side = Side { tree: std::iter::once(any).chain(far).collect(), own: quiet().own };
        let sides = if self.inbound { [quiet(), side] } else { [side, quiet()] };
        let mut profile = Profile { name: "shop/cart".into(), sides, classes, ..Profile::default() };
        if self.accelerates {
            let source = SourceId(u32::try_from(sources.len()).unwrap());
            sources.push(Source { kind: SourceKind::Accelerate, ..rule("accelerate local", "") });
            profile.acceleration.local = vec![(PortRange::ALL, source)];
        }
        profile.exempt.cgroups = self.exempt_cgroups.iter().map(|path| (path.clone(), exempt)).collect();
        profile.exempt.interfaces =
            self.exempt_interfaces.iter().map(|name| (name.clone(), exempt)).collect();
        let selector = Selector {
            cgroups: self.cgroups.clone(),
            conditions: self.conditions.clone(),
            ..Selector::default()
        };
        MapImage {
            meshes: vec!["shop".into()],
            sources,
            port_tables,
            profiles: vec![profile],
            workloads: std::iter::once(Workload {
                name: "shop/cart".into(),
                selector,
                profile: ProfileId(0),
            })
            .chain(self.others.iter().map(|(subject, value)| {
                let condition =
                    Condition { subject: subject.clone(), values: vec![value.clone()], negated: false };
                let selector = Selector { conditions: vec![condition], ..Selector::default() };
                Workload { name: format!("shop/{value}"), selector, profile: ProfileId(0) }
            }))
            .collect(),
        }
        .canonical()
    }

    pub fn tables(&self) -> Tables {
        pack(&self.image()).unwrap()
    }
}

/// A pod of the workload of [`Policy::tiers`] that is called `web`.
pub fn web_pod(netns: &Path) -> Pod {
    Pod {
        netns: netns.into(),
        name: "pod".into(),
        labels: [("tier".into(), "web".into())].into(),
        addresses: vec!["10.0.0.1".parse().unwrap()],
        ..Pod::default()
    }
}

/// What `apply` is asked for at the command line.
pub fn request<S: Programs>(tables: &Tables) -> Apply<'_, S> {
    Apply { origin: "a test", ..Apply::of(tables) }
}

/// An instance on ground of a test's own.
pub fn instance(ground: &Ground) -> Instance {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    Instance {
        name: "test".into(),
        bpffs: ground.bpffs().into(),
        cgroup: ground.cgroup().path().into(),
        hierarchy: find_hierarchy(&mounts).unwrap(),
        state: ground.state(),
        inbound: Inbound::default(),
        backend: Backend::default(),
        boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().into(),
    }
}

/// Its patience is that of a machine under load: who waits behind two other writers is not at fault.
pub fn runtime(ground: &Ground) -> Runtime {
    Runtime::open(instance(ground), Options { lock_timeout: 60_000, command: "test".into() }).unwrap()
}

/// Ground of a test's own, and the runtime on it.
pub fn on_ground() -> (Ground, Runtime) {
    let ground = Ground::new().unwrap();
    let runtime = runtime(&ground);
    (ground, runtime)
}

/// Whom a process of a cgroup reaches.
pub fn dial(place: &Place, target: SocketAddr) -> Result<Dialled, Errno> {
    place.run(|| Client::to(target).dial()).unwrap()
}
