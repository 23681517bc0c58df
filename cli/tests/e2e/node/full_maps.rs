//! Maps that are full: what is denied stays denied, nothing goes past a sidecar, and what found no room is counted.

use mesh_testbed::{Arrival, Client, Errno, Failure, Tested, storage};
use serde_json::Value;

use crate::fixtures::seen::Seen;
use crate::fixtures::stage::{Stage, address, as_member, where_usable};
use crate::fixtures::town::{Offered, Pod, offer, offered};

/// What the programs have counted under a name.
fn counted(status: &Value, name: &str) -> u64 {
    let all = status.get("counters").and_then(Value::as_array).into_iter().flatten();
    all.filter(|it| it["name"] == name).filter_map(|it| it.get("value")?.as_u64()).sum()
}

#[test]
fn a_full_hand_over_sends_nobody_past_a_sidecar() -> Tested {
    let rules = "redirect outbound -> 15001\nexclude outbound tcp 3306\ndeny outbound tcp 25";
    let Some(stage) = where_usable(|| Stage::ruled(rules))? else { return Ok(()) };
    let handover = stage.pin("handover")?;
    storage::fill(&handover, false)?;
    for host in ["10.0.3.9", "[fd10::9]"] {
        let target = address(&format!("{host}:80"))?;
        let before = counted(&stage.ask(&["status"])?, "handover_full");
        let dialled = as_member(&stage.cart(), || Client::to(target).dial())??;
        let Arrival { who, .. } = &dialled.arrival;
        // The sidecar has it, and is not told where it was going.
        assert_eq!((who.as_str(), dialled.arrival.original()), ("sidecar", None), "{dialled:?}");
        assert_eq!(counted(&stage.ask(&["status"])?, "handover_full"), before + 1);
        assert_eq!(stage.dial(&format!("{host}:25"))?, Seen::Denied);
        assert_eq!(stage.dial(&format!("{host}:3306"))?, Seen::Straight);
    }
    storage::fill(&handover, true)?;
    for target in ["10.0.3.9:80", "[fd10::9]:80"] {
        assert_eq!(stage.dial(target)?, Seen::Redirected(15001), "{target}");
    }
    assert_eq!(storage::entries(&handover)?, 0);
    Ok(())
}

#[test]
fn full_exempt_flows_change_nothing_for_others() -> Tested {
    let rules =
        "redirect inbound -> 15003\nredirect inbound from 10.42.0.2, fd42::2 -> 15003\ndeny inbound tcp 9090";
    let Some(pod) = where_usable(|| Pod::ruled(crate::fixtures::town::WAY, rules))? else { return Ok(()) };
    let _servers = pod.servers()?;
    let flows = pod.pin("exempt_flows");
    let sidecars = |target: &str| -> Result<Offered, Failure> {
        let target = address(target)?;
        Ok(offered(pod.sidecar_place().run(|| Client::to(target).dial())?, target))
    };
    for own in ["10.42.0.2:8080", "[fd42::2]:8080"] {
        assert_eq!(sidecars(own)?, Offered::Straight("application".into()));
    }
    storage::fill(&flows, false)?;
    for (own, denied) in [("10.42.0.2:8080", "10.42.0.2:9090"), ("[fd42::2]:8080", "[fd42::2]:9090")] {
        assert_eq!(offer(&pod.town().far, own)?, Offered::Redirected("sidecar".into()));
        assert_eq!(offer(&pod.town().far, denied)?, Offered::Failed(Errno::ECONNREFUSED));
        let before = counted(&pod.ask(&["status"])?, "exempt_full");
        // What could not be noted is as anybody's: it comes back to the sidecar.
        assert_eq!(sidecars(own)?, Offered::Redirected("sidecar".into()));
        assert_eq!(counted(&pod.ask(&["status"])?, "exempt_full"), before + 1);
    }
    storage::fill(&flows, true)?;
    for own in ["10.42.0.2:8080", "[fd42::2]:8080"] {
        assert_eq!(sidecars(own)?, Offered::Straight("application".into()));
    }
    Ok(())
}
