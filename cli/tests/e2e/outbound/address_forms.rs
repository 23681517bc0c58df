//! What is denied stays denied, however its address is written and whichever call goes there.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6, ToSocketAddrs, UdpSocket};
use std::os::fd::AsFd;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{
    Client, Errno, Failure, Manner, Place, Ring, ServerTask, Tested, UdpClient, UdpServer, send_many,
    set_raw_option,
};
use rustix::net::{AddressFamily, SocketType};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::fixtures::stage::{SIDECAR_UID, Stage, address, as_member};

/// `EPERM` of a call, and what a connected datagram socket hears instead.
const DENIED: [Errno; 2] = [Errno::EPERM, Errno::ECONNREFUSED];

/// One host and loopback are denied, whatever the port; both would answer.
const RULES: &str = "deny outbound any 25, 53, 8080 to 10.0.3.9, fd10::9\n\
                     deny outbound any 7000 to 127.0.0.0/8, 0.0.0.0, ::1, ::";

/// Ways to write the two addresses of the host that is denied, and its addresses in IPv6.
const HOST: [&str; 19] = [
    "10.0.3.9",
    "167772937",
    "0xa000309",
    "0x0A000309",
    "01200001411",
    "10.777",
    "10.0.777",
    "0xa.0.0x3.011",
    "012.0.3.9",
    "0xa.777",
    "10.0.0x309",
    "::ffff:10.0.3.9",
    "::ffff:a00:309",
    "0:0:0:0:0:ffff:10.0.3.9",
    "::FFFF:0a00:0309",
    "fd10::9",
    "FD10:0:0:0:0:0:0:9",
    "fd10:0000:0000:0000:0000:0000:0000:0009",
    "fd10::0.0.0.9",
];

/// Ways to write this host.
const HERE: [&str; 11] = [
    "127.0.0.1",
    "127.1",
    "0x7f000001",
    "2130706433",
    "127.1.2.3",
    "0.0.0.0",
    "0",
    "::1",
    "::",
    "::ffff:127.0.0.1",
    "::ffff:0.0.0.0",
];

/// From `linux/socket.h`.
const MSG_FASTOPEN: i32 = 0x2000_0000;

/// What a name stands for, as the C library reads it.
fn read(host: &str, port: u16) -> Result<SocketAddr, Failure> {
    let found = (host, port).to_socket_addrs()?.next();
    found.ok_or_else(|| format!("nobody knows what {host} is").into())
}

/// A stage with these rules, and those that answer where nobody denies it.
fn stage() -> Result<(Stage, (UdpServer, ServerTask, UdpServer)), Failure> {
    let stage = Stage::ruled(RULES)?;
    let all = |ips: &[&str], port: u16| -> Result<Vec<SocketAddr>, Failure> {
        ips.iter().map(|ip| Ok(SocketAddr::new(ip.parse()?, port))).collect()
    };
    let far =
        UdpServer::start(&stage.pair().server, "far", &all(&["10.0.3.9", "10.0.3.10", "fd10::9"], 53)?)?;
    let here = ServerTask::start(&stage.beside(), "here", &all(&["0.0.0.0", "::"], 7000)?)?;
    let datagrams = UdpServer::start(&stage.pair().client, "here", &all(&["0.0.0.0", "::"], 7000)?)?;
    Ok((stage, (far, here, datagrams)))
}

/// What becomes of a target by each protocol: TCP, a datagram socket that is connected, and one that is not.
fn tried(place: &Place, target: SocketAddr) -> Result<[Result<String, Errno>; 3], Failure> {
    as_member(place, || {
        let datagram = |manner| UdpClient::new(manner).ask(target, "?").map(|answer| answer.who);
        [
            Client::to(target).dial().map(|dialled| dialled.arrival.who),
            datagram(Manner::Connected),
            datagram(Manner::Unconnected),
        ]
    })
}

fn is_denied(seen: &[Result<String, Errno>; 3]) -> bool {
    let [tcp, connected, unconnected] = seen;
    (tcp.as_ref().err(), connected.as_ref().err(), unconnected.as_ref().err())
        == (Some(&DENIED[0]), Some(&DENIED[1]), Some(&DENIED[0]))
}

