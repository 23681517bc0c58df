//! What a generation leaves when it is live: its number, its records, and what was there for the one before it.

use std::path::Path;

use mesh_bpf::map::{CONTROL, INBOUND_PROGRAM};
use mesh_bpf::program::Inbound;
use mesh_bpf::tables::Tables;
use mesh_runtime::system::faults::{Faulty, Injected};
use mesh_runtime::system::memory::Memory;
use mesh_runtime::system::{Clock, Files, Links, Maps, Netns, System, Target};
use mesh_runtime::{
    Apply, Drift, Error, Instance, Options, Owner, Placement, Pod, Record, Runtime, State, Warning,
};

use crate::common::{Policy, request};
use crate::steps::machine;

const NETNS: &str = "/var/netns";

fn runtime<S: System>(system: S, instance: &Instance) -> Runtime<S> {
    let options = Options { lock_timeout: 50, command: "test".into() };
    Runtime::on(system, instance.clone(), options).unwrap()
}

fn policy(port: u16) -> Tables {
    Policy::new().cgroup("/ground/one").label("app", "cart").redirect(port, 15001).tables()
}

fn pod() -> Pod {
    let labels = [("app".into(), "cart".into())].into();
    Pod { netns: NETNS.into(), name: "cart-1".into(), labels, ..Pod::default() }
}

/// What the pods' programs are attached to.
fn pod_programs(memory: &Memory) -> Vec<Target> {
    let links = memory.all_links().unwrap();
    let targets = links.iter().map(|link| memory.link_info(link).unwrap().target);
    targets.filter(|target| matches!(target, Target::Netns(_) | Target::Interface(_))).collect()
}

/// The step of an apply of a policy, on what is there, that begins so.
fn step(memory: &Memory, instance: &Instance, tables: &Tables, beginning: &str) -> usize {
    let counted = runtime(Faulty::new(memory.clone(), Injected::Never), instance);
    counted.apply(request(tables)).unwrap();
    let steps = counted.system().steps();
    steps.iter().position(|step| step.starts_with(beginning)).unwrap_or_else(|| panic!("{steps:?}"))
}

#[test]
fn the_same_policy_again_is_told_as_it_was_also_while_it_is_paused() {
    let (memory, instance) = machine();
    let runtime = runtime(memory, &instance);
    let tables = Policy::new().cgroup("/ground/not-there").redirect(80, 15001).tables();
    let told = || {
        let applied = runtime.apply(request(&tables)).unwrap();
        (applied.generation, applied.paused, applied.missing_cgroups)
    };
    let missing = vec!["/ground/not-there".to_owned()];
    assert_eq!(told(), (1, false, missing.clone()));
    assert_eq!(told(), (1, false, missing.clone()));
    runtime.pause().unwrap();
    let (_, paused, still) = told();
    assert_eq!((paused, still), (true, missing));
}

#[test]
fn a_generation_is_never_built_in_the_slot_that_decides() {
    let (memory, instance) = machine();
    let runtime = runtime(memory.clone(), &instance);
    runtime.apply(request(&policy(80))).unwrap();
    // Records of more generations than the kernel knows, as a state directory from elsewhere has them.
    let record = String::from_utf8(memory.read(&instance.history().join("1")).unwrap().unwrap()).unwrap();
    for (last, next) in [(2, 4), (5, 7), (9, 10)] {
        let live = runtime.head().unwrap().generation;
        let forged = record.replace("\"generation\": 1,", &format!("\"generation\": {last},"));
        memory.write(&instance.history().join(last.to_string()), forged.as_bytes(), false).unwrap();
        let tables = policy(80 + next);
        let applied = runtime.apply(request(&tables)).unwrap();
        assert_eq!(applied.generation, u64::from(next), "{live} was live");
        assert_ne!(applied.generation % 2, live % 2);
        assert_eq!(runtime.live().unwrap().unwrap().tables, tables);
        assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
    }
}

#[test]
fn an_apply_leaves_its_records_and_nothing_that_is_pending() {
    let (memory, instance) = machine();
    let runtime = runtime(memory.clone(), &instance);
    // The clock stands still while nobody sleeps.
    memory.sleep(70_000);
    for (number, port) in [(1, 80), (2, 81)] {
        let applied = runtime.apply(request(&policy(port))).unwrap();
        assert_eq!((applied.generation, applied.milliseconds), (number, [0; 3]));
        let read = |file: &Path| memory.read(file).unwrap().unwrap();
        let current: Record = serde_json::from_slice(&read(&instance.current())).unwrap();
        assert_eq!((current.generation, current.digest.as_str()), (number, applied.digest.as_str()));
        assert_eq!(read(&instance.history().join(number.to_string())), read(&instance.current()));
        assert!(!memory.exists(&instance.pending()));
        let control = memory.open_map(&instance.maps().join(CONTROL.name)).unwrap().unwrap();
        let words = memory.load(&memory.words(&control).unwrap());
        assert_eq!((words.generation, words.claim, words.commits), (number, 0, number));
    }
}

