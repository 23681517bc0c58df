//! A sidecar that keeps its client's address: what it opens does not come to it once more.

use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::proxy::HaProxy;
use mesh_testbed::{Client, Failure, Place, ServerTask, Tested, storage, until};

use crate::fixtures::stage::address;
use crate::fixtures::town::{APPLICATION, Pod, Reached, SIDECAR, addresses, reached};

/// The group that the policy exempts: who takes a foreign address is root.
const SIDECAR_GID: u32 = 1501;
/// The user of the application, by which its answers are told from those of the sidecar.
const APPLICATION_UID: u32 = 1600;

/// A pod where answers of the application to addresses of others come back to who took those.
fn pod() -> Result<Pod, Failure> {
    let pod = Pod::new(super::WAY)?;
    for (family, all) in [("-4", "0.0.0.0/0"), ("-6", "::/0")] {
        for command in [
            format!(
                "rule add uidrange {APPLICATION_UID}-{APPLICATION_UID} ipproto tcp sport 8080 lookup 100"
            ),
            format!("route add local {all} dev lo table 100"),
        ] {
            let words = ["-n", pod.town().pod.name(), family].into_iter().chain(command.split(' '));
            mesh_testbed::tool("ip", &words.collect::<Vec<_>>())?;
        }
    }
    let policy = format!(
        "exempt gid {SIDECAR_GID}\nmesh shop {{\nredirect inbound -> 15003\nworkload cart {{ label app = cart }}\n}}\n"
    );
    let policy = pod.ground().write("policy.mesh", policy)?;
    pod.ask(&["apply", &policy.display().to_string()])?;
    pod.attach()?;
    Ok(pod)
}

fn sidecar_place(pod: &Pod) -> Place {
    pod.place().gid(SIDECAR_GID)
}

fn application(pod: &Pod) -> Result<ServerTask, Failure> {
    let place = pod.place().uid(APPLICATION_UID);
    Ok(ServerTask::start(&place, "application", &addresses(&APPLICATION[..2])?)?)
}

#[test]
fn what_an_exempt_process_opens_from_its_clients_address_reaches_the_application() -> Tested {
    let pod = pod()?;
    let _application = application(&pod)?;
    let _sidecar = ServerTask::start(&sidecar_place(&pod), "sidecar", &addresses(&SIDECAR)?)?;
    for (source, targets) in [
        ("10.44.0.2:0", ["10.42.0.2:8080", "127.0.0.1:8080"]),
        ("[fd44::2]:0", ["[fd42::2]:8080", "[::1]:8080"]),
    ] {
        for target in targets {
            let (source, target) = (address(source)?, address(target)?);
            let client = Client::to(target).transparent().from(source);
            let by_sidecar = sidecar_place(&pod).run(|| client.dial())?;
            assert_eq!(reached(by_sidecar, target), Reached::Straight("application".into()), "{target}");
        }
    }
    let entries = || storage::entries(&pod.pin("exempt_flows"));
    until(Duration::from_secs(20), || entries().is_ok_and(|entries| entries == 0));
    assert_eq!(entries()?, 0, "notes about connections that have ended");
    Ok(())
}

#[test]
fn haproxy_that_keeps_the_clients_address_carries_connections_to_the_application() -> Tested {
    let pod = pod()?;
    let _application = application(&pod)?;
    let proxy = HaProxy::keeping_the_source(&sidecar_place(&pod), &addresses(&SIDECAR)?)?;
    let targets = [("10.42.0.2:8080", "10.44.0.2"), ("[fd42::2]:8080", "fd44::2")];
    for (target, source) in targets {
        let target = address(target)?;
        let dialled = pod.town().far.run(|| Client::to(target).dial())??;
        let (arrival, client) = (&dialled.arrival, dialled.local);
        assert_eq!((arrival.who.as_str(), arrival.local), ("application", target));
        assert_eq!(arrival.peer.ip(), source.parse::<std::net::IpAddr>()?);
        assert_ne!(arrival.peer.port(), client.port(), "it did not come by way of the proxy");
    }
    let carried = || proxy.destinations().is_ok_and(|all| all.len() == targets.len());
    assert!(until(Duration::from_secs(20), carried), "{:?}", proxy.destinations());
    Ok(())
}
