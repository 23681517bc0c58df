//! Programs that accelerate: there as long as the policy accelerates, and of the build that applied last.

use mesh_bpf::accelerator::{ACCELERATORS, Need};
use mesh_bpf::map::ACCELERATED;
use mesh_bpf::program::Hook;
use mesh_bpf::tables::Tables;
use mesh_runtime::system::faults::{Faulty, Injected};
use mesh_runtime::system::memory::Memory;
use mesh_runtime::system::{Acceleration, Files, Links, Maps, Programs, System};
use mesh_runtime::{Applied, Apply, Drift, Instance, Options, Runtime};

use crate::common::{Policy, request};
use crate::steps::machine;

fn runtime<S: System>(system: S, instance: &Instance) -> Runtime<S> {
    let options = Options { lock_timeout: 50, command: "test".into() };
    Runtime::on(system, instance.clone(), options).unwrap()
}

fn policy(port: u16) -> Tables {
    Policy::new().cgroup("/ground/one").redirect(port, 15001).accelerate().tables()
}

/// The tags of the programs that accelerate, in the order of their names.
fn tags(memory: &Memory, instance: &Instance) -> Vec<[u8; 8]> {
    let needed = ACCELERATORS.iter().filter(|def| def.need != Need::IfMiscounted);
    let tag = |def: &mesh_bpf::accelerator::AcceleratorDef| {
        if def.hook == Hook::Message {
            let sockets = memory.open_map(&instance.maps().join(ACCELERATED.name)).unwrap().unwrap();
            return Some(memory.message_program(&sockets).unwrap()?.tag);
        }
        let link = memory.open_link(&instance.accelerators().join(def.name)).unwrap()?;
        let program = memory.link_info(&link).unwrap().program;
        Some(memory.program_by_id(program).unwrap()?.tag)
    };
    needed.filter_map(tag).collect()
}

/// An apply, and whether it loaded the programs.
fn applied(memory: &Memory, instance: &Instance, apply: Apply<'_, Faulty<Memory>>) -> (Applied, bool) {
    let counted = runtime(Faulty::new(memory.clone(), Injected::Never), instance);
    let applied = counted.apply(apply).unwrap();
    let loaded = counted.system().steps().iter().any(|step| step.starts_with("load_accelerators"));
    (applied, loaded)
}

#[test]
fn programs_that_accelerate_are_those_of_the_build_that_applied_last() {
    let (memory, instance) = machine();
    let all = |build: u64| vec![build.to_ne_bytes(); 4];
    let (first, loaded) = applied(&memory, &instance, request(&policy(80)));
    assert_eq!((loaded, first.warnings, tags(&memory, &instance)), (true, vec![], all(0)));
    // The same and another: nothing is loaded again.
    assert!(!applied(&memory, &instance, request(&policy(80))).1);
    assert!(!applied(&memory, &instance, request(&policy(81))).1);
    for build in [1, 3] {
        // With the same policy, and with another.
        memory.upgrade();
        let (same, loaded) = applied(&memory, &instance, request(&policy(81)));
        assert!(same.upgraded > 0 && !same.changed && loaded);
        assert_eq!(tags(&memory, &instance), all(build));
        memory.upgrade();
        let (another, loaded) =
            applied(&memory, &instance, request(&policy(81 + u16::try_from(build).unwrap())));
        assert!(another.upgraded > 0 && another.changed && loaded);
        assert_eq!(tags(&memory, &instance), all(build + 1));
        applied(&memory, &instance, request(&policy(81)));
    }
    // A repair loads them in any case.
    let tables = policy(81);
    let repair = Apply { repair: true, ..request(&tables) };
    let (repaired, loaded) = applied(&memory, &instance, repair);
    assert_eq!((repaired.upgraded, loaded), (0, true));
    let calm = runtime(memory.clone(), &instance);
    assert_eq!(calm.status().unwrap().drift, Vec::<Drift>::new());
    // One that is taken away comes back with the next apply.
    memory.remove(&instance.accelerators().join("mesh_taken")).unwrap();
    assert_eq!(calm.status().unwrap().drift, [Drift::AcceleratorMissing("mesh_taken")]);
    assert!(applied(&memory, &instance, request(&policy(81))).1);
    assert_eq!(calm.status().unwrap().drift, Vec::<Drift>::new());
    // They go with the policy that asks for them.
    calm.apply(request(&Policy::new().deny(80).tables())).unwrap();
    assert_eq!(tags(&memory, &instance), Vec::<[u8; 8]>::new());
    assert!(!memory.exists(&instance.accelerators()));
}
