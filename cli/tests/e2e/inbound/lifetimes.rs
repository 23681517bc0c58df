//! Inbound connections over time: half-close, resets, ports used again, restarts, and addresses of pods that are gone.
//!
//! Redirectors that rewrite packets and keep a table of flows fail at these; each failure is a test here.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::proxy::{HaProxy, NginxSidecar};
use mesh_testbed::{
    Client, Errno, Failure, Line, Netns, ServerTask, Stream, Task, Tested, storage, until, veth,
};
use socket2::{SockRef, TcpKeepalive};

use crate::fixtures::stage::address;
use crate::fixtures::town::{APPLICATION, POD, Pod, Reached, SIDECAR, addresses, reach, reached};

const REDIRECT: &str = "redirect inbound -> 15003";

fn sidecar() -> Reached {
    Reached::Redirected("sidecar".into())
}

/// Opens a connection from a namespace and hears who took it.
fn open(from: &Netns, client: &Client, who: &str) -> Result<Stream, Failure> {
    let mut stream = from.run(|| client.open())??;
    assert_eq!(stream.greeting()?.arrival.who, who);
    Ok(stream)
}

/// Opens a connection from a port as soon as the client's own end of the last one has gone: that waits until its
/// end is acknowledged.
fn open_again(from: &Netns, client: &Client) -> Result<Stream, Failure> {
    let mut opened = Err(Errno::EADDRNOTAVAIL);
    let mut open = || -> Result<bool, Failure> {
        opened = from.run(|| client.open())?;
        Ok(!matches!(opened, Err(Errno::EADDRNOTAVAIL)))
    };
    until(Duration::from_secs(20), || open().unwrap_or(true));
    Ok(opened?)
}

/// A sidecar that closes its half at once and then hears what the client sends; it tells how much that was.
fn ends_first(line: &mut Line) -> Result<usize, String> {
    let serve = |line: &mut Line| -> std::io::Result<usize> {
        let listener = TcpListener::bind("127.0.0.1:15003")?;
        line.say("ready")?;
        let (mut stream, _) = listener.accept()?;
        stream.write_all(b"bye\n")?;
        stream.shutdown(Shutdown::Write)?;
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard)?;
        Ok(heard.len())
    };
    serve(line).map_err(|error| error.to_string())
}

/// A sidecar that closes each connection at once.
fn closes_first(line: &mut Line) -> Result<(), String> {
    let serve = |line: &mut Line| -> std::io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:15003")?;
        line.say("ready")?;
        for stream in listener.incoming() {
            stream?.write_all(b"bye\n")?;
        }
        Ok(())
    };
    serve(line).map_err(|error| error.to_string())
}

#[test]
fn a_connection_lives_on_when_either_end_closes_its_half() -> Tested {
    let pod = Pod::ruled(super::WAY, REDIRECT)?;
    let far = &pod.town().far;
    let mut server: Task<Result<usize, String>> = pod.sidecar_place().spawn(ends_first)?;
    server.line().hear()?;
    let mut stream = far.run(|| Client::to(([10, 42, 0, 2], 8080).into()).open())??;
    assert_eq!(stream.rest()?, b"bye\n");
    // Much more than fits any buffer, after the server's end.
    let much = vec![b'x'; 3_000_000];
    stream.socket().write_all(&much)?;
    stream.socket().shutdown(Shutdown::Write)?;
    assert_eq!(server.join()?, Ok(much.len()));

    let _servers = pod.servers()?;
    let mut stream = open(far, &Client::to(address("10.42.0.2:8080")?), "sidecar")?;
    assert_eq!(stream.exchange("before")?, "before");
    stream.socket().write_all(b"after\n")?;
    stream.socket().shutdown(Shutdown::Write)?;
    assert_eq!(stream.rest()?, b"after\n");
    Ok(())
}

#[test]
fn an_idle_connection_answers_and_nothing_but_its_sockets_remembers_it() -> Tested {
    let pod = Pod::ruled(super::WAY, REDIRECT)?;
    let _servers = pod.servers()?;
    let far = &pod.town().far;
    let mut streams = [
        open(far, &Client::to(address("10.42.0.2:8080")?), "sidecar")?,
        open(far, &Client::to(address("[fd42::2]:8080")?), "sidecar")?,
    ];
    for map in ["handover", "exempt_flows", "pairs"] {
        assert_eq!(storage::entries(&pod.pin(map))?, 0, "{map}");
    }
    let second = Duration::from_secs(1);
    for stream in &streams {
        let often = TcpKeepalive::new().with_time(second).with_interval(second).with_retries(1);
        SockRef::from(stream.socket()).set_tcp_keepalive(&often)?;
    }
    // Each is asked whether it is still there, and would end where nobody answers.
    let asked = || far.counter("netstat", "TcpExt", "TCPKeepAlive");
    assert!(until(Duration::from_secs(20), || asked().is_ok_and(|asked| asked >= 4)), "{:?}", asked());
    for stream in &mut streams {
        assert_eq!(stream.exchange("alive")?, "alive");
    }
    Ok(())
}

