//! Maps that are full: what is denied stays denied, nothing goes past a sidecar, and what found no room is counted.

use std::fs;
use std::io;
use std::net::SocketAddr;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Arrival, Client, Errno, Failure, Line, Place, Task, Tested, storage};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::fixtures::duo::Duo;
use crate::fixtures::seen::{Seen, seen};
use crate::fixtures::stage::{SIDECAR_UID, Stage, address, as_member};
use crate::fixtures::town::{Pod, Reached, addresses, reach, reached};

/// Connections that are kept for one member while they are being opened, and for one user of it.
const MEMBERS: usize = 32_768;
const USERS: usize = MEMBERS / 8;
/// This many of them are anybody's.
const ANYBODYS: usize = MEMBERS / 2;

/// What the programs have counted under a name.
fn counted(status: &Value, name: &str) -> u64 {
    let all = status.get("counters").and_then(Value::as_array).into_iter().flatten();
    all.filter(|it| it["name"] == name).filter_map(|it| it.get("value")?.as_u64()).sum()
}

#[test]
fn a_full_hand_over_sends_nobody_past_a_sidecar() -> Tested {
    let rules = "redirect outbound -> 15001\nexclude outbound tcp 3306\ndeny outbound tcp 25";
    let stage = Stage::ruled(rules)?;
    let handover = stage.pin("handover")?;
    storage::fill(&handover, false)?;
    for host in ["10.0.3.9", "[fd10::9]"] {
        let target = address(&format!("{host}:80"))?;
        let before = counted(&stage.ask(&["status"])?, "handover_full");
        let dialled = as_member(&stage.cart(), || Client::to(target).dial())??;
        let Arrival { who, .. } = &dialled.arrival;
        // The sidecar has it, and is not told where it was going.
        assert_eq!((who.as_str(), dialled.arrival.original()), ("sidecar", None), "{dialled:?}");
        assert_eq!(counted(&stage.ask(&["status"])?, "handover_full"), before + 1);
        assert_eq!(stage.dial(&format!("{host}:25"))?, Seen::Denied);
        assert_eq!(stage.dial(&format!("{host}:3306"))?, Seen::Straight);
    }
    storage::fill(&handover, true)?;
    for target in ["10.0.3.9:80", "[fd10::9]:80"] {
        assert_eq!(stage.dial(target)?, Seen::Redirected(15001), "{target}");
    }
    assert_eq!(storage::entries(&handover)?, 0);
    Ok(())
}

#[test]
fn full_exempt_flows_change_nothing_for_others() -> Tested {
    let rules =
        "redirect inbound -> 15003\nredirect inbound from 10.42.0.2, fd42::2 -> 15003\ndeny inbound tcp 9090";
    let pod = Pod::ruled(crate::fixtures::town::WAY, rules)?;
    let _servers = pod.servers()?;
    let flows = pod.pin("exempt_flows");
    let sidecars = |target: &str| -> Result<Reached, Failure> {
        let target = address(target)?;
        Ok(reached(pod.sidecar_place().run(|| Client::to(target).dial())?, target))
    };
    for own in ["10.42.0.2:8080", "[fd42::2]:8080"] {
        assert_eq!(sidecars(own)?, Reached::Straight("application".into()));
    }
    storage::fill(&flows, false)?;
    for (own, denied) in [("10.42.0.2:8080", "10.42.0.2:9090"), ("[fd42::2]:8080", "[fd42::2]:9090")] {
        assert_eq!(reach(&pod.town().far, own)?, Reached::Redirected("sidecar".into()));
        assert_eq!(reach(&pod.town().far, denied)?, Reached::Failed(Errno::ECONNREFUSED));
        let before = counted(&pod.ask(&["status"])?, "exempt_full");
        // What could not be noted is as anybody's: it comes back to the sidecar.
        assert_eq!(sidecars(own)?, Reached::Redirected("sidecar".into()));
        assert_eq!(counted(&pod.ask(&["status"])?, "exempt_full"), before + 1);
    }
    storage::fill(&flows, true)?;
    for own in ["10.42.0.2:8080", "[fd42::2]:8080"] {
        assert_eq!(sidecars(own)?, Reached::Straight("application".into()));
    }
    Ok(())
}

