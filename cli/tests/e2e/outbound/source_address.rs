//! Where a redirected connection comes from: client and sidecar see the member's own address, as without a mesh, and
//! as many connections fit beside each other.

use std::net::{IpAddr, SocketAddr};

use mesh_testbed::kernel_test as test;
use mesh_testbed::proxy::{Envoy, HaProxy, NginxSidecar, RedSocks};
use mesh_testbed::{
    Client, Dialled, Errno, Failure, Manner, Netns, Server, ServerTask, Tested, UdpClient, UdpServerTask,
    long_runs_are_wanted,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::fixtures::command::Answer;
use crate::fixtures::seen::canonical;
use crate::fixtures::stage::address;
use crate::fixtures::town::{POD, Pod, addresses, without};

const SIDECAR: [&str; 2] = ["127.0.0.1:15001", "[::1]:15001"];
const EVERYWHERE: [&str; 2] = ["0.0.0.0:15001", "[::]:15001"];
const FAR: [&str; 2] = ["10.44.0.2:80", "[fd44::2]:80"];
const RULES: &str = "redirect outbound -> 15001\nexclude outbound tcp 81";

/// A pod with a sidecar on these addresses, and a server far away.
fn pod(listen: &[&str]) -> Result<(Pod, ServerTask, Server), Failure> {
    let pod = Pod::ruled(super::WAY, RULES)?;
    let sidecar = ServerTask::start(&pod.sidecar_place(), "sidecar", &addresses(listen)?)?;
    let far = ["0.0.0.0:80", "[::]:80", "0.0.0.0:81", "[::]:81"];
    let far = Server::start(&pod.town().far, "far", &addresses(&far)?)?;
    Ok((pod, sidecar, far))
}

fn dial(pod: &Pod, client: &Client) -> Result<Result<Dialled, Errno>, Failure> {
    Ok(pod.place().run(|| client.dial())?)
}

/// That it reached the sidecar, which knows where it was going, and that both ends see this source.
fn assert_from(dialled: &Dialled, target: SocketAddr, source: IpAddr) {
    let arrival = &dialled.arrival;
    assert_eq!(arrival.who, "sidecar", "{dialled:?}");
    assert_eq!(arrival.original(), Some(target), "{dialled:?}");
    assert_eq!(dialled.local.ip().to_canonical(), source, "{dialled:?}");
    assert_eq!(arrival.peer.ip().to_canonical(), source, "{dialled:?}");
    assert_eq!(arrival.peer.port(), dialled.local.port(), "{dialled:?}");
    // As under REDIRECT of iptables.
    let local = if target.is_ipv4() { "127.0.0.1:15001" } else { "[::1]:15001" };
    assert_eq!(canonical(arrival.local).to_string(), local, "{dialled:?}");
}

/// Each target with the pod's own address of its family.
fn targets() -> Result<Vec<(SocketAddr, IpAddr)>, Failure> {
    FAR.into_iter().zip(POD).map(|(target, own)| Ok((address(target)?, own.parse()?))).collect()
}

#[test]
fn client_and_sidecar_see_the_members_own_address() -> Tested {
    for listen in [SIDECAR, EVERYWHERE] {
        let (pod, _sidecar, _far) = pod(&listen)?;
        for (target, own) in targets()? {
            let mut clients = vec![
                Client::to(target),
                Client::to(target).nonblocking(),
                Client::to(target).through("eth0"),
                Client::to(target).after(target),
                Client::to(target).option(libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, &1i32.to_ne_bytes()),
            ];
            if target.is_ipv4() {
                clients.extend([Client::to(target).mapped(), Client::to(target).mapped().nonblocking()]);
            }
            for client in clients {
                let dialled = dial(&pod, &client)??;
                assert_eq!(canonical(dialled.peer), target, "{dialled:?}");
                assert_from(&dialled, target, own);
            }
            // An MPTCP socket is not asked whom it reached.
            assert_from(&dial(&pod, &Client::to(target).multipath())??, target, own);
        }
    }
    Ok(())
}

#[test]
fn what_the_application_has_bound_stays() -> Tested {
    let (pod, _sidecar, _far) = pod(&SIDECAR)?;
    pod.town().pod.ip("addr add 10.42.0.7/24 dev eth0\naddr add fd42::7/64 dev eth0 nodad")?;
    for ((target, own), (second, any)) in
        targets()?.into_iter().zip([("10.42.0.7", "0.0.0.0:5555"), ("fd42::7", "[::]:5555")])
    {
        let second: IpAddr = second.parse()?;
        for port in [0, 5554] {
            let client = Client::to(target).from(SocketAddr::new(second, port));
            let dialled = dial(&pod, &client)??;
            assert_from(&dialled, target, second);
            assert!(port == 0 || dialled.local.port() == port, "{dialled:?}");
        }
        // A port alone leaves the address to the kernel; both ends see the member's own.
        let dialled = dial(&pod, &Client::to(target).from(address(any)?))??;
        assert_from(&dialled, target, own);
        assert_eq!(dialled.local.port(), 5555);
    }
    Ok(())
}

#[test]
fn a_socket_that_was_redirected_once_goes_straight_as_if_it_had_not_been() -> Tested {
    let (pod, _sidecar, _far) = pod(&SIDECAR)?;
    let _beside = pod.serve("beside", &["127.0.0.1:81", "[::1]:81"])?;
    for ((target, own), within) in targets()?.into_iter().zip(["127.0.0.1:81", "[::1]:81"]) {
        let (straight, within) = (SocketAddr::new(target.ip(), 81), address(within)?);
        let nobody = SocketAddr::new(target.ip(), 82);
        let mut clients =
            vec![Client::to(straight).after(target), Client::to(straight).after(target).after(within)];
        if target.is_ipv4() {
            clients.push(Client::to(straight).after(target).mapped());
        }
        for client in clients {
            let dialled = dial(&pod, &client)??;
            assert_eq!(dialled.arrival.who, "far", "{client:?}");
            assert_eq!(dialled.local.ip().to_canonical(), own, "{client:?}");
        }
        for client in [Client::to(within).after(target), Client::to(within).after(target).after(straight)] {
            let dialled = dial(&pod, &client)??;
            assert_eq!(dialled.arrival.who, "beside", "{client:?}");
            assert_eq!(dialled.local.ip(), within.ip(), "{client:?}");
        }
        for client in [
            Client::to(target).after(within),
            Client::to(target).after(straight),
            Client::to(target).after(target).after(within),
            Client::to(target).after(nobody),
        ] {
            assert_from(&dial(&pod, &client)??, target, own);
        }
    }
    Ok(())
}

#[test]
fn a_socket_whose_redirected_connection_failed_may_be_used_again() -> Tested {
    let (pod, sidecar, _far) = pod(&SIDECAR)?;
    drop(sidecar);
    for (target, own) in targets()? {
        let client = Client::to(SocketAddr::new(target.ip(), 81)).failing_at(target);
        let dialled = dial(&pod, &client)??;
        assert_eq!((dialled.arrival.who.as_str(), dialled.local.ip()), ("far", own));
    }
    Ok(())
}

#[test]
fn a_first_packet_with_data_comes_from_the_members_own_address() -> Tested {
    let pod = Pod::ruled(super::WAY, RULES)?;
    pod.town().pod.set("net/ipv4/tcp_fastopen", "1543")?;
    let _sidecar = ServerTask::start(&pod.sidecar_place(), "sidecar", &addresses(&SIDECAR)?)?;
    for (target, own) in targets()? {
        let (dialled, first, fast) = pod.place().run(|| {
            let mut stream = Client::to(target).fast_open().open()?;
            let dialled = stream.greeting()?;
            Ok::<_, Errno>((dialled, stream.hear()?, stream.was_fast()?))
        })??;
        assert_from(&dialled, target, own);
        assert_eq!((first.as_str(), fast), ("first", true));
    }
    Ok(())
}

/// And gives them back.
fn back(netns: &Netns, family: &str) -> Result<(), Failure> {
    if family == "6" {
        netns.set("net/ipv6/conf/eth0/disable_ipv6", "0")?;
        netns.ip("addr add fd42::2/64 dev eth0 nodad\nroute add default via fd42::1")?;
    } else {
        netns.ip("addr add 10.42.0.2/24 dev eth0\nroute add default via 10.42.0.1")?;
    }
    Ok(())
}

/// What a datagram socket sees that is connected.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Probe {
    local: Result<SocketAddr, Errno>,
    peer: Option<SocketAddr>,
}

