//! The agent keeps a node in step, and nothing depends on it.
#![expect(
    clippy::indexing_slicing,
    reason = "a key that is not in the JSON is null, and the comparison fails"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Failure, Netns, Place, Process, Server, Task, Tested, tool, until};
use serde_json::{Value, json};

use crate::fixtures::chain::{Call, Node, Pod, kubernetes, labels};
use crate::fixtures::command::Answer;
use crate::fixtures::seen::{Seen, seen};
use crate::fixtures::stage::address;

const PATIENCE: Duration = Duration::from_secs(20);

/// A mesh whose pods go to a sidecar's port.
fn mesh(port: u16) -> String {
    format!("redirect outbound -> {port}\nexclude outbound tcp 3306\nworkload cart {{ label app = cart }}")
}

/// A directory as Kubernetes makes one of a ConfigMap, and the agent that watches it.
struct Running {
    process: Option<Process>,
    dir: PathBuf,
    node: Node,
    versions: usize,
    starts: usize,
}

impl Running {
    fn new(policy: &str) -> Result<Self, Failure> {
        let node = Node::new()?;
        let dir = node.ground().dir().join("policies");
        fs::create_dir(&dir)?;
        symlink("..data/shop.mesh", dir.join("shop.mesh"))?;
        let mut running = Self { process: None, dir, node, versions: 0, starts: 0 };
        running.write(policy)?;
        running.start()?;
        Ok(running)
    }

    /// Puts another version of the policy in place, by swapping a link to a directory.
    fn write(&mut self, policy: &str) -> Tested {
        self.versions += 1;
        let version = format!("..version-{}", self.versions);
        fs::create_dir(self.dir.join(&version))?;
        let text = format!("exempt uid 1500\n\nmesh shop {{\n{policy}\n}}\n");
        fs::write(self.dir.join(&version).join("shop.mesh"), text)?;
        symlink(&version, self.dir.join("..data_tmp"))?;
        fs::rename(self.dir.join("..data_tmp"), self.dir.join("..data"))?;
        Ok(())
    }

    fn command(&self, interval: &str) -> Command {
        let mut command = self.node.meshc();
        command.arg("agent").arg("--policy").arg(&self.dir).args(["--interval", interval]);
        command.args(["--listen", "127.0.0.1:0"]);
        command
    }

    fn start(&mut self) -> Tested {
        let mut command = self.command("1s");
        self.start_as(&mut command)
    }

    fn start_as(&mut self, command: &mut Command) -> Tested {
        self.starts += 1;
        let log = self.node.ground().dir().join(format!("agent-{}.log", self.starts));
        self.process = Some(Process::start(command, &log)?);
        if until(PATIENCE, || self.report().is_ok_and(|report| !report.is_null())) {
            return Ok(());
        }
        Err(format!("the agent does not answer: {}", self.log()?).into())
    }

    /// Kills it, without a word.
    fn kill(&mut self) {
        self.process = None;
    }

    fn log(&self) -> Result<String, Failure> {
        Ok(self.process.as_ref().ok_or("no agent runs")?.output()?)
    }

    fn status(&self) -> Result<Value, Failure> {
        self.node.ask(&["status"])
    }

    /// What the running agent says of itself.
    fn report(&self) -> Result<Value, Failure> {
        let report = self.status()?["agent"].clone();
        let pid = self.process.as_ref().map(Process::id);
        Ok(if report["pid"].as_u64() == pid.map(u64::from) { report } else { Value::Null })
    }

    fn pod(&self, container: &str) -> Result<Pod, Failure> {
        let cart = labels(&[("app", "cart")]);
        self.node.pod(container, &kubernetes("shop", container), &cart)
    }

    /// A connection to where health and metrics are told.
    fn listening(&self) -> Result<TcpStream, Failure> {
        let log = self.log()?;
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut told = lines.filter(|line| line["message"] == "health and metrics");
        let told = told.next().ok_or("no address was told")?;
        Ok(TcpStream::connect(told["address"].as_str().unwrap_or_default())?)
    }

    /// A page of health and metrics.
    fn page(&self, path: &str) -> Result<(u16, String), Failure> {
        self.page_of("localhost", path)
    }

    /// The same, asked for under a name.
    fn page_of(&self, host: &str, path: &str) -> Result<(u16, String), Failure> {
        let mut stream = self.listening()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        let mut answer = BufReader::new(stream);
        let mut first = String::new();
        answer.read_line(&mut first)?;
        let mut rest = String::new();
        answer.read_to_string(&mut rest)?;
        let body = rest.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        let code = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok((code.ok_or_else(|| format!("no HTTP: {first}"))?, body))
    }

    /// The value of a metric, by its name with labels.
    fn metric(&self, name: &str) -> Result<f64, Failure> {
        let (_, page) = self.page("/metrics")?;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.ok_or_else(|| format!("no metric {name} in {page}"))?.parse()?)
    }
}

/// A pod that connects every few milliseconds while a test goes on, and counts what it sees.
struct Traffic(Task<BTreeMap<String, usize>>);

impl Traffic {
    fn start(place: &Place, pause: Duration) -> Result<Self, Failure> {
        let target = address("10.0.3.9:80")?;
        let mut task = place.spawn(move |line| {
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            let _ = line.say("started");
            while line.is_silent() {
                let seen = seen(&Client::to(target), target);
                *counts.entry(format!("{seen:?}")).or_default() += 1;
                std::thread::sleep(pause);
            }
            counts
        })?;
        task.line().hear()?;
        Ok(Self(task))
    }

