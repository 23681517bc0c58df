//! Files that are lost, records that lie, programs of another build, kept generations.

use std::path::Path;

use mesh_bpf::map::{self, Table};
use mesh_bpf::program::{PROGRAMS, Policies, ProgramDef};
use mesh_runtime::system::memory::Memory;
use mesh_runtime::system::{Clock, Files, Links, Maps, Target};
use mesh_runtime::{Apply, Class, Drift, Error, Expiry, Instance, Key, Options, Owner, Pod, Runtime, State};

use crate::common::{Policy, request};
use crate::steps::machine;

fn runtime(memory: &Memory, instance: &Instance) -> Runtime<Memory> {
    let options = Options { lock_timeout: 50, command: "apply x.mesh".into() };
    Runtime::on(memory.clone(), instance.clone(), options).unwrap()
}

fn policies() -> [mesh_bpf::tables::Tables; 2] {
    let policy = || Policy::new().cgroup("/ground/one");
    [policy().redirect(80, 15001).tables(), policy().redirect(81, 15001).tables()]
}

#[test]
fn unchanged_tables_are_taken_over() {
    let (memory, instance) = machine();
    let runtime = runtime(&memory, &instance);
    let policy = Policy::new().prefixes(100).redirect(80, 15001);
    runtime.apply(request(&policy.tables())).unwrap();
    let other = runtime.apply(request(&policy.clone().exempt("/ground/two").tables())).unwrap();
    let written: Vec<&str> = other.written.iter().map(|(name, _)| *name).collect();
    assert!(!written.contains(&Table::Trees.word()), "{written:?}");
    assert!(written.contains(&Table::Manifest.word()) && written.contains(&Table::Names.word()));
}

#[test]
fn a_lost_state_directory_is_made_again_from_the_kernel() {
    let (memory, instance) = machine();
    let runtime = runtime(&memory, &instance);
    let [first, second] = policies();
    let digest = runtime.apply(request(&first)).unwrap().digest;
    for file in [instance.current(), instance.artifacts().join(&digest), instance.history().join("1")] {
        memory.remove(&file).unwrap();
    }
    runtime.apply(request(&first)).unwrap();
    let (record, tables, _) = runtime.kept(1).unwrap();
    assert_eq!((record.digest, tables), (digest, first.clone()));
    runtime.apply(request(&second)).unwrap();
    assert_eq!(runtime.rollback(None, Owner::Cli, false).unwrap().generation, 3);
    assert_eq!(runtime.live().unwrap().unwrap().tables, first);
}

#[test]
fn a_record_that_lies_is_put_right() {
    let (memory, instance) = machine();
    let runtime = runtime(&memory, &instance);
    let [first, _] = policies();
    runtime.apply(request(&first)).unwrap();
    let good = memory.read(&instance.current()).unwrap().unwrap();
    for content in [
        b"{".to_vec(),
        Vec::new(),
        String::from_utf8(good.clone()).unwrap().replace("\"generation\": 1", "\"generation\": 9").into(),
        String::from_utf8(good.clone()).unwrap().replace("\"digest\": \"", "\"digest\": \"ff").into(),
    ] {
        assert_ne!(content, good);
        memory.write(&instance.current(), &content, true).unwrap();
        runtime.apply(request(&first)).unwrap();
        let record = runtime.status().unwrap().record.unwrap();
        assert_eq!((record.generation, &record.digest), (1, &runtime.head().unwrap().digest));
        assert_eq!(record.origin, "found in the kernel");
    }
    // One that is right stays as it is.
    memory.write(&instance.current(), &good, true).unwrap();
    runtime.apply(request(&first)).unwrap();
    assert_eq!(memory.read(&instance.current()).unwrap().unwrap(), good);
}

