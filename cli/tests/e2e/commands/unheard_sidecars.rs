//! Where connections are sent to a sidecar that does not listen there, everybody who is asked says so.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::Stdio;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Failure, Netns, Place, ServerTask, Tested};
use serde_json::{Value, json};

use crate::fixtures::chain::{Call, Node, kubernetes, labels};
use crate::fixtures::command::Answer;
use crate::fixtures::seen::{Seen, Wrong, seen};
use crate::fixtures::stage::{Stage, address};

const FAR: [&str; 2] = ["10.0.3.9:80", "[fd10::9]:80"];
const REFUSED: Seen = Seen::Wrong(Wrong::Error(111));

/// A pod without a sidecar: 172.30.0.2 and fd30::2.
fn pod(node: &Node) -> Result<Netns, Failure> {
    let netns = Netns::new()?;
    let path = netns.path().display().to_string();
    let arguments = kubernetes("shop", "cart-1");
    let call = Call { command: "ADD", container: "c1", netns: &path, arguments: &arguments };
    node.chain(&call, "1.0.0", &labels(&[("app", "cart")]))?;
    Ok(netns)
}

fn place(node: &Node, netns: &Netns) -> Place {
    Place::here().netns(netns).cgroup(node.pods())
}

fn sidecar(node: &Node, netns: &Netns, at: &[&str], strict: bool) -> Result<ServerTask, Failure> {
    let at = at.iter().map(|at| address(at)).collect::<Result<Vec<_>, _>>()?;
    let start = if strict { ServerTask::strict } else { ServerTask::start };
    Ok(start(&place(node, netns), "sidecar", &at)?)
}

fn dial(node: &Node, netns: &Netns) -> Result<[Seen; 2], Failure> {
    let [v4, v6] = [address(FAR[0])?, address(FAR[1])?];
    let dial = move || [v4, v6].map(|target| seen(&mesh_testbed::Client::to(target), target));
    Ok(place(node, netns).run(dial)?)
}

/// Family, port and where else somebody listens, of what `status` says.
fn unheard(status: &Value) -> Vec<(String, u64, Vec<String>)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = status["unheard"].as_array().cloned().unwrap_or_default();
    let one = |it: &Value| {
        let elsewhere = it["elsewhere"].as_array().cloned().unwrap_or_default();
        let family = format!("{} {} {}", text(&it["direction"]), text(&it["protocol"]), text(&it["family"]));
        (family, it["port"].as_u64().unwrap_or_default(), elsewhere.iter().map(text).collect())
    };
    all.iter().map(one).collect()
}

/// What it should say, of connections that members open.
fn opened(family: &str, elsewhere: &[&str]) -> (String, u64, Vec<String>) {
    let elsewhere = elsewhere.iter().map(|&at| at.to_owned()).collect();
    (format!("outbound tcp {family}"), 15001, elsewhere)
}

