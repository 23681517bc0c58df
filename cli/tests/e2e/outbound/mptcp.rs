//! MPTCP sockets are decided like TCP's; what cannot be told about them is known.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Errno, Failure, Netns, Place, ServerTask, Tested, until};
use socket2::{Domain, Protocol, Socket, Type};

use crate::fixtures::stage::{Stage, address, as_member};

const EOPNOTSUPP: Errno = Errno(95);

#[test]
fn an_mptcp_client_is_redirected_excluded_and_denied_like_any_other() -> Tested {
    let stage = Stage::new()?;
    stage.apply_rules("redirect outbound -> 15001\nexclude outbound tcp 3306\ndeny outbound tcp 25")?;
    for host in ["10.0.3.9", "[fd10::9]"] {
        let target = address(&format!("{host}:80"))?;
        let dialled = as_member(&stage.cart(), || Client::to(target).multipath().dial())??;
        assert_eq!((dialled.arrival.who.as_str(), dialled.arrival.original()), ("sidecar", Some(target)));
        // The programs see the subflow, and `getpeername` asks the socket above it: the manual says so.
        assert_eq!(dialled.peer.port(), 15001);
        let excluded = address(&format!("{host}:3306"))?;
        let dialled = as_member(&stage.cart(), || Client::to(excluded).multipath().dial())??;
        assert_eq!((dialled.arrival.who.as_str(), dialled.peer), ("application", excluded));
        let denied = address(&format!("{host}:25"))?;
        assert_eq!(as_member(&stage.cart(), || Client::to(denied).multipath().dial())?, Err(Errno::EPERM));
    }
    Ok(())
}

#[test]
fn a_sidecar_that_listens_with_mptcp_is_answered_for_tcp_clients_and_told_that_it_is_not_for_others() -> Tested
{
    let stage = Stage::ruled("redirect outbound -> 15203")?;
    let listen = [address("127.0.0.1:15203")?, address("[::1]:15203")?];
    let _sidecar = ServerTask::multipath(&stage.beside(), "sidecar", &listen)?;
    for target in ["10.0.3.9:80", "[fd10::9]:80"] {
        let target = address(target)?;
        let arrival = as_member(&stage.cart(), || Client::to(target).dial())??.arrival;
        assert_eq!(arrival.original(), Some(target), "{arrival:?}");
        let arrival = as_member(&stage.cart(), || Client::to(target).multipath().dial())??.arrival;
        assert_eq!(
            (arrival.who.as_str(), arrival.original4, arrival.original6),
            ("sidecar", Err(EOPNOTSUPP), Err(EOPNOTSUPP))
        );
    }
    Ok(())
}

/// How long a second way is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many connections the namespace has of its own end at `ip`, as the kernel writes it in its tables.
fn ends_at(netns: &Netns, ip: &str) -> Result<usize, Failure> {
    let tables = netns.run(|| {
        ["tcp", "tcp6"]
            .map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default())
    })?;
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    // Established, by its number.
    let ends = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    Ok(ends
        .filter(|line| line.get(1).is_some_and(|end| end.starts_with(ip)) && line.get(3) == Some(&"01"))
        .count())
}

/// What the programs have counted so often.
fn counted(status: &serde_json::Value, name: &str) -> u64 {
    let all = status.get("counters").and_then(serde_json::Value::as_array).into_iter().flatten();
    all.filter(|it| it["name"] == name).filter_map(|it| it.get("value")?.as_u64()).sum()
}

/// A server at two addresses, of which it announces the second to whoever reaches the first: 10.0.3.9 and 10.0.3.10.
fn announcing(stage: &Stage) -> Result<ServerTask, Failure> {
    let (client, server) = (&stage.pair().client, &stage.pair().server);
    let listen = [address("10.0.3.9:7000")?, address("10.0.3.10:7000")?];
    let task = ServerTask::multipath(&Place::here().netns(server), "server", &listen)?;
    client.ip("mptcp limits set subflow 4 add_addr_accepted 4")?;
    // For a kernel that asks where the address is: it is one of the server's.
    server.ip("addr add 10.0.3.9/32 dev lo\naddr add 10.0.3.10/32 dev lo\nmptcp limits set subflow 4\n\
               mptcp endpoint add 10.0.3.10 signal")?;
    Ok(task)
}

