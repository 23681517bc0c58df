//! What the machine does to a node: disks that are full, clocks that are set back, pods that come and go while
//! policies change.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use mesh_bpf::tables::Tables;
use mesh_runtime::system::memory::Memory;
use mesh_runtime::system::{Clock, Files, Locked};
use mesh_runtime::{Drift, Error, Instance, Kernel, Options, Owner, Pod, PodSelector, Runtime};
use mesh_testbed::kernel_test;
use mesh_testbed::{Ground, Line, Netns, Place, Server, long_runs_are_wanted};

use crate::common::{self, Policy, request};
use crate::steps::machine;

fn options() -> Options {
    Options { lock_timeout: 5_000, command: "test".into() }
}

/// A small disk, unmounted when the test ends.
struct Disk(PathBuf);

impl Disk {
    fn new(place: PathBuf, size: &str) -> Self {
        fs::create_dir(&place).unwrap();
        let size = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&place).status();
        assert!(mounted.unwrap().success());
        Self(place)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// An instance whose state directory is on a small disk.
struct Cramped {
    // Dropped in this order.
    runtime: Runtime<Kernel>,
    disk: Disk,
    ground: Ground,
}

impl Cramped {
    fn new() -> Self {
        let ground = Ground::new().unwrap();
        let disk = Disk::new(ground.dir().join("disk"), "256k");
        let instance = Instance { state: disk.0.join("state"), ..common::instance(&ground) };
        let runtime = Runtime::on(Kernel::new(), instance, options()).unwrap();
        Self { runtime, disk, ground }
    }

    fn fill(&self) {
        let _ = fs::write(self.disk.0.join("filler"), vec![1; 1 << 20]);
    }

