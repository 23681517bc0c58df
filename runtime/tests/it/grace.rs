//! A program that is stopped between the word and its look-ups, while a policy goes live and the next is
//! filled into the slot that the program still reads.

use mesh_bpf::tables::Tables;
use mesh_runtime::system::System;
use mesh_runtime::system::faults::{Faulty, Injected};
use mesh_runtime::system::memory::Read;
use mesh_runtime::{Apply, Kernel, Options, Runtime};
use mesh_testbed::kernel_test;
use mesh_testbed::{Client, Ground, Line, Place, Server};

use crate::builds::{self, READ_ANOTHER, READ_WHOLE};
use crate::common::{Policy, instance, request};
use crate::steps::machine;

/// What programs saw that were stopped before each of a few commits.
fn reads(careless: bool) -> Vec<Read> {
    let (memory, instance) = machine();
    let options = Options { lock_timeout: 50, command: "apply x.mesh".into() };
    let runtime = Runtime::on(memory.clone(), instance, options).unwrap();
    memory.stop_readers_before_commits();
    if careless {
        memory.skip_grace_periods();
    }
    for port in 80..86 {
        let policy = Policy::new().cgroup("/ground/one").redirect(port, 15001);
        assert!(runtime.apply(request(&policy.tables())).unwrap().changed);
    }
    memory.reads()
}

#[test]
fn a_program_stopped_across_two_applies_sees_one_generation() {
    let reads = reads(false);
    assert_eq!(reads.len(), 4, "{reads:?}");
    for read in reads {
        assert_eq!(read.tables, read.word);
    }
}

#[test]
fn without_the_grace_period_it_would_see_two() {
    let reads = reads(true);
    assert_eq!(reads.len(), 4, "{reads:?}");
    for read in reads {
        assert_eq!(read.tables, read.word + 2, "the slot of {} was filled again under it", read.word);
    }
}

/// How many stopped programs found the generation that their word named, and how many found another, while
/// one policy after the other goes live on the real kernel, two by two, until that is enough.
fn reads_on_the_kernel<S: System>(
    system: impl Fn(Kernel) -> S,
    apply: impl Fn([&Runtime<S>; 2], [Tables; 2]),
    enough: impl Fn([u64; 2]) -> bool,
) -> [u64; 2] {
    let ground = Ground::new().unwrap();
    let far = Server::start_here("far", &["127.0.0.2:0".parse().unwrap()]).unwrap();
    let there = far.addresses().unwrap()[0];
    let app = ground.cgroup().child("app").unwrap();
    let options = Options { lock_timeout: 5_000, command: "test".into() };
    let runtime = || {
        Runtime::on(system(builds::kernel(&ground, "stopped")), instance(&ground), options.clone()).unwrap()
    };
    let (runtime, other) = (runtime(), runtime());
    let policy = |port: u16| Policy::new().deny(port).cgroup(app.within().unwrap()).tables();
    both([&runtime, &runtime], [policy(99), policy(100)]);
    // It connects again as soon as it may. A second would leave the writer no CPU on a machine with two.
    let mut client = {
        let body = move |line: &mut Line| {
            while line.is_silent() {
                Client::to(there).dial().unwrap();
            }
        };
        Place::here().cgroup(&app).spawn(body).unwrap()
    };
    let seen = || {
        let hits = runtime.status().unwrap().hits;
        [READ_WHOLE, READ_ANOTHER].map(|key| hits.get(&key).copied().unwrap_or_default())
    };
    // Not after each: reading what was counted takes longer than a program is stopped.
    for ports in (101..400).collect::<Vec<u16>>().chunks(8) {
        for ports in ports.chunks_exact(2) {
            apply([&runtime, &other], [policy(ports[0]), policy(ports[1])]);
        }
        if enough(seen()) {
            break;
        }
    }
    client.line().say("stop").unwrap();
    client.join().unwrap();
    let seen = seen();
    runtime.detach_all(true).unwrap();
    seen
}

fn both<S: System>(runtimes: [&Runtime<S>; 2], policies: [Tables; 2]) {
    for (runtime, tables) in runtimes.into_iter().zip(&policies) {
        assert!(runtime.apply(request(tables)).unwrap().changed);
    }
}

#[kernel_test]
fn a_program_stopped_on_the_kernel_sees_one_generation() {
    let [whole, another] = reads_on_the_kernel(|kernel| kernel, both, |[whole, _]| whole > 15);
    assert!(whole > 15 && another == 0, "{whole} saw their generation, {another} did not");
}

#[kernel_test]
fn without_the_grace_period_programs_on_the_kernel_see_two() {
    let [whole, another] = reads_on_the_kernel(
        |kernel| Faulty::new(kernel, Injected::NoGracePeriod),
        both,
        |[_, another]| another > 0,
    );
    assert!(another > 0, "{whole} saw their generation, and all of them did");
}

#[kernel_test]
fn a_grace_period_ahead_counts_unless_a_policy_went_live_since() {
    let interleaved = |[first, second]: [&Runtime<Kernel>; 2], policies: [Tables; 2]| {
        let prepared = [first.prepare(), second.prepare()];
        for ((runtime, tables), prepared) in [first, second].into_iter().zip(&policies).zip(prepared) {
            assert!(runtime.apply(Apply { prepared, ..request(tables) }).unwrap().changed);
        }
    };
    let [whole, another] = reads_on_the_kernel(|kernel| kernel, interleaved, |[whole, _]| whole > 15);
    assert!(whole > 15 && another == 0, "{whole} saw their generation, {another} did not");
}
