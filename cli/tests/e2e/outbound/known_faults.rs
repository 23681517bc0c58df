//! What other redirectors are known to get wrong: each is a test that fails where meshc's part is taken out.
//!
//! | what goes wrong elsewhere | the test |
//! |---|---|
//! | who connects before the sidecar listens is out of the mesh for ever | `an_application_that_connects_before_its_sidecar_listens_is_in_the_mesh_when_it_does` |
//! | v4-mapped sockets, those of every JVM, get past | `redirected::v4_v6_and_v4_mapped_connections_are_redirected_however_they_are_opened`, `jvm` |
//! | the level of an original destination is not checked; IPv6 has none | `redirected::each_family_is_answered_at_its_own_level_only` |
//! | other socket options break, long ones first | `a_sidecar_gets_its_answer_in_a_buffer_of_any_size_and_other_options_as_ever`, `bystander::socket_options_answer_the_same_with_and_without_programs` |
//! | `getpeername` tells the sidecar's address | `redirected::the_application_believes_that_it_reached_what_it_dialled` |
//! | half a close ends an inbound connection | `lasting::a_connection_lives_on_when_either_end_closes_its_half` |
//! | one source port to two ports of a pod times out | `lasting::one_source_port_reaches_two_ports_of_a_pod_at_once` |
//! | resets and ports used again are answered from the wrong port | `lasting::a_source_port_is_used_again_right_after_a_reset_and_after_a_close` |
//! | a restarted agent resets connections, or lets new ones past | `agent::killed_and_started_again_under_traffic_it_loses_no_connection`, `lasting::live_connections_outlast_every_command` |
//! | IP options are not looked behind | `tc::ports_are_found_behind_ip_options_and_extension_headers` |
//! | a sidecar cannot reach its application by the pod's address | `inbound::a_rule_for_the_pods_own_addresses_spares_the_sidecar` |
//! | an application that calls itself reaches the sidecar | `a_pod_is_its_namespace_and_reaches_its_own_addresses_directly`, `inbound::what_the_pod_sends_to_itself_stays_direct` |
//! | of `80, 8080` only the first counts, and of a list the first 20 | `every_port_of_a_list_counts_however_long_it_is_and_however_it_is_spaced` |
//! | `0.0.0.0/0` counts for nothing | `all_of_ipv4_is_a_prefix_like_any_other` |
//! | an IPv6 prefix ends the list | `every_address_of_a_list_counts_those_of_ipv6_and_those_after_them_too` |
//! | lists of the whole mesh are not applied | `what_a_whole_mesh_excludes_is_excluded_for_each_workload` |
//! | sockets bound to an interface, DNS are not redirected | `redirected`, `resolvers::dig_and_glibc_ask_the_resolver_beside_them_and_believe_its_answers` |
//! | excluded connections are accelerated; so are those of another namespace | `accelerate::chosen::what_is_not_chosen_never_enters`, `accelerate::chosen::sidecars_of_pods_that_are_not_chosen_never_enter` |
//! | `splice` on an accelerated socket hangs | `accelerate::splice`, `accelerate::readers` |
//! | `FIONREAD` of an accelerated socket is wrong, and nginx hangs | `accelerate::readers`, `boot::where_a_kernel_miscounts_and_is_not_locked_down_what_fionread_told_is_repaired` |
//! | a pod that gets the address of one that is gone is refused | `lasting::a_reused_address_or_name_inherits_nothing_from_the_pod_that_is_gone` |
//! | members beyond 1,024 are none | `members_are_more_than_a_thousand` |
//! | who has the sidecar's user id is exempt | `sidecar::a_cgroup_is_exempt_with_all_below_it_and_the_same_user_beside_it_is_not` |
//! | a pod that cannot be in the mesh starts without a word | `cni::a_pod_that_cannot_be_in_the_mesh_starts_only_where_the_policy_says_so` |
//! | an uninstall leaves programs and files | `detached::after_detach_the_kernel_holds_the_same_objects_as_before`, `installed::what_was_put_in_place_is_called_and_goes_without_a_trace` |
//! | each connection is printed to the trace pipe | `no_program_prints`, beside the programs |

use std::fmt::Write;

use std::net::TcpListener;
use std::os::fd::AsFd;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Errno, Failure, Place, ServerTask, Tested, raw_option};

use crate::fixtures::command::Answer;
use crate::fixtures::seen::{Seen, seen};
use crate::fixtures::stage::{Stage, address, as_member};

