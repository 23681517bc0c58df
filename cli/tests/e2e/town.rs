//! What tests of inbound rules stand on: a pod with an application and a sidecar, and clients all around it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use mesh_testbed::refuse::Refused;
use mesh_testbed::{Cgroup, Client, Dialled, Errno, Failure, Ground, Netns, Place, ServerTask, Town};

use crate::command::{Answer, meshc, refusing};
use crate::stage::{SIDECAR_UID, address};

/// Where the sidecar of these tests listens, on loopback only.
pub(crate) const SIDECAR: [&str; 2] = ["127.0.0.1:15003", "[::1]:15003"];

/// Where the application of these tests listens.
pub(crate) const APPLICATION: [&str; 4] = ["0.0.0.0:8080", "[::]:8080", "0.0.0.0:9090", "[::]:9090"];

/// The pod's own addresses.
pub(crate) const POD: [&str; 2] = ["10.42.0.2", "fd42::2"];

/// The pod, and an instance of meshc of its own.
pub(crate) struct Pod {
    // Dropped in this order: the namespaces before the cgroup that their processes are in.
    town: Town,
    inside: Cgroup,
    ground: Ground,
    way: &'static str,
    refused: Mutex<Vec<Refused>>,
}

/// What became of a connection that was offered to the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// This server took it, unredirected.
    Straight(String),
    /// This one did, and was told the address and port that was dialled.
    Redirected(String),
    /// The kernel answered with this error.
    Failed(Errno),
    /// Anything else, none of which may be.
    Wrong(Box<Dialled>),
}

impl Pod {
    pub(crate) fn new(way: &'static str) -> Result<Self, Failure> {
        let ground = Ground::new()?;
        let inside = ground.cgroup().child("inside")?;
        Ok(Self { town: Town::new()?, inside, ground, way, refused: Mutex::default() })
    }

    /// A pod that is attached while these rules are in force.
    pub(crate) fn ruled(way: &'static str, rules: &str) -> Result<Self, Failure> {
        let pod = Self::new(way)?;
        pod.apply(rules)?;
        pod.attach()?;
        Ok(pod)
    }

    /// The namespaces.
    pub(crate) fn town(&self) -> &Town {
        &self.town
    }

    /// The folder, the bpffs and the cgroup.
    pub(crate) fn ground(&self) -> &Ground {
        &self.ground
    }

    /// Where the map `name` is pinned.
    pub(crate) fn pin(&self, name: &str) -> PathBuf {
        self.ground.bpffs().join("mesh/maps").join(name)
    }

    /// Where the pod's own processes live.
    pub(crate) fn place(&self) -> Place {
        Place::here().netns(&self.town.pod).cgroup(&self.inside)
    }

    /// Where its sidecar lives.
    pub(crate) fn sidecar_place(&self) -> Place {
        self.place().uid(SIDECAR_UID)
    }

    /// Starts a server in the pod.
    pub(crate) fn serve(&self, who: &str, listen: &[&str]) -> Result<ServerTask, Failure> {
        Ok(ServerTask::start(&self.place(), who, &addresses(listen)?)?)
    }

    /// The same in another pod.
    pub(crate) fn serve_in(&self, netns: &Netns, who: &str, listen: &[&str]) -> Result<ServerTask, Failure> {
        let place = Place::here().netns(netns).cgroup(&self.inside);
        Ok(ServerTask::start(&place, who, &addresses(listen)?)?)
    }

    /// Starts the sidecar and the application.
    pub(crate) fn servers(&self) -> Result<[ServerTask; 2], Failure> {
        let sidecar = ServerTask::start(&self.sidecar_place(), "sidecar", &addresses(&SIDECAR)?)?;
        Ok([sidecar, self.serve("application", &APPLICATION)?])
    }

