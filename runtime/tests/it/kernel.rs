//! The runtime on the real kernel: what it promises, seen from sockets and from the kernel's lists.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;

use mesh_bpf::abi::Flow;
use mesh_bpf::map::{self, MapDef, Table};
use mesh_bpf::program::Hook;
use mesh_runtime::system::{Links, Maps, Noted, Programs, Sockets};
use mesh_runtime::{Drift, Error, Kernel, State, items};
use mesh_testbed::census::Census;
use mesh_testbed::kernel_test as test;
use mesh_testbed::{Errno, Ground, Netns, Place, Server, ServerTask};
use rustix::mount::{UnmountFlags, mount_bind, unmount};

use crate::common::{Policy, dial, on_ground, request, runtime};

/// A sidecar on loopback, where only the instance's cgroup answers it, and a server that is not in the mesh.
fn servers(ground: &Ground) -> (ServerTask, SocketAddr, Server, SocketAddr) {
    let far = Server::start_here("far", &["127.0.0.2:0".parse().unwrap()]).unwrap();
    let there = far.addresses().unwrap()[0];
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sidecar = ServerTask::start(&Place::here().cgroup(ground.cgroup()), "sidecar", &[free]).unwrap();
    (sidecar, free, far, there)
}

#[test]
fn a_policy_redirects_its_members_and_nobody_else() {
    let (ground, runtime) = on_ground();
    let (_sidecar, at, _far, there) = servers(&ground);
    let app = ground.cgroup().child("app").unwrap();
    let other = ground.cgroup().child("other").unwrap();
    let policy = Policy::new().redirect(there.port(), at.port()).cgroup(app.within().unwrap());
    let tables = policy.tables();

    let applied = runtime.apply(request(&tables)).unwrap();
    assert!(applied.changed && applied.warnings.is_empty(), "{applied:?}");
    let inside = dial(&Place::here().cgroup(&app), there).unwrap();
    assert_eq!((inside.arrival.who.as_str(), inside.arrival.original()), ("sidecar", Some(there)));
    assert_eq!(inside.peer, there);
    let outside = dial(&Place::here().cgroup(&other), there).unwrap();
    assert_eq!(outside.arrival.who, "far");

    let status = runtime.status().unwrap();
    assert_eq!(status.head.state, State::Active);
    assert_eq!(status.head.digest, applied.digest);
    assert_eq!(status.members.len(), 1);
    assert_eq!(status.members[0].workload.as_deref(), Some("shop/cart"));
    assert_eq!(status.drift, Vec::<Drift>::new());
    assert_eq!(status.meshes, ["shop"]);
    let image = policy.image();
    let hits = items(&image, &status.hits);
    let text = |hit: &mesh_runtime::ItemHits| (image.sources[hit.source].text(hit.prefix), hit.hits);
    let expected = (format!("decide outbound tcp {} -> {}", there.port(), at.port()), 1);
    assert_eq!(hits.iter().map(text).collect::<Vec<_>>(), [expected]);

    let again = runtime.apply(request(&tables)).unwrap();
    assert!(!again.changed && again.members_changed == 0 && again.generation == applied.generation);
    assert_eq!(runtime.live().unwrap().unwrap().tables, tables);
    runtime.detach_all(true).unwrap();
    assert_eq!(dial(&Place::here().cgroup(&app), there).unwrap().arrival.who, "far");
}

#[test]
fn detach_all_leaves_nothing_in_the_kernel() {
    let ground = Ground::alone().unwrap();
    let before = Census::take().unwrap();
    let runtime = runtime(&ground);
    let app = ground.cgroup().child("app").unwrap();
    for port in [80, 81] {
        let tables = Policy::new().redirect(port, 15001).cgroup(app.within().unwrap()).tables();
        runtime.apply(request(&tables)).unwrap();
    }
    assert!(runtime.detach_all(true).unwrap().changed);
    assert_eq!(before.left().unwrap(), []);
    assert!(!runtime.instance().pins().exists());
    assert!(!ground.state().exists());
    assert!(!runtime.detach_all(true).unwrap().changed);
    assert_eq!(runtime.head().unwrap().state, State::None);
}

