//! Sockets whose packets are to leave by one interface: what is for the sidecar does not, or is not sent at all.

use std::net::{IpAddr, SocketAddr};

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Errno, Failure, Manner, Tested, UdpClient, UdpServer, UdpServerTask, control};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::fixtures::command::Answer;
use crate::fixtures::sniffer::Sniffer;
use crate::fixtures::stage::{Stage, address, as_member};

const RULES: &str = "redirect outbound tcp 80 -> 15001
redirect outbound udp 53 -> 15053
exclude outbound udp 53 to 10.0.3.9, fd10::9
deny outbound tcp 25";

/// An ordinary user: the kernel lets it bind a socket to a device, and lets nobody take the socket off for it.
const USER: u32 = 1000;

const SOL_IP: i32 = 0;
const IP_TOS: i32 = 1;
const IP_PKTINFO: i32 = 8;
const IP_UNICAST_IF: i32 = 50;
const SOL_IPV6: i32 = 41;
const IPV6_PKTINFO: i32 = 50;
const IPV6_TCLASS: i32 = 67;
const IPV6_UNICAST_IF: i32 = 76;

/// Of both families: what is redirected, what is excluded.
const SERVERS: [[&str; 2]; 2] = [["10.0.0.1:53", "10.0.3.9:53"], ["[fd10::1]:53", "[fd10::9]:53"]];

fn stage() -> Result<(Stage, [UdpServerTask; 2], UdpServer), Failure> {
    stage_of(RULES)
}

fn stage_of(rules: &str) -> Result<(Stage, [UdpServerTask; 2], UdpServer), Failure> {
    let stage = Stage::ruled(rules)?;
    let sidecar = |listen: &str| {
        Ok::<_, Failure>(UdpServerTask::start(&stage.beside(), "sidecar", &[address(listen)?], 1)?)
    };
    let sidecars = [sidecar("127.0.0.1:15053")?, sidecar("[::1]:15053")?];
    let excluded =
        SERVERS.map(|[_, excluded]| address(excluded)).into_iter().collect::<Result<Vec<_>, _>>()?;
    let server = UdpServer::start(&stage.pair().server, "application", &excluded)?;
    Ok((stage, sidecars, server))
}

/// What `connect` answered, and the device that the socket was bound to then.
type Connected = (Result<(), Errno>, Option<String>);

/// Connects one socket to one after the other.
fn connected(targets: &[SocketAddr]) -> Result<Vec<Connected>, Errno> {
    let domain = targets.first().map_or(Domain::IPV4, |target| Domain::for_address(*target));
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.bind_device(Some(b"eth0"))?;
    let mut seen = Vec::new();
    for target in targets {
        let done = socket.connect(&SockAddr::from(*target)).map_err(Errno::from);
        let device = socket.device()?.map(|name| String::from_utf8_lossy(&name).into_owned());
        seen.push((done, device));
        rustix::net::connect_unspec(&socket).map_err(std::io::Error::from)?;
    }
    Ok(seen)
}

#[test]
fn what_an_ordinary_user_bound_to_a_device_is_refused_and_nothing_leaves() -> Tested {
    let (stage, _sidecars, _server) = stage()?;
    let sniffer = Sniffer::on(&stage.pair().server)?;
    let user = stage.cart().uid(USER);
    for target in ["10.0.3.9:80", "[fd10::9]:80"] {
        let target = address(target)?;
        let dialled = as_member(&user, || Client::to(target).through("eth0").dial().map(drop))?;
        assert_eq!(dialled, Err(Errno::EPERM), "{target}");
    }
    for [redirected, excluded] in SERVERS {
        let [redirected, excluded] = [address(redirected)?, address(excluded)?];
        for manner in [Manner::Connected, Manner::Unconnected] {
            let client = UdpClient::new(manner).through("eth0");
            let (sent, who) = as_member(&user, || {
                let asker = client.open(redirected)?;
                let sent = [asker.send(redirected, "one"), asker.send(redirected, "two")];
                Ok::<_, Errno>((sent, asker.ask(excluded, "who?")?.who))
            })??;
            assert_eq!(sent, [Err(Errno::EPERM); 2], "{redirected} {manner:?}");
            assert_eq!(who, "application");
        }
    }
    assert_eq!(sniffer.strays(&stage)?, Vec::<IpAddr>::new());
    Ok(())
}

