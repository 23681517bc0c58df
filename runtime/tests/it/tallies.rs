//! What nodes of a policy's tables counted: no part of the policy, and not lost with the table that it is in.

use std::mem::offset_of;

use mesh_bpf::abi;
use mesh_bpf::map::{self, HITS, TABLES_MAP, Table};
use mesh_bpf::tables::Tables;
use mesh_runtime::system::Maps;
use mesh_runtime::system::memory::Memory;
use mesh_runtime::{Drift, Instance, Options, Runtime};

use crate::common::{Policy, request};
use crate::steps::machine;

const NODE: usize = size_of::<abi::Node>();

fn runtime(memory: &Memory, instance: &Instance) -> Runtime<Memory> {
    let options = Options { lock_timeout: 50, command: "test".into() };
    Runtime::on(memory.clone(), instance.clone(), options).unwrap()
}

/// As if programs had counted so often by the last node of what is live; the key of the item that it counts for.
fn count(
    memory: &Memory,
    instance: &Instance,
    runtime: &Runtime<Memory>,
    tables: &Tables,
    times: u32,
) -> u64 {
    let mut nodes = tables.get(Table::Nodes).padded().to_vec();
    let last = tables.get(Table::Nodes).bytes().len() - NODE;
    let node: abi::Node = bytemuck::pod_read_unaligned(&nodes[last..last + NODE]);
    let tally = last + offset_of!(abi::Node, tally);
    nodes[tally..tally + 4].copy_from_slice(&times.to_ne_bytes());
    let slot = map::slot(runtime.head().unwrap().generation);
    let lines = u32::try_from(nodes.len() / abi::LINE).unwrap();
    let counted = memory.create_map(&map::INNER, lines, None).unwrap();
    memory.fill(&counted, &nodes).unwrap();
    let outer = memory.open_map(&instance.maps().join(TABLES_MAP.name)).unwrap().unwrap();
    memory.put_maps(&outer, &[(Table::Nodes.index(slot), &counted)]).unwrap();
    node.decision[0].key
}

#[test]
fn what_nodes_count_is_no_drift_and_is_collected_once_when_their_table_goes() {
    let (memory, instance) = machine();
    let runtime = runtime(&memory, &instance);
    let policy = |prefixes| Policy::new().redirect(80, 15001).prefixes(prefixes);
    let first = policy(5).tables();
    runtime.apply(request(&first)).unwrap();
    let item = count(&memory, &instance, &runtime, &first, 40);
    let hits = || runtime.status().unwrap().hits;
    let collected = || {
        let map = memory.open_map(&instance.maps().join(HITS.name)).unwrap().unwrap();
        memory.hits(&map).unwrap()
    };
    assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
    assert_eq!(runtime.live().unwrap().unwrap().tables, first);
    assert_eq!(
        (hits(), runtime.hits().unwrap(), collected()),
        ([(item, 40)].into(), [(item, 40)].into(), vec![])
    );
    // The same nodes in both slots: the table is taken over, and counts once.
    let applied = runtime.apply(request(&policy(5).cgroup("/ground/two").tables())).unwrap();
    assert!(applied.written.iter().all(|(table, _)| *table != Table::Nodes.word()), "{:?}", applied.written);
    assert_eq!((hits(), collected()), ([(item, 40)].into(), vec![]));
    // In one slot only, then in none.
    runtime.apply(request(&policy(6).tables())).unwrap();
    assert_eq!((hits(), collected()), ([(item, 40)].into(), vec![]));
    runtime.apply(request(&policy(7).tables())).unwrap();
    assert_eq!((hits(), collected()), ([(item, 40)].into(), vec![(item, 40)]));
    runtime.apply(request(&policy(8).tables())).unwrap();
    assert_eq!(hits(), [(item, 40)].into());
}
