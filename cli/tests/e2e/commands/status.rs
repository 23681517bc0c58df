//! What `status` shows at a glance, and what it shows when it is asked.

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Failure, Tested};

use crate::fixtures::command::Answer;
use crate::fixtures::seen::Seen;
use crate::fixtures::stage::Stage;

#[test]
fn what_is_wrong_comes_first_and_lists_only_when_they_are_asked_for() -> Tested {
    let denies: String = (30..41).map(|port| format!("\ndeny outbound tcp {port}")).collect();
    let stage = Stage::ruled(&format!("redirect outbound -> 15001{denies}"))?;
    for port in 30..41 {
        assert_eq!(stage.dial(&format!("10.0.3.9:{port}"))?, Seen::Denied);
    }
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));
    let text = |arguments: &[&str]| -> Result<String, Failure> {
        Ok(Answer::of(stage.meshc().arg("status").args(arguments))?.done()?.stdout)
    };
    let short = text(&[])?;
    assert!(short.lines().count() < 24, "it fits a screen: {short}");
    for part in [
        "active: generation 1 (",
        " by the command line: apply ",
        "WORKLOAD",
        "decisions (11 denied, 1 redirected):",
    ] {
        assert!(short.contains(part), "{part}: {short}");
    }
    for (flag, title) in [
        ("--members", "\nmembers:\n"),
        ("--programs", "\nprograms:\n"),
        ("--maps", "\nmaps:\n"),
        ("--counters", "\ncounters:\n"),
    ] {
        assert!(!short.contains(title), "{short}");
        for asked in [flag, "-v"] {
            let long = text(&[asked])?;
            assert!(long.contains(title), "{asked}: {long}");
        }
    }
    assert!(short.contains("and 2 more: `--rules` lists them"), "{short}");
    let long = text(&["--rules"])?;
    assert!((30..41).all(|port| long.contains(&format!("deny outbound tcp {port}  "))), "{long}");

    std::fs::remove_file(stage.ground().bpffs().join("mesh/links/mesh_connect4"))?;
    let wrong = text(&[])?;
    let at = |part: &str| wrong.find(part).ok_or_else(|| format!("{part}: {wrong}"));
    assert!(at("\ndrift:\n")? < at("WORKLOAD")?, "{wrong}");
    Ok(())
}
