//! Connections become what a policy says: both directions, families and protocols.

use mesh_nft::{CounterKind, Resident, Scene};
use mesh_testbed::kernel_test as test;
use mesh_testbed::{Cgroup as Made, Failure, Manner, Tested};

use crate::fixtures::{OWN, Policy, Seen, Stage, cgroup, counts, load};

const POLICY: &str = r#"
exempt uid 1500
exempt gid 1600
exempt interface "net*"
redirect outbound any -> 15001
redirect inbound tcp -> 15003

mesh m {
    workload cart { address 192.168.7.2, fd07::2 }
    exclude outbound tcp 3306 to 10.0.0.0/8, fd10::/64
    redirect outbound tcp 443 -> 15002
    deny outbound tcp 5000
    deny outbound udp 80
    exclude outbound udp 53 to 172.16.0.0/12, fd10:1::/32
    exclude outbound to 192.168.7.2, fd07::2
    exclude inbound tcp 8080
    deny inbound tcp 80
    deny inbound udp 443
    exclude inbound udp 53, 3306
    redirect inbound tcp 3306 from 192.168.7.2, fd07::2 -> 15003
    deny inbound tcp 80 from 192.168.7.2, fd07::2
}
"#;

/// A pod with this policy loaded.
fn staged(rules: &str) -> Result<Stage, Failure> {
    let stage = Stage::new()?;
    let policy = Policy::of(rules)?;
    load(&stage.pair.client, 1, policy.ruleset(&policy.pod("cart", &OWN)?)?)?;
    Ok(stage)
}

#[test]
fn outbound_connections_are_redirected_excluded_and_denied() -> Tested {
    let stage = staged(POLICY)?;
    let pod = stage.pod();
    for (to, expected) in [
        ("10.0.3.9:8080", Seen::Redirected(15001)),
        ("[fd10:0:0:3::9]:8080", Seen::Redirected(15001)),
        ("10.0.3.9:443", Seen::Redirected(15002)),
        ("[fd10::1]:443", Seen::Redirected(15002)),
        ("10.0.3.9:3306", Seen::Straight),
        ("172.16.5.5:3306", Seen::Redirected(15001)),
        ("[fd10::9]:3306", Seen::Straight),
        ("[fd10:1::1]:3306", Seen::Redirected(15001)),
        ("10.0.3.9:5000", Seen::Denied),
        ("[fd10:1::1]:5000", Seen::Denied),
    ] {
        assert_eq!(stage.dial(&pod, to)?, expected, "{to}");
    }
    Ok(())
}

#[test]
fn datagrams_are_redirected_excluded_and_denied() -> Tested {
    let stage = staged(POLICY)?;
    let pod = stage.pod();
    for manner in [Manner::Unconnected, Manner::Connected] {
        for (to, expected) in [
            ("10.0.3.9:53", Seen::Redirected(15001)),
            ("172.16.5.5:53", Seen::Straight),
            ("10.0.3.9:80", Seen::Denied),
            ("[fd10:0:0:3::9]:53", Seen::Redirected(15001)),
            ("[fd10:1::1]:53", Seen::Straight),
            ("[fd10:1::1]:80", Seen::Denied),
        ] {
            assert_eq!(stage.ask(&pod, to, manner)?, expected, "{to} {manner:?}");
        }
    }
    Ok(())
}

#[test]
fn inbound_connections_are_redirected_excluded_and_denied() -> Tested {
    let stage = staged(POLICY)?;
    let outside = stage.outside();
    for [to, port] in [["192.168.7.2", "3306"], ["[fd07::2]", "3306"]] {
        assert_eq!(stage.dial(&outside, &format!("{to}:{port}"))?, Seen::Redirected(15003), "{to}");
        assert_eq!(stage.dial(&outside, &format!("{to}:8080"))?, Seen::Straight, "{to}");
        assert_eq!(stage.dial(&outside, &format!("{to}:80"))?, Seen::Denied, "{to}");
        for manner in [Manner::Unconnected, Manner::Connected] {
            assert_eq!(stage.ask(&outside, &format!("{to}:53"), manner)?, Seen::Straight, "{to}");
        }
        // The answer is an error of ICMP, which a socket hears that is connected.
        assert_eq!(stage.ask(&outside, &format!("{to}:443"), Manner::Connected)?, Seen::Denied, "{to}");
    }
    Ok(())
}

