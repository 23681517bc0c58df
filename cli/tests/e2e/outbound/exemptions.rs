//! The sidecar's own connections are never touched, wherever it lives; nobody else's are spared for it.

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Failure, Place, Tested, UdpServer};
use mesh_testbed::{Manner, ask};

use crate::fixtures::backend::{Backend, by_each_backend};
use crate::fixtures::seen::{Seen, seen};
use crate::fixtures::stage::{SIDECAR_UID, Stage, address, as_member};

by_each_backend! {
    an_exempt_user_reaches_what_it_dials_even_from_a_members_cgroup,
    users_and_groups_are_exempt_by_all_32_bits_of_their_ids_and_by_ranges,
    a_cgroup_is_exempt_with_all_below_it_and_the_same_user_beside_it_is_not,
    an_exemption_reaches_the_workload_that_it_is_written_for_only,
}

fn an_exempt_user_reaches_what_it_dials_even_from_a_members_cgroup(by: Backend) -> Tested {
    let stage = Stage::by(by)?;
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

fn users_and_groups_are_exempt_by_all_32_bits_of_their_ids_and_by_ranges(by: Backend) -> Tested {
    let stage = Stage::by(by)?;
    apply(&stage, "exempt uid 1500, 1000650000-1000650003\nexempt gid 1600, 4294967294")?;
    let places = [
        (stage.cart().uid(1_000_649_999), Seen::Redirected(15001)),
        (stage.cart().uid(1_000_650_000), Seen::Straight),
        (stage.cart().uid(1_000_650_003), Seen::Straight),
        (stage.cart().uid(1_000_650_004), Seen::Redirected(15001)),
        // The lower half of an exempt id is another user.
        (stage.cart().uid(1_000_650_000 & 0xffff), Seen::Redirected(15001)),
        (stage.cart().gid(1600), Seen::Straight),
        (stage.cart().gid(1600).uid(1700), Seen::Straight),
        (stage.cart().gid(1601), Seen::Redirected(15001)),
        (stage.cart().gid(4_294_967_294), Seen::Straight),
        // A user is no group.
        (stage.cart().gid(1500), Seen::Redirected(15001)),
        (stage.cart().uid(1600), Seen::Redirected(15001)),
    ];
    for (place, expected) in places {
        check(&place, expected)?;
    }
    Ok(())
}

fn a_cgroup_is_exempt_with_all_below_it_and_the_same_user_beside_it_is_not(by: Backend) -> Tested {
    let stage = Stage::by(by)?;
    let proxy = stage.cart_cgroup().child("proxy")?;
    let workers = proxy.child("workers")?;
    let worker = workers.child("one")?;
    let app = stage.cart_cgroup().child("app")?;
    apply(&stage, &format!("exempt cgroup \"{}\"", proxy.within()?))?;
    // As one user: the identity of a sidecar by its user would let the application pass, too.
    let place = || stage.cart().uid(SIDECAR_UID);
    check(&place().cgroup(&proxy), Seen::Straight)?;
    check(&place().cgroup(&worker), Seen::Straight)?;
    check(&place().cgroup(&app), Seen::Redirected(15001))?;
    check(&place(), Seen::Redirected(15001))
}

fn an_exemption_reaches_the_workload_that_it_is_written_for_only(by: Backend) -> Tested {
    let stage = Stage::by(by)?;
    stage.apply_rules("redirect outbound -> 15001\nfor batch { exempt uid 1700 }")?;
    check(&stage.batch().uid(1700), Seen::Straight)?;
    check(&stage.cart().uid(1700), Seen::Redirected(15001))
}

#[test]
fn the_datagrams_of_an_exempt_user_go_straight() -> Tested {
    let stage = Stage::new()?;
    stage.apply_rules("redirect outbound any -> 15001\nalways deny outbound udp 25")?;
    for port in [53, 25] {
        let target = address(&format!("10.0.3.9:{port}"))?;
        let _server = UdpServer::start(&stage.pair().server, "application", &[target])?;
        for manner in [Manner::Connected, Manner::Unconnected] {
            let answer = as_member(&stage.cart().uid(SIDECAR_UID), || ask(target, "who?", manner))??;
            assert_eq!((answer.who.as_str(), answer.from), ("application", Some(target)));
        }
    }
    Ok(())
}

/// A mesh with these exemptions and no other, whose members are all redirected.
fn apply(stage: &Stage, exemptions: &str) -> Result<(), Failure> {
    let text = format!(
        "{exemptions}\nredirect outbound -> 15001\nmesh bookstore {{\nworkload cart {{ cgroup \"{}\" }}\n}}\n",
        stage.cart_cgroup().within()?
    );
    let policy = stage.ground().write("exempt.mesh", text)?;
    stage.apply(&policy)?;
    Ok(())
}

#[track_caller]
fn check(place: &Place, expected: Seen) -> Tested {
    for target in ["10.0.3.9:80", "[fd10::9]:80"] {
        let target = address(target)?;
        let seen = as_member(place, || seen(&Client::to(target), target))?;
        assert_eq!(seen, expected, "{place:?} {target}");
    }
    Ok(())
}
