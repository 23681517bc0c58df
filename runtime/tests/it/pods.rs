//! Pods: by namespace cookie, by selector, and through changes of policy.

use std::net::SocketAddr;

use mesh_bpf::tables::Tables;
use mesh_runtime::{Pod, Which};
use mesh_testbed::{Client, Ground, Netns, Place, Server, kernel_is_usable};

use crate::common::{Policy, request, runtime};

/// A pod without a network but loopback, in a cgroup that programs are attached to.
struct Inside {
    netns: Netns,
    _servers: [Server; 2],
    at: SocketAddr,
    there: SocketAddr,
}

impl Inside {
    fn new() -> Self {
        let netns = Netns::new().unwrap();
        let start = |who, address: &str| Server::start(&netns, who, &[address.parse().unwrap()]).unwrap();
        let (sidecar, far) = (start("sidecar", "127.0.0.1:15001"), start("far", "127.0.0.2:8080"));
        let first = |server: &Server| server.addresses().unwrap()[0];
        let (at, there) = (first(&sidecar), first(&far));
        Self { netns, _servers: [sidecar, far], at, there }
    }

    fn who(&self, ground: &Ground) -> String {
        let place = Place::here().netns(&self.netns).cgroup(ground.cgroup());
        place.run(|| Client::to(self.there).dial()).unwrap().unwrap().arrival.who
    }

    fn pod(&self, name: &str, tier: &str) -> Pod {
        Pod {
            netns: self.netns.path(),
            name: name.into(),
            labels: [("tier".into(), tier.into())].into(),
            addresses: vec!["10.9.9.9".parse().unwrap()],
            ..Pod::default()
        }
    }

    fn policy(&self, tier: &str) -> Tables {
        Policy::new().redirect(self.there.port(), self.at.port()).label("tier", tier).tables()
    }
}

#[test]
fn a_pod_is_a_member_as_long_as_it_is_attached_and_selected() {
    if !kernel_is_usable() {
        return;
    }
    let ground = Ground::new().unwrap();
    let runtime = runtime(&ground);
    let inside = Inside::new();
    // Attached before there is any policy.
    let early = runtime.attach(&inside.pod("p", "web")).unwrap();
    assert_eq!(early.workload, None);
    runtime.apply(request(&inside.policy("web"))).unwrap();
    assert_eq!(inside.who(&ground), "sidecar");
    assert_eq!(runtime.status().unwrap().members[0].workload.as_deref(), Some("shop/cart"));
    runtime.apply(request(&inside.policy("db"))).unwrap();
    assert_eq!(inside.who(&ground), "far");
    // Attached again with another label.
    let again = runtime.attach(&inside.pod("p", "db")).unwrap();
    assert_eq!((again.key, again.workload.as_deref()), (early.key, Some("shop/cart")));
    assert_eq!(inside.who(&ground), "sidecar");
    assert_eq!(runtime.status().unwrap().drift, Vec::<String>::new());
    assert!(runtime.detach(&Which::Name(None, "p".into())).unwrap());
    assert!(!runtime.detach(&Which::Netns(inside.netns.path())).unwrap());
    assert_eq!(inside.who(&ground), "far");
    runtime.detach_all(true).unwrap();
}