    fn end(mut self) -> Result<BTreeMap<String, usize>, Failure> {
        // Where it has ended already, its answer tells why.
        let _ = self.0.line().say("enough");
        Ok(self.0.join()?)
    }
}

#[test]
fn the_policy_of_a_directory_is_live_and_a_bad_one_changes_nothing() -> Tested {
    let mut running = Running::new(&mesh(15001))?;
    let pod = running.pod("cart-1")?;
    assert_eq!(running.node.dial(&pod, "10.0.3.9:80")?, Seen::Redirected(15001));
    assert_eq!(running.status()?["owner"], "agent");
    let text = Answer::of(running.node.meshc().arg("status"))?.done()?.stdout;
    let policy = running.dir.display().to_string();
    assert!(text.contains(&format!(", policy from {policy}\n")), "{text}");
    let sees = |running: &Running, port| {
        until(PATIENCE, || {
            running.node.dial(&pod, "10.0.3.9:80").is_ok_and(|seen| seen == Seen::Redirected(port))
        })
    };
    running.write(&mesh(15002))?;
    assert!(sees(&running, 15002), "{}", running.log()?);
    let generation = running.status()?["generation"].clone();

    running.write("redirect outbound 15003")?;
    assert!(until(PATIENCE, || running.report().is_ok_and(|report| report["refused"].is_string())));
    let refused = running.report()?["refused"].clone();
    assert!(
        refused.as_str().is_some_and(|why| why.contains("shop.mesh:4:") && why.contains("[syntax]")),
        "{refused}"
    );
    assert_eq!(running.metric("meshc_policy_refused")?, 1.0);
    let check = |running: &Running| Answer::of(running.node.meshc().args(["status", "--check"]));
    assert_eq!(check(&running)?.code, 3);
    assert_eq!(running.page("/readyz")?.0, 200);
    assert_eq!(running.status()?["generation"], generation);
    assert!(sees(&running, 15002));

    running.write(&mesh(15003))?;
    assert!(sees(&running, 15003), "{}", running.log()?);
    assert!(until(PATIENCE, || running.report().is_ok_and(|report| report["refused"].is_null())));
    assert_eq!(running.metric("meshc_policy_refused")?, 0.0);
    check(&running)?.done()?;
    // Whose rule each decision is by is told too.
    let status = running.status()?;
    let rules = status["rules"].as_array().cloned().unwrap_or_default();
    let is_placed = |rule: &Value| rule["file"].as_str().is_some_and(|file| file.ends_with("shop.mesh"));
    assert!(rules.iter().any(is_placed), "{status:#}");
    // A comment moves the rules and changes no policy.
    running.write(&format!("# moved\n{}", mesh(15003)))?;
    let line = || {
        let status = running.status().ok()?;
        let rule = status["rules"].as_array()?.iter().find(|rule| is_placed(rule))?.clone();
        rule["line"].as_u64()
    };
    assert!(until(PATIENCE, || line() == Some(5)), "{:?}: {}", line(), running.log()?);
    assert_eq!(running.status()?["generation"], status["generation"]);
    Ok(())
}

