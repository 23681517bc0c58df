//! Inbound connections of a pod reach its sidecar, its application or nobody, as the policy says.

use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{
    Client, Dialled, Errno, Failure, Manner, Netns, Server, ServerTask, Tested, Town, UdpClient, UdpServer,
    ask, storage, until,
};
use serde_json::{Value, json};

use crate::fixtures::observer::{Observer, parts};
use crate::fixtures::stage::address;
use crate::fixtures::town::{APPLICATION, POD, Pod, Reached, SIDECAR, addresses, reach, reached};

fn sidecar() -> Reached {
    Reached::Redirected("sidecar".into())
}

fn application() -> Reached {
    Reached::Straight("application".into())
}

fn refused() -> Reached {
    Reached::Failed(Errno::ECONNREFUSED)
}

fn counter(status: &serde_json::Value, name: &str) -> u64 {
    let counters = status["counters"].as_array().into_iter().flatten();
    counters.filter(|it| it["name"] == name).filter_map(|it| it["value"].as_u64()).sum()
}

/// A target on each of the pod's addresses.
fn at(port: u16) -> [String; 2] {
    let [v4, v6] = POD;
    [format!("{v4}:{port}"), format!("[{v6}]:{port}")]
}

#[test]
fn connections_from_everywhere_reach_the_sidecar_which_sees_who_and_where_to() -> Tested {
    let pod = Pod::new(super::WAY)?;
    pod.apply("redirect inbound -> 15003\nexclude inbound tcp 9090")?;
    pod.attach()?;
    let _servers = pod.servers()?;
    let town = pod.town();
    for from in [&town.host, &town.other, &town.far] {
        for target in at(8080) {
            assert_eq!(reach(from, &target)?, sidecar(), "{target}");
        }
        for target in at(9090) {
            assert_eq!(reach(from, &target)?, application(), "{target}");
        }
        // The sidecar decides what becomes of a port that nobody listens on.
        assert_eq!(reach(from, "10.42.0.2:7")?, sidecar());
        assert_eq!(reach(from, "10.42.0.2:15003")?, Reached::Failed(Errno::ECONNREFUSED), "on loopback only");
    }
    // A listener whose queue is full remembers nothing of a SYN; what comes back is decided alike.
    town.pod.set("net/ipv4/tcp_syncookies", "2")?;
    for target in at(8080) {
        assert_eq!(reach(&town.far, &target)?, sidecar(), "{target}");
    }
    pod.detach()?;
    assert_eq!(reach(&town.far, "10.42.0.2:8080")?, application());
    Ok(())
}

#[test]
fn from_rules_tell_sources_apart() -> Tested {
    let pod = Pod::new(super::WAY)?;
    pod.attach()?;
    let _servers = pod.servers()?;
    pod.apply(
        "redirect inbound -> 15003
         exclude inbound from 10.42.0.0/16, fd42:1::/64
         deny inbound tcp 9090 from 10.44.0.0/24, fd44::2",
    )?;
    let town = pod.town();
    let [v4, v6] = at(8080);
    assert_eq!(reach(&town.host, &v4)?, application());
    assert_eq!(reach(&town.host, &v6)?, sidecar());
    assert_eq!(reach(&town.other, &v4)?, application());
    assert_eq!(reach(&town.other, &v6)?, application());
    assert_eq!(reach(&town.far, &v4)?, sidecar());
    assert_eq!(reach(&town.far, &v6)?, sidecar());
    for target in at(9090) {
        assert_eq!(reach(&town.far, &target)?, refused());
    }
    let counted = counter(&pod.ask(&["status"])?, "denied");
    assert!(counted >= 2, "{counted} denials were counted");
    Ok(())
}

#[test]
fn a_missing_sidecar_refuses_or_passes_as_the_policy_says() -> Tested {
    let pod = Pod::new(super::WAY)?;
    pod.attach()?;
    let _application = pod.serve("application", &APPLICATION)?;
    let far = &pod.town().far;
    for (on, expected) in [("", refused()), ("on missing-sidecar pass", application())] {
        pod.apply(&format!("redirect inbound -> 15003\n{on}"))?;
        for target in at(8080) {
            assert_eq!(reach(far, &target)?, expected, "{on}");
        }
    }
    // A SYN that has to be sent again, since the machine was slow, is counted again.
    let counted = counter(&pod.ask(&["status"])?, "missing_sidecar");
    assert!(counted >= 4, "{counted} were counted");
    let _sidecar = pod.serve("sidecar", &SIDECAR)?;
    for target in at(8080) {
        assert_eq!(reach(far, &target)?, sidecar());
    }
    Ok(())
}

