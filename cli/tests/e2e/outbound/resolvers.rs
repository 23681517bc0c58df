//! One datagram socket that asks several servers, as resolvers do, can tell their answers apart.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::proxy::Dnsmasq;
use mesh_testbed::{Errno, Failure, Manner, Tested, UdpAnswer, UdpClient, UdpServer, UdpServerTask, storage};

use crate::fixtures::command::Answer;
use crate::fixtures::seen::canonical;
use crate::fixtures::stage::{Stage, address, as_member};

const RULES: &str = "redirect outbound udp 53 -> 15053
redirect outbound udp 443 -> 15054
exclude outbound udp 53 to 10.0.3.9, fd10::9
deny outbound udp 25";

const SOL_IP: i32 = 0;
const IP_UNICAST_IF: i32 = 50;
const SOL_IPV6: i32 = 41;
const IPV6_UNICAST_IF: i32 = 76;

const SERVERS: [&str; 4] = ["10.0.0.1:53", "172.16.5.5:53", "10.0.0.1:443", "10.0.9.9:53"];

#[test]
fn answers_of_several_servers_to_one_unconnected_socket_come_from_whom_was_asked_in_any_order() -> Tested {
    let stage = Stage::ruled(RULES)?;
    // Three of the four are of one sidecar port, which answers when it has all three, the last one first.
    let _dns = sidecar(&stage, "127.0.0.1:15053", 3)?;
    let _quic = sidecar(&stage, "127.0.0.1:15054", 1)?;
    let servers = SERVERS.map(address).into_iter().collect::<Result<Vec<_>, _>>()?;
    for manner in [Manner::Unconnected, Manner::Mapped] {
        let answers = as_member(&stage.cart(), || together(&UdpClient::new(manner), &servers))??;
        assert_eq!(answers.len(), servers.len());
        for (asked, answer) in answers {
            assert_eq!(answer.from.map(canonical), Some(asked), "{manner:?} {answer:?}");
            assert_eq!(answer.who, "sidecar");
        }
    }
    assert_eq!(storage::sockets_with_storage(&stage.pin("udp_servers")?)?, 0);
    Ok(())
}

#[test]
fn a_socket_with_an_address_of_its_own_keeps_it() -> Tested {
    let stage = Stage::ruled(RULES)?;
    let _dns = sidecar(&stage, "127.0.0.1:15053", 1)?;
    let (own, target) = (address("192.168.7.2:0")?, address("10.0.0.1:53")?);
    let client = UdpClient::new(Manner::Unconnected).from(own);
    let answer = as_member(&stage.cart(), || client.ask(target, "who?"))??;
    assert_eq!((answer.client.ip(), answer.from), (own.ip(), Some(target)));
    Ok(())
}