#[test]
fn every_flipped_byte_of_an_artifact_is_refused() {
    let (memory, instance) = machine();
    let runtime = runtime(&memory, &instance);
    let [first, _] = policies();
    let digest = runtime.apply(request(&first)).unwrap().digest;
    let file = instance.artifacts().join(digest);
    let good = memory.read(&file).unwrap().unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        memory.write(&file, &bad, true).unwrap();
        let error = runtime.kept(1).unwrap_err();
        assert!(matches!(error, Error::DamagedFile { .. }) && error.class() == Class::Node, "{at}");
    }
    memory.write(&file, &good[..good.len() - 1], true).unwrap();
    assert!(runtime.kept(1).is_err());
}

#[test]
fn after_a_boot_the_policy_is_restored() {
    let (memory, mut place) = machine();
    let [first, second] = policies();
    {
        let runtime = runtime(&memory, &place);
        assert_eq!(runtime.restore().unwrap(), None);
        runtime.apply(request(&first)).unwrap();
        runtime.apply(request(&second)).unwrap();
        runtime.pause().unwrap();
    }
    memory.reboot(&[&place.bpffs]);
    place.boot_id = "boot-2".into();
    let runtime = runtime(&memory, &place);
    assert_eq!(runtime.head().unwrap().state, State::None);
    let restored = runtime.restore().unwrap().unwrap();
    assert!(restored.paused && restored.generation == 3);
    assert_eq!(runtime.resume().unwrap().generation, 3);
    assert_eq!(runtime.live().unwrap().unwrap().tables, second);
    assert!(!runtime.restore().unwrap().unwrap().changed);
    // What was resumed is not paused by the next boot.
    memory.reboot(&[&place.bpffs]);
    place.boot_id = "boot-3".into();
    let runtime = self::runtime(&memory, &place);
    let restored = runtime.restore().unwrap().unwrap();
    assert_eq!((restored.paused, runtime.head().unwrap().state), (false, State::Active));
}

#[test]
fn what_nobody_confirms_is_taken_back() {
    let (memory, instance) = machine();
    let runtime = runtime(&memory, &instance);
    let [first, second] = policies();
    let waiting = |tables| Apply { confirm_within: Some(1000), ..request(tables) };
    assert!(matches!(runtime.confirm(), Err(Error::NothingWaits)));
    runtime.apply(waiting(&first)).unwrap();
    assert_eq!(runtime.confirm().unwrap(), 1);
    assert_eq!(runtime.expire().unwrap(), Expiry::Settled);
    runtime.apply(waiting(&second)).unwrap();
    assert_eq!(runtime.expire().unwrap(), Expiry::Waits(1000));
    memory.sleep(999);
    assert_eq!(runtime.expire().unwrap(), Expiry::Waits(1));
    memory.sleep(1);
    assert_eq!(runtime.expire().unwrap(), Expiry::TakenBack(3));
    assert_eq!(runtime.live().unwrap().unwrap().tables, first);
    assert_eq!(runtime.expire().unwrap(), Expiry::Settled);
    runtime.detach_all(true).unwrap();
    runtime.apply(waiting(&first)).unwrap();
    memory.sleep(1000);
    assert_eq!(runtime.expire().unwrap(), Expiry::TakenBack(0));
    assert_eq!(runtime.head().unwrap().state, State::None);
}

#[test]
fn an_unconfirmed_policy_does_not_survive_a_boot() {
    let (memory, mut place) = machine();
    let [first, second] = policies();
    {
        let runtime = runtime(&memory, &place);
        runtime.apply(request(&first)).unwrap();
        runtime.apply(Apply { confirm_within: Some(60_000), ..request(&second) }).unwrap();
    }
    memory.reboot(&[&place.bpffs]);
    place.boot_id = "boot-2".into();
    let runtime = runtime(&memory, &place);
    runtime.restore().unwrap().unwrap();
    assert_eq!(runtime.live().unwrap().unwrap().tables, first);
}