#[test]
fn what_the_pod_sends_to_itself_stays_direct() -> Tested {
    let pod = Pod::new(super::WAY)?;
    pod.apply("redirect inbound -> 15003\ndeny inbound tcp 9090")?;
    pod.attach()?;
    let _servers = pod.servers()?;
    for place in [pod.place(), pod.sidecar_place()] {
        for target in ["127.0.0.1:8080", "[::1]:8080", "10.42.0.2:8080", "[fd42::2]:9090"] {
            let target = address(target)?;
            let dialled = place.run(|| Client::to(target).dial())?;
            assert_eq!(reached(dialled, target), application(), "{target}");
        }
    }
    assert_eq!(reach(&pod.town().far, "10.42.0.2:8080")?, sidecar());
    Ok(())
}

#[test]
fn a_rule_for_the_pods_own_addresses_spares_the_sidecar() -> Tested {
    let pod = Pod::new(super::WAY)?;
    pod.apply("redirect inbound from 10.42.0.2, fd42::2, 127.0.0.0/8, ::1 -> 15003")?;
    pod.attach()?;
    let _servers = pod.servers()?;
    for target in ["10.42.0.2:8080", "[fd42::2]:8080", "127.0.0.1:8080", "[::1]:8080"] {
        let target = address(target)?;
        let by_application = pod.place().run(|| Client::to(target).dial())?;
        assert_eq!(reached(by_application, target), sidecar(), "{target}");
        let by_sidecar = pod.sidecar_place().run(|| Client::to(target).dial())?;
        assert_eq!(reached(by_sidecar, target), application(), "{target}");
    }
    let entries = || storage::entries(&pod.pin("exempt_flows"));
    until(Duration::from_secs(20), || entries().is_ok_and(|entries| entries == 0));
    assert_eq!(entries()?, 0, "notes about connections that have ended");
    Ok(())
}

#[test]
fn a_sidecar_is_found_whenever_it_began_to_listen_and_wherever_it_lives() -> Tested {
    let pod = Pod::new(super::WAY)?;
    pod.apply("redirect inbound -> 15003")?;
    let far = &pod.town().far;
    // No program saw this one begin to listen.
    let elsewhere = Server::start(&pod.town().pod, "elsewhere", &addresses(&SIDECAR)?)?;
    pod.attach()?;
    // It is not below the instance's cgroup, so nobody tells it where connections were going.
    let who = |target: &str| -> Result<String, Failure> {
        let target = address(target)?;
        Ok(far.run(|| Client::to(target).dial())??.arrival.who)
    };
    for target in at(8080) {
        assert_eq!(who(&target)?, "elsewhere");
    }
    drop(elsewhere);
    assert!(until(Duration::from_secs(20), || reach(far, "10.42.0.2:8080").is_ok_and(|it| it == refused())));
    let one = pod.serve("one", &["0.0.0.0:15003"])?;
    assert_eq!(reach(far, "10.42.0.2:8080")?, Reached::Redirected("one".into()));
    assert_eq!(reach(far, "[fd42::2]:8080")?, refused(), "it takes IPv4 only");
    drop(one);
    let _two = pod.serve("two", &SIDECAR)?;
    for target in at(8080) {
        assert_eq!(reach(far, &target)?, Reached::Redirected("two".into()));
    }
    Ok(())
}

#[test]
fn of_two_listeners_on_one_port_the_one_that_lives_takes_all() -> Tested {
    let pod = Pod::new(super::WAY)?;
    pod.apply("redirect inbound -> 15003")?;
    pod.attach()?;
    let far = &pod.town().far;
    for ends_first in [true, false] {
        let one = pod.serve("one", &["127.0.0.1:15003"])?;
        let two = pod.serve("two", &["127.0.0.2:15003"])?;
        assert_eq!(reach(far, "10.42.0.2:8080")?, Reached::Redirected("one".into()));
        let (ends, _lives, left) = if ends_first { (one, two, "two") } else { (two, one, "one") };
        drop(ends);
        assert_eq!(reach(far, "10.42.0.2:8080")?, Reached::Redirected(left.into()));
    }
    Ok(())
}

