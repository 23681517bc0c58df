//! Real container runtimes call the plugin, in a chain with bridge and host-local: the very first connection of a
//! container's first process is redirected.
#![expect(
    clippy::indexing_slicing,
    reason = "a key that is not in the JSON is null, and the comparison fails"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_testbed::{
    Client, Failure, Netns, Place, Process, Tested, kernel_is_usable, long_runs_are_wanted, until,
};
use serde_json::{Value, json};

use crate::chain::{Node, PLUGINS};
use crate::command::Answer;
use crate::seen::{Seen, seen};
use crate::stage::{address, where_usable};

const PATIENCE: Duration = Duration::from_secs(30);

/// What a container runs: a sidecar, and as soon as it listens, the application's first connection. Nothing else
/// connects before.
pub(crate) const FIRST_PROCESS: &str = "nc -ll -p 15001 -e /bin/echo sidecar &
n=0; while ! netstat -ltn | grep -q :15001 && [ $n -lt 500 ]; do n=$((n+1)); done
nc -w 5 10.0.3.9 80 </dev/null
";

/// A node with a network's file as an administrator writes it, and a root file system of one program.
pub(crate) struct Machine {
    pub(crate) rootfs: PathBuf,
    pub(crate) networks: PathBuf,
    pub(crate) node: Node,
}

/// Two names of pods that are one workload's, for runtimes that know no labels.
const MESH: &str = "redirect outbound -> 15001\nworkload cart { pod cart-1, default-cart-1 }";

impl Machine {
    pub(crate) fn new(mesh: &str) -> Result<Self, Failure> {
        let node = Node::new()?;
        node.apply(mesh)?;
        let folder = node.ground().folder();
        let (rootfs, networks) = (folder.join("rootfs"), folder.join("net.d"));
        for name in ["bin", "proc", "sys", "dev", "etc", "tmp", "run"] {
            fs::create_dir_all(rootfs.join(name))?;
        }
        fs::copy("/bin/busybox", rootfs.join("bin/busybox"))?;
        for name in ["sh", "nc", "netstat", "grep", "echo", "sleep"] {
            symlink("busybox", rootfs.join("bin").join(name))?;
        }
        fs::write(rootfs.join("first.sh"), FIRST_PROCESS)?;
        fs::create_dir(&networks)?;
        let network = json!({ "cniVersion": "0.4.0", "name": "pods", "plugins": node.plugins() });
        fs::write(networks.join("10-pods.conflist"), network.to_string())?;
        Ok(Self { rootfs, networks, node })
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.node.ground().folder().to_owned()
    }

    /// Where containerd listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder().join("containerd/sock")
    }

    /// Runs a container of this name to its end, and returns what it printed.
    fn podman(&self, name: &str) -> Result<String, Failure> {
        let folder = self.node.ground().folder();
        let config = format!(
            "[network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [\"{}\", \"{PLUGINS}\"]\n",
            self.node.bin().display()
        );
        fs::write(folder.join("containers.conf"), config)?;
        let mut command = Place::here().netns(self.node.netns()).command("podman");
        command.env("CONTAINERS_CONF", folder.join("containers.conf"));
        for (option, place) in [("--root", "root"), ("--runroot", "runroot"), ("--tmpdir", "tmp")] {
            command.arg(option).arg(folder.join(place));
        }
        command.arg("--network-config-dir").arg(&self.networks);
        command.args(["--storage-driver", "vfs", "--runtime", "runc", "--cgroup-manager", "cgroupfs"]);
        command.args(["--events-backend", "file", "run", "--rm", "--name", name, "--network", "pods"]);
        command.args(["--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096", "--cgroup-parent"]);
        command
            .arg(self.node.pods().within()?)
            .arg("--rootfs")
            .arg(&self.rootfs)
            .args(["/bin/sh", "/first.sh"]);
        Ok(Answer::of(&mut command)?.done()?.stdout)
    }

    /// Starts containerd with this in its configuration.
    pub(crate) fn containerd(&self, more: &str) -> Result<Process, Failure> {
        let folder = self.folder().join("containerd");
        fs::create_dir_all(&folder)?;
        let shown = folder.display();
        let config = format!(
            "version = 2\nroot = '{shown}/root'\nstate = '{shown}/state'\n{more}[grpc]\naddress = '{}'\n",
            self.socket().display()
        );
        fs::write(folder.join("config.toml"), config)?;
        let mut command = Place::here().netns(self.node.netns()).command("containerd");
        command.arg("--config").arg(folder.join("config.toml"));
        let process = Process::start(&mut command, &folder.join("log"))?;
        let mut version = Place::here().command("ctr");
        version.arg("--address").arg(self.socket()).arg("version");
        if until(PATIENCE, || Answer::of(&mut version).is_ok_and(|answer| answer.code == 0)) {
            return Ok(process);
        }
        Err(format!("containerd does not answer: {}", process.output()?).into())
    }

    /// The same by `ctr`, whose folders are fixed: it sees others in their place.
    fn ctr(&self, name: &str) -> Result<String, Failure> {
        const SCRIPT: &str = "set -e
            mount -t tmpfs none /opt; mkdir -p /opt/cni/bin
            ln -s \"$PLUGINS\"/* \"$BIN\"/* /opt/cni/bin
            mount --bind \"$NETWORKS\" /etc/cni/net.d
            exec ctr \"$@\"";
        let mut command = Place::here().netns(self.node.netns()).command("unshare");
        command.env("PLUGINS", PLUGINS).env("BIN", self.node.bin()).env("NETWORKS", &self.networks);
        command.args(["--mount", "sh", "-c", SCRIPT, "sh", "--address"]);
        command.arg(self.socket());
        let cgroup = format!("{}/{name}", self.node.pods().within()?);
        command.args(["run", "--rm", "--cni", "--cgroup", &cgroup, "--rootfs"]).arg(&self.rootfs);
        command.args([name, "/bin/sh", "/first.sh"]);
        Ok(Answer::of(&mut command)?.done()?.stdout)
    }

    pub(crate) fn nothing_is_left(&self) -> Tested {
        assert_eq!(self.node.members()?, Vec::<String>::new());
        let status = self.node.ask(&["status"])?;
        assert_eq!((&status["drift"], &status["failed"]), (&json!([]), &json!([])));
        Ok(())
    }
}

