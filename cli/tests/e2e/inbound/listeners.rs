//! Which of the sockets that listen on a sidecar's port gets inbound traffic.

use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Errno, Failure, ServerTask, Tested, until};
use serde_json::{Value, json};

use crate::fixtures::command::Answer;

use crate::fixtures::town::{APPLICATION, Pod, Reached, SIDECAR, addresses, reach};

const REDIRECT: &str = "redirect inbound -> 15003";
const PATIENCE: Duration = Duration::from_secs(20);

/// A process with this many sockets that share the sidecar's port.
fn sharing(pod: &Pod, who: &str, sockets: usize) -> Result<ServerTask, Failure> {
    Ok(ServerTask::sharing(&pod.sidecar_place(), who, &addresses(&vec!["127.0.0.1:15003"; sockets])?)?)
}

fn by(who: &str) -> Reached {
    Reached::Redirected(who.into())
}

fn reaches(pod: &Pod, expected: &Reached) -> bool {
    until(PATIENCE, || reach(&pod.town().far, "10.42.0.2:8080").is_ok_and(|seen| seen == *expected))
}

fn counter(pod: &Pod, name: &str) -> Result<u64, Failure> {
    let status = pod.ask(&["status"])?;
    let counters = status.get("counters").and_then(serde_json::Value::as_array).into_iter().flatten();
    Ok(counters.filter(|it| it["name"] == name).filter_map(|it| it["value"].as_u64()).sum())
}

#[test]
fn many_sockets_of_a_new_process_are_known_when_those_of_the_old_one_end() -> Tested {
    let pod = Pod::ruled(super::WAY, REDIRECT)?;
    let old = sharing(&pod, "old", 33)?;
    let _new = sharing(&pod, "new", 33)?;
    drop(old);
    assert!(reaches(&pod, &by("new")), "{:?}", reach(&pod.town().far, "10.42.0.2:8080"));
    Ok(())
}