    /// meshc, as an instance of this test's own.
    pub(crate) fn meshc(&self) -> Command {
        let mut command = meshc();
        command
            .env("MESHC_BPFFS", self.ground.bpffs().join("mesh"))
            .env("MESHC_STATE", self.ground.state())
            .env("MESHC_CGROUP", self.ground.cgroup().path())
            .env("MESHC_INBOUND", self.way);
        refusing(&mut command, &self.refused.lock().unwrap_or_else(PoisonError::into_inner));
        command
    }

    /// From now on the kernel refuses this, and this only, to meshc.
    pub(crate) fn refuse(&self, what: &[Refused]) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = what.to_vec();
    }

    /// Runs a command of meshc that must succeed, and returns its JSON.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<serde_json::Value, Failure> {
        Answer::of(self.meshc().args(["--format", "json"]).args(arguments))?.done()?.json()
    }

    /// Applies a mesh with these rules, whose workload `cart` is the pod once it is attached.
    pub(crate) fn apply(&self, rules: &str) -> Result<serde_json::Value, Failure> {
        self.ask(&["apply", &self.policy(rules)?.display().to_string()])
    }

    /// Writes such a policy.
    pub(crate) fn policy(&self, rules: &str) -> Result<PathBuf, Failure> {
        let text = format!(
            "exempt uid {SIDECAR_UID}\n\nmesh shop {{\n{rules}\nworkload cart {{ label app = cart }}\n}}\n"
        );
        Ok(self.ground.write("policy.mesh", text)?)
    }

    /// Attaches the pod.
    pub(crate) fn attach(&self) -> Result<serde_json::Value, Failure> {
        self.attach_as(&self.town.pod, &POD)
    }

    /// Attaches a namespace as a pod of the workload `cart`.
    pub(crate) fn attach_as(&self, netns: &Netns, addresses: &[&str]) -> Result<serde_json::Value, Failure> {
        self.attach_named(netns, "cart-1", addresses)
    }

    /// The same, by this name.
    pub(crate) fn attach_named(
        &self,
        netns: &Netns,
        name: &str,
        addresses: &[&str],
    ) -> Result<serde_json::Value, Failure> {
        let path = netns.path().display().to_string();
        let mut arguments = vec!["attach", "--netns", &path, "--name", name, "--label", "app=cart"];
        for address in addresses {
            arguments.extend(["--address", address]);
        }
        self.ask(&arguments)
    }

    /// Detaches the pod.
    pub(crate) fn detach(&self) -> Result<serde_json::Value, Failure> {
        self.ask(&["detach", "--netns", &self.town.pod.path().display().to_string()])
    }
}

/// Addresses that a test wrote down.
pub(crate) fn addresses(list: &[&str]) -> Result<Vec<SocketAddr>, Failure> {
    list.iter().map(|text| address(text)).collect()
}

/// Dials from a namespace that no program is attached to.
pub(crate) fn offer(from: &Netns, target: &str) -> Result<Offered, Failure> {
    let target = address(target)?;
    Ok(from.run(|| offered(Client::to(target).dial(), target))?)
}

/// What became of a connection to `target`.
pub(crate) fn offered(dialled: Result<Dialled, Errno>, target: SocketAddr) -> Offered {
    let dialled = match dialled {
        Ok(dialled) => dialled,
        Err(error) => return Offered::Failed(error),
    };
    let arrival = &dialled.arrival;
    let same = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    // Nothing is rewritten: each end sees the other as it is.
    if same(arrival.local) != target || same(arrival.peer) != dialled.local || dialled.peer != target {
        return Offered::Wrong(Box::new(dialled));
    }
    let level = if target.is_ipv4() { arrival.original4 } else { arrival.original6 };
    match (level, arrival.original()) {
        (Ok(original), Some(_)) if original == target => Offered::Redirected(arrival.who.clone()),
        (Err(_), None) => Offered::Straight(arrival.who.clone()),
        _ => Offered::Wrong(Box::new(dialled)),
    }
}
