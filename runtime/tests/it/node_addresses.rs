//! The node's own addresses: known where a policy asks for them, and kept in step.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use mesh_bpf::abi::NODE_ADDRESSES;
use mesh_bpf::flow::Verdict;
use mesh_bpf::image::Classes;
use mesh_runtime::Drift;

use crate::common::{Policy, request};
use crate::steps::machine;
use crate::upgrade::on;

/// The network namespace in which commands run.
const HERE: &str = "/proc/thread-self/ns/net";

fn parsed(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn all(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| parsed(text)).collect()
}

fn plain() -> Policy {
    Policy::new().redirect(80, 15001)
}

fn asking() -> Policy {
    plain().classes(Classes { from_node: Some(Verdict::Denied), ..Classes::default() })
}

#[test]
fn they_are_looked_at_where_a_policy_asks_and_then_kept_in_step() {
    let (memory, instance) = machine();
    let runtime = on(memory.clone(), &instance);
    let add = |interface, texts: &[&str]| {
        let addresses: Vec<IpAddr> = texts.iter().map(|text| parsed(text)).collect();
        memory.add_interface(Path::new(HERE), interface, &addresses).unwrap();
    };
    add(2, &["10.0.0.1", "fd00::1", "fe80::1", "169.254.7.7"]);
    runtime.apply(request(&plain().tables())).unwrap();
    assert_eq!((runtime.node_addresses().unwrap(), runtime.follow_node().unwrap()), (all(&[]), None));
    assert_eq!(runtime.status().unwrap().drift, []);
    // What is apart is no rule's about the node.
    runtime.apply(request(&asking().tables())).unwrap();
    assert_eq!(runtime.status().unwrap().head.policy_abi, 5);
    assert_eq!(runtime.node_addresses().unwrap(), all(&["10.0.0.1", "fd00::1", "169.254.7.7"]));
    assert_eq!(runtime.follow_node().unwrap(), Some(false));
    for cure in ["follow", "apply", "repair"] {
        let address = match cure {
            "follow" => "10.0.0.2",
            "apply" => "10.0.0.3",
            _ => "fd00::2",
        };
        add(3, &[address]);
        assert_eq!(runtime.status().unwrap().drift, [Drift::NodeAddressAdded(parsed(address))], "{cure}");
        match cure {
            "follow" => assert_eq!(runtime.follow_node().unwrap(), Some(true)),
            "apply" => drop(runtime.apply(request(&asking().tables())).unwrap()),
            _ => {
                let tables = asking().tables();
                let again = mesh_runtime::Apply { repair: true, ..request(&tables) };
                drop(runtime.apply(again).unwrap());
            }
        }
        assert_eq!(runtime.status().unwrap().drift, [], "{cure}");
        assert!(runtime.node_addresses().unwrap().contains(&parsed(address)), "{cure}");
    }
}

#[test]
fn so_many_are_known_and_more_are_drift() {
    let (memory, instance) = machine();
    let runtime = on(memory.clone(), &instance);
    let many: Vec<IpAddr> = (0..=NODE_ADDRESSES).map(|n| IpAddr::V4((0x0a00_0000 + n).into())).collect();
    memory.add_interface(Path::new(HERE), 2, &many).unwrap();
    runtime.apply(request(&asking().tables())).unwrap();
    assert_eq!(runtime.node_addresses().unwrap().len(), NODE_ADDRESSES as usize);
    assert_eq!(runtime.status().unwrap().drift, [Drift::NodeAddressesMany(NODE_ADDRESSES as usize)]);
}

#[test]
fn an_apply_counts_those_that_are_new_among_what_it_changed() {
    let (memory, instance) = machine();
    let runtime = on(memory.clone(), &instance);
    let add = |text: &str| memory.add_interface(Path::new(HERE), 2, &[parsed(text)]).unwrap();
    let applied = |policy: Policy| {
        let applied = runtime.apply(request(&policy.tables())).unwrap();
        (applied.changed, applied.members_changed)
    };
    applied(asking());
    assert_eq!(applied(asking()), (false, 0));
    add("10.0.0.1");
    assert_eq!(applied(asking()), (false, 1), "the same policy");
    add("10.0.0.2");
    assert_eq!(applied(asking().deny(81)), (true, 1), "another");
}
