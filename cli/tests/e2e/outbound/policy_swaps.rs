//! Every connection is decided wholly by one policy while policies are swapped under traffic.

use std::collections::BTreeMap;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Tested, long_runs_are_wanted};

use crate::fixtures::seen::{Seen, seen};
use crate::fixtures::stage::{Stage, address};

#[test]
fn no_connection_is_lost_or_goes_straight_while_policies_are_swapped() -> Tested {
    let stage = Stage::new()?;
    let one = stage.policy("one.mesh", "redirect outbound -> 15001")?;
    let two = stage.policy("two.mesh", "redirect outbound -> 15002")?;
    stage.apply(&one)?;
    let targets = [address("10.0.3.9:80")?, address("[fd10::9]:443")?];
    let mut traffic = stage.cart().spawn(|line| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let _ = line.say("started");
        while line.is_silent() {
            for target in targets {
                let seen = seen(&Client::to(target), target);
                *counts.entry(format!("{seen:?}")).or_default() += 1;
            }
        }
        counts
    })?;
    traffic.line().hear()?;
    let swaps = if long_runs_are_wanted() { 500 } else { 20 };
    for _ in 0..swaps {
        stage.apply(&two)?;
        stage.apply(&one)?;
    }
    // One that has ended already tells why.
    let _ = traffic.line().say("enough");
    let counts = traffic.join()?;
    let allowed = [Seen::Redirected(15001), Seen::Redirected(15002)].map(|seen| format!("{seen:?}"));
    assert!(counts.keys().all(|seen| allowed.contains(seen)), "{counts:?}");
    assert_eq!(counts.len(), 2, "traffic saw both policies: {counts:?}");
    Ok(())
}
