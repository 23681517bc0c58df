//! Packets that no socket sends: what opens a connection is decided, whatever it looks like, and nothing else is.

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Tested, UdpServer};

use super::pod;
use crate::fixtures::packets::{
    ACK, SYN, Shape, TCP, UDP, counted, counter, datagram, packets, segment, send,
};
use crate::fixtures::stage::address;
use crate::fixtures::town::addresses;

#[test]
fn connections_that_come_in_pieces_or_behind_many_headers_are_lost_and_counted() -> Tested {
    let pod = pod()?;
    let _servers = pod.servers()?;
    let host = &pod.town().host;
    let v4 = [Shape::Cut, Shape::CutAfter(16)];
    let v6 = [Shape::Cut, Shape::CutAfter(16), Shape::Behind(9), Shape::Behind(30)];
    for (source, ip, shapes) in
        [("10.42.0.1:4000", "10.42.0.2", &v4[..]), ("[fd42::1]:4000", "[fd42::2]", &v6)]
    {
        // One goes to the sidecar, one is denied.
        for port in [8080, 9090] {
            for shape in shapes {
                let (source, target) = (address(source)?, address(&format!("{ip}:{port}"))?);
                let before = counter(&pod, "not_understood")?;
                let syn = segment(source, target, SYN);
                send(host, target.ip(), &packets(source.ip(), target.ip(), TCP, &syn, *shape))?;
                counted(&pod, "not_understood", before, 1)?;
            }
        }
    }
    // No answer to any of them: nobody took a SYN, and none was half-open.
    let received = pod.town().pod.counter("snmp", "Tcp", "PassiveOpens")?;
    assert_eq!(received, 0);
    let half_open = pod.town().pod.run(|| std::fs::read_to_string("/proc/thread-self/net/tcp"))??;
    assert!(!half_open.lines().any(|line| line.split_whitespace().nth(3) == Some("03")), "{half_open}");
    Ok(())
}

#[test]
fn datagrams_behind_many_headers_are_lost_and_counted() -> Tested {
    let pod = pod()?;
    let _server = UdpServer::start(&pod.town().pod, "server", &addresses(&["[fd42::2]:9090"])?)?;
    let (source, target) = (address("[fd42::1]:4000")?, address("[fd42::2]:9090")?);
    for headers in [9, 20] {
        let before = counter(&pod, "not_understood")?;
        let sent = packets(source.ip(), target.ip(), UDP, &datagram(source, target), Shape::Behind(headers));
        send(&pod.town().host, target.ip(), &sent)?;
        counted(&pod, "not_understood", before, 1)?;
    }
    Ok(())
}

#[test]
fn what_opens_nothing_is_given_to_nobody() -> Tested {
    let pod = pod()?;
    let _servers = pod.servers()?;
    let redirected = counter(&pod, "redirected")?;
    for (source, target) in [("10.42.0.1:80", "10.42.0.2:40000"), ("[fd42::1]:80", "[fd42::2]:40000")] {
        let (source, target) = (address(source)?, address(target)?);
        for flags in [SYN | ACK, ACK, ACK | 1, 4, 4 | ACK, 0] {
            let before = counter(&pod, "opens_nothing")?;
            let sent = segment(source, target, flags);
            send(
                &pod.town().host,
                target.ip(),
                &packets(source.ip(), target.ip(), TCP, &sent, Shape::Whole),
            )?;
            counted(&pod, "opens_nothing", before, 1)?;
        }
    }
    assert_eq!(counter(&pod, "redirected")?, redirected);
    Ok(())
}

#[test]
fn a_source_that_is_the_pods_own_is_nobodys_outside() -> Tested {
    let pod = pod()?;
    let _server = UdpServer::start(&pod.town().pod, "server", &addresses(&["[fd42::2]:9090"])?)?;
    let (source, target) = (address("[fd42::2]:4000")?, address("[fd42::2]:9090")?);
    let before = counter(&pod, "denied")?;
    let sent = packets(source.ip(), target.ip(), UDP, &datagram(source, target), Shape::Whole);
    // The raw socket of another namespace may write what it likes.
    send(&pod.town().host, target.ip(), &sent)?;
    counted(&pod, "denied", before, 1)?;
    // From inside it is direct, as all that the pod sends to itself.
    let answer = pod.town().pod.run(|| mesh_testbed::ask(target, "who?", mesh_testbed::Manner::Connected))?;
    assert_eq!(answer.map(|answer| answer.who), Ok("server".into()));
    Ok(())
}