    fn make_room(&self) {
        fs::remove_file(self.disk.0.join("filler")).unwrap();
    }
}

fn assert_disk_full(error: &Error) {
    let Error::System(cause) = error else { panic!("{error}") };
    assert_eq!(cause.errno(), Some(rustix::io::Errno::NOSPC.raw_os_error()), "{error}");
}

#[kernel_test]
fn a_full_disk_refuses_a_policy_and_the_live_one_decides_on() {
    let cramped = Cramped::new();
    let runtime = &cramped.runtime;
    let policy = |port| Policy::new().deny(port).prefixes(200).tables();
    let before = runtime.apply(request(&policy(80))).unwrap();
    cramped.fill();
    for _ in 0..2 {
        let error = runtime.apply(request(&policy(81))).unwrap_err();
        assert_disk_full(&error);
        assert_eq!(error.help(), "make room on the disk of the state directory");
        let status = runtime.status().unwrap();
        assert_eq!((status.head.digest, status.head.claim), (before.digest.clone(), 0));
        assert_eq!(status.drift, Vec::<Drift>::new());
    }
    // What takes a policy away needs no disk.
    runtime.detach_all(false).unwrap();
    cramped.make_room();
    assert!(runtime.apply(request(&policy(81))).unwrap().changed);
    runtime.detach_all(true).unwrap();
}

#[kernel_test]
fn a_full_disk_refuses_to_attach_a_member_again_and_it_is_denied_on() {
    let cramped = Cramped::new();
    let (runtime, ground) = (&cramped.runtime, &cramped.ground);
    let netns = Netns::new().unwrap();
    let server = Server::start(&netns, "far", &["127.0.0.2:0".parse().unwrap()]).unwrap();
    let there = server.addresses().unwrap()[0];
    let tables = Policy::new().deny(there.port()).label("tier", "web").tables();
    runtime.apply(request(&tables)).unwrap();
    runtime.attach(&pod(&netns.path(), 1, 0)).unwrap();
    let inside = Place::here().netns(&netns).cgroup(ground.cgroup());
    let refused = || {
        assert!(common::dial(&inside, there).is_err());
        assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
    };
    refused();
    cramped.fill();
    for round in [0, 1] {
        let error = runtime.attach(&pod(&netns.path(), 1, round)).unwrap_err();
        assert_disk_full(&error);
        refused();
        runtime.refresh().unwrap();
        refused();
    }
    cramped.make_room();
    // Of the other tier, it is no member of a workload.
    assert_eq!(runtime.attach(&pod(&netns.path(), 1, 1)).unwrap().workload, None);
    assert!(common::dial(&inside, there).is_ok());
    runtime.detach_all(true).unwrap();
}

#[test]
fn a_clock_that_is_set_back_changes_no_order() {
    let (memory, instance) = machine();
    let runtime = Runtime::on(memory.clone(), instance.clone(), options()).unwrap();
    let policies = [80, 81, 82].map(|port| Policy::new().deny(port).tables());
    runtime.apply(request(&policies[0])).unwrap();
    memory.set_wall_clock(1_000);
    let waiting = mesh_runtime::Apply { confirm_within: Some(60_000), ..request(&policies[1]) };
    runtime.apply(waiting).unwrap();
    assert!(matches!(runtime.expire().unwrap(), mesh_runtime::Expiry::Waits(left) if left > 59_000));
    runtime.confirm().unwrap();
    memory.set_wall_clock(0);
    runtime.apply(request(&policies[2])).unwrap();
    let order: Vec<u64> = runtime.history().unwrap().iter().map(|kept| kept.record.generation).collect();
    assert_eq!(order, [1, 2, 3]);
    runtime.rollback(None, Owner::Cli, false).unwrap();
    assert_eq!(runtime.live().unwrap().unwrap().tables, policies[1]);
    // Somebody held the lock since a time that is still to come.
    memory.set_wall_clock(9_000);
    runtime.apply(request(&policies[0])).unwrap();
    memory.set_wall_clock(0);
    let _held = Files::lock(&memory, &instance.pins()).unwrap();
    let error = busy(&memory, &instance, &policies[2]);
    assert!(error.ends_with("for 0 s"), "{error}");
}

#[test]
fn whoever_waits_comes_before_those_who_come_later() {
    let (memory, instance) = machine();
    let runtime = Runtime::on(memory.clone(), instance.clone(), options()).unwrap();
    let policy = |port| Policy::new().deny(port).tables();
    runtime.apply(request(&policy(80))).unwrap();
    // The locks are free, and somebody is about to take them: of the instance, and of its registry.
    for queue in [instance.state.clone(), instance.links()] {
        let turn = Files::lock(&memory, &queue).unwrap();
        assert!(matches!(turn, Locked::Held(_)), "{turn:?}");
        let error = busy(&memory, &instance, &policy(81));
        assert!(error.starts_with("another command holds the instance"), "{error}");
    }
    assert!(runtime.apply(request(&policy(81))).unwrap().changed);
}

#[test]
fn a_pod_that_comes_waits_for_the_registry_and_not_behind_those_who_wait_for_the_instance() {
    let (memory, instance) = machine();
    let options = Options { lock_timeout: 20, command: "test".into() };
    let runtime = Runtime::on(memory.clone(), instance.clone(), options).unwrap();
    runtime.apply(request(&Policy::new().deny(80).label("tier", "web").tables())).unwrap();
    let pod = pod(Path::new("/var/netns"), 1, 0);
    {
        let _turn = Files::lock(&memory, &instance.state).unwrap();
        assert_eq!(runtime.attach(&pod).unwrap().workload.as_deref(), Some("shop/cart"));
    }
    let _turn = Files::lock(&memory, &instance.links()).unwrap();
    let error = runtime.attach(&pod).unwrap_err();
    assert!(matches!(error, Error::Held { .. }), "{error}");
}

#[test]
fn whoever_waited_for_what_was_detached_meanwhile_is_told_so() {
    let (memory, instance) = machine();
    let options = Options { lock_timeout: 60, command: "test".into() };
    let runtime = Runtime::on(memory.clone(), instance.clone(), options).unwrap();
    let [first, second] = [80, 81].map(|port| Policy::new().deny(port).tables());
    runtime.apply(request(&first)).unwrap();
    let began = memory.clock();
    let _held = Files::lock(&memory, &instance.pins()).unwrap();
    memory.remove_in(30, &instance.pins());
    let error = runtime.apply(request(&second)).unwrap_err();
    assert!(matches!(error, Error::DetachedMeanwhile), "{error}");
    assert_eq!(memory.clock() - began, 30);
    // Nobody waits for what was gone before.
    assert!(runtime.apply(request(&second)).unwrap().changed);
}

fn busy(memory: &Memory, instance: &Instance, tables: &Tables) -> String {
    let options = Options { lock_timeout: 20, command: "test".into() };
    let runtime = Runtime::on(memory.clone(), instance.clone(), options).unwrap();
    runtime.apply(request(tables)).unwrap_err().to_string()
}

const TIERS: [&str; 2] = ["web", "db"];

fn pod(netns: &Path, number: usize, round: usize) -> Pod {
    Pod {
        netns: netns.into(),
        name: format!("pod-{number}"),
        labels: [("tier".into(), TIERS[round % 2].into())].into(),
        addresses: vec![format!("10.9.9.{number}").parse().unwrap()],
        ..Pod::default()
    }
}

/// Attaches pods with changing labels, and takes every third away again, until it is told to stop; returns the
/// round in which each was last attached, if it is there.
fn come_and_go(ground: &Ground, netns: &[Netns], line: &mut Line) -> Result<Vec<Option<usize>>, String> {
    let runtime = common::runtime(ground);
    let mut last = vec![None; netns.len()];
    let mut round = 0;
    while line.is_silent() || round < 3 {
        for (number, netns) in netns.iter().enumerate() {
            runtime.attach(&pod(&netns.path(), number, round)).map_err(|error| error.to_string())?;
            last[number] = Some(round);
            if (number + round) % 3 == 0 {
                let gone =
                    runtime.detach(&PodSelector::Netns(netns.path())).map_err(|error| error.to_string())?;
                assert!(gone, "pod-{number} was lost in round {round}");
                last[number] = None;
            }
        }
        round += 1;
    }
    Ok(last)
}

#[kernel_test]
fn pods_that_come_and_go_while_policies_change_are_never_lost() {
    let ground = Ground::new().unwrap();
    let runtime = common::runtime(&ground);
    let netns: Vec<Netns> = (0..3).map(|_| Netns::new().unwrap()).collect();
    let there: SocketAddr = "127.0.0.2:8080".parse().unwrap();
    let policy = |round: usize| {
        let port = there.port() + u16::try_from(round).unwrap();
        Policy::new().deny(port).label("tier", TIERS[round % 2]).tables()
    };
    runtime.apply(request(&policy(0))).unwrap();
    let mut pods = {
        let (ground, netns) = (&ground, &netns);
        Place::here().spawn(move |line| come_and_go(ground, netns, line)).unwrap()
    };
    let rounds = if long_runs_are_wanted() { 40 } else { 8 };
    for round in 1..=rounds {
        assert!(runtime.apply(request(&policy(round))).unwrap().changed);
        // The pods of this moment are classified by the policy of this moment, and one that comes or goes just
        // now is no drift.
        assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
    }
    pods.line().say("stop").unwrap();
    let last = pods.join().unwrap().unwrap();
    let status = runtime.status().unwrap();
    assert_eq!(status.drift, Vec::<Drift>::new());
    let seen: Vec<(String, bool)> =
        status.members.iter().map(|member| (member.name.clone(), member.workload.is_some())).collect();
    let mut expected: Vec<(String, bool)> = (last.iter().enumerate())
        .filter_map(|(number, round)| Some((format!("pod-{number}"), (*round)? % 2 == rounds % 2)))
        .collect();
    expected.sort();
    let mut seen = seen;
    seen.sort();
    assert_eq!(seen, expected);
    runtime.detach_all(true).unwrap();
}