#[test]
fn datagrams_are_denied_and_never_redirected() -> Tested {
    let pod = Pod::new(super::WAY)?;
    pod.apply("redirect inbound -> 15003\ndeny inbound udp 53 from 10.44.0.0/24, fd44::/64")?;
    pod.attach()?;
    let listen = addresses(&["10.42.0.2:53", "[fd42::2]:53", "10.42.0.2:54"])?;
    let _server = UdpServer::start(&pod.town().pod, "resolver", &listen)?;
    let who = |from: &Netns, target: &str| -> Result<Result<String, Errno>, Failure> {
        let target = address(target)?;
        Ok(from.run(|| ask(target, "who?", Manner::Connected))?.map(|answer| answer.who))
    };
    for target in ["10.42.0.2:53", "[fd42::2]:53"] {
        assert_eq!(who(&pod.town().far, target)?, Err(Errno::ECONNREFUSED), "{target}");
        assert_eq!(who(&pod.town().other, target)?, Ok("resolver".into()), "{target}");
    }
    assert_eq!(who(&pod.town().far, "10.42.0.2:54")?, Ok("resolver".into()));
    Ok(())
}

#[test]
fn every_inbound_connection_is_told_with_its_rule_and_line() -> Tested {
    let pod = Pod::new(super::WAY)?;
    pod.apply("redirect inbound -> 15003\nexclude inbound tcp 9090\ndeny inbound any 53 from 10.44.0.0/24")?;
    pod.attach()?;
    let _servers = pod.servers()?;
    let observe =
        |log: &str, filter: &[&str]| Observer::of(pod.meshc(), &pod.ground().dir().join(log), filter);
    let observer = observe("all", &[])?;
    let of_one_source = observe("one", &["10.44.0.2 -> cart", "--verdict", "redirected"])?;
    let far = &pod.town().far;
    for (from, to, expected) in [
        ("10.44.0.2:4001", "10.42.0.2:8080", sidecar()),
        ("[fd44::2]:4002", "[fd42::2]:8080", sidecar()),
        ("10.44.0.2:4003", "10.42.0.2:9090", application()),
        ("10.44.0.2:4004", "10.42.0.2:53", refused()),
    ] {
        let (from, to) = (address(from)?, address(to)?);
        assert_eq!(far.run(|| reached(Client::to(to).from(from).dial(), to))?, expected, "{to}");
    }
    let (target, source) = (address("10.42.0.2:53")?, address("10.44.0.2:4005")?);
    far.run(|| UdpClient::new(Manner::Connected).from(source).open(target)?.send(target, "who?"))??;

    let lines = observer.wait(5)?;
    let keys = ["workload", "direction", "protocol", "source", "destination", "verdict", "port"];
    let told: Vec<_> = lines.iter().map(|line| parts(line, &keys)).collect();
    assert_eq!(
        json!(told),
        json!([
            ["cart", "inbound", "tcp", "10.44.0.2:4001", "10.42.0.2:8080", "redirected", 15003],
            ["cart", "inbound", "tcp", "[fd44::2]:4002", "[fd42::2]:8080", "redirected", 15003],
            ["cart", "inbound", "tcp", "10.44.0.2:4003", "10.42.0.2:9090", "excluded", null],
            ["cart", "inbound", "tcp", "10.44.0.2:4004", "10.42.0.2:53", "denied", null],
            ["cart", "inbound", "udp", "10.44.0.2:4005", "10.42.0.2:53", "denied", null],
        ])
    );
    for (line, rule) in lines.iter().zip([4, 4, 5, 6, 6]) {
        assert_eq!(line["rule"]["line"], rule, "{line}");
        assert_eq!(line["member"], "cart-1", "{line}");
        // Whoever sent it may be on another machine.
        assert_eq!(parts(line, &["pid", "uid", "command"]), vec![Value::Null; 3], "{line}");
    }
    let told = of_one_source.wait(1)?;
    assert_eq!(parts(&told[0], &keys), parts(&lines[0], &keys));
    Ok(())
}