impl Drop for Machine {
    /// Where version 1 of cgroups lives beside version 2, runtimes make folders of the same name in each hierarchy.
    fn drop(&mut self) {
        let Ok(within) = self.node.pods().within() else { return };
        let Some(ground) = Path::new(&within).parent().and_then(|ground| ground.strip_prefix("/").ok())
        else {
            return;
        };
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            // The testbed removes what is in the second version's.
            if hierarchy.path().join("tasks").exists() {
                remove(&hierarchy.path().join(ground));
            }
        }
    }
}

/// Removes a cgroup with all below it; one that was never there does not matter.
fn remove(cgroup: &Path) {
    for below in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if below.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&below.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
}

#[test]
fn a_container_of_podman_is_in_the_mesh_before_its_first_process() -> Tested {
    let Some(machine) = where_usable(|| Machine::new(MESH))? else { return Ok(()) };
    for _ in 0..if long_runs_are_wanted() { 20 } else { 1 } {
        assert_eq!(machine.podman("cart-1")?, "sidecar\n");
    }
    let straight = machine.podman("other-1")?;
    assert!(straight.contains("\"who\":\"application\""), "{straight}");
    machine.nothing_is_left()
}

#[test]
fn a_container_of_containerd_is_in_the_mesh_before_its_first_process() -> Tested {
    let Some(machine) = where_usable(|| Machine::new(MESH))? else { return Ok(()) };
    let mut containerd = machine.containerd("disabled_plugins = ['io.containerd.grpc.v1.cri']\n")?;
    // Its namespace is of a process, and at DEL it is not told at all.
    for _ in 0..if long_runs_are_wanted() { 20 } else { 1 } {
        assert_eq!(machine.ctr("cart-1")?, "sidecar\n");
    }
    let straight = machine.ctr("other-1")?;
    assert!(straight.contains("\"who\":\"application\""), "{straight}");
    containerd.stop();
    machine.nothing_is_left()
}

/// `cnitool` of the CNI project, as `scripts/setup.sh --long` builds it.
const CNITOOL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/cnitool");

#[test]
fn the_tool_of_the_cni_project_adds_checks_and_deletes_a_pod() -> Tested {
    if !(kernel_is_usable() && long_runs_are_wanted()) {
        return Ok(());
    }
    let machine = Machine::new(MESH)?;
    let node = &machine.node;
    let pod = Netns::new()?;
    let call = |command: &str| {
        let mut tool = Place::here().netns(node.netns()).command(CNITOOL);
        tool.env("CNI_PATH", format!("{PLUGINS}:{}", node.bin().display()));
        tool.env("NETCONFPATH", &machine.networks);
        tool.env("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-1");
        Answer::of(tool.args([command, "pods"]).arg(pod.path()))
    };
    let added: Value = call("add")?.done()?.json()?;
    assert_eq!(added["ips"].as_array().map(Vec::len), Some(2), "{added}");
    assert_eq!(node.members()?, ["cart-1"]);
    call("check")?.done()?;
    let target = address("10.0.3.9:80")?;
    let _sidecar = node.sidecar(&pod)?;
    let place = Place::here().netns(&pod).cgroup(node.pods());
    assert_eq!(place.run(|| seen(&Client::to(target), target))?, Seen::Redirected(15001));
    // A member that is not what the policy says fails the check, in the plugin's words.
    node.ask(&["detach", "--netns", &pod.path().display().to_string()])?;
    let checked = call("check")?;
    assert!(checked.code != 0 && checked.words().contains("not registered"), "{checked:#?}");
    call("del")?.done()?;
    call("del")?.done()?;
    machine.nothing_is_left()
}