#[test]
fn an_address_that_is_denied_is_denied_however_it_is_written() -> Tested {
    let (stage, _servers) = stage()?;
    for (hosts, port, who) in [(&HOST[..], 53, "far"), (&HERE[..], 7000, "here")] {
        for host in hosts {
            let target = read(host, port)?;
            let seen = tried(&stage.cart(), target)?;
            assert!(is_denied(&seen), "{host}, {target}: {seen:?}");
            // So that it is the policy that refuses it: somebody else gets there.
            let [tcp, datagram, _] = tried(&stage.beside(), target)?;
            let there = if port == 53 { "application" } else { who };
            assert_eq!(tcp, Ok(there.to_owned()), "{host}, {target}");
            // A server on all addresses answers from one that the socket is not connected to.
            assert!(datagram == Ok(who.to_owned()) || host == &"127.1.2.3", "{host}, {target}: {datagram:?}");
        }
    }
    Ok(())
}

#[test]
fn a_zone_leads_nowhere_else() -> Tested {
    let (stage, _servers) = stage()?;
    let link = stage.pair().client.interface("eth0")?;
    for (host, port) in [("fd10::9", 53), ("::1", 7000), ("::ffff:10.0.3.9", 53)] {
        for zone in [link, 1] {
            let target = SocketAddrV6::new(host.parse()?, port, 0, zone);
            let seen = tried(&stage.cart(), target.into())?;
            assert!(is_denied(&seen), "{target}: {seen:?}");
        }
    }
    Ok(())
}

#[test]
fn an_ipv4_address_in_another_prefix_reaches_nobody() -> Tested {
    let (stage, _servers) = stage()?;
    // v4-compatible, of NAT64, of 6to4, and as SIIT has it. No kernel translates one by itself.
    let ranges = ["::/96", "64:ff9b::/96", "2002::/16", "::ffff:0:0:0/96"];
    stage.pair().client.ip(&ranges.map(|range| format!("route add unreachable {range}")).join("\n"))?;
    for host in ["::10.0.3.9", "64:ff9b::10.0.3.9", "2002:a00:309::1", "::ffff:0:10.0.3.9"] {
        let target = read(host, 53)?;
        let seen = tried(&stage.cart(), target)?;
        assert!(seen.iter().all(Result::is_err), "{target}: {seen:?}");
    }
    Ok(())
}

#[test]
fn other_calls_than_connect_and_sendto_are_denied_alike() -> Tested {
    let (stage, _servers) = stage()?;
    for host in ["10.0.3.9", "[fd10::9]", "[::ffff:10.0.3.9]"] {
        let (tcp, udp) = (address(&format!("{host}:8080"))?, address(&format!("{host}:53"))?);
        let other =
            address(if tcp.ip().to_canonical().is_ipv4() { "10.0.3.10:8080" } else { "[fd10::10]:8080" })?;
        let calls = as_member(&stage.cart(), || {
            let dialled = |client: Client| client.dial().map(|dialled| dialled.arrival.who);
            let mut seen = vec![
                ("dissolved and connected again", dialled(Client::to(tcp).after(other))),
                ("Fast Open", dialled(Client::to(tcp).fast_open())),
                ("non-blocking", dialled(Client::to(tcp).nonblocking())),
                ("MPTCP", dialled(Client::to(tcp).multipath())),
            ];
            for ring in Ring::ALL {
                seen.push(("connect by io_uring", by_ring(ring, tcp)));
                seen.push(("sendmsg by io_uring", datagram(udp, |fd| ring.send(fd, udp, b"?"))));
            }
            seen.push(("sendmmsg", datagram(udp, |fd| send_many(fd, &[udp, udp], b"?").map(drop))));
            seen.push(("sendto with MSG_FASTOPEN", with_the_first_packet(tcp)));
            seen.into_iter().map(|(call, seen)| (call.to_owned(), seen)).collect::<Vec<_>>()
        })?;
        for (call, seen) in calls {
            assert_eq!(seen, Err(Errno::EPERM), "{call} to {host}");
        }
    }
    Ok(())
}

/// Connects by a ring and says `there` where it gets there.
fn by_ring(ring: Ring, target: SocketAddr) -> Result<String, Errno> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
    ring.connect(socket.as_fd(), target)?;
    Ok("there".to_owned())
}