#[test]
fn a_missing_program_is_drift_and_repaired() -> Tested {
    let pod = Pod::new(super::WAY)?;
    pod.apply("redirect inbound -> 15003")?;
    pod.attach()?;
    let _servers = pod.servers()?;
    let programs = |status: &serde_json::Value| -> Vec<String> {
        let all = status["programs"].as_array().into_iter().flatten();
        let inbound = all.filter(|it| it["name"] == "mesh_inbound" || it["name"] == "mesh_arrival");
        let mut places: Vec<_> =
            inbound.map(|it| it["attached_to"].as_str().unwrap_or("nowhere").to_owned()).collect();
        // By tc there is one for each interface.
        places.dedup();
        places
    };
    let path = pod.town().pod.path().display().to_string();
    let status = pod.ask(&["status"])?;
    assert_eq!((programs(&status), status["drift"].as_array().map(Vec::len)), (vec![path], Some(0)));

    let pins = pod.ground().bpffs().join("mesh/pods");
    for pin in std::fs::read_dir(&pins)? {
        std::fs::remove_file(pin?.path())?;
    }
    let far = &pod.town().far;
    assert!(
        until(Duration::from_secs(20), || reach(far, "10.42.0.2:8080").is_ok_and(|it| it == application()))
    );
    let status = pod.ask(&["status"])?;
    assert_eq!(programs(&status), Vec::<String>::new());
    assert_eq!(status["drift"].as_array().map(Vec::len), Some(1), "{}", status["drift"]);
    let policy = pod.ground().dir().join("policy.mesh").display().to_string();
    pod.ask(&["apply", "--repair", &policy])?;
    assert_eq!(reach(far, "10.42.0.2:8080")?, sidecar());
    pod.ask(&["pause"])?;
    assert_eq!(reach(far, "10.42.0.2:8080")?, application());
    pod.ask(&["resume"])?;
    assert_eq!(reach(far, "10.42.0.2:8080")?, sidecar());
    pod.ask(&["detach", "--all"])?;
    assert_eq!(reach(far, "10.42.0.2:8080")?, application());
    Ok(())
}

/// The sidecar's port for redirected connections, open to all, and for redirected datagrams.
const OUTBOUND: [&str; 2] = ["0.0.0.0:15001", "[::]:15001"];
const DATAGRAMS: [&str; 4] = ["127.0.0.1:15053", "[::1]:15053", "10.42.0.2:15053", "[fd42::2]:15053"];

const PROXIED: &str = "redirect outbound -> 15001
    redirect outbound udp 53 -> 15053
    redirect inbound -> 15003";

fn outbound() -> Reached {
    Reached::Straight("outbound".into())
}

/// What becomes of a datagram to the pod.
fn told(from: &Netns, target: &str) -> Result<Result<String, Errno>, Failure> {
    let target = address(target)?;
    Ok(from.run(|| ask(target, "who?", Manner::Connected))?.map(|answer| answer.who))
}

#[test]
fn a_port_that_only_outbound_redirects_lead_to_is_no_proxy_for_strangers() -> Tested {
    let pod = Pod::new(super::WAY)?;
    pod.attach()?;
    pod.apply(PROXIED)?;
    let _servers = pod.servers()?;
    let _outbound = ServerTask::start(&pod.sidecar_place(), "outbound", &addresses(&OUTBOUND)?)?;
    let _datagrams = UdpServer::start(&pod.town().pod, "outbound", &addresses(&DATAGRAMS)?)?;
    let Town { host, other, far, .. } = pod.town();
    for from in [host, other, far] {
        for target in at(15001) {
            assert_eq!(reach(from, &target)?, refused(), "{target}");
        }
        for target in at(15053) {
            assert_eq!(told(from, &target)?, Err(Errno::ECONNREFUSED), "{target}");
        }
        for target in at(8080) {
            assert_eq!(reach(from, &target)?, sidecar(), "{target}");
        }
    }
    let counted = counter(&pod.ask(&["status"])?, "denied");
    assert!(counted >= 12, "{counted} denials were counted");
    // A rule for that port alone opens it; one for all ports does not, whatever it says.
    pod.apply(&format!(
        "{PROXIED}
         exclude inbound any 15001, 15053 from 10.44.0.0/24, fd44::/64
         exclude inbound from 10.42.1.0/24
         always exclude inbound tcp 15000-15010 from fd42:1::/64"
    ))?;
    for (tcp, udp) in at(15001).into_iter().zip(at(15053)) {
        assert_eq!(reach(far, &tcp)?, outbound(), "{tcp}");
        assert_eq!(told(far, &udp)?, Ok("outbound".to_owned()), "{udp}");
        for from in [host, other] {
            assert_eq!(reach(from, &tcp)?, refused(), "{tcp}");
            assert_eq!(told(from, &udp)?, Err(Errno::ECONNREFUSED), "{udp}");
        }
    }
    // Any rule denies.
    pod.apply(&format!("{PROXIED}\nexclude inbound any 15001 from 10.44.0.0/24\nalways deny inbound"))?;
    assert_eq!(reach(far, "10.42.0.2:15001")?, refused());
    Ok(())
}

