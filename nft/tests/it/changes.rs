//! What a change leaves as it is: established connections, counters, and what others hold.

use mesh_nft::{Marker, Ruleset, batch};
use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Failure, Netns, Stream, Tested, tool};

use crate::fixtures::{
    OWN, Policy, Seen, Stage, address, counts, generation, held, list, load, marker, send, table,
};

fn ruleset(rules: &str) -> Result<Ruleset, Failure> {
    let text = format!(
        "exempt uid 1500\nmesh m {{\nworkload cart {{ address 192.168.7.2, fd07::2 }}\n{rules}\n}}\n"
    );
    let policy = Policy::of(&text)?;
    policy.ruleset(&policy.pod("cart", &OWN)?)
}

/// An open connection from the pod.
fn open(stage: &Stage, to: &str) -> Result<Stream, Failure> {
    let to = address(to)?;
    let mut stream = stage.pair.client.run(|| Client::to(to).open())??;
    stream.greeting()?;
    Ok(stream)
}

/// An open connection to the pod.
fn open_from_outside(stage: &Stage, to: &str) -> Result<Stream, Failure> {
    let to = address(to)?;
    let mut stream = stage.pair.server.run(|| Client::to(to).open())??;
    stream.greeting()?;
    Ok(stream)
}

#[test]
fn connections_that_were_open_before_live_on() -> Tested {
    let stage = Stage::new()?;
    let mut streams = Vec::new();
    for to in ["10.0.0.1:80", "[fd10::1]:80"] {
        streams.push(open(&stage, to)?);
    }
    for to in ["192.168.7.2:80", "[fd07::2]:80"] {
        streams.push(open_from_outside(&stage, to)?);
    }
    load(&stage.pair.client, 1, ruleset("deny outbound\ndeny inbound")?)?;
    for stream in &mut streams {
        assert_eq!(stream.exchange("still there?")?, "still there?");
    }
    assert_eq!(stage.dial(&stage.pod(), "10.0.0.1:80")?, Seen::Denied);
    Ok(())
}

#[test]
fn a_refusal_is_no_flow_of_its_own() -> Tested {
    let stage = Stage::new()?;
    load(&stage.pair.client, 1, ruleset("deny outbound tcp 80\ndeny inbound\nexclude outbound")?)?;
    let total = || -> Result<u64, Failure> {
        Ok(counts(&stage.pair.client)?.iter().map(|count| count.packets).sum())
    };
    for (place, to) in [(stage.pod(), "10.0.0.1:80"), (stage.outside(), "192.168.7.2:80")] {
        let before = total()?;
        // It would hang if the reset were denied in turn.
        assert_eq!(stage.dial(&place, to)?, Seen::Denied, "{to}");
        assert_eq!(total()?, before + 1, "{to}");
    }
    Ok(())
}

#[test]
fn a_change_keeps_connections_and_counters() -> Tested {
    let stage = Stage::new()?;
    let rules = "redirect outbound -> 15001\nredirect inbound tcp -> 15003";
    load(&stage.pair.client, 1, ruleset(rules)?)?;
    let mut streams = vec![open(&stage, "10.0.0.1:80")?, open_from_outside(&stage, "192.168.7.2:80")?];
    let hits = counts(&stage.pair.client)?;
    assert_eq!(hits.iter().map(|count| count.packets).sum::<u64>(), 2);
    let changed = format!("{rules}\nredirect outbound tcp 443 -> 15002");
    let loaded = load(&stage.pair.client, 2, ruleset(&changed)?)?;
    assert_eq!(stage.dial(&stage.pod(), "10.0.0.1:443")?, Seen::Redirected(15002));
    for stream in &mut streams {
        assert_eq!(stream.exchange("still there?")?, "still there?");
    }
    let now = counts(&stage.pair.client)?;
    assert!(hits.iter().all(|before| now.contains(before)), "{hits:?} and {now:?}");
    // Nothing of the first is left.
    let held = held(&stage.pair.client)?;
    assert_eq!(held.marker(), Some(loaded.marker));
    assert!(held.chains.iter().chain(&held.sets).all(|name| !name.ends_with("_0")), "{held:?}");
    Ok(())
}