#[test]
fn one_source_port_reaches_two_ports_of_a_pod_at_once() -> Tested {
    let pod = Pod::ruled(super::WAY, REDIRECT)?;
    let _servers = pod.servers()?;
    let far = &pod.town().far;
    for (source, one, other) in [
        ("10.44.0.2:40000", "10.42.0.2:8080", "10.42.0.2:8081"),
        ("[fd44::2]:40000", "[fd42::2]:8080", "[fd42::2]:8081"),
    ] {
        let client = |target| Ok::<_, Failure>(Client::to(address(target)?).from(address(source)?));
        let mut one = open(far, &client(one)?, "sidecar")?;
        let mut other = open(far, &client(other)?, "sidecar")?;
        for line in ["a", "b", "c"] {
            assert_eq!(
                (one.exchange(line)?, other.exchange("other")?),
                (line.to_owned(), "other".to_owned())
            );
        }
    }
    Ok(())
}

#[test]
fn a_source_port_is_used_again_right_after_a_reset_and_after_a_close() -> Tested {
    let pod = Pod::ruled(super::WAY, REDIRECT)?;
    let servers = pod.servers()?;
    let far = &pod.town().far;
    let (source, target) = (address("10.44.0.2:40001")?, address("10.42.0.2:8080")?);
    let client = Client::to(target).from(source);
    for round in 0..5 {
        let mut stream = open_again(far, &client)?;
        assert_eq!(reached(stream.greeting(), target), sidecar(), "round {round}");
        assert_eq!(stream.exchange("still")?, "still");
        stream.abort()?;
    }
    drop(servers);
    let mut closes: Task<Result<(), String>> = pod.sidecar_place().spawn(closes_first)?;
    closes.line().hear()?;
    for round in 0..5 {
        // The end in the pod waits (TIME_WAIT), and gives way.
        let mut stream = open_again(far, &client)?;
        assert_eq!(stream.rest()?, b"bye\n", "round {round}");
    }
    Ok(())
}

#[test]
fn live_connections_outlast_every_command() -> Tested {
    let pod = Pod::ruled(super::WAY, REDIRECT)?;
    let _servers = pod.servers()?;
    let far = &pod.town().far;
    let mut streams = vec![
        open(far, &Client::to(address("10.42.0.2:8080")?), "sidecar")?,
        open(far, &Client::to(address("[fd42::2]:8080")?), "sidecar")?,
    ];
    let policy = pod.ground().dir().join("policy.mesh").display().to_string();
    pod.apply("deny inbound")?;
    assert_eq!(reach(far, "10.42.0.2:8080")?, Reached::Failed(Errno::ECONNREFUSED));
    let netns = pod.town().pod.path().display().to_string();
    for command in [
        vec!["pause"],
        vec!["resume"],
        vec!["apply", "--repair", &policy],
        vec!["detach", "--netns", &netns],
        vec!["detach", "--all"],
    ] {
        for stream in &mut streams {
            assert_eq!(stream.exchange("alive")?, "alive", "before {command:?}");
        }
        pod.ask(&command)?;
    }
    for stream in &mut streams {
        assert_eq!(stream.exchange("alive")?, "alive");
    }
    Ok(())
}

#[test]
fn an_application_restarts_while_connections_to_its_port_live_in_the_sidecar() -> Tested {
    let far_target = address("10.42.0.2:8080")?;
    for before_attach in [false, true] {
        let pod = Pod::new(super::WAY)?;
        pod.apply(REDIRECT)?;
        // A sidecar that does not set SO_REUSEADDR itself.
        let listen = addresses(&["127.0.0.1:15003"])?;
        let start = || ServerTask::strict(&pod.sidecar_place(), "sidecar", &listen);
        let early = if before_attach { Some(start()?) } else { None };
        pod.attach()?;
        let _late = if before_attach { None } else { Some(start()?) };
        let application = pod.serve("application", &APPLICATION)?;
        let mut stream = open(&pod.town().far, &Client::to(far_target), "sidecar")?;
        drop(application);
        let _again = pod.serve("application", &APPLICATION)?;
        assert_eq!(stream.exchange("alive")?, "alive");
        drop(early);
    }
    Ok(())
}

