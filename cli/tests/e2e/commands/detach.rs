//! `detach --all` leaves nothing in the kernel.

use std::fs;

use mesh_testbed::census::{Census, Kind};
use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Tested};

use crate::fixtures::seen::Seen;
use crate::fixtures::stage::{Stage, address};

#[test]
fn after_detach_the_kernel_holds_the_same_objects_as_before() -> Tested {
    let stage = Stage::alone()?;
    let before = Census::take()?;
    stage.apply_rules("redirect outbound -> 15001")?;
    stage.apply_rules("redirect outbound -> 15002")?;
    let during = Census::take()?;
    for kind in [Kind::Program, Kind::Map, Kind::Link] {
        assert!(during.count(kind) > before.count(kind), "apply made no {kind:?}");
    }
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15002));

    stage.ask(&["detach", "--all"])?;
    let left = before.left()?;
    assert!(left.is_empty(), "left: {:#?}", left.iter().map(ToString::to_string).collect::<Vec<_>>());
    let pins = stage.ground().bpffs().join("mesh");
    assert!(!pins.exists() || fs::read_dir(&pins)?.next().is_none(), "pins are left");
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Straight);
    assert_eq!(stage.ask(&["status"])?["state"], "none");
    Ok(())
}

#[test]
fn connections_made_before_detach_live_on() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15001")?;
    let target = address("10.0.3.9:80")?;
    let mut client = stage.cart().spawn(|line| {
        let mut stream = Client::to(target).open()?;
        let greeting = stream.greeting()?;
        let _ = line.say("open").and_then(|()| line.hear());
        stream.exchange("still there?").map(|answer| (greeting.arrival.who, answer))
    })?;
    client.line().hear()?;
    stage.ask(&["detach", "--all"])?;
    client.line().say("go on")?;
    assert_eq!(client.join()?, Ok(("sidecar".to_owned(), "still there?".to_owned())));
    Ok(())
}

#[test]
fn detach_without_all_is_wrong_usage() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15001")?;
    let answer = crate::fixtures::command::Answer::of(stage.meshc().arg("detach"))?;
    assert_eq!(answer.code, 2, "{answer:#?}");
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));
    Ok(())
}
