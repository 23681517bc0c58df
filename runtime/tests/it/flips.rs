//! Policies that change under load, writers that race, and locks whose directories go away.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mesh_bpf::tables::Tables;
use mesh_runtime::{Error, State};
use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Errno, Ground, Place, Server, ServerTask, long_runs_are_wanted};

use crate::common::{Policy, on_ground, request, runtime};

/// What the connections of one client came to.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Tally {
    /// Both policies seen: to the first sidecar, to the second.
    reached: [u32; 2],
    wrong: Vec<String>,
}

impl Tally {
    /// One connection to the port on which the policies differ in the sidecar.
    fn dial(&mut self, there: SocketAddr) {
        match Client::to(there).dial() {
            Ok(dialled) if dialled.arrival.original() == Some(there) && dialled.peer == there => {
                match dialled.arrival.who.as_str() {
                    "first" => self.reached[0] += 1,
                    "second" => self.reached[1] += 1,
                    who => self.wrong.push(format!("reached {who}")),
                }
            }
            other => self.wrong.push(format!("{other:?}")),
        }
    }
}

#[test]
fn no_connection_is_lost_or_led_astray_while_policies_flip() {
    let (ground, runtime) = on_ground();
    let place = Place::here().cgroup(ground.cgroup());
    let sidecar = |who| {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        (ServerTask::start(&place, who, &[free]).unwrap(), free.port())
    };
    let ((_first, one), (_second, two)) = (sidecar("first"), sidecar("second"));
    let far = Server::start_here("far", &["127.0.0.2:0".parse().unwrap()]).unwrap();
    let there = far.addresses().unwrap()[0];
    let app = ground.cgroup().child("app").unwrap();
    // What the two have in common is laid out differently, so that a mix would reach neither sidecar.
    let policy = |sidecar, prefixes| {
        Policy::new()
            .redirect(there.port(), sidecar)
            .prefixes(prefixes)
            .cgroup(app.within().unwrap())
            .tables()
    };
    let policies = [policy(one, 50), policy(two, 400)];
    runtime.apply(request(&policies[0])).unwrap();
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let body = move |line: &mut mesh_testbed::Line| {
                let mut tally = Tally::default();
                while line.is_silent() && tally.wrong.len() < 5 {
                    tally.dial(there);
                }
                tally
            };
            Place::here().cgroup(&app).spawn(body).unwrap()
        })
        .collect();
    let mut reader = {
        let (ground, policies) = (&ground, &policies);
        // Somebody looks all the while, and never sees a mix.
        let body = move |line: &mut mesh_testbed::Line| {
            let runtime = crate::common::runtime(ground);
            let mut wrong = Vec::new();
            while line.is_silent() && wrong.is_empty() {
                match (runtime.status(), runtime.live()) {
                    (Ok(status), Ok(Some(live))) => {
                        wrong.extend(status.drift.iter().map(|drift| format!("{drift:?}")));
                        if !policies.contains(&live.tables) {
                            wrong.push("a mix of tables".into());
                        }
                    }
                    other => wrong.push(format!("{other:?}")),
                }
            }
            wrong
        };
        Place::here().spawn(body).unwrap()
    };
    let began = Instant::now();
    let mut flips = 0;
    let enough = if long_runs_are_wanted() { 3000 } else { 20 };
    // On a busy machine an apply may take as long as many connections, and a connection as long as many applies.
    let both_decide = || runtime.status().unwrap().hits.values().filter(|&&hits| hits > 150).count() >= 2;
    // Clients that have ended decide nothing more, and tell why below.
    let waits = || began.elapsed() < Duration::from_secs(120) && !both_decide();
    while began.elapsed() < Duration::from_secs(4) || flips < enough || waits() {
        flips += 1;
        assert!(runtime.apply(request(&policies[flips % 2])).unwrap().changed);
    }
    // One that has ended already tells why.
    let _ = reader.line().say("stop");
    assert_eq!(reader.join().unwrap(), Vec::<String>::new());
    let mut reached = [0, 0];
    for mut client in clients {
        let _ = client.line().say("stop");
        let tally = client.join().unwrap();
        assert_eq!(tally.wrong, Vec::<String>::new());
        reached = [reached[0] + tally.reached[0], reached[1] + tally.reached[1]];
    }
    assert!(flips > 10 && reached[0] > 100 && reached[1] > 100, "{flips} flips, {reached:?}");
    runtime.detach_all(true).unwrap();
}

