//! A node whose pods are made as container runtimes make them: by a chain of real CNI plugins, meshc's the last.
#![expect(
    clippy::indexing_slicing,
    reason = "a key that is not in the JSON is null, and the comparison fails"
)]

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mesh_testbed::{Cgroup, Client, Failure, Ground, Netns, Place, Server, ServerTask};
use serde_json::{Value, json};

use crate::command::Answer;
use crate::seen::{Seen, seen};
use crate::stage::{PORTS, SIDECAR_PORTS, SIDECAR_UID, address};

/// Where Debian has the plugins of the CNI project.
pub(crate) const PLUGINS: &str = "/usr/lib/cni";

/// A node: its own network namespace with a bridge and a server that answers for 10.0.0.0/8 and fd10::/16, and an
/// instance of meshc.
pub(crate) struct Node {
    // Dropped in this order: the processes before what they live in.
    _application: Server,
    netns: Netns,
    pods: Cgroup,
    ground: Ground,
}

/// A pod that the chain made, with a sidecar in it.
pub(crate) struct Pod {
    // Dropped in this order.
    _sidecar: ServerTask,
    netns: Netns,
}

impl Pod {
    /// Its processes end, and its network namespace stays.
    pub(crate) fn end(self) -> Netns {
        self.netns
    }

    pub(crate) const fn netns(&self) -> &Netns {
        &self.netns
    }
}

impl Node {
    pub(crate) fn new() -> Result<Self, Failure> {
        let ground = Ground::new()?;
        let netns = Netns::new()?;
        netns.own("10.0.0.0/8")?;
        netns.own("fd10::/16")?;
        let at = |port: &u16| [SocketAddr::new([0; 4].into(), *port), SocketAddr::new([0; 16].into(), *port)];
        let addresses: Vec<_> = PORTS.iter().flat_map(at).collect();
        let application = Server::start(&netns, "application", &addresses)?;
        let pods = ground.cgroup().child("pods")?;
        let bin = ground.folder().join("bin");
        std::fs::create_dir(&bin)?;
        // By its own name, through a link.
        symlink(env!("CARGO_BIN_EXE_meshc"), bin.join("meshc-cni"))?;
        Ok(Self { _application: application, netns, pods, ground })
    }

    pub(crate) fn ground(&self) -> &Ground {
        &self.ground
    }

    /// Where the processes of pods live.
    pub(crate) fn pods(&self) -> &Cgroup {
        &self.pods
    }

    /// The node's own network namespace.
    pub(crate) fn netns(&self) -> &Netns {
        &self.netns
    }

    /// meshc, as an instance of this node's own.
    pub(crate) fn meshc(&self) -> Command {
        let mut command = crate::command::meshc();
        self.instance(&mut command);
        command
    }

    /// Names the node's instance to a command, and to whatever it starts.
    fn instance(&self, command: &mut Command) {
        command
            .env("MESHC_BPFFS", self.ground.bpffs().join("mesh"))
            .env("MESHC_STATE", self.ground.state())
            .env("MESHC_CGROUP", self.ground.cgroup().path());
    }

