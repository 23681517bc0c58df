//! Pods: by namespace cookie, by selector, and through changes of policy.

use std::net::SocketAddr;

use mesh_bpf::abi::{Counter, TAIL_CALL_SLOTS, TailCallSlots};
use mesh_bpf::map;
use mesh_bpf::program::Inbound;
use mesh_bpf::tables::Tables;
use mesh_runtime::system::Maps;
use mesh_runtime::{Apply, Attachment, Drift, Pod, PodFault, PodSelector, Runtime};
use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Ground, Netns, Place, Server};

use crate::common::{Policy, on_ground, request};

/// A pod without a network but loopback, in a cgroup that programs are attached to.
struct Inside {
    netns: Netns,
    _servers: [Server; 2],
    at: SocketAddr,
    there: SocketAddr,
}

impl Inside {
    fn new() -> Self {
        let netns = Netns::new().unwrap();
        let start = |who, address: &str| Server::start(&netns, who, &[address.parse().unwrap()]).unwrap();
        let (sidecar, far) = (start("sidecar", "127.0.0.1:15001"), start("far", "127.0.0.2:8080"));
        let first = |server: &Server| server.addresses().unwrap()[0];
        let (at, there) = (first(&sidecar), first(&far));
        Self { netns, _servers: [sidecar, far], at, there }
    }

    fn who(&self, ground: &Ground) -> String {
        let place = Place::here().netns(&self.netns).cgroup(ground.cgroup());
        place.run(|| Client::to(self.there).dial()).unwrap().unwrap().arrival.who
    }

    fn pod(&self, name: &str, tier: &str) -> Pod {
        Pod {
            netns: self.netns.path(),
            name: name.into(),
            labels: [("tier".into(), tier.into())].into(),
            addresses: vec!["10.9.9.9".parse().unwrap()],
            ..Pod::default()
        }
    }

    /// The same pod, as a container runtime attaches one of its interfaces.
    fn interface(&self, container: &str, interface: &str, address: &str) -> Pod {
        let attachment = Attachment {
            container: container.into(),
            network: "pods".into(),
            interface: interface.into(),
            ..Attachment::default()
        };
        Pod {
            addresses: vec![address.parse().unwrap()],
            attachment: Some(attachment),
            ..self.pod(container, "web")
        }
    }

    fn policy(&self, tier: &str) -> Tables {
        Policy::new().redirect(self.there.port(), self.at.port()).label("tier", tier).tables()
    }
}

#[test]
fn a_pod_is_a_member_as_long_as_it_is_attached_and_selected() {
    let (ground, runtime) = on_ground();
    let inside = Inside::new();
    // Attached before there is any policy.
    let early = runtime.attach(&inside.pod("p", "web")).unwrap();
    assert_eq!(early.workload, None);
    runtime.apply(request(&inside.policy("web"))).unwrap();
    assert_eq!(inside.who(&ground), "sidecar");
    assert_eq!(runtime.status().unwrap().members[0].workload.as_deref(), Some("shop/cart"));
    runtime.apply(request(&inside.policy("db"))).unwrap();
    assert_eq!(inside.who(&ground), "far");
    // Attached again with another label.
    let again = runtime.attach(&inside.pod("p", "db")).unwrap();
    assert_eq!((again.key, again.workload.as_deref()), (early.key, Some("shop/cart")));
    assert_eq!(inside.who(&ground), "sidecar");
    assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
    assert!(runtime.detach(&PodSelector::Name(None, "p".into())).unwrap());
    assert!(!runtime.detach(&PodSelector::Netns(inside.netns.path())).unwrap());
    assert_eq!(inside.who(&ground), "far");
    runtime.detach_all(true).unwrap();
}

fn container(id: &str, interface: &str) -> PodSelector {
    PodSelector::Container { container: id.into(), interface: Some(interface.into()), netns: None }
}

/// Names of the pods that are registered, with their addresses.
fn registered(runtime: &Runtime) -> Vec<(String, Vec<String>)> {
    let addresses = |pod: &mesh_runtime::Member| pod.addresses.iter().map(ToString::to_string).collect();
    runtime.pods().unwrap().iter().map(|pod| (pod.name.clone(), addresses(pod))).collect()
}

