//! The testbed on the real kernel, without meshc: what its parts promise to the tests that stand on them.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use mesh_testbed::census::{Census, Kind, Object};
use mesh_testbed::kernel_test;
use mesh_testbed::proxy::{HaProxy, Nginx};
use mesh_testbed::{
    Cgroup, Client, Errno, Failure, Ground, Manner, Netns, Pair, Place, Server, ServerTask, Stream, Tested,
    UdpServer, ask, storage, tool, until, veth,
};

/// An address that the test wrote down itself.
fn address(text: &str) -> Result<SocketAddr, Failure> {
    text.parse().map_err(|error| format!("{text}: {error}").into())
}

#[kernel_test]
fn clients_of_all_kinds_reach_a_server_and_both_sides_tell_what_they_saw() -> Tested {
    let Pair { client, server } = Pair::new()?;
    let _server = Server::start(&server, "app", &[address("0.0.0.0:80")?, address("[::]:80")?])?;
    let (v4, v6) = (address("10.0.3.9:80")?, address("[fd10::9]:80")?);
    let source = address("192.168.7.2:0")?;
    let clients = [
        (Client::to(v4), "10.0.3.9:80"),
        (Client::to(v4).nonblocking(), "10.0.3.9:80"),
        (Client::to(v4).from(source), "10.0.3.9:80"),
        (Client::to(v4).through("eth0"), "10.0.3.9:80"),
        (Client::to(v4).mapped(), "[::ffff:10.0.3.9]:80"),
        (Client::to(v6), "[fd10::9]:80"),
    ];
    for (dialler, peer) in clients {
        let dialled = client.run(|| dialler.dial())??;
        assert_eq!(dialled.peer, address(peer)?, "{dialler:?}");
        assert_eq!(dialled.arrival.who, "app");
        assert_eq!(dialled.arrival.local.port(), 80);
        assert_eq!(dialled.arrival.original(), None, "nobody redirected {dialler:?}");
        assert_eq!(dialled.arrival.peer.port(), dialled.local.port());
    }
    Ok(())
}

#[kernel_test]
fn connections_that_are_refused_or_lead_nowhere_say_so() -> Tested {
    let Pair { client, server: _server } = Pair::new()?;
    let nobody = Client::to(address("10.0.3.9:81")?);
    assert_eq!(client.run(|| nobody.dial())?, Err(Errno::ECONNREFUSED));
    let lonely = Netns::new()?;
    assert_eq!(lonely.run(|| nobody.dial())?, Err(Errno::ENETUNREACH));
    Ok(())
}

#[kernel_test]
fn a_connection_stays_open_and_echoes() -> Tested {
    let Pair { client, server } = Pair::new()?;
    let _server = Server::start(&server, "app", &[address("0.0.0.0:80")?])?;
    let dialler = Client::to(address("10.1.1.1:80")?);
    let mut stream: Stream = client.run(|| dialler.open())??;
    stream.greeting()?;
    assert_eq!(stream.exchange("hello")?, "hello");
    stream.socket().shutdown(std::net::Shutdown::Write)?;
    assert_eq!(stream.rest()?, b"");
    Ok(())
}

#[kernel_test]
fn datagrams_are_answered_to_connected_and_unconnected_sockets() -> Tested {
    let Pair { client, server } = Pair::new()?;
    let listen = [address("192.168.7.1:53")?, address("[fd07::1]:53")?];
    let _server = UdpServer::start(&server, "dns", &listen)?;
    for target in listen {
        for manner in [Manner::Connected, Manner::Unconnected] {
            let answer = client.run(|| ask(target, "who?", manner))??;
            assert_eq!((answer.who.as_str(), answer.payload.as_str()), ("dns", "who?"));
            assert_eq!(answer.from, Some(target));
            assert_eq!(answer.peer, (manner == Manner::Connected).then_some(target));
        }
    }
    Ok(())
}

#[kernel_test]
fn a_router_forwards_between_two_namespaces() -> Tested {
    let (client, router, server) = (Netns::new()?, Netns::new()?, Netns::new()?);
    veth(
        (&client, "eth0", &["10.1.0.2/24", "fd01::2/64"]),
        (&router, "one", &["10.1.0.1/24", "fd01::1/64"]),
    )?;
    veth(
        (&server, "eth0", &["10.2.0.2/24", "fd02::2/64"]),
        (&router, "two", &["10.2.0.1/24", "fd02::1/64"]),
    )?;
    client.ip("route add default via 10.1.0.1\nroute add default via fd01::1")?;
    server.ip("route add default via 10.2.0.1\nroute add default via fd02::1")?;
    router.forward()?;
    let listen = [address("10.2.0.2:80")?, address("[fd02::2]:80")?];
    let _server = Server::start(&server, "app", &listen)?;
    for target in listen {
        let dialled = client.run(|| Client::to(target).dial())??;
        assert_eq!(dialled.arrival.peer.ip(), dialled.local.ip(), "the router kept the source");
    }
    Ok(())
}

