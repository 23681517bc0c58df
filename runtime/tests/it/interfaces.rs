//! Interfaces of members that a policy exempts: known by their numbers, with the routes that lead by them, and kept in step.

use std::net::IpAddr;
use std::path::Path;

use mesh_bpf::map::{EXEMPT_IFACES, EXEMPT_ROUTES};
use mesh_bpf::prefix::Prefix;
use mesh_runtime::system::memory::Memory;
use mesh_runtime::system::{Files, Maps};
use mesh_runtime::{Drift, Instance, Key, Runtime};

use crate::common::{Policy, request, web_pod};
use crate::steps::machine;
use crate::upgrade::on;

/// Where a pod lives.
const NETNS: &str = "/var/pod";

fn prefix(text: &str) -> Prefix {
    text.parse::<IpAddr>().map(Prefix::host).unwrap()
}

/// A pod with `eth0` and `net1`, by which a route leads, on a machine whose policy exempts `net*`.
struct Scene {
    memory: Memory,
    instance: Instance,
    runtime: Runtime<Memory>,
    pod: Key,
}

impl Scene {
    fn new() -> Self {
        let (memory, instance) = machine();
        let runtime = on(memory.clone(), &instance);
        let netns = Path::new(NETNS);
        memory.make_netns(netns, &[2]);
        memory.route_by(netns, 2, "eth0", &[]).unwrap();
        memory.route_by(netns, 3, "net1", &[prefix("10.2.0.1")]).unwrap();
        runtime.apply(request(&exempting().tables())).unwrap();
        let pod = runtime.attach(&web_pod(netns)).unwrap().key;
        Self { memory, instance, runtime, pod }
    }

    /// How many interfaces and prefixes the programs know.
    fn known(&self) -> [usize; 2] {
        [&EXEMPT_IFACES, &EXEMPT_ROUTES].map(|def| {
            let map = self.memory.open_map(&self.instance.maps().join(def.name)).unwrap().unwrap();
            self.memory.entries(&map).unwrap().len()
        })
    }

    fn drift(&self) -> Vec<Drift> {
        self.runtime.status().unwrap().drift
    }
}

fn exempting() -> Policy {
    Policy::new().redirect(80, 15001).tiers(&["web"]).exempt_interface("net*")
}

#[test]
fn what_a_pod_gets_later_is_drift_until_it_is_followed() {
    let scene = Scene::new();
    assert_eq!((scene.known(), scene.drift()), ([1, 1], vec![]));
    scene.memory.route_by(Path::new(NETNS), 4, "net2", &[prefix("10.3.0.1"), prefix("fd03::1")]).unwrap();
    assert_eq!(scene.drift(), [Drift::MemberInterfaces("pod".into())]);
    assert!(scene.runtime.follow(scene.pod).unwrap() && !scene.runtime.follow(scene.pod).unwrap());
    assert_eq!((scene.known(), scene.drift()), ([2, 3], vec![]));
    // One that no policy exempts changes nothing.
    scene.memory.route_by(Path::new(NETNS), 5, "eth1", &[prefix("10.4.0.1")]).unwrap();
    assert_eq!((scene.runtime.follow(scene.pod).unwrap(), scene.drift()), (false, vec![]));
}

#[test]
fn where_routes_are_too_many_none_is_followed_and_that_is_drift() {
    let scene = Scene::new();
    let many: Vec<Prefix> =
        (0..1024).map(|n| Prefix::host(IpAddr::V4((0x0b00_0000 + 2 * n).into()))).collect();
    scene.memory.route_by(Path::new(NETNS), 3, "net1", &many).unwrap();
    assert!(scene.runtime.follow(scene.pod).unwrap());
    assert_eq!((scene.known(), scene.drift()), ([1, 0], vec![Drift::MemberRoutesMany("pod".into())]));
}

#[test]
fn a_policy_that_exempts_none_and_a_pod_that_leaves_take_them_along() {
    let scene = Scene::new();
    let plain = Policy::new().redirect(80, 15001).tiers(&["web"]).tables();
    // The slot of the policy before keeps its own: a rollback finds them.
    scene.runtime.apply(request(&plain)).unwrap();
    assert_eq!(scene.drift(), []);
    scene.runtime.apply(request(&exempting().tables())).unwrap();
    assert_eq!(scene.drift(), []);
    scene.runtime.detach(&mesh_runtime::PodSelector::Key(scene.pod)).unwrap();
    assert_eq!((scene.known(), scene.drift()), ([0, 0], vec![]));
}

#[test]
fn a_namespace_that_ends_is_no_error() {
    let scene = Scene::new();
    Files::remove(&scene.memory, Path::new(NETNS)).unwrap();
    scene.runtime.apply(request(&exempting().deny(81).tables())).unwrap();
    assert!(!scene.drift().contains(&Drift::MemberInterfaces("pod".into())));
}
