//! Which established connections a policy closes that decides otherwise.

use std::net::IpAddr;
use std::path::Path;

use mesh_bpf::abi::{FLOW_EXEMPT, FLOW_OF_KERNEL, Flow, ListenerKey, Listening, PortKey, PortOwner};
use mesh_bpf::flow::Verdict;
use mesh_bpf::image::{Classes, IdRange};
use mesh_bpf::map::{HOST_PORTS, LISTENERS};
use mesh_bpf::prefix::Prefix;
use mesh_runtime::system::memory::Memory;
use mesh_runtime::system::{Accepted, Files, Maps, Netns};
use mesh_runtime::{Apply, Error, Options, Pod, Runtime};

use crate::common::{Policy, request, web_pod};
use crate::steps::machine;

/// The network namespace in which commands run.
const HERE: &str = "/proc/thread-self/ns/net";

/// A connection of the first member to 10.0.0.1.
fn connection(cookie: u64, port: u16, sidecar_port: u16) -> Flow {
    let address = [10, 0, 0, 1];
    Flow {
        original: [0, 0, 0xffff_u32.to_be(), u32::from_ne_bytes(address)],
        original_port: port,
        sidecar_port,
        member: 1,
        cookie,
        ..Flow::default()
    }
}

/// A machine with a cgroup two steps below that of its member.
fn with_a_cgroup_below() -> (Memory, Runtime<Memory>, &'static Path) {
    let (memory, instance) = machine();
    let side = Path::new("/cgroup/ground/one/side/deep");
    memory.make_cgroup(side.parent().unwrap_or(side));
    memory.make_cgroup(side);
    let options = Options { lock_timeout: 50, command: "test".into() };
    (memory.clone(), Runtime::on(memory, instance, options).unwrap(), side)
}

#[test]
fn what_is_decided_as_before_stays_open() {
    let (memory, runtime, side) = with_a_cgroup_below();
    let policy = || Policy::new().cgroup("/ground/one").redirect(80, 15001);
    runtime.apply(request(&policy().tables())).unwrap();
    let id = |memory: &Memory, path| memory.inode(path).unwrap().unwrap();
    let (same, denied, now_exempt, other_sidecar) = (1, 2, 3, 4);
    memory.connect(connection(same, 80, 15001));
    memory.connect(connection(denied, 81, 0));
    memory.connect(Flow { cgroup: id(&memory, side), ..connection(now_exempt, 80, 15001) });
    memory.connect(connection(other_sidecar, 82, 15009));
    let (straight, was_exempt, of_nobody, datagram) = (11, 12, 13, 14);
    memory.connect(connection(straight, 83, 0));
    memory.connect(Flow { flags: FLOW_EXEMPT, ..connection(was_exempt, 81, 0) });
    memory.connect(Flow { member: 99, ..connection(of_nobody, 81, 0) });
    memory.connect(Flow { protocol: 1, ..connection(datagram, 81, 0) });
    let new = policy().deny(81).redirect(82, 15002).exempt("/ground/one/side").tables();
    let applied = runtime.apply(Apply { reset_changed: true, ..request(&new) }).unwrap();
    assert_eq!((applied.closed, applied.warnings), (Some(3), Vec::new()));
    assert_eq!(memory.open_connections(), [same, straight, was_exempt, of_nobody, datagram]);
}