#[kernel_test]
fn a_task_lives_in_its_cgroup_its_namespace_and_its_user() -> Tested {
    let (cgroup, netns) = (Cgroup::new()?, Netns::new()?);
    let place = Place::here().cgroup(&cgroup).netns(&netns).uid(1500).gid(1501);
    let (of_cgroup, status, interfaces) = place.run(|| {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        (read("/proc/self/cgroup"), read("/proc/self/status"), read("/proc/self/net/dev"))
    })?;
    assert!(of_cgroup.lines().any(|line| line == format!("0::{}", cgroup.path_within())), "{of_cgroup}");
    assert!(status.contains("Uid:\t1500\t1500\t1500\t1500"), "{status}");
    assert!(status.contains("Gid:\t1501\t1501\t1501\t1501"), "{status}");
    assert_eq!(interfaces.lines().count(), 3, "two lines of heading and lo: {interfaces}");
    // The test itself has not moved.
    assert!(!std::fs::read_to_string("/proc/self/cgroup")?.contains(&cgroup.path_within()));
    Ok(())
}

/// Its path in the hierarchy, without the error that the tests here do not expect.
trait Within {
    fn path_within(&self) -> String;
}

impl Within for Cgroup {
    fn path_within(&self) -> String {
        self.within().unwrap_or_default()
    }
}

#[test]
fn a_task_talks_with_its_test_and_its_panic_is_an_error() -> Tested {
    let mut task = Place::here().spawn(|line| {
        let heard = line.hear().unwrap_or_default();
        line.say(&format!("heard {heard}")).is_ok()
    })?;
    task.line().say("one")?;
    assert_eq!(task.line().hear()?, "heard one");
    assert!(task.join()?);
    let failed = Place::here().run(|| assert_eq!(1, 2, "sums are wrong"));
    assert!(failed.is_err_and(|error| error.to_string().contains("sums are wrong")));
    Ok(())
}

#[kernel_test]
fn a_dropped_cgroup_takes_its_members_and_children_along() -> Tested {
    let cgroup = Cgroup::new()?;
    let inner = cgroup.child("inner")?;
    let mut sleeper = Place::here().cgroup(&inner).command("sleep").arg("1000").spawn()?;
    assert_eq!(inner.processes()?, [sleeper.id()]);
    assert_ne!(inner.id()?, cgroup.id()?);
    let path = cgroup.path().to_owned();
    drop(cgroup);
    assert!(!path.exists());
    assert!(!sleeper.wait()?.success());
    Ok(())
}

#[kernel_test]
fn a_dropped_namespace_takes_its_processes_along_also_after_a_panic() -> Tested {
    let (say, hear) = std::sync::mpsc::channel();
    let panicked = std::thread::spawn(move || -> Tested {
        let netns = Netns::new()?;
        let sleeper = Place::here().netns(&netns).command("sleep").arg("1000").spawn()?;
        say.send((netns.path(), sleeper))?;
        std::panic::resume_unwind(Box::new("a test that fails"));
    });
    let (path, mut sleeper) = hear.recv()?;
    assert!(panicked.join().is_err());
    assert!(!path.exists());
    assert!(until(Duration::from_secs(20), || matches!(sleeper.try_wait(), Ok(Some(_)))));
    Ok(())
}

#[kernel_test]
fn a_server_as_a_task_serves_until_it_is_dropped() -> Tested {
    let Pair { client, server } = Pair::new()?;
    let there = address("192.168.7.1:8080")?;
    let place = Place::here().netns(&server).uid(1500);
    let task = ServerTask::start(&place, "app", &[there])?;
    let taken = ServerTask::start(&place, "app", &[there]).err().map(|error| error.to_string());
    assert!(taken.is_some_and(|words| words.contains("192.168.7.1:8080")));
    assert_eq!(client.run(|| Client::to(there).dial())??.arrival.who, "app");
    drop(task);
    assert_eq!(client.run(|| Client::to(there).dial())?, Err(Errno::ECONNREFUSED));
    Ok(())
}