#[test]
fn the_pod_itself_reaches_the_ports_of_its_outbound_redirects() -> Tested {
    let pod = Pod::new(super::WAY)?;
    pod.attach()?;
    pod.apply(PROXIED)?;
    let _outbound = ServerTask::start(&pod.sidecar_place(), "outbound", &addresses(&OUTBOUND)?)?;
    let _datagrams = UdpServer::start(&pod.town().pod, "outbound", &addresses(&DATAGRAMS)?)?;
    pod.town().pod.ip("addr add fe80::7/64 dev eth0 nodad")?;
    for target in ["10.44.0.2:80", "[fd44::2]:80"] {
        let target = address(target)?;
        let seen = pod.place().run(|| Client::to(target).dial())?;
        assert_eq!(seen.map(|seen| (seen.peer, seen.arrival.original())), Ok((target, Some(target))));
    }
    for target in ["10.44.0.2:53", "[fd44::2]:53"] {
        let target = address(target)?;
        for manner in [Manner::Connected, Manner::Unconnected] {
            let answer = pod.place().run(|| ask(target, "who?", manner))?;
            let seen = answer.map(|answer| (answer.who, answer.from));
            assert_eq!(seen, Ok(("outbound".to_owned(), Some(target))), "{manner:?}");
        }
    }
    let link = pod.town().pod.interface("eth0")?;
    let own = format!("[fe80::7%{link}]:15001");
    for place in [pod.place(), pod.sidecar_place()] {
        for target in ["127.0.0.1:15001", "[::1]:15001", "10.42.0.2:15001", "[fd42::2]:15001", &own] {
            let target = address(target)?;
            let who = place.run(|| Client::to(target).dial())?.map(|dialled| dialled.arrival.who);
            assert_eq!(who, Ok("outbound".to_owned()), "{target}");
        }
        // A redirected connection may have the pod's address, or any other of its own.
        for (source, target) in [
            ("10.42.0.2:0", "127.0.0.1:15001"),
            ("[fd42::2]:0", "[::1]:15001"),
            ("127.0.0.1:0", "10.42.0.2:15001"),
        ] {
            let (source, target) = (address(source)?, address(target)?);
            let who =
                place.run(|| Client::to(target).from(source).dial())?.map(|dialled| dialled.arrival.who);
            assert_eq!(who, Ok("outbound".to_owned()), "{source} {target}");
        }
    }
    Ok(())
}

#[test]
fn a_link_local_source_is_reached_by_rules_that_name_it_alone() -> Tested {
    let pod = Pod::new(super::WAY)?;
    pod.attach()?;
    pod.apply(&format!("{PROXIED}\ndeny inbound tcp 9090"))?;
    let _servers = pod.servers()?;
    let _outbound = ServerTask::start(&pod.sidecar_place(), "outbound", &addresses(&OUTBOUND)?)?;
    let Town { host, pod: inside, .. } = pod.town();
    inside.ip("addr add fe80::7/64 dev eth0 nodad")?;
    host.ip("addr add fe80::8/64 dev pod nodad")?;
    let (ours, theirs) = (inside.interface("eth0")?, host.interface("pod")?);
    let dial = |port: u16| -> Result<Result<Dialled, Errno>, Failure> {
        let target = address(&format!("[fe80::7%{theirs}]:{port}"))?;
        let source = address(&format!("[fe80::8%{theirs}]:0"))?;
        Ok(host.run(|| Client::to(target).from(source).dial())?)
    };
    for port in [8080, 9090] {
        let seen = dial(port)?.map(|dialled| (dialled.arrival.original(), dialled.arrival.who));
        assert_eq!(seen, Ok((None, "application".to_owned())), "{port}");
    }
    // A stranger all the same.
    assert_eq!(dial(15001)?, Err(Errno::ECONNREFUSED));
    pod.apply(
        "redirect outbound -> 15001
         redirect inbound from fe80::/10 -> 15003
         deny inbound tcp 9090 from fe80::8",
    )?;
    // Where it was going, and by which link.
    let arrival = dial(8080)?.map(|dialled| dialled.arrival);
    let seen = arrival.map(|arrival| (arrival.original6, arrival.who));
    assert_eq!(seen, Ok((Ok(address(&format!("[fe80::7%{ours}]:8080"))?), "sidecar".to_owned())));
    assert_eq!(dial(9090)?, Err(Errno::ECONNREFUSED));
    Ok(())
}
