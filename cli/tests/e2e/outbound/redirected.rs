//! A member's connection lands at its sidecar, which can ask where it was going; the member cannot tell.

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Errno, Level, ServerTask, Tested};

use crate::fixtures::backend::{Backend, by_each_backend};
use crate::fixtures::seen::{Seen, judged, seen};
use crate::fixtures::stage::{Stage, address, as_member};

const SOL_IP: i32 = 0;
const IP_UNICAST_IF: i32 = 50;
const SOL_IPV6: i32 = 41;
const IPV6_UNICAST_IF: i32 = 76;

const REDIRECT: &str = "redirect outbound -> 15001";

#[test]
fn connections_of_sockets_that_are_bound_to_a_device_are_redirected() -> Tested {
    let stage = Stage::ruled(REDIRECT)?;
    let (v4, v6) = (address("10.0.3.9:80")?, address("[fd10::9]:80")?);
    let clients = [
        (Client::to(v4).through("eth0"), v4),
        (Client::to(v6).through("eth0"), v6),
        (Client::to(v4).mapped().through("eth0").nonblocking(), v4),
    ];
    for (client, target) in clients {
        let seen = as_member(&stage.cart(), || seen(&client, target))?;
        assert_eq!(seen, Seen::Redirected(15001), "{client:?}");
    }
    Ok(())
}

#[test]
fn sockets_that_name_the_device_of_their_packets_are_redirected() -> Tested {
    let stage = Stage::ruled(REDIRECT)?;
    // In network order.
    let eth0 = stage.pair().client.interface("eth0")?.to_be_bytes();
    for (target, level, option) in
        [("10.0.3.9:80", SOL_IP, IP_UNICAST_IF), ("[fd10::9]:80", SOL_IPV6, IPV6_UNICAST_IF)]
    {
        let target = address(target)?;
        let client = Client::to(target).option(level, option, &eth0);
        assert_eq!(as_member(&stage.cart(), || seen(&client, target))?, Seen::Redirected(15001), "{target}");
    }
    Ok(())
}

#[test]
fn the_application_believes_that_it_reached_what_it_dialled() -> Tested {
    let stage = Stage::ruled(REDIRECT)?;
    for (target, mapped, peer) in [
        ("10.0.3.9:80", false, "10.0.3.9:80"),
        ("[fd10::9]:80", false, "[fd10::9]:80"),
        ("10.0.3.9:80", true, "[::ffff:10.0.3.9]:80"),
    ] {
        let client = Client::to(address(target)?);
        let client = if mapped { client.mapped() } else { client };
        let dialled = as_member(&stage.cart(), || client.dial())??;
        assert_eq!(dialled.peer, address(peer)?);
        assert_eq!(dialled.arrival.who, "sidecar");
        assert_eq!(dialled.arrival.peer.port(), dialled.local.port(), "accept tells the real client");
    }
    Ok(())
}

#[test]
fn each_family_is_answered_at_its_own_level_only() -> Tested {
    let stage = Stage::ruled(REDIRECT)?;
    for (target, level) in [("10.0.3.9:80", Level::V4), ("[fd10::9]:80", Level::V6)] {
        let target = address(target)?;
        let arrival = as_member(&stage.cart(), || Client::to(target).dial())??.arrival;
        let (own, other) = match level {
            Level::V4 => (arrival.original4, arrival.original6),
            Level::V6 => (arrival.original6, arrival.original4),
        };
        assert_eq!(own, Ok(target));
        assert!(other.is_err(), "{other:?}");
    }
    Ok(())
}

by_each_backend! { connections_are_redirected_however_they_are_opened, each_rule_leads_to_its_own_port }

fn connections_are_redirected_however_they_are_opened(by: Backend) -> Tested {
    let stage = Stage::ruled_by(by, REDIRECT)?;
    let (v4, v6) = (address("10.0.3.9:80")?, address("[fd10::9]:80")?);
    let clients = [
        (Client::to(v4), v4),
        (Client::to(v6), v6),
        (Client::to(v4).mapped(), v4),
        (Client::to(v4).nonblocking(), v4),
        (Client::to(v6).nonblocking(), v6),
        (Client::to(v4).mapped().nonblocking(), v4),
        (Client::to(v4).from(address("192.168.7.2:0")?), v4),
        (Client::to(v6).from(address("[fd07::2]:0")?), v6),
    ];
    for (client, target) in clients {
        let seen = as_member(&stage.cart(), || seen(&client, target))?;
        assert_eq!(seen, Seen::Redirected(15001), "{client:?}");
    }
    // Who is no member is not redirected.
    assert_eq!(stage.dial_from(&stage.beside(), "10.0.3.9:80")?, Seen::Straight);
    Ok(())
}

fn each_rule_leads_to_its_own_port(by: Backend) -> Tested {
    let stage = Stage::by(by)?;
    stage.apply_rules(
        "redirect outbound -> 15001
         redirect outbound tcp 443 -> 15002
         redirect outbound tcp 443 to fd10::/16 -> 15003
         redirect outbound tcp 1-442 to 10.7.0.0/16 -> 15004",
    )?;
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));
    assert_eq!(stage.dial("172.16.0.1:443")?, Seen::Redirected(15002));
    assert_eq!(stage.dial("[fd10::9]:443")?, Seen::Redirected(15003));
    assert_eq!(stage.dial("10.7.0.1:80")?, Seen::Redirected(15004));
    Ok(())
}

#[test]
fn a_first_packet_with_data_arrives_at_a_sidecar_that_knows_where_it_was_going() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15005")?;
    // Clients send, and listeners made from now on take, data with the SYN and without a cookie.
    stage.pair().client.set("net/ipv4/tcp_fastopen", "1543")?;
    let listen = [address("127.0.0.1:15005")?, address("[::1]:15005")?];
    let _sidecar = ServerTask::start(&stage.beside(), "sidecar", &listen)?;
    for (client, target) in [
        (Client::to(address("10.0.3.9:80")?), "10.0.3.9:80"),
        (Client::to(address("[fd10::9]:80")?), "[fd10::9]:80"),
        (Client::to(address("10.0.3.9:80")?).mapped(), "10.0.3.9:80"),
    ] {
        let client = client.fast_open();
        let (dialled, first, fast) = as_member(&stage.cart(), || {
            let mut stream = client.open()?;
            let dialled = stream.greeting()?;
            Ok::<_, Errno>((dialled, stream.hear()?, stream.was_fast()?))
        })??;
        assert!(fast, "{client:?} was not fast");
        assert_eq!(first, "first");
        assert_eq!(judged(&dialled, address(target)?), Seen::Redirected(15005));
    }
    Ok(())
}