#[test]
fn a_directory_that_does_not_exist_ends_the_agent_at_its_start() -> Tested {
    let node = Node::new()?;
    let (meshc, missing) = (node.meshc(), node.ground().dir().join("nosuch"));
    let mut command = Command::new("timeout");
    command.arg("20").arg(meshc.get_program()).args(["agent", "--policy"]).arg(&missing);
    command.envs(meshc.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let answer = Answer::of(&mut command)?;
    assert!(answer.code == 1 && answer.words().contains("nosuch` does not exist"), "{answer:#?}");
    assert!(answer.words().contains("meshc agent --policy DIR"), "{answer:#?}");
    Ok(())
}

#[test]
fn what_was_applied_by_hand_is_kept_until_the_agent_may_take_over() -> Tested {
    let mut running = Running::new(&mesh(15001))?;
    let pod = running.pod("cart-1")?;
    let by_hand = running.node.policy(&mesh(15002))?.display().to_string();
    let refused = Answer::of(running.node.meshc().args(["apply", &by_hand]))?;
    assert_eq!(refused.code, 1, "{refused:#?}");
    running.node.ask(&["apply", "--override", &by_hand])?;
    assert!(until(PATIENCE, || running.report().is_ok_and(|report| report["waiting"] == true)));
    running.write(&mesh(15003))?;
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(running.node.dial(&pod, "10.0.3.9:80")?, Seen::Redirected(15002));
    // Not even an agent that knows nothing of it takes over by itself.
    running.kill();
    running.start()?;
    assert!(until(PATIENCE, || running.report().is_ok_and(|report| report["waiting"] == true)));
    assert_eq!(running.status()?["owner"], "cli");
    assert_eq!(running.node.dial(&pod, "10.0.3.9:80")?, Seen::Redirected(15002));
    let resumed = Answer::of(running.node.meshc().arg("resume"))?.done()?;
    assert!(resumed.stdout.contains("the agent takes over"), "{resumed:#?}");
    assert_eq!(running.node.dial(&pod, "10.0.3.9:80")?, Seen::Redirected(15003));
    assert_eq!(
        (running.status()?["owner"].clone(), running.report()?["waiting"].clone()),
        (json!("agent"), json!(false))
    );
    // The same policy, applied by hand and handed over, has its owner back too.
    running.node.ask(&["apply", "--override", &by_hand])?;
    running.write(&mesh(15002))?;
    assert!(until(PATIENCE, || running.report().is_ok_and(|report| report["waiting"] == true)));
    std::thread::sleep(Duration::from_millis(1500));
    running.node.ask(&["resume"])?;
    assert_eq!(running.status()?["owner"], "agent");
    assert_eq!(running.node.dial(&pod, "10.0.3.9:80")?, Seen::Redirected(15002));
    Ok(())
}

#[test]
fn a_paused_mesh_stays_paused_whatever_the_directory_says() -> Tested {
    let mut running = Running::new(&mesh(15001))?;
    let pod = running.pod("cart-1")?;
    running.node.ask(&["pause"])?;
    let generation = running.status()?["generation"].clone();
    running.write(&mesh(15002))?;
    assert!(until(PATIENCE, || running.status().is_ok_and(|status| status["generation"] != generation)));
    assert_eq!(running.status()?["state"], "paused");
    let logs = |word: &str| until(PATIENCE, || running.log().is_ok_and(|log| log.contains(word)));
    assert!(logs("paused: connections go straight"), "{}", running.log()?);
    assert_eq!(running.node.dial(&pod, "10.0.3.9:80")?, Seen::Straight);
    running.node.ask(&["resume"])?;
    assert_eq!(running.node.dial(&pod, "10.0.3.9:80")?, Seen::Redirected(15002));
    Ok(())
}

#[test]
fn nothing_is_detached_that_the_agent_would_bring_back() -> Tested {
    let mut running = Running::new(&mesh(15001))?;
    let pod = running.pod("cart-1")?;
    let detach = |running: &Running| Answer::of(running.node.meshc().args(["detach", "--all"]));
    let refused = detach(&running)?;
    assert_eq!(refused.code, 1, "{refused:#?}");
    assert!(
        ["would bring everything back", "stop it first", "meshc pause"]
            .iter()
            .all(|word| refused.stderr.contains(word)),
        "{refused:#?}"
    );
    assert_eq!(running.node.dial(&pod, "10.0.3.9:80")?, Seen::Redirected(15001));
    if let Some(mut process) = running.process.take() {
        process.stop();
    }
    detach(&running)?.done()?;
    assert_eq!(running.node.dial(&pod, "10.0.3.9:80")?, Seen::Straight);
    // One without a policy of its own brings nothing back.
    let mut agent = running.node.meshc();
    running.start_as(agent.args(["agent", "--interval", "1s"]))?;
    running.node.apply(&mesh(15001))?;
    detach(&running)?.done()?;
    assert_eq!(running.status()?["state"], "none");
    Ok(())
}

#[test]
fn drift_is_repaired() -> Tested {
    let running = Running::new(&mesh(15001))?;
    let pod = running.pod("cart-1")?;
    let pins = running.node.ground().bpffs().join("mesh");
    let endpoints = pins.join("maps/endpoints").display().to_string();
    let entries: Value =
        serde_json::from_str(&tool("bpftool", &["-j", "map", "dump", "pinned", &endpoints])?)?;
    let key: Vec<String> = (entries[0]["key"].as_array().ok_or("no entry")?.iter())
        .filter_map(|byte| byte.as_str().map(str::to_owned))
        .collect();
    let mut delete = vec!["map", "delete", "pinned", endpoints.as_str(), "key", "hex"];
    let bytes: Vec<&str> = key.iter().map(|byte| byte.trim_start_matches("0x")).collect();
    delete.extend(bytes);
    tool("bpftool", &delete)?;
    let in_step = || {
        running.status().is_ok_and(|status| status["drift"] == json!([]))
            && running.node.dial(&pod, "10.0.3.9:80").is_ok_and(|seen| seen == Seen::Redirected(15001))
    };
    assert!(until(PATIENCE, in_step), "a member: {}", running.log()?);
    // The last holder of a link detaches its program.
    fs::remove_file(pins.join("links/mesh_connect4"))?;
    assert!(until(PATIENCE, in_step), "a program: {}", running.log()?);
    assert!(until(PATIENCE, || running.metric("meshc_repairs_total").is_ok_and(|repairs| repairs >= 2.0)));
    Ok(())
}

#[test]
fn a_unit_that_is_restarted_is_a_member_again() -> Tested {
    let mut running = Running::new(&mesh(15001))?;
    let unit = format!("{}/slice/cart.service", running.node.ground().cgroup().within()?);
    running.write(&format!("redirect outbound -> 15001\nworkload cart {{ cgroup \"{unit}\" }}"))?;
    // Processes of the host, which no pod's namespace speaks for.
    let _sidecar = running.node.sidecar(running.node.netns())?;
    // Not even the directory above it is there when the policy comes.
    for _ in 0..3 {
        let slice = running.node.ground().cgroup().child("slice")?;
        let service = slice.child("cart.service")?;
        let place = Place::here().netns(running.node.netns()).cgroup(&service);
        let target = address("10.0.3.9:80")?;
        let joined = until(PATIENCE, || {
            place.run(|| seen(&Client::to(target), target)).is_ok_and(|seen| seen == Seen::Redirected(15001))
        });
        assert!(joined, "{}", running.log()?);
    }
    Ok(())
}

#[test]
fn pods_that_ended_while_the_agent_was_down_are_swept_and_their_addresses_used_again() -> Tested {
    let mut running = Running::new(&mesh(15001))?;
    let (stays, ends) = (running.pod("stays")?, running.pod("ends")?);
    running.kill();
    drop(ends);
    assert_eq!(running.node.members()?.len(), 2);
    // Another pod gets its address and, as a file, its namespace's name.
    let again = Netns::new()?;
    let place = again.path().display().to_string();
    let mut config = running.node.plugin();
    config["cniVersion"] = "1.0.0".into();
    config["name"] = "pods".into();
    config["labels"] = json!({ "app": "cart" });
    config["prevResult"] = json!({ "ips": [{ "address": "172.30.0.3/16" }, { "address": "fd30::3/64" }] });
    running
        .node
        .call(&Call { command: "ADD", container: "again", netns: &place, arguments: "" }, &config)?
        .done()?;
    running.start()?;
    assert!(
        until(PATIENCE, || running.node.members().is_ok_and(|members| members.len() == 2)),
        "{}",
        running.log()?
    );
    let mut members = running.node.members()?;
    members.sort();
    assert_eq!(members, ["again", "stays"]);
    assert_eq!(running.status()?["drift"], json!([]));
    assert_eq!(running.node.dial(&stays, "10.0.3.9:80")?, Seen::Redirected(15001));
    // The namespace is given to yet another before the first is deleted, whose late deletion takes nothing away.
    config["labels"] = json!({ "app": "other" });
    let call = |command, container| Call { command, container, netns: place.as_str(), arguments: "" };
    running.node.call(&call("ADD", "third"), &config)?.done()?;
    running.node.call(&call("DEL", "again"), &config)?.done()?;
    let mut members = running.node.members()?;
    members.sort();
    assert_eq!(members, ["stays", "third"]);
    Ok(())
}

#[test]
fn an_address_that_a_pod_gets_or_loses_is_its_own_or_not_from_that_moment() -> Tested {
    let mut running = Running::new(&mesh(15001))?;
    // One pod is there before the agent, and nothing is found by looking at everything from time to time.
    let early = running.pod("early")?;
    running.kill();
    running.start_as(&mut running.command("1h"))?;
    let late = running.pod("late")?;
    let everywhere = [address("0.0.0.0:8080")?, address("[::]:8080")?];
    for pod in [&early, &late] {
        let _application = Server::start(pod.netns(), "application", &everywhere)?;
        let becomes = |target: &str, wanted: Seen| -> Tested {
            let reached = until(PATIENCE, || running.node.dial(pod, target).is_ok_and(|seen| seen == wanted));
            if reached { Ok(()) } else { Err(format!("{target}: {wanted:?}: {}", running.log()?).into()) }
        };
        let targets = ["10.77.0.5:8080", "[fd77::5]:8080"];
        for (verb, wanted) in [("add", Seen::Straight), ("del", Seen::Redirected(15001))] {
            pod.netns()
                .ip(&format!("addr {verb} 10.77.0.5/32 dev eth0\naddr {verb} fd77::5/128 dev eth0 nodad"))?;
            targets.iter().try_for_each(|target| becomes(target, wanted))?;
        }
        // More at once than the kernel keeps for whoever does not listen all the time.
        let many = |verb: &str| {
            let lines = (0..900).map(|number: u32| {
                let [_, _, a, b] = number.to_be_bytes();
                format!("addr {verb} 10.78.{a}.{b}/32 dev eth0")
            });
            lines.collect::<Vec<_>>().join("\n")
        };
        pod.netns().ip(&many("add"))?;
        becomes("10.78.3.131:8080", Seen::Straight)?;
        pod.netns().ip(&many("del"))?;
        becomes("10.78.3.131:8080", Seen::Redirected(15001))?;
    }
    assert!(until(PATIENCE, || running.status().is_ok_and(|status| status["drift"] == json!([]))));
    // The agent keeps nobody's namespace: that of a pod which ends goes.
    drop((early, late));
    let gone = || running.node.members().is_ok_and(|members| members.is_empty());
    assert!(until(PATIENCE, gone), "{}", running.log()?);
    Ok(())
}

#[test]
fn killed_and_started_again_under_traffic_it_loses_no_connection() -> Tested {
    let mut running = Running::new(&mesh(15001))?;
    let pod = running.pod("cart-1")?;
    let traffic = Traffic::start(&running.node.place(&pod), Duration::from_millis(50))?;
    let mut pods = Vec::new();
    for round in 0..5 {
        running.kill();
        // Pods come without it, too.
        let other = running.pod(&format!("without-{round}"))?;
        assert_eq!(running.node.dial(&other, "10.0.3.9:80")?, Seen::Redirected(15001));
        pods.push(other);
        running.start()?;
    }
    if let Some(mut process) = running.process.take() {
        process.stop();
    }
    assert_eq!(running.node.dial(&pod, "10.0.3.9:80")?, Seen::Redirected(15001));
    let counts = traffic.end()?;
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["Redirected(15001)"], "{counts:?}");
    assert!(counts.values().sum::<usize>() > 5, "{counts:?}");
    Ok(())
}

