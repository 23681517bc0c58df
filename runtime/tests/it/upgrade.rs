//! Programs and maps of another build: replaced without a gap, or refused with a way out.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use mesh_bpf::abi::{FLOW_ABI, LINE, POLICY_ABI};
use mesh_bpf::map::{self, Table};
use mesh_bpf::tables::is_known;
use mesh_runtime::system::faults::{Faulty, Injected};
use mesh_runtime::system::{Files, Maps, System, Word};
use mesh_runtime::{Apply, Class, Drift, Error, Filter, Instance, Kernel, Options, Owner, Runtime, State};
use mesh_testbed::kernel_test;
use mesh_testbed::{Client, Ground, Line, Place, Server, ServerTask, first_step, long_runs_are_wanted};

use crate::builds::{self, LATER_BUILD};
use crate::common::{self, Policy, request};
use crate::steps::machine;

/// What commands ask, on a system.
pub fn on<S: System>(system: S, instance: &Instance) -> Runtime<S> {
    let options = Options { lock_timeout: 5_000, command: "test".into() };
    Runtime::on(system, instance.clone(), options).unwrap()
}

/// A member that was redirected before the upgrade and connects again and again until it is told to stop: what
/// it saw that is wrong, and how often all was right.
fn traffic(line: &mut Line, there: SocketAddr) -> (Vec<String>, u32) {
    let (mut wrong, mut right) = (Vec::new(), 0);
    let mut first = Client::to(there).open().unwrap();
    first.greeting().unwrap();
    let _ = line.say("open");
    while line.is_silent() && wrong.is_empty() {
        match Client::to(there).dial() {
            Ok(dialled) if dialled.arrival.who == "sidecar" && dialled.arrival.original() == Some(there) => {
                right += 1;
            }
            other => wrong.push(format!("{other:?}")),
        }
        // The connection from before goes on, and still is what it was.
        if first.exchange("hello").ok().as_deref() != Some("hello")
            || first.socket().peer_addr().ok() != Some(there)
        {
            wrong.push("the first connection did not go on".into());
        }
    }
    (wrong, right)
}

#[kernel_test]
fn programs_are_replaced_under_traffic_without_a_gap() {
    let ground = Ground::new().unwrap();
    let instance = common::instance(&ground);
    let far = Server::start_here("far", &["127.0.0.2:0".parse().unwrap()]).unwrap();
    let there = far.addresses().unwrap()[0];
    let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _sidecar = ServerTask::start(&Place::here().cgroup(ground.cgroup()), "sidecar", &[at]).unwrap();
    let app = ground.cgroup().child("app").unwrap();
    let policy = Policy::new().redirect(there.port(), at.port()).cgroup(app.within().unwrap()).tables();
    let ours = on(Kernel::new(), &instance);
    let applied = ours.apply(request(&policy)).unwrap();
    let mut client = Place::here().cgroup(&app).spawn(move |line| traffic(line, there)).unwrap();
    client.line().hear().unwrap();

    let object = builds::object(&ground, "later");
    let theirs = || on(Kernel::with_programs(object.clone()), &instance);
    let upgraded = theirs().apply(request(&policy)).unwrap();
    assert!(upgraded.upgraded > 0 && !upgraded.changed && upgraded.warnings.is_empty(), "{upgraded:?}");
    assert_eq!(upgraded.generation, applied.generation);
    let later = || ours.status().unwrap().hits.get(&LATER_BUILD).copied().unwrap_or_default();
    assert!(mesh_testbed::until(std::time::Duration::from_secs(10), || later() > 20), "{}", later());

    // Killed at any step on the way back to our build, each program is one or the other, and the next goes on.
    let steps = {
        let counted = on(Faulty::new(Kernel::new(), Injected::Never), &instance);
        counted.apply(request(&policy)).unwrap();
        counted.system().steps().len()
    };
    assert!(steps > upgraded.upgraded, "{steps}");
    for step in (first_step().unwrap_or(0)..steps).step_by(if long_runs_are_wanted() { 1 } else { 41 }) {
        theirs().apply(request(&policy)).unwrap();
        let killed = on(Faulty::new(Kernel::new(), Injected::Kill(step)), &instance);
        Place::here().run(|| drop(killed.apply(request(&policy)))).unwrap();
        assert_eq!(ours.head().unwrap().digest, applied.digest);
        ours.apply(request(&policy)).unwrap();
        assert_eq!(ours.status().unwrap().drift, Vec::<Drift>::new(), "{step}");
    }
    // One that has ended already tells why.
    let _ = client.line().say("stop");
    let (wrong, right) = client.join().unwrap();
    assert_eq!(wrong, Vec::<String>::new());
    assert!(right > 20, "{right}");
    ours.detach_all(true).unwrap();
}