#[test]
fn a_pod_goes_with_its_last_interface_and_for_no_other_container() {
    let (ground, runtime) = on_ground();
    let inside = Inside::new();
    // Once without and once with a policy in the kernel.
    for live in [false, true] {
        if live {
            runtime.apply(request(&inside.policy("web"))).unwrap();
        }
        runtime.attach(&inside.interface("a", "eth0", "10.9.0.1")).unwrap();
        runtime.attach(&inside.interface("a", "net1", "fd09::1")).unwrap();
        let both = vec!["10.9.0.1".to_owned(), "fd09::1".to_owned()];
        assert_eq!(registered(&runtime), [("a".to_owned(), both)]);
        assert!(!runtime.detach(&container("b", "eth0")).unwrap());
        assert!(runtime.detach(&container("a", "eth0")).unwrap());
        assert_eq!(registered(&runtime), [("a".to_owned(), vec!["fd09::1".to_owned()])]);
        assert_eq!(inside.who(&ground), if live { "sidecar" } else { "far" });
        // The namespace is given to another container before the first one is deleted.
        runtime.attach(&inside.interface("b", "eth0", "10.9.0.1")).unwrap();
        assert_eq!(registered(&runtime), [("b".to_owned(), vec!["10.9.0.1".to_owned()])]);
        assert!(!runtime.detach(&container("a", "net1")).unwrap());
        assert_eq!(runtime.check(&container("b", "eth0")).unwrap(), Vec::<PodFault>::new());
        assert_eq!(runtime.check(&container("a", "eth0")).unwrap(), [PodFault::NotRegistered]);
        assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
        assert!(runtime.detach(&container("b", "eth0")).unwrap());
        assert_eq!(registered(&runtime), []);
        assert_eq!(inside.who(&ground), "far");
    }
    runtime.detach_all(true).unwrap();
}