#[test]
fn a_pod_that_was_let_in_is_attached_when_nothing_is_in_its_way() -> Tested {
    let both = "redirect outbound -> 15001\non failed-attach start\nworkload cart { label app = cart }\n\
                workload range { address 172.30.0.0/16 }";
    let mut running = Running::new(both)?;
    let pod = running.pod("cart-1")?;
    assert_eq!(running.node.dial(&pod, "10.0.3.9:80")?, Seen::Straight);
    assert_eq!(running.status()?["failed"][0]["started"], true);
    assert!(running.log()?.contains("pod cannot be in the mesh"));
    assert_eq!(running.metric("meshc_failed_pods{became=\"started\"}")?, 1.0);
    running.write(&mesh(15001))?;
    let is_member =
        || running.node.dial(&pod, "10.0.3.9:80").is_ok_and(|seen| seen == Seen::Redirected(15001));
    assert!(until(PATIENCE, is_member), "{}", running.log()?);
    let nothing_failed = || running.status().is_ok_and(|status| status["failed"] == json!([]));
    assert!(until(PATIENCE, nothing_failed), "{:#}", running.status()?);
    Ok(())
}

#[test]
fn the_service_manager_is_told_and_only_one_agent_runs() -> Tested {
    let mut running = Running::new(&mesh(15001))?;
    let second = Answer::of(&mut running.command("1s"))?;
    assert_eq!(second.code, 4, "{second:#?}");
    assert!(second.stderr.contains("another agent"), "{second:#?}");
    running.kill();
    let path = running.node.ground().dir().join("notify");
    let manager = UnixDatagram::bind(&path)?;
    manager.set_read_timeout(Some(PATIENCE))?;
    let mut command = running.command("60s");
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    running.start_as(&mut command)?;
    let hear = || -> Result<String, Failure> {
        let mut buffer = [0; 512];
        let length = manager.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned())
    };
    let mut heard = Vec::new();
    while heard.iter().filter(|said| *said == "WATCHDOG=1").count() < 6 {
        heard.push(hear()?);
    }
    assert!(
        heard.contains(&"READY=1".to_owned()) && heard.contains(&"STATUS=in step".to_owned()),
        "{heard:?}"
    );
    if let Some(mut process) = running.process.take() {
        process.stop();
        assert!(process.output()?.contains("stopped"), "{}", process.output()?);
    }
    while hear()? != "STOPPING=1" {}
    assert!(!running.node.ground().state().join("agent.sock").exists());
    assert_eq!(running.status()?["state"], "active");
    Ok(())
}