#[test]
fn programs_of_another_build_are_replaced_in_their_links() {
    let (memory, instance) = machine();
    let runtime = runtime(&memory, &instance);
    let [first, second] = policies();
    runtime.apply(request(&first)).unwrap();
    assert_eq!(runtime.apply(request(&first)).unwrap().upgraded, 0);
    let netns = Path::new("/var/netns").into();
    runtime.attach(&Pod { netns, name: "pod".into(), ..Pod::default() }).unwrap();
    // Those of the instance, the one that decides inbound traffic, and the pod's own.
    let of_all = |def: &&ProgramDef| def.policies == Policies::All;
    let programs = PROGRAMS.iter().filter(of_all).count() + 2;
    memory.upgrade();
    assert_eq!(runtime.apply(request(&first)).unwrap().upgraded, programs);
    assert_eq!(runtime.apply(request(&first)).unwrap().upgraded, 0);
    memory.upgrade();
    assert_eq!(runtime.apply(request(&second)).unwrap().upgraded, programs);
}

#[test]
fn a_lost_link_is_drift_and_is_repaired() {
    let (memory, instance) = machine();
    let runtime = runtime(&memory, &instance);
    let [first, _] = policies();
    runtime.apply(request(&first)).unwrap();
    memory.remove(&instance.links().join("mesh_connect4")).unwrap();
    assert_eq!(runtime.status().unwrap().drift, [Drift::ProgramMissing("mesh_connect4")]);
    assert_eq!(runtime.apply(request(&first)).unwrap().warnings.len(), 1);
    let repaired = runtime.apply(Apply { repair: true, ..request(&first) }).unwrap();
    assert!(repaired.changed && repaired.warnings.is_empty());
    assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
}

#[test]
fn tables_and_members_changed_behind_our_back_are_found_and_repaired() {
    let (memory, instance) = machine();
    let runtime = runtime(&memory, &instance);
    let [first, other_policy] = policies();
    runtime.apply(request(&first)).unwrap();
    let open = |name: &str| memory.open_map(&instance.maps().join(name)).unwrap().unwrap();
    let repair = || runtime.apply(Apply { repair: true, ..request(&first) }).unwrap();
    for table in Table::ALL {
        let live = runtime.head().unwrap().generation;
        let other = memory.create_map(&map::INNER, 64, None).unwrap();
        memory.put_maps(&open("tables"), &[(table.index(map::slot(live)), &other)]).unwrap();
        match table {
            Table::Manifest => {
                assert!(matches!(runtime.live(), Err(Error::OtherAbi { found: 0 })));
                assert_eq!(runtime.status().unwrap().drift.len(), 1);
            }
            _ => {
                assert_eq!(runtime.status().unwrap().drift, [Drift::TableChanged(table)]);
            }
        }
        // What cannot be read is not replaced but by a repair.
        if matches!(table, Table::Manifest | Table::Names) {
            for tables in [&first, &other_policy] {
                let error = runtime.apply(request(tables)).unwrap_err();
                match table {
                    Table::Manifest => assert!(matches!(error, Error::OtherAbi { found: 0 }), "{error}"),
                    _ => assert!(matches!(error, Error::NotAsApplied("names")), "{error}"),
                }
            }
            let head = runtime.head().unwrap();
            assert_eq!((head.generation, head.claim, head.state), (live, 0, State::Active));
        }
        // The switches work on whatever there is.
        assert!(runtime.pause().unwrap().changed && runtime.resume().unwrap().changed);
        assert_eq!(repair().generation, live + 1);
        assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
        assert_eq!(runtime.live().unwrap().unwrap().tables, first);
    }
    let member = memory.entries(&open("cgroups")).unwrap()[0].clone();
    memory.delete(&open("cgroups"), &member.0).unwrap();
    memory.update(&open("cgroups"), &7u64.to_ne_bytes(), &member.1).unwrap();
    let drift = runtime.status().unwrap().drift;
    assert_eq!(drift, [Drift::MemberMissing("one".into()), Drift::MemberUnregistered(Key::Cgroup(7)),]);
    repair();
    assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
}

#[test]
fn a_refused_first_apply_leaves_nothing() {
    let (memory, instance) = machine();
    let runtime = runtime(&memory, &instance);
    let [first, _] = policies();
    runtime.apply(Apply { expected: Some(4), ..request(&first) }).unwrap_err();
    assert!(!memory.exists(&instance.pins()) && !memory.exists(&instance.state));
}