#[test]
fn the_same_generation_can_be_loaded_again() -> Tested {
    let stage = Stage::new()?;
    for _ in 0..3 {
        load(&stage.pair.client, 1, ruleset("redirect outbound -> 15001")?)?;
        assert_eq!(stage.dial(&stage.pod(), "10.0.0.1:80")?, Seen::Redirected(15001));
    }
    let first = list(&stage.pair.client)?.matches("chain").count();
    load(&stage.pair.client, 1, ruleset("redirect outbound -> 15001")?)?;
    assert_eq!(list(&stage.pair.client)?.matches("chain").count(), first);
    Ok(())
}

#[test]
fn a_pause_keeps_redirected_connections_and_decides_nothing() -> Tested {
    let stage = Stage::new()?;
    let rules = "redirect outbound -> 15001\nredirect inbound tcp -> 15003";
    let loaded = load(&stage.pair.client, 4, ruleset(rules)?)?;
    let mut streams = vec![
        open(&stage, "10.0.0.1:80")?,
        open(&stage, "[fd10::1]:80")?,
        open_from_outside(&stage, "192.168.7.2:80")?,
        open_from_outside(&stage, "[fd07::2]:80")?,
    ];
    send(&stage.pair.client, &batch::pause(&table(), &loaded.marker, &held(&stage.pair.client)?))?;
    assert_eq!(stage.dial(&stage.pod(), "10.0.0.1:80")?, Seen::Straight);
    assert_eq!(stage.dial(&stage.outside(), "192.168.7.2:80")?, Seen::Straight);
    for stream in &mut streams {
        assert_eq!(stream.exchange("still there?")?, "still there?");
    }
    let paused = Marker { paused: true, ..loaded.marker };
    let held = held(&stage.pair.client)?;
    assert_eq!(held.marker(), Some(paused));
    assert_eq!((held.chains.len(), held.sets.len()), (3, 0), "{held:?}");
    // A pause of what is paused, and the way back.
    send(&stage.pair.client, &batch::pause(&table(), &loaded.marker, &held))?;
    load(&stage.pair.client, 4, loaded.ruleset)?;
    assert_eq!(stage.dial(&stage.pod(), "10.0.0.1:80")?, Seen::Redirected(15001));
    for stream in &mut streams {
        assert_eq!(stream.exchange("still there?")?, "still there?");
    }
    Ok(())
}

#[test]
fn nothing_is_left_behind_and_what_others_hold_stays() -> Tested {
    let stage = Stage::new()?;
    let nft = |words: &[&str]| stage.pair.client.run(|| tool("nft", words));
    nft(&["add table inet other; add chain inet other kept"])??;
    // Nothing is there to be removed.
    send(&stage.pair.client, &batch::remove(&table()))?;
    let loaded = load(&stage.pair.client, 1, ruleset("redirect outbound -> 15001")?)?;
    send(&stage.pair.client, &batch::remove(&table()))?;
    assert_eq!(nft(&["list", "tables"])??.trim(), "table inet other");
    assert_eq!(stage.dial(&stage.pod(), "10.0.0.1:80")?, Seen::Straight);
    load(&stage.pair.client, 1, loaded.ruleset)?;
    assert!(nft(&["list", "ruleset"])??.contains("chain kept"));
    Ok(())
}

#[test]
fn nobody_left_is_as_a_pause_where_chains_are() -> Tested {
    let stage = Stage::new()?;
    load(&stage.pair.client, 1, ruleset("redirect outbound -> 15001")?)?;
    let mut stream = open(&stage, "10.0.0.1:80")?;
    load(&stage.pair.client, 2, Ruleset::default())?;
    assert_eq!(stage.dial(&stage.pod(), "10.0.0.1:80")?, Seen::Straight);
    assert_eq!(stream.exchange("still there?")?, "still there?");
    Ok(())
}