#[test]
fn health_and_metrics_tell_what_the_kernel_says() -> Tested {
    let running = Running::new(&mesh(15001))?;
    let pod = running.pod("cart-1")?;
    for _ in 0..3 {
        running.node.dial(&pod, "10.0.3.9:80")?;
    }
    running.node.dial(&pod, "10.0.3.9:3306")?;
    assert_eq!(running.page("/healthz")?, (200, "ok\n".to_owned()));
    assert_eq!(running.page("/readyz")?.0, 200);
    assert_eq!(running.page("/elsewhere")?.0, 404);
    let status = running.status()?;
    let digest = status["digest"].as_str().unwrap_or_default();
    for (metric, value) in [
        ("meshc_generation", status["generation"].as_f64().unwrap_or_default()),
        (&format!("meshc_policy_info{{digest=\"{digest}\",owner=\"agent\"}}"), 1.0),
        ("meshc_state{state=\"active\"}", 1.0),
        ("meshc_members{workload=\"shop/cart\"}", 1.0),
        ("meshc_decisions_total{verdict=\"redirected\"}", 3.0),
        ("meshc_workload_decisions_total{workload=\"shop/cart\",verdict=\"redirected\"}", 3.0),
        ("meshc_workload_decisions_total{workload=\"shop/cart\",verdict=\"excluded\"}", 1.0),
        ("meshc_rule_hits_total{scope=\"shop\",rule=\"exclude outbound tcp 3306\"}", 1.0),
        ("meshc_rule_hits_total{scope=\"shop\",rule=\"redirect outbound tcp -> 15001\"}", 3.0),
        ("meshc_map_entries{map=\"endpoints\"}", 1.0),
        ("meshc_drops_total{reason=\"storage_full\"}", 0.0),
        ("meshc_drift", 0.0),
        ("meshc_applies_total{result=\"done\"}", 1.0),
        ("meshc_apply_seconds_count{phase=\"commit\"}", 1.0),
        ("meshc_pods_total{became=\"attached\"}", 1.0),
    ] {
        assert_eq!(running.metric(metric)?, value, "{metric}");
    }
    Ok(())
}

