//! What waits to be confirmed, and what was taken back: neither is lost, whoever is killed and whatever else goes live.

use mesh_bpf::tables::Tables;
use mesh_runtime::system::faults::{Faulty, Injected};
use mesh_runtime::system::memory::Memory;
use mesh_runtime::system::{Clock, Files, System};
use mesh_runtime::{Apply, Error, Expiry, Instance, Options, Owner, Runtime};

use crate::common::{Policy, request};
use crate::steps::machine;

fn runtime<S: System>(system: S, instance: &Instance) -> Runtime<S> {
    let options = Options { lock_timeout: 50, command: "test".into() };
    Runtime::on(system, instance.clone(), options).unwrap()
}

fn policy(port: u16) -> Tables {
    Policy::new().cgroup("/ground/one").redirect(port, 15001).tables()
}

fn waiting<S: System>(tables: &Tables) -> Apply<'_, S> {
    Apply { confirm_within: Some(1000), ..request(tables) }
}

/// Which generations are remembered, and whether each was taken back.
fn history(runtime: &Runtime<Memory>) -> Vec<(u64, bool)> {
    let all = runtime.history().unwrap();
    all.iter().map(|kept| (kept.record.generation, kept.record.taken_back)).collect()
}

#[test]
fn what_was_taken_back_is_nothing_to_roll_back_to() {
    let (memory, instance) = machine();
    let runtime = runtime(memory.clone(), &instance);
    let [first, failed, third] = [80, 81, 82].map(policy);
    runtime.apply(request(&first)).unwrap();
    runtime.apply(waiting(&failed)).unwrap();
    memory.sleep(1000);
    assert_eq!(runtime.expire().unwrap(), Expiry::TakenBack(3));
    assert_eq!(history(&runtime), [(1, false), (2, true), (3, false)]);
    // Before the third was the first, which has the same policy, and one that failed.
    let refused = runtime.rollback(None, Owner::Cli, false);
    assert!(matches!(refused, Err(Error::NothingBefore)), "{refused:?}");
    runtime.apply(request(&third)).unwrap();
    runtime.rollback(None, Owner::Cli, false).unwrap();
    assert_eq!(runtime.live().unwrap().unwrap().tables, first);
    // Whoever asks for it by its number gets it.
    runtime.rollback(Some(2), Owner::Cli, false).unwrap();
    assert_eq!(runtime.live().unwrap().unwrap().tables, failed);
}

#[test]
fn what_is_confirmed_while_it_was_about_to_be_taken_back_stays() {
    let [first, second, third] = [80, 81, 82].map(policy);
    for step in 0.. {
        let (memory, instance) = machine();
        let runtime = runtime(memory.clone(), &instance);
        runtime.apply(request(&first)).unwrap();
        runtime.apply(waiting(&second)).unwrap();
        memory.sleep(1000);
        let killed = self::runtime(Faulty::new(memory.clone(), Injected::Kill(step)), &instance);
        let expired = killed.expire();
        memory.next_process();
        if runtime.head().unwrap().generation != 2 {
            assert!(step > 3, "{step}");
            return;
        }
        expired.unwrap_err();
        assert_eq!(runtime.confirm().unwrap(), 2, "{step}");
        assert_eq!(runtime.expire().unwrap(), Expiry::Settled, "{step}");
        assert_eq!(history(&runtime), [(1, false), (2, false)], "{step}");
        // It is one of those that a rollback finds.
        runtime.apply(request(&third)).unwrap();
        runtime.rollback(None, Owner::Cli, false).unwrap();
        assert_eq!(runtime.live().unwrap().unwrap().tables, second, "{step}");
    }
}

#[test]
fn what_waits_is_told_until_it_is_confirmed_or_another_goes_live() {
    let (memory, place) = machine();
    let runtime_at = |instance: &Instance| runtime(memory.clone(), instance);
    let runtime = runtime_at(&place);
    let [first, second, third] = [80, 81, 82].map(policy);
    let waits = |runtime: &Runtime<Memory>| runtime.pending().unwrap().map(|it| (it.generation, it.back_to));
    runtime.apply(request(&first)).unwrap();
    assert_eq!(waits(&runtime), None);
    runtime.apply(waiting(&second)).unwrap();
    assert_eq!(waits(&runtime), Some((2, 1)));
    runtime.confirm().unwrap();
    assert_eq!(waits(&runtime), None);
    runtime.apply(waiting(&third)).unwrap();
    assert_eq!(waits(&runtime), Some((3, 2)));
    // Another boot does not know of it, nor does a generation that was found in the kernel instead.
    assert_eq!(waits(&runtime_at(&Instance { boot_id: "boot-2".into(), ..place.clone() })), None);
    let file = memory.read(&place.confirm()).unwrap().unwrap();
    runtime.apply(request(&first)).unwrap();
    assert_eq!(waits(&runtime), None);
    assert!(!memory.exists(&place.confirm()), "it is forgotten");
    memory.write(&place.confirm(), &file, true).unwrap();
    assert_eq!(waits(&runtime), None);
    memory.sleep(2000);
    assert_eq!(runtime.expire().unwrap(), Expiry::Settled);
    assert!(matches!(runtime.confirm(), Err(Error::NothingWaits)));
    assert_eq!(runtime.live().unwrap().unwrap().tables, first);
}
