//! Rules that name users, groups and cgroups are about their processes and nobody else's.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Manner, Place, Tested};
use serde_json::json;

use crate::fixtures::datagrams::{asked, servers};
use crate::fixtures::observer::{Observer, parts};
use crate::fixtures::seen::{Seen, seen};
use crate::fixtures::stage::{SIDECAR_UID, Stage, address, as_member};

/// One of each family that the application answers at.
const IPS: [&str; 2] = ["10.0.3.9", "fd10::9"];

/// What becomes of TCP connections, connected and unconnected datagrams to both addresses: one thing.
#[track_caller]
fn check(place: &Place, port: u16, expected: Seen) -> Tested {
    let targets: Vec<SocketAddr> = IPS
        .iter()
        .map(|ip| Ok(SocketAddr::new(ip.parse()?, port)))
        .collect::<Result<_, mesh_testbed::Failure>>()?;
    let all: BTreeSet<Seen> = as_member(place, || {
        let all = targets.iter().flat_map(|&target| {
            let mapped = target.is_ipv4().then(|| seen(&Client::to(target).mapped(), target));
            let datagrams = [Manner::Connected, Manner::Unconnected].map(|manner| asked(target, manner));
            [seen(&Client::to(target), target)].into_iter().chain(mapped).chain(datagrams)
        });
        all.collect()
    })?;
    assert_eq!(all, BTreeSet::from([expected]), "{place:?} {port}");
    Ok(())
}

#[test]
fn users_groups_and_cgroups_decide_by_tcp_and_udp_and_both_families() -> Tested {
    let stage = Stage::new()?;
    let _servers = servers(&stage, &IPS)?;
    let job = stage.cart_cgroup().child("job")?;
    let deep = job.child("deep")?;
    let path = job.within()?;
    stage.apply_rules(&format!(
        "redirect outbound any -> 15001
         exclude outbound any 80 as uid 1000-1999, 4294967294
         deny outbound any 80 as gid 1600
         redirect outbound any 80 as cgroup \"{path}\" -> 15002
         deny outbound any 80 as uid 1000 and cgroup \"{path}\"
         exclude outbound any 443 as uid 0"
    ))?;
    let cart = || stage.cart();
    for (uid, expected) in [
        (0, Seen::Redirected(15001)),
        (999, Seen::Redirected(15001)),
        (1000, Seen::Straight),
        (1999, Seen::Straight),
        (2000, Seen::Redirected(15001)),
        // The lower half of an id is another user.
        (0x1_0000 + 1000, Seen::Redirected(15001)),
        (4_294_967_293, Seen::Redirected(15001)),
        (4_294_967_294, Seen::Straight),
    ] {
        check(&cart().uid(uid), 80, expected)?;
        // All processes of a workload that is not the job's.
        check(&stage.batch().uid(uid), 80, expected)?;
    }
    check(&cart().gid(1600), 80, Seen::Denied)?;
    check(&cart().gid(1601), 80, Seen::Redirected(15001))?;
    // A user is no group.
    check(&cart().gid(1000), 80, Seen::Redirected(15001))?;
    check(&cart().uid(1600), 80, Seen::Straight)?;
    // Neither is narrower, and deny beats exclude.
    check(&cart().gid(1600).uid(1000), 80, Seen::Denied)?;
    for below in [&job, &deep] {
        let place = || cart().cgroup(below);
        check(&place(), 80, Seen::Redirected(15002))?;
        check(&place().uid(1000), 80, Seen::Denied)?;
        check(&place().uid(1001), 80, Seen::Straight)?;
        check(&place().gid(1600).uid(1001), 80, Seen::Denied)?;
        // An exemption passes whatever is said.
        check(&place().gid(1600).uid(SIDECAR_UID), 80, Seen::Straight)?;
    }
    check(&cart(), 443, Seen::Straight)?;
    check(&cart().uid(1000), 443, Seen::Redirected(15001))?;
    check(&cart().cgroup(&deep), 443, Seen::Straight)
}

#[test]
fn the_deepest_cgroup_and_the_narrowest_range_decide() -> Tested {
    let stage = Stage::new()?;
    let _servers = servers(&stage, &IPS)?;
    let job = stage.cart_cgroup().child("job")?;
    let step = job.child("step")?;
    let beside = stage.cart_cgroup().child("job-2")?;
    stage.apply_rules(&format!(
        "redirect outbound any -> 15001
         redirect outbound any as cgroup \"{}\" -> 15002
         exclude outbound any as cgroup \"{}\"
         deny outbound any as uid 5-9
         exclude outbound any as uid 7",
        job.within()?,
        step.within()?
    ))?;
    let places = [
        (stage.cart(), [Seen::Redirected(15001), Seen::Denied, Seen::Straight]),
        (stage.cart().cgroup(&beside), [Seen::Redirected(15001), Seen::Denied, Seen::Straight]),
        (stage.cart().cgroup(&job), [Seen::Redirected(15002), Seen::Denied, Seen::Straight]),
        (stage.cart().cgroup(&step), [Seen::Straight, Seen::Denied, Seen::Straight]),
    ];
    for (place, expected) in places {
        for (uid, expected) in [4, 5, 7].into_iter().zip(expected) {
            check(&place.clone().uid(uid), 80, expected)?;
        }
        check(&place.uid(10), 80, expected[0])?;
    }
    Ok(())
}