#[test]
fn an_application_that_connects_before_its_sidecar_listens_is_in_the_mesh_when_it_does() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15201")?;
    let target = address("10.0.3.9:80")?;
    // One process from beginning to end: nothing about it may be remembered.
    let mut application = stage.cart().spawn(|line| {
        let early = Client::to(target).dial().map(drop);
        let _ = line.say("too early").and_then(|()| line.hear());
        (early, seen(&Client::to(target), target))
    })?;
    application.line().hear()?;
    let _sidecar = ServerTask::start(&stage.beside(), "sidecar", &[address("127.0.0.1:15201")?])?;
    application.line().say("it listens")?;
    let (early, later) = application.join()?;
    assert_eq!(early, Err(Errno::ECONNREFUSED), "refused, and not let past the mesh");
    assert_eq!(later, Seen::Redirected(15201));
    Ok(())
}

#[test]
fn a_sidecar_gets_its_answer_in_a_buffer_of_any_size_and_other_options_as_ever() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15202")?;
    let target = address("10.0.3.9:80")?;
    let mut sidecar = stage.beside().spawn(|line| {
        let listener = TcpListener::bind("127.0.0.1:15202")?;
        let _ = line.say("ready");
        let (stream, _) = listener.accept()?;
        let ask = |level, option, length| raw_option(stream.as_fd(), level, option, length);
        let own = [16, 28, 128, 4096, 5000].map(|length| ask(0, 80, length));
        // The number of SO_ORIGINAL_DST at other levels, and a buffer that is too small for it.
        let none = [ask(6, 80, 16), ask(1, 80, 16), ask(0, 80, 8)].map(|answer| answer.is_err());
        let long = [ask(1, 3, 4), ask(1, 3, 4096), ask(1, 3, 8192)];
        Ok::<_, Errno>((own, none, long))
    })?;
    sidecar.line().hear()?;
    let _client = stage.cart().spawn(|line| {
        let stream = Client::to(target).open();
        let _ = line.hear();
        stream.is_ok()
    })?;
    let (own, none, long) = sidecar.join()??;
    let answer = Ok(vec![2, 0, 0, 80, 10, 0, 3, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(own, [(); 5].map(|()| answer.clone()));
    assert_eq!(none, [true; 3]);
    assert_eq!(long, [4, 4096, 8192].map(|_| Ok(vec![1, 0, 0, 0])));
    Ok(())
}

#[test]
fn every_port_of_a_list_counts_however_long_it_is_and_however_it_is_spaced() -> Tested {
    let stage = Stage::new()?;
    // The ports that are dialled are the first, the second after a space, and the last of a list of 46.
    let mut ports = "80, 8080".to_owned();
    for port in (7000..7086).step_by(2) {
        write!(ports, ",{port}")?;
    }
    stage.apply_rules(&format!("redirect outbound -> 15001\nexclude outbound tcp {ports}, 9090"))?;
    for port in [80, 8080, 9090] {
        assert_eq!(stage.dial(&format!("10.0.3.9:{port}"))?, Seen::Straight, "{port}");
        assert_eq!(stage.dial(&format!("[fd10::9]:{port}"))?, Seen::Straight, "{port}");
    }
    assert_eq!(stage.dial("10.0.3.9:443")?, Seen::Redirected(15001));
    Ok(())
}

#[test]
fn every_address_of_a_list_counts_those_of_ipv6_and_those_after_them_too() -> Tested {
    let stage = Stage::new()?;
    let mut list = "10.0.3.0/24, fd10:0:0:3::/64".to_owned();
    for number in 0..60 {
        write!(list, ", 10.{}.0.0/16, fd10:{:x}::/32", 100 + number, 0x100 + number)?;
    }
    stage.apply_rules(&format!("redirect outbound -> 15001\nexclude outbound to {list}, 172.16.5.5"))?;
    for target in ["10.0.3.9:80", "[fd10:0:0:3::9]:80", "10.159.1.1:80", "[fd10:13b::1]:80", "172.16.5.5:80"]
    {
        assert_eq!(stage.dial(target)?, Seen::Straight, "{target}");
    }
    for target in ["10.0.4.1:80", "[fd10:0:0:4::1]:80", "10.160.1.1:80", "172.16.5.4:80"] {
        assert_eq!(stage.dial(target)?, Seen::Redirected(15001), "{target}");
    }
    Ok(())
}

#[test]
fn all_of_ipv4_is_a_prefix_like_any_other() -> Tested {
    let stage = Stage::new()?;
    stage.apply_rules("redirect outbound -> 15001\nexclude outbound to 0.0.0.0/0")?;
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Straight);
    assert_eq!(stage.dial("172.16.5.5:443")?, Seen::Straight);
    assert_eq!(stage.dial("[fd10::9]:80")?, Seen::Redirected(15001));
    stage.apply_rules("redirect outbound to 0.0.0.0/0 -> 15002")?;
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15002));
    assert_eq!(stage.dial("[fd10::9]:80")?, Seen::Straight);
    Ok(())
}

