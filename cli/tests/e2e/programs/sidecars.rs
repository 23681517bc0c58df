//! Real proxies as sidecars: each finds out where a connection was going and carries it there.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mesh_testbed::kernel_test as test;
use mesh_testbed::proxy::{Envoy, HaProxy, Nginx, NginxSidecar, RedSocks, Squid};
use mesh_testbed::{Client, Errno, Place, Stream, Tested, long_runs_are_wanted};

use crate::fixtures::command::Answer;
use crate::fixtures::seen::canonical;
use crate::fixtures::stage::{SIDECAR_UID, Stage, address, as_member};

const V4: &str = "10.0.3.9:80";
const V6: &str = "[fd10::9]:80";

/// What a client sends through a sidecar and back.
const MUCH: usize = 8 << 20;

#[test]
fn haproxy_carries_v4_and_mapped_connections_and_v6_where_its_address_is_the_original() -> Tested {
    let stage = Stage::new()?;
    stage.apply_rules("redirect outbound -> 15101\nredirect outbound tcp to ::/0 -> 15102 transparent")?;
    // On v6 it never asks, and takes its own address for the destination.
    let proxy = HaProxy::start(&sidecar(&stage), &[address("127.0.0.1:15101")?, address("[::1]:15102")?])?;
    carried(
        &stage,
        &[Client::to(address(V4)?), Client::to(address(V4)?).mapped(), Client::to(address(V6)?)],
    )?;
    let ended = || proxy.destinations().is_ok_and(|all| all.len() == 3);
    assert!(mesh_testbed::until(std::time::Duration::from_secs(5), ended));
    assert_eq!(proxy.destinations()?, [address(V4)?, address(V4)?, address(V6)?]);
    streams_with_half_close(&stage)
}

#[test]
fn nginx_which_only_looks_at_its_own_address_carries_both_families_where_the_redirect_is_transparent()
-> Tested {
    let stage = Stage::new()?;
    stage.apply_rules("redirect outbound -> 15101 transparent")?;
    let _proxy = NginxSidecar::start(&sidecar(&stage), 15101)?;
    carried(
        &stage,
        &[Client::to(address(V4)?), Client::to(address(V4)?).mapped(), Client::to(address(V6)?)],
    )?;
    streams_with_half_close(&stage)
}

#[test]
fn redsocks_carries_v4_connections_through_a_socks_proxy() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15101")?;
    let _proxy = RedSocks::start(&sidecar(&stage), address("127.0.0.1:15101")?)?;
    carried(&stage, &[Client::to(address(V4)?), Client::to(address(V4)?).mapped()])?;
    // Line by line: microsocks ends a connection when one half of it does, and waits for ever where both are full.
    let target = address(V4)?;
    let line = "x".repeat(10_000);
    let heard = as_member(&stage.cart(), || {
        let mut streams = (0..3).map(|_| Client::to(target).open()).collect::<Result<Vec<_>, _>>()?;
        streams.iter_mut().try_for_each(|stream| stream.greeting().map(drop))?;
        let mut heard = 0;
        for _ in 0..50 {
            for stream in &mut streams {
                heard += usize::from(stream.exchange(&line)? == line);
            }
        }
        Ok::<_, Errno>(heard)
    })??;
    assert_eq!(heard, 150);
    Ok(())
}

#[test(long)]
fn squid_carries_requests_of_both_families_to_where_they_were_going() -> Tested {
    let stage = Stage::new()?;
    stage.apply_rules("redirect outbound -> 15101")?;
    let proxy = Squid::start(&sidecar(&stage), &[address("127.0.0.1:15101")?, address("[::1]:15101")?])?;
    let listen = [address("10.0.3.9:8000")?, address("[fd10::9]:8000")?];
    let application = Nginx::start(&Place::here().netns(&stage.pair().server), "nginx", &listen)?;
    for (target, client) in [("10.0.3.9", "192.168.7.2"), ("[fd10::9]", "fd07::2")] {
        let mut curl = stage.cart().command("curl");
        curl.args(["-sS", "-m", "5", &format!("http://{target}:8000/")]);
        let answer = Answer::of(&mut curl)?;
        assert_eq!(
            (answer.code, answer.stdout.as_str()),
            (0, format!("nginx answers {client}\n").as_str()),
            "{answer:?}"
        );
    }
    assert_eq!(proxy.destinations()?, listen);
    assert_eq!(application.requests()?.len(), 2);
    Ok(())
}

