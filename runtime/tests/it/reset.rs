//! Which established connections a policy closes that decides otherwise.

use std::path::Path;

use mesh_bpf::abi::{FLOW_EXEMPT, Flow};
use mesh_runtime::memory::Memory;
use mesh_runtime::store::Store;
use mesh_runtime::{Apply, Error, Options, Runtime};

use crate::common::{Policy, request};
use crate::steps::machine;

/// A connection of the first member to 10.0.0.1.
fn connection(cookie: u64, port: u16, sidecar_port: u16) -> Flow {
    let address = [10, 0, 0, 1];
    Flow {
        original: [0, 0, 0xffff_u32.to_be(), u32::from_ne_bytes(address)],
        original_port: port,
        sidecar_port,
        member: 1,
        cookie,
        ..Flow::default()
    }
}

#[test]
fn what_is_decided_as_before_stays_open() {
    let (memory, instance) = machine();
    let side = Path::new("/cgroup/ground/one/side/deep");
    memory.make_cgroup(side.parent().unwrap());
    memory.make_cgroup(side);
    let options = Options { lock_timeout: 50, command: "test".into() };
    let runtime = Runtime::on(memory.clone(), instance, options).unwrap();
    let policy = || Policy::new().cgroup("/ground/one").redirect(80, 15001);
    runtime.apply(request(&policy().tables())).unwrap();
    let id = |memory: &Memory, path| memory.inode(path).unwrap().unwrap();
    let (same, denied, now_exempt, other_sidecar) = (1, 2, 3, 4);
    memory.connect(connection(same, 80, 15001));
    memory.connect(connection(denied, 81, 0));
    memory.connect(Flow { cgroup: id(&memory, side), ..connection(now_exempt, 80, 15001) });
    memory.connect(connection(other_sidecar, 82, 15009));
    let (straight, was_exempt, of_nobody, datagram) = (11, 12, 13, 14);
    memory.connect(connection(straight, 83, 0));
    memory.connect(Flow { flags: FLOW_EXEMPT, ..connection(was_exempt, 81, 0) });
    memory.connect(Flow { member: 99, ..connection(of_nobody, 81, 0) });
    memory.connect(Flow { protocol: 1, ..connection(datagram, 81, 0) });
    let new = policy().deny(81).redirect(82, 15002).exempt("/ground/one/side").tables();
    let applied = runtime.apply(Apply { reset_changed: true, ..request(&new) }).unwrap();
    assert_eq!((applied.closed, applied.warnings), (Some(3), Vec::new()));
    assert_eq!(memory.open_connections(), [same, straight, was_exempt, of_nobody, datagram]);
}

#[test]
fn a_paused_policy_closes_nothing() {
    let (memory, instance) = machine();
    let options = Options { lock_timeout: 50, command: "test".into() };
    let runtime = Runtime::on(memory.clone(), instance, options).unwrap();
    let policy = || Policy::new().cgroup("/ground/one");
    runtime.apply(request(&policy().redirect(80, 15001).tables())).unwrap();
    memory.connect(connection(1, 80, 15001));
    runtime.pause().unwrap();
    let new = policy().deny(80).tables();
    let applied = runtime.apply(Apply { reset_changed: true, ..request(&new) }).unwrap();
    assert!(applied.paused && memory.open_connections() == [1]);
}

#[test]
fn a_kernel_that_cannot_close_is_told_before_anything_is_written() {
    let (memory, instance) = machine();
    let options = Options { lock_timeout: 50, command: "test".into() };
    let runtime = Runtime::on(memory.clone(), instance, options).unwrap();
    memory.keep_connections();
    let tables = Policy::new().redirect(80, 15001).tables();
    let error = runtime.apply(Apply { reset_changed: true, ..request(&tables) }).unwrap_err();
    assert!(matches!(error, Error::CannotClose), "{error}");
    assert_eq!(memory.objects(), Vec::<String>::new());
}