#[test]
fn what_a_whole_mesh_excludes_is_excluded_for_each_workload() -> Tested {
    let stage = Stage::new()?;
    stage.apply_rules(
        "redirect outbound -> 15001\nexclude outbound tcp 3306\nfor batch { exclude outbound tcp 5432 }",
    )?;
    let dial = |place: &Place, port: u16| -> Result<Seen, Failure> {
        let target = address(&format!("10.0.3.9:{port}"))?;
        as_member(place, || seen(&Client::to(target), target))
    };
    for (port, cart, batch) in [
        (3306, Seen::Straight, Seen::Straight),
        (5432, Seen::Redirected(15001), Seen::Straight),
        (443, Seen::Redirected(15001), Seen::Redirected(15001)),
    ] {
        assert_eq!((dial(&stage.cart(), port)?, dial(&stage.batch(), port)?), (cart, batch), "{port}");
    }
    Ok(())
}

#[test]
fn members_are_more_than_a_thousand() -> Tested {
    const MANY: usize = 1_100;
    let stage = Stage::new()?;
    let mut text = "exempt uid 1500\nmesh bookstore {\nredirect outbound -> 15001\n".to_owned();
    let mut members = Vec::new();
    for number in 0..MANY {
        let member = stage.cart_cgroup().child(&format!("member{number}"))?;
        writeln!(text, "workload member{number} {{ cgroup \"{}\" }}", member.within()?)?;
        members.push(member);
    }
    let policy = stage.ground().write("many.mesh", text + "}\n")?;
    stage.apply(&policy)?;
    let target = address("10.0.3.9:80")?;
    for member in members.iter().step_by(MANY / 10).chain(members.last()) {
        let seen = as_member(&stage.beside().cgroup(member), || seen(&Client::to(target), target))?;
        assert_eq!(seen, Seen::Redirected(15001), "{member:?}");
    }
    assert_eq!(as_member(&stage.cart(), || seen(&Client::to(target), target))?, Seen::Straight);
    Ok(())
}

#[test]
fn a_pod_is_its_namespace_and_reaches_its_own_addresses_directly() -> Tested {
    let stage = Stage::new()?;
    let text =
        "exempt uid 1500\nmesh bookstore {\nredirect outbound -> 15001\nworkload web { namespace shop }\n}\n";
    let policy = stage.ground().write("pods.mesh", text)?;
    stage.apply(&policy)?;
    // The stage's own sidecar and whoever else lives in the namespace, whatever the cgroup and the user.
    let target = address("10.0.3.9:80")?;
    let dial = || as_member(&stage.beside().uid(1700), || seen(&Client::to(target), target));
    assert_eq!(dial()?, Seen::Straight);
    let attach = |verb: &str, more: &[&str]| -> Result<Answer, Failure> {
        let netns = stage.pair().client.path();
        Answer::of(stage.meshc().args([verb, "--netns"]).arg(netns).args(more))?.done()
    };
    let own = ["--address", "192.168.7.2", "--address", "fd07::2"];
    attach("attach", &[&["--name", "pod-1", "--namespace", "shop"][..], &own].concat())?;
    assert_eq!(dial()?, Seen::Redirected(15001));
    let listen = [address("192.168.7.2:9000")?, address("[fd07::2]:9000")?];
    let _own = ServerTask::start(&stage.beside(), "itself", &listen)?;
    for own in listen {
        let dialled = as_member(&stage.beside(), || Client::to(own).dial())??;
        assert_eq!((dialled.arrival.who.as_str(), dialled.arrival.local), ("itself", own));
    }
    attach("detach", &[])?;
    assert_eq!(dial()?, Seen::Straight);
    Ok(())
}