#[test]
fn pause_stops_at_once_and_resume_brings_it_back() {
    let (ground, runtime) = on_ground();
    let (_sidecar, at, _far, there) = servers(&ground);
    let app = ground.cgroup().child("app").unwrap();
    let place = Place::here().cgroup(&app);
    let who = || dial(&place, there).map(|dialled| dialled.arrival.who);
    let policy = Policy::new().cgroup(app.within().unwrap());
    assert!(matches!(runtime.pause(), Err(Error::NoPolicy)));
    let first = policy.clone().redirect(there.port(), at.port()).tables();
    let generation = runtime.apply(request(&first)).unwrap().generation;
    assert_eq!(who().unwrap(), "sidecar");
    assert!(runtime.pause().unwrap().changed);
    assert!(!runtime.pause().unwrap().changed);
    assert_eq!(who().unwrap(), "far");
    assert_eq!(runtime.head().unwrap().state, State::Paused);
    // A policy that is applied meanwhile is what comes back.
    let second = policy.deny(there.port()).tables();
    let applied = runtime.apply(request(&second)).unwrap();
    assert!(applied.paused && applied.generation == generation + 1);
    assert_eq!(who().unwrap(), "far");
    assert_eq!(runtime.resume().unwrap().generation, generation + 1);
    assert_eq!(who().unwrap_err(), Errno::EPERM);
    assert!(!runtime.resume().unwrap().changed);
    runtime.detach_all(true).unwrap();
}

#[test]
fn a_command_runs_as_a_member() {
    let (ground, runtime) = on_ground();
    let (_sidecar, at, _far, there) = servers(&ground);
    runtime.apply(request(&Policy::new().deny(there.port()).tables())).unwrap();
    let script = format!("exec 3<>/dev/tcp/{}/{}", there.ip(), there.port());
    let command = || {
        let mut command = Command::new("bash");
        command.args(["-c", &script]).stderr(std::process::Stdio::null());
        command
    };
    assert!(command().status().unwrap().success());
    assert_eq!(runtime.run("shop/cart", command()).unwrap().code(), Some(1));
    let redirected = Policy::new().redirect(there.port(), at.port()).tables();
    runtime.apply(request(&redirected)).unwrap();
    assert!(runtime.run("shop/cart", command()).unwrap().success());
    assert_eq!(runtime.status().unwrap().members, []);
    assert_eq!(
        ground.cgroup().path().read_dir().unwrap().filter(|e| e.as_ref().unwrap().path().is_dir()).count(),
        0
    );
    let Err(Error::UnknownWorkload { known, .. }) = runtime.run("shop/crat", command()) else { panic!() };
    assert_eq!(known, ["shop/cart"]);
    runtime.detach_all(true).unwrap();
}