/// As if a meshc with another flow ABI had made the maps.
fn other_flows<S: System>(system: &S, instance: &Instance) {
    let control = system.open_map(&instance.maps().join(map::CONTROL.name)).unwrap().unwrap();
    let words = system.words(&control).unwrap();
    assert!(system.exchange(&words, Word::FlowAbi, FLOW_ABI.into(), 7).unwrap());
}

/// As if a meshc with another policy ABI had filled the live slot.
fn other_tables<S: System>(system: &S, instance: &Instance) {
    let tables = system.open_map(&instance.maps().join(map::TABLES_MAP.name)).unwrap().unwrap();
    let control = system.open_map(&instance.maps().join(map::CONTROL.name)).unwrap().unwrap();
    let generation = system.load(&system.words(&control).unwrap()).generation;
    let index = Table::Manifest.index(map::slot(generation));
    let live = system.lookup(&tables, &index.to_ne_bytes()).unwrap().unwrap();
    let live = system.map_by_id(u32::from_ne_bytes(live.try_into().unwrap())).unwrap().unwrap();
    let mut manifest = system.content(&live, LINE * (1 + map::TABLES)).unwrap();
    let abi = u32::from_ne_bytes(manifest[8..12].try_into().unwrap());
    assert!(is_known(abi), "{abi}");
    manifest[8..12].copy_from_slice(&(POLICY_ABI + 1).to_ne_bytes());
    let other = system.create_map(&map::INNER, 1 + u32::try_from(map::TABLES).unwrap(), None).unwrap();
    system.fill(&other, &manifest).unwrap();
    system.put_maps(&tables, &[(index, &other)]).unwrap();
}

/// A later apply is refused before it writes anything; the head can be read; and there is a way out.
fn refused_with_a_way_out<S: System>(runtime: &Runtime<S>, spoil: impl Fn(&S, &Instance)) {
    let old = Policy::new().redirect(80, 15001).tables();
    let new = Policy::new().redirect(81, 15001).tables();
    runtime.apply(request(&old)).unwrap();
    spoil(runtime.system(), runtime.instance());
    let before = runtime.head().unwrap();
    let programs = |status: &mesh_runtime::Status| status.programs.clone();
    let attached = programs(&runtime.status().unwrap());
    assert!(!attached.is_empty());
    for request in [request(&new), request(&old), Apply { repair: true, ..request(&new) }] {
        let error = runtime.apply(request).unwrap_err();
        assert!(matches!(error, Error::OtherFlowAbi { found: 7 } | Error::OtherAbi { .. }), "{error}");
        assert!(error.class() == Class::Node && error.help().contains("--drop-flows"), "{}", error.help());
        let status = runtime.status().unwrap();
        assert_eq!((&status.head, programs(&status)), (&before, attached.clone()));
        let unreadable = Drift::Unreadable { error: error.code(), said: error.to_string() };
        assert_eq!(status.drift, [unreadable]);
    }
    assert_eq!(before.state, State::Active);
    // Somebody else's policy is not dropped by accident either.
    let stale = Apply { drop_flows: true, expected: Some(before.generation + 1), ..request(&new) };
    assert!(matches!(runtime.apply(stale), Err(Error::Stale { .. })));
    assert_eq!(runtime.head().unwrap(), before);
    let applied = runtime.apply(Apply { drop_flows: true, ..request(&new) }).unwrap();
    assert!(applied.changed && applied.generation > before.generation);
    assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
    assert_eq!(runtime.live().unwrap().unwrap().tables, new);
    // Where nothing is incompatible it drops nothing.
    let again = runtime.apply(Apply { drop_flows: true, ..request(&new) }).unwrap();
    assert!(!again.changed);
    spoil(runtime.system(), runtime.instance());
    assert!(runtime.detach_all(true).unwrap().changed);
    assert_eq!(runtime.head().unwrap().state, State::None);
}

