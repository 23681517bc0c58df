//! What a shell offers of what is live.

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Failure, Tested};

use crate::fixtures::command::Answer;
use crate::fixtures::stage::Stage;

/// What is offered for the last of these words.
fn offered(stage: &Stage, words: &[&str]) -> Result<Vec<String>, Failure> {
    let answer =
        Answer::of(stage.meshc().env("MESHC_COMPLETE", "fish").args(["--", "meshc"]).args(words))?.done()?;
    assert_eq!(answer.stderr, "");
    Ok(answer.stdout.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect())
}

#[test]
fn workloads_pods_and_generations_are_completed() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15001")?;
    stage.apply_rules("redirect outbound -> 15002")?;
    assert_eq!(offered(&stage, &["run", "--as", "ca"])?, ["cart"]);
    assert_eq!(offered(&stage, &["observe", "ca"])?, ["cart"]);
    assert_eq!(offered(&stage, &["explain", "--live", "ca"])?, ["cart"]);
    assert_eq!(offered(&stage, &["show", "l"])?, ["live"]);
    let generations = offered(&stage, &["rollback", ""])?;
    assert_eq!(generations.get(..2), Some(&["2".to_owned(), "1".to_owned()][..]), "{generations:?}");
    Ok(())
}
