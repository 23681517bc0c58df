//! Quotas of connections that are being opened: what a count that is wrong is put right to, and when one is full.

use mesh_bpf::abi::{self, ExemptFlow, Flow, Quota, QuotaKey};
use mesh_bpf::map::{EXEMPT_FLOWS, HANDOVER, MapDef, QUOTAS};
use mesh_runtime::system::Maps;
use mesh_runtime::system::memory::{Memory, MemoryMap};
use mesh_runtime::{Drift, Full, Instance, Options, Runtime};

use crate::common::{Policy, request};
use crate::steps::machine;

/// The first member, which is the cgroup `one`.
const MEMBER: u32 = 1;
const REDIRECTED: u32 = abi::QUOTA_OF_HANDOVER;
const EXEMPT: u32 = abi::QUOTA_OF_EXEMPT;
/// A quota that counts by as much more than is there is left alone.
const TOLERATED: u32 = abi::QUOTA_CONNECTIONS / 8;
const TOLERATED_BY_USER: u32 = abi::QUOTA_CONNECTIONS_USER / 8;

struct Node {
    memory: Memory,
    instance: Instance,
    runtime: Runtime<Memory>,
}

impl Node {
    fn new() -> Self {
        let (memory, instance) = machine();
        let options = Options { lock_timeout: 50, command: "test".into() };
        let runtime = Runtime::on(memory.clone(), instance.clone(), options).unwrap();
        runtime.apply(request(&Policy::new().cgroup("/ground/one").redirect(80, 15001).tables())).unwrap();
        Self { memory, instance, runtime }
    }

    fn map(&self, def: &MapDef) -> MemoryMap {
        self.memory.open_map(&self.instance.maps().join(def.name)).unwrap().unwrap()
    }

    fn count(&self, key: QuotaKey, taken: u32) {
        let quota = Quota { taken, reserve: 0 };
        self.memory.update(&self.map(&QUOTAS), bytemuck::bytes_of(&key), bytemuck::bytes_of(&quota)).unwrap();
    }

    /// What a quota counts; `None` where there is none.
    fn counted(&self, key: QuotaKey) -> Option<u32> {
        let found = self.memory.lookup(&self.map(&QUOTAS), bytemuck::bytes_of(&key)).unwrap()?;
        Some(bytemuck::pod_read_unaligned::<Quota>(&found).taken)
    }

    /// Any command looks for counts that are wrong.
    fn command(&self) {
        self.runtime.pause().unwrap();
        self.runtime.resume().unwrap();
    }

    /// So many connections on their way to a sidecar.
    fn redirected(&self, from: u32, how_many: u32, flow: Flow) {
        let map = self.map(&HANDOVER);
        for number in from..from + how_many {
            let mut key = vec![0; HANDOVER.key as usize];
            key[..4].copy_from_slice(&number.to_ne_bytes());
            self.memory.update(&map, &key, bytemuck::bytes_of(&flow)).unwrap();
        }
    }

    /// So many of exempt identities.
    fn exempt(&self, from: u32, how_many: u32, flow: ExemptFlow) {
        let map = self.map(&EXEMPT_FLOWS);
        for number in from..from + how_many {
            let mut key = vec![0; EXEMPT_FLOWS.key as usize];
            key[..4].copy_from_slice(&number.to_ne_bytes());
            self.memory.update(&map, &key, bytemuck::bytes_of(&flow)).unwrap();
        }
    }
}

const fn of(member: u32, kind: u32) -> QuotaKey {
    QuotaKey { of: member as u64, who: 0, kind }
}

const fn by(user: u32, kind: u32) -> QuotaKey {
    QuotaKey { of: MEMBER as u64, who: user, kind: kind | abi::QUOTA_BY_USER }
}