#[test]
fn exempt_cgroups_and_membership_switch_with_the_generation() {
    let (ground, runtime) = on_ground();
    let (_sidecar, at, _far, there) = servers(&ground);
    let app = ground.cgroup().child("app").unwrap();
    let sidecar = app.child("sidecar").unwrap();
    let who = |cgroup| dial(&Place::here().cgroup(cgroup), there).map(|dialled| dialled.arrival.who);
    let policy = Policy::new().redirect(there.port(), at.port());
    let wide = policy.clone().cgroup(app.within().unwrap());
    runtime.apply(request(&wide.clone().exempt(sidecar.within().unwrap()).tables())).unwrap();
    assert_eq!((who(&app).unwrap(), who(&sidecar).unwrap()), ("sidecar".into(), "far".into()));
    runtime.apply(request(&wide.tables())).unwrap();
    assert_eq!((who(&app).unwrap(), who(&sidecar).unwrap()), ("sidecar".into(), "sidecar".into()));
    runtime.apply(request(&policy.clone().cgroup(sidecar.within().unwrap()).tables())).unwrap();
    assert_eq!((who(&app).unwrap(), who(&sidecar).unwrap()), ("far".into(), "sidecar".into()));
    // A cgroup that is not there is said, and joins when it is made.
    let late = policy.cgroup(format!("{}/late", app.within().unwrap())).tables();
    assert_eq!(runtime.apply(request(&late)).unwrap().missing_cgroups.len(), 1);
    assert_eq!(runtime.status().unwrap().drift.len(), 1);
    let late_cgroup = app.child("late").unwrap();
    assert_eq!(who(&late_cgroup).unwrap(), "sidecar");
    assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
    // Its record is written by the next apply.
    let again = runtime.apply(request(&late)).unwrap();
    assert!(!again.changed && again.members_changed > 0, "{again:?}");
    assert_eq!(who(&late_cgroup).unwrap(), "sidecar");
    runtime.detach_all(true).unwrap();
}

#[test]
fn a_cgroup_that_is_made_again_joins_before_its_first_process() {
    let (ground, runtime) = on_ground();
    let (_sidecar, at, _far, there) = servers(&ground);
    let who = |cgroup: &mesh_testbed::Cgroup| {
        dial(&Place::here().cgroup(cgroup), there).map(|dialled| dialled.arrival.who)
    };
    let unit = || {
        let app = ground.cgroup().child("app").unwrap();
        let proxy = app.child("proxy").unwrap();
        (proxy, app)
    };
    let (proxy, app) = unit();
    let policy = Policy::new().redirect(there.port(), at.port());
    let policy = policy.cgroup(app.within().unwrap()).exempt(proxy.within().unwrap());
    runtime.apply(request(&policy.tables())).unwrap();
    let entries = || {
        let maps = runtime.instance().maps();
        ["cgroups", "exempt_ids"].map(|name| mesh_testbed::storage::entries(&maps.join(name)).unwrap())
    };
    assert_eq!(entries(), [1, 1]);
    drop((proxy, app));
    assert_eq!(entries(), [0, 0]);
    // What a service manager does when a unit is restarted.
    for _ in 0..3 {
        let (proxy, app) = unit();
        assert_eq!((who(&app).unwrap(), who(&proxy).unwrap()), ("sidecar".into(), "far".into()));
        assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
        assert_eq!(entries(), [1, 1]);
    }
    runtime.detach_all(true).unwrap();
}

#[test]
fn an_apply_is_bound_to_what_it_was_planned_against() {
    let (_ground, runtime) = on_ground();
    let tables = Policy::new().deny(80).tables();
    let bound = |expected| mesh_runtime::Apply { expected: Some(expected), ..request(&tables) };
    assert!(matches!(runtime.apply(bound(3)), Err(Error::Stale { expected: 3, live: 0 })));
    let generation = runtime.apply(bound(0)).unwrap().generation;
    assert!(matches!(runtime.apply(bound(0)), Err(Error::Stale { expected: 0, .. })));
    assert!(!runtime.apply(bound(generation)).unwrap().changed);
    runtime.detach_all(true).unwrap();
}

#[test]
fn programs_of_others_on_the_same_hooks_are_listed() {
    let (ground, runtime) = on_ground();
    runtime.apply(request(&Policy::new().deny(80).tables())).unwrap();
    assert_eq!(runtime.status().unwrap().foreign, []);
    let kernel = runtime.system();
    let programs = kernel.load_programs(&runtime.instance().maps()).unwrap();
    let (def, program) = programs.iter().find(|(def, _)| def.hook == Hook::Connect4).unwrap();
    let id = kernel.program_info(program).unwrap().id;
    let link = kernel.attach(program, def.hook, ground.cgroup().path()).unwrap();
    let foreign = runtime.status().unwrap().foreign;
    assert_eq!(foreign.iter().map(|(hook, other)| (*hook, other.id)).collect::<Vec<_>>(), [(def.hook, id)]);
    drop(link);
    assert_eq!(runtime.status().unwrap().foreign, []);
    runtime.detach_all(true).unwrap();
}

