//! Kubernetes services as addresses: real connections to their cluster addresses and endpoints, and what an apply does where
//! endpoints come and go.

use std::path::{Path, PathBuf};

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Failure, Tested};
use serde_json::{Value, json};

use crate::fixtures::command::Answer;
use crate::fixtures::seen::Seen;
use crate::fixtures::stage::Stage;

const RULES: &str = "redirect outbound -> 15001
set control = service kubernetes, service osm/control
exclude outbound tcp 443 to control
redirect outbound tcp 80 to service shop/db -> 15002
exclude outbound tcp 5432 to service shop/db
deny outbound tcp 3306 to service shop/db
test \"from here\" { cart -> service shop/db tcp 5432 is excluded }";

/// An inventory with these endpoints of `shop/db`.
fn inventory(stage: &Stage, db: &[&str]) -> Result<PathBuf, Failure> {
    let db: Vec<String> = db.iter().map(|address| format!("\"{address}\"")).collect();
    let text = format!(
        "[[service]]\nname = \"kubernetes\"\naddresses = [\"172.16.0.1\"]\n\n[[service]]\nname = \"control\"\n\
         namespace = \"osm\"\naddresses = [\"172.16.0.2\", \"fd10:43::2\"]\n\n[[service]]\nname = \"db\"\n\
         namespace = \"shop\"\naddresses = [{}]\n",
        db.join(", ")
    );
    Ok(stage.ground().write("cluster.toml", text)?)
}

fn apply(stage: &Stage, policy: &Path, inventory: &Path) -> Result<Value, Failure> {
    stage.ask(&["apply", "--inventory", &inventory.display().to_string(), &policy.display().to_string()])
}

#[test]
fn connections_to_a_service_are_decided_by_its_addresses_of_now() -> Tested {
    let stage = Stage::new()?;
    let policy = stage.policy("policy.mesh", RULES)?;
    let first = apply(&stage, &policy, &inventory(&stage, &["10.43.0.7", "10.42.1.7", "fd10:42::7"])?)?;
    let shown = || -> Result<String, Failure> {
        Ok(stage.ask(&["show"])?["output"].as_str().unwrap_or_default().to_owned())
    };
    let dialled = |endpoints: &[&str], others: &[&str]| -> Tested {
        for host in endpoints {
            for (port, expected) in [
                (5432, Seen::Straight),
                (80, Seen::Redirected(15002)),
                (3306, Seen::Denied),
                (443, Seen::Redirected(15001)),
            ] {
                assert_eq!(stage.dial(&format!("{host}:{port}"))?, expected, "{host}:{port}");
            }
        }
        for host in others {
            for port in [5432, 80, 3306] {
                assert_eq!(stage.dial(&format!("{host}:{port}"))?, Seen::Redirected(15001), "{host}:{port}");
            }
        }
        for host in ["172.16.0.1", "172.16.0.2", "[fd10:43::2]"] {
            assert_eq!(stage.dial(&format!("{host}:443"))?, Seen::Straight, "{host}");
            assert_eq!(stage.dial(&format!("{host}:80"))?, Seen::Redirected(15001), "{host}");
        }
        Ok(())
    };
    dialled(&["10.43.0.7", "10.42.1.7", "[fd10:42::7]"], &["10.42.1.8", "[fd10:42::8]"])?;
    let text = shown()?;
    assert!(text.contains("service shop/db") && !text.contains("10.42.1.7"), "{text}");
    let live = stage.ask(&["explain", "--live", "cart -> service shop/db tcp 3306"])?;
    assert_eq!(live["verdict"], "denied", "{live:#}");
    assert_eq!(live["rule"]["elements"][0]["name"], "service shop/db", "{live:#}");

    // One more endpoint, and one that is gone.
    let second = apply(&stage, &policy, &inventory(&stage, &["10.43.0.7", "10.42.1.8", "fd10:42::7"])?)?;
    dialled(&["10.43.0.7", "10.42.1.8", "[fd10:42::7]"], &["10.42.1.7", "[fd10:42::8]"])?;
    assert_eq!(shown()?, text, "text names the service");
    let generations = [&first, &second].map(|answer| answer["generation"].as_u64());
    assert_eq!(generations.map(Option::unwrap_or_default).map(|it| it > 0), [true, true]);
    assert_eq!(generations[0].map(|it| it + 1), generations[1]);
    // What an endpoint is not part of is not written again.
    let tables = |answer: &Value| answer["tables"].as_array().map_or(0, Vec::len);
    assert!(tables(&second) > 0 && tables(&second) < tables(&first), "{first:#} {second:#}");
    assert_eq!(second["entries"], json!({ "added": 0, "removed": 0, "changed": 0 }));

    // The same endpoints in another order are the same policy.
    let third = apply(&stage, &policy, &inventory(&stage, &["fd10:42::7", "10.42.1.8", "10.43.0.7"])?)?;
    assert_eq!((&third["changed"], &third["generation"]), (&json!(false), &second["generation"]));
    Ok(())
}

#[test]
fn a_policy_that_names_a_service_nobody_knows_is_refused_by_name_and_changes_nothing() -> Tested {
    let stage = Stage::new()?;
    let known = stage.policy("policy.mesh", "redirect outbound -> 15001")?;
    let generation = stage.apply(&known)?["generation"].clone();
    let unknown = stage.policy(
        "unknown.mesh",
        "# meshc: allow(unknown-service)\nexclude outbound to service shop/cart, 10.0.3.9",
    )?;
    let unknown = unknown.display().to_string();
    let empty = inventory(&stage, &[])?.display().to_string();
    for command in ["plan", "apply"] {
        for arguments in [&[command, &unknown][..], &[command, "--inventory", &empty, &unknown]] {
            let answer = Answer::of(stage.meshc().args(arguments))?;
            let (code, said) = (answer.code, answer.words());
            let words = "the addresses of service `shop/cart` are not known";
            let is_named = said.contains("error[unknown-service]") && said.contains(words);
            assert!(code == 1 && is_named, "{arguments:?}: {code} {said}");
        }
    }
    let artifact = stage.ground().dir().join("policy.meshc").display().to_string();
    let answer = Answer::of(stage.meshc().args(["compile", "--artifact", "-o", &artifact, &unknown]))?;
    let is_refused = answer.code == 1 && answer.words().contains("shop/cart");
    assert!(is_refused && !Path::new(&artifact).exists(), "{answer:?}");
    assert_eq!(stage.ask(&["status"])?["generation"], generation);
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));
    // One that is known and has none is for nobody: it needs no other inventory later.
    let policy =
        stage.policy("empty.mesh", "redirect outbound -> 15001\nexclude outbound to service shop/db")?;
    apply(&stage, &policy, Path::new(&empty))?;
    assert_eq!(stage.ask(&["status"])?["empty_services"], json!(["shop/db"]));
    let said = Answer::of(stage.meshc().arg("status"))?.done()?.stdout;
    assert!(said.contains("services without an address") && said.contains("  shop/db\n"), "{said}");
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));
    Ok(())
}