#[test]
fn the_page_shows_what_is_live_and_decisions_are_told_as_they_happen() -> Tested {
    let running = Running::new(&mesh(15001))?;
    let pod = running.pod("cart-1")?;
    let (code, page) = running.page("/")?;
    assert_eq!(code, 200, "{page}");
    for shown in ["<title>generation 1", "\"live\":true", "\"shop/cart\"", "shop.mesh"] {
        assert!(page.contains(shown), "no {shown} in {page}");
    }
    assert_eq!(running.page("/")?.1, page, "it is the same while the generation is");
    let ask = |path: &str| -> Result<BufReader<TcpStream>, Failure> {
        let mut stream = running.listening()?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        Ok(BufReader::new(stream))
    };
    let mut head = String::new();
    let mut answer = ask("/")?;
    while answer.read_line(&mut head)? > 2 {}
    assert!(head.contains("\r\nContent-Security-Policy: default-src 'none'; script-src 'nonce-"), "{head}");
    assert!(head.contains("connect-src 'self'") && head.contains("frame-ancestors 'none'"), "{head}");

    // A decision, as soon as somebody listens.
    let mut events = ask("/events")?;
    let mut heard = String::new();
    let told = until(PATIENCE, || {
        let dialled = running.node.dial(&pod, "10.0.3.9:80");
        // Nothing to read yet is no line.
        while events.read_line(&mut heard).is_ok_and(|count| count > 0) {}
        dialled.is_ok() && heard.contains("data: {")
    });
    assert!(told, "{heard}");
    assert!(heard.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"), "{heard}");
    let line = heard.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or_default();
    let decided: Value = serde_json::from_str(line)?;
    assert_eq!(decided["workload"], "cart");
    assert_eq!((&decided["verdict"], &decided["port"]), (&json!("redirected"), &json!(15001)));
    assert_eq!(decided["rule"]["text"], "redirect outbound tcp -> 15001");

    let (code, live) = running.page("/live")?;
    assert_eq!(code, 200, "{live}");
    let live: Value = serde_json::from_str(&live)?;
    assert_eq!((&live["generation"], &live["state"]), (&json!(1), &json!("active")));
    assert_eq!(live["members"][0]["workload"], "shop/cart");
    assert_eq!(live["rules"][0]["text"], "redirect outbound tcp -> 15001");
    assert!(
        live["rules"][0]["place"].as_str().is_some_and(|place| place.ends_with("shop.mesh:4")),
        "{live:#}"
    );
    assert_eq!(live["drift"], json!([]));

    // Many may listen, not any number; and when all have gone, nothing is observed any more.
    let others = (0..16).map(|_| ask("/events")).collect::<Result<Vec<_>, _>>()?;
    let refused = |mut one: BufReader<TcpStream>| -> Result<bool, Failure> {
        let mut first = String::new();
        one.read_line(&mut first)?;
        Ok(first.starts_with("HTTP/1.1 503"))
    };
    let refused = others.into_iter().map(refused).collect::<Result<Vec<_>, _>>()?;
    assert!(refused.contains(&true) && refused.contains(&false), "{refused:?}");
    assert_eq!(running.page("/healthz")?.0, 200);
    drop(events);
    let nobody = || running.status().is_ok_and(|status| status["observers"] == 0);
    assert!(until(PATIENCE, nobody), "{:#}", running.status()?["observers"]);
    let mut stream = running.listening()?;
    write!(stream, "POST / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut first = String::new();
    BufReader::new(stream).read_line(&mut first)?;
    assert!(first.starts_with("HTTP/1.1 405"), "{first}");
    Ok(())
}

/// A page from elsewhere may have its own name lead here: its scripts read nothing under it.
#[test]
fn what_tells_of_the_mesh_is_told_under_names_of_this_node_alone() -> Tested {
    let mut running = Running::new(&mesh(15001))?;
    running.kill();
    let mut command = running.command("1s");
    command.args(["--allow-host", "node-7.example", "--allow-host", "node-7"]);
    running.start_as(&mut command)?;
    for path in ["/", "/live", "/events", "/metrics", "/nothing"] {
        for host in ["evil.example", "evil.example:9464", "127.0.0.1.evil.example", "node-8"] {
            let (code, why) = running.page_of(host, path)?;
            assert_eq!(code, 403, "{host}{path}: {why}");
            assert!(why.contains("--allow-host NAME"), "{why}");
        }
    }
    for host in ["127.0.0.1", "127.0.0.1:9464", "[::1]:9464", "localhost:80", "node-7.example", "NODE-7:9464"]
    {
        for path in ["/", "/live", "/metrics"] {
            assert_eq!(running.page_of(host, path)?.0, 200, "{host}{path}");
        }
    }
    // Probes ask under any name.
    for path in ["/healthz", "/readyz"] {
        assert_eq!(running.page_of("evil.example", path)?.0, 200, "{path}");
    }
    Ok(())
}

/// Memory that a process has for itself, in KiB: not the maps of the kernel, which it looks into for moments.
fn memory(process: u32) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("no RssAnon")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[test]
fn whatever_others_do_health_is_told_and_the_agent_does_not_grow() -> Tested {
    let running = Running::new(&mesh(15001))?;
    let pid = running.process.as_ref().map(Process::id).ok_or("no agent runs")?;
    let healthy = || -> Tested {
        assert_eq!(running.page("/healthz")?, (200, "ok\n".to_owned()));
        assert_eq!(running.page("/metrics")?.0, 200);
        Ok(())
    };
    // What the agent takes for good, it has taken then.
    for _ in 0..20 {
        healthy()?;
    }
    let before = memory(pid)?;
    // They ask and never read; they say nothing; they begin and do not go on. More than there is room for.
    let mut others = Vec::new();
    for asks in ["GET /metrics HTTP/1.1\r\n\r\n", "", "GET /hea"] {
        for _ in 0..100 {
            let mut stream = running.listening()?;
            stream.write_all(asks.as_bytes())?;
            others.push(stream);
        }
        healthy()?;
    }
    // Many requests in one connection: the first is answered. Endless headers: they are not read.
    for asks in [
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2_000),
        format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(1_000_000)),
    ] {
        let mut stream = running.listening()?;
        // It may hang up before everything was said.
        let _ = stream.write_all(asks.as_bytes());
        healthy()?;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answers = String::from_utf8_lossy(&answer).matches("HTTP/1.1 ").count();
        assert!(answers <= 1, "{answers} answers");
    }
    let after = memory(pid)?;
    // 64 pages and requests at the most, where the headers alone are 6 MB and their list would be ten times that.
    assert!(after < before + 16 * 1024, "{before} KiB, then {after} KiB");
    drop(others);
    Ok(())
}

#[test]
fn what_an_agent_was_asked_for_before_it_hung_is_not_done_when_it_goes_on() -> Tested {
    let running = Running::new(&mesh(15001))?;
    let agent = running.process.as_ref().ok_or("no agent runs")?;
    let netns = Netns::new()?;
    let path = netns.path().display().to_string();
    let call = |command| {
        let call = Call { command, container: "c1", netns: &path, arguments: &kubernetes("shop", "cart-1") };
        let mut config = running.node.plugin();
        config["cniVersion"] = "1.0.0".into();
        config["name"] = "pods".into();
        config["prevResult"] = json!({ "cniVersion": "1.0.0", "ips": [{ "address": "172.30.0.9/16" }] });
        let labels = labels(&[("app", "cart")]);
        if let (Some(config), Some(labels)) = (config.as_object_mut(), labels.as_object()) {
            config.extend(labels.clone());
        }
        running.node.call(&call, &config)?.done()
    };
    agent.halt();
    // The plugin waits for the agent, and then does it alone.
    call("ADD")?;
    assert_eq!(running.node.members()?, ["cart-1"]);
    call("DEL")?;
    assert_eq!(running.node.members()?, Vec::<String>::new());
    agent.go_on();
    let heard = || running.log().is_ok_and(|log| log.matches("came too late").count() == 2);
    assert!(until(PATIENCE, heard), "{}", running.log()?);
    assert_eq!(running.node.members()?, Vec::<String>::new());
    // What comes in time is done as ever.
    call("ADD")?;
    assert_eq!(running.node.members()?, ["cart-1"]);
    Ok(())
}

