//! The sidecar's own connections are never touched, wherever it lives.

use mesh_testbed::{Client, Tested, kernel_is_usable};

use crate::seen::{Seen, seen};
use crate::stage::{SIDECAR_UID, Stage, address, as_member};

#[test]
fn an_exempt_user_reaches_what_it_dials_even_from_a_members_cgroup() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let stage = Stage::new()?;
    stage.apply_rules("redirect outbound -> 15001\nalways deny outbound tcp 25")?;
    for target in ["10.0.3.9:80", "[fd10::9]:80", "10.0.3.9:25"] {
        let target = address(target)?;
        let exempt = stage.cart().uid(SIDECAR_UID);
        let seen = as_member(&exempt, || seen(&Client::to(target), target))?;
        assert_eq!(seen, Seen::Straight, "{target}");
    }
    let target = address("10.0.3.9:80")?;
    let another = stage.cart().uid(SIDECAR_UID + 1);
    assert_eq!(as_member(&another, || seen(&Client::to(target), target))?, Seen::Redirected(15001));
    Ok(())
}