#[test]
fn maps_and_tables_of_another_abi_are_refused_with_a_way_out() {
    let (memory, instance) = machine();
    refused_with_a_way_out(&on(memory.clone(), &instance), other_flows);
    refused_with_a_way_out(&on(memory.clone(), &instance), other_tables);
    assert_eq!(memory.objects(), Vec::<String>::new());
}

#[kernel_test]
fn so_they_are_on_the_kernel() {
    let ground = Ground::new().unwrap();
    let instance = common::instance(&ground);
    refused_with_a_way_out(&on(Kernel::new(), &instance), other_flows);
    refused_with_a_way_out(&on(Kernel::new(), &instance), other_tables);
}

#[test]
fn an_agents_policy_of_another_version_is_not_dropped_by_accident() {
    let (memory, instance) = machine();
    let runtime = on(memory.clone(), &instance);
    let [old, new] = [80, 81].map(|port| Policy::new().redirect(port, 15001).tables());
    runtime.apply(Apply { owner: Owner::Agent, ..request(&old) }).unwrap();
    other_tables(&memory, &instance);
    let before = runtime.head().unwrap();
    let drop_flows = |override_owner| Apply { drop_flows: true, override_owner, ..request(&new) };
    assert!(matches!(runtime.apply(drop_flows(false)), Err(Error::Owned(Owner::Agent))));
    assert_eq!(runtime.head().unwrap(), before);
    assert!(runtime.apply(drop_flows(true)).unwrap().changed);
    assert_eq!(runtime.live().unwrap().unwrap().tables, new);
}

#[test]
fn what_is_only_damaged_is_no_other_version_and_not_dropped() {
    let (memory, instance) = machine();
    let runtime = on(memory.clone(), &instance);
    let [old, new] = [80, 81].map(|port| Policy::new().redirect(port, 15001).tables());
    runtime.apply(request(&old)).unwrap();
    let tables = memory.open_map(&instance.maps().join(map::TABLES_MAP.name)).unwrap().unwrap();
    let index = Table::Manifest.index(map::slot(1));
    let mut manifest = old.manifest(1, 0).padded().to_vec();
    // Its magic.
    manifest[..8].fill(7);
    let damaged = memory.create_map(&map::INNER, 1 + u32::try_from(map::TABLES).unwrap(), None).unwrap();
    memory.fill(&damaged, &manifest).unwrap();
    memory.put_maps(&tables, &[(index, &damaged)]).unwrap();
    let before = runtime.head().unwrap();
    let error = runtime.apply(Apply { drop_flows: true, ..request(&new) }).unwrap_err();
    assert!(matches!(error, Error::Damaged(_)), "{error}");
    assert_eq!((runtime.head().unwrap(), before.state), (before, State::Active));
    runtime.apply(Apply { repair: true, ..request(&new) }).unwrap();
    assert_eq!(runtime.live().unwrap().unwrap().tables, new);
}

#[test]
fn a_pinned_map_of_another_shape_is_named() {
    let (memory, instance) = machine();
    let runtime = on(memory.clone(), &instance);
    runtime.apply(request(&Policy::new().redirect(80, 15001).tables())).unwrap();
    let pin = instance.maps().join(map::HANDOVER.name);
    memory.remove(&pin).unwrap();
    let narrow = map::MapDef { value: map::HANDOVER.value - 8, ..map::HANDOVER };
    memory.pin_map(&memory.create_map(&narrow, 16, None).unwrap(), &pin).unwrap();
    let error = runtime.apply(request(&Policy::new().deny(80).tables())).unwrap_err();
    assert!(matches!(&error, Error::Incompatible { map, .. } if map == map::HANDOVER.name), "{error}");
    runtime.apply(Apply { drop_flows: true, ..request(&Policy::new().deny(80).tables()) }).unwrap();
    assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
}

/// Denials that the programs counted by member.
fn denied<S: System>(runtime: &Runtime<S>) -> Option<u64> {
    let status = runtime.status().unwrap();
    status.members.first().and_then(|member| member.decisions).map(|decisions| decisions.denied)
}