fn datagram(
    target: SocketAddr,
    send: impl FnOnce(std::os::fd::BorrowedFd<'_>) -> Result<(), Errno>,
) -> Result<String, Errno> {
    let socket = Socket::new(Domain::for_address(target), Type::DGRAM, None)?;
    send(socket.as_fd())?;
    Ok("sent".to_owned())
}

/// A connection that begins with data, without `connect`.
fn with_the_first_packet(target: SocketAddr) -> Result<String, Errno> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
    socket.send_to_with_flags(b"first\n", &SockAddr::from(target), MSG_FASTOPEN)?;
    Ok("sent".to_owned())
}

#[test]
fn rings_and_many_at_once_reach_what_is_not_denied() -> Tested {
    let (stage, _servers) = stage()?;
    let (far, straight) = (address("10.0.3.10:8080")?, address("10.0.3.10:53")?);
    let denied = address("10.0.3.9:53")?;
    let seen = as_member(&stage.cart(), || {
        let rings = Ring::ALL.map(|ring| by_ring(ring, far));
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        // The call ends at the first that is refused, and says how many went.
        let sent = send_many(socket.as_fd(), &[straight, straight, denied, straight], b"?")?;
        Ok::<_, Errno>((rings, sent))
    })??;
    assert_eq!(seen, ([Ok("there".to_owned()), Ok("there".to_owned())], 2));
    Ok(())
}

#[test]
fn a_socket_that_was_of_ipv6_is_decided_as_what_it_is() -> Tested {
    const IPV6_ADDRFORM: i32 = 1;
    let (stage, _servers) = stage()?;
    let (allowed, denied) = (address("10.0.3.10:53")?, address("10.0.3.9:53")?);
    let seen = as_member(&stage.cart(), || {
        let turned = |kind: SocketType| -> Result<Socket, Errno> {
            let socket = Socket::from(rustix::net::socket(AddressFamily::INET6, kind, None)?);
            let mapped = SocketAddrV6::new(Ipv4Addr::new(10, 0, 3, 10).to_ipv6_mapped(), 53, 0, 0);
            socket.connect(&SockAddr::from(mapped))?;
            let inet = rustix::net::AddressFamily::INET.as_raw();
            set_raw_option(socket.as_fd(), 41, IPV6_ADDRFORM, &i32::from(inet).to_ne_bytes())?;
            Ok(socket)
        };
        let datagrams = UdpSocket::from(turned(SocketType::DGRAM)?);
        let sent = datagrams.send_to(b"?", denied).map_err(Errno::from);
        let allowed = datagrams.send_to(b"?", allowed).map_err(Errno::from);
        // TCP: the connection is dissolved, and the socket used again.
        let stream = turned(SocketType::STREAM)?;
        rustix::net::connect_unspec(&stream)?;
        let connected = stream.connect(&SockAddr::from(denied)).map_err(Errno::from);
        Ok::<_, Errno>((sent, allowed, connected))
    })??;
    assert_eq!(seen, (Err(Errno::EPERM), Ok(1), Err(Errno::EPERM)));
    Ok(())
}

#[test]
fn in_a_user_namespace_of_its_own_a_process_is_who_it_was() -> Tested {
    let (stage, _servers) = stage()?;
    let place = stage.cart().uid(1000);
    let dial = "exec 3<>/dev/tcp/10.0.3.9/8080";
    let exempt = format!("--map-user={SIDECAR_UID}");
    for maps in [&["--map-root-user"][..], &[&exempt]] {
        let mut command = place.command("unshare");
        command.arg("--user").args(maps).args(["bash", "-c", &format!("id -u && {dial}")]);
        let answer = command.output()?;
        let said = String::from_utf8_lossy(&answer.stderr).into_owned();
        // It is who it wants to be there.
        let is = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        assert!(is == "0" || is == SIDECAR_UID.to_string(), "{is}: {said}");
        assert!(!answer.status.success() && said.contains("Operation not permitted"), "{said}");
    }
    // Who is exempt there gets through.
    let mut command = stage.cart().uid(SIDECAR_UID).command("bash");
    assert!(command.args(["-c", dial]).status()?.success());
    Ok(())
}
