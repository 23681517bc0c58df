//! What pods' network namespaces decide about commands, on a machine in memory.

use std::net::IpAddr;
use std::path::Path;

use mesh_bpf::image::MapImage;
use mesh_bpf::program::Inbound;
use mesh_runtime::system::memory::Memory;
use mesh_runtime::system::{Files, Holds, Maps, Waits};
use mesh_runtime::{Apply, Attachment, Drift, Error, Instance, Options, Pod, Runtime};

use crate::common::{Policy, request};
use crate::steps::machine;

const NETNS: &str = "/var/netns";

fn runtime(memory: &Memory, instance: &Instance) -> Runtime<Memory> {
    let options = Options { lock_timeout: 50, command: "test".into() };
    Runtime::on(memory.clone(), instance.clone(), options).unwrap()
}

fn pod(name: &str) -> Pod {
    Pod {
        netns: NETNS.into(),
        name: name.into(),
        labels: [("app".into(), "cart".into())].into(),
        ..Pod::default()
    }
}

/// As a container runtime attaches it.
fn of_container(name: &str, container: &str) -> Pod {
    let attachment = Attachment {
        container: container.into(),
        network: "pods".into(),
        interface: "eth0".into(),
        ..Attachment::default()
    };
    Pod { addresses: vec![address("10.0.0.1")], attachment: Some(attachment), ..pod(name) }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn policy() -> Policy {
    Policy::new().label("app", "cart").redirect(80, 15001)
}

#[test]
fn the_hosts_namespace_is_no_pod() {
    let (memory, instance) = machine();
    let runtime = runtime(&memory, &instance);
    let host = Pod { netns: "/proc/thread-self/ns/net".into(), ..pod("cart-1") };
    let error = runtime.attach(&host).unwrap_err();
    assert!(matches!(&error, Error::HostNetwork(name) if name == "cart-1"), "{error}");
    runtime.attach(&Pod { force: true, ..host }).unwrap();
}

#[test]
fn a_namespace_in_which_somebody_lives_is_no_other_containers() {
    let (memory, instance) = machine();
    let runtime = runtime(&memory, &instance);
    runtime.apply(request(&policy().tables())).unwrap();
    runtime.attach(&of_container("cart-1", "one")).unwrap();
    memory.live_in(Path::new(NETNS), 1).unwrap();
    let error = runtime.attach(&of_container("cart-2", "two")).unwrap_err();
    assert!(matches!(error, Error::OtherPod { .. }), "{error}");
    memory.live_in(Path::new(NETNS), 0).unwrap();
    runtime.attach(&of_container("cart-2", "two")).unwrap();
    let pods = runtime.pods().unwrap();
    assert_eq!(pods.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["cart-2"]);
}

#[test]
fn a_pod_is_swept_when_its_namespace_is_gone_and_not_when_its_file_is() {
    let (memory, instance) = machine();
    let runtime = runtime(&memory, &instance);
    runtime.apply(request(&policy().tables())).unwrap();
    runtime.attach(&pod("cart-1")).unwrap();
    memory.rename(Path::new(NETNS), Path::new("/var/elsewhere"), false).unwrap();
    assert_eq!(runtime.sweep().unwrap(), Vec::<String>::new());
    memory.remove(Path::new("/var/elsewhere")).unwrap();
    assert_eq!(runtime.sweep().unwrap(), ["cart-1"]);
}

#[test]
fn an_address_that_a_pod_gets_is_drift_until_it_is_repaired() {
    let (memory, instance) = machine();
    let runtime = runtime(&memory, &instance);
    let tables = policy().tables();
    runtime.apply(request(&tables)).unwrap();
    memory.add_interface(Path::new(NETNS), 1, &[address("10.0.0.1")]).unwrap();
    runtime.attach(&pod("cart-1")).unwrap();
    assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
    memory.add_interface(Path::new(NETNS), 2, &[address("10.0.0.2")]).unwrap();
    let added = Drift::PodAddressAdded("cart-1".into(), address("10.0.0.2"));
    assert_eq!(runtime.status().unwrap().drift, [added]);
    runtime.apply(Apply { repair: true, ..request(&tables) }).unwrap();
    assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
}

#[test]
fn by_tc_an_interface_that_a_pod_gets_is_drift_until_it_is_repaired() {
    let (memory, instance) = machine();
    let instance = Instance { inbound: Inbound::Tc, ..instance };
    let runtime = runtime(&memory, &instance);
    let tables = policy().inbound().tables();
    runtime.apply(request(&tables)).unwrap();
    runtime.attach(&pod("cart-1")).unwrap();
    assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
    // It is found by whatever stands for it.
    let netns = Path::new("/var/elsewhere");
    memory.rename(Path::new(NETNS), netns, false).unwrap();
    memory.add_interface(netns, 7, &[]).unwrap();
    assert_eq!(runtime.status().unwrap().drift, [Drift::PodInterfaceMissed("cart-1".into())]);
    runtime.apply(Apply { repair: true, ..request(&tables) }).unwrap();
    assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
    memory.translate(netns).unwrap();
    assert_eq!(runtime.status().unwrap().drift, [Drift::PodTranslates("cart-1".into())]);
    runtime.apply(Apply { repair: true, ..request(&tables) }).unwrap();
    assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
}

/// Where nobody listens, without the members' names.
fn unheard(runtime: &Runtime<Memory>, image: &MapImage) -> Vec<(u16, Vec<String>)> {
    let unheard = runtime.unheard(image).unwrap();
    let elsewhere = |found: &[std::net::SocketAddr]| found.iter().map(ToString::to_string).collect();
    unheard.iter().map(|found| (found.port.port, elsewhere(&found.elsewhere))).collect()
}

#[test]
fn a_sidecar_is_missed_until_somebody_listens_where_members_are_sent() {
    let (memory, instance) = machine();
    let runtime = runtime(&memory, &instance);
    let image = policy().image();
    runtime.apply(request(&policy().tables())).unwrap();
    runtime.attach(&Pod { addresses: vec![address("10.0.0.1")], ..pod("cart-1") }).unwrap();
    assert_eq!(unheard(&runtime, &image), [(15001, Vec::new())]);
    let listen = |at: &str, inode| {
        let waits = Waits { is_udp: false, at: at.parse().unwrap(), takes_v4: false, uid: 0, inode };
        let holds = Holds { process: 7, name: "envoy".into(), gid: 0, cgroup: "/".into() };
        memory.listen(Path::new(NETNS), waits, holds).unwrap();
    };
    listen("10.0.0.1:15001", 1);
    assert_eq!(unheard(&runtime, &image), [(15001, vec!["10.0.0.1:15001".into()])]);
    let heard = || runtime.sidecars(&image).unwrap().heard.into_iter().collect::<Vec<_>>();
    assert_eq!(heard(), []);
    listen("127.0.0.1:15001", 2);
    assert_eq!(unheard(&runtime, &image), []);
    assert_eq!(heard(), [("shop/cart".to_owned(), "cart-1".to_owned())]);
    // Nobody knows of one that has no address: it dials nobody, and a sidecar may come later.
    runtime.attach(&Pod { addresses: Vec::new(), ..pod("cart-1") }).unwrap();
    assert_eq!((unheard(&runtime, &image), heard()), (Vec::new(), Vec::new()));
    runtime.attach(&Pod { addresses: vec![address("10.0.0.1")], ..pod("cart-1") }).unwrap();
    runtime.pause().unwrap();
    assert_eq!((unheard(&runtime, &image), heard()), (Vec::new(), Vec::new()));
}

#[test]
fn decisions_are_counted_for_whoever_asks() {
    let (memory, instance) = machine();
    let runtime = runtime(&memory, &instance);
    runtime.apply(request(&policy().tables())).unwrap();
    let hits = memory.open_map(&instance.maps().join(mesh_bpf::map::HITS.name)).unwrap().unwrap();
    memory.add_hits(&hits, &[(7, 2), (9, 1)]).unwrap();
    memory.add_hits(&hits, &[(7, 3)]).unwrap();
    assert_eq!(runtime.status().unwrap().hits, [(7, 5), (9, 1)].into());
}