    /// Runs a command of meshc that must succeed, and returns its JSON.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<Value, Failure> {
        Answer::of(self.meshc().args(["--format", "json"]).args(arguments))?.done()?.json()
    }

    /// A policy of a mesh with this content, and the sidecars' exemption.
    pub(crate) fn policy(&self, mesh: &str) -> Result<PathBuf, Failure> {
        let text = format!("exempt uid {SIDECAR_UID}\n\nmesh shop {{\n{mesh}\n}}\n");
        Ok(self.ground.write("policy.mesh", text)?)
    }

    /// Applies it.
    pub(crate) fn apply(&self, mesh: &str) -> Result<Value, Failure> {
        self.ask(&["apply", &self.policy(mesh)?.display().to_string()])
    }

    /// The network's plugins: bridge with addresses of both families, and meshc.
    pub(crate) fn plugins(&self) -> Vec<Value> {
        let bridge = json!({
            "type": "bridge", "bridge": "cni0", "isGateway": true,
            "ipam": {
                "type": "host-local", "dataDir": self.ground.folder().join("ipam"),
                "ranges": [[{ "subnet": "172.30.0.0/16" }], [{ "subnet": "fd30::/64" }]],
                "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
            },
        });
        vec![bridge, self.plugin()]
    }

    /// meshc's entry in a network's list of plugins.
    pub(crate) fn plugin(&self) -> Value {
        json!({
            "type": "meshc-cni", "capabilities": { "io.kubernetes.cri.pod-annotations": true },
            "bpffs": self.ground.bpffs().join("mesh"), "state": self.ground.state(),
            "cgroup": self.ground.cgroup().path(),
        })
    }

    /// The folder with the link to meshc.
    pub(crate) fn bin(&self) -> PathBuf {
        self.ground.folder().join("bin")
    }

    /// Calls one plugin as container runtimes do, from the node's network namespace.
    pub(crate) fn call(&self, call: &Call<'_>, plugin: &Value) -> Result<Answer, Failure> {
        let kind = plugin["type"].as_str().unwrap_or_default();
        let ours = self.bin().join(kind);
        let program = if ours.exists() { ours } else { Path::new(PLUGINS).join(kind) };
        let mut child = Place::here()
            .netns(&self.netns)
            .command(&program)
            .env("CNI_COMMAND", call.command)
            .env("CNI_CONTAINERID", call.container)
            .env("CNI_NETNS", call.netns)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", call.arguments)
            .env("CNI_PATH", format!("{PLUGINS}:{}", self.bin().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        if let Some(mut input) = child.stdin.take() {
            // A plugin that does not read what it is told says why.
            let _ = input.write_all(plugin.to_string().as_bytes());
        }
        let output = child.wait_with_output()?;
        let text = |bytes| String::from_utf8(bytes).map_err(|_| "a plugin printed invalid UTF-8");
        let code = output.status.code().ok_or("a plugin was killed")?;
        Ok(Answer { code, stdout: text(output.stdout)?, stderr: text(output.stderr)? })
    }

    /// Calls the whole chain: forwards, each with the result of the one before, and backwards at DEL. Returns
    /// the last result.
    pub(crate) fn chain(&self, call: &Call<'_>, version: &str, extra: &Value) -> Result<Value, Failure> {
        let mut plugins = self.plugins();
        if call.command == "DEL" {
            plugins.reverse();
        }
        let mut result = Value::Null;
        for mut plugin in plugins {
            plugin["cniVersion"] = version.into();
            plugin["name"] = "pods".into();
            if let (Some(plugin), Some(extra)) = (plugin.as_object_mut(), extra.as_object()) {
                plugin.extend(extra.clone());
                if !result.is_null() {
                    plugin.insert("prevResult".into(), result.clone());
                }
            }
            let answer = self.call(call, &plugin)?;
            if answer.code != 0 {
                return Err(format!("{}: {answer:#?}", plugin["type"]).into());
            }
            if call.command == "ADD" {
                result = serde_json::from_str(&answer.stdout)?;
            }
        }
        Ok(result)
    }

    /// Makes a pod and starts a sidecar in it: what a container runtime does before the pod's first process.
    pub(crate) fn pod(&self, container: &str, arguments: &str, extra: &Value) -> Result<Pod, Failure> {
        let netns = Netns::new()?;
        let path = netns.path().display().to_string();
        self.chain(&Call { command: "ADD", container, netns: &path, arguments }, "1.0.0", extra)?;
        Ok(Pod { _sidecar: self.sidecar(&netns)?, netns })
    }

    pub(crate) fn sidecar(&self, netns: &Netns) -> Result<ServerTask, Failure> {
        let place = Place::here().netns(netns).cgroup(&self.pods);
        let at =
            |port: &u16| Ok([address(&format!("127.0.0.1:{port}"))?, address(&format!("[::1]:{port}"))?]);
        let addresses: Vec<_> = SIDECAR_PORTS
            .iter()
            .map(at)
            .collect::<Result<Vec<_>, Failure>>()?
            .into_iter()
            .flatten()
            .collect();
        Ok(ServerTask::start(&place, "sidecar", &addresses)?)
    }

    /// Dials from a pod and tells what became of it.
    pub(crate) fn dial(&self, pod: &Pod, target: &str) -> Result<Seen, Failure> {
        let target = address(target)?;
        Ok(self.place(pod).run(|| seen(&Client::to(target), target))?)
    }

    /// Where a pod's processes live.
    pub(crate) fn place(&self, pod: &Pod) -> Place {
        Place::here().netns(&pod.netns).cgroup(&self.pods)
    }

    /// The names of the members, as `status` shows them.
    pub(crate) fn members(&self) -> Result<Vec<String>, Failure> {
        let status = self.ask(&["status"])?;
        let members = status["members"].as_array().cloned().unwrap_or_default();
        Ok(members.iter().filter_map(|member| member["name"].as_str().map(str::to_owned)).collect())
    }
}

/// What a container runtime says by its environment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) command: &'a str,
    pub(crate) container: &'a str,
    pub(crate) netns: &'a str,
    pub(crate) arguments: &'a str,
}

/// What kubelet's container runtime says of a pod.
pub(crate) fn kubernetes(namespace: &str, name: &str) -> String {
    format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_UID=uid-of-{name}")
}

/// Labels, as the conventions of CNI hand them over.
pub(crate) fn labels(pairs: &[(&str, &str)]) -> Value {
    let labels: Vec<_> = pairs.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
    json!({ "args": { "cni": { "labels": labels } } })
}