#[test]
fn rules_may_leave_nobody_whom_none_names() -> Tested {
    let stage = Stage::new()?;
    let _servers = servers(&stage, &IPS)?;
    stage.apply_rules(
        "redirect outbound any as uid 0-2147483647 -> 15001
         redirect outbound any as uid 2147483648-4294967295 -> 15002
         deny outbound any as gid 0 and uid 4294967294",
    )?;
    check(&stage.cart().uid(0), 80, Seen::Redirected(15001))?;
    check(&stage.cart().uid(2_147_483_647), 80, Seen::Redirected(15001))?;
    check(&stage.cart().uid(2_147_483_648), 80, Seen::Redirected(15002))?;
    check(&stage.cart().gid(1).uid(4_294_967_294), 80, Seen::Redirected(15002))?;
    check(&stage.cart().gid(0).uid(4_294_967_294), 80, Seen::Denied)
}

#[test]
fn what_kuma_says_of_a_range_of_users_is_one_rule() -> Tested {
    let stage = Stage::new()?;
    stage.apply_rules(
        "redirect outbound -> 15001
         exclude outbound tcp 22, 80-90, 443 as uid 1000-2000",
    )?;
    let seen = |uid, target: &str| {
        let target = address(target)?;
        as_member(&stage.cart().uid(uid), || seen(&Client::to(target), target))
    };
    for (uid, port, expected) in [
        (1000, 80, Seen::Straight),
        (2000, 443, Seen::Straight),
        (2001, 80, Seen::Redirected(15001)),
        (999, 443, Seen::Redirected(15001)),
        (1000, 8080, Seen::Redirected(15001)),
    ] {
        assert_eq!(seen(uid, &format!("10.0.3.9:{port}"))?, expected, "{uid} {port}");
        assert_eq!(seen(uid, &format!("[fd10::9]:{port}"))?, expected, "{uid} {port}");
    }
    Ok(())
}

#[test]
fn a_rule_that_names_a_user_is_of_its_own_workload_and_its_own_generation() -> Tested {
    let stage = Stage::new()?;
    let _servers = servers(&stage, &IPS)?;
    stage.apply_rules(
        "redirect outbound any -> 15001
         for batch { deny outbound any as uid 1700 }",
    )?;
    check(&stage.batch().uid(1700), 80, Seen::Denied)?;
    check(&stage.batch().uid(1701), 80, Seen::Redirected(15001))?;
    check(&stage.cart().uid(1700), 80, Seen::Redirected(15001))?;
    stage.apply_rules(
        "redirect outbound any -> 15001
         for cart { deny outbound any as gid 1700 }",
    )?;
    check(&stage.batch().gid(1700).uid(1700), 80, Seen::Redirected(15001))?;
    check(&stage.cart().gid(1700), 80, Seen::Denied)?;
    check(&stage.cart().uid(1700), 80, Seen::Redirected(15001))?;
    stage.apply_rules("redirect outbound any -> 15002")?;
    check(&stage.cart().gid(1700).uid(1700), 80, Seen::Redirected(15002))
}

#[test]
fn a_job_whose_cgroup_comes_and_goes_is_known_each_time() -> Tested {
    let stage = Stage::new()?;
    let _servers = servers(&stage, &IPS)?;
    let path = format!("{}/job", stage.cart_cgroup().within()?);
    stage
        .apply_rules(&format!("redirect outbound any -> 15001\nexclude outbound any as cgroup \"{path}\""))?;
    check(&stage.cart(), 80, Seen::Redirected(15001))?;
    for _ in 0..2 {
        let job = stage.cart_cgroup().child("job")?;
        let below = job.child("below")?;
        check(&stage.cart().cgroup(&job), 80, Seen::Straight)?;
        check(&stage.cart().cgroup(&below), 80, Seen::Straight)?;
        check(&stage.cart(), 80, Seen::Redirected(15001))?;
    }
    Ok(())
}

#[test]
fn a_rule_that_names_a_user_is_told_and_counted_as_it_is_written() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15001\nexclude outbound tcp 80 as uid 1000-1999")?;
    let observer = Observer::start(&stage, "observed", &[])?;
    let target = address("10.0.3.9:80")?;
    for uid in [1000, 1999, 2000] {
        as_member(&stage.cart().uid(uid), || seen(&Client::to(target), target))?;
    }
    let lines = observer.wait(3)?;
    let told: Vec<_> = lines.iter().map(|line| parts(line, &["uid", "verdict"])).collect();
    assert_eq!(json!(told), json!([[1000, "excluded"], [1999, "excluded"], [2000, "redirected"]]));
    let rules: Vec<_> = lines.iter().filter_map(|line| line.get("rule")?.get("text")).collect();
    let (excluded, redirected) =
        ("exclude outbound tcp 80 as uid 1000-1999", "redirect outbound tcp -> 15001");
    assert_eq!(rules, [excluded, excluded, redirected]);
    let status = stage.ask(&["status"])?;
    let counted = status.get("rules").and_then(serde_json::Value::as_array).into_iter().flatten();
    let hits =
        |text: &str| counted.clone().find(|rule| rule["text"] == text).map(|rule| rule["hits"].clone());
    assert_eq!([hits(excluded), hits(redirected)], [Some(json!(2)), Some(json!(1))], "{status:#}");
    Ok(())
}
