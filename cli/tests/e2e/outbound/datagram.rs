//! Datagrams reach the sidecar where the policy says so, and the answer comes from whom was asked.

use std::net::SocketAddr;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Errno, Failure, Manner, Tested, UdpAnswer, UdpServer, ask, ask_all, storage};

use crate::fixtures::backend::{Backend, by_each_backend};
use crate::fixtures::stage::{Stage, address, as_member};

const RULES: &str = "redirect outbound udp 53 -> 15053
exclude outbound udp 53 to 10.0.3.9, fd10::9
deny outbound udp 443";

/// Of both families: where nothing is redirected, what is excluded, what is denied.
const RESOLVERS: [&str; 4] = ["10.0.0.1:53", "172.16.5.5:53", "[fd10::1]:53", "[fd10:1::1]:53"];
const EXCLUDED: [&str; 2] = ["10.0.3.9:53", "[fd10::9]:53"];
const UNNAMED: [&str; 2] = ["10.0.0.1:80", "[fd10::1]:80"];
const DENIED: [&str; 2] = ["10.0.0.1:443", "[fd10::1]:443"];

by_each_backend! {
    an_answer_of_the_sidecar_comes_from_the_address_that_was_asked,
    other_datagrams_go_straight_or_are_denied,
}

fn an_answer_of_the_sidecar_comes_from_the_address_that_was_asked(by: Backend) -> Tested {
    let (stage, _servers) = stage(by)?;
    for target in RESOLVERS {
        let target = address(target)?;
        for manner in manners(target) {
            assert_eq!(heard(&stage, target, manner)?, Ok("sidecar".to_owned()), "{target} {manner:?}");
        }
    }
    Ok(())
}

fn other_datagrams_go_straight_or_are_denied(by: Backend) -> Tested {
    let (stage, _servers) = stage(by)?;
    for target in EXCLUDED.into_iter().chain(UNNAMED) {
        let target = address(target)?;
        for manner in manners(target) {
            assert_eq!(heard(&stage, target, manner)?, Ok("application".to_owned()), "{target} {manner:?}");
        }
    }
    for target in DENIED {
        let target = address(target)?;
        for manner in manners(target) {
            // Whoever connects first, as resolvers do to learn their own address, is not disturbed by that.
            let connects = matches!(manner, Manner::Connected | Manner::MappedConnected);
            let is_refused = connects && by == Backend::Bpf;
            let denied = if is_refused { Errno::ECONNREFUSED } else { Errno::EPERM };
            assert_eq!(heard(&stage, target, manner)?, Err(denied), "{target} {manner:?}");
        }
    }
    Ok(())
}

#[test]
fn one_unconnected_socket_asks_the_sidecar_and_others_in_turn() -> Tested {
    let (stage, _servers) = stage(Backend::Bpf)?;
    for (targets, expected) in [
        (["10.0.0.1:53", "10.0.3.9:53", "172.16.5.5:53", "10.0.0.1:80"], "sidecar"),
        (["[fd10::1]:53", "[fd10::9]:53", "[fd10:1::1]:53", "[fd10::1]:80"], "sidecar"),
    ] {
        let targets = targets.map(address).into_iter().collect::<Result<Vec<_>, _>>()?;
        let all = as_member(&stage.cart(), || ask_all(&targets, "who?", Manner::Unconnected))??;
        let who: Vec<_> = all.iter().map(|answer| answer.who.as_str()).collect();
        assert_eq!(who, [expected, "application", expected, "application"]);
        let from: Vec<_> = all.iter().filter_map(|answer| answer.from).collect();
        assert_eq!(from, targets);
    }
    Ok(())
}

#[test]
fn a_connected_socket_that_connects_again_is_decided_again() -> Tested {
    let (stage, _servers) = stage(Backend::Bpf)?;
    for targets in
        [["10.0.3.9:53", "10.0.0.1:53", "172.16.5.5:53"], ["[fd10::9]:53", "[fd10::1]:53", "[fd10:1::1]:53"]]
    {
        let targets = targets.map(address).into_iter().collect::<Result<Vec<_>, _>>()?;
        let all = as_member(&stage.cart(), || ask_all(&targets, "who?", Manner::Connected))??;
        let who: Vec<_> = all.iter().map(|answer| answer.who.as_str()).collect();
        assert_eq!(who, ["application", "sidecar", "sidecar"]);
        let peers: Vec<_> = all.iter().filter_map(|answer| answer.peer).collect();
        assert_eq!(peers, targets);
    }
    assert_eq!(storage::sockets_with_storage(&stage.pin("client_flows")?)?, 0);
    Ok(())
}

fn stage(by: Backend) -> Result<(Stage, [UdpServer; 2]), Failure> {
    let stage = Stage::by(by)?;
    stage.apply_rules(RULES)?;
    let sidecar =
        ["127.0.0.1:15053", "[::1]:15053"].map(address).into_iter().collect::<Result<Vec<_>, _>>()?;
    // On each address of its own: an answer of a socket on all of them would come from another.
    let application = (RESOLVERS.into_iter().chain(EXCLUDED).chain(UNNAMED).chain(DENIED))
        .map(address)
        .collect::<Result<Vec<_>, _>>()?;
    let servers = [
        UdpServer::start(&stage.pair().client, "sidecar", &sidecar)?,
        UdpServer::start(&stage.pair().server, "application", &application)?,
    ];
    Ok((stage, servers))
}

fn manners(target: SocketAddr) -> &'static [Manner] {
    if target.is_ipv4() {
        &[Manner::Connected, Manner::Unconnected, Manner::Mapped, Manner::MappedConnected]
    } else {
        &[Manner::Connected, Manner::Unconnected]
    }
}

/// Who answered a member of `cart`; it must have seemed to be the one that was asked.
fn heard(stage: &Stage, target: SocketAddr, manner: &Manner) -> Result<Result<String, Errno>, Failure> {
    let answer = as_member(&stage.cart(), || ask(target, "who?", *manner))?;
    answer.map_or_else(
        |error| Ok(Err(error)),
        |answer| seems_to_be(&answer, target).map(|()| Ok(answer.who.clone())),
    )
}

fn seems_to_be(answer: &UdpAnswer, target: SocketAddr) -> Result<(), Failure> {
    let names = [answer.from, answer.peer].into_iter().flatten();
    let other = names.map(crate::fixtures::seen::canonical).find(|name| *name != target);
    other.map_or(Ok(()), |name| Err(format!("{target} was asked, {name} answered: {answer:?}").into()))
}
