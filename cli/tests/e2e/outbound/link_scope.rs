//! What means something on one link only, or whoever listens there, goes straight where no rule names it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Errno, Failure, Manner, Netns, Tested, UdpClient, UdpServer};
use rustix::net::{Shutdown, shutdown};

use crate::fixtures::stage::{Stage, address, as_member};

const PATIENCE: Duration = Duration::from_secs(20);

/// Everything, by either protocol.
const RULES: &str = "redirect outbound -> 15001\nredirect outbound udp -> 15053";

const SIDECAR: [&str; 2] = ["127.0.0.1:15053", "[::1]:15053"];

/// A neighbour that listens to the groups of mDNS, to what is sent to all and to what is sent to itself. It answers
/// everybody, from its own address, and tells what it heard.
struct Neighbour {
    heard: Receiver<String>,
    sockets: [UdpSocket; 2],
}

impl Neighbour {
    fn start(netns: &Netns) -> Result<Self, Failure> {
        let link = netns.interface("eth0")?;
        netns.set("net/ipv6/bindv6only", "1")?;
        let sockets = netns.run(|| -> io::Result<_> {
            let (v4, v6) = (UdpSocket::bind("0.0.0.0:5353")?, UdpSocket::bind("[::]:5353")?);
            v4.join_multicast_v4(&Ipv4Addr::new(224, 0, 0, 251), &Ipv4Addr::new(192, 168, 7, 1))?;
            v6.join_multicast_v6(&Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb), link)?;
            Ok([v4, v6])
        })??;
        let (tell, heard) = channel();
        for socket in &sockets {
            let (socket, tell) = (socket.try_clone()?, tell.clone());
            thread::spawn(move || {
                let mut buffer = [0; 512];
                while let Ok((length, client)) = socket.recv_from(&mut buffer) {
                    let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
                    if tell.send(text).is_err() || socket.send_to(b"from the link", client).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self { heard, sockets })
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        for socket in &self.sockets {
            // Wakes the thread that receives.
            let _ = shutdown(socket.as_fd(), Shutdown::Both);
        }
    }
}

/// A stage with a neighbour, and the number of the link as its clients name it. The client is fe80::7, the
/// neighbour fe80::8.
fn stage(rules: &str) -> Result<(Stage, Neighbour, UdpServer, u32), Failure> {
    let stage = Stage::ruled(rules)?;
    let pair = stage.pair();
    for (netns, own) in [(&pair.client, "fe80::7"), (&pair.server, "fe80::8")] {
        netns.ip(&format!("addr flush dev eth0 scope link\naddr add {own}/64 dev eth0 nodad"))?;
    }
    let neighbour = Neighbour::start(&pair.server)?;
    let listen = SIDECAR.map(address).into_iter().collect::<Result<Vec<_>, _>>()?;
    let sidecar = UdpServer::start(&pair.client, "sidecar", &listen)?;
    let link = pair.client.interface("eth0")?;
    Ok((stage, neighbour, sidecar, link))
}

/// A socket of the family of `target` that may also reach all.
fn socket(target: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_broadcast(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn hear(socket: &UdpSocket) -> io::Result<(String, SocketAddr)> {
    let mut buffer = [0; 512];
    let (length, from) = socket.recv_from(&mut buffer)?;
    Ok((String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned(), from))
}

/// Sends to `target` without connecting; what came back, and from whom.
fn call(stage: &Stage, target: SocketAddr) -> Result<Result<(String, SocketAddr), Errno>, Failure> {
    let call = || -> io::Result<_> {
        let socket = socket(target)?;
        socket.send_to(b"who?", target)?;
        hear(&socket)
    };
    as_member(&stage.cart(), || call().map_err(Errno::from))
}

#[test]
fn datagrams_to_groups_to_all_and_to_neighbours_are_not_redirected() -> Tested {
    let (stage, neighbour, _sidecar, link) = stage(RULES)?;
    let (v4, v6) = (address("192.168.7.1:5353")?, address(&format!("[fe80::8%{link}]:5353"))?);
    for (target, from) in [
        (address("224.0.0.251:5353")?, v4),
        (address("255.255.255.255:5353")?, v4),
        (address(&format!("[ff02::fb%{link}]:5353"))?, v6),
        (v6, v6),
    ] {
        assert_eq!(call(&stage, target)?, Ok(("from the link".to_owned(), from)), "{target}");
        assert_eq!(neighbour.heard.recv_timeout(PATIENCE)?, "who?", "{target}");
    }
    // What is neither is the sidecar's.
    let (text, from) = call(&stage, address("10.0.0.1:5353")?)??;
    assert!(text.contains("sidecar"), "{text}");
    assert_eq!(from, address("10.0.0.1:5353")?);
    Ok(())
}

#[test]
fn connected_sockets_keep_the_link_that_they_named() -> Tested {
    let (stage, neighbour, _sidecar, link) = stage(RULES)?;
    for target in [
        "224.0.0.251:5353".to_owned(),
        "255.255.255.255:5353".to_owned(),
        format!("[ff02::fb%{link}]:5353"),
        format!("[fe80::8%{link}]:5353"),
    ] {
        let target = address(&target)?;
        let call = || -> io::Result<_> {
            let socket = socket(target)?;
            socket.connect(target)?;
            socket.send(b"connected")?;
            socket.peer_addr()
        };
        assert_eq!(as_member(&stage.cart(), || call().map_err(Errno::from))?, Ok(target));
        assert_eq!(neighbour.heard.recv_timeout(PATIENCE)?, "connected", "{target}");
    }
    // So do streams.
    let target = address(&format!("[fe80::8%{link}]:80"))?;
    let dialled = as_member(&stage.cart(), || Client::to(target).dial())??;
    assert_eq!((dialled.arrival.who.as_str(), dialled.peer), ("application", target));
    Ok(())
}

#[test]
fn a_rule_that_names_groups_or_all_reaches_them() -> Tested {
    let rules = "redirect outbound udp to 224.0.0.0/4, 255.255.255.255, ff05::/16 -> 15053
        deny outbound udp 53 to 224.0.0.0/4, ff00::/8, fe80::/10";
    let (stage, _neighbour, _sidecar, link) = stage(rules)?;
    for target in ["224.0.0.251:5353", "255.255.255.255:5353", "[ff05::fb]:5353"] {
        let target = address(target)?;
        for manner in [Manner::Unconnected, Manner::Connected] {
            let client =
                UdpClient::new(manner).option(libc::SOL_SOCKET, libc::SO_BROADCAST, &1i32.to_ne_bytes());
            let answer = as_member(&stage.cart(), || client.ask(target, "who?"))??;
            assert_eq!((answer.who.as_str(), answer.from), ("sidecar", Some(target)), "{manner:?}");
            assert!(manner == Manner::Unconnected || answer.peer == Some(target), "{answer:?}");
        }
    }
    let linked = [format!("[ff02::fb%{link}]:53"), format!("[fe80::8%{link}]:53")];
    for target in ["224.0.0.251:53"].into_iter().chain(linked.iter().map(String::as_str)) {
        assert_eq!(call(&stage, address(target)?)?, Err(Errno::EPERM), "{target}");
    }
    Ok(())
}