/// What a status says that is not as it was applied.
fn drift(status: &Value) -> Vec<String> {
    let all = status.get("drift").and_then(Value::as_array).into_iter().flatten();
    all.filter_map(|it| it["text"].as_str().map(str::to_owned)).collect()
}

/// How many entries a map has, by a status.
fn noted(status: &Value, map: &str) -> usize {
    let all = status.get("maps").and_then(Value::as_array).into_iter().flatten();
    let counts = all.filter(|it| it["name"] == map).filter_map(|it| it.get("entries")?.as_u64());
    counts.sum::<u64>().try_into().unwrap_or(usize::MAX)
}

/// A process that listens and accepts nothing: the connections of all but its first clients stay on their way.
fn deaf(place: &Place, listen: &[&str]) -> Result<Task<Result<(), Errno>>, Failure> {
    let listen = addresses(listen)?;
    hold(place, |held| {
        for address in &listen {
            let socket = Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
            if address.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            socket.set_reuse_address(true)?;
            socket.bind(&(*address).into())?;
            socket.listen(0)?;
            held.push(socket);
        }
        Ok(())
    })
}

/// A process that opens this many connections and waits for none of them.
fn flood(place: &Place, target: &str, connections: usize) -> Result<Task<Result<(), Errno>>, Failure> {
    let target: SocketAddr = address(target)?;
    hold(place, |held| {
        for _ in 0..connections {
            let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            match socket.connect(&target.into()).map_err(Errno::from) {
                // The second is how `Errno` reads `EINPROGRESS`.
                Ok(()) | Err(Errno::ETIMEDOUT) => held.push(socket),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    })
}

/// A process that has these sockets, until the task is dropped.
fn hold(
    place: &Place,
    open: impl FnOnce(&mut Vec<Socket>) -> Result<(), Errno>,
) -> Result<Task<Result<(), Errno>>, Failure> {
    let mut task = place.spawn(|line: &mut Line| {
        let mut held = Vec::new();
        let opened = open(&mut held);
        line.say(&format!("{opened:?}"))?;
        opened?;
        // The test ends it; one that says nothing for long is still there.
        while line.hear().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {}
        Ok(())
    })?;
    match task.line().hear()?.as_str() {
        "Ok(())" => Ok(task),
        error => Err(format!("{place:?}: {error}").into()),
    }
}

#[test]
fn who_fills_the_hand_over_takes_no_room_of_other_users_nor_of_other_members() -> Tested {
    let rules = "redirect outbound -> 15001\nredirect outbound tcp 9090 -> 15099";
    let stage = Stage::ruled(rules)?;
    stage.pair().client.set("net/ipv4/tcp_syn_retries", "20")?;
    let _deaf = deaf(&stage.beside(), &["127.0.0.1:15099", "[::1]:15099"])?;
    let status = || stage.ask(&["status"]);
    let targets = [address("10.0.3.9:80")?, address("[fd10::9]:80")?];
    // Whether the sidecar is told where the connections of who lives there are going.
    let told = |place: &Place| -> Result<bool, Failure> {
        let mut told = Vec::new();
        for target in targets {
            let arrival = as_member(place, || Client::to(target).dial())??.arrival;
            assert_eq!(arrival.who, "sidecar");
            told.push(arrival.original() == Some(target));
        }
        assert_eq!(told.first(), told.last());
        Ok(told.iter().all(|told| *told))
    };
    let user = |uid: u32| stage.cart().uid(uid);
    let before = status()?;
    let mut floods =
        vec![flood(&user(1000), "10.0.3.9:9090", 12_000)?, flood(&user(1000), "[fd10::9]:9090", 12_000)?];
    let after = status()?;
    assert_eq!(noted(&after, "handover"), ANYBODYS + USERS);
    let more = |name: &str| counted(&after, name) - counted(&before, name);
    let sent = usize::try_from(more("handover_full") + more("accepted"))? + ANYBODYS + USERS;
    assert_eq!(sent, 24_000);
    assert!(more("accepted") < 10, "{after:#?}");
    assert!(
        matches!(&drift(&after)[..], [one] if one.contains("`cart`") && one.contains("by user 1000")),
        "{:?}",
        drift(&after)
    );
    // The user that has too many; another one; another member, also of that user.
    let seen =
        [told(&user(1000))?, told(&user(1001))?, told(&stage.batch())?, told(&stage.batch().uid(1000))?];
    assert_eq!(seen, [false, true, true, true]);

    for uid in 1002..1005 {
        floods.push(flood(&user(uid), "10.0.3.9:9090", USERS + 100)?);
    }
    let full = status()?;
    assert_eq!(noted(&full, "handover"), MEMBERS);
    let words = drift(&full);
    assert!(
        words.iter().any(|it| it.contains(&format!("has {MEMBERS} connections on their way to a sidecar"))),
        "{words:?}"
    );
    let seen = [told(&user(1001))?, told(&stage.batch())?, told(&stage.batch().uid(1000))?];
    assert_eq!(seen, [false, true, true]);
    // It is so indeed: nothing is repaired.
    let policy = stage.ground().dir().join("policy.mesh").display().to_string();
    stage.ask(&["apply", "--repair", &policy])?;
    assert_eq!(drift(&status()?), words);

    drop(floods);
    let emptied = || status().is_ok_and(|status| noted(&status, "handover") == 0);
    assert!(mesh_testbed::until(std::time::Duration::from_secs(60), emptied));
    assert_eq!(drift(&status()?), Vec::<String>::new());
    assert!(told(&user(1000))?);
    // All was given back: as many are noted again.
    let _again = flood(&user(1000), "10.0.3.9:9090", 18_000)?;
    assert_eq!(noted(&status()?, "handover"), 18_000);
    Ok(())
}

#[test]
fn a_count_of_connections_that_is_too_high_is_drift_and_found_by_repair() -> Tested {
    let rules = "redirect outbound -> 15001\nredirect outbound tcp 9090 -> 15099";
    let stage = Stage::ruled(rules)?;
    let target = address("10.0.3.9:80")?;
    let told = || -> Result<bool, Failure> {
        let arrival = as_member(&stage.cart(), || Client::to(target).dial())??.arrival;
        Ok(arrival.original() == Some(target))
    };
    stage.pair().client.set("net/ipv4/tcp_syn_retries", "20")?;
    let _deaf = deaf(&stage.beside(), &["127.0.0.1:15099"])?;
    let _flood = flood(&stage.cart(), "10.0.3.9:9090", 3_000)?;
    assert!(told()?);
    // `struct mesh_quota_key` ends with its kind, and a quota begins with its count: 2 is what is handed over.
    let quotas = stage.pin("quotas")?;
    let counts = || -> Result<Vec<storage::Entry>, Failure> {
        let mut counts = storage::read(&quotas)?;
        counts.retain(|(key, _)| key.get(12..) == Some(&[2, 0, 0, 0]));
        Ok(counts)
    };
    let right = counts()?;
    let [(key, count)] = &right[..] else { return Err(format!("{right:?}").into()) };
    let there = u32::try_from(noted(&stage.ask(&["status"])?, "handover"))?.to_ne_bytes();
    assert_eq!(count.get(..4), Some(&there[..]));
    storage::write(&quotas, key, &u64::try_from(MEMBERS)?.to_ne_bytes())?;
    assert!(!told()?);
    let found = drift(&stage.ask(&["status"])?);
    assert!(matches!(&found[..], [one] if one.contains("`cart`")), "{found:?}");
    let policy = stage.ground().dir().join("policy.mesh").display().to_string();
    stage.ask(&["apply", "--repair", &policy])?;
    assert_eq!(drift(&stage.ask(&["status"])?), Vec::<String>::new());
    assert_eq!(counts()?, right);
    assert!(told()?);
    Ok(())
}

#[test]
fn who_fills_exempt_flows_takes_no_room_of_other_users_nor_of_other_pods() -> Tested {
    let rules = "exempt uid 1501\nredirect inbound -> 15003\n\
                 redirect inbound from 10.42.0.2, fd42::2, 10.42.1.2, fd42:1::2 -> 15003";
    let pod = Pod::ruled(crate::fixtures::town::WAY, rules)?;
    let other = &pod.town().other;
    pod.attach_named(other, "cart-2", &["10.42.1.2", "fd42:1::2"])?;
    pod.town().pod.set("net/ipv4/tcp_syn_retries", "20")?;
    let _servers = pod.servers()?;
    let _others = pod.serve_in(other, "other's", &["0.0.0.0:8080", "[::]:8080"])?;
    let _sidecar = pod.serve_in(other, "other's sidecar", &["127.0.0.1:15003", "[::1]:15003"])?;
    let _deaf = deaf(&pod.place(), &["10.42.0.2:7070", "[fd42::2]:7070"])?;
    let status = || pod.ask(&["status"]);
    let dial = |place: &Place, target: &str| -> Result<Reached, Failure> {
        let target = address(target)?;
        Ok(reached(place.run(|| Client::to(target).dial())?, target))
    };
    let own = |uid: u32| dial(&pod.place().uid(uid), "10.42.0.2:8080");
    let others = || dial(&Place::here().netns(other).cgroup(pod.inside()).uid(SIDECAR_UID), "10.42.1.2:8080");
    let straight = |who: &str| Reached::Straight(who.into());
    let (before, half) = (status()?, ANYBODYS / 2 + USERS / 2 + 250);
    let floods = [
        flood(&pod.sidecar_place(), "10.42.0.2:7070", half)?,
        flood(&pod.sidecar_place(), "[fd42::2]:7070", half)?,
    ];
    let after = status()?;
    assert_eq!(noted(&after, "exempt_flows"), ANYBODYS + USERS);
    assert!(counted(&after, "exempt_full") > counted(&before, "exempt_full"));
    assert!(
        matches!(&drift(&after)[..], [one] if one.contains("`cart-1`") && one.contains("by user 1500")),
        "{:?}",
        drift(&after)
    );
    // The sidecar that has too many; another exempt identity of the pod; another pod's sidecar.
    assert_eq!(own(SIDECAR_UID)?, Reached::Redirected("sidecar".into()));
    assert_eq!((own(1501)?, others()?), (straight("application"), straight("other's")));
    drop(floods);
    let emptied = || status().is_ok_and(|status| noted(&status, "exempt_flows") == 0);
    assert!(mesh_testbed::until(std::time::Duration::from_secs(60), emptied));
    assert_eq!(own(SIDECAR_UID)?, straight("application"));
    assert_eq!(drift(&status()?), Vec::<String>::new());
    Ok(())
}

#[test]
fn full_counters_of_items_change_no_decision() -> Tested {
    let rules = "redirect outbound -> 15001\nexclude outbound tcp 3306\ndeny outbound tcp 25";
    let stage = Stage::ruled(rules)?;
    let hits = stage.pin("hits")?;
    let decided = || -> Result<(), Failure> {
        for host in ["10.0.3.9", "[fd10::9]"] {
            assert_eq!(stage.dial(&format!("{host}:80"))?, Seen::Redirected(15001));
            assert_eq!(stage.dial(&format!("{host}:3306"))?, Seen::Straight);
            assert_eq!(stage.dial(&format!("{host}:25"))?, Seen::Denied);
        }
        Ok(())
    };
    let lost = || Ok::<_, Failure>(counted(&stage.ask(&["status"])?, "hit_lost"));
    decided()?;
    assert_eq!(lost()?, 0);
    storage::fill(&hits, false)?;
    decided()?;
    let after = lost()?;
    assert!(after > 0);
    storage::fill(&hits, true)?;
    decided()?;
    assert_eq!(lost()?, after);
    Ok(())
}

#[test]
fn full_maps_of_acceleration_leave_connections_to_the_stack() -> Tested {
    let duo = Duo::new()?;
    duo.apply(true)?;
    let exchange = || -> Result<u64, Failure> {
        let before = duo.counts()?.fast;
        let (client, server) = duo.run(
            |end| {
                end.send(b"question")?;
                end.take(6)
            },
            |end| {
                let heard = end.take(8)?;
                end.send(b"answer")?;
                Ok(heard)
            },
        )?;
        assert_eq!((client?, server?), (b"answer".to_vec(), b"question".to_vec()));
        Ok(duo.counts()?.fast - before)
    };
    for (map, counter) in
        [("pair_totals", "hit_lost"), ("pairs", "acceleration_full"), ("pending_pairs", "acceleration_full")]
    {
        let (pin, before) = (duo.stage.pin(map)?, duo.counter(counter)?);
        storage::fill(&pin, false)?;
        assert_eq!(exchange()?, 0, "{map}");
        assert_eq!(duo.counter(counter)?, before + 1, "{map}");
        storage::fill(&pin, true)?;
        assert!(exchange()? > 0, "{map}");
        assert_eq!(duo.counter(counter)?, before + 1, "{map}");
    }
    Ok(())
}

#[test]
fn a_cgroup_that_found_no_room_is_drift_and_joins_by_repair() -> Tested {
    let stage = Stage::new()?;
    let dir = stage.ground().cgroup().path().join("late");
    let (within, cart) =
        (format!("{}/late", stage.ground().cgroup().within()?), stage.cart_cgroup().within()?);
    let text = format!(
        "exempt uid {SIDECAR_UID}\nmesh m {{\nredirect outbound -> 15001\ndeny outbound tcp 25\n\
         workload late {{ cgroup \"{within}\" }}\nworkload cart {{ cgroup \"{cart}\" }}\n}}\n"
    );
    let policy = stage.ground().write("late.mesh", text)?;
    stage.apply(&policy)?;
    let cgroups = stage.pin("cgroups")?;
    let before = counted(&stage.ask(&["status"])?, "cgroup_lost");
    storage::fill(&cgroups, false)?;
    fs::create_dir(&dir)?;
    let status = stage.ask(&["status"])?;
    assert_eq!(counted(&status, "cgroup_lost"), before + 1);
    let said = drift(&status).into_iter().filter(|it| it.contains("late")).count();
    assert_eq!(said, 1, "{:?}", drift(&status).iter().take(5).collect::<Vec<_>>());
    // Who was a member is decided as before.
    assert_eq!(
        (stage.dial("10.0.3.9:80")?, stage.dial("10.0.3.9:25")?),
        (Seen::Redirected(15001), Seen::Denied)
    );
    storage::fill(&cgroups, true)?;
    stage.ask(&["apply", "--repair", &policy.display().to_string()])?;
    let repaired = stage.ask(&["status"])?;
    let home = stage.ground().cgroup().path().join("beside/cgroup.procs");
    let target = address("10.0.3.9:25")?;
    let late = Place::here().netns(&stage.pair().client).run(|| -> Result<Seen, Errno> {
        fs::write(dir.join("cgroup.procs"), "0")?;
        let seen = seen(&Client::to(target), target);
        fs::write(&home, "0")?;
        Ok(seen)
    })?;
    let removed = fs::remove_dir(&dir);
    assert_eq!((late, drift(&repaired)), (Ok(Seen::Denied), Vec::new()));
    Ok(removed?)
}