#[test]
fn another_writer_is_named() {
    let (memory, instance) = machine();
    let runtime = runtime(&memory, &instance);
    let [first, second] = policies();
    runtime.apply(request(&first)).unwrap();
    let held = memory.lock(&instance.pins()).unwrap();
    memory.sleep(3000);
    let error = runtime.apply(request(&second)).unwrap_err();
    assert_eq!(error.class(), Class::Busy);
    assert_eq!(
        error.to_string(),
        "another command holds the instance's lock: `apply x.mesh`, process 1, for 3 s"
    );
    drop(held);
    runtime.apply(request(&second)).unwrap();
}

#[test]
fn two_meshes_do_not_decide_for_the_same_processes() {
    let (memory, instance) = machine();
    let [first, _] = policies();
    runtime(&memory, &instance).apply(request(&first)).unwrap();
    let second = Instance { name: "second".into(), state: "/var/second".into(), ..instance };
    let error = runtime(&memory, &second).apply(request(&first)).unwrap_err();
    assert!(matches!(error, Error::AnotherMesh { .. }), "{error}");
    assert_eq!(runtime(&memory, &second).head().unwrap().state, State::None);
}

/// The number after the largest is 0, by which nothing is decided at all.
#[test]
fn a_record_of_a_generation_that_cannot_be_makes_no_policy_go_live_as_none() {
    let (memory, instance) = machine();
    let runtime = runtime(&memory, &instance);
    let [first, second] = policies();
    runtime.apply(request(&first)).unwrap();
    let record = memory.read(&instance.history().join("1")).unwrap().unwrap();
    let record = String::from_utf8(record).unwrap();
    for number in [u64::MAX, u64::MAX - 1, u64::MAX / 2 + 1] {
        let forged = record.replace("\"generation\": 1,", &format!("\"generation\": {number},"));
        assert_ne!(forged, record);
        memory.write(&instance.history().join(number.to_string()), forged.as_bytes(), false).unwrap();
    }
    let applied = runtime.apply(request(&second)).unwrap();
    assert_eq!(applied.generation, 2);
    assert_eq!(runtime.head().unwrap().state, State::Active);
    assert_eq!(runtime.live().unwrap().unwrap().tables, second);
}

#[test]
fn an_agents_policy_is_not_overridden_by_accident() {
    let (memory, instance) = machine();
    let runtime = runtime(&memory, &instance);
    let [first, second] = policies();
    runtime.apply(Apply { owner: Owner::Agent, ..request(&first) }).unwrap();
    assert!(matches!(runtime.apply(request(&second)), Err(Error::Owned(Owner::Agent))));
    let applied = runtime.apply(Apply { override_owner: true, ..request(&second) }).unwrap();
    assert!(applied.changed);
    assert_eq!(runtime.head().unwrap().owner, Owner::Cli);
}

/// The lines that are kept of what is live.
fn live_lines(runtime: &Runtime<Memory>) -> Option<Vec<u8>> {
    runtime.lines(&runtime.head().unwrap().digest).unwrap()
}