#[test]
fn envoy_carries_both_families() -> Tested {
    if !envoy_is_usable() {
        return Ok(());
    }
    let stage = Stage::new()?;
    stage.apply_rules("redirect outbound -> 15101")?;
    let proxy = Envoy::start(&sidecar(&stage), &[address("127.0.0.1:15101")?, address("[::1]:15101")?])?;
    carried(
        &stage,
        &[Client::to(address(V4)?), Client::to(address(V4)?).mapped(), Client::to(address(V6)?)],
    )?;
    let ended = || proxy.destinations().is_ok_and(|all| all.len() == 3);
    assert!(mesh_testbed::until(std::time::Duration::from_secs(15), ended), "{:?}", proxy.destinations());
    assert_eq!(proxy.destinations()?, [address(V4)?, address(V4)?, address(V6)?]);
    streams_with_half_close(&stage)
}

#[test]
fn nine_thousand_connections_at_once_each_reach_what_they_dialled() -> Tested {
    const MANY: usize = 9_000;
    let stage = Stage::new()?;
    stage.pair().client.set("net/ipv4/ip_local_port_range", "16000 65000")?;
    stage.apply_rules("redirect outbound -> 15101")?;
    let proxy = HaProxy::start(&sidecar(&stage), &[address("127.0.0.1:15101")?])?;
    // One descriptor a connection, where the testbed's own server has a thread for each.
    let application =
        Nginx::start(&Place::here().netns(&stage.pair().server), "nginx", &[address("0.0.0.0:8000")?])?;
    let target = address("10.0.3.9:8000")?;
    let answers = as_member(&stage.cart(), || {
        let mut streams = (0..MANY).map(|_| Client::to(target).open()).collect::<Result<Vec<_>, _>>()?;
        let peers = streams.iter().filter(|stream| stream.socket().peer_addr().ok() == Some(target)).count();
        let mut answers = 0;
        for stream in &mut streams {
            stream.socket().write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let answer = String::from_utf8(stream.rest()?).unwrap_or_default();
            answers += usize::from(answer.ends_with("nginx answers 192.168.7.2\n"));
        }
        Ok::<_, Errno>((peers, answers))
    })??;
    assert_eq!(answers, (MANY, MANY));
    assert_eq!(application.requests()?.len(), MANY);
    let wrong = proxy.destinations()?.into_iter().find(|destination| *destination != target);
    assert_eq!(wrong, None);
    Ok(())
}

#[test]
fn haproxy_carries_the_same_where_it_is_accelerated() -> Tested {
    let stage = Stage::new()?;
    let _proxy = HaProxy::start(&sidecar(&stage), &[address("127.0.0.1:15101")?])?;
    took_the_fast_path(&accelerated(&stage)?);
    Ok(())
}

#[test]
fn haproxy_that_splices_carries_the_same_and_is_not_accelerated_for_long() -> Tested {
    let stage = Stage::new()?;
    let _proxy = HaProxy::splicing(&sidecar(&stage), &[address("127.0.0.1:15101")?])?;
    let carriage = accelerated(&stage)?;
    let status = stage.ask(&["status"])?;
    assert_eq!(status["acceleration"]["splice_readers"][0]["name"], "haproxy", "{status}");
    assert!(carriage["messages"]["reader_splices"].as_u64() > Some(0), "{carriage}");
    Ok(())
}

#[test]
fn envoy_carries_the_same_where_it_is_accelerated() -> Tested {
    if !envoy_is_usable() {
        return Ok(());
    }
    let stage = Stage::new()?;
    let _proxy = Envoy::start(&sidecar(&stage), &[address("127.0.0.1:15101")?, address("[::1]:15101")?])?;
    took_the_fast_path(&accelerated(&stage)?);
    Ok(())
}

/// Whether Envoy is there; where it was promised and is not, the test is to fail.
fn envoy_is_usable() -> bool {
    let usable = Envoy::installed().is_some() || long_runs_are_wanted();
    if !usable {
        eprintln!("not run: Envoy is not installed (scripts/setup.sh --long)");
    }
    usable
}

