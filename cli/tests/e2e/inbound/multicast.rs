//! Datagrams that the kernel gives to every socket which wants them, and those that claim the pod's own address:
//! inbound rules decide them too.

use std::net::IpAddr;
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::refuse::Refused;
use mesh_testbed::{Errno, Failure, Manner, Netns, Tested, UdpClient, UdpServerTask, tool, until};

use crate::fixtures::observer::{Observer, parts};
use crate::fixtures::packets::{Shape, UDP, counter, datagram, packets, send};
use crate::fixtures::stage::address;
use crate::fixtures::town::{Pod, addresses};

/// How long an answer is waited for that does not come.
const SILENCE: Duration = Duration::from_millis(400);

const GROUPS: [&str; 3] = ["224.0.0.251", "239.1.2.3", "ff05::fb"];

/// The server listens on a port that nobody is denied, on one that all are, and on one that the neighbour is.
const PORTS: [u16; 3] = [8080, 9090, 9092];
const RULES: &str = "redirect inbound tcp -> 15003
    deny inbound udp 9090
    deny inbound udp 9090 from fe80::/10
    deny inbound udp 9092 from 10.42.0.1, fd42::1, fe80::/10";

fn server(pod: &Pod) -> Result<UdpServerTask, Failure> {
    let groups =
        GROUPS.into_iter().chain(["ff02::fb"]).map(str::parse).collect::<Result<Vec<IpAddr>, _>>()?;
    let listen: Vec<_> =
        PORTS.iter().flat_map(|port| [format!("0.0.0.0:{port}"), format!("[::]:{port}")]).collect();
    let listen = addresses(&listen.iter().map(String::as_str).collect::<Vec<_>>())?;
    let link = pod.town().pod.interface("eth0")?;
    Ok(UdpServerTask::of_groups(&pod.place(), "server", &listen, (&groups, link))?)
}

/// Everything that reaches many, as the neighbour names it.
fn targets(neighbour: &Netns, device: &str) -> Result<Vec<String>, Failure> {
    let link = neighbour.interface(device)?;
    let of_v6 = [format!("[ff02::fb%{link}]"), format!("[ff02::1%{link}]"), "[ff05::fb]".into()];
    let of_v4 = ["255.255.255.255", "10.42.0.255", "224.0.0.251", "239.1.2.3"].map(str::to_owned);
    Ok(of_v4.into_iter().chain(of_v6).collect())
}

