//! Packets that no socket sends: what opens a connection is decided, whatever it looks like, and nothing else is.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mesh_testbed::{Failure, Netns, Tested, UdpServer, until};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::pod;
use crate::fixtures::stage::{address, where_usable};
use crate::fixtures::town::{Pod, addresses};

const PATIENCE: Duration = Duration::from_secs(20);

const TCP: u8 = 6;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// The header comes with the packet.
const IPPROTO_RAW: i32 = 255;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// What comes between the headers of a packet and what it carries.
#[derive(Clone, Copy)]
enum Shape {
    Whole,
    /// In pieces of 8 bytes.
    Cut,
    /// The first piece has so many bytes.
    CutAfter(usize),
    /// Behind so many headers of options.
    Behind(usize),
}

/// The sum that TCP and UDP have, over both addresses, the length and the protocol.
fn sum(source: IpAddr, target: IpAddr, protocol: u8, carried: &[u8]) -> u16 {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let length = u32::try_from(carried.len()).unwrap_or_default().to_be_bytes();
    let all = [octets(source), octets(target), length.to_vec(), vec![0, 0, 0, protocol], carried.to_vec()];
    let mut bytes = all.concat();
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    let words = bytes.chunks_exact(2).map(|pair| {
        let pair: [u8; 2] = pair.try_into().unwrap_or_default();
        u32::from(u16::from_be_bytes(pair))
    });
    let mut total: u32 = words.sum();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !u16::try_from(total).unwrap_or_default()
}

fn segment(source: SocketAddr, target: SocketAddr, flags: u8) -> Vec<u8> {
    let none = [0, 0];
    let with = |sum: u16| {
        let ports = [source.port().to_be_bytes(), target.port().to_be_bytes()];
        [&ports[..], &[none; 4], &[[5 << 4, flags], [0x20, 0], sum.to_be_bytes(), none]].concat().concat()
    };
    with(sum(source.ip(), target.ip(), TCP, &with(0)))
}

fn datagram(source: SocketAddr, target: SocketAddr) -> Vec<u8> {
    let content = b"who?\n";
    let length = u16::try_from(8 + content.len()).unwrap_or_default();
    let with = |sum: u16| {
        let words = [source.port(), target.port(), length, sum].map(u16::to_be_bytes);
        [&words.concat()[..], content].concat()
    };
    with(sum(source.ip(), target.ip(), UDP, &with(0)))
}

/// A packet, or the pieces of one.
fn packets(source: IpAddr, target: IpAddr, protocol: u8, carried: &[u8], shape: Shape) -> Vec<Vec<u8>> {
    let first = match shape {
        Shape::Cut => 8,
        Shape::CutAfter(bytes) => bytes,
        Shape::Whole | Shape::Behind(_) => carried.len(),
    };
    let (head, tail) = carried.split_at(first.min(carried.len()));
    let rest: Vec<&[u8]> = if matches!(shape, Shape::Cut) { tail.chunks(8).collect() } else { vec![tail] };
    let pieces: Vec<&[u8]> = [head].into_iter().chain(rest).filter(|piece| !piece.is_empty()).collect();
    let mut at = 0;
    let mut packets = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        let more = number + 1 < pieces.len();
        packets.push(match (source, target) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                // The kernel fills in length and sum.
                let place = u16::try_from(at / 8).unwrap_or_default() | u16::from(more) << 13;
                let header = [[0x45, 0], [0, 0], [0x12, 0x34], place.to_be_bytes(), [64, protocol], [0, 0]];
                [&header.concat()[..], &source.octets(), &target.octets(), piece].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                let (mut next, mut extensions) = (protocol, Vec::new());
                if let Shape::Behind(many) = shape {
                    for header in 0..many {
                        let of = if header + 1 == many { protocol } else { DESTINATION_OPTIONS };
                        extensions.extend([of, 0, 1, 4, 0, 0, 0, 0]);
                    }
                    next = DESTINATION_OPTIONS;
                } else if pieces.len() > 1 {
                    let place = u16::try_from(at).unwrap_or_default() | u16::from(more);
                    extensions.extend([protocol, 0]);
                    extensions.extend(place.to_be_bytes());
                    extensions.extend([0, 0, 0x12, 0x34]);
                    next = FRAGMENT;
                }
                let length = u16::try_from(extensions.len() + piece.len()).unwrap_or_default();
                let header = [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[next, 64]].concat();
                [&header[..], &source.octets(), &target.octets(), &extensions, piece].concat()
            }
            _ => Vec::new(),
        });
        at += piece.len();
    }
    packets
}

fn send(from: &Netns, target: IpAddr, packets: &[Vec<u8>]) -> Tested {
    let domain = if target.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    from.run(|| -> io::Result<()> {
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(IPPROTO_RAW)))?;
        for packet in packets {
            socket.send_to(packet, &SockAddr::from(SocketAddr::new(target, 0)))?;
        }
        Ok(())
    })??;
    Ok(())
}

fn counter(pod: &Pod, name: &str) -> Result<u64, Failure> {
    let status = pod.ask(&["status"])?;
    let counters = status.get("counters").and_then(serde_json::Value::as_array).into_iter().flatten();
    Ok(counters.filter(|it| it["name"] == name).filter_map(|it| it["value"].as_u64()).sum())
}

/// Waits until a counter says so many more.
fn counted(pod: &Pod, name: &str, before: u64, more: u64) -> Tested {
    let reached = until(PATIENCE, || counter(pod, name).is_ok_and(|now| now >= before + more));
    assert!(reached, "{name}: {} after {before}", counter(pod, name)?);
    Ok(())
}

#[test]
fn connections_that_come_in_pieces_or_behind_many_headers_are_lost_and_counted() -> Tested {
    let Some(pod) = where_usable(pod)? else { return Ok(()) };
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
    let Some(pod) = where_usable(pod)? else { return Ok(()) };
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
    let Some(pod) = where_usable(pod)? else { return Ok(()) };
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
    let Some(pod) = where_usable(pod)? else { return Ok(()) };
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