#[test]
fn any_change_of_anybody_makes_another_generation() -> Tested {
    let stage = Stage::new()?;
    load(&stage.pair.client, 1, ruleset("redirect outbound -> 15001")?)?;
    let loaded = generation(&stage.pair.client)?;
    assert_eq!(generation(&stage.pair.client)?, loaded);
    stage.pair.client.run(|| tool("nft", &["add table inet other"]))??;
    assert_ne!(generation(&stage.pair.client)?, loaded);
    Ok(())
}

#[test]
fn counters_that_nothing_counts_with_can_be_dropped() -> Tested {
    let stage = Stage::new()?;
    let loaded = load(&stage.pair.client, 1, ruleset("redirect outbound -> 15001")?)?;
    let now = load(&stage.pair.client, 2, ruleset("deny outbound tcp 80")?)?;
    let counters = |ruleset: &Ruleset| ruleset.counters().to_vec();
    let mut old = counters(&loaded.ruleset);
    old.retain(|counter| !counters(&now.ruleset).contains(counter));
    assert!(!old.is_empty());
    send(&stage.pair.client, &batch::drop_counters(&table(), &old))?;
    assert_eq!(counts(&stage.pair.client)?.len(), now.ruleset.counters().len());
    Ok(())
}

#[test]
fn elements_alone_are_changed_in_place() -> Tested {
    let (stage, fresh) = (Stage::new()?, Netns::new()?);
    // A rule of so many prefixes is counted as a whole, so that one more is no chain of its own.
    let many: String = (0..70).map(|at| format!(", 10.100.{}.0/24", at * 2)).collect();
    let rules =
        |to: &str| ruleset(&format!("redirect outbound -> 15001\nexclude outbound tcp 80 to {to}{many}"));
    let mut loaded = load(&stage.pair.client, 1, rules("10.0.3.9, 10.7.0.0/16, fd10:1::/32")?)?;
    for (generation, to) in (2..).zip([
        "10.0.3.9, 10.9.0.0/16, fd10:1::/32",
        "10.0.3.8, 10.0.3.9, 10.0.3.10, fd10:1::/32",
        "10.0.3.8, fd10:2::/32, 254.0.0.0/8, fe00::/9",
        "10.0.3.9, 10.7.0.0/16, fd10:1::/32",
    ]) {
        let new = rules(to)?;
        let marker = marker(generation, &new);
        let old = (&loaded.ruleset, &loaded.marker);
        let batch = new.change(&table(), &marker, old, &held(&stage.pair.client)?);
        send(&stage.pair.client, &batch.ok_or_else(|| format!("more than elements differs: {to}"))?)?;
        loaded = load(&fresh, generation, new)?;
        let mut listed = [list(&stage.pair.client)?, list(&fresh)?];
        // In the second, names are made anew each time.
        listed[1] = listed[1].replace("_1 ", "_0 ").replace("_1\n", "_0\n").replace("_1,", "_0,");
        let [changed, fresh] = listed.map(|text| {
            let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            words.sort();
            words
        });
        assert_eq!(changed, fresh, "{to}");
    }
    assert_eq!(stage.dial(&stage.pod(), "10.0.3.9:80")?, Seen::Straight);
    assert_eq!(stage.dial(&stage.pod(), "10.9.0.1:80")?, Seen::Redirected(15001));
    // What is more than elements, or not what is loaded, is replaced.
    let (other, held) = (ruleset("redirect outbound -> 15002")?, held(&stage.pair.client)?);
    let old = (&loaded.ruleset, &loaded.marker);
    assert!(other.change(&table(), &marker(9, &other), old, &held).is_none());
    let unknown = Marker { generation: 77, ..loaded.marker };
    let new = rules("10.0.3.1, 10.7.0.0/16, fd10:1::/32")?;
    assert!(new.change(&table(), &marker(9, &new), (old.0, &unknown), &held).is_none());
    assert!(new.change(&table(), &marker(9, &new), old, &held).is_some());
    Ok(())
}