#[test]
fn where_the_instance_is_can_be_found_again() {
    let (memory, instance) = machine();
    let runtime = runtime(memory.clone(), &instance);
    let file = instance.state.join("placement");
    let here = Placement {
        bpffs: instance.bpffs.clone(),
        name: instance.name.clone(),
        cgroup: instance.cgroup.clone(),
    };
    let kept = || serde_json::from_slice::<Placement>(&memory.read(&file).unwrap().unwrap()).unwrap();
    runtime.apply(request(&policy(80))).unwrap();
    assert_eq!(kept(), here);
    // What another instance left, or nobody can read.
    for other in
        [serde_json::to_vec(&Placement { name: "other".into(), ..here.clone() }).unwrap(), b"{".to_vec()]
    {
        memory.write(&file, &other, false).unwrap();
        runtime.apply(Apply { repair: true, ..request(&policy(80)) }).unwrap();
        assert_eq!(kept(), here);
    }
}

#[test]
fn a_pending_record_of_what_never_went_live_is_not_taken_for_what_is() {
    let (memory, instance) = machine();
    let [first, second] = [80, 81].map(policy);
    let runtime = runtime(memory.clone(), &instance);
    let commit = {
        let (memory, instance) = machine();
        self::runtime(memory.clone(), &instance).apply(request(&first)).unwrap();
        step(&memory, &instance, &second, "exchange Generation 1 to 2")
    };
    runtime.apply(request(&first)).unwrap();
    let killed = self::runtime(Faulty::new(memory.clone(), Injected::Kill(commit)), &instance);
    killed.apply(request(&second)).unwrap_err();
    memory.next_process();
    assert!(memory.exists(&instance.pending()));
    assert_eq!((runtime.head().unwrap().generation, runtime.head().unwrap().claim), (1, 2));
    memory.remove(&instance.current()).unwrap();
    // Any command recovers.
    runtime.pause().unwrap();
    assert_eq!(runtime.head().unwrap().claim, 0);
    let record = runtime.status().unwrap().record.unwrap();
    assert_eq!((record.generation, record.origin.as_str()), (1, "found in the kernel"));
    assert!(runtime.kept(2).is_err());
    runtime.resume().unwrap();
    assert!(!memory.exists(&instance.pending()));
    assert_eq!(runtime.apply(request(&second)).unwrap().generation, 2);
}

#[test]
fn the_hosts_program_and_the_ports_of_sidecars_are_those_of_the_live_policy() {
    let (memory, instance) = machine();
    let runtime = runtime(memory.clone(), &instance);
    let on_host = || {
        let programs = runtime.status().unwrap().programs;
        programs.iter().any(|program| program.attached_to.as_deref() == Some(Path::new("host")))
    };
    let reserved = || {
        let netns = Path::new(NETNS);
        let cookie = memory.netns_cookie(netns).unwrap();
        memory.netns_setting(netns, cookie, "net/ipv4/ip_local_reserved_ports").unwrap()
    };
    let inbound = Policy::new().cgroup("/ground/one").inbound().redirect(80, 15003).tables();
    let outbound = Policy::new().cgroup("/ground/one").redirect(80, 15001).tables();
    runtime.apply(request(&inbound)).unwrap();
    runtime.attach(&pod()).unwrap();
    assert_eq!((on_host(), reserved().as_str()), (true, "15003\n"));
    runtime.apply(request(&outbound)).unwrap();
    assert_eq!((on_host(), reserved().as_str()), (false, "15001\n"));
    runtime.apply(request(&inbound)).unwrap();
    assert_eq!((on_host(), reserved().as_str()), (true, "15003\n"));
    assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
}

#[test]
fn pods_are_decided_by_another_mode_from_the_apply_that_asks_for_it() {
    let (memory, place) = machine();
    let tables = policy(80);
    let file = |inbound: Inbound| serde_json::to_vec_pretty(inbound.word()).unwrap();
    let by = |inbound| runtime(memory.clone(), &Instance { inbound, ..place.clone() });
    by(Inbound::SkLookup).apply(request(&tables)).unwrap();
    by(Inbound::SkLookup).attach(&pod()).unwrap();
    let is_netns = |found: &[Target]| matches!(found, [Target::Netns(_)]);
    assert!(is_netns(&pod_programs(&memory)));
    for round in [0, 1] {
        // The same policy, and another.
        let tables = policy(80 + round);
        by(Inbound::Tc).apply(request(&tables)).unwrap();
        assert_eq!(pod_programs(&memory), [1, 2].map(Target::Interface));
        assert_eq!(memory.read(&place.inbound_mode_file()).unwrap().unwrap(), file(Inbound::Tc));
        assert_eq!(by(Inbound::Tc).status().unwrap().drift, Vec::<Drift>::new());
        by(Inbound::SkLookup).apply(request(&tables)).unwrap();
        assert!(is_netns(&pod_programs(&memory)));
        assert_eq!(memory.read(&place.inbound_mode_file()).unwrap().unwrap(), file(Inbound::SkLookup));
    }
}

