//! What speaks to meshc and means it no good: damaged artifacts, nonsense on the agent's socket and from a runtime.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Failure, Process, Tested, until};
use serde_json::{Value, json};

use crate::fixtures::chain::{Call, Node, kubernetes, labels};
use crate::fixtures::command::Answer;
use crate::fixtures::seen::Seen;
use crate::fixtures::stage::Stage;

const PATIENCE: Duration = Duration::from_secs(20);

const MESH: &str = "redirect outbound -> 15001\nworkload cart { label app = cart }";

#[test]
fn a_damaged_artifact_is_refused_and_the_live_policy_stays() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15001")?;
    let policy = stage.policy("other.mesh", "deny outbound tcp 80")?.display().to_string();
    let whole = stage.ground().dir().join("whole.artifact");
    let output = whole.display().to_string();
    Answer::of(stage.meshc().args(["compile", "--artifact", "-o", &output, &policy]))?.done()?;
    let bytes = fs::read(&whole)?;
    let generation = stage.ask(&["status"])?["generation"].clone();
    let mut damaged: Vec<Vec<u8>> = vec![vec![], [&bytes[..], b"\0"].concat(), bytes.repeat(2)];
    damaged.extend((1..12).map(|part| bytes[..bytes.len() * part / 12].to_vec()));
    for at in (0..24).map(|part| (bytes.len() - 1) * part / 23) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        damaged.push(flipped);
    }
    for (number, bytes) in damaged.iter().enumerate() {
        let file = stage.ground().write(&format!("damaged-{number}.artifact"), bytes)?;
        let answer = Answer::of(stage.meshc().arg("apply").arg(&file))?;
        assert!(answer.code == 1 && !answer.words().contains("panic"), "{number}: {answer:#?}");
        assert_eq!(stage.ask(&["status"])?["generation"], generation, "{number}");
    }
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));
    stage.ask(&["apply", &output])?;
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Denied);
    Ok(())
}

#[test]
fn nonsense_on_the_agents_socket_is_no_obstacle_to_pods() -> Tested {
    let node = Node::new()?;
    let dir = node.ground().dir().join("policies");
    fs::create_dir(&dir)?;
    fs::copy(node.policy(MESH)?, dir.join("shop.mesh"))?;
    let mut command = node.meshc();
    command.arg("agent").arg("--policy").arg(&dir).args(["--interval", "1s"]);
    let mut agent = Process::start(&mut command, &node.ground().dir().join("agent.log"))?;
    let pid = json!(agent.id());
    let is_up = || node.ask(&["status"]).is_ok_and(|status| status["agent"]["pid"] == pid);
    assert!(until(PATIENCE, is_up), "{}", agent.output()?);
    let socket = node.ground().state().join("agent.sock");
    let noise: [Vec<u8>; 9] = [
        vec![],
        b"\n".to_vec(),
        vec![0; 4096],
        b"{".repeat(1 << 20),
        b"[".repeat(100_000),
        b"{\"version\":1}\n".to_vec(),
        b"{\"version\":18446744073709551616,\"message\":{}}\n".to_vec(),
        b"{\"version\":1,\"message\":{\"add\":{\"netns\":\"/proc/1/ns/net\"}}}\n".to_vec(),
        b"\xff\xfe{\"version\":1,\"message\":\"stop\"}\n".to_vec(),
    ];
    // Some say it and go, some say it and stay.
    let mut stay = Vec::new();
    for said in &noise {
        for stays in [false, true] {
            let mut stream = UnixStream::connect(&socket)?;
            // One that was told off meanwhile has nobody to speak to.
            let _ = stream.write_all(said);
            if stays {
                stay.push(stream);
            }
        }
    }
    let pod = node.pod("c1", &kubernetes("shop", "c1"), &labels(&[("app", "cart")]))?;
    assert_eq!(node.dial(&pod, "10.0.3.9:80")?, Seen::Redirected(15001));
    assert!(agent.is_running() && is_up(), "{}", agent.output()?);
    // Nobody was made a member by it.
    assert_eq!(node.members()?.len(), 1, "{:?}", node.members()?);
    // Each is answered or hung up on, sooner or later.
    let waiting: Vec<_> = stay
        .into_iter()
        .map(|mut stream| {
            thread::spawn(move || -> std::io::Result<()> {
                stream.set_read_timeout(Some(PATIENCE * 2))?;
                let mut answer = Vec::new();
                match stream.read_to_end(&mut answer) {
                    Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => Err(error),
                    _ => Ok(()),
                }
            })
        })
        .collect();
    for waits in waiting {
        waits.join().map_err(|_| "a thread ended")??;
    }
    assert!(!agent.output()?.contains("panicked"), "{}", agent.output()?);
    agent.kill();
    Ok(())
}

#[test]
fn hostile_words_of_a_runtime_are_refused_as_the_specification_says() -> Tested {
    let node = Node::new()?;
    node.apply(&format!("on failed-attach refuse\n{MESH}"))?;
    let pod = mesh_testbed::Netns::new()?;
    let path = pod.path().display().to_string();
    let long = "x".repeat(100_000);
    let config = |extra: Value| {
        let mut config = node.plugin();
        if let (Some(config), Some(extra)) = (config.as_object_mut(), extra.as_object()) {
            config.insert("cniVersion".into(), "1.0.0".into());
            config.insert("name".into(), "pods".into());
            config.extend(labels(&[("app", "cart")]).as_object().cloned().unwrap_or_default());
            config.extend(extra.clone());
        }
        config
    };
    let addresses = |ips: Value| json!({ "prevResult": { "cniVersion": "1.0.0", "ips": ips } });
    for (container, netns, extra) in [
        ("../../../etc/passwd", &path[..], json!({})),
        ("c1/../c2", &path, json!({})),
        ("c1", "/etc/passwd", json!({})),
        ("c1", "/proc/self/ns/mnt", json!({})),
        ("c1", "relative/path", json!({})),
        ("c1", &long, json!({})),
        ("c1", &path, addresses(json!("10.0.0.1"))),
        ("c1", &path, addresses(json!([null]))),
        ("c1", &path, addresses(json!([{ "address": "10.0.0.1/33" }]))),
        ("c1", &path, addresses(json!([{ "address": "10.0.0.1" }]))),
        ("c1", &path, json!({ "prevResult": [] })),
        ("c1", &path, json!({ "prevResult": { "interfaces": [], "ips": [["10.0.0.1/8"]] } })),
        ("c1", &path, json!({ "cniVersion": 1 })),
        ("c1", &path, json!({ "name": { "a": "b" } })),
    ] {
        let call = Call { command: "ADD", container, netns, arguments: &kubernetes("shop", "cart-1") };
        let answer = node.call(&call, &config(extra.clone()))?;
        let said: Result<Value, _> = serde_json::from_str(&answer.stdout);
        let code = said.as_ref().ok().and_then(|said| said["code"].as_u64());
        let short: String = container.chars().take(40).collect();
        assert!(answer.code != 0 && code.is_some(), "{short} {extra}: {:.600}", answer.words());
        assert!(!answer.words().contains("panicked"), "{short} {extra}: {:.600}", answer.words());
        assert_eq!(node.members()?, Vec::<String>::new(), "{short} {extra}");
    }
    // What was once added must go, whatever is said of it.
    let call =
        Call { command: "DEL", container: "c1", netns: &path, arguments: &kubernetes("shop", "cart-1") };
    let answer = node.call(&call, &config(json!({ "prevResult": [] })))?;
    assert_eq!(answer.code, 0, "{}", answer.words());
    Ok::<(), Failure>(())
}
