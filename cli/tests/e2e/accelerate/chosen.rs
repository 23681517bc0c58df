//! Connections that a policy chooses go past the stack, and no others.

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Failure, Tested, storage};

use crate::fixtures::command::Answer;
use crate::fixtures::duo::{ByteCounts, Duo, End, SHAPES, SIDECAR, TARGET, pattern};
use crate::fixtures::seen::Seen;
use crate::fixtures::stage::{SIDECAR_UID, address};

#[test]
fn questions_and_answers_of_all_sizes_take_the_fast_path() -> Tested {
    let duo = Duo::new()?;
    duo.apply(true)?;
    for (listen, target, mapped) in
        [(SIDECAR, TARGET, false), ("[::1]:15005", "[fd10::9]:80", false), (SIDECAR, TARGET, true)]
    {
        let open = Client::to(address(target)?);
        let open = if mapped { open.mapped() } else { open };
        let before = duo.counts()?;
        let rounds = |end: &mut End<'_>, asks: bool| {
            for size in SHAPES.into_iter().cycle().take(200) {
                let (question, answer) = (pattern(size), pattern(size / 2 + 1));
                if asks {
                    end.send(&question)?;
                    assert!(end.take(answer.len())? == answer, "an answer of {size}");
                } else {
                    assert!(end.take(size)? == question, "a question of {size}");
                    end.send(&answer)?;
                }
            }
            Ok(())
        };
        let (beside, cart) = (duo.stage.beside(), duo.stage.cart());
        let (near, far) = duo.between(
            &beside,
            address(listen)?,
            &cart,
            open,
            |end| rounds(end, true),
            |end| rounds(end, false),
        )?;
        near?;
        far?;
        let after = duo.counts()?;
        let (short, long) = (after.fast - before.fast, after.slow - before.slow);
        assert!(short > 10 * long, "{target}: {short} short, {long} long: {}", after.messages);
    }
    Ok(())
}

#[test]
fn a_sidecar_reaches_its_own_application_by_the_fast_path() -> Tested {
    let duo = Duo::new()?;
    duo.both_ways(|| {
        let (application, sidecar) = (duo.stage.cart(), duo.stage.cart().uid(SIDECAR_UID));
        let (near, far) = duo.between(
            &application,
            address("127.0.0.1:8080")?,
            &sidecar,
            Client::to(address("127.0.0.1:8080")?),
            |end| {
                end.send(&pattern(1000))?;
                end.take(2000)
            },
            |end| {
                let asked = end.take(1000)?;
                end.send(&pattern(2000))?;
                Ok(asked)
            },
        )?;
        assert!(near? == pattern(2000) && far? == pattern(1000));
        Ok(())
    })
}

#[test]
fn what_is_not_chosen_never_enters() -> Tested {
    let duo = Duo::new()?;
    let stage = &duo.stage;
    let held = |target: &str| -> Result<usize, Failure> {
        let target = address(target)?;
        let mut held = stage.cart().spawn(|line| {
            let stream = Client::to(target).open();
            let _ = line.say("open").and_then(|()| line.hear());
            stream.is_ok()
        })?;
        held.line().hear()?;
        let sockets = storage::sockets_with_storage(&stage.pin("socket_accel")?)?;
        assert_eq!(storage::entries(&stage.pin("pairs")?)?, sockets / 2, "{target}");
        held.line().say("close")?;
        held.join()?;
        Ok(sockets)
    };
    stage.apply_rules(
        "redirect outbound -> 15001\nexclude outbound tcp 443\ndeny outbound tcp 25\n\
         accelerate local for cart tcp 80, 443, 25",
    )?;
    assert_eq!(held("10.0.3.9:80")?, 2, "both ends of the one that is chosen");
    for other in ["10.0.3.9:443", "10.0.3.9:25", "10.0.3.9:8080"] {
        assert_eq!(held(other)?, 0, "{other}");
    }
    assert_eq!(stage.dial("10.0.3.9:443")?, Seen::Straight);
    for map in ["pairs", "pending_pairs"] {
        assert_eq!(storage::entries(&stage.pin(map)?)?, 0, "{map}");
    }
    Ok(())
}

