//! An excluded flow is not touched at all.

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Errno, Tested, storage};

use crate::fixtures::backend::{Backend, by_each_backend};
use crate::fixtures::seen::Seen;
use crate::fixtures::stage::{Stage, address, as_member};

#[test]
fn an_excluded_connection_goes_straight_and_leaves_nothing_but_what_its_own_socket_keeps() -> Tested {
    let stage = Stage::new()?;
    stage.apply_rules("redirect outbound -> 15001\nexclude outbound tcp 3306")?;
    for target in ["10.0.3.9:3306", "[fd10::9]:3306"] {
        assert_eq!(stage.dial(target)?, Seen::Straight, "{target}");
    }
    let target = address("10.0.3.9:3306")?;
    let mut held = stage.cart().spawn(|line| {
        let stream = Client::to(target).open();
        let opened = stream.is_ok();
        let _ = line.say("open").and_then(|()| line.hear());
        opened
    })?;
    held.line().hear()?;
    // What was decided, for an apply that closes what it changes.
    for (map, kept) in [("client_flows", 1), ("accepted_flows", 0)] {
        assert_eq!(storage::sockets_with_storage(&stage.pin(map)?)?, kept, "{map}");
    }
    for map in ["handover", "exempt_flows"] {
        assert_eq!(storage::entries(&stage.pin(map)?)?, 0, "{map}");
    }
    held.line().say("close")?;
    assert!(held.join()?);
    assert_eq!(storage::sockets_with_storage(&stage.pin("client_flows")?)?, 0);
    Ok(())
}

by_each_backend! {
    an_excluded_connection_goes_straight,
    what_no_rule_speaks_of_goes_straight_and_loopback_stays_loopback,
}

fn an_excluded_connection_goes_straight(by: Backend) -> Tested {
    let stage = Stage::ruled_by(by, "redirect outbound -> 15001\nexclude outbound tcp 3306")?;
    for target in ["10.0.3.9:3306", "[fd10::9]:3306"] {
        assert_eq!(stage.dial(target)?, Seen::Straight, "{target}");
    }
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));
    Ok(())
}

fn what_no_rule_speaks_of_goes_straight_and_loopback_stays_loopback(by: Backend) -> Tested {
    let stage = Stage::ruled_by(by, "redirect outbound tcp 80 -> 15001")?;
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));
    assert_eq!(stage.dial("10.0.3.9:443")?, Seen::Straight);
    // Nobody listens there; what is redirected would reach the sidecar.
    let loopback = address("127.0.0.1:80")?;
    let refused = as_member(&stage.cart(), || Client::to(loopback).dial())?;
    assert_eq!(refused, Err(Errno::ECONNREFUSED));
    Ok(())
}