#[test]
fn more_servers_than_there_are_tokens_are_answered_as_long_as_they_answer_in_turn() -> Tested {
    let stage = Stage::ruled(RULES)?;
    let _dns = sidecar(&stage, "127.0.0.1:15053", 1)?;
    let servers: Vec<_> = (1..=40).map(|host| SocketAddr::from(([10, 0, 1, host], 53))).collect();
    let asked = as_member(&stage.cart(), || {
        let asker = UdpClient::new(Manner::Unconnected).open(address_of(&servers)?)?;
        (servers.iter().map(|server| Ok(asker.ask(*server, "who?")?.from))).collect::<Result<Vec<_>, Errno>>()
    })??;
    assert_eq!(asked, servers.into_iter().map(Some).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn the_answers_of_others_on_those_loopback_addresses_are_theirs() -> Tested {
    let stage = Stage::ruled(RULES)?;
    // A server that happens to listen on an address that tokens use, and no client of a sidecar.
    let token = address("127.64.0.1:7000")?;
    let _server = UdpServerTask::start(&stage.beside(), "other", &[token], 1)?;
    for place in [stage.cart(), stage.beside()] {
        let answer = as_member(&place, || UdpClient::new(Manner::Unconnected).ask(token, "who?"))??;
        assert_eq!((answer.who.as_str(), answer.from), ("other", Some(token)));
        assert_eq!(answer.client.ip(), address("127.0.0.1:0")?.ip());
    }
    Ok(())
}

#[test]
fn a_datagram_socket_that_goes_elsewhere_without_dissolving_is_told_at_once() -> Tested {
    let stage = Stage::ruled(RULES)?;
    let _dns = sidecar(&stage, "127.0.0.1:15053", 1)?;
    let _dns6 = sidecar(&stage, "[::1]:15053", 1)?;
    let straight = ["10.0.3.9:53", "[fd10::9]:53"].map(address).into_iter().collect::<Result<Vec<_>, _>>()?;
    let _server = UdpServer::start(&stage.pair().server, "application", &straight)?;
    for (redirected, excluded, denied, manner) in [
        ("10.0.0.1:53", "10.0.3.9:53", "10.0.0.1:25", Manner::Connected),
        ("10.0.0.1:53", "10.0.3.9:53", "10.0.0.1:25", Manner::MappedConnected),
        ("[fd10::1]:53", "[fd10::9]:53", "[fd10::1]:25", Manner::Connected),
    ] {
        let [redirected, excluded, denied] = [address(redirected)?, address(excluded)?, address(denied)?];
        let seen = as_member(&stage.cart(), || {
            let asker = UdpClient::new(manner).open(redirected)?;
            let first = asker.ask(redirected, "who?")?.who;
            // Still the sidecar's, and so are its answers.
            let (elsewhere, refused) = (asker.connect(excluded), asker.connect(denied));
            let still = asker.ask(redirected, "who?")?;
            asker.dissolve()?;
            let last = asker.ask(excluded, "who?")?;
            Ok::<_, Errno>((first, elsewhere, refused, still.who, last.who, last.from.map(canonical)))
        })??;
        // What is denied is refused when it is sent.
        let expected = (Err(Errno::EINVAL), Ok(()));
        assert_eq!((seen.1, seen.2), expected, "{manner:?} {redirected}");
        assert_eq!((seen.0.as_str(), seen.3.as_str()), ("sidecar", "sidecar"));
        assert_eq!((seen.4.as_str(), seen.5), ("application", Some(excluded)));
    }
    Ok(())
}

#[test]
fn a_datagram_socket_bound_to_a_device_reaches_the_sidecar() -> Tested {
    let stage = Stage::ruled(RULES)?;
    let _dns = sidecar(&stage, "127.0.0.1:15053", 1)?;
    let _dns6 = sidecar(&stage, "[::1]:15053", 1)?;
    for (target, manner) in [
        ("10.0.0.1:53", Manner::Connected),
        ("10.0.0.1:53", Manner::MappedConnected),
        ("[fd10::1]:53", Manner::Connected),
    ] {
        let target = address(target)?;
        let client = UdpClient::new(manner).through("eth0");
        let answer = as_member(&stage.cart(), || client.ask(target, "who?"))??;
        assert_eq!(
            (answer.who.as_str(), answer.from.map(canonical)),
            ("sidecar", Some(target)),
            "{manner:?}"
        );
    }
    // The kernel has taken note of the device before the programs are asked: the first datagram is refused, and
    // who asks again is heard.
    for target in ["10.0.0.1:53", "[fd10::1]:53"] {
        let target = address(target)?;
        let client = UdpClient::new(Manner::Unconnected).through("eth0");
        let again = as_member(&stage.cart(), || {
            let asker = client.open(target)?;
            let first = asker.send(target, "too early");
            Ok::<_, Errno>((first, asker.ask(target, "who?")?))
        })??;
        assert_eq!(again.0, Err(Errno::ENOBUFS));
        assert_eq!((again.1.payload.as_str(), again.1.from), ("who?", Some(target)));
    }
    Ok(())
}

#[test]
fn sockets_that_name_the_device_of_their_datagrams_must_be_excluded() -> Tested {
    let stage = Stage::ruled(RULES)?;
    let _dns = [sidecar(&stage, "127.0.0.1:15053", 1)?, sidecar(&stage, "[::1]:15053", 1)?];
    let straight = ["10.0.3.9:53", "[fd10::9]:53"].map(address).into_iter().collect::<Result<Vec<_>, _>>()?;
    let _server = UdpServer::start(&stage.pair().server, "application", &straight)?;
    // In network order.
    let eth0 = stage.pair().client.interface("eth0")?.to_be_bytes();
    for (redirected, excluded, level, option) in [
        ("10.0.0.1:53", "10.0.3.9:53", SOL_IP, IP_UNICAST_IF),
        ("[fd10::1]:53", "[fd10::9]:53", SOL_IPV6, IPV6_UNICAST_IF),
    ] {
        let [redirected, excluded] = [address(redirected)?, address(excluded)?];
        for manner in [Manner::Connected, Manner::Unconnected] {
            let client = UdpClient::new(manner).option(level, option, &eth0);
            let (redirected, excluded) = as_member(&stage.cart(), || {
                let asker = client.open(redirected)?;
                asker.wait_for(Duration::from_millis(200))?;
                Ok::<_, Errno>((asker.ask(redirected, "who?").map(drop), client.ask(excluded, "who?")?.who))
            })??;
            // Programs cannot release it, and it does not get past the mesh.
            assert!(redirected.is_err(), "{manner:?}");
            assert_eq!(excluded, "application", "{manner:?}");
        }
    }
    Ok(())
}

#[test]
fn dig_and_glibc_ask_the_resolver_beside_them_and_believe_its_answers() -> Tested {
    let stage = Stage::new()?;
    stage.apply_rules("redirect outbound any 53 -> 15053")?;
    let listen = [address("127.0.0.1:15053")?, address("[::1]:15053")?];
    let names = [("shop.test", "10.9.9.9".parse()?), ("shop.test", "fd10::99".parse()?)];
    let dnsmasq = Dnsmasq::start(&stage.beside(), &listen, &names)?;
    // dig drops what does not come from the server that it asked, and says so.
    for (server, more) in
        [("10.0.0.1", "+notcp"), ("fd10::1", "+notcp"), ("10.0.0.1", "+tcp"), ("fd10::1", "+tcp")]
    {
        let mut dig = stage.cart().command("dig");
        dig.args([&format!("@{server}"), more, "+short", "+tries=1", "+timeout=3", "shop.test", "A"]);
        let answer = Answer::of(&mut dig)?;
        assert_eq!((answer.code, answer.words().as_str()), (0, "10.9.9.9\n"), "{server} {more}");
    }
    let heard = dnsmasq.questions()?;
    assert_eq!(heard, 4);
    for servers in [&["10.0.0.1"][..], &["fd10::1"], &["10.0.0.1", "172.16.5.5", "fd10::1"]] {
        let lines: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
        let file = stage.ground().write("resolv.conf", lines + "options timeout:2 attempts:1 rotate\n")?;
        let mut getent = stage.cart().command("unshare");
        let script = "mount --bind \"$0\" /etc/resolv.conf && exec getent ahosts shop.test";
        getent.args(["--mount", "sh", "-c", script]).arg(file);
        let words = Answer::of(&mut getent)?.done()?.words();
        assert!(words.contains("10.9.9.9") && words.contains("fd10::99"), "{servers:?}: {words}");
    }
    assert_eq!(dnsmasq.questions()?, heard + 6, "an address of each family, three times");
    Ok(())
}

fn sidecar(stage: &Stage, listen: &str, patience: usize) -> Result<UdpServerTask, Failure> {
    Ok(UdpServerTask::start(&stage.beside(), "sidecar", &[address(listen)?], patience)?)
}

fn address_of(servers: &[SocketAddr]) -> Result<SocketAddr, Errno> {
    servers.first().copied().ok_or(Errno::EINVAL)
}

/// Asks all by one socket before it hears the first answer; each question is the address that was asked.
fn together(client: &UdpClient, servers: &[SocketAddr]) -> Result<BTreeMap<SocketAddr, UdpAnswer>, Errno> {
    let asker = client.open(address_of(servers)?)?;
    for server in servers {
        asker.send(*server, &server.to_string())?;
    }
    let mut answers = BTreeMap::new();
    for _ in servers {
        let answer = asker.hear()?;
        let asked = answer.payload.parse().map_err(|_| Errno::EINVAL)?;
        answers.insert(asked, answer);
    }
    Ok(answers)
}