fn probe(socket: &std::net::UdpSocket, target: SocketAddr) -> Probe {
    let connected = socket.connect(target).map_err(Errno::from);
    let local = connected.and_then(|()| Ok(socket.local_addr()?));
    Probe { local, peer: socket.peer_addr().ok() }
}

#[test]
fn a_datagram_socket_sees_the_members_own_address() -> Tested {
    let rules = "redirect outbound udp 53 -> 15053\ndeny outbound udp 443";
    let pod = Pod::ruled(super::WAY, rules)?;
    let listen = addresses(&["0.0.0.0:15053", "[::]:15053"])?;
    let _sidecar = UdpServerTask::start(&pod.sidecar_place(), "sidecar", &listen, 1)?;
    for (target, own) in targets()? {
        for port in [53, 443, 9] {
            let target = SocketAddr::new(target.ip(), port);
            let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let probe =
                pod.place().run(|| Ok::<_, Errno>(probe(&std::net::UdpSocket::bind(any)?, target)))??;
            assert_eq!(probe.local.map(|local| local.ip()), Ok(own), "{target}");
            assert_eq!(probe.peer, Some(target));
        }
        let resolver = SocketAddr::new(target.ip(), 53);
        for manner in [Manner::Connected, Manner::Unconnected] {
            let answer = pod.place().run(|| UdpClient::new(manner).ask(resolver, "who?"))??;
            assert_eq!((answer.who.as_str(), answer.from), ("sidecar", Some(resolver)), "{manner:?}");
        }
    }
    Ok(())
}

