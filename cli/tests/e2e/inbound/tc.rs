//! The tests of inbound connections once more, decided by tc, with those of outbound ones to which the way makes a
//! difference, and what only that way could break.

use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Errno, Failure, Manner, Netns, Tested, ask, tool, veth};

use crate::fixtures::stage::address;
use crate::fixtures::town::{Pod, Reached, reach, reached};

const WAY: &str = "tc";

#[path = "../outbound/address_selection.rs"]
mod address_selection;
#[path = "decisions.rs"]
mod decisions;
#[path = "lifetimes.rs"]
mod lifetimes;
#[path = "listeners.rs"]
mod listeners;
#[path = "model.rs"]
mod model;
#[path = "multicast.rs"]
mod multicast;
#[path = "nested_containers.rs"]
mod nested_containers;
#[path = "raw_packets.rs"]
mod raw_packets;
#[path = "../outbound/source_address.rs"]
mod source_address;
#[path = "transparent_sidecar.rs"]
mod transparent_sidecar;

const SOL_IP: i32 = 0;
const IP_OPTIONS: i32 = 4;
const IP_MTU_DISCOVER: i32 = 10;
const SOL_IPV6: i32 = 41;
const IPV6_HOPOPTS: i32 = 54;
const IPV6_DSTOPTS: i32 = 59;

/// A pod whose inbound connections are redirected, but for those to port 9090, which are denied.
fn pod() -> Result<Pod, Failure> {
    let pod = Pod::new(WAY)?;
    pod.apply("redirect inbound -> 15003\ndeny inbound any 9090")?;
    pod.attach()?;
    Ok(pod)
}

fn sidecar() -> Reached {
    Reached::Redirected("sidecar".into())
}

fn refused() -> Reached {
    Reached::Failed(Errno::ECONNREFUSED)
}

fn timed_out() -> Reached {
    Reached::Failed(Errno::ETIMEDOUT)
}

/// What becomes of a connection whose packets all have this option, to a redirected and to a denied port.
fn with_option(
    from: &Netns,
    pod: &str,
    level: i32,
    option: i32,
    value: &[u8],
) -> Result<[Reached; 2], Failure> {
    let dial = |port: u16| -> Result<Reached, Failure> {
        let target = address(&format!("{pod}:{port}"))?;
        let client = Client::to(target).option(level, option, value);
        Ok(reached(from.run(|| client.dial())?, target))
    };
    Ok([dial(8080)?, dial(9090)?])
}

#[test]
fn ports_are_found_behind_ip_options_and_extension_headers() -> Tested {
    let pod = pod()?;
    let _servers = pod.servers()?;
    let host = &pod.town().host;
    // Seven times "no operation", and the end of the list.
    let options = with_option(host, "10.42.0.2", SOL_IP, IP_OPTIONS, &[1, 1, 1, 1, 1, 1, 1, 0])?;
    assert_eq!(options, [sidecar(), refused()]);
    // A header with eight bytes, six of them padding; one with 24, and an option that nobody knows.
    let short = [0, 0, 1, 4, 0, 0, 0, 0];
    let mut long = [0; 24];
    (long[1], long[2], long[3], long[22]) = (2, 0x1e, 18, 1);
    for option in [IPV6_HOPOPTS, IPV6_DSTOPTS] {
        for header in [&short[..], &long[..]] {
            let headers = with_option(host, "[fd42::2]", SOL_IPV6, option, header)?;
            assert_eq!(headers, [sidecar(), refused()], "option {option}, {} bytes", header.len());
        }
    }
    Ok(())
}

#[test]
fn fragments_of_a_connection_find_it() -> Tested {
    let pod = pod()?;
    let _servers = pod.servers()?;
    let town = pod.town();
    town.router.ip("link set near mtu 600")?;
    town.host.ip("link set eth0 mtu 600")?;
    let target = address("10.42.0.2:8080")?;
    // IP_PMTUDISC_DONT: routers may cut what is too long.
    let client = Client::to(target).option(SOL_IP, IP_MTU_DISCOVER, &0_i32.to_ne_bytes());
    let created = || town.router.counter("snmp", "Ip", "FragCreates");
    let before = created()?;
    let mut stream = town.far.run(|| client.open())??;
    assert_eq!(reached(stream.greeting(), target), sidecar());
    let line = "x".repeat(20_000);
    assert_eq!(stream.exchange(&line)?, line);
    assert!(created()? > before, "nothing was cut");
    Ok(())
}