#[test]
fn who_opened_a_connection_decides_whether_a_policy_that_names_identities_closes_it() {
    let (memory, runtime, side) = with_a_cgroup_below();
    let policy = || Policy::new().cgroup("/ground/one").redirect(80, 15001);
    runtime.apply(request(&policy().tables())).unwrap();
    let cgroup = memory.inode(side).unwrap().unwrap();
    let (by_user, by_group, by_cgroup, by_nobody, straight, by_kernel) = (1, 2, 3, 4, 5, 6);
    let to_80 = |cookie| connection(cookie, 80, 15001);
    memory.connect(Flow { uid: 7, ..to_80(by_user) });
    memory.connect(Flow { gid: 9, ..to_80(by_group) });
    memory.connect(Flow { cgroup, ..to_80(by_cgroup) });
    memory.connect(Flow { uid: 9, gid: 7, ..to_80(by_nobody) });
    memory.connect(Flow { uid: 7, ..connection(straight, 81, 0) });
    memory.connect(Flow { uid: 7, flags: FLOW_OF_KERNEL, ..to_80(by_kernel) });
    let one = |id| vec![(IdRange { first: id, last: id }, 1)];
    let classes = Classes {
        uids: one(7),
        gids: one(9),
        cgroups: vec![("/ground/one/side".into(), 1)],
        cells: vec![0, 1, 1, 1, 1, 1, 1, 1],
        sides: vec![Verdict::Excluded],
        ..Classes::default()
    };
    let new = policy().classes(classes).tables();
    let applied = runtime.apply(Apply { reset_changed: true, ..request(&new) }).unwrap();
    assert_eq!((applied.closed, applied.warnings), (Some(3), Vec::new()));
    assert_eq!(memory.open_connections(), [by_nobody, straight, by_kernel]);
}

#[test]
fn of_inbound_connections_only_decided_ones_are_closed() {
    let (memory, instance) = machine();
    let options = Options { lock_timeout: 50, command: "test".into() };
    let runtime = Runtime::on(memory.clone(), instance.clone(), options).unwrap();
    let policy = || Policy::new().inbound().label("app", "cart");
    runtime.apply(request(&policy().redirect(80, 15003).tables())).unwrap();
    let netns = Path::new("/var/netns");
    let pod = Pod {
        netns: netns.into(),
        name: "cart-1".into(),
        addresses: vec!["10.0.0.1".parse().unwrap()],
        labels: [("app".into(), "cart".into())].into(),
        ..Pod::default()
    };
    runtime.attach(&pod).unwrap();
    let from = |remote: &str, port: u16, by: u16| Accepted {
        netns: memory.netns_cookie(netns).unwrap(),
        remote: format!("{remote}:4321").parse().unwrap(),
        local: format!("10.0.0.1:{port}").parse().unwrap(),
        by: Listening { port: by, decided: 1, ..Listening::default() },
    };
    let (other_sidecar, now_denied, now_straight, for_want_of_a_sidecar) = (1, 2, 3, 15);
    memory.accept(other_sidecar, from("10.0.0.7", 80, 15003));
    memory.accept(now_denied, from("10.0.0.7", 81, 15003));
    memory.accept(now_straight, from("10.0.0.7", 82, 15003));
    memory.accept(for_want_of_a_sidecar, from("10.0.0.7", 83, 83));
    let (same, straight, undecided, to_itself) = (11, 12, 13, 14);
    memory.accept(same, from("10.0.0.7", 84, 15003));
    memory.accept(straight, from("10.0.0.7", 85, 85));
    let by = Listening { port: 81, ..Listening::default() };
    memory.accept(undecided, Accepted { by, ..from("10.0.0.7", 81, 81) });
    memory.accept(to_itself, from("10.0.0.1", 81, 81));
    let new = policy().redirect(80, 15004).deny(81).redirect(83, 15003).redirect(84, 15003).tables();
    let reset = || runtime.apply(Apply { reset_changed: true, ..request(&new) }).unwrap();
    assert_eq!(reset().closed, Some(3));
    let open = [same, straight, undecided, to_itself, for_want_of_a_sidecar];
    assert_eq!(memory.open_connections(), open);
    let listeners = memory.open_map(&instance.maps().join(LISTENERS.name)).unwrap().unwrap();
    let netns_cookie = memory.netns_cookie(netns).unwrap();
    let sidecar =
        ListenerKey { netns: netns_cookie, port: 15003, family: 10, slot: 7, ..ListenerKey::default() };
    memory.update(&listeners, bytemuck::bytes_of(&sidecar), &[0; 8]).unwrap();
    assert_eq!((reset().closed, memory.open_connections()), (Some(1), open[..4].to_vec()));
    // Of a pod that is no workload any more all goes straight.
    let labels = [("app".into(), "other".into())].into();
    runtime.attach(&Pod { labels, ..pod }).unwrap();
    assert_eq!((reset().closed, memory.open_connections()), (Some(1), vec![straight, undecided, to_itself]));
}

