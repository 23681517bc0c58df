//! Whether programs keep the last decisions: as it was last said, in whatever generation.

use mesh_bpf::abi;
use mesh_bpf::map::{CONTROL, RECENT};
use mesh_runtime::system::memory::Memory;
use mesh_runtime::system::{Maps, Word};
use mesh_runtime::{Apply, Instance, Options, Runtime};

use crate::common::{Policy, request};
use crate::steps::machine;

fn runtime(memory: &Memory, instance: &Instance) -> Runtime<Memory> {
    let options = Options { lock_timeout: 50, command: "test".into() };
    Runtime::on(memory.clone(), instance.clone(), options).unwrap()
}

/// The bits by which programs know who looks.
fn observe(memory: &Memory, instance: &Instance) -> u64 {
    let control = memory.open_map(&instance.maps().join(CONTROL.name)).unwrap().unwrap();
    memory.load(&memory.words(&control).unwrap()).observe
}

#[test]
fn decisions_are_kept_unless_somebody_says_otherwise_and_that_holds_after_a_boot() {
    let (memory, mut place) = machine();
    let policy = |port| Policy::new().deny(port).tables();
    let keeps = |instance: &Instance| runtime(&memory, instance).status().unwrap().keeps_decisions;
    let apply = |instance: &Instance, port, keep_decisions| {
        let tables = policy(port);
        let applied = runtime(&memory, instance).apply(Apply { keep_decisions, ..request(&tables) }).unwrap();
        assert_eq!(applied.warnings, Vec::new());
        keeps(instance)
    };
    assert!(apply(&place, 80, None));
    // The same policy, and another one.
    assert!(!apply(&place, 80, Some(false)) && !apply(&place, 80, None) && !apply(&place, 81, None));
    assert!(apply(&place, 81, Some(true)) && apply(&place, 82, None));
    assert!(!apply(&place, 83, Some(false)));
    memory.reboot(&[&place.bpffs]);
    place.boot_id = "boot-2".into();
    runtime(&memory, &place).restore().unwrap().unwrap();
    assert!(!keeps(&place));
    runtime(&memory, &place).keep_decisions(true).unwrap();
    assert!(keeps(&place));
    runtime(&memory, &place).detach_all(false).unwrap();
    // Where nothing is live, it is noted for what will be.
    runtime(&memory, &place).keep_decisions(false).unwrap();
    assert!(!apply(&place, 84, None));
}

#[test]
fn what_was_kept_goes_when_nothing_is_kept_any_more_and_who_looks_stays() {
    let (memory, instance) = machine();
    let runtime = runtime(&memory, &instance);
    runtime.apply(request(&Policy::new().deny(80).tables())).unwrap();
    let recent = memory.open_map(&instance.maps().join(RECENT.name)).unwrap().unwrap();
    let bytes = size_of::<abi::Recent>() * abi::RECENT as usize;
    let fill = || memory.fill(&recent, &vec![7; bytes]).unwrap();
    let is_empty = || memory.content(&recent, bytes).unwrap().iter().all(|&byte| byte == 0);
    // Two observers.
    let watches = 0b101;
    let control = memory.open_map(&instance.maps().join(CONTROL.name)).unwrap().unwrap();
    let kept = abi::OBSERVE_RECENT;
    assert!(memory.exchange(&memory.words(&control).unwrap(), Word::Observe, kept, kept | watches).unwrap());
    fill();
    runtime.keep_decisions(true).unwrap();
    assert!(!is_empty() && observe(&memory, &instance) == kept | watches);
    runtime.keep_decisions(false).unwrap();
    assert!(is_empty() && observe(&memory, &instance) == watches);
    fill();
    runtime.keep_decisions(true).unwrap();
    assert!(!is_empty() && observe(&memory, &instance) == kept | watches);
}
