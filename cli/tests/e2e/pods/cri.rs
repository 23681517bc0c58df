//! Kubernetes' way to a pod: kubelet asks containerd for one over the Container Runtime Interface, and containerd
//! calls the plugin. Here a test asks, in kubelet's words.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Failure, Place, Process, Tested, long_runs_are_wanted, tool, until};
use serde_json::json;

use crate::fixtures::chain::PLUGINS;
use crate::fixtures::runtime::{FIRST_PROCESS, Machine};

const PATIENCE: Duration = Duration::from_secs(30);

/// The only image: its own first process waits, as a pod's pause container does.
const IMAGE: &str = "localhost/pause:1";

/// A message of Protocol Buffers: fields of numbers below 16, each with a length, which is all that is asked here.
#[derive(Clone, Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn new() -> Self {
        Self::default()
    }

    fn bytes(mut self, field: u8, bytes: &[u8]) -> Self {
        self.0.push(field << 3 | 2);
        let mut length = bytes.len();
        while length > 0x7f {
            self.0.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        self.0.push(length as u8);
        self.0.extend(bytes);
        self
    }

    fn text(self, field: u8, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    fn message(self, field: u8, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }

    /// A map of texts.
    fn map(self, field: u8, pairs: &[(&str, &str)]) -> Self {
        let entry = |(key, value): &(&str, &str)| Self::new().text(1, key).text(2, value);
        pairs.iter().fold(self, |message, pair| message.message(field, &entry(pair)))
    }

    /// The first field with a length of this number.
    fn get(&self, wanted: u8) -> Option<Self> {
        let mut rest = self.0.as_slice();
        while !rest.is_empty() {
            let tag = number(&mut rest)?;
            let length = number(&mut rest)?;
            // What is no length is a number, the only other kind in these answers.
            if tag & 7 == 2 {
                let (bytes, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                if tag >> 3 == u64::from(wanted) {
                    return Some(Self(bytes.to_vec()));
                }
                rest = after;
            }
        }
        None
    }

    fn string(&self, field: u8) -> Result<String, Failure> {
        let found = self.get(field).ok_or_else(|| format!("no field {field} in {self:?}"))?;
        Ok(String::from_utf8(found.0)?)
    }
}

/// Takes a variable-length number.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// containerd with what Kubernetes needs of it.
struct Cri {
    // Dropped in this order.
    containerd: Process,
    config: String,
    dir: PathBuf,
    parent: String,
    /// Pods that were made and not removed.
    there: RefCell<Vec<String>>,
    machine: Machine,
}

impl Drop for Cri {
    /// What a pod has outlives containerd.
    fn drop(&mut self) {
        for id in self.there.take() {
            let _ = self.remove(&id);
        }
    }
}

/// A pod as kubelet describes it, and the id that it got.
struct Sandbox {
    id: String,
    config: Message,
}

impl Cri {
    fn new(mesh: &str) -> Result<Self, Failure> {
        let machine = Machine::new(mesh)?;
        let dir = machine.dir();
        let parent = machine.node.pods().within()?;
        // It looks in one directory only.
        for plugin in ["bridge", "host-local", "loopback"] {
            symlink(Path::new(PLUGINS).join(plugin), machine.node.bin().join(plugin))?;
        }
        let (bin, networks) = (machine.node.bin(), machine.networks.clone());
        let config = format!(
            "[plugins.'io.containerd.grpc.v1.cri']\n\
             sandbox_image = '{IMAGE}'\nrestrict_oom_score_adj = true\ndisable_apparmor = true\n\
             [plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir = '{}'\nconf_dir = '{}'\n\
             [plugins.'io.containerd.grpc.v1.cri'.containerd]\nsnapshotter = 'native'\n",
            bin.display(),
            networks.display()
        );
        let containerd = machine.containerd(&config)?;
        let there = RefCell::default();
        let cri = Self { containerd, config, dir, parent, there, machine };
        cri.import_image()?;
        Ok(cri)
    }

    /// Makes an image of the machine's root file system, as no registry can be asked for one.
    fn import_image(&self) -> Tested {
        let dir = self.dir.join("image");
        fs::create_dir(&dir)?;
        let layer = dir.join("layer.tar").display().to_string();
        tool("tar", &["-cf", &layer, "-C", &self.machine.rootfs.display().to_string(), "."])?;
        let sum = tool("sha256sum", &[&layer])?;
        let digest = format!("sha256:{}", sum.split(' ').next().unwrap_or_default());
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({
            "os": "linux", "architecture": architecture, "config": { "Entrypoint": ["/bin/sleep", "86400"] },
            "rootfs": { "type": "layers", "diff_ids": [digest] },
        });
        fs::write(dir.join("config.json"), config.to_string())?;
        let manifest =
            json!([{ "Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"] }]).to_string();
        fs::write(dir.join("manifest.json"), manifest)?;
        let archive = self.dir.join("image.tar").display().to_string();
        tool("tar", &["-cf", &archive, "-C", &dir.display().to_string(), "."])?;
        let socket = self.machine.socket().display().to_string();
        let import = ["images", "import", "--snapshotter", "native", archive.as_str()];
        tool("ctr", &[&["--address", socket.as_str(), "-n", "k8s.io"], &import[..]].concat())?;
        let image = Message::new().message(1, &Message::new().text(1, IMAGE));
        let is_known = || self.call("ImageService/ImageStatus", &image).is_ok_and(|it| it.get(1).is_some());
        if until(PATIENCE, is_known) { Ok(()) } else { Err("containerd does not see the image".into()) }
    }

    /// One call, as gRPC has it over HTTP/2: a frame each way, and a status at the end.
    fn call(&self, method: &str, request: &Message) -> Result<Message, Failure> {
        let (frame, head) = (self.dir.join("frame"), self.dir.join("head"));
        let length = u32::try_from(request.0.len())?.to_be_bytes();
        fs::write(&frame, [&[0][..], &length, &request.0].concat())?;
        let mut curl = Place::here().command("curl");
        curl.args(["--silent", "--show-error", "--max-time", "60", "--http2-prior-knowledge"]);
        curl.args(["-H", "content-type: application/grpc", "-H", "te: trailers", "--unix-socket"]);
        curl.arg(self.machine.socket()).arg("--dump-header").arg(&head);
        curl.arg("--data-binary").arg(format!("@{}", frame.display()));
        curl.arg(format!("http://localhost/runtime.v1.{method}"));
        let answered = curl.output()?;
        let head = fs::read_to_string(head).unwrap_or_default();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if !answered.status.success() || field("grpc-status:") != Some("0") {
            let said = String::from_utf8_lossy(&answered.stderr);
            return Err(format!("{method}: {}{said}", field("grpc-message:").unwrap_or(&head)).into());
        }
        Ok(Message(answered.stdout.get(5..).unwrap_or_default().to_vec()))
    }

    /// Makes a pod, with its network and no container yet.
    fn run(&self, name: &str, annotations: &[(&str, &str)]) -> Result<Sandbox, Failure> {
        let uid = format!("uid-of-{name}");
        let metadata = Message::new().text(1, name).text(2, &uid).text(3, "shop");
        let linux = Message::new().text(1, &self.parent);
        let config = Message::new()
            .message(1, &metadata)
            .text(2, name)
            .text(3, &self.logs().display().to_string())
            .map(6, &[("io.kubernetes.pod.name", name), ("io.kubernetes.pod.namespace", "shop")])
            .map(7, annotations)
            .message(8, &linux);
        let made = self.call("RuntimeService/RunPodSandbox", &Message::new().message(1, &config))?;
        let id = made.string(1)?;
        self.there.borrow_mut().push(id.clone());
        Ok(Sandbox { id, config })
    }

    fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// Runs a container in it to its end, and returns what it printed.
    fn first_process(&self, sandbox: &Sandbox, name: &str) -> Result<String, Failure> {
        let log = format!("{name}.log");
        let config = Message::new()
            .message(1, &Message::new().text(1, name))
            .message(2, &Message::new().text(1, IMAGE))
            .text(3, "/bin/sh")
            .text(4, "-c")
            .text(4, FIRST_PROCESS)
            .text(11, &log);
        let request = Message::new().text(1, &sandbox.id).message(2, &config).message(3, &sandbox.config);
        let id = self.call("RuntimeService/CreateContainer", &request)?.string(1)?;
        let which = Message::new().text(1, &id);
        self.call("RuntimeService/StartContainer", &which)?;
        // A line of a log has a time, a stream and whether the line is whole before what was printed.
        let printed = || -> Option<String> {
            let log = fs::read_to_string(self.logs().join(&log)).ok()?;
            Some(log.lines().find(|line| line.contains(" stdout "))?.splitn(4, ' ').nth(3)?.to_owned())
        };
        until(PATIENCE, || printed().is_some());
        let text = printed().ok_or_else(|| format!("{name} printed nothing: {:?}", self.containerd.output()));
        // It ends by itself, and only then may it be removed.
        let removed = || self.call("RuntimeService/RemoveContainer", &which).is_ok();
        assert!(until(PATIENCE, removed), "{name} does not end: {:?}", self.containerd.output());
        Ok(text?)
    }

    fn remove(&self, id: &str) -> Tested {
        self.there.borrow_mut().retain(|there| there != id);
        let which = Message::new().text(1, id);
        self.call("RuntimeService/StopPodSandbox", &which)?;
        self.call("RuntimeService/RemovePodSandbox", &which)?;
        Ok(())
    }
}

#[test]
fn a_pod_of_kubernetes_is_in_the_mesh_before_its_first_process() -> Tested {
    let mut cri = Cri::new("redirect outbound -> 15001\nworkload cart { namespace shop; label app = cart }")?;
    for round in 0..if long_runs_are_wanted() { 20 } else { 1 } {
        let name = format!("cart-{round}");
        let cart = cri.run(&name, &[("meshc/labels", "app=cart"), ("else/where", "x")])?;
        let status = cri.machine.node.ask(&["status"])?;
        let member = &status["members"][0];
        assert_eq!(
            (&status["members_total"], &member["name"], &member["workload"], &status["drift"]),
            (&json!(1), &json!(name), &json!("shop/cart"), &json!([]))
        );
        assert_eq!(member["addresses"].as_array().map(Vec::len), Some(2), "{member}");
        assert_eq!(cri.first_process(&cart, "first")?, "sidecar");
        // So does every container of the pod, and one that is started again.
        assert_eq!(cri.first_process(&cart, "second")?, "sidecar");
        cri.remove(&cart.id)?;
    }
    let other = cri.run("other", &[])?;
    let straight = cri.first_process(&other, "straight")?;
    assert!(straight.contains("\"who\":\"application\""), "{straight}");
    // Pods outlive containerd, and the next one takes them away.
    let stays = cri.run("stays", &[("meshc/labels", "app=cart")])?;
    cri.containerd.kill();
    cri.containerd = cri.machine.containerd(&cri.config)?;
    assert_eq!(cri.machine.node.ask(&["status"])?["members_total"], 2);
    assert_eq!(cri.first_process(&stays, "later")?, "sidecar");
    cri.remove(&other.id)?;
    cri.remove(&stays.id)?;
    cri.machine.nothing_is_left()
}

#[test]
fn a_pod_of_kubernetes_that_cannot_be_meshed_does_not_start() -> Tested {
    // Whose addresses a pod will have, nobody knows when the policy is written.
    let cri = Cri::new(
        "redirect outbound -> 15001\nworkload cart { label app = cart }\nworkload range { address 172.30.0.0/16 }",
    )?;
    let Err(refused) = cri.run("both", &[("meshc/labels", "app=cart")]) else {
        return Err("it started".into());
    };
    let refused = refused.to_string();
    assert!(refused.contains("cart") && refused.contains("range"), "{refused}");
    let status = cri.machine.node.ask(&["status"])?;
    assert_eq!(
        (&status["failed"][0]["name"], &status["failed"][0]["started"]),
        (&json!("both"), &json!(false))
    );
    assert_eq!(status["members"], json!([]));
    // kubelet tries again, and meanwhile the pod was put right.
    let put_right = cri.run("both", &[])?;
    assert_eq!(cri.first_process(&put_right, "first")?, "sidecar");
    cri.remove(&put_right.id)?;
    cri.machine.nothing_is_left()
}