#[test]
fn pods_whose_namespaces_ended_are_swept_and_those_with_a_process_stay() {
    let (ground, runtime) = on_ground();
    let [ended, lived_in, alive] = [(); 3].map(|()| Inside::new());
    runtime.apply(request(&alive.policy("web"))).unwrap();
    for (inside, name) in [(&ended, "ended"), (&lived_in, "lived-in"), (&alive, "alive")] {
        runtime.attach(&inside.pod(name, "web")).unwrap();
    }
    let mut process = Place::here().netns(&lived_in.netns).command("sleep").arg("60").spawn().unwrap();
    for inside in [&ended, &lived_in] {
        // Its file goes; what lives in it goes on.
        rustix::mount::unmount(inside.netns.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
        std::fs::remove_file(inside.netns.path()).unwrap();
    }
    drop(ended);
    assert_eq!(runtime.sweep().unwrap(), ["ended"]);
    process.kill().unwrap();
    process.wait().unwrap();
    drop(lived_in);
    assert_eq!(runtime.sweep().unwrap(), ["lived-in"]);
    assert_eq!(runtime.sweep().unwrap(), Vec::<String>::new());
    assert_eq!(alive.who(&ground), "sidecar");
    assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
    runtime.detach_all(true).unwrap();
}

#[test]
fn a_pods_addresses_are_those_of_its_interfaces_where_none_are_given() {
    let (_ground, runtime) = on_ground();
    let inside = Inside::new();
    inside
        .netns
        .ip("link add v0 type veth peer name v1\nlink set v0 up\naddr add 10.8.0.1/24 dev v0")
        .unwrap();
    runtime.attach(&Pod { addresses: Vec::new(), ..inside.pod("p", "web") }).unwrap();
    assert_eq!(registered(&runtime)[0].1[0], "10.8.0.1");
    runtime.detach_all(true).unwrap();
}

#[test]
fn a_change_of_addresses_is_told_also_where_the_kernel_could_not_tell_it() {
    let (_ground, runtime) = on_ground();
    let inside = Inside::new();
    inside.netns.ip("link add v0 type veth peer name v1\nlink set v0 up\nlink set v1 up").unwrap();
    let key = runtime.attach(&Pod { addresses: Vec::new(), ..inside.pod("p", "web") }).unwrap().key;
    let pod = || runtime.pod(key).unwrap().unwrap();
    let changes = runtime.changes(&pod()).unwrap().unwrap();
    let owns = |address: &str| pod().own().contains(&address.parse().unwrap());
    // Once without and once with a policy in the kernel; and the second time more than is kept for us.
    for (round, count) in [1u8, 250].into_iter().enumerate() {
        if round == 1 {
            runtime.apply(request(&inside.policy("web"))).unwrap();
        }
        let change = |verb: &str| {
            let lines = (0..count).flat_map(|a| (1..=4).map(move |b| (a, b)));
            let lines = lines.map(|(a, b)| format!("addr {verb} 10.7.{a}.{b}/32 dev v0"));
            inside.netns.ip(&lines.collect::<Vec<_>>().join("\n")).unwrap();
        };
        let last = format!("10.7.{}.4", count - 1);
        for (verb, is_own) in [("add", true), ("del", false)] {
            change(verb);
            assert!(changes.happened().unwrap(), "{verb} {count}");
            while changes.happened().unwrap() {}
            assert!(runtime.follow(key).unwrap() && !runtime.follow(key).unwrap());
            assert_eq!(owns(&last), is_own, "{verb} {count}");
        }
    }
    assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
    // Where they were given, what else changes is of its interfaces.
    runtime.attach(&inside.pod("p", "web")).unwrap();
    inside.netns.ip("addr add 10.7.0.9/32 dev v0").unwrap();
    assert!(!runtime.follow(key).unwrap() && owns("10.9.9.9") && !owns("10.7.0.9"));
    runtime.detach_all(true).unwrap();
}

#[test]
fn whoever_gives_itself_many_addresses_owns_as_many_as_there_is_room_for() {
    let (_ground, runtime) = on_ground();
    let inside = Inside::new();
    runtime.apply(request(&inside.policy("web"))).unwrap();
    inside.netns.ip("link add v0 type veth peer name v1\nlink set v0 up").unwrap();
    let lines = (0..6).flat_map(|a| (0..250).map(move |b| format!("addr add 10.7.{a}.{b}/32 dev v0")));
    inside.netns.ip(&lines.collect::<Vec<_>>().join("\n")).unwrap();
    runtime.attach(&Pod { addresses: Vec::new(), ..inside.pod("p", "web") }).unwrap();
    assert_eq!(runtime.pods().unwrap()[0].own().len(), 1024);
    let drift = runtime.status().unwrap().drift;
    assert_eq!(drift, [Drift::PodAddressesMany { pod: "p".into(), own: 1024 }]);
    runtime.detach_all(true).unwrap();
}

impl Inside {
    /// Connects from outside the cgroup that programs are attached to, so that only inbound traffic is decided.
    fn dial(&self) {
        let who = Place::here().netns(&self.netns).run(|| Client::to(self.there).dial()).unwrap();
        assert_eq!(who.unwrap().arrival.who, "far");
    }

    /// Whether each of ten such packets was decided, or else got lost on the way to the program that decides. The
    /// kernel may ask more than once for a connection.
    fn are_decided(&self, runtime: &Runtime) -> bool {
        let counted = || {
            let counters = runtime.status().unwrap().counters;
            let of = |wanted| counters.iter().find(|(counter, _)| *counter == wanted).unwrap().1;
            (of(Counter::Excluded), of(Counter::EntryLost))
        };
        let before = counted();
        (0..10).for_each(|_| self.dial());
        let after = counted();
        match (after.0 - before.0, after.1 - before.1) {
            (10.., 0) => true,
            (0, 10..) => false,
            mixed => panic!("{mixed:?}"),
        }
    }
}

#[test]
fn where_the_deciding_program_is_gone_connections_go_straight_and_it_is_told_and_put_back() {
    let (_ground, runtime) = on_ground();
    let inside = Inside::new();
    let policy = inside.policy("web");
    runtime.apply(request(&policy)).unwrap();
    runtime.attach(&inside.pod("p", "web")).unwrap();
    assert!(inside.are_decided(&runtime));
    let pin = runtime.instance().maps().join(Inbound::SkLookup.map().name);
    let program = runtime.system().open_map(&pin).unwrap().unwrap();
    runtime.system().delete(&program, &0u32.to_ne_bytes()).unwrap();
    assert!(!inside.are_decided(&runtime));
    assert_eq!(runtime.status().unwrap().drift, [Drift::ProgramMissing("mesh_inbound")]);
    runtime.apply(Apply { repair: true, ..request(&policy) }).unwrap();
    assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
    assert!(inside.are_decided(&runtime));
    // What comes next finds it there, and nothing is replaced.
    assert_eq!(runtime.apply(request(&policy)).unwrap().upgraded, 0);
    runtime.detach_all(true).unwrap();
}

#[test]
fn packets_that_interrupt_others_take_the_next_place_and_are_counted_where_there_is_none() {
    let (_ground, runtime) = on_ground();
    let inside = Inside::new();
    runtime.apply(request(&inside.policy("web"))).unwrap();
    runtime.attach(&inside.pod("p", "web")).unwrap();
    let (system, key) = (runtime.system(), 0u32.to_ne_bytes());
    let entries =
        system.open_map(&runtime.instance().maps().join(map::TAIL_CALL_SLOTS.name)).unwrap().unwrap();
    let all = system.lookup(&entries, &key).unwrap().unwrap();
    for taken in 0..=TAIL_CALL_SLOTS {
        // As if so many were on their way on every CPU.
        let mut here = TailCallSlots::default();
        here.context.iter_mut().take(taken).for_each(|context| *context = 1);
        let here = bytemuck::bytes_of(&here).repeat(all.len() / size_of::<TailCallSlots>());
        system.update(&entries, &key, &here).unwrap();
        assert_eq!(inside.are_decided(&runtime), taken < TAIL_CALL_SLOTS, "{taken}");
        let left = system.lookup(&entries, &key).unwrap().unwrap();
        let places = |cpu: &[u8]| bytemuck::pod_read_unaligned::<TailCallSlots>(cpu).context;
        let left = left.chunks_exact(size_of::<TailCallSlots>()).map(places);
        assert!(
            left.flatten().filter(|&context| context != 0).count()
                == taken * all.len() / size_of::<TailCallSlots>()
        );
    }
    runtime.detach_all(true).unwrap();
}