#[test]
fn a_family_without_a_routable_address_is_unreachable() -> Tested {
    let rules = "redirect outbound -> 15001\nredirect outbound udp 53 -> 15053\ndeny outbound udp 443";
    for (family, gone) in [("6", 1), ("4", 0)] {
        let pod = Pod::new(super::WAY)?;
        pod.apply(rules)?;
        without(&pod.town().pod, family)?;
        pod.ask(&[
            "attach",
            "--netns",
            &pod.town().pod.path().display().to_string(),
            "--name",
            "cart-1",
            "--label",
            "app=cart",
        ])?;
        let _sidecar = ServerTask::start(&pod.sidecar_place(), "sidecar", &addresses(&EVERYWHERE)?)?;
        let targets = targets()?;
        let ((lost, _), (there, own)) = (targets[gone], targets[1 - gone]);
        assert_eq!(dial(&pod, &Client::to(lost))?, Err(Errno::ENETUNREACH), "{family}");
        assert_eq!(dial(&pod, &Client::to(lost).nonblocking())?, Err(Errno::ENETUNREACH), "{family}");
        if lost.is_ipv4() {
            assert_eq!(dial(&pod, &Client::to(lost).mapped())?, Err(Errno::ENETUNREACH));
        }
        assert_from(&dial(&pod, &Client::to(there))??, there, own);
        for (port, manner) in [(53, Manner::Connected), (53, Manner::Unconnected), (443, Manner::Connected)] {
            let target = SocketAddr::new(lost.ip(), port);
            let asked = pod.place().run(|| UdpClient::new(manner).ask(target, "who?"))?;
            assert_eq!(asked.err(), Some(Errno::ENETUNREACH), "{family} {port} {manner:?}");
        }
        // In step with what the pod has.
        back(&pod.town().pod, family)?;
        pod.ask(&["apply", "--repair", &pod.policy(rules)?.display().to_string()])?;
        assert_from(&dial(&pod, &Client::to(lost))??, lost, POD[gone].parse()?);
    }
    Ok(())
}

/// Connects to one address after the other of a network, with a sidecar that leaves all of them in its queue, and
/// tells how many fit beside each other and why the next one did not. Several processes hold them: each may have this
/// many files.
const BESIDE: &str = "
import errno, ipaddress, itertools, os, socket, sys
network, most, share = ipaddress.ip_network(sys.argv[1]), int(sys.argv[2]), 8000
family = socket.AF_INET if network.version == 4 else socket.AF_INET6
sidecar = socket.socket(family)
sidecar.bind(('127.0.0.1' if network.version == 4 else '::1', 15001))
sidecar.listen(65535)
targets = iter([str(address) for address in itertools.islice(network, most)])
ends, held, why = os.pipe(), 0, ''
while not why and held < most:
    told, tells = os.pipe()
    if not os.fork():
        os.close(ends[1])
        streams = []
        for target in itertools.islice(targets, share):
            stream = socket.socket(family)
            try:
                stream.connect((target, 80))
            except OSError as error:
                why = errno.errorcode[error.errno]
                break
            streams.append(stream)
        os.write(tells, f'{len(streams)} {why}'.encode())
        os.read(ends[0], 1)
        os._exit(0)
    count, why = os.read(told, 100).decode().split(' ')
    held += int(count)
    next(itertools.islice(targets, share, share), None)