#[test]
fn a_socket_that_was_released_is_bound_again_before_it_goes_elsewhere() -> Tested {
    let (stage, _sidecars, _server) = stage()?;
    let eth0 = || Some("eth0".to_owned());
    for (redirected, excluded, denied) in
        [("10.0.3.9:80", "10.0.3.9:443", "10.0.3.9:25"), ("[fd10::9]:80", "[fd10::9]:443", "[fd10::9]:25")]
    {
        let [redirected, excluded, denied] = [address(redirected)?, address(excluded)?, address(denied)?];
        let order = [redirected, excluded, redirected, denied, excluded];
        let seen = as_member(&stage.cart(), || connected(&order))??;
        let refused = Err(Errno::EPERM);
        let expected =
            [(Ok(()), None), (Ok(()), eth0()), (Ok(()), None), (refused, eth0()), (Ok(()), eth0())];
        assert_eq!(seen, expected, "{redirected}");
    }
    for [redirected, excluded] in SERVERS {
        let [redirected, excluded] = [address(redirected)?, address(excluded)?];
        // One datagram is lost each time, as the kernel has chosen its interface before the programs are asked.
        let client = UdpClient::new(Manner::Unconnected).through("eth0");
        let seen = as_member(&stage.cart(), || {
            let asker = client.open(redirected)?;
            let lost = asker.send(redirected, "lost");
            let first = (asker.ask(redirected, "who?")?.who, asker.device()?);
            let also_lost = asker.send(excluded, "lost");
            Ok::<_, Errno>((lost, first, also_lost, asker.ask(excluded, "who?")?.who, asker.device()?))
        })??;
        let lost = Err(Errno::ENOBUFS);
        let expected = (lost, ("sidecar".to_owned(), None), lost, "application".to_owned(), eth0());
        assert_eq!(seen, expected, "{redirected}");
        // A socket that is connected to the sidecar would reach it no more.
        let client = UdpClient::new(Manner::Connected).through("eth0");
        let seen = as_member(&stage.cart(), || {
            let asker = client.open(redirected)?;
            let first = asker.ask(redirected, "who?")?.who;
            let elsewhere = asker.send_with(Some(excluded), "elsewhere", &[]);
            let still = asker.ask(redirected, "who?")?.who;
            asker.dissolve()?;
            Ok::<_, Errno>((first, elsewhere, still, asker.ask(excluded, "who?")?.who, asker.device()?))
        })??;
        let sidecar = || "sidecar".to_owned();
        let expected = (sidecar(), Err(Errno::EPERM), sidecar(), "application".to_owned(), eth0());
        assert_eq!(seen, expected, "{redirected}");
    }
    Ok(())
}

#[test]
fn a_socket_that_was_released_is_bound_again_where_nothing_is_decided_any_more() -> Tested {
    let (stage, _sidecars, _server) = stage()?;
    let target = address("10.0.3.9:80")?;
    let mut held = stage.cart().spawn(|line| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind_device(Some(b"eth0"))?;
        socket.connect(&SockAddr::from(target))?;
        rustix::net::connect_unspec(&socket).map_err(std::io::Error::from)?;
        line.say("redirected")?;
        line.hear()?;
        socket.connect(&SockAddr::from(target))?;
        let peer = socket.peer_addr()?.as_socket();
        Ok::<_, Errno>((socket.device()?.map(|name| String::from_utf8_lossy(&name).into_owned()), peer))
    })?;
    held.line().hear()?;
    Answer::of(stage.meshc().arg("pause"))?.done()?;
    held.line().say("go on")?;
    assert_eq!(held.join()??, (Some("eth0".to_owned()), Some(target)));
    Ok(())
}

