//! Pods of different networks that have the same addresses and ports at the same time: every byte past the stack
//! arrives at the end that it was sent to.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Errno, Failure, Pair, Place, Tested, until};
use serde_json::Value;

use crate::fixtures::duo::{Duo, End};
use crate::fixtures::stage::{SIDECAR_UID, address};

/// How long one connection waits until its twin is open.
const PATIENCE: Duration = Duration::from_secs(15);

/// How many messages go each way.
const ROUNDS: usize = 60;

/// One connection: who listens where, and who dials what from which source.
struct Case<'a> {
    there: &'a Place,
    listen: SocketAddr,
    here: &'a Place,
    open: Client,
}

/// Bytes that only this end of this connection sends.
fn own(pair: usize, client: bool, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let seed = [u8::try_from(pair).unwrap_or(0), u8::from(client)];
    blake3::Hasher::new().update(&seed).finalize_xof().fill(&mut bytes);
    bytes
}

fn rounds(end: &mut End<'_>, pair: usize, client: bool) -> Result<usize, Errno> {
    let mut right = 0;
    for size in [1, 60, 3000, 20_000].into_iter().cycle().take(ROUNDS) {
        if client {
            end.send(&own(pair, true, size))?;
        }
        right += usize::from(end.take(size)? == own(pair, !client, size));
        if !client {
            end.send(&own(pair, false, size))?;
        }
    }
    Ok(right)
}

/// Runs the same connection in both pairs; each goes on when both are open.
fn at_the_same_time(duo: &Duo, dir: &Path, cases: [Case<'_>; 2]) -> Tested {
    let open = |pair: usize| dir.join(format!("open-{pair}"));
    let ended = std::thread::scope(|scope| {
        let runs: Vec<_> = cases
            .iter()
            .enumerate()
            .map(|(pair, case)| {
                scope.spawn(move || {
                    duo.between(
                        case.there,
                        case.listen,
                        case.here,
                        case.open.clone(),
                        |end| {
                            std::fs::write(open(pair), "")?;
                            if !until(PATIENCE, || open(1 - pair).exists()) {
                                return Err(Errno::ETIMEDOUT);
                            }
                            Ok((rounds(end, pair, true)?, end.stream.local_addr()?, end.stream.peer_addr()?))
                        },
                        |end| rounds(end, pair, false),
                    )
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().map_err(|_| "a panic")?).collect::<Result<Vec<_>, Failure>>()
    })?;
    let mut ends = Vec::new();
    for (near, far) in ended {
        let (right, local, peer) = near?;
        assert_eq!((right, far?), (ROUNDS, ROUNDS), "bytes of its own twin only");
        ends.push((local, peer));
    }
    assert_eq!(ends.first(), ends.last(), "they are twins");
    for pair in 0..2 {
        std::fs::remove_file(open(pair))?;
    }
    Ok(())
}

/// Bytes of all rules that went past the stack, and through it.
fn carried(duo: &Duo) -> Result<(u64, u64), Failure> {
    let status = duo.stage.ask(&["status"])?;
    let rules = status.pointer("/acceleration/rules").and_then(Value::as_array).cloned().unwrap_or_default();
    let sum = |way| rules.iter().filter_map(|rule| rule.get(way).and_then(Value::as_u64)).sum();
    Ok((sum("fast_bytes"), sum("slow_bytes")))
}

#[test]
fn pods_of_two_networks_with_the_same_addresses_and_ports_never_get_each_others_bytes() -> Tested {
    let duo = Duo::new()?;
    let other = Pair::new()?;
    let pairs = [duo.stage.pair(), &other];
    let ground = duo.stage.ground();
    // Sidecars are no users of ours.
    let meeting = ground.dir().join("meeting");
    std::fs::create_dir(&meeting)?;
    std::fs::set_permissions(&meeting, std::fs::Permissions::from_mode(0o777))?;
    for accelerate in ["", "accelerate local\naccelerate a <-> b"] {
        let policy = ground.write(
            "pods.mesh",
            format!(
                "exempt uid {SIDECAR_UID}\nredirect outbound -> 15005\nredirect inbound -> 15003\n\
                 mesh bookstore {{\n{accelerate}\nworkload a {{ label app = a }}\nworkload b {{ label app = b }}\n}}\n"
            ),
        )?;
        duo.stage.apply(&policy)?;
        for (at, pair) in pairs.iter().enumerate() {
            for (app, netns) in [("a", &pair.client), ("b", &pair.server)] {
                let path = netns.path().display().to_string();
                let (name, label) = (format!("{app}-{at}"), format!("app={app}"));
                duo.stage.ask(&["attach", "--netns", &path, "--name", &name, "--label", &label])?;
            }
        }
        let before = carried(&duo)?;
        // The sidecar of `a` and that of `b`; then the application in `a` and its sidecar.
        let peers = [
            ("0.0.0.0:15003", "192.168.7.1:8088", false),
            ("[::]:15003", "[fd07::1]:8088", false),
            ("0.0.0.0:15003", "192.168.7.1:8089", true),
        ];
        let locals = [
            ("127.0.0.1:15005", "10.9.9.9:80", false),
            ("[::1]:15005", "[fd10::9]:80", false),
            ("127.0.0.1:15005", "10.9.9.9:81", true),
        ];
        for (form, (listen, target, mapped)) in
            peers.map(|it| ("peers", it)).into_iter().chain(locals.map(|it| ("local", it)))
        {
            let (listen, target) = (address(listen)?, address(target)?);
            let source = if target.is_ipv6() {
                "[fd07::2]:41000"
            } else if mapped {
                "[::ffff:192.168.7.2]:41001"
            } else {
                "192.168.7.2:41000"
            };
            let source = address(source)?;
            let open = Client::to(target).from(source);
            let open = if mapped { open.mapped() } else { open };
            let places: Vec<_> = pairs
                .iter()
                .map(|pair| {
                    let sidecar = duo.stage.beside().netns(&pair.client).uid(SIDECAR_UID);
                    match form {
                        "peers" => (duo.stage.beside().netns(&pair.server).uid(SIDECAR_UID), sidecar),
                        _ => (sidecar, duo.stage.beside().netns(&pair.client)),
                    }
                })
                .collect();
            let [first, second] = places.as_slice() else { return Err("two pairs".into()) };
            let case = |(there, here): &'_ (Place, Place)| (there.clone(), here.clone());
            let ((one_there, one_here), (two_there, two_here)) = (case(first), case(second));
            let began = carried(&duo)?;
            at_the_same_time(
                &duo,
                &meeting,
                [
                    Case { there: &one_there, listen, here: &one_here, open: open.clone() },
                    Case { there: &two_there, listen, here: &two_here, open: open.clone() },
                ],
            )?;
            let ended = carried(&duo)?;
            if !accelerate.is_empty() {
                let (short, long) = (ended.0 - began.0, ended.1 - began.1);
                // Of both twins: one of them alone would be half of this.
                let all = 2 * 2 * 15 * (1 + 60 + 3000 + 20_000);
                assert!(short > all * 3 / 4, "{form} {target}: {short} short, {long} long of {all}");
            }
        }
        assert_eq!(carried(&duo)? == before, accelerate.is_empty());
        for pair in pairs {
            for netns in [&pair.client, &pair.server] {
                duo.stage.ask(&["detach", "--netns", &netns.path().display().to_string()])?;
            }
        }
    }
    Ok(())
}