#[test]
fn metrics_tell_where_no_sidecar_listens() -> Tested {
    let running = Running::new(&mesh(15001))?;
    let target = address("10.0.3.9:80")?;
    let pod = running.pod("cart-1")?;
    let place = running.node.place(&pod);
    let labels = |family: &str| format!("direction=\"outbound\",family=\"{family}\",port=\"15001\"}}");
    let unheard = |family: &str| {
        let who = "namespace=\"shop\",member=\"cart-1\",workload=\"shop/cart\",direction=\"outbound\",protocol=\"tcp\"";
        format!("meshc_sidecar_unheard{{{who},family=\"{family}\",port=\"15001\"}}")
    };
    assert!(running.metric(&unheard("IPv4")).is_err(), "its sidecar listens");
    let _netns = pod.end();
    assert!(place.run(|| Client::to(target).dial())?.is_err());
    for family in ["IPv4", "IPv6"] {
        assert!((running.metric(&unheard(family))? - 1.0).abs() < f64::EPSILON, "{family}");
    }
    let not_taken = format!("meshc_sidecar_not_taken_total{{member=\"cart-1\",{}", labels("IPv4"));
    assert!((running.metric(&not_taken)? - 1.0).abs() < f64::EPSILON, "{}", running.page("/metrics")?.1);
    Ok(())
}

#[test]
fn an_agent_of_another_version_or_none_at_all_is_done_without() -> Tested {
    let node = Node::new()?;
    node.apply(&mesh(15001))?;
    let cart = labels(&[("app", "cart")]);
    // A socket that nobody listens on, as a killed agent leaves it; then one where somebody speaks otherwise.
    let socket = node.ground().state().join("agent.sock");
    drop(UnixListener::bind(&socket)?);
    let pod = node.pod("c1", "", &cart)?;
    assert_eq!(node.dial(&pod, "10.0.3.9:80")?, Seen::Redirected(15001));
    fs::remove_file(&socket)?;
    let other = UnixListener::bind(&socket)?;
    let answering = std::thread::spawn(move || -> std::io::Result<String> {
        let (mut stream, _) = other.accept()?;
        let mut request = String::new();
        BufReader::new(&stream).read_line(&mut request)?;
        stream.write_all(b"{\"version\":9,\"message\":{\"welcome\":{}}}\n")?;
        Ok(request)
    });
    let pod = node.pod("c2", "", &cart)?;
    assert_eq!(node.dial(&pod, "10.0.3.9:80")?, Seen::Redirected(15001));
    let request = answering.join().map_err(|_| "the thread ended")??;
    assert!(request.starts_with("{\"version\":1,"), "{request}");
    Ok(())
}

#[test]
fn without_a_directory_it_keeps_what_is_live_and_the_plugin_in_place() -> Tested {
    let node = Node::new()?;
    let (conf, bin) = (node.ground().dir().join("net.d"), node.ground().dir().join("plugins"));
    fs::create_dir(&conf)?;
    let network =
        json!({ "name": "pods", "cniVersion": "1.0.0", "plugins": [{ "type": "bridge" }] }).to_string();
    let file = conf.join("10-pods.conflist");
    fs::write(&file, &network)?;
    let unit = format!("{}/cart.service", node.ground().cgroup().within()?);
    node.apply(&format!("redirect outbound -> 15001\nworkload cart {{ cgroup \"{unit}\" }}"))?;
    let mut command = node.meshc();
    command
        .args(["agent", "--interval", "1s", "--install-cni", "--conf-dir"])
        .arg(&conf)
        .arg("--bin-dir")
        .arg(&bin);
    let mut agent = Process::start(&mut command, &node.ground().dir().join("agent.log"))?;
    let is_there = |file: &Path| fs::read_to_string(file).is_ok_and(|text| text.contains("meshc-cni"));
    assert!(until(PATIENCE, || is_there(&file) && bin.join("meshc-cni").exists()), "{}", agent.output()?);
    fs::write(&file, &network)?;
    assert!(until(PATIENCE, || is_there(&file)), "{}", agent.output()?);
    let service = node.ground().cgroup().child("cart.service")?;
    let joined = || node.ask(&["status"]).is_ok_and(|status| status["members_total"] == 1);
    assert!(until(PATIENCE, joined), "{}", agent.output()?);
    assert_eq!(node.ask(&["status"])?["owner"], "cli");
    drop(service);
    agent.stop();
    Ok(())
}