print(held, why)
";

/// With `BESIDE`, in a pod whose own connections may take these local ports.
fn beside_each_other(pod: &Pod, ports: &str, network: &str, most: u32) -> Result<String, Failure> {
    pod.town().pod.set("net/core/somaxconn", "65535")?;
    pod.town().pod.set("net/ipv4/ip_local_port_range", ports)?;
    let mut python = pod.place().command("python3");
    Ok(Answer::of(python.args(["-c", BESIDE, network, &most.to_string()]))?.done()?.stdout)
}

/// A limit of docs/datapath.md, with its figure.
#[test]
fn over_ipv6_as_many_connections_fit_beside_each_other_as_there_are_local_ports() -> Tested {
    let pod = Pod::ruled(super::WAY, RULES)?;
    let networks = match super::WAY {
        "tc" => &["2001:db8::/64", "10.99.0.0/16"][..],
        _ => &["2001:db8::/64"],
    };
    for network in networks {
        let said = beside_each_other(&pod, "40000 40099", network, 200)?;
        assert_eq!(said, "100 EADDRNOTAVAIL\n", "{network}");
        if long_runs_are_wanted() {
            // What Linux begins with.
            let said = beside_each_other(&pod, "32768 60999", network, 30_000)?;
            assert_eq!(said, "28232 EADDRNOTAVAIL\n", "{network}");
        }
    }
    Ok(())
}

#[test]
fn a_hundred_ports_are_enough_for_a_thousand_destinations() -> Tested {
    if super::WAY == "tc" {
        // There it is as over IPv6.
        return Ok(());
    }
    for listen in [SIDECAR, EVERYWHERE] {
        let (pod, _sidecar, _far) = pod(&listen)?;
        pod.town().pod.set("net/ipv4/ip_local_port_range", "40000 40099")?;
        let held = pod.place().run(|| {
            let mut streams = Vec::new();
            for number in 0..1000u32 {
                let [.., high, low] = number.to_be_bytes();
                let target = SocketAddr::from(([10, 99, high, low], 80));
                let mut stream = Client::to(target).open()?;
                let dialled = stream.greeting()?;
                if dialled.arrival.original() != Some(target) {
                    return Ok::<_, Errno>(number);
                }
                streams.push(stream);
            }
            Ok(1000)
        })??;
        assert_eq!(held, 1000);
        // One port that the application has bound serves two destinations.
        let both = pod.place().run(|| {
            let source = SocketAddr::from(([0, 0, 0, 0], 5555));
            let one = Client::to(SocketAddr::from(([10, 99, 0, 1], 80))).from(source).open()?;
            let other = Client::to(SocketAddr::from(([10, 99, 0, 2], 80))).from(source).open()?.greeting()?;
            drop(one);
            Ok::<_, Errno>(other.arrival.who)
        })??;
        assert_eq!(both, "sidecar");
    }
    Ok(())
}

const LIST: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

fn reserved(pod: &Pod) -> Result<String, Failure> {
    Ok(pod.town().pod.run(|| std::fs::read_to_string(LIST))??.trim().to_owned())
}

#[test]
fn no_connection_takes_the_port_of_a_sidecar() -> Tested {
    let (pod, sidecar, _far) = pod(&SIDECAR)?;
    drop(sidecar);
    pod.town().pod.set("net/ipv4/ip_local_port_range", "15000 15002")?;
    for (target, _) in targets()? {
        // Nobody listens; a socket that had the port itself would hear what it says.
        for client in [Client::to(target), Client::to(target).nonblocking()] {
            for _ in 0..20 {
                assert_eq!(dial(&pod, &client)?, Err(Errno::ECONNREFUSED), "{client:?}");
            }
        }
        // Connections that go straight take all that there is.
        let straight = SocketAddr::new(target.ip(), 81);
        let streams = pod.place().run(|| {
            let streams: Vec<_> = std::iter::from_fn(|| Client::to(straight).open().ok()).take(10).collect();
            let listens = std::net::TcpListener::bind("[::]:15001").map(drop).map_err(Errno::from);
            (streams.len(), listens)
        })?;
        assert!(matches!(streams, (1 | 2, Ok(()))), "{streams:?}");
    }
    Ok(())
}