#[kernel_test]
fn maps_that_an_earlier_build_did_not_have_are_added_and_drop_no_flow() {
    let ground = Ground::new().unwrap();
    let instance = common::instance(&ground);
    let app = ground.cgroup().child("app").unwrap();
    let policy = Policy::new().deny(9).cgroup(app.within().unwrap()).tables();
    let ours = on(Kernel::new(), &instance);
    // An earlier build's programs, as far as maps go: they know others than ours.
    let object = builds::object(&ground, "later");
    let theirs = || on(Kernel::with_programs(object.clone()), &instance);
    theirs().apply(request(&policy)).unwrap();
    std::fs::remove_file(instance.maps().join(map::MEMBER_COUNTS.name)).unwrap();
    assert_eq!(denied(&ours), None);
    let pin = instance.maps().join(map::CLIENT_FLOWS.name);
    let flows = || ours.system().map_info(&ours.system().open_map(&pin).unwrap().unwrap()).unwrap().id;
    let before = flows();
    let applied = ours.apply(request(&policy)).unwrap();
    assert!(applied.upgraded > 0 && !applied.changed, "{applied:?}");
    assert_eq!((flows(), denied(&ours)), (before, Some(0)));
    let dial = || Client::to("127.0.0.1:9".parse().unwrap()).dial().is_err();
    assert!(Place::here().cgroup(&app).run(dial).unwrap());
    assert_eq!(denied(&ours), Some(1));
    ours.detach_all(true).unwrap();
}

#[test]
fn such_a_map_that_was_taken_away_is_named() {
    let (memory, instance) = machine();
    let runtime = on(memory.clone(), &instance);
    runtime.apply(request(&Policy::new().redirect(80, 15001).tables())).unwrap();
    memory.remove(&instance.maps().join(map::MEMBER_COUNTS.name)).unwrap();
    let error = runtime.apply(request(&Policy::new().deny(80).tables())).unwrap_err();
    assert!(matches!(&error, Error::Incompatible { map, .. } if map == map::MEMBER_COUNTS.name), "{error}");
}

#[test]
fn maps_that_a_build_lacked_are_added_by_the_next_and_all_others_are_needed() {
    for def in map::MAPS {
        let (memory, instance) = machine();
        let runtime = on(memory.clone(), &instance);
        let tables = Policy::new().redirect(80, 15001).tables();
        runtime.apply(request(&tables)).unwrap();
        let pin = instance.maps().join(def.name);
        memory.remove(&pin).unwrap();
        memory.upgrade();
        match runtime.apply(request(&tables)) {
            Ok(applied) => {
                assert!(def.may_lack && !applied.changed && memory.exists(&pin), "{}", def.name);
                assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new(), "{}", def.name);
            }
            // Without the words, nobody can tell what is there.
            Err(error) if def.name == map::CONTROL.name => {
                assert!(matches!(error, Error::AnotherMesh { .. } | Error::System(_)), "{error}");
            }
            Err(error) => {
                let is_named = matches!(&error, Error::Incompatible { map, .. } if map == def.name);
                assert!(is_named && !def.may_lack && !memory.exists(&pin), "{}: {error}", def.name);
            }
        }
    }
}

#[kernel_test]
fn decisions_are_kept_from_the_first_apply_of_a_build_that_can_and_no_flow_is_dropped() {
    let ground = Ground::new().unwrap();
    let instance = common::instance(&ground);
    let app = ground.cgroup().child("app").unwrap();
    let policy = Policy::new().deny(9).cgroup(app.within().unwrap()).tables();
    let ours = on(Kernel::new(), &instance);
    // An earlier build, as far as maps go: its programs are others, and it made no such map.
    let theirs = on(Kernel::with_programs(builds::object(&ground, "later")), &instance);
    theirs.apply(request(&policy)).unwrap();
    for def in [map::RECENT, map::RECENT_LAST] {
        std::fs::remove_file(instance.maps().join(def.name)).unwrap();
    }
    let kept = || ours.recall(&Filter::default(), Duration::from_secs(60));
    assert!(matches!(kept(), Err(Error::NothingKept)));
    let pin = instance.maps().join(map::CLIENT_FLOWS.name);
    let flows = || ours.system().map_info(&ours.system().open_map(&pin).unwrap().unwrap()).unwrap().id;
    let before = flows();
    let applied = ours.apply(request(&policy)).unwrap();
    assert!(applied.upgraded > 0 && !applied.changed, "{applied:?}");
    assert_eq!((flows(), kept().unwrap().decisions.len()), (before, 0));
    let dial = || Client::to("127.0.0.1:9".parse().unwrap()).dial().is_err();
    assert!(Place::here().cgroup(&app).run(dial).unwrap());
    assert_eq!(kept().unwrap().decisions.len(), 1);
    ours.detach_all(true).unwrap();
}