#[test]
fn a_paused_policy_closes_nothing() {
    let (memory, instance) = machine();
    let options = Options { lock_timeout: 50, command: "test".into() };
    let runtime = Runtime::on(memory.clone(), instance, options).unwrap();
    let policy = || Policy::new().cgroup("/ground/one");
    runtime.apply(request(&policy().redirect(80, 15001).tables())).unwrap();
    memory.connect(connection(1, 80, 15001));
    runtime.pause().unwrap();
    let new = policy().deny(80).tables();
    let applied = runtime.apply(Apply { reset_changed: true, ..request(&new) }).unwrap();
    assert!(applied.paused && memory.open_connections() == [1]);
}

#[test]
fn a_kernel_that_cannot_close_is_told_before_anything_is_written() {
    let (memory, instance) = machine();
    let options = Options { lock_timeout: 50, command: "test".into() };
    let runtime = Runtime::on(memory.clone(), instance, options).unwrap();
    memory.keep_connections();
    let tables = Policy::new().redirect(80, 15001).tables();
    let error = runtime.apply(Apply { reset_changed: true, ..request(&tables) }).unwrap_err();
    assert!(matches!(error, Error::CannotClose), "{error}");
    assert_eq!(memory.objects(), Vec::<String>::new());
}

#[test]
fn what_a_pod_opens_to_itself_is_judged_by_its_own_addresses() {
    let (memory, instance) = machine();
    let options = Options { lock_timeout: 50, command: "test".into() };
    let runtime = Runtime::on(memory.clone(), instance, options).unwrap();
    let policy = || Policy::new().inbound().label("app", "cart");
    runtime.apply(request(&policy().redirect(80, 15003).tables())).unwrap();
    let netns = Path::new("/var/netns");
    let pod = Pod {
        netns: netns.into(),
        name: "cart-1".into(),
        addresses: ["10.0.0.1", "10.0.0.2"].map(|address| address.parse().unwrap()).into(),
        labels: [("app".into(), "cart".into())].into(),
        ..Pod::default()
    };
    runtime.attach(&pod).unwrap();
    let between = |remote: &str, local: &str| Accepted {
        netns: memory.netns_cookie(netns).unwrap(),
        remote: format!("{remote}:4321").parse().unwrap(),
        local: format!("{local}:81").parse().unwrap(),
        by: Listening { port: 81, decided: 1, ..Listening::default() },
    };
    let (from_another, of_its_own, not_known, over_loopback, by_loopback) = (1, 2, 3, 4, 5);
    memory.accept(from_another, between("10.0.0.7", "10.0.0.1"));
    memory.accept(of_its_own, between("10.0.0.2", "10.0.0.1"));
    memory.accept(not_known, between("10.0.0.9", "10.0.0.9"));
    memory.accept(over_loopback, between("10.0.0.9", "127.0.0.1"));
    // It may be from anybody who is let in that way: the node, a proxy of the runtime.
    memory.accept(by_loopback, between("127.0.0.1", "127.0.0.1"));
    let new = policy().redirect(80, 15003).deny(81).tables();
    let applied = runtime.apply(Apply { reset_changed: true, ..request(&new) }).unwrap();
    assert_eq!(applied.closed, Some(2));
    assert_eq!(memory.open_connections(), [of_its_own, not_known, over_loopback]);
}