#[test]
fn a_sidecar_that_is_down_or_elsewhere_is_told_by_status() -> Tested {
    let node = Node::new()?;
    node.apply("redirect outbound -> 15001\nworkload cart { label app = cart }")?;
    let netns = pod(&node)?;
    // A socket that its process has left acknowledges the end of its peer at `[::1]` only where the kernel keeps it whole,
    // which it does from 60 s on. The peer would hold the port for minutes, against whoever takes it without
    // `SO_REUSEADDR`.
    netns.set("net/ipv4/tcp_fin_timeout", "100")?;
    let redirected = Seen::Redirected(15001);
    let (own4, own6) = ("172.30.0.2:15001", "[fd30::2]:15001");
    type Expected<'a> = (&'a [&'a str], bool, [Seen; 2], Vec<(String, u64, Vec<String>)>);
    let cases: [Expected<'_>; 7] = [
        (&[], false, [REFUSED; 2], vec![opened("IPv4", &[]), opened("IPv6", &[])]),
        (&["127.0.0.1:15002"], false, [REFUSED; 2], vec![opened("IPv4", &[]), opened("IPv6", &[])]),
        (
            &[own4, own6],
            false,
            [REFUSED; 2],
            vec![opened("IPv4", &[own4, own6]), opened("IPv6", &[own4, own6])],
        ),
        (&["[::1]:15001"], false, [REFUSED, redirected], vec![opened("IPv4", &["[::1]:15001"])]),
        (&["[::]:15001"], true, [REFUSED, redirected], vec![opened("IPv4", &["[::]:15001"])]),
        (&["0.0.0.0:15001"], false, [redirected, REFUSED], vec![opened("IPv6", &["0.0.0.0:15001"])]),
        (&["127.0.0.1:15001", "[::1]:15001"], false, [redirected; 2], vec![]),
    ];
    for (at, strict, seen, expected) in cases {
        let _sidecar = sidecar(&node, &netns, at, strict)?;
        assert_eq!(dial(&node, &netns)?, seen, "{at:?}");
        let status = node.ask(&["status"])?;
        assert_eq!(unheard(&status), expected, "{at:?}");
        // It is nothing that differs from what was applied.
        assert_eq!(status["drift"], json!([]));
        let checked = Answer::of(node.meshc().args(["status", "--check"]))?;
        assert_eq!(checked.code, if expected.is_empty() { 0 } else { 3 }, "{checked:#?}");
        assert_eq!(checked.stdout.contains("sidecars that do not listen"), !expected.is_empty());
    }
    // Two were not taken in each of the first three, and one in each of the next three.
    let status = node.ask(&["status"])?;
    let counters = status["counters"].as_array().cloned().unwrap_or_default();
    let counted = counters.iter().find(|counter| counter["name"] == "not_taken").ok_or("no counter")?;
    assert_eq!(counted["value"], 9);
    assert_eq!(
        status["not_taken"],
        json!([
            { "member": "cart-1", "direction": "outbound", "family": "IPv4", "port": 15001, "times": 5 },
            { "member": "cart-1", "direction": "outbound", "family": "IPv6", "port": 15001, "times": 4 },
        ])
    );
    Ok(())
}

#[test]
fn whoever_is_asked_of_a_flow_says_that_nobody_listens() -> Tested {
    let node = Node::new()?;
    let mesh = "redirect outbound -> 15001\nworkload cart { label app = cart }";
    node.apply(mesh)?;
    let netns = pod(&node)?;
    let explain = || node.ask(&["explain", "--live", "cart -> 10.0.3.9 tcp 80"]);
    let observe = || -> Result<Value, Failure> {
        let mut command = node.meshc();
        command.args(["--format", "json", "observe", "--count", "1", "10.0.3.9"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut said = BufReader::new(child.stderr.take().ok_or("no standard error")?);
        said.read_line(&mut String::new())?;
        dial(&node, &netns)?;
        let output = child.wait_with_output()?;
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    let policy = node.policy(mesh)?.display().to_string();
    let said = "nobody listens on 127.0.0.1:15001 (tcp, outbound) in the pod `cart-1` of shop/cart";
    for listens in [false, true] {
        let at: &[&str] = if listens { &["127.0.0.1:15001", "[::1]:15001"] } else { &[] };
        let _sidecar = sidecar(&node, &netns, at, false)?;
        let explained = explain()?;
        assert_eq!(explained["verdict"], "redirected");
        let count = |value: &Value| value.as_array().map(Vec::len);
        assert_eq!(count(&explained["unheard"]), Some(usize::from(!listens)), "{explained}");
        let observed = observe()?;
        assert_eq!((&observed["verdict"], &observed["heard"]), (&json!("redirected"), &json!(listens)));
        let applied = Answer::of(node.meshc().args(["apply", &policy]))?.done()?;
        assert_eq!(applied.stderr.contains(said), !listens, "{applied:#?}");
        let words = Answer::of(node.meshc().args(["explain", "--live", "cart -> 10.0.3.9 tcp 80"]))?.words();
        assert_eq!(words.contains(said), !listens, "{words}");
    }
    // A paused mesh sends nobody anywhere.
    node.ask(&["pause"])?;
    assert_eq!(node.ask(&["status"])?["unheard"], json!([]));
    Ok(())
}

#[test]
fn inbound_traffic_and_datagrams_need_a_sidecar_too() -> Tested {
    let node = Node::new()?;
    node.apply(
        "redirect inbound tcp 8080 from 0.0.0.0/0 -> 15003\nredirect outbound udp 53 to ::/0 -> 15053\n\
         workload cart { label app = cart }",
    )?;
    let netns = pod(&node)?;
    let reach = || -> Result<Seen, Failure> {
        let target = address("172.30.0.2:8080")?;
        let outside = Place::here().netns(node.netns());
        Ok(outside.run(|| seen(&mesh_testbed::Client::to(target), target))?)
    };
    let inbound = ("inbound tcp IPv4".to_owned(), 15003, vec![]);
    let datagrams = ("outbound udp IPv6".to_owned(), 15053, vec![]);
    assert_eq!(reach()?, REFUSED);
    let status = node.ask(&["status"])?;
    assert_eq!(unheard(&status), [datagrams.clone(), inbound]);
    assert!(status["not_taken"][0]["times"].as_u64() >= Some(1), "{status}");
    assert_eq!(status["not_taken"][0]["direction"], "inbound");
    // Inbound traffic is handed to whatever socket has the port.
    let _sidecar = sidecar(&node, &netns, &["127.0.0.1:15003"], false)?;
    assert_eq!(unheard(&node.ask(&["status"])?), [datagrams]);
    let _datagrams = netns.run(|| UdpSocket::bind("[::1]:15053"))??;
    assert_eq!(unheard(&node.ask(&["status"])?), []);
    Ok(())
}

#[test]
fn where_members_are_processes_the_place_is_told_in_which_nothing_was_taken() -> Tested {
    let stage = Stage::new()?;
    // The sidecar of this stage listens on other ports.
    let applied = stage.apply_rules("redirect outbound -> 15009")?;
    assert_eq!(applied["unheard"], json!([]));
    assert_eq!(stage.ask(&["status"])?["unheard"], json!([]));
    assert_eq!(stage.dial(FAR[0])?, REFUSED);
    let status = stage.ask(&["status"])?;
    assert_eq!(
        status["unheard"][0]["text"],
        "nobody listens on 127.0.0.1:15009 (tcp, outbound) in the member `cart` of bookstore/cart; 1 connection was not taken"
    );
    assert_eq!(status["unheard"].as_array().map(Vec::len), Some(1));
    Ok(())
}