#[test]
fn lines_are_those_of_the_policy_that_is_live() {
    let (memory, mut place) = machine();
    let [first, second] = policies();
    let applied = |tables, lines| Apply { lines, ..request(tables) };
    let [one, two, moved] = [b"one", b"two", b"new"].map(|lines: &[u8; 3]| lines.as_slice());
    let lines_of = |instance: &Instance| live_lines(&runtime(&memory, instance));
    {
        let runtime = runtime(&memory, &place);
        runtime.apply(applied(&first, Some(one))).unwrap();
        runtime.apply(applied(&second, None)).unwrap();
        assert_eq!(lines_of(&place), None, "nobody said");
        runtime.apply(applied(&second, Some(two))).unwrap();
        assert_eq!(lines_of(&place).as_deref(), Some(two));
        runtime.rollback(None, Owner::Cli, false).unwrap();
        assert_eq!(lines_of(&place).as_deref(), Some(one));
        runtime.apply(Apply { confirm_within: Some(1000), ..applied(&second, Some(two)) }).unwrap();
        assert_eq!(lines_of(&place).as_deref(), Some(two));
        memory.sleep(1000);
        assert!(matches!(runtime.expire().unwrap(), Expiry::TakenBack(_)));
        assert_eq!(lines_of(&place).as_deref(), Some(one), "taken back");
        // The same policy, from another file, and then without one.
        assert!(!runtime.apply(applied(&first, Some(moved))).unwrap().changed);
        assert!(!runtime.apply(applied(&first, None)).unwrap().changed);
        assert_eq!(lines_of(&place).as_deref(), Some(moved));
        // What is refused leaves all as it was.
        let refused = Apply { expected: Some(1), ..applied(&first, Some(one)) };
        assert!(matches!(runtime.apply(refused), Err(Error::Stale { .. })));
        assert_eq!(lines_of(&place).as_deref(), Some(moved));
    }
    memory.reboot(&[&place.bpffs]);
    place.boot_id = "boot-2".into();
    runtime(&memory, &place).restore().unwrap();
    assert_eq!(lines_of(&place).as_deref(), Some(moved), "restored");
    runtime(&memory, &place).detach_all(true).unwrap();
    assert!(memory.inode(&place.state).unwrap().is_none());
}

#[test]
fn history_is_bounded_and_so_are_artifacts() {
    let (memory, instance) = machine();
    let runtime = runtime(&memory, &instance);
    for port in 100..130 {
        let tables = Policy::new().deny(port).tables();
        runtime.apply(Apply { lines: Some(b"lines"), ..request(&tables) }).unwrap();
    }
    let history = runtime.history().unwrap();
    assert_eq!(history.len(), 20);
    assert!(history.iter().all(|kept| kept.is_kept) && history.last().unwrap().is_live);
    let kept = memory.list(&instance.artifacts()).unwrap().unwrap();
    let (lines, artifacts): (Vec<_>, Vec<_>) = kept.iter().partition(|name| name.ends_with(".lines"));
    assert_eq!([lines.len(), artifacts.len()], [20, 20]);
    assert!(matches!(runtime.rollback(Some(1), Owner::Cli, false), Err(Error::NotKept(1))));
}

#[test]
fn a_commands_cgroup_stays_as_long_as_anything_lives_in_it() {
    let (memory, instance) = machine();
    let runtime = runtime(&memory, &instance);
    let [first, _] = policies();
    runtime.apply(request(&first)).unwrap();
    let joined = runtime.join("shop/cart").unwrap();
    let processes = joined.cgroup.join("cgroup.procs");
    memory.write(&processes, b"7\n", false).unwrap();
    memory.next_process();
    runtime.join("shop/cart").unwrap();
    assert!(memory.exists(&joined.cgroup));
    assert!(runtime.leave(&joined).is_err(), "it is busy");
    memory.write(&processes, b"", false).unwrap();
    runtime.join("shop/cart").unwrap();
    assert!(!memory.exists(&joined.cgroup));
}

#[test]
fn programs_whose_pins_are_covered_are_found_and_detached_with_those_of_pods() {
    let (memory, instance) = machine();
    let runtime = runtime(&memory, &instance);
    let tables = Policy::new().inbound().redirect(80, 15003).label("app", "cart").tables();
    runtime.apply(request(&tables)).unwrap();
    let labels = [("app".into(), "cart".into())].into();
    runtime
        .attach(&Pod { netns: "/var/netns".into(), name: "pod".into(), labels, ..Pod::default() })
        .unwrap();
    let attached = || {
        let links = memory.all_links().unwrap();
        links.iter().filter(|link| memory.link_info(link).unwrap().target != Target::Gone).count()
    };
    assert!(attached() > 0);
    memory.rename(&instance.pins(), Path::new("/bpf/elsewhere"), false).unwrap();
    runtime.detach_all(false).unwrap();
    assert_eq!(attached(), 0);
}