#[test]
fn what_a_pod_sends_to_itself_is_offered_to_it() -> Tested {
    let stage = staged(POLICY)?;
    for to in ["192.168.7.2", "[fd07::2]"] {
        assert_eq!(stage.dial(&stage.pod(), &format!("{to}:3306"))?, Seen::Redirected(15003), "{to}");
        assert_eq!(stage.dial(&stage.pod(), &format!("{to}:80"))?, Seen::Denied, "{to}");
        assert_eq!(stage.dial(&stage.pod(), &format!("{to}:8080"))?, Seen::Straight, "{to}");
        // The sidecar's own connections are not led back to it.
        assert_eq!(stage.dial(&stage.pod().uid(1500), &format!("{to}:3306"))?, Seen::Straight, "{to}");
    }
    Ok(())
}

#[test]
fn users_groups_and_cgroups_are_exempt() -> Tested {
    let stage = Stage::new()?;
    let (sidecar, beside) = (Made::new()?, Made::new()?);
    let inner = sidecar.child("inner")?;
    let path = sidecar.within()?;
    let policy = Policy::of(&format!("exempt cgroup \"{path}\"\n{POLICY}"))?;
    let mut scene = policy.pod("cart", &OWN)?;
    scene.cgroups.insert(path, cgroup(&sidecar)?);
    load(&stage.pair.client, 1, policy.ruleset(&scene)?)?;
    let pod = stage.pod();
    for (place, expected) in [
        (pod.clone(), Seen::Redirected(15001)),
        (pod.clone().uid(1500), Seen::Straight),
        (pod.clone().uid(1501), Seen::Redirected(15001)),
        (pod.clone().gid(1600), Seen::Straight),
        (pod.clone().gid(1601), Seen::Redirected(15001)),
        (pod.clone().cgroup(&sidecar), Seen::Straight),
        (pod.clone().cgroup(&inner), Seen::Straight),
        (pod.cgroup(&beside), Seen::Redirected(15001)),
    ] {
        for to in ["10.0.3.9:8080", "[fd10::1]:8080"] {
            assert_eq!(stage.dial(&place, to)?, expected, "{to}");
        }
    }
    Ok(())
}

#[test]
fn what_goes_by_an_exempt_interface_is_left_alone_in_both_directions() -> Tested {
    let stage = Stage::new()?;
    stage.pair.client.ip("link set eth0 down\nlink set eth0 name net1\nlink set net1 up")?;
    stage.pair.client.ip("addr replace fd07::2/64 dev net1 nodad")?;
    stage.pair.client.ip("route replace default via 192.168.7.1\nroute replace default via fd07::1")?;
    let policy = Policy::of(POLICY)?;
    load(&stage.pair.client, 1, policy.ruleset(&policy.pod("cart", &OWN)?)?)?;
    for to in ["10.0.3.9:8080", "10.0.3.9:5000", "[fd10::1]:8080"] {
        assert_eq!(stage.dial(&stage.pod(), to)?, Seen::Straight, "{to}");
    }
    assert_eq!(stage.dial(&stage.outside(), "192.168.7.2:80")?, Seen::Straight);
    // Loopback is no such interface.
    assert_eq!(stage.dial(&stage.pod(), "192.168.7.2:80")?, Seen::Denied);
    Ok(())
}

#[test]
fn a_process_of_a_class_is_decided_by_its_own_rules() -> Tested {
    let stage = Stage::new()?;
    let job = Made::new()?;
    let path = job.within()?;
    let rules = format!(
        "exempt uid 1600
        mesh m {{
            workload cart {{ address 192.168.7.2, fd07::2 }}
            redirect outbound -> 15001
            exclude outbound tcp 443 as uid 1000-1999
            deny outbound tcp 443 as uid 1500 and gid 7
            deny outbound tcp 80 as cgroup \"{path}\"
            deny outbound tcp 8080 to node
        }}"
    );
    let policy = Policy::of(&rules)?;
    let mut scene = policy.pod("cart", &OWN)?;
    scene.cgroups.insert(path, cgroup(&job)?);
    scene.node.insert("10.0.3.9".parse()?);
    load(&stage.pair.client, 1, policy.ruleset(&scene)?)?;
    let pod = stage.pod();
    for (place, to, expected) in [
        (pod.clone().uid(999), "10.0.0.1:443", Seen::Redirected(15001)),
        (pod.clone().uid(1000), "10.0.0.1:443", Seen::Straight),
        (pod.clone().uid(1999), "[fd10::1]:443", Seen::Straight),
        (pod.clone().uid(2000), "10.0.0.1:443", Seen::Redirected(15001)),
        (pod.clone().gid(7).uid(1500), "10.0.0.1:443", Seen::Denied),
        (pod.clone().gid(8).uid(1500), "10.0.0.1:443", Seen::Straight),
        (pod.clone().cgroup(&job), "10.0.0.1:80", Seen::Denied),
        (pod.clone(), "10.0.0.1:80", Seen::Redirected(15001)),
        (pod.clone(), "10.0.3.9:8080", Seen::Denied),
        (pod, "10.0.0.1:8080", Seen::Redirected(15001)),
    ] {
        assert_eq!(stage.dial(&place, to)?, expected, "{place:?} {to}");
    }
    Ok(())
}