/// Most of the questions and answers did; streams fill buffers, and then take the long one.
fn took_the_fast_path(carriage: &serde_json::Value) {
    assert!(carriage["fast_bytes"].as_u64() > Some(500_000), "{carriage}");
}

/// Questions, answers and streams through the sidecar without and with acceleration: what `status` says of it then.
fn accelerated(stage: &Stage) -> Result<serde_json::Value, mesh_testbed::Failure> {
    let target = address(V4)?;
    for accelerate in ["", "accelerate local"] {
        stage.apply_rules(&format!("redirect outbound -> 15101\n{accelerate}"))?;
        let heard = as_member(&stage.cart(), || {
            let mut stream = Client::to(target).mapped().open()?;
            stream.greeting()?;
            let lines = [1, 100, 5_000, 40_000, 300].into_iter().cycle().take(100);
            lines.map(|size| "y".repeat(size)).try_fold(0, |heard, line| {
                let same = stream.exchange(&line)? == line;
                Ok::<_, Errno>(heard + usize::from(same))
            })
        })??;
        assert_eq!(heard, 100, "{accelerate}");
        streams_with_half_close(stage)?;
    }
    let status = stage.ask(&["status"])?;
    Ok(status.pointer("/acceleration/rules/0").cloned().unwrap_or_default())
}

/// Beside the member, below the attached programs, as the user that the policy exempts.
fn sidecar(stage: &Stage) -> Place {
    stage.beside().uid(SIDECAR_UID)
}

/// Each client is greeted by the application, which speaks first, at the address that was dialled.
fn carried(stage: &Stage, clients: &[Client]) -> Tested {
    for client in clients {
        let dialled = as_member(&stage.cart(), || client.dial())?;
        let dialled = dialled.map_err(|error| format!("{client:?}: {error}"))?;
        assert_eq!(dialled.arrival.who, "application", "{client:?}");
        assert_eq!(canonical(dialled.arrival.local), canonical(dialled.peer), "{client:?}");
        let through_a_proxy = dialled.local.ip().to_canonical().is_loopback()
            && dialled.arrival.peer.port() != dialled.local.port();
        assert!(through_a_proxy, "{client:?} {dialled:?}");
    }
    Ok(())
}

/// Connections that live while others come and go; each sends much, closes its half, and hears all of it back.
fn streams_with_half_close(stage: &Stage) -> Tested {
    let (target, other) = (address(V4)?, address("10.0.3.9:443")?);
    let heard = as_member(&stage.cart(), || much_there_and_back(target, other))??;
    assert_eq!(heard, [MUCH; 3]);
    Ok(())
}

fn much_there_and_back(target: SocketAddr, other: SocketAddr) -> Result<Vec<usize>, Errno> {
    let mut streams = (0..3).map(|_| Client::to(target).open()).collect::<Result<Vec<_>, _>>()?;
    for stream in &mut streams {
        stream.greeting()?;
        Client::to(other).dial()?;
    }
    let sent: Vec<u8> = (0..MUCH).map(|index| (index % 251) as u8).collect();
    streams.iter_mut().map(|stream| there_and_back(stream, &sent)).collect()
}

/// Reads to the end. A thread that is blocked in `read` may be woken with nothing to read where its connection is
/// accelerated and another thread writes (docs/acceleration.md): it asks again.
fn all_of(socket: &std::net::TcpStream) -> Result<Vec<u8>, Errno> {
    let (mut all, mut room) = (Vec::new(), vec![0; 1 << 16]);
    let mut empty = 0;
    loop {
        match (&mut &*socket).read(&mut room) {
            Ok(0) => return Ok(all),
            Ok(count) => all.extend_from_slice(room.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock && empty < 1000 => empty += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// How much came back as it was sent.
fn there_and_back(stream: &mut Stream, sent: &[u8]) -> Result<usize, Errno> {
    let mut socket = stream.socket().try_clone()?;
    std::thread::scope(|scope| {
        // The other end echoes: who writes all before reading would wait for ever.
        let writing =
            scope.spawn(move || socket.write_all(sent).and_then(|()| socket.shutdown(Shutdown::Write)));
        let back = all_of(stream.socket())?;
        writing.join().map_err(|_| Errno(0))??;
        Ok(if back == sent { back.len() } else { 0 })
    })
}
