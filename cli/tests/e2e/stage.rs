//! What most tests stand on: a client pod with a sidecar, a server, and an instance of meshc of their own.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use mesh_testbed::refuse::Refused;
use mesh_testbed::{Cgroup, Client, Failure, Ground, Pair, Place, Server, ServerTask, kernel_is_usable};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::command::{Answer, meshc, refusing};
use crate::seen::{Seen, seen};

/// The user that every policy of these tests exempts.
pub(crate) const SIDECAR_UID: u32 = 1500;

/// Where sidecars listen.
pub(crate) const SIDECAR_PORTS: [u16; 4] = [15001, 15002, 15003, 15004];

/// Where the application listens, on every address of the server.
pub(crate) const PORTS: [u16; 8] = [25, 53, 80, 443, 3306, 5432, 8080, 9090];

/// What a test stands on, where the kernel can be used; without it there is nothing to test.
pub(crate) fn where_usable<T>(made: impl FnOnce() -> Result<T, Failure>) -> Result<Option<T>, Failure> {
    kernel_is_usable().then(made).transpose()
}

/// A pod whose processes in the cgroup `cart` are a workload; beside it a sidecar, and a server.
///
/// Both servers of it tell who they are, so a client knows where its connection went.
pub(crate) struct Stage {
    // Dropped in this order: the processes before what they live in.
    _sidecar: ServerTask,
    _application: Server,
    pair: Pair,
    cart: Cgroup,
    batch: Cgroup,
    beside: Cgroup,
    ground: Ground,
    refused: Mutex<Vec<Refused>>,
}

impl Stage {
    /// A stage that other tests' stages may stand beside.
    pub(crate) fn new() -> Result<Self, Failure> {
        Self::on(Ground::new()?)
    }

    /// A stage for a test that looks at all BPF objects of the kernel.
    pub(crate) fn alone() -> Result<Self, Failure> {
        Self::on(Ground::alone()?)
    }

    /// A stage of its own, with these rules in force.
    pub(crate) fn ruled(rules: &str) -> Result<Self, Failure> {
        let stage = Self::new()?;
        stage.apply_rules(rules)?;
        Ok(stage)
    }

    fn on(ground: Ground) -> Result<Self, Failure> {
        let pair = Pair::new()?;
        let cart = ground.cgroup().child("cart")?;
        let batch = ground.cgroup().child("batch")?;
        let beside = ground.cgroup().child("beside")?;
        // Below the cgroup that programs are attached to, else no program would answer it; no member.
        let place = Place::here().netns(&pair.client).cgroup(&beside);
        let sidecar = ServerTask::start(&place, "sidecar", &on_ports(["127.0.0.1", "::1"], &SIDECAR_PORTS)?)?;
        let application = Server::start(&pair.server, "application", &on_ports(["0.0.0.0", "::"], &PORTS)?)?;
        let refused = Mutex::default();
        Ok(Self { _sidecar: sidecar, _application: application, pair, cart, batch, beside, ground, refused })
    }

    /// A policy of a mesh with these rules, the workloads `cart` and `batch`, and the sidecar's exemption.
    pub(crate) fn policy(&self, name: &str, rules: &str) -> Result<PathBuf, Failure> {
        let (cart, batch) = (self.cart.within()?, self.batch.within()?);
        let text = format!(
            "exempt uid {SIDECAR_UID}\n\nmesh bookstore {{\n{rules}\n\
             workload cart {{ cgroup \"{cart}\" }}\nworkload batch {{ cgroup \"{batch}\" }}\n}}\n"
        );
        Ok(self.ground.write(name, text)?)
    }

    /// meshc, as an instance of this stage's own.
    pub(crate) fn meshc(&self) -> Command {
        let mut command = meshc();
        command
            .env("MESHC_BPFFS", self.ground.bpffs().join("mesh"))
            .env("MESHC_STATE", self.ground.state())
            .env("MESHC_CGROUP", self.ground.cgroup().path());
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

    /// Applies a policy that must be accepted.
    pub(crate) fn apply(&self, policy: &Path) -> Result<serde_json::Value, Failure> {
        self.ask(&["apply", &policy.display().to_string()])
    }

    /// Applies a mesh with these rules.
    pub(crate) fn apply_rules(&self, rules: &str) -> Result<serde_json::Value, Failure> {
        self.apply(&self.policy("policy.mesh", rules)?)
    }

    /// Where the members of the workload `cart` live.
    pub(crate) fn cart(&self) -> Place {
        Place::here().netns(&self.pair.client).cgroup(&self.cart)
    }

    /// The cgroup of the workload `cart`.
    pub(crate) fn cart_cgroup(&self) -> &Cgroup {
        &self.cart
    }

    /// Where the members of the workload `batch` live.
    pub(crate) fn batch(&self) -> Place {
        Place::here().netns(&self.pair.client).cgroup(&self.batch)
    }

    /// Beside them in the same pod, below the same attached programs, and no member.
    pub(crate) fn beside(&self) -> Place {
        Place::here().netns(&self.pair.client).cgroup(&self.beside)
    }

    /// The two namespaces.
    pub(crate) fn pair(&self) -> &Pair {
        &self.pair
    }

    /// The folder, the bpffs and the cgroup.
    pub(crate) fn ground(&self) -> &Ground {
        &self.ground
    }

    /// Where the map `name` is pinned.
    pub(crate) fn pin(&self, name: &str) -> Result<PathBuf, Failure> {
        let found = find(self.ground.bpffs(), name)?;
        found.ok_or_else(|| format!("no pin `{name}` in {}", self.ground.bpffs().display()).into())
    }

    /// Dials as a member of `cart` and tells what became of it.
    pub(crate) fn dial(&self, target: &str) -> Result<Seen, Failure> {
        let target = address(target)?;
        as_member(&self.cart(), || seen(&Client::to(target), target))
    }
}

/// Runs `body` at a place, as a process of its own.
pub(crate) fn as_member<T: Serialize + DeserializeOwned>(
    place: &Place,
    body: impl FnOnce() -> T,
) -> Result<T, Failure> {
    Ok(place.run(body)?)
}

/// An address that a test wrote down.
pub(crate) fn address(text: &str) -> Result<SocketAddr, Failure> {
    text.parse().map_err(|error| format!("{text}: {error}").into())
}

fn on_ports(ips: [&str; 2], ports: &[u16]) -> Result<Vec<SocketAddr>, Failure> {
    let [v4, v6] = ips;
    let (v4, v6): (IpAddr, IpAddr) = (v4.parse()?, v6.parse()?);
    Ok(ports.iter().flat_map(|port| [SocketAddr::new(v4, *port), SocketAddr::new(v6, *port)]).collect())
}

fn find(folder: &Path, name: &str) -> Result<Option<PathBuf>, Failure> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() == name {
            return Ok(Some(entry.path()));
        }
        if entry.file_type()?.is_dir()
            && let Some(found) = find(&entry.path(), name)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