#[test]
fn a_second_way_that_a_server_announces_is_decided_as_its_process_is() -> Tested {
    let stage = Stage::ruled("deny outbound to 10.0.3.10")?;
    let server = &stage.pair().server;
    let _server = announcing(&stage)?;
    let open = |place: &Place| -> Result<_, Failure> {
        let target = address("10.0.3.9:7000")?;
        let mut task = place.spawn(|line| -> Result<(), Errno> {
            let mut stream = Client::to(target).multipath().open()?;
            stream.greeting()?;
            stream.exchange("so that the connection is one of several ways")?;
            line.say("open")?;
            line.hear()?;
            Ok(())
        })?;
        task.line().hear()?;
        Ok(task)
    };
    // Whoever is no member gets it.
    let mut stranger = open(&stage.beside())?;
    assert!(until(PATIENCE, || ends_at(server, "0A03000A").is_ok_and(|count| count == 1)));
    stranger.line().say("end")?;
    stranger.join()??;
    assert!(until(PATIENCE, || ends_at(server, "0A03000A").is_ok_and(|count| count == 0)));
    // The kernel's threads open it, as root: nobody is exempt by that, and no rule about root takes part.
    let cart = stage.cart_cgroup().within()?;
    let deny = "mesh m {\ndeny outbound to 10.0.3.10";
    let users = [
        (stage.cart(), "exempt uid 0"),
        (stage.cart().uid(1000), "exclude outbound to 10.0.3.10 as uid 0"),
        (stage.cart().uid(1000), ""),
    ];
    for (place, next) in users {
        let before = counted(&stage.ask(&["status"])?, "denied");
        let mut member = open(&place)?;
        let denied =
            until(PATIENCE, || stage.ask(&["status"]).is_ok_and(|now| counted(&now, "denied") > before));
        assert_eq!((denied, ends_at(server, "0A03000A")?), (true, 0), "{place:?}");
        member.line().say("end")?;
        member.join()??;
        let policy = format!("{deny}\n{next}\nworkload cart {{ cgroup \"{cart}\" }}\n}}\n");
        stage.apply(&stage.ground().write("root.mesh", policy)?)?;
    }
    Ok(())
}

#[test]
fn a_second_way_of_a_socket_from_before_its_process_joined_is_decided() -> Tested {
    let stage = Stage::ruled("deny outbound to 10.0.3.10")?;
    let server = &stage.pair().server;
    let _server = announcing(&stage)?;
    let (target, cart) = (address("10.0.3.9:7000")?, stage.cart_cgroup().child("deeper")?);
    // Whether it joins before it connects, and a second way must not be opened.
    for joins in [false, true] {
        let before = counted(&stage.ask(&["status"])?, "denied");
        let mut task = stage.beside().spawn(|line| -> Result<(), Errno> {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP))?;
            if joins {
                fs::write(cart.path().join("cgroup.procs"), "0")?;
            }
            socket.connect(&target.into())?;
            let mut stream = BufReader::new(TcpStream::from(socket));
            let mut text = String::new();
            stream.read_line(&mut text)?;
            stream.get_mut().write_all(b"so that the connection is one of several ways\n")?;
            stream.read_line(&mut text)?;
            line.say("open")?;
            line.hear()?;
            Ok(())
        })?;
        task.line().hear()?;
        if joins {
            let denied =
                until(PATIENCE, || stage.ask(&["status"]).is_ok_and(|now| counted(&now, "denied") > before));
            assert_eq!((denied, ends_at(server, "0A03000A")?), (true, 0));
        } else {
            assert!(until(PATIENCE, || ends_at(server, "0A03000A").is_ok_and(|count| count == 1)));
        }
        task.line().say("end")?;
        task.join()??;
        assert!(until(PATIENCE, || ends_at(server, "0A03000A").is_ok_and(|count| count == 0)));
    }
    Ok(())
}