#[test]
fn links_that_were_taken_off_and_entries_that_were_changed_are_drift_until_repaired() {
    let (ground, runtime) = on_ground();
    let (_sidecar, at, _far, there) = servers(&ground);
    let app = ground.cgroup().child("app").unwrap();
    let who = || dial(&Place::here().cgroup(&app), there).unwrap().arrival.who;
    let tables = Policy::new().redirect(there.port(), at.port()).cgroup(app.within().unwrap()).tables();
    runtime.apply(request(&tables)).unwrap();
    let (kernel, instance) = (runtime.system(), runtime.instance().clone());
    let repair = || runtime.apply(mesh_runtime::Apply { repair: true, ..request(&tables) }).unwrap();

    let link = kernel.open_link(&instance.links().join("mesh_connect4")).unwrap().unwrap();
    kernel.detach(&link).unwrap();
    drop(link);
    assert_eq!(runtime.status().unwrap().drift, [Drift::ProgramMissing("mesh_connect4")]);
    assert_eq!(who(), "far");
    assert!(repair().warnings.is_empty());
    assert_eq!((who(), runtime.status().unwrap().drift), ("sidecar".into(), Vec::new()));

    let cgroups = kernel.open_map(&instance.maps().join("cgroups")).unwrap().unwrap();
    for (key, _) in kernel.entries(&cgroups).unwrap() {
        kernel.delete(&cgroups, &key).unwrap();
    }
    assert_eq!(runtime.status().unwrap().drift, [Drift::MemberMissing("app".into())]);
    assert_eq!(who(), "far");
    repair();
    assert_eq!((who(), runtime.status().unwrap().drift), ("sidecar".into(), Vec::new()));

    let outer = kernel.open_map(&instance.maps().join("tables")).unwrap().unwrap();
    let other = kernel.create_map(&map::INNER, 64, None).unwrap();
    let slot = map::slot(runtime.head().unwrap().generation);
    kernel.put_maps(&outer, &[(map::Table::Decisions.index(slot), &other)]).unwrap();
    assert_eq!(runtime.status().unwrap().drift, [Drift::TableChanged(Table::Decisions)]);
    repair();
    assert_eq!((who(), runtime.status().unwrap().drift), ("sidecar".into(), Vec::new()));
    runtime.detach_all(true).unwrap();
}

/// A mount that goes when a test ends, however it does.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// A socket may be held by a process that lives elsewhere, and its network namespace by a mount in any place.
#[test]
fn connections_are_found_in_a_namespace_that_nothing_but_a_mount_holds() {
    let netns = Netns::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("a place");
    std::fs::write(&place, "").unwrap();
    mount_bind(netns.path(), &place).unwrap();
    let _mounted = Mounted(place);
    unmount(netns.path(), UnmountFlags::DETACH).unwrap();
    let open = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        (TcpStream::connect(listener.local_addr().unwrap()).unwrap(), listener)
    };
    let (connection, _listener) = netns.run(open).unwrap();

    let kernel = Kernel::new();
    let make = |def: &MapDef| kernel.create_map(def, def.capacity, None).unwrap();
    let (flows, listening) = (make(&map::CLIENT_FLOWS), make(&map::LISTENING));
    let flow = Flow { cookie: 7, original_port: 80, ..Flow::default() };
    // To user space, the key of what is kept with a socket is its descriptor.
    let socket = connection.as_raw_fd().to_ne_bytes();
    kernel.update(&flows, &socket, bytemuck::bytes_of(&flow)).unwrap();
    let found = kernel.connections(&flows, &listening).unwrap();
    assert_eq!(found.into_iter().map(|(noted, _)| noted).collect::<Vec<_>>(), [Noted::Opened(flow)]);
}
