//! Servers on datagram sockets answer who asked them; who asks is no server.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Errno, Failure, Manner, Task, Tested, UdpClient, UdpServer, UdpServerTask, ask};

use crate::fixtures::stage::{Stage, address};

const PATIENCE: Duration = Duration::from_secs(20);

/// Rules that cover every client, and what becomes of what is no answer.
const RULES: [&str; 2] = ["redirect outbound udp -> 15053", "deny outbound udp"];

/// The addresses of the pod.
const POD: [&str; 2] = ["192.168.7.2", "fd07::2"];

/// Fewer than are remembered in the fullest of all groups, whichever they fall into.
const BATCH: u16 = 200;

/// More than are remembered, so many that none of those before is.
const FLOOD: u16 = 5000;

fn server(address: SocketAddr) -> Result<UdpSocket, Errno> {
    let socket = UdpSocket::bind(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Sends a datagram to `target` from an address of the servers' namespace.
fn call(stage: &Stage, source: SocketAddr, target: SocketAddr) -> Tested {
    let sent = stage.pair().server.run(|| UdpSocket::bind(source)?.send_to(b"call", target))?;
    Ok(sent.map(drop)?)
}

/// A member's server that takes the number of datagrams that it is told on its line, answers all of them when it has
/// them, and says how many answers went out.
fn batches(stage: &Stage, at: SocketAddr) -> Result<Task<Result<(), Errno>>, Failure> {
    let mut task = stage.cart().spawn(move |line| {
        let socket = server(at)?;
        line.say("ready")?;
        let mut first = None;
        while let Ok(word) = line.hear() {
            let mut peers = Vec::new();
            // "first" asks for another answer to the very first one.
            if word == "first" {
                peers.extend(first);
            }
            for _ in 0..word.parse().unwrap_or(0) {
                peers.push(socket.recv_from(&mut [0; 64])?.1);
            }
            first = first.or_else(|| peers.first().copied());
            let answered = peers.iter().filter(|peer| socket.send_to(b"answer", peer).is_ok()).count();
            line.say(&answered.to_string())?;
        }
        Ok(())
    })?;
    task.line().hear()?;
    Ok(task)
}

fn own(port: u16) -> Result<[SocketAddr; 2], Failure> {
    let [v4, v6] = POD;
    Ok([SocketAddr::new(v4.parse()?, port), SocketAddr::new(v6.parse()?, port)])
}

#[test]
fn a_members_server_answers_who_asked_whatever_the_rules_say_of_its_clients() -> Tested {
    let stage = Stage::new()?;
    for rules in RULES {
        stage.apply_rules(rules)?;
        let _server = UdpServerTask::start(&stage.cart(), "server", &own(5353)?, 1)?;
        for target in own(5353)? {
            for _ in 0..2 {
                let answer = stage.pair().server.run(|| ask(target, "who?", Manner::Unconnected))??;
                assert_eq!((answer.who.as_str(), answer.from), ("server", Some(target)), "{rules}");
            }
        }
        // A server of both families knows its IPv4 clients by v4-mapped addresses.
        let mut both = batches(&stage, address("[::]:5354")?)?;
        for target in own(5354)? {
            let source = if target.is_ipv4() { "10.0.0.7:700" } else { "[fd10::7]:700" };
            call(&stage, address(source)?, target)?;
            both.line().say("1")?;
            assert_eq!(both.line().hear()?, "1", "{rules} {target}");
        }
    }
    Ok(())
}

#[test]
fn a_batch_of_hundreds_is_answered_and_a_flood_costs_its_own_socket_only() -> Tested {
    let stage = Stage::ruled("deny outbound udp")?;
    let [target, _] = own(5353)?;
    let [other, _] = own(5354)?;
    let mut servers = [batches(&stage, target)?, batches(&stage, other)?];
    let [flooded, spared] = &mut servers;
    let source = |host: u16| {
        let [high, low] = host.to_be_bytes();
        SocketAddr::from(([10, 1, high, low], 700))
    };
    for host in 0..BATCH {
        call(&stage, source(host), target)?;
    }
    flooded.line().say(&BATCH.to_string())?;
    assert_eq!(flooded.line().hear()?, BATCH.to_string());
    call(&stage, source(0), other)?;
    spared.line().say("1")?;
    assert_eq!(spared.line().hear()?, "1");
    let calls = stage.pair().server.run(|| {
        (BATCH..BATCH + FLOOD).step_by(usize::from(BATCH)).try_for_each(|begin| {
            for host in begin..begin + BATCH {
                UdpSocket::bind(source(host))?.send_to(b"call", target)?;
            }
            flooded.line().say(&BATCH.to_string())?;
            let answered = flooded.line().hear()?;
            assert_eq!(answered, BATCH.to_string(), "who was heard last is answered");
            Ok::<_, std::io::Error>(())
        })
    })?;
    calls?;
    // It is decided like any other datagram.
    flooded.line().say("first")?;
    assert_eq!(flooded.line().hear()?, "0");
    spared.line().say("first")?;
    assert_eq!(spared.line().hear()?, "1");
    Ok(())
}

#[test]
fn who_asks_is_no_server_whoever_answers() -> Tested {
    let stage = Stage::new()?;
    let rules = "redirect outbound udp 53 -> 15053";
    for (asked, sidecar, family) in
        [("10.0.3.9:53", "127.0.0.1:15053", 0), ("[fd10::9]:53", "[::1]:15053", 1)]
    {
        stage.apply_rules(&format!("{rules}\nexclude outbound udp 53 to 10.0.3.9, fd10::9"))?;
        let asked = address(asked)?;
        let _sidecar = UdpServerTask::start(&stage.beside(), "sidecar", &[address(sidecar)?], 1)?;
        let server = UdpServer::start(&stage.pair().server, "application", &[asked])?;
        let ip: IpAddr = POD[family].parse()?;
        let mut client = stage.cart().spawn(move |line| {
            let asker = UdpClient::new(Manner::Unconnected).from(SocketAddr::new(ip, 0)).open(asked)?;
            let straight = asker.ask(asked, "who?")?.who;
            line.say(&asker.port()?.to_string())?;
            let mut heard = vec![straight];
            for _ in 0..2 {
                // Once more from the server itself, though nobody asked.
                line.hear()?;
                heard.push(asker.hear_raw()?);
                heard.push(asker.ask(asked, "who?")?.who);
                line.say("asked")?;
            }
            Ok::<_, Errno>(heard)
        })?;
        let port = client.line().hear()?.parse()?;
        drop(server);
        stage.apply_rules(rules)?;
        for _ in 0..2 {
            call(&stage, asked, SocketAddr::new(ip, port))?;
            client.line().say("late")?;
            client.line().hear()?;
        }
        assert_eq!(client.join()??, ["application", "call", "sidecar", "call", "sidecar"]);
    }
    Ok(())
}

#[test]
fn nothing_is_noted_where_no_rule_needs_it() -> Tested {
    let stage = Stage::new()?;
    let noted = || -> Result<u64, Failure> {
        let status = stage.ask(&["status"])?;
        let counters = status["counters"].as_array().into_iter().flatten();
        Ok(counters.filter(|it| it["name"] == "peer_noted").filter_map(|it| it["value"].as_u64()).sum())
    };
    let _server = UdpServerTask::start(&stage.cart(), "server", &own(5353)?, 1)?;
    let _beside = UdpServerTask::start(&stage.beside(), "beside", &own(5354)?, 1)?;
    for (rules, port, expected) in [
        ("redirect outbound tcp -> 15001", 5353, 0),
        ("redirect outbound tcp -> 15001\nfor batch { deny outbound udp }", 5353, 0),
        ("deny outbound udp", 5354, 0),
        ("deny outbound udp", 5353, 2),
    ] {
        stage.apply_rules(rules)?;
        for target in own(port)? {
            stage.pair().server.run(|| ask(target, "who?", Manner::Unconnected))??;
        }
        assert_eq!(noted()?, expected, "{rules} {port}");
    }
    Ok(())
}