#[test]
fn datagrams_that_name_an_interface_by_whatever_option_are_refused_and_nothing_leaves() -> Tested {
    let (stage, _sidecars, _server) = stage()?;
    let sniffer = Sniffer::on(&stage.pair().server)?;
    let eth0 = stage.pair().client.interface("eth0")?;
    let info4 = [&eth0.to_ne_bytes()[..], &[0; 8]].concat();
    let info6 = [&[0; 16][..], &eth0.to_ne_bytes()].concat();
    let options = [
        (SERVERS[0], SOL_IP, IP_UNICAST_IF, eth0.to_be_bytes().to_vec()),
        (SERVERS[1], SOL_IPV6, IPV6_UNICAST_IF, eth0.to_be_bytes().to_vec()),
        (SERVERS[1], SOL_IPV6, IPV6_PKTINFO, info6.clone()),
    ];
    for ([redirected, excluded], level, option, value) in options {
        let [redirected, excluded] = [address(redirected)?, address(excluded)?];
        for manner in [Manner::Connected, Manner::Unconnected] {
            let client = UdpClient::new(manner).option(level, option, &value);
            let (sent, who) = as_member(&stage.cart().uid(USER), || {
                let asker = client.open(redirected)?;
                let sent = [asker.send(redirected, "one"), asker.send(redirected, "two")];
                Ok::<_, Errno>((sent, asker.ask(excluded, "who?")?.who))
            })??;
            assert_eq!(sent, [Err(Errno::EPERM); 2], "{redirected} {option} {manner:?}");
            assert_eq!(who, "application", "{option}");
        }
    }
    for ([redirected, excluded], piece) in [
        (SERVERS[0], control(SOL_IP, IP_PKTINFO, &info4)),
        (SERVERS[1], control(SOL_IPV6, IPV6_PKTINFO, &info6)),
    ] {
        let [redirected, excluded] = [address(redirected)?, address(excluded)?];
        let (unconnected, excluded, connected) = as_member(&stage.cart().uid(USER), || {
            let asker = UdpClient::new(Manner::Unconnected).open(redirected)?;
            let unconnected = asker.send_with(Some(redirected), "one", &piece);
            asker.send_with(Some(excluded), "who?", &piece)?;
            let excluded = asker.hear()?.who;
            let asker = UdpClient::new(Manner::Connected).open(redirected)?;
            asker.connect(redirected)?;
            Ok::<_, Errno>((unconnected, excluded, asker.send_with(None, "two", &piece)))
        })??;
        assert_eq!((unconnected, connected), (Err(Errno::EPERM), Err(Errno::EPERM)), "{redirected}");
        assert_eq!(excluded, "application");
    }
    // A scope is an interface, too: addresses that have one are left alone.
    let mut scoped = "[fe80::1]:53".parse::<std::net::SocketAddrV6>()?;
    scoped.set_scope_id(eth0);
    let sent = as_member(&stage.cart(), || {
        UdpClient::new(Manner::Unconnected).open(scoped.into())?.send(scoped.into(), "scoped")
    })?;
    assert_eq!(sent, Ok(()));
    assert_eq!(sniffer.strays(&stage)?, Vec::<IpAddr>::new());
    Ok(())
}

#[test]
fn control_data_of_a_connected_socket_changes_nothing_else() -> Tested {
    let (stage, _sidecars, _server) = stage_of("redirect outbound udp -> 15053")?;
    for ([redirected, _], piece) in [
        (SERVERS[0], control(SOL_IP, IP_TOS, &2_i32.to_ne_bytes())),
        (SERVERS[1], control(SOL_IPV6, IPV6_TCLASS, &2_i32.to_ne_bytes())),
    ] {
        let redirected = address(redirected)?;
        let answer = as_member(&stage.cart(), || {
            let asker = UdpClient::new(Manner::Connected).open(redirected)?;
            asker.connect(redirected)?;
            asker.send_with(None, "who?", &piece)?;
            asker.hear()
        })??;
        let names = (answer.who.as_str(), answer.from, answer.peer);
        assert_eq!(names, ("sidecar", Some(redirected), Some(redirected)));
    }
    Ok(())
}
