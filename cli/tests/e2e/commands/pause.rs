//! `pause` stops interception at once and keeps everything; `resume` brings it back.

use mesh_testbed::Tested;
use mesh_testbed::kernel_test as test;

use crate::fixtures::seen::Seen;
use crate::fixtures::stage::Stage;

#[test]
fn a_paused_mesh_is_not_there_and_a_resumed_one_is() -> Tested {
    let stage = Stage::new()?;
    stage.apply_rules("redirect outbound -> 15001\ndeny outbound tcp 25")?;
    stage.ask(&["pause"])?;
    assert_eq!(stage.ask(&["status"])?["state"], "paused");
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Straight);
    assert_eq!(stage.dial("10.0.3.9:25")?, Seen::Straight);
    stage.ask(&["resume"])?;
    assert_eq!(stage.ask(&["status"])?["state"], "active");
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));
    assert_eq!(stage.dial("10.0.3.9:25")?, Seen::Denied);
    Ok(())
}