/// Two pods, each with a sidecar, whose workloads `a` and `b` this policy speaks of.
fn two_pods(duo: &Duo, accelerate: &str) -> Tested {
    let text = format!(
        "exempt uid {SIDECAR_UID}\nredirect outbound -> 15001\nredirect inbound -> 15003\n\
         mesh bookstore {{\nexclude inbound tcp 9091\n{accelerate}\n\
         workload a {{ label app = a }}\nworkload b {{ label app = b }}\n}}\n"
    );
    let policy = duo.stage.ground().write("pods.mesh", text)?;
    duo.stage.apply(&policy)?;
    for (name, netns) in [("a", &duo.stage.pair().client), ("b", &duo.stage.pair().server)] {
        let (path, label) = (netns.path().display().to_string(), format!("app={name}"));
        duo.stage.ask(&["attach", "--netns", &path, "--name", name, "--label", &label])?;
    }
    Ok(())
}

/// The sidecar of `a` asks that of `b`, whichever port `b`'s sidecar listens on, by the port that is dialled.
fn ask_peer(duo: &Duo, listen: &str, target: &str) -> Result<ByteCounts, Failure> {
    let before = duo.counts()?;
    let here = duo.stage.beside().uid(SIDECAR_UID);
    let there = duo.stage.beside().netns(&duo.stage.pair().server).uid(SIDECAR_UID);
    let rounds = |end: &mut End<'_>, asks: bool| {
        for size in [10, 1000, 20_000].into_iter().cycle().take(30) {
            if asks {
                end.send(&pattern(size))?;
            }
            assert!(end.take(size)? == pattern(size));
            if !asks {
                end.send(&pattern(size))?;
            }
        }
        Ok(())
    };
    let (near, far) = duo.between(
        &there,
        address(listen)?,
        &here,
        Client::to(address(target)?),
        |end| rounds(end, true),
        |end| rounds(end, false),
    )?;
    near?;
    far?;
    let after = duo.counts()?;
    Ok(ByteCounts {
        fast: after.fast - before.fast,
        slow: after.slow - before.slow,
        messages: after.messages,
    })
}

#[test]
fn sidecars_of_two_pods_exchange_bytes_by_the_fast_path_where_they_are_chosen() -> Tested {
    for accelerate in [
        "accelerate a <-> b tcp not 7000",
        "accelerate within both tcp not 7000\ngroup both = a, b",
        "accelerate all tcp not 7000",
    ] {
        let duo = Duo::new()?;
        two_pods(&duo, accelerate)?;
        for (listen, target) in [("0.0.0.0:15003", "192.168.7.1:8088"), ("[::]:15003", "[fd07::1]:8088")] {
            let counts = ask_peer(&duo, listen, target)?;
            assert!(counts.fast > 5 * counts.slow, "{accelerate}, {target}: {counts:?}");
        }
        // Not accelerated, and excluded: there the application itself is reached.
        for (listen, target) in
            [("0.0.0.0:15003", "192.168.7.1:7000"), ("192.168.7.1:9091", "192.168.7.1:9091")]
        {
            let counts = ask_peer(&duo, listen, target)?;
            assert_eq!((counts.fast, counts.slow), (0, 0), "{accelerate}, {target}: it never entered");
        }
        for map in ["pairs", "pending_pairs"] {
            assert_eq!(storage::entries(&duo.stage.pin(map)?)?, 0, "{map}");
        }
    }
    Ok(())
}

#[test]
fn sidecars_of_pods_that_are_not_chosen_never_enter() -> Tested {
    let duo = Duo::new()?;
    // The workload `a` has a peer, and it is not `b`.
    two_pods(&duo, "accelerate within own\ngroup own = a")?;
    let counts = ask_peer(&duo, "0.0.0.0:15003", "192.168.7.1:8088")?;
    assert_eq!((counts.fast, counts.slow), (0, 0));
    Ok(())
}

#[test]
fn who_accelerates_every_port_is_told_what_streams_cost() -> Tested {
    let duo = Duo::new()?;
    let told = |ports: &str| {
        let text = format!(
            "exempt uid 1500\nredirect outbound -> 15001\nmesh shop {{\naccelerate local {ports}\nworkload a {{ label app = a }}\n}}\n"
        );
        let policy = duo.stage.ground().write("ports.mesh", text)?;
        let answer = Answer::of(duo.stage.meshc().arg("apply").arg(&policy))?.done()?;
        Ok::<_, Failure>(answer.stderr.contains("every port of `shop/a` is accelerated"))
    };
    assert!(told("")? && told("tcp")?);
    assert!(!told("tcp 80")? && !told("tcp not 9092")?);
    Ok(())
}