#[test]
fn what_a_quota_counts_and_is_not_there_is_given_back() {
    let node = Node::new();
    let flow = Flow { member: MEMBER, uid: 7, ..Flow::default() };
    node.redirected(0, 3, flow);
    node.redirected(3, 2, Flow { flags: abi::FLOW_BY_USER, ..flow });
    node.redirected(5, 4, Flow { member: 2, ..flow });
    let exempt = ExemptFlow { member: MEMBER, user: u32::MAX, ..ExemptFlow::default() };
    node.exempt(0, 1, exempt);
    node.exempt(1, 6, ExemptFlow { user: 9, ..exempt });
    for kind in [REDIRECTED, EXEMPT] {
        node.count(of(MEMBER, kind), 30_000);
        node.count(by(7, kind), 3_000);
        node.count(by(9, kind), 3_000);
    }
    node.command();
    let counted = |kind| [of(MEMBER, kind), by(7, kind), by(9, kind)].map(|key| node.counted(key));
    assert_eq!(counted(REDIRECTED), [Some(5), Some(2), Some(0)]);
    assert_eq!(counted(EXEMPT), [Some(7), Some(0), Some(6)]);
}

#[test]
fn a_quota_that_counts_a_little_more_than_is_there_is_left_alone() {
    let node = Node::new();
    let flow = Flow { member: MEMBER, uid: 7, flags: abi::FLOW_BY_USER, ..Flow::default() };
    node.redirected(0, 1, flow);
    for (most, key) in [(TOLERATED, of(MEMBER, REDIRECTED)), (TOLERATED_BY_USER, by(7, REDIRECTED))] {
        for taken in [0, 2, most, most + 1] {
            node.count(key, taken);
            node.command();
            assert_eq!(node.counted(key), Some(taken));
        }
        node.count(key, most + 2);
        node.command();
        assert_eq!(node.counted(key), Some(1));
    }
    // Nor is one that counts less than nothing: what was noted before it began is given back, too.
    let less = (-5_i32).cast_unsigned();
    node.count(of(MEMBER, EXEMPT), less);
    node.command();
    assert_eq!(node.counted(of(MEMBER, EXEMPT)), Some(less));
}

#[test]
fn quotas_go_with_their_member_and_those_of_sockets_are_not_touched() {
    let node = Node::new();
    let gone = 99;
    let of_sockets = [abi::QUOTA_OF_LISTENERS, abi::QUOTA_OF_PLACES].map(|kind| of(gone, kind));
    for key in of_sockets.into_iter().chain([of(gone, REDIRECTED), of(gone, EXEMPT), of(MEMBER, EXEMPT)]) {
        node.count(key, 20_000);
    }
    node.command();
    assert_eq!(of_sockets.map(|key| node.counted(key)), [Some(20_000); 2]);
    assert_eq!([REDIRECTED, EXEMPT].map(|kind| node.counted(of(gone, kind))), [None; 2]);
    assert_eq!(node.counted(of(MEMBER, EXEMPT)), Some(0));
}

#[test]
fn a_full_quota_is_drift_of_its_member() {
    let node = Node::new();
    let drift = || node.runtime.status().unwrap().drift;
    let full = |user, connections: u32| Full { member: "one".into(), user, connections: connections.into() };
    let (most, most_by_user) = (abi::QUOTA_CONNECTIONS, abi::QUOTA_CONNECTIONS_USER);
    node.count(of(MEMBER, REDIRECTED), most - 1);
    node.count(by(7, EXEMPT), most_by_user - 1);
    node.count(of(99, REDIRECTED), most);
    node.count(of(MEMBER, abi::QUOTA_OF_LISTENERS), most);
    assert_eq!(drift(), Vec::<Drift>::new());
    node.count(of(MEMBER, REDIRECTED), most);
    node.count(by(7, EXEMPT), most_by_user + 1);
    let found = [Drift::RedirectedFull(full(None, most)), Drift::ExemptFull(full(Some(7), most_by_user + 1))];
    assert_eq!(drift(), found);
}