/// Whether the server answers what is sent there by a device.
fn is_answered(from: &Netns, device: &str, target: &str, patience: Duration) -> Result<bool, Failure> {
    let target = address(target)?;
    let client = UdpClient::new(Manner::Unconnected).through(device).option(
        libc::SOL_SOCKET,
        libc::SO_BROADCAST,
        &1i32.to_ne_bytes(),
    );
    let answer = from.run(|| {
        let asker = client.open(target)?;
        asker.wait_for(patience)?;
        asker.ask(target, "who?")
    })?;
    match answer {
        Ok(answer) => Ok(answer.who == "server"),
        Err(Errno::ETIMEDOUT) => Ok(false),
        Err(error) => Err(format!("{target}: {error:?}").into()),
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn broadcasts_and_multicasts_are_decided_like_what_is_for_one() -> Tested {
    let pod = Pod::ruled(super::WAY, RULES)?;
    let _server = server(&pod)?;
    let host = &pod.town().host;
    let mut all = targets(host, "pod")?;
    all.extend(["10.42.0.2", "[fd42::2]"].map(str::to_owned));
    for target in &all {
        assert!(is_answered(host, "pod", &format!("{target}:8080"), PATIENCE)?, "{target}");
        for port in [9090, 9092] {
            let answered = match is_answered(host, "pod", &format!("{target}:{port}"), SILENCE) {
                Err(error) if error.to_string().contains("ECONNREFUSED") => false,
                other => other?,
            };
            assert!(!answered, "{target}:{port}");
        }
    }
    // A broadcast in a frame that is for one machine only is one all the same.
    let links = tool("ip", &["-n", pod.town().pod.name(), "-j", "link", "show", "eth0"])?;
    let links: serde_json::Value = serde_json::from_str(&links)?;
    let mac = links[0]["address"].as_str().ok_or("no address")?;
    host.ip(&format!(
        "route del broadcast 10.42.0.255 dev pod table local\nneigh replace 10.42.0.255 lladdr {mac} dev pod"
    ))?;
    assert!(is_answered(host, "pod", "10.42.0.255:8080", PATIENCE)?);
    assert!(!is_answered(host, "pod", "10.42.0.255:9090", SILENCE)?);
    pod.apply("redirect inbound tcp -> 15003\ndeny inbound udp 9090 from 10.9.0.0/16, fd10::/16")?;
    for target in &all {
        assert!(is_answered(host, "pod", &format!("{target}:9090"), PATIENCE)?, "{target}");
    }
    Ok(())
}

#[test]
fn what_is_denied_to_many_is_counted_and_told() -> Tested {
    let pod = Pod::ruled(super::WAY, RULES)?;
    let _server = server(&pod)?;
    let host = &pod.town().host;
    let observer = Observer::of(pod.meshc(), &pod.ground().dir().join("log"), &["--verdict", "denied"])?;
    let targets = ["224.0.0.251:9092", "[ff05::fb]:9092"];
    for target in targets {
        assert!(!is_answered(host, "pod", target, SILENCE)?, "{target}");
    }
    let lines = observer.wait(2)?;
    for (line, target) in lines.iter().zip(targets) {
        let told = parts(line, &["verdict", "protocol", "direction", "destination"]);
        assert_eq!(told, ["denied", "udp", "inbound", target], "{lines:#?}");
    }
    Ok(())
}

#[test]
fn what_the_pod_sends_to_many_of_itself_stays_direct() -> Tested {
    let pod = Pod::ruled(super::WAY, RULES)?;
    let _server = server(&pod)?;
    for target in targets(&pod.town().pod, "eth0")?.iter().filter(|target| !target.contains("ff02::1%")) {
        for port in PORTS {
            let target = format!("{target}:{port}");
            assert!(is_answered(&pod.town().pod, "eth0", &target, PATIENCE)?, "{target}");
        }
    }
    Ok(())
}

#[test]
fn a_datagram_from_outside_that_claims_the_pods_own_address_is_no_more_than_others() -> Tested {
    let pod = Pod::ruled(super::WAY, RULES)?;
    let _server = server(&pod)?;
    let host = &pod.town().host;
    // Else the kernel drops what comes in with an IPv4 source of its own.
    for setting in ["all/accept_local", "eth0/accept_local"] {
        pod.town().pod.set(&format!("net/ipv4/conf/{setting}"), "1")?;
    }
    let received = || Ok::<_, Failure>((pod.town().pod.counter("snmp", "Udp", "InDatagrams")?, udp6(&pod)?));
    for (source, target) in [("[fd42::2]:4000", "[fd42::2]:9090"), ("10.42.0.2:4000", "10.42.0.2:9090")] {
        let (source, target) = (address(source)?, address(target)?);
        let (before, arrived) = (counter(&pod, "denied")?, received()?);
        let sent = packets(source.ip(), target.ip(), UDP, &datagram(source, target), Shape::Whole);
        send(host, target.ip(), &sent)?;
        let is_counted = || counter(&pod, "denied").is_ok_and(|now| now > before);
        assert!(until(PATIENCE, is_counted), "{source}");
        assert_eq!(received()?, arrived, "{source}");
        // From inside it is direct, as all that the pod sends to itself.
        let answer = pod.town().pod.run(|| mesh_testbed::ask(target, "who?", Manner::Connected))?;
        assert_eq!(answer.map(|answer| answer.who), Ok("server".into()));
    }
    Ok(())
}

/// Datagrams of IPv6 that sockets of the pod got.
fn udp6(pod: &Pod) -> Result<u64, Failure> {
    let all = pod.town().pod.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp6"))??;
    let line = all.lines().find_map(|line| line.strip_prefix("Udp6InDatagrams")).ok_or("no such counter")?;
    Ok(line.trim().parse()?)
}

/// Whether the program is attached, and what is wrong.
fn attached(pod: &Pod) -> Result<(bool, usize), Failure> {
    let status = pod.ask(&["status"])?;
    let of = |name: &str| status.get(name).and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
    let programs = of("programs").into_iter();
    let is_there = programs
        .filter(|it| !it["attached_to"].is_null())
        .any(|it| it.get("name").is_some_and(|name| name == "mesh_ingress"));
    Ok((is_there, of("drift").len()))
}

#[test]
fn the_program_is_attached_where_a_policy_needs_it_and_gone_is_drift() -> Tested {
    let pod = Pod::ruled(super::WAY, "redirect inbound tcp -> 15003")?;
    let _server = server(&pod)?;
    let host = &pod.town().host;
    assert_eq!(attached(&pod)?, (false, 0));
    for _ in 0..2 {
        pod.apply(RULES)?;
        assert_eq!(attached(&pod)?, (true, 0));
        assert!(!is_answered(host, "pod", "224.0.0.251:9090", SILENCE)?);
        // Whoever pauses it lets everything pass.
        pod.ask(&["pause"])?;
        assert!(is_answered(host, "pod", "224.0.0.251:9090", PATIENCE)?);
        pod.ask(&["resume"])?;
        assert!(!is_answered(host, "pod", "224.0.0.251:9090", SILENCE)?);
        pod.apply("deny inbound tcp 25")?;
        assert_eq!(attached(&pod)?, (false, 0));
        assert!(is_answered(host, "pod", "224.0.0.251:9090", PATIENCE)?);
    }
    pod.apply(RULES)?;
    std::fs::remove_file(pod.ground().bpffs().join("mesh/links/mesh_ingress"))?;
    assert_eq!(attached(&pod)?, (false, 1));
    let policy = pod.policy(RULES)?.display().to_string();
    pod.ask(&["apply", "--repair", &policy])?;
    assert_eq!(attached(&pod)?, (true, 0));
    assert!(!is_answered(host, "pod", "224.0.0.251:9090", SILENCE)?);
    pod.ask(&["detach", "--all"])?;
    assert!(!pod.ground().bpffs().join("mesh").exists(), "something is pinned");
    assert!(is_answered(host, "pod", "224.0.0.251:9090", PATIENCE)?);
    Ok(())
}

#[test]
fn a_kernel_that_refuses_the_program_is_told_in_words() -> Tested {
    let pod = Pod::ruled(super::WAY, "redirect inbound tcp -> 15003")?;
    let _server = server(&pod)?;
    pod.refuse(&[Refused::Ingress]);
    let doctor = pod.ask(&["doctor"])?;
    let mut features = doctor["features"].as_array().into_iter().flatten();
    assert!(features.any(|it| it["name"] == "hook ingress" && it["state"] != "ok"), "{doctor:#}");
    let applied = pod.apply(RULES)?;
    let warning = &applied["warnings"][0];
    assert_eq!(warning["code"], "program-refused", "{applied:#}");
    assert!(warning["text"].to_string().contains("multicasts"), "{applied:#}");
    let status = pod.ask(&["status"])?;
    assert!(status["drift"].to_string().contains("multicasts"), "{status:#}");
    // The rest of the policy is live.
    let host = &pod.town().host;
    let refused = host
        .run(|| mesh_testbed::ask(address("10.42.0.2:9090")?, "who?", Manner::Connected).map_err(Into::into));
    let refused: Result<_, Failure> = refused?;
    assert!(refused.is_err(), "{refused:?}");
    pod.refuse(&[]);
    pod.apply(RULES)?;
    pod.ask(&["apply", "--repair", &pod.policy(RULES)?.display().to_string()])?;
    assert_eq!(attached(&pod)?, (true, 0));
    Ok(())
}