#[kernel_test]
fn nginx_answers_both_families_and_logs_its_clients() -> Tested {
    let Pair { client, server } = Pair::new()?;
    let listen = [address("192.168.7.1:8080")?, address("[fd07::1]:8080")?];
    let nginx = Nginx::start(&Place::here().netns(&server), "bookstore", &listen)?;
    for target in listen {
        let url = format!("http://{target}/");
        let output = Place::here().netns(&client).command("curl").args(["-sS", "-m", "5", &url]).output()?;
        let answer = String::from_utf8(output.stdout)?;
        let own = if target.is_ipv4() { "192.168.7.2" } else { "fd07::2" };
        assert_eq!(answer, format!("bookstore answers {own}\n"));
    }
    assert!(until(Duration::from_secs(20), || nginx.requests().is_ok_and(|requests| requests.len() == 2)));
    assert_eq!(nginx.requests()?[0], "192.168.7.2 192.168.7.1:8080 GET / HTTP/1.1");
    Ok(())
}

#[kernel_test]
fn haproxy_as_a_sidecar_sends_on_to_the_original_destination() -> Tested {
    let Pair { client, server } = Pair::new()?;
    let _app = Server::start(&server, "app", &[address("0.0.0.0:80")?])?;
    // The part of meshc is taken by iptables here.
    let redirect =
        "-t nat -A OUTPUT -p tcp --dport 80 -m owner ! --uid-owner 1500 -j REDIRECT --to-ports 15001";
    client.run(|| tool("iptables", &redirect.split(' ').collect::<Vec<_>>()))??;
    let place = Place::here().netns(&client).uid(1500);
    let proxy = HaProxy::start(&place, &[address("0.0.0.0:15001")?])?;
    let dialler = Client::to(address("10.0.3.9:80")?);
    let dialled = client.run(|| dialler.dial())??;
    assert_eq!(dialled.arrival.who, "app");
    assert_ne!(dialled.arrival.peer.port(), dialled.local.port(), "the proxy made a connection of its own");
    until(Duration::from_secs(20), || proxy.destinations().is_ok_and(|list| !list.is_empty()));
    assert_eq!(proxy.destinations()?, [address("10.0.3.9:80")?]);
    Ok(())
}

#[kernel_test]
fn a_proxy_that_cannot_start_says_why() -> Tested {
    let netns = Netns::new()?;
    let failed = HaProxy::start(&Place::here().netns(&netns), &[address("192.0.2.1:15001")?]);
    let words = failed.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(words.contains("annot bind"), "{words}");
    Ok(())
}

#[kernel_test]
fn the_census_sees_a_map_come_and_go() -> Tested {
    let ground = Ground::alone()?;
    let before = Census::take()?;
    // Whoever else uses BPF on this machine may make and free objects meanwhile; this one is ours.
    let name = format!("c{}", std::process::id());
    let is_there = |objects: Vec<Object>| objects.iter().any(|object| object.name().as_ref() == Some(&name));
    let pin = ground.bpffs().join(&name);
    let made = Command::new("bpftool")
        .args(["map", "create"])
        .arg(&pin)
        .args(["type", "hash", "key", "4", "value", "4", "entries", "1", "name", &name])
        .status()?;
    assert!(made.success());
    assert!(is_there(before.added()?));
    assert!(Census::take()?.count(Kind::Map) > 0);
    std::fs::remove_file(pin)?;
    assert!(until(Duration::from_secs(20), || before.added().is_ok_and(|objects| !is_there(objects))));
    Ok(())
}

#[kernel_test]
fn a_long_test_gives_way_to_one_that_wants_the_kernel_alone() -> Tested {
    let ground = Ground::new()?;
    let mut other = Place::here().spawn(|line| {
        let ground = Ground::alone().map_err(|error| error.to_string());
        let _ = line.say("alone");
        ground.map(drop)
    })?;
    // It has the kernel before this test ends. Until others' tests give way too, that may take its time.
    while other.line().is_silent() {
        ground.give_way()?;
        std::thread::yield_now();
    }
    other.join()??;
    Ok(())
}

#[kernel_test]
fn entries_of_maps_are_counted() -> Tested {
    let ground = Ground::new()?;
    let pin = ground.bpffs().join("pairs").display().to_string();
    let shape = "type hash key 4 value 4 entries 8 name pairs";
    tool("bpftool", &[&["map", "create", &pin][..], &shape.split(' ').collect::<Vec<_>>()].concat())?;
    assert_eq!(storage::entries(pin.as_ref())?, 0);
    for key in ["1", "2", "3"] {
        let update =
            ["map", "update", "pinned", &pin, "key", key, "0", "0", "0", "value", "0", "0", "0", "0"];
        tool("bpftool", &update)?;
    }
    assert_eq!(storage::entries(pin.as_ref())?, 3);
    assert!(storage::sockets_with_storage(pin.as_ref()).is_err(), "it is no storage of sockets");
    Ok(())
}
