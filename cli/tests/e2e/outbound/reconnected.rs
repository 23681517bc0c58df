//! One socket that is connected more than once is decided each time, and keeps nothing of the time before.

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Errno, Tested, storage};

use crate::fixtures::seen::{Seen, seen};
use crate::fixtures::stage::{Stage, address, as_member};

/// Port 5432 is redirected to where nobody listens.
const RULES: &str = "redirect outbound -> 15001
redirect outbound tcp 443 -> 15002
redirect outbound tcp 5432 -> 15999
exclude outbound tcp 3306
deny outbound tcp 25";

#[test]
fn a_socket_that_was_dissolved_is_decided_again() -> Tested {
    let stage = Stage::ruled(RULES)?;
    let ports = [
        (80, Seen::Redirected(15001)),
        (443, Seen::Redirected(15002)),
        (3306, Seen::Straight),
        (25, Seen::Denied),
    ];
    for host in ["10.0.3.9", "[fd10::9]"] {
        // 5432: refused first.
        for earlier in [80, 443, 3306, 25, 5432] {
            let earlier = address(&format!("{host}:{earlier}"))?;
            for (port, expected) in ports {
                let target = address(&format!("{host}:{port}"))?;
                let client = Client::to(target).after(earlier);
                let mut clients = vec![client.clone()];
                if target.is_ipv4() {
                    clients.push(client.mapped());
                }
                for client in clients {
                    let seen = as_member(&stage.cart(), || seen(&client, target))?;
                    assert_eq!(seen, expected, "{client:?}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_socket_whose_connection_failed_connects_again_as_it_is() -> Tested {
    let stage = Stage::ruled(RULES)?;
    for host in ["10.0.3.9", "[fd10::9]"] {
        // Refused at the sidecar's port, and denied.
        for earlier in [5432, 25] {
            let earlier = address(&format!("{host}:{earlier}"))?;
            for (port, expected) in
                [(80, Seen::Redirected(15001)), (3306, Seen::Straight), (25, Seen::Denied)]
            {
                let target = address(&format!("{host}:{port}"))?;
                let client = Client::to(target).failing_at(earlier);
                let seen = as_member(&stage.cart(), || seen(&client, target))?;
                assert_eq!(seen, expected, "{client:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_redirected_socket_that_is_then_excluded_keeps_nothing_of_the_time_before() -> Tested {
    let stage = Stage::ruled(RULES)?;
    let (redirected, excluded) = (address("10.0.3.9:80")?, address("10.0.3.9:3306")?);
    let mut held = stage.cart().spawn(|line| {
        let mut stream = Client::to(excluded).after(redirected).open()?;
        let dialled = stream.greeting()?;
        let _ = line.say("open").and_then(|()| line.hear());
        Ok::<_, Errno>((dialled.peer, dialled.arrival.who))
    })?;
    held.line().hear()?;
    assert_eq!(storage::sockets_with_storage(&stage.pin("accepted_flows")?)?, 0);
    assert_eq!(storage::entries(&stage.pin("handover")?)?, 0);
    held.line().say("close")?;
    assert_eq!(held.join()?, Ok((excluded, "application".to_owned())));
    Ok(())
}