#[test]
fn the_list_of_reserved_ports_keeps_what_others_put_there() -> Tested {
    let pod = Pod::new(super::WAY)?;
    pod.town().pod.set("net/ipv4/ip_local_reserved_ports", "9000,15002")?;
    pod.apply("redirect outbound -> 15001\nredirect outbound tcp 80 -> 15002")?;
    pod.attach()?;
    assert_eq!(reserved(&pod)?, "9000,15001-15002");
    pod.apply("redirect outbound -> 4140")?;
    assert_eq!(reserved(&pod)?, "4140,9000,15002");
    pod.town().pod.set("net/ipv4/ip_local_reserved_ports", "9000")?;
    let drift = || Ok::<_, Failure>(pod.ask(&["status"])?["drift"].clone());
    let text = "connections of the pod `cart-1` may take ports that its sidecars need: 4140";
    assert_eq!(drift()?, json!([{ "code": "pod-ports-not-reserved", "text": text }]));
    pod.ask(&["apply", "--repair", &pod.policy("redirect outbound -> 4140")?.display().to_string()])?;
    assert_eq!((drift()?, reserved(&pod)?.as_str()), (json!([]), "4140,9000"));
    pod.detach()?;
    assert_eq!(reserved(&pod)?, "9000");
    pod.attach()?;
    assert_eq!(reserved(&pod)?, "4140,9000");
    pod.ask(&["detach", "--all"])?;
    assert_eq!(reserved(&pod)?, "9000");
    Ok(())
}

/// Greeted by the far server through a sidecar, from the pod's own address.
fn carried(pod: &Pod, clients: &[Client]) -> Tested {
    for client in clients {
        let dialled = dial(pod, client)?.map_err(|error| format!("{client:?}: {error}"))?;
        let target = canonical(dialled.peer);
        let own: IpAddr = if target.is_ipv4() { "10.42.0.2".parse()? } else { "fd42::2".parse()? };
        assert_eq!(dialled.arrival.who, "far", "{client:?}");
        assert_eq!(canonical(dialled.arrival.local), target, "{client:?}");
        assert_eq!(dialled.local.ip().to_canonical(), own, "{client:?}");
        assert_ne!(dialled.arrival.peer.port(), dialled.local.port(), "{client:?} went straight");
    }
    Ok(())
}

#[test]
fn real_sidecars_on_loopback_carry_what_is_spread() -> Tested {
    let pod = Pod::new(super::WAY)?;
    let _far = Server::start(&pod.town().far, "far", &addresses(&["0.0.0.0:80", "[::]:80"])?)?;
    let [v4, v6] = FAR.map(address);
    let (v4, v6) = (v4?, v6?);
    let both = [Client::to(v4), Client::to(v4).mapped(), Client::to(v6)];
    let only_v4 = [Client::to(v4), Client::to(v4).mapped()];

    pod.apply("redirect outbound -> 15101\nredirect outbound tcp to ::/0 -> 15102 transparent")?;
    pod.attach()?;
    let haproxy = HaProxy::start(&pod.sidecar_place(), &addresses(&["127.0.0.1:15101", "[::1]:15102"])?)?;
    carried(&pod, &both)?;
    drop(haproxy);

    let redsocks = RedSocks::start(&pod.sidecar_place(), address("127.0.0.1:15101")?)?;
    carried(&pod, &only_v4)?;
    drop(redsocks);

    if long_runs_are_wanted() {
        let envoy = Envoy::start(&pod.sidecar_place(), &addresses(&["127.0.0.1:15101"])?)?;
        carried(&pod, &only_v4)?;
        drop(envoy);
    }
    pod.apply("redirect outbound -> 15103 transparent")?;
    let _nginx = NginxSidecar::start(&pod.sidecar_place(), 15103)?;
    carried(&pod, &both)
}
