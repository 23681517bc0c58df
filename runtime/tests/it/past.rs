//! What members that are none any more had counted.

use mesh_bpf::abi::{MemberCounts, VERDICT_DENIED};
use mesh_bpf::map::MEMBER_COUNTS;
use mesh_runtime::system::Maps;
use mesh_runtime::system::faults::{Faulty, Injected};
use mesh_runtime::system::memory::Memory;
use mesh_runtime::{Options, Pod, Runtime};

use crate::common::{Policy, request};
use crate::steps::machine;

/// Steps that put another version of the file in place.
fn writes(runtime: &Runtime<Faulty<Memory>>) -> Vec<String> {
    runtime.system().steps().into_iter().filter(|step| step == "rename past-decisions").collect()
}

#[test]
fn it_is_kept_once_however_many_leave() {
    let (system, instance) = machine();
    let runtime = Runtime::on(system.clone(), instance.clone(), Options::default()).unwrap();
    let by_label = Policy::new().redirect(80, 15001).tiers(&["web"]);
    // A workload of the same name that they are no members of.
    let by_namespace = Policy::new().redirect(80, 15001).meshes(&["web"]);
    runtime.apply(request(&by_label.tables())).unwrap();
    let dir = instance.state.parent().unwrap();
    for number in 0..5 {
        let netns = dir.join(format!("netns-{number}"));
        system.make_netns(&netns, &[1]);
        let labels = [("tier".into(), "web".into())].into();
        runtime.attach(&Pod { netns, name: format!("pod-{number}"), labels, ..Pod::default() }).unwrap();
    }
    // As the programs count: each of them was denied something.
    let map = system.open_map(&instance.maps().join(MEMBER_COUNTS.name)).unwrap().unwrap();
    for (key, value) in system.entries(&map).unwrap() {
        let mut counts: MemberCounts = bytemuck::pod_read_unaligned(&value[..size_of::<MemberCounts>()]);
        counts.decided[usize::from(VERDICT_DENIED)] = 7;
        system.update(&map, &key, bytemuck::bytes_of(&counts)).unwrap();
    }
    let denied = || {
        let status = runtime.status().unwrap();
        let workload = status.workloads.iter().find(|workload| workload.name.ends_with("web"));
        workload.and_then(|workload| workload.decisions).map(|decisions| decisions.denied)
    };
    assert_eq!(denied(), Some(35));
    // As long as what was live before may still decide, it counts too.
    runtime.apply(request(&by_namespace.tables())).unwrap();
    let counted = Faulty::new(system, Injected::Never);
    let counted = Runtime::on(counted, instance, Options::default()).unwrap();
    counted.apply(request(&by_namespace.deny(25).tables())).unwrap();
    assert_eq!(writes(&counted).len(), 1, "{:#?}", counted.system().steps());
    assert_eq!(denied(), Some(35));
}
