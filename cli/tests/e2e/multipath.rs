//! MPTCP sockets are decided like TCP's; what cannot be told about them is known.

use mesh_testbed::{Client, Errno, ServerTask, Tested};

use crate::stage::{Stage, address, as_member, where_usable};

const EOPNOTSUPP: Errno = Errno(95);

#[test]
fn an_mptcp_client_is_redirected_excluded_and_denied_like_any_other() -> Tested {
    let Some(stage) = where_usable(Stage::new)? else { return Ok(()) };
    stage.apply_rules("redirect outbound -> 15001\nexclude outbound tcp 3306\ndeny outbound tcp 25")?;
    for host in ["10.0.3.9", "[fd10::9]"] {
        let target = address(&format!("{host}:80"))?;
        let dialled = as_member(&stage.cart(), || Client::to(target).multipath().dial())??;
        assert_eq!((dialled.arrival.who.as_str(), dialled.arrival.original()), ("sidecar", Some(target)));
        // The programs see the subflow, and `getpeername` asks the socket above it: the manual says so.
        assert_eq!(dialled.peer.port(), 15001);
        let excluded = address(&format!("{host}:3306"))?;
        let dialled = as_member(&stage.cart(), || Client::to(excluded).multipath().dial())??;
        assert_eq!((dialled.arrival.who.as_str(), dialled.peer), ("application", excluded));
        let denied = address(&format!("{host}:25"))?;
        assert_eq!(as_member(&stage.cart(), || Client::to(denied).multipath().dial())?, Err(Errno::EPERM));
    }
    Ok(())
}

#[test]
fn a_sidecar_that_listens_with_mptcp_is_answered_for_tcp_clients_and_told_that_it_is_not_for_others() -> Tested
{
    let Some(stage) = where_usable(|| Stage::ruled("redirect outbound -> 15203"))? else { return Ok(()) };
    let listen = [address("127.0.0.1:15203")?, address("[::1]:15203")?];
    let _sidecar = ServerTask::multipath(&stage.beside(), "sidecar", &listen)?;
    for target in ["10.0.3.9:80", "[fd10::9]:80"] {
        let target = address(target)?;
        let arrival = as_member(&stage.cart(), || Client::to(target).dial())??.arrival;
        assert_eq!(arrival.original(), Some(target), "{arrival:?}");
        let arrival = as_member(&stage.cart(), || Client::to(target).multipath().dial())??.arrival;
        assert_eq!(
            (arrival.who.as_str(), arrival.original4, arrival.original6),
            ("sidecar", Err(EOPNOTSUPP), Err(EOPNOTSUPP))
        );
    }
    Ok(())
}