#[test]
fn inbound_connections_of_the_host_are_judged_by_who_listens_there() {
    let (memory, instance) = machine();
    let options = Options { lock_timeout: 50, command: "test".into() };
    let runtime = Runtime::on(memory.clone(), instance.clone(), options).unwrap();
    let policy = || Policy::new().inbound().cgroup("/ground/one");
    runtime.apply(request(&policy().redirect(80, 15003).tables())).unwrap();
    let id = |name: &str| memory.inode(&instance.cgroup.join(name)).unwrap().unwrap();
    let listens = |address: [u32; 4], port: u16, name: &str| {
        let place = PortKey { address, port, ..PortKey::default() };
        let mut owner = PortOwner { sockets: 1, ..PortOwner::default() };
        // The cgroup of the socket, below the member's.
        owner.cgroup[..2].copy_from_slice(&[4711, id(name)]);
        let ports = memory.open_map(&instance.maps().join(HOST_PORTS.name)).unwrap().unwrap();
        memory.update(&ports, bytemuck::bytes_of(&place), bytemuck::bytes_of(&owner)).unwrap();
    };
    let mapped = |octets: [u8; 4]| [0, 0, 0xffff_u32.to_be(), u32::from_ne_bytes(octets)];
    listens(mapped([10, 0, 0, 1]), 81, "one");
    listens(mapped([0; 4]), 82, "one");
    listens([0; 4], 83, "one");
    // The narrower place is asked first.
    listens(mapped([10, 0, 0, 1]), 84, "two");
    listens([0; 4], 84, "one");
    let of_host = memory.netns_cookie(Path::new("/proc/thread-self/ns/net")).unwrap();
    let from = |port: u16, by: u16| Accepted {
        netns: of_host,
        remote: "10.0.0.7:4321".parse().unwrap(),
        local: format!("10.0.0.1:{port}").parse().unwrap(),
        by: Listening { port: by, decided: 1, ..Listening::default() },
    };
    for port in [81, 82, 83] {
        memory.accept(u64::from(port), from(port, port));
    }
    let (of_no_member, was_redirected, of_nobody, elsewhere) = (84, 85, 86, 87);
    memory.accept(of_no_member, from(84, 84));
    memory.accept(was_redirected, from(84, 15003));
    memory.accept(of_nobody, from(90, 90));
    memory.accept(elsewhere, Accepted { netns: 12_345, ..from(81, 81) });
    let new = policy().deny(81).deny(82).deny(83).deny(84).deny(90).tables();
    let reset = |tables| runtime.apply(Apply { reset_changed: true, ..request(tables) }).unwrap().closed;
    assert_eq!(reset(&new), Some(4));
    assert_eq!(memory.open_connections(), [of_no_member, of_nobody, elsewhere]);
    // Where nothing is decided on the host any more, all goes straight.
    memory.accept(81, from(81, 81));
    memory.accept(was_redirected, from(80, 15003));
    assert_eq!(reset(&Policy::new().cgroup("/ground/one").deny(81).tables()), Some(1));
    assert_eq!(memory.open_connections(), [81, of_no_member, of_nobody, elsewhere]);
}

/// A pod with `eth0` and `net1`, by which it gets to 10.2.0.0/24 but for 10.2.0.7, and to one address of IPv6.
fn with_two_networks(policy: &Policy) -> (Memory, Runtime<Memory>, u64) {
    let (memory, instance) = machine();
    let netns = Path::new("/var/pod");
    memory.make_netns(netns, &[2]);
    let host = |text: &str| Prefix::host(text.parse().unwrap());
    let far = [host("10.2.0.0").shortened(24).unwrap(), host("fd02::1")];
    memory.route_by(netns, 2, "eth0", &[host("10.2.0.7")]).unwrap();
    memory.route_by(netns, 3, "net1", &far).unwrap();
    let options = Options { lock_timeout: 50, command: "test".into() };
    let runtime = Runtime::on(memory.clone(), instance, options).unwrap();
    runtime.apply(request(&policy.tables())).unwrap();
    runtime.attach(&web_pod(netns)).unwrap();
    let cookie = memory.netns_cookie(netns).unwrap();
    (memory, runtime, cookie)
}

/// A connection of the first member to port 80 of an address, by the sidecar.
fn led(cookie: u64, address: &str) -> Flow {
    let address: IpAddr = address.parse().unwrap();
    let bytes = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let words = bytes.octets();
    let word = |at: usize| u32::from_ne_bytes(words[at..at + 4].try_into().unwrap());
    Flow { original: [word(0), word(4), word(8), word(12)], ..connection(cookie, 80, 15001) }
}