#[test]
fn sockets_beyond_what_is_kept_track_of_are_drift_and_found_by_repair() -> Tested {
    let pod = Pod::ruled(super::WAY, REDIRECT)?;
    let drift = || -> Result<Vec<String>, Failure> {
        let status = pod.ask(&["status"])?;
        let all = status["drift"].as_array().into_iter().flatten();
        Ok(all.filter_map(|it| it["text"].as_str().map(str::to_owned)).collect())
    };
    let policy = pod.ground().dir().join("policy.mesh").display().to_string();
    let old = sharing(&pod, "old", 128)?;
    assert_eq!(drift()?, Vec::<String>::new());
    let _new = sharing(&pod, "new", 3)?;
    let found = drift()?;
    assert!(found.len() == 1 && found[0].contains("cart-1"), "{found:?}");
    // While the old one is there, nothing can be done about it.
    pod.ask(&["apply", "--repair", &policy])?;
    assert_eq!(drift()?, found);
    drop(old);
    // By tc the kernel itself is asked who listens.
    let refused = Reached::Failed(Errno::ECONNREFUSED);
    let meanwhile = if super::WAY == "tc" { by("new") } else { refused };
    assert!(reaches(&pod, &meanwhile), "{:?}", reach(&pod.town().far, "10.42.0.2:8080"));
    pod.ask(&["apply", "--repair", &policy])?;
    assert_eq!(reach(&pod.town().far, "10.42.0.2:8080")?, by("new"));
    assert_eq!(drift()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn of_all_that_listen_on_its_port_the_sidecar_gets_inbound_connections() -> Tested {
    let pod = Pod::ruled(super::WAY, REDIRECT)?;
    let far = &pod.town().far;
    let serve = |who: &str, uid: u32, listen: &[&str]| -> Result<ServerTask, Failure> {
        Ok(ServerTask::start(&pod.place().uid(uid), who, &addresses(listen)?)?)
    };
    let _other = serve("other", 1000, &["127.0.0.9:15003"])?;
    assert_eq!(reach(far, "10.42.0.2:8080")?, by("other"), "there is no other");
    assert!(counter(&pod, "others_listener")? > 0);
    let before = counter(&pod, "others_listener")?;
    let roots = serve("root", 0, &["127.0.0.8:15003"])?;
    assert_eq!(reach(far, "10.42.0.2:8080")?, by("root"));
    let elsewhere = serve("elsewhere", crate::fixtures::stage::SIDECAR_UID, &["127.0.0.7:15003"])?;
    assert_eq!(reach(far, "10.42.0.2:8080")?, by("elsewhere"));
    // Behind the others, in whichever order they are looked at.
    let _sidecar = serve("sidecar", crate::fixtures::stage::SIDECAR_UID, &SIDECAR)?;
    for target in ["10.42.0.2:8080", "[fd42::2]:8080"] {
        assert_eq!(reach(far, target)?, by("sidecar"), "{target}");
    }
    drop((roots, elsewhere));
    assert_eq!(counter(&pod, "others_listener")?, before);
    Ok(())
}

#[test]
fn a_sidecar_is_known_by_an_exempt_group_or_cgroup_too_and_who_holds_its_port_by_name() -> Tested {
    let pod = Pod::new(super::WAY)?;
    let apart = pod.ground().cgroup().child("proxy")?;
    // Deeper than the one that is named.
    let within = apart.child("worker")?;
    let by_cgroup = format!("exempt cgroup \"{}\"", apart.within()?);
    let far = &pod.town().far;
    let _application = pod.serve("application", &APPLICATION)?;
    let held = || -> Result<Vec<Value>, Failure> {
        Ok(pod.ask(&["status"])?["held"].as_array().cloned().unwrap_or_default())
    };
    for (exempt, place) in [
        ("exempt gid 1501", pod.place().uid(1001).gid(1501)),
        (&by_cgroup[..], pod.place().uid(1001).cgroup(&within)),
        ("exempt uid 1001", pod.place().uid(1001)),
    ] {
        let text = format!("{exempt}\nmesh shop {{\n{REDIRECT}\nworkload cart {{ label app = cart }}\n}}\n");
        let policy = pod.ground().write("policy.mesh", text)?.display().to_string();
        pod.ask(&["apply", &policy])?;
        pod.attach()?;
        assert_eq!(held()?, Vec::<Value>::new(), "{exempt}");
        let stranger =
            ServerTask::start(&pod.place().uid(1000), "stranger", &addresses(&["127.0.0.1:15003"])?)?;
        let before = counter(&pod, "others_listener")?;
        assert_eq!(reach(far, "10.42.0.2:8080")?, by("stranger"), "{exempt}: there is no other");
        assert!(counter(&pod, "others_listener")? > before, "{exempt}");
        let found = held()?;
        assert_eq!(found.len(), 1, "{exempt}: {found:#?}");
        let keys = ["member", "workload", "direction", "protocol", "family", "port"];
        assert_eq!(
            keys.map(|key| found[0][key].clone()),
            [
                "cart-1".into(),
                "shop/cart".into(),
                "inbound".into(),
                "tcp".into(),
                "IPv4".into(),
                json!(15003)
            ],
        );
        let it = &found[0]["by"][0];
        assert_eq!((&it["at"], &it["uid"]), (&json!("127.0.0.1:15003"), &json!(1000)), "{it}");
        assert_eq!(it["pid"], json!(stranger.id()), "{it}");
        let shown = Answer::of(pod.meshc().args(["status", "--check"]))?;
        assert!(
            shown.code == 3 && shown.stdout.contains(&format!("process {}, user 1000", stranger.id())),
            "{shown:?}"
        );
        // The sidecar gets it, though it comes later and the other one is where it is expected, and nobody is named.
        let sidecar = ServerTask::start(&place, "sidecar", &addresses(&["127.0.0.7:15003", "[::1]:15003"])?)?;
        for target in ["10.42.0.2:8080", "[fd42::2]:8080"] {
            assert_eq!(reach(far, target)?, by("sidecar"), "{exempt} {target}");
        }
        assert_eq!(held()?, Vec::<Value>::new(), "{exempt}");
        drop((sidecar, stranger));
    }
    Ok(())
}

/// A process of an ordinary user with so many listening sockets, on ports of their own.
fn flood(pod: &Pod, sockets: u16) -> Result<ServerTask, Failure> {
    let listen: Vec<String> = (0..sockets).map(|port| format!("127.0.0.1:{}", 20_000 + port)).collect();
    let listen = addresses(&listen.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok(ServerTask::start(&pod.place().uid(1000), "flood", &listen)?)
}

#[test]
fn who_listens_on_thousands_of_ports_takes_no_room_of_the_sidecar_nor_of_other_pods() -> Tested {
    let pod = Pod::ruled(super::WAY, REDIRECT)?;
    let town = pod.town();
    let before = counter(&pod, "listeners_full")?;
    let many = flood(&pod, 2100)?;
    assert_eq!(counter(&pod, "listeners_full")? - before, 2100 - 2048);
    // The pod's own sidecar, and that of another pod.
    let _sidecar = ServerTask::start(&pod.sidecar_place(), "sidecar", &addresses(&SIDECAR)?)?;
    assert_eq!(reach(&town.far, "10.42.0.2:8080")?, by("sidecar"));
    pod.attach_named(&town.other, "cart-2", &["10.42.1.2", "fd42:1::2"])?;
    let _other = pod.serve_in(&town.other, "other", &SIDECAR)?;
    assert_eq!(reach(&town.far, "10.42.1.2:8080")?, by("other"));
    let status = pod.ask(&["status"])?;
    let drift = status["drift"].as_array().cloned().unwrap_or_default();
    assert!(
        drift.len() == 1 && drift[0]["text"].as_str().is_some_and(|it| it.contains("cart-1")),
        "{drift:?}"
    );
    drop(many);
    let policy = pod.ground().dir().join("policy.mesh").display().to_string();
    let repaired = || pod.ask(&["apply", "--repair", &policy]).and_then(|_| pod.ask(&["status"]));
    let is_well = || repaired().is_ok_and(|status| status["drift"].as_array().is_some_and(Vec::is_empty));
    assert!(until(PATIENCE, is_well), "{:?}", pod.ask(&["status"])?["drift"]);
    // What it took is free again.
    let full = counter(&pod, "listeners_full")?;
    let _again = flood(&pod, 2000)?;
    assert_eq!(counter(&pod, "listeners_full")?, full);
    Ok(())
}
