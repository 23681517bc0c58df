//! A packet goes where its destination says, and not by a route that it carries.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Errno, Failure, Manner, Tested, UdpClient, control, set_raw_option};

use crate::fixtures::sniffer::Sniffer;
use crate::fixtures::stage::{Stage, address, as_member};

const RULES: &str = "redirect outbound tcp 80 -> 15001
redirect outbound udp 53 -> 15053
deny outbound any to 10.66.0.1, fd10::66";

const SOL_IP: i32 = 0;
const IP_OPTIONS: i32 = 4;
const IP_RETOPTS: i32 = 7;
const SOL_IPV6: i32 = 41;
const IPV6_RTHDR: i32 = 57;

/// A way past the rules: the denied place that a packet goes to first, the option and the control data that say so, and
/// what the hooks see as destination.
struct Detour {
    denied: IpAddr,
    uid: u32,
    option: (i32, i32),
    control: Vec<u8>,
    value: Vec<u8>,
    seen: [&'static str; 3],
}

fn detours() -> Result<[Detour; 2], Failure> {
    // Loose source route, by one place; a segment routing header with one segment.
    let mut narrow = vec![131, 7, 4, 10, 66, 0, 1, 0];
    narrow.resize(8, 0);
    let denied6: std::net::Ipv6Addr = "fd10::66".parse()?;
    let wide = [&[0, 2, 4, 0, 0, 0, 0, 0][..], &denied6.octets()].concat();
    // With a datagram it is one of another type.
    let other = [&[0, 2, 2, 1, 0, 0, 0, 0][..], &denied6.octets()].concat();
    Ok([
        Detour {
            denied: "10.66.0.1".parse()?,
            // Not every kernel lets an ordinary user set it.
            uid: 0,
            option: (SOL_IP, IP_OPTIONS),
            control: control(SOL_IP, IP_RETOPTS, &narrow),
            value: narrow,
            seen: ["10.0.3.9:80", "10.0.3.9:53", "10.0.3.9:443"],
        },
        Detour {
            denied: denied6.into(),
            uid: 1000,
            option: (SOL_IPV6, IPV6_RTHDR),
            control: control(SOL_IPV6, IPV6_RTHDR, &other),
            value: wide,
            seen: ["[fd10::9]:80", "[fd10::9]:53", "[fd10::9]:443"],
        },
    ])
}

#[test]
fn a_member_gets_nowhere_by_a_route_in_its_packets_and_others_do() -> Tested {
    let stage = Stage::ruled(RULES)?;
    let sniffer = Sniffer::on(&stage.pair().server)?;
    for Detour { denied, uid, option: (level, option), control: piece, value, seen } in detours()? {
        let user = stage.cart().uid(uid);
        for target in seen {
            let target = address(target)?;
            let dialled = Client::to(target).option(level, option, &value);
            let dialled = as_member(&user, || dialled.dial().map(drop))?;
            assert_eq!(dialled, Err(Errno::EPERM), "{target}");
            for manner in [Manner::Connected, Manner::Unconnected] {
                let client = UdpClient::new(manner).option(level, option, &value);
                let sent = as_member(&user, || client.open(target)?.send(target, "one"))?;
                assert_eq!(sent, Err(Errno::EPERM), "{target} {manner:?}");
            }
        }
        // Ends that go straight: the kernel lets whatever is set afterwards, or with one datagram, take effect.
        let straight = address(seen[2])?;
        let sent = as_member(&user, || {
            let unconnected = UdpClient::new(Manner::Unconnected).open(straight)?;
            let connected = UdpClient::new(Manner::Connected).open(straight)?;
            connected.connect(straight)?;
            Ok::<_, Errno>([
                unconnected.send_with(Some(straight), "one", &piece),
                connected.send_with(None, "two", &piece),
            ])
        })??;
        // Some kernels know no routing header that comes with a datagram.
        let refused = [Err(Errno::EPERM), Err(Errno(22))];
        assert!(sent.iter().all(|sent| refused.contains(sent)), "{straight}: {sent:?}");
        as_member(&user, || {
            let mut stream = TcpStream::connect(straight)?;
            set_raw_option(stream.as_fd(), level, option, &value)?;
            Ok::<_, Errno>(stream.write_all(b"past")?)
        })?
        .map_err(|error| format!("set afterwards: {error}"))?;
        let left = sniffer.destinations(&stage)?;
        assert!(!left.contains(&denied), "{left:?}");
        // It would work: whoever is no member sends there.
        let beside = stage.beside().uid(uid);
        let client = UdpClient::new(Manner::Unconnected).option(level, option, &value);
        as_member(&beside, || client.open(straight)?.send(straight, "three"))?
            .map_err(|error| format!("no member: {error}"))?;
        let left = sniffer.destinations(&stage)?;
        assert!(left.contains(&denied), "{left:?}");
    }
    Ok(())
}

#[test]
fn options_that_are_no_route_stay_as_they_are() -> Tested {
    let stage = Stage::ruled(RULES)?;
    let target: SocketAddr = address("10.0.3.9:443")?;
    // Two that do nothing, then record route.
    let record = [1, 1, 7, 7, 4, 0, 0, 0, 0, 0, 0, 0];
    let client = Client::to(target).option(SOL_IP, IP_OPTIONS, &record);
    let dialled = as_member(&stage.cart(), || client.dial())??;
    assert_eq!(dialled.arrival.who, "application");
    Ok(())
}