#[test]
fn host_workloads_are_told_by_the_cgroup_of_a_socket_in_both_directions() -> Tested {
    let stage = Stage::new()?;
    let (outer, other) = (Made::new()?, Made::new()?);
    let inner = outer.child("inner")?;
    let policy = Policy::of(
        "exempt uid 1600
        mesh m {
            workload a { cgroup \"/a\" }
            workload b { cgroup \"/a/b\" }
            redirect outbound -> 15001
            redirect inbound tcp -> 15003
            for b { redirect outbound -> 15002 }
        }",
    )?;
    let member = |workload, made: &Made| -> Result<Resident, Failure> {
        let cgroup = Some(cgroup(made)?);
        Ok(Resident { profile: policy.profile(workload)?, cgroup, ..Resident::default() })
    };
    let residents = vec![member("a", &outer)?, member("b", &inner)?];
    load(&stage.pair.client, 1, policy.ruleset(&Scene { residents, ..Scene::default() })?)?;
    let host = stage.pod();
    for to in ["10.0.0.1:80", "[fd10::1]:80"] {
        assert_eq!(stage.dial(&host.clone().cgroup(&outer), to)?, Seen::Redirected(15001));
        assert_eq!(stage.dial(&host.clone().cgroup(&inner), to)?, Seen::Redirected(15002));
        assert_eq!(stage.dial(&host.clone().cgroup(&other), to)?, Seen::Straight);
    }
    let service = |made: &Made, port: u16| {
        let to = format!("192.168.7.2:{port}");
        let addresses = [to.parse()?];
        let server = mesh_testbed::ServerTask::start(&host.clone().cgroup(made), "service", &addresses)?;
        Ok::<_, Failure>((server, to))
    };
    let (_ours, to_ours) = service(&inner, 7001)?;
    let (_others, to_others) = service(&other, 7002)?;
    assert_eq!(stage.dial(&stage.outside(), &to_ours)?, Seen::Redirected(15003));
    assert_eq!(stage.dial(&stage.outside(), &to_others)?, Seen::Straight);
    Ok(())
}

#[test]
fn what_is_decided_is_counted_for_the_item() -> Tested {
    let stage = staged(POLICY)?;
    let before = counts(&stage.pair.client)?;
    assert!(before.iter().all(|count| count.packets == 0), "{before:?}");
    for _ in 0..3 {
        assert_eq!(stage.dial(&stage.pod(), "10.0.3.9:3306")?, Seen::Straight);
        assert_eq!(stage.dial(&stage.pod(), "10.0.3.9:5000")?, Seen::Denied);
    }
    let policy = Policy::of(POLICY)?;
    let key = |text: &str, prefix: &str| -> Result<u64, Failure> {
        let prefix = match prefix {
            "" => mesh_bpf::prefix::Prefix::Any,
            _ => mesh_bpf::prefix::Prefix::V4 { bits: 0x0a00_0000, len: 8 },
        };
        let source = policy.image.sources.iter().find(|source| source.text(prefix) == text);
        Ok(mesh_bpf::item::counter_key(source.ok_or("no such rule")?.stable_hash(), prefix))
    };
    let hits = |key: u64| -> Result<u64, Failure> {
        let counts = counts(&stage.pair.client)?;
        let of =
            counts.iter().find(|count| (count.counter.kind, count.counter.key) == (CounterKind::Item, key));
        Ok(of.map_or(0, |count| count.packets))
    };
    assert_eq!(hits(key("exclude outbound tcp 3306 to 10.0.0.0/8", "10.0.0.0/8")?)?, 3);
    assert_eq!(hits(key("deny outbound tcp 5000", "")?)?, 3);
    Ok(())
}
