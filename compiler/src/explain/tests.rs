//! For which addresses an answer holds.

use mesh_bpf::selector::Endpoint;

use super::*;
use crate::compile::{Compilation, Inventory, compile};
use crate::diff::addresses_text;
use crate::parse::parse_flow;
use crate::resolve::{Location, NoImports};
use crate::source::Sources;

const POLICY: &str = "
exempt uid 1500
redirect outbound -> 15001
set blocked = 10.7.0.0/16, 10.9.0.0/16
mesh shop {
    deny outbound tcp 25 to blocked
    exclude outbound tcp 25 to 10.42.1.0/25
    workload cart { label app = cart }
    workload web { label app = web }
    workload catalog { address 10.42.1.0/24, fd00:42:1::/64 }
}
";

fn compiled(policy: &str, inventory: Option<Vec<Endpoint>>) -> Compilation {
    let place = Location { key: "m.mesh".to_owned(), name: "m.mesh".to_owned() };
    let inventory = inventory.map(|found| Inventory { endpoints: Some(found), ..Inventory::default() });
    compile(vec![(place, policy.as_bytes().to_vec())], &mut NoImports, inventory)
}

/// Verdict and addresses of each answer.
fn answers(compilation: &Compilation, flow: &str) -> Vec<String> {
    let (id, _) = Sources::default().add("flow", flow.into());
    let (program, members) = (&compilation.resolution.program, &compilation.members);
    let question = Question::of_asked(program, members, &parse_flow(id, flow).unwrap(), None).unwrap();
    let image = &compilation.compiled.as_ref().unwrap().image;
    let text = |found: &Explanation| {
        let holds = match &found.holds {
            None => format!("at {}", found.flow.address),
            Some(Holds { but: Some(but), .. }) if but.is_empty() => "everywhere".to_owned(),
            Some(Holds { but: Some(but), .. }) => format!("but at {}", addresses_text(but)),
            Some(Holds { ranges, .. }) => format!("at {}", addresses_text(ranges)),
        };
        format!("{} {holds}{}", found.verdict, if found.flow.own { ", own" } else { "" })
    };
    explain(program, image, members, &question).iter().map(text).collect()
}

#[test]
fn no_address_is_made_up() {
    let compilation = compiled(POLICY, None);
    for (flow, expected) in [
        ("cart -> 10.7.0.1:25", &["denied at 10.7.0.1"][..]),
        ("cart -> web:80", &["redirected 15001 everywhere"]),
        (
            "cart -> web:25",
            &[
                "redirected 15001 but at 10.7.0.0/16, 10.9.0.0/16, 10.42.1.0/25",
                "denied at 10.7.0.0/16, 10.9.0.0/16",
                "excluded at 10.42.1.0/25",
            ],
        ),
        ("cart -> catalog:80", &["redirected 15001 at 10.42.1.0/24, fd00:42:1::/64"]),
        (
            "cart -> catalog:25",
            &["excluded at 10.42.1.0/25", "redirected 15001 at 10.42.1.128/25, fd00:42:1::/64"],
        ),
    ] {
        assert_eq!(answers(&compilation, flow), expected, "{flow}");
    }
}

#[test]
fn a_pod_of_the_inventory_is_known_by_its_addresses() {
    let pod = |name: &str, app: &str, addresses: &[&str]| Endpoint {
        name: name.into(),
        namespace: Some("shop".into()),
        labels: [("app".to_owned(), app.to_owned())].into(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        ..Endpoint::default()
    };
    let inventory = vec![
        pod("cart-1", "cart", &["10.1.0.1"]),
        pod("cart-2", "cart", &["10.1.0.2"]),
        pod("web-1", "web", &["10.7.0.1", "10.8.0.1"]),
        pod("catalog-1", "other", &["10.42.1.7"]),
    ];
    let compilation = compiled(POLICY, Some(inventory));
    for (flow, expected) in [
        ("cart -> shop/web-1:25", &["denied at 10.7.0.1", "redirected 15001 at 10.8.0.1"][..]),
        ("cart-1 -> 10.1.0.1:80", &["excluded at 10.1.0.1, own"]),
        ("shop/cart-2 -> cart-1:80", &["redirected 15001 at 10.1.0.1"]),
        ("cart -> cart-1:80", &["redirected 15001 at 10.1.0.1", "excluded at 10.1.0.1, own"]),
    ] {
        assert_eq!(answers(&compilation, flow), expected, "{flow}");
    }
}

/// A set that cuts addresses into more pieces than are looked at one by one.
#[test]
fn a_long_set_is_one_answer() {
    let prefixes: Vec<String> = (0..2000).map(|n| format!("10.{}.{}.0/25", n / 200, n % 200)).collect();
    let policy = POLICY.replace("10.7.0.0/16, 10.9.0.0/16", &prefixes.join(", "));
    let found = answers(&compiled(&policy, None), "cart -> web:25");
    let verdicts: Vec<&str> = found.iter().filter_map(|found| found.split_whitespace().next()).collect();
    assert_eq!(verdicts, ["redirected", "denied", "excluded"], "{found:?}");
}
