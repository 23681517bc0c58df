//! `pause` stops interception at once and keeps everything; `resume` brings it back.
#![expect(
    clippy::indexing_slicing,
    reason = "a key that is not in the JSON is null, and the comparison fails"
)]

use mesh_testbed::Tested;

use crate::fixtures::backend::{Backend, by_each_backend};
use crate::fixtures::command::Answer;
use crate::fixtures::observer::Observer;
use crate::fixtures::seen::Seen;
use crate::fixtures::stage::Stage;

by_each_backend! { a_paused_mesh_is_not_there_and_a_resumed_one_is }

fn a_paused_mesh_is_not_there_and_a_resumed_one_is(by: Backend) -> Tested {
    let stage = Stage::ruled_by(by, "redirect outbound -> 15001\ndeny outbound tcp 25")?;
    stage.ask(&["pause"])?;
    assert_eq!(stage.ask(&["status"])?["state"], "paused");
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Straight);
    assert_eq!(stage.dial("10.0.3.9:25")?, Seen::Straight);
    let policy = stage.policy("other.mesh", "redirect outbound -> 15002")?.display().to_string();
    let asked: [(&[&str], i32); 2] =
        [(&["explain", "--live", "cart -> 10.0.3.9 tcp 25"], 0), (&["plan", &policy], 3)];
    for (arguments, code) in asked {
        let answer = Answer::of(stage.meshc().args(["--format", "json"]).args(arguments))?;
        assert_eq!((answer.code, &answer.json()?["paused"]), (code, &true.into()), "{answer:#?}");
        let words = Answer::of(stage.meshc().args(arguments))?.stderr;
        assert!(words.contains("is paused: connections go straight"), "{words}");
    }
    if by == Backend::Bpf {
        let observer = Observer::start(&stage, "observed", &[])?;
        let told = observer.0.output()?;
        assert!(told.contains("is paused: connections go straight"), "{told}");
    }
    stage.ask(&["resume"])?;
    let explained = stage.ask(&["explain", "--live", "cart -> 10.0.3.9 tcp 25"])?;
    assert_eq!(explained["paused"], false);
    assert_eq!(stage.ask(&["status"])?["state"], "active");
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));
    assert_eq!(stage.dial("10.0.3.9:25")?, Seen::Denied);
    Ok(())
}