#[test]
fn pods_move_when_the_inventory_gives_their_namespace_other_labels() -> Tested {
    let policy = "redirect outbound -> 15001\nworkload meshed { namespace-label mesh = on }";
    let mut running = Running::new(policy)?;
    running.kill();
    let inventory = running.node.ground().dir().join("cluster.toml");
    let write = |labels: &str| -> Tested {
        let beside = inventory.with_extension("new");
        fs::write(&beside, format!("[[namespace]]\nname = \"shop\"\nlabels = {{ {labels} }}\n"))?;
        Ok(fs::rename(beside, &inventory)?)
    };
    write("")?;
    // Nothing is found by looking at everything from time to time.
    let mut command = running.command("1h");
    running.start_as(command.arg("--inventory").arg(&inventory))?;
    let pod = running.node.pod("a", &kubernetes("shop", "a"), &labels(&[]))?;
    let becomes = |running: &Running, expected: Seen| -> Tested {
        let seen = || running.node.dial(&pod, "10.0.3.9:80").is_ok_and(|seen| seen == expected);
        if until(PATIENCE, seen) { Ok(()) } else { Err(format!("{expected:?}: {}", running.log()?).into()) }
    };
    assert_eq!(running.node.dial(&pod, "10.0.3.9:80")?, Seen::Straight);
    let generation = running.status()?["generation"].clone();
    write("mesh = \"on\"")?;
    becomes(&running, Seen::Redirected(15001))?;
    // A file that cannot be read is said, and what it said before is kept.
    write("mesh = ")?;
    assert!(
        until(PATIENCE, || running.report().is_ok_and(|report| report["cluster"].is_string())),
        "{}",
        running.log()?
    );
    assert_eq!(running.node.dial(&pod, "10.0.3.9:80")?, Seen::Redirected(15001));
    write("mesh = \"off\"")?;
    becomes(&running, Seen::Straight)?;
    let status = running.status()?;
    assert_eq!((&status["generation"], &status["agent"]["cluster"]), (&generation, &Value::Null));
    // What it was told holds without it.
    running.kill();
    let later = running.node.pod("b", &kubernetes("shop", "b"), &labels(&[]))?;
    assert_eq!(running.node.dial(&later, "10.0.3.9:80")?, Seen::Straight);
    running.node.ask(&["namespace", "shop", "--label", "mesh=on"])?;
    assert_eq!(running.node.dial(&later, "10.0.3.9:80")?, Seen::Redirected(15001));
    Ok(())
}

#[test]
fn a_policy_follows_the_services_that_it_names_and_no_others() -> Tested {
    let policy = "redirect outbound -> 15001\nexclude outbound tcp 80 to service shop/db\nworkload cart { label app = cart }";
    let mut running = Running::new(policy)?;
    // Nobody knows the service: that is said by name, and nothing is live.
    let refused = |running: &Running| {
        running.report().is_ok_and(|report| {
            report["refused"]
                .as_str()
                .is_some_and(|why| why.contains("`shop/db`") && why.contains("[unknown-service]"))
        })
    };
    assert!(until(PATIENCE, || refused(&running)), "{}", running.log()?);
    running.kill();
    let inventory = running.node.ground().dir().join("cluster.toml");
    let write = |services: &[(&str, &[&str])]| -> Tested {
        let one = |&(name, addresses): &(&str, &[&str])| {
            let addresses: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
            format!(
                "[[service]]\nname = \"{name}\"\nnamespace = \"shop\"\naddresses = [{}]\n",
                addresses.join(", ")
            )
        };
        let beside = inventory.with_extension("new");
        fs::write(&beside, services.iter().map(one).collect::<String>())?;
        Ok(fs::rename(beside, &inventory)?)
    };
    write(&[("other", &["10.0.3.9"])])?;
    // Nothing is found by looking at everything from time to time.
    let mut command = running.command("1h");
    running.start_as(command.arg("--inventory").arg(&inventory))?;
    assert!(until(PATIENCE, || refused(&running)), "{}", running.log()?);
    write(&[("db", &["10.0.3.9"])])?;
    let live = |running: &Running| running.status().is_ok_and(|status| status["generation"] == 1);
    assert!(until(PATIENCE, || live(&running)), "{}", running.log()?);
    let pod = running.pod("a")?;
    let becomes = |running: &Running, target: &str, expected: Seen| -> Tested {
        let seen = || running.node.dial(&pod, target).is_ok_and(|seen| seen == expected);
        if until(PATIENCE, seen) {
            Ok(())
        } else {
            Err(format!("{target}: {expected:?}: {}", running.log()?).into())
        }
    };
    becomes(&running, "10.0.3.9:80", Seen::Straight)?;
    becomes(&running, "10.0.3.10:80", Seen::Redirected(15001))?;
    // What no rule names is no reason for another generation.
    let compiled = running.metric("meshc_apply_seconds_count{phase=\"compile\"}")?;
    write(&[("other", &["10.0.3.10"]), ("db", &["10.0.3.9"])])?;
    write(&[("other", &["10.0.3.10"]), ("db", &["10.0.3.10", "fd10::9"])])?;
    becomes(&running, "10.0.3.10:80", Seen::Straight)?;
    becomes(&running, "[fd10::9]:80", Seen::Straight)?;
    assert_eq!(running.node.dial(&pod, "10.0.3.9:80")?, Seen::Redirected(15001));
    assert_eq!(running.status()?["generation"], 2);
    assert!((running.metric("meshc_apply_seconds_count{phase=\"compile\"}")? - compiled - 1.0).abs() < 0.5);
    // Many changes are few generations: at once, and then one a second.
    let began = std::time::Instant::now();
    for n in 1..=30 {
        write(&[("db", &[&format!("10.0.4.{n}"), "10.0.3.11"])])?;
        std::thread::sleep(Duration::from_millis(60));
    }
    becomes(&running, "10.0.4.30:80", Seen::Straight)?;
    let took = began.elapsed().as_secs() + 2;
    let generation = running.status()?["generation"].as_u64().unwrap_or_default();
    assert!(generation > 2 && generation <= 2 + took, "{generation} after {took} s: {}", running.log()?);
    // A file that lost the service leaves what is live as it is.
    write(&[])?;
    assert!(until(PATIENCE, || refused(&running)), "{}", running.log()?);
    becomes(&running, "10.0.4.30:80", Seen::Straight)
}