#[test]
fn connections_without_state_and_checksums_of_either_kind_arrive() -> Tested {
    let pod = pod()?;
    let _servers = pod.servers()?;
    let town = pod.town();
    // Always: the listening socket keeps nothing of a half-open connection.
    town.pod.set("net/ipv4/tcp_syncookies", "2")?;
    for offload in ["on", "off"] {
        for (netns, device) in [(&town.host, "pod"), (&town.pod, "eth0"), (&town.far, "eth0")] {
            netns.run(|| tool("ethtool", &["-K", device, "tx", offload]))??;
        }
        for from in [&town.host, &town.far] {
            for target in ["10.42.0.2", "[fd42::2]"] {
                assert_eq!(reach(from, &format!("{target}:8080"))?, sidecar(), "{target}, offload {offload}");
                assert_eq!(reach(from, &format!("{target}:9090"))?, refused(), "{target}, offload {offload}");
                let denied = address(&format!("{target}:9090"))?;
                let answer = from.run(|| ask(denied, "who?", Manner::Connected))?;
                assert_eq!(answer, Err(Errno::ECONNREFUSED), "{target}, offload {offload}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_priority_tag_spares_nobody_and_a_vlan_that_the_pod_is_not_in_reaches_nobody() -> Tested {
    let (decided, lost) = ([sidecar(), refused()], [timed_out(), timed_out()]);
    for (tags, expected) in
        [(&[0][..], decided.clone()), (&[0, 0, 0], decided), (&[5], lost.clone()), (&[5, 0], lost)]
    {
        let pod = pod()?;
        let _servers = pod.servers()?;
        pod.town().host.tag("pod", tags)?;
        for ip in ["10.42.0.2", "[fd42::2]"] {
            for (port, expected) in [8080, 9090].into_iter().zip(&expected) {
                let target = address(&format!("{ip}:{port}"))?;
                let client = Client::to(target).patience(Duration::from_millis(300));
                let found = pod.town().far.run(|| reached(client.dial(), target))?;
                assert_eq!(found, *expected, "VLANs {tags:?}, {target}");
            }
        }
    }
    Ok(())
}

#[test]
fn an_interface_that_a_pod_gets_later_is_drift_until_it_is_repaired() -> Tested {
    let pod = pod()?;
    let _servers = pod.servers()?;
    let (town, pins) = (pod.town(), pod.ground().bpffs().join("mesh/pods"));
    let policy = pod.ground().dir().join("policy.mesh").display().to_string();
    let drift =
        || -> Result<usize, Failure> { Ok(pod.ask(&["status"])?["drift"].as_array().map_or(0, Vec::len)) };
    for (interface, at) in [("eth1", "pod1"), ("eth2", "pod2")] {
        veth((&town.pod, interface, &["10.46.0.2/24"]), (&town.host, at, &["10.46.0.1/24"]))?;
        assert_eq!(reach(&town.host, "10.46.0.2:9090")?, Reached::Straight("application".into()));
        assert_eq!(drift()?, 1, "{interface}");
        pod.ask(&["apply", "--repair", &policy])?;
        assert_eq!(reach(&town.host, "10.46.0.2:8080")?, sidecar(), "{interface}");
        assert_eq!(reach(&town.host, "10.46.0.2:9090")?, refused(), "{interface}");
        assert_eq!(reach(&town.far, "10.42.0.2:9090")?, refused());
        assert_eq!(drift()?, 0, "{interface}");
        // Loopback, eth0 and this one: what has gone makes room.
        assert_eq!(std::fs::read_dir(&pins)?.count(), 3, "{interface}");
        town.pod.ip(&format!("link del {interface}"))?;
        assert_eq!(drift()?, 0, "an interface that has gone is no drift");
    }
    pod.detach()?;
    assert_eq!(std::fs::read_dir(&pins)?.count(), 0);
    Ok(())
}

#[test]
fn rules_that_translate_addresses_are_drift_until_sk_lookup_decides_and_no_harm_to_who_is_attached_then()
-> Tested {
    let pod = pod()?;
    let _servers = pod.servers()?;
    let far = &pod.town().far;
    let policy = pod.ground().dir().join("policy.mesh").display().to_string();
    let drift =
        || -> Result<usize, Failure> { Ok(pod.ask(&["status"])?["drift"].as_array().map_or(0, Vec::len)) };
    let inside = |words: &str| -> Tested {
        let words: Vec<_> = words.split(' ').collect();
        let (program, arguments) = words.split_first().ok_or("no program")?;
        pod.town().pod.run(|| tool(program, arguments))??;
        Ok(())
    };
    // None of them matches anything; the kernel asks of every connection all the same.
    for (set, unset) in [
        (
            "iptables -t nat -A PREROUTING -s 203.0.113.9 -j DNAT --to-destination 203.0.113.10",
            "nft delete table ip nat",
        ),
        (
            "nft add table ip6 t; add chain ip6 t c { type nat hook prerouting priority -100; }; add rule ip6 t c ip6 saddr 2001:db8::9 dnat to 2001:db8::10",
            "nft delete table ip6 t",
        ),
        (
            "nft add table inet t; add chain inet t c { type nat hook postrouting priority 100; }; add rule inet t c ip saddr 203.0.113.9 masquerade",
            "nft delete table inet t",
        ),
    ] {
        assert_eq!((drift()?, reach(far, "10.42.0.2:8080")?), (0, sidecar()), "{set}");
        inside(set)?;
        assert_eq!(drift()?, 1, "{set}");
        pod.ask(&["apply", "--repair", &policy])?;
        assert_eq!(drift()?, 0, "{set}");
        let decided = || -> Tested {
            for ip in ["10.42.0.2", "[fd42::2]"] {
                assert_eq!(reach(far, &format!("{ip}:8080"))?, sidecar(), "{set}");
                assert_eq!(reach(far, &format!("{ip}:9090"))?, refused(), "{set}");
            }
            Ok(())
        };
        decided()?;
        // Who is attached while they are there needs no repair.
        pod.detach()?;
        pod.attach()?;
        decided()?;
        assert_eq!(drift()?, 0, "{set}");
        inside(unset)?;
        decided()?;
        pod.ask(&["apply", "--repair", &policy])?;
        decided()?;
    }
    Ok(())
}

#[test]
fn pods_change_from_one_way_to_the_other_and_the_choice_is_kept() -> Tested {
    let pod = pod()?;
    let _servers = pod.servers()?;
    let far = &pod.town().far;
    let ways = || -> Result<Vec<String>, Failure> {
        let status = pod.ask(&["status"])?;
        let names = status["programs"].as_array().into_iter().flatten();
        let names = names.filter_map(|it| it["name"].as_str().map(str::to_owned));
        let mut ways: Vec<_> = names.filter(|it| it == "mesh_inbound" || it == "mesh_arrival").collect();
        ways.dedup();
        Ok(ways)
    };
    let policy = pod.ground().dir().join("policy.mesh").display().to_string();
    for (way, program) in
        [("sk_lookup", "mesh_inbound"), ("tc", "mesh_arrival"), ("sk_lookup", "mesh_inbound")]
    {
        pod.ask(&["apply", "--inbound", way, &policy])?;
        assert_eq!(ways()?, [program], "{way}");
        assert_eq!(reach(far, "10.42.0.2:8080")?, sidecar(), "{way}");
        // Nobody says it again.
        let applied =
            pod.meshc().env_remove("MESHC_INBOUND").args(["apply", "--repair", &policy]).output()?;
        assert!(applied.status.success(), "{applied:?}");
        assert_eq!(ways()?, [program], "{way}");
    }
    Ok(())
}