#[test]
fn listeners_that_share_a_port_get_their_shares() -> Tested {
    let pod = Pod::ruled(super::WAY, REDIRECT)?;
    let names = ["one", "two", "three", "four"];
    let listen = addresses(&SIDECAR)?;
    let share = |who: &&str| ServerTask::sharing(&pod.sidecar_place(), who, &listen);
    let mut sharing = names.iter().map(share).collect::<Result<Vec<_>, _>>()?;
    let shares = |connections: usize| -> Result<Vec<usize>, Failure> {
        let mut shares = vec![0; names.len()];
        for number in 0..connections {
            let target = if number % 2 == 0 { "10.42.0.2:8080" } else { "[fd42::2]:8080" };
            let Reached::Redirected(who) = reach(&pod.town().far, target)? else {
                return Err("a connection was not redirected".into());
            };
            for (share, name) in shares.iter_mut().zip(names) {
                *share += usize::from(who == name);
            }
        }
        Ok(shares)
    };
    let all = shares(80)?;
    assert!(all.iter().sum::<usize>() == 80 && all.iter().all(|share| *share >= 5), "{all:?}");
    // The first that listened ends, and the others take its share.
    drop(sharing.remove(0));
    let rest = shares(40)?;
    assert!(rest.iter().sum::<usize>() == 40 && rest.first() == Some(&0), "{rest:?}");
    Ok(())
}

#[test]
fn haproxy_with_threads_and_nginx_with_workers_carry_connections_to_the_application() -> Tested {
    let pod = Pod::ruled(super::WAY, REDIRECT)?;
    let _application = pod.serve("application", &APPLICATION)?;
    let carried = |connections: usize| -> Tested {
        for number in 0..connections {
            let target = address(if number % 2 == 0 { "10.42.0.2:8080" } else { "[fd42::2]:9090" })?;
            let mut stream = open(&pod.town().far, &Client::to(target), "application")?;
            assert_eq!(stream.exchange("through")?, "through");
        }
        Ok(())
    };
    let mut haproxy = HaProxy::with_threads(&pod.sidecar_place(), &addresses(&SIDECAR)?, 4)?;
    carried(24)?;
    let seen = || haproxy.destinations().map_or(0, |all| all.len());
    assert!(until(Duration::from_secs(20), || seen() >= 24), "HAProxy saw {} connections", seen());
    assert!(haproxy.destinations()?.iter().take(24).all(|to| [8080, 9090].contains(&to.port())));
    haproxy.process().stop();

    let nginx = NginxSidecar::sharing(&pod.sidecar_place(), 15003)?;
    carried(40)?;
    let shares = || nginx.shares().unwrap_or_default();
    assert!(until(Duration::from_secs(20), || shares().values().sum::<usize>() == 40), "{:?}", shares());
    assert_eq!(shares().len(), 2, "workers with a share: {:?}", shares());
    Ok(())
}

#[test]
fn a_reused_address_or_name_inherits_nothing_from_the_pod_that_is_gone() -> Tested {
    let pod = Pod::new(super::WAY)?;
    pod.apply("redirect inbound -> 15003\ndeny inbound tcp 9090")?;
    let host = &pod.town().host;
    let make = |number: usize| -> Result<Netns, Failure> {
        let netns = Netns::new()?;
        let end = format!("reused{number}");
        veth((&netns, "eth0", &["10.45.0.2/24"]), (host, &end, &["10.45.0.1/24"]))?;
        netns.ip("route add default via 10.45.0.1")?;
        Ok(netns)
    };
    let gone = make(0)?;
    pod.attach_as(&gone, &["10.45.0.2"])?;
    assert_eq!(reach(host, "10.45.0.2:9090")?, Reached::Failed(Errno::ECONNREFUSED));
    // Nobody detaches it.
    drop(gone);
    let links = || host.run(|| std::fs::read_to_string("/proc/thread-self/net/dev"));
    until(Duration::from_secs(10), || links().is_ok_and(|it| it.is_ok_and(|it| !it.contains("reused0"))));

    let next = make(1)?;
    let _application = mesh_testbed::Server::start(&next, "application", &addresses(&["0.0.0.0:9090"])?)?;
    assert_eq!(reach(host, "10.45.0.2:9090")?, Reached::Straight("application".into()));
    // The next command removes what is left of it.
    pod.apply(REDIRECT)?;
    let status = pod.ask(&["status"])?;
    assert_eq!(status["members_total"], 0, "{}", status["members"]);
    assert_eq!(std::fs::read_dir(pod.ground().bpffs().join("mesh/pods"))?.count(), 0);
    pod.attach_as(&next, &["10.45.0.2"])?;
    assert_eq!(reach(host, "10.45.0.2:9090")?, Reached::Failed(Errno::ECONNREFUSED), "no sidecar listens");
    assert_eq!(reach(host, &format!("{}:9090", POD[0]))?, Reached::Failed(Errno::ECONNREFUSED));
    Ok(())
}
