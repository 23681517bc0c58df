//! Whom `node` stands for in a test, where members are known.

#![expect(clippy::unwrap_used, reason = "what fails here is the test")]

use mesh_bpf::selector::Endpoint;
use mesh_compiler::compile::{Inventory, compile};
use mesh_compiler::diag::Severity;
use mesh_compiler::resolve::{Location, NoImports, Services};

/// What is wrong with a policy that denies an address and whose test has this line, where the pods of `app = cart` have these
/// addresses.
fn wrong(denied: &str, line: &str, pods: &[&[&str]]) -> Vec<String> {
    let policy = format!(
        "exempt uid 1500
        redirect outbound -> 15001
        redirect inbound -> 15003
        mesh shop {{
            deny outbound tcp to {denied}
            workload cart {{ label app = cart }}
            workload catalog {{ address 10.42.9.9 }}
            test \"t\" {{ {line} }}
        }}"
    );
    let pod = |(at, addresses): (usize, &&[&str])| Endpoint {
        name: format!("cart-{at}"),
        labels: [("app".to_owned(), "cart".to_owned())].into(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        ..Endpoint::default()
    };
    let endpoints = pods.iter().enumerate().map(pod).collect();
    let inventory = Inventory { endpoints: Some(endpoints), services: Services::new() };
    let place = Location { key: "a.mesh".into(), name: "a.mesh".into() };
    let done = compile(vec![(place, policy.into_bytes())], &mut NoImports, Some(inventory));
    let errors = done.diagnostics.iter().filter(|found| found.severity == Severity::Error);
    errors.map(|found| found.message.clone()).collect()
}

/// "A pod's connection to itself is no connection to the node."
#[test]
fn the_node_has_no_address_that_is_every_asking_members_own() {
    let [to_node, is_denied] =
        ["cart -> node tcp 80 is redirected 15001", "test \"t\": the flow is denied, not redirected 15001"];
    assert_eq!(wrong("10.42.0.5", to_node, &[&["10.42.0.5"]]), [""; 0]);
    // It may have what another pod has: that one is in the network of the host.
    assert_eq!(wrong("10.42.0.5", to_node, &[&["10.42.0.5"], &["10.42.0.6"]]), [is_denied]);
    assert_eq!(wrong("10.42.0.5", to_node, &[&["10.42.0.6"]]), [is_denied]);
    let of_catalog = "catalog -> node tcp 80 is redirected 15001";
    assert_eq!(wrong("10.42.9.9", of_catalog, &[]), [""; 0]);
    assert_eq!(wrong("10.42.9.8", of_catalog, &[]), [is_denied]);
}
