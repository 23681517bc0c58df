//! Containers inside a pod: the pod translates their addresses, and what is theirs passes.

use std::net::SocketAddr;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Failure, Netns, Server, Tested, tool, veth};

use crate::fixtures::stage::address;
use crate::fixtures::town::{Pod, Reached, addresses, reach};

/// A namespace behind the pod, which gives it a way out and publishes a port of it.
fn inner(pod: &Pod) -> Result<Netns, Failure> {
    let (inner, outer) = (Netns::new()?, &pod.town().pod);
    outer.forward()?;
    veth((&inner, "eth0", &["10.50.0.2/24"]), (outer, "inner", &["10.50.0.1/24"]))?;
    inner.ip("route add default via 10.50.0.1")?;
    let rules = "table ip t {
        chain out { type nat hook postrouting priority 100; oifname eth0 ip saddr 10.50.0.0/24 masquerade; }
        chain in { type nat hook prerouting priority -100; iifname eth0 tcp dport 7000 dnat to 10.50.0.2:80; }
    }";
    let file = pod.ground().write("rules.nft", rules)?.display().to_string();
    outer.run(|| tool("nft", &["-f", &file]))??;
    Ok(inner)
}

#[test]
fn a_container_inside_a_pod_gets_its_answers_and_is_reached_at_its_published_port() -> Tested {
    let pod = Pod::new(super::WAY)?;
    pod.apply("redirect inbound -> 15003")?;
    let inner = inner(&pod)?;
    pod.attach()?;
    let _servers = pod.servers()?;
    let town = pod.town();
    let listen: Vec<SocketAddr> = addresses(&["10.44.0.2:9999"])?;
    let _server = Server::start(&town.far, "far", &listen)?;
    let _published = Server::start(&inner, "published", &addresses(&["10.50.0.2:80"])?)?;
    let target = address("10.44.0.2:9999")?;
    let dialled = inner.run(|| Client::to(target).dial())??;
    assert_eq!(dialled.arrival.who, "far");
    assert_eq!(dialled.arrival.peer.ip(), address("10.42.0.2:0")?.ip(), "it was not translated");
    let mut stream = inner.run(|| Client::to(target).open())??;
    stream.greeting()?;
    let line = "x".repeat(100_000);
    assert_eq!(stream.exchange(&line)?, line);
    let published = address("10.42.0.2:7000")?;
    let dialled = town.far.run(|| Client::to(published).dial())??;
    assert_eq!(dialled.arrival.who, "published");
    // What is the pod's own goes to its sidecar.
    assert_eq!(reach(&town.far, "10.42.0.2:8080")?, Reached::Redirected("sidecar".into()));
    Ok(())
}