#[test]
fn writers_that_race_leave_one_whole_policy() {
    let ground = Ground::new().unwrap();
    let policies: Vec<Tables> = (80..84).map(|port| Policy::new().deny(port).tables()).collect();
    let writers: Vec<_> = (0..3)
        .map(|writer: usize| {
            let (ground, policies) = (&ground, &policies);
            let body = move |_: &mut mesh_testbed::Line| {
                let runtime = runtime(ground);
                let mut wrong = Vec::new();
                for round in 0..8 {
                    let result = if writer == 0 && round % 4 == 3 {
                        runtime.detach_all(false).map(drop)
                    } else {
                        runtime.apply(request(&policies[(writer + round) % 4])).map(drop)
                    };
                    match result {
                        // It waited, and there is nothing to wait for any more.
                        Ok(()) | Err(Error::DetachedMeanwhile) => {}
                        Err(error) => wrong.push(error.to_string()),
                    }
                }
                wrong
            };
            Place::here().spawn(body).unwrap()
        })
        .collect();
    for writer in writers {
        assert_eq!(writer.join().unwrap(), Vec::<String>::new());
    }
    let runtime = runtime(&ground);
    runtime.apply(request(&policies[0])).unwrap();
    let status = runtime.status().unwrap();
    assert_eq!((status.head.state, status.head.claim, status.drift), (State::Active, 0, Vec::new()));
    assert_eq!(runtime.live().unwrap().unwrap().tables, policies[0]);
    runtime.detach_all(true).unwrap();
}

#[test]
fn a_denied_connection_stays_denied_through_an_unrelated_change() {
    let (ground, runtime) = on_ground();
    let far = Server::start_here("far", &["127.0.0.2:0".parse().unwrap()]).unwrap();
    let there = far.addresses().unwrap()[0];
    let app = ground.cgroup().child("app").unwrap();
    let policy =
        |prefixes| Policy::new().deny(there.port()).prefixes(prefixes).cgroup(app.within().unwrap()).tables();
    runtime.apply(request(&policy(1))).unwrap();
    let body = move |line: &mut mesh_testbed::Line| {
        let mut answers = [0u32, 0];
        while line.is_silent() {
            let denied = Client::to(there).dial().err() == Some(Errno::EPERM);
            answers[usize::from(denied)] += 1;
        }
        answers
    };
    let mut client = Place::here().cgroup(&app).spawn(body).unwrap();
    for round in 2..40 {
        runtime.apply(request(&policy(round % 7))).unwrap();
    }
    client.line().say("stop").unwrap();
    let [passed, denied] = client.join().unwrap();
    assert!(passed == 0 && denied > 100, "{passed} passed, {denied} denied");
    runtime.detach_all(true).unwrap();
}

#[test]
fn a_lock_whose_directory_was_removed_locks_nobody_out() {
    let (ground, runtime) = on_ground();
    let tables = Policy::new().deny(80).tables();
    runtime.apply(request(&tables)).unwrap();
    let pins = runtime.instance().pins();
    let held = std::fs::File::open(&pins).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut waiting = {
        let ground = &ground;
        let body = move |line: &mut mesh_testbed::Line| {
            line.say("waiting").map_err(|error| error.to_string())?;
            let result = common_apply(ground);
            result.map_err(|error| error.code().to_owned())
        };
        Place::here().spawn(body).unwrap()
    };
    waiting.line().hear().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    // Somebody tidies up by hand, pins and lock and all.
    std::fs::remove_dir_all(&pins).unwrap();
    drop(held);
    assert_eq!(waiting.join().unwrap(), Err("detached".into()));
    // The kernel takes links away by and by once their pins are gone.
    let applies = || match runtime.apply(request(&tables)) {
        Err(mesh_runtime::Error::AnotherMesh { .. }) => false,
        applied => applied.unwrap().changed,
    };
    assert!(mesh_testbed::until(Duration::from_secs(10), applies));
    runtime.detach_all(true).unwrap();
}

fn common_apply(ground: &Ground) -> mesh_runtime::Result<()> {
    let tables = Policy::new().deny(81).tables();
    runtime(ground).apply(request(&tables)).map(drop)
}

#[test]
fn a_process_that_forks_meanwhile_is_no_obstacle() {
    let (_ground, runtime) = on_ground();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // The child has a copy of every mapping of this process that is not kept from it.
                Place::here().run(|| std::thread::sleep(Duration::from_millis(5))).unwrap();
            }
        });
        for round in 0..40 {
            let applied = runtime.apply(request(&Policy::new().deny(80 + round).prefixes(2000).tables()));
            if applied.is_err() {
                done.store(true, Ordering::Relaxed);
            }
            assert!(applied.unwrap().changed);
        }
        done.store(true, Ordering::Relaxed);
    });
    runtime.detach_all(true).unwrap();
}