/// The kernel refuses what decides inbound traffic, and no rule asks for it.
#[test]
fn pods_get_their_program_with_the_first_apply_that_can_load_it() {
    for same in [true, false] {
        let (memory, instance) = machine();
        let at = {
            let (memory, instance) = machine();
            step(&memory, &instance, &policy(80), "load_inbound")
        };
        let refusing = Faulty::new(memory.clone(), Injected::Fail(at, libc::EINVAL));
        let applied = runtime(refusing, &instance).apply(request(&policy(80))).unwrap();
        assert!(
            matches!(applied.warnings.as_slice(), [Warning::InboundUndecided { by: Inbound::SkLookup, .. }]),
            "{:?}",
            applied.warnings
        );
        let runtime = runtime(memory.clone(), &instance);
        runtime.attach(&pod()).unwrap();
        assert_eq!((pod_programs(&memory), runtime.status().unwrap().drift), (vec![], vec![]));
        let tables = policy(if same { 80 } else { 81 });
        let applied = runtime.apply(request(&tables)).unwrap();
        assert_eq!((applied.changed, applied.warnings), (!same, vec![]));
        assert_eq!(pod_programs(&memory).len(), 1, "the same: {same}");
        assert!(memory.open_map(&instance.maps().join(INBOUND_PROGRAM.name)).unwrap().is_some());
        assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
    }
}

#[test]
fn a_pod_whose_namespace_is_gone_is_told_of_once() {
    let (memory, instance) = machine();
    let runtime = runtime(memory.clone(), &instance);
    // It came before there was a policy, and has no program.
    runtime.attach(&pod()).unwrap();
    memory.remove(Path::new(NETNS)).unwrap();
    let missing = [Warning::PodNamespaceMissing("cart-1".into())];
    assert_eq!(runtime.apply(request(&policy(80))).unwrap().warnings, missing);
    // What looks at all pods is left to a repair.
    assert_eq!(runtime.apply(request(&policy(80))).unwrap().warnings, []);
    assert_eq!(runtime.apply(request(&policy(81))).unwrap().warnings, []);
    let repaired = runtime.apply(Apply { repair: true, ..request(&policy(81)) }).unwrap();
    assert_eq!(repaired.warnings, missing);
}

#[test]
fn a_refresh_brings_in_line_who_moved_and_changes_no_generation() {
    let (memory, instance) = machine();
    let runtime = runtime(memory.clone(), &instance);
    assert_eq!(runtime.refresh().unwrap(), None);
    let tables = policy(80);
    let applied = runtime.apply(request(&tables)).unwrap();
    runtime.attach(&pod()).unwrap();
    let refreshed = runtime.refresh().unwrap().unwrap();
    let found = |it: &mesh_runtime::Applied| (it.generation, it.changed, it.members_changed);
    assert_eq!((found(&refreshed), &refreshed.digest), ((1, false, 0), &applied.digest));
    memory.add_interface(Path::new(NETNS), 1, &["10.0.0.7".parse().unwrap()]).unwrap();
    assert_eq!(found(&runtime.apply(request(&tables)).unwrap()), (1, false, 0), "an apply does not look");
    assert_eq!(found(&runtime.refresh().unwrap().unwrap()), (1, false, 1));
    assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
    memory.add_interface(Path::new(NETNS), 1, &["10.0.0.8".parse().unwrap()]).unwrap();
    let repaired = runtime.apply(Apply { repair: true, ..request(&tables) }).unwrap();
    assert_eq!(found(&repaired), (2, true, 1));
}

#[test]
fn a_repair_by_another_build_says_how_many_programs_it_replaced() {
    let (memory, instance) = machine();
    let runtime = runtime(memory.clone(), &instance);
    runtime.apply(request(&policy(80))).unwrap();
    memory.upgrade();
    let upgraded = runtime.apply(request(&policy(80))).unwrap().upgraded;
    assert!(upgraded > 0);
    memory.upgrade();
    let repaired = runtime.apply(Apply { repair: true, ..request(&policy(80)) }).unwrap();
    assert_eq!((repaired.changed, repaired.upgraded), (true, upgraded));
    // One that somebody took away does not keep a later build from replacing the others.
    memory.upgrade();
    memory.remove(&instance.links().join("mesh_connect4")).unwrap();
    let applied = runtime.apply(request(&policy(80))).unwrap();
    assert_eq!((applied.upgraded, applied.warnings), (upgraded - 1, vec![]));
    assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
}

