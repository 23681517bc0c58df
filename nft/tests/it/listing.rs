//! What a kernel holds of a ruleset is what its text says, in the words of `nft`.

use mesh_nft::{Marker, Resident, Ruleset, Scene, TableName};
use mesh_testbed::kernel_test as test;
use mesh_testbed::{Cgroup as Made, Failure, Netns, Tested, tool};

use crate::fixtures::{Policy, cgroup, list, load, marker, table};

/// A policy with something of everything that can be lowered.
const ALL: &str = r#"
redirect outbound -> 15001
redirect inbound -> 15003
exempt uid 1500-1510, 42
exempt gid 7
exempt interface "net*", "eth1"
always deny outbound to 169.254.169.254

mesh m {
    workload a { address 11.0.0.0/24 }
    workload b { cgroup "/b" }
    exclude outbound tcp 3306, 5432 to 10.0.0.0/8
    deny outbound tcp 5000-6000
    exclude outbound tcp 80 to fd00::/8, 2001:db8::/32
    exclude inbound from 10.9.0.1, fd00:9::/64
    exclude inbound tcp 8081 from node
    deny inbound udp not 53
    deny outbound tcp 10250 to node
    exclude outbound udp 53
    exclude outbound tcp 22 as uid 1000-1999, 3000
    deny outbound tcp as gid 7, 9
}
"#;

fn pod(policy: &Policy) -> Result<Scene, Failure> {
    let mut scene = policy.pod("a", &["11.0.0.7", "fd00:7::7"])?;
    scene.node = ["192.168.7.1".parse()?, "fd07::1".parse()?].into();
    scene.beside_bpf = true;
    Ok(scene)
}

#[test]
fn what_is_loaded_is_listed_as_the_text_that_is_loaded_by_nft() -> Tested {
    let policy = Policy::of(ALL)?;
    let ruleset = policy.ruleset(&pod(&policy)?)?;
    let (ours, theirs) = (Netns::new()?, Netns::new()?);
    let marker = marker(7, &ruleset);
    let text = ruleset.text(&table(), &marker);
    nft(&theirs, &text)?;
    load(&ours, 7, ruleset)?;
    assert_eq!(sorted(&list(&ours)?), sorted(&list(&theirs)?));
    Ok(())
}

#[test]
fn the_text_is_what_is_listed() -> Tested {
    let policy = Policy::of(ALL)?;
    let netns = Netns::new()?;
    let loaded = load(&netns, 7, policy.ruleset(&pod(&policy)?)?)?;
    let text = loaded.ruleset.text(&table(), &loaded.marker);
    for (listed, text) in sorted(&list(&netns)?).iter().zip(sorted(&text)) {
        assert_eq!(*listed, text);
    }
    Ok(())
}

#[test]
fn cgroups_of_a_host_are_listed_too() -> Tested {
    let policy = Policy::of(&format!("{ALL}\nexempt cgroup \"/sidecar\"\n"))?;
    let (member, sidecar) = (Made::new()?, Made::new()?);
    let resident =
        Resident { profile: policy.profile("b")?, cgroup: Some(cgroup(&member)?), ..Resident::default() };
    let cgroups = [("/sidecar".to_owned(), cgroup(&sidecar)?)].into();
    let scene = Scene { residents: vec![resident], cgroups, ..Scene::default() };
    let netns = Netns::new()?;
    load(&netns, 1, policy.ruleset(&scene)?)?;
    let listed = list(&netns)?;
    assert!(listed.contains("socket cgroupv2 level 1 vmap @m"), "{listed}");
    assert!(listed.contains("type cgroupsv2 : verdict"), "{listed}");
    Ok(())
}

#[test]
fn nobody_is_decided_by_the_marker_alone() -> Tested {
    let netns = Netns::new()?;
    let loaded = load(&netns, 3, Ruleset::default())?;
    let listed = list(&netns)?;
    assert!(listed.contains(&loaded.marker.name()) && !listed.contains("hook"), "{listed}");
    assert_eq!(Marker::parse(&loaded.marker.name()), Some(loaded.marker));
    Ok(())
}

/// Loads text.
fn nft(netns: &Netns, text: &str) -> Tested {
    netns.run(|| tool("nft", &[text]).map(drop))??;
    Ok(())
}

/// Blocks in one order: what is made first is listed first.
fn sorted(listed: &str) -> Vec<String> {
    let mut blocks: Vec<String> = listed.split("\n\n").map(plain).collect();
    blocks.sort();
    blocks
}

/// Without what only says how it is laid out, or has been counted.
fn plain(listed: &str) -> String {
    let lines = listed.lines().map(str::trim).filter(|line| !line.starts_with("packets") && !line.is_empty());
    let words = lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
    // One number has a name at one hook.
    let words = words.replace("priority dstnat - 10", "priority -110");
    words.replace("table inet meshc-test { ", "").trim_end_matches([' ', '}']).to_owned()
}

#[test]
fn an_instance_has_a_table_of_its_own() -> Tested {
    let policy = Policy::of(ALL)?;
    let text = policy.ruleset(&pod(&policy)?)?.text(&TableName::of(""), &marker(1, &Ruleset::default()));
    assert!(text.starts_with("table inet meshc {\n"), "{text}");
    Ok(())
}
