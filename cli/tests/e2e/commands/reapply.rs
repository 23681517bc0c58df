//! Applying what is already live does nothing and says so.
#![expect(
    clippy::indexing_slicing,
    reason = "a key that is not in the JSON is null, and the comparison fails"
)]

use std::collections::BTreeMap;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Errno, Tested};

use crate::fixtures::backend::{Backend, by_each_backend};
use crate::fixtures::command::Answer;
use crate::fixtures::stage::Stage;

by_each_backend! {
    a_second_apply_of_the_same_policy_changes_nothing_and_says_so,
    status_tells_the_live_generation_and_counts_hits_by_rule,
}

fn a_second_apply_of_the_same_policy_changes_nothing_and_says_so(by: Backend) -> Tested {
    let stage = Stage::by(by)?;
    let policy = stage.policy("policy.mesh", "redirect outbound -> 15001")?;
    let first = stage.apply(&policy)?;
    assert_eq!(first["changed"], true, "{first}");
    let second = stage.apply(&policy)?;
    assert_eq!(second["changed"], false, "{second}");
    assert_eq!(second["generation"], first["generation"]);
    assert_eq!(second["digest"], first["digest"]);
    let words = Answer::of(stage.meshc().arg("apply").arg(&policy))?.done()?.words();
    assert!(!words.trim().is_empty(), "it says that there was nothing to do");

    let other = stage.policy("other.mesh", "redirect outbound -> 15002")?;
    let third = stage.apply(&other)?;
    assert_eq!(third["changed"], true, "{third}");
    assert!(third["generation"].as_u64() > first["generation"].as_u64());
    assert_ne!(third["digest"], first["digest"]);
    Ok(())
}

fn status_tells_the_live_generation_and_counts_hits_by_rule(by: Backend) -> Tested {
    let stage = Stage::by(by)?;
    assert_eq!(stage.ask(&["status"])?["state"], "none");
    let applied = stage.apply_rules("redirect outbound tcp -> 15001\nexclude outbound tcp 3306")?;
    for target in ["10.0.3.9:80", "10.0.3.9:80", "10.0.3.9:3306"] {
        stage.dial(target)?;
    }
    let status = stage.ask(&["status"])?;
    assert_eq!(status["state"], "active");
    assert_eq!(status["generation"], applied["generation"]);
    assert_eq!(status["digest"], applied["digest"]);
    let hits = |text: &str| {
        let rules = status["rules"].as_array().cloned().unwrap_or_default();
        rules.iter().find(|rule| rule["text"] == text).and_then(|rule| rule["hits"].as_u64())
    };
    assert_eq!(hits("redirect outbound tcp -> 15001"), Some(2), "{status:#}");
    assert_eq!(hits("exclude outbound tcp 3306"), Some(1), "{status:#}");
    Ok(())
}

#[test]
fn no_decision_is_lost_to_another_cpu_and_none_is_counted_twice() -> Tested {
    const ROUNDS: usize = 2000;
    let stage = Stage::new()?;
    // Nobody listens there: only the decisions matter. The second rule has an item for each address.
    stage.apply_rules(
        "redirect outbound tcp 80 -> 15999
         redirect outbound tcp 443 to 10.0.0.1, 10.0.0.3, 10.0.0.5, 10.0.0.7 -> 15999",
    )?;
    let connect = || {
        (0..ROUNDS).try_for_each(|round| {
            let host = u8::try_from(round % 4).unwrap_or_default() * 2 + 1;
            let targets = [([10, 9, 9, 9], 80), ([10, 0, 0, host], 443)];
            targets.into_iter().try_for_each(|target| match Client::to(target.into()).open() {
                Err(Errno::ECONNREFUSED) => Ok(()),
                other => Err(other.map_or_else(|error| error, |_| Errno(0))),
            })
        })
    };
    let tasks = (0..4).map(|_| stage.cart().spawn(|_| connect())).collect::<Result<Vec<_>, _>>()?;
    for task in tasks {
        assert_eq!(task.join()?, Ok(()));
    }
    let status = stage.ask(&["status"])?;
    let mut hits: BTreeMap<String, u64> = BTreeMap::new();
    for rule in status["rules"].as_array().into_iter().flatten() {
        hits.insert(rule["text"].to_string(), rule["hits"].as_u64().unwrap_or_default());
    }
    let mut counts: Vec<_> = hits.into_values().collect();
    counts.sort_unstable();
    assert_eq!(counts, [2000, 2000, 2000, 2000, 8000], "{status:#}");
    Ok(())
}