#[test]
fn a_table_that_cannot_be_made_for_a_moment_is_made_again() {
    let [first, second] = [80, 81].map(policy);
    for call in ["fill", "freeze"] {
        let at = {
            let (memory, instance) = machine();
            runtime(memory.clone(), &instance).apply(request(&first)).unwrap();
            step(&memory, &instance, &second, call)
        };
        for (errno, goes_on) in [(libc::EBUSY, true), (libc::EIO, false), (libc::ENOMEM, false)] {
            let (memory, instance) = machine();
            let calm = runtime(memory.clone(), &instance);
            calm.apply(request(&first)).unwrap();
            let faulty = runtime(Faulty::new(memory.clone(), Injected::Fail(at, errno)), &instance);
            let applied = faulty.apply(request(&second));
            assert_eq!(applied.is_ok(), goes_on, "{call} {errno}: {applied:?}");
            let tables = calm.live().unwrap().unwrap().tables;
            assert!(tables == if goes_on { second.clone() } else { first.clone() }, "{call} {errno}");
            assert_eq!(calm.status().unwrap().drift, Vec::<Drift>::new());
        }
    }
}

#[test]
fn a_directory_with_other_things_is_not_written_to() {
    let (memory, instance) = machine();
    memory.create_dir(&instance.state).unwrap();
    memory.write(&instance.state.join("notes.txt"), b"mine", false).unwrap();
    let runtime = runtime(memory.clone(), &instance);
    let error = runtime.apply(request(&policy(80))).unwrap_err();
    assert!(matches!(&error, Error::NotAStateDirectory(dir) if *dir == instance.state), "{error}");
    assert_eq!(memory.list(&instance.state).unwrap().unwrap(), ["notes.txt"]);
    assert_eq!(memory.objects(), Vec::<String>::new());
}

#[test]
fn an_agent_that_goes_on_keeps_its_lock_and_its_socket() {
    let (memory, instance) = machine();
    let runtime = runtime(memory.clone(), &instance);
    runtime.apply(request(&policy(80))).unwrap();
    let lock = instance.socket().with_extension("lock");
    for file in [&lock, &instance.socket()] {
        memory.write(file, b"", false).unwrap();
    }
    let held = Files::lock(&memory, &lock).unwrap();
    assert!(runtime.detach_all(true).unwrap().changed);
    let mut left = memory.list(&instance.state).unwrap().unwrap();
    left.sort();
    assert_eq!(left, ["agent.lock", "agent.sock"]);
    drop(held);
    runtime.detach_all(true).unwrap();
    assert!(!memory.exists(&instance.state));
}

#[test]
fn an_agent_does_not_override_a_policy_by_accident_either() {
    let (memory, instance) = machine();
    let runtime = runtime(memory.clone(), &instance);
    let [first, second] = [80, 81].map(policy);
    runtime.apply(request(&first)).unwrap();
    let by_agent = |tables, override_owner| Apply { owner: Owner::Agent, override_owner, ..request(tables) };
    assert!(matches!(runtime.apply(by_agent(&second, false)), Err(Error::Owned(Owner::Cli))));
    assert_eq!(runtime.live().unwrap().unwrap().tables, first);
    runtime.apply(by_agent(&second, true)).unwrap();
    assert_eq!((runtime.head().unwrap().owner, runtime.head().unwrap().state), (Owner::Agent, State::Active));
    runtime.apply(by_agent(&first, false)).unwrap();
}

/// Of the two words only one is another number than 0, but while a command changes over from the one to the other.
#[test]
fn what_a_resume_was_killed_in_the_middle_of_is_finished_by_the_next_command() {
    let (memory, instance) = machine();
    let paused = |memory: &Memory| {
        let control = memory.open_map(&instance.maps().join(CONTROL.name)).unwrap().unwrap();
        let words = memory.words(&control).unwrap();
        let control = memory.load(&words);
        (control.generation, control.paused)
    };
    let mut between = 0;
    for at in 0.. {
        let memory = if at == 0 { memory.clone() } else { machine().0 };
        let calm = runtime(memory.clone(), &instance);
        calm.apply(request(&policy(80))).unwrap();
        calm.pause().unwrap();
        if runtime(Faulty::new(memory.clone(), Injected::Kill(at)), &instance).resume().is_ok() {
            break;
        }
        memory.next_process();
        let was = paused(&memory);
        calm.apply(request(&policy(80))).unwrap();
        let expected = if was.0 == 0 { (0, 1) } else { (1, 0) };
        assert_eq!(paused(&memory), expected, "killed at step {at}: {was:?}");
        between += usize::from(was.0 > 0 && was.1 > 0);
    }
    assert!(between > 0);
}