#[test]
fn what_goes_by_an_interface_that_becomes_exempt_is_closed() {
    let policy = || Policy::new().redirect(80, 15001).tiers(&["web"]);
    let (memory, runtime, _) = with_two_networks(&policy());
    let (by_route, by_route_v6, by_device) = (1, 2, 3);
    memory.connect(led(by_route, "10.2.0.9"));
    memory.connect(led(by_route_v6, "fd02::1"));
    memory.connect(Flow { device: 3, ..led(by_device, "10.0.0.9") });
    let (by_eth0, back_by_eth0, bound_to_eth0) = (11, 12, 13);
    memory.connect(led(by_eth0, "10.0.0.9"));
    memory.connect(led(back_by_eth0, "10.2.0.7"));
    memory.connect(Flow { device: 2, ..led(bound_to_eth0, "10.2.0.9") });
    let new = policy().exempt_interface("net*").tables();
    let applied = runtime.apply(Apply { reset_changed: true, ..request(&new) }).unwrap();
    assert_eq!((applied.closed, applied.warnings), (Some(3), Vec::new()));
    assert_eq!(memory.open_connections(), [by_eth0, back_by_eth0, bound_to_eth0]);
}

#[test]
fn what_came_in_by_an_interface_that_becomes_exempt_is_closed_where_a_sidecar_has_it() {
    let policy = || Policy::new().inbound().redirect(80, 15003).tiers(&["web"]);
    let (memory, runtime, netns) = with_two_networks(&policy());
    // The pod's own address is one of the node, too, and none of its own is ever let in by an interface.
    memory.add_interface(Path::new(HERE), 2, &["10.2.0.1".parse().unwrap()]).unwrap();
    let from = |remote: &str, by: u16| Accepted {
        netns,
        remote: format!("{remote}:4321").parse().unwrap(),
        local: "10.2.0.1:80".parse().unwrap(),
        by: Listening { port: by, decided: 1, ..Listening::default() },
    };
    let (by_sidecar, to_itself) = (1, 2);
    memory.accept(by_sidecar, from("10.2.0.9", 15003));
    memory.accept(to_itself, from("10.2.0.1", 80));
    let (straight, by_eth0) = (11, 12);
    memory.accept(straight, from("10.2.0.9", 80));
    memory.accept(by_eth0, from("10.2.0.7", 15003));
    let from_node = Classes { from_node: Some(Verdict::Denied), ..Classes::default() };
    let new = policy().exempt_interface("net*").classes(from_node).tables();
    let applied = runtime.apply(Apply { reset_changed: true, ..request(&new) }).unwrap();
    assert_eq!((applied.closed, applied.warnings), (Some(2), Vec::new()));
    assert_eq!(memory.open_connections(), [straight, by_eth0]);
}

#[test]
fn what_comes_from_or_goes_to_the_node_is_closed_where_a_rule_that_names_it_says_otherwise() {
    let policy = || Policy::new().redirect(80, 15001).tiers(&["web"]);
    let (memory, runtime, netns) = with_two_networks(&policy());
    memory.add_interface(Path::new(HERE), 2, &["10.0.0.100".parse().unwrap()]).unwrap();
    let (to_node, of_kernel, from_node) = (1, 2, 3);
    memory.connect(led(to_node, "10.0.0.100"));
    memory.connect(Flow { flags: FLOW_OF_KERNEL, ..led(of_kernel, "10.0.0.100") });
    let from = |remote: &str| Accepted {
        netns,
        remote: format!("{remote}:4321").parse().unwrap(),
        local: "10.0.0.1:80".parse().unwrap(),
        by: Listening { port: 80, decided: 1, ..Listening::default() },
    };
    memory.accept(from_node, from("10.0.0.100"));
    let (elsewhere, from_elsewhere) = (11, 12);
    memory.connect(led(elsewhere, "10.0.0.101"));
    memory.accept(from_elsewhere, from("10.0.0.101"));
    let apart = Classes {
        node: true,
        cells: vec![0, 1],
        sides: vec![Verdict::Excluded],
        from_node: Some(Verdict::Denied),
        ..Classes::default()
    };
    let new = policy().classes(apart).tables();
    let applied = runtime.apply(Apply { reset_changed: true, ..request(&new) }).unwrap();
    assert_eq!((applied.closed, applied.warnings), (Some(3), Vec::new()));
    assert_eq!(memory.open_connections(), [elsewhere, from_elsewhere]);
}
