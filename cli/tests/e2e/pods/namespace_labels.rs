//! Pods are selected by the labels of their namespaces, and move with them without another generation.

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Failure, Tested};
use serde_json::{Value, json};

use crate::fixtures::chain::{Node, Pod, kubernetes, labels};
use crate::fixtures::command::Answer;
use crate::fixtures::seen::Seen;

const MESH: &str = "redirect outbound -> 15001
    workload meshed { namespace-label istio-injection = enabled }
    workload canary {
        namespace-label istio-injection = enabled
        namespace-label stage = canary
        exclude outbound tcp 443
    }";

/// A pod of this namespace, as a container runtime makes it: without a word about labels.
fn pod(node: &Node, namespace: &str, name: &str) -> Result<Pod, Failure> {
    node.pod(name, &kubernetes(namespace, name), &labels(&[]))
}

/// What becomes of connections to ports 80 and 443.
fn dials(node: &Node, pod: &Pod) -> Result<[Seen; 2], Failure> {
    Ok([node.dial(pod, "10.0.3.9:80")?, node.dial(pod, "[fd10::9]:443")?])
}

const STRAIGHT: [Seen; 2] = [Seen::Straight; 2];
const MESHED: [Seen; 2] = [Seen::Redirected(15001); 2];
const CANARY: [Seen; 2] = [Seen::Redirected(15001), Seen::Straight];

#[test]
fn a_namespaces_pods_move_when_its_labels_change() -> Tested {
    let node = Node::new()?;
    // It holds for pods that are attached later, also where no policy is live.
    node.ask(&["namespace", "shop", "--label", "istio-injection=enabled"])?;
    let early = pod(&node, "shop", "early")?;
    let generation = node.apply(MESH)?["generation"].clone();
    let (late, other) = (pod(&node, "shop", "late")?, pod(&node, "bank", "other")?);
    for (pod, expected) in [(&early, MESHED), (&late, MESHED), (&other, STRAIGHT)] {
        assert_eq!(dials(&node, pod)?, expected);
    }
    let canary = ["namespace", "shop", "--label", "istio-injection=enabled", "--label", "stage=canary"];
    let moved = node.ask(&canary)?;
    let one = |name| json!({ "name": name, "namespace": "shop", "from": "shop/meshed", "to": "shop/canary" });
    assert_eq!(moved["moves"], json!([one("early"), one("late")]));
    for (pod, expected) in [(&early, CANARY), (&late, CANARY), (&other, STRAIGHT)] {
        assert_eq!(dials(&node, pod)?, expected);
    }
    node.ask(&["namespace", "bank", "--label", "istio-injection=enabled"])?;
    assert_eq!(dials(&node, &other)?, MESHED);
    // All labels are said each time; without any, its pods leave.
    let left = node.ask(&["namespace", "shop", "--no-labels"])?;
    assert_eq!(
        left["moves"][0],
        json!({ "name": "early", "namespace": "shop", "from": "shop/canary", "to": null })
    );
    for (pod, expected) in [(&early, STRAIGHT), (&late, STRAIGHT), (&other, MESHED)] {
        assert_eq!(dials(&node, pod)?, expected);
    }
    let known = node.ask(&["namespace"])?;
    let bank = json!({ "name": "bank", "labels": { "istio-injection": "enabled" } });
    assert_eq!(known["namespaces"], json!([bank]));
    let status = node.ask(&["status"])?;
    assert_eq!((&status["generation"], &status["drift"]), (&generation, &json!([])));
    Ok(())
}

#[test]
fn an_inventory_says_what_the_labels_of_all_namespaces_are() -> Tested {
    let node = Node::new()?;
    node.apply(MESH)?;
    let (shop, bank) = (pod(&node, "shop", "a")?, pod(&node, "bank", "b")?);
    let tell = |text: &str| -> Result<Value, Failure> {
        let file = node.ground().write("cluster.toml", text)?;
        node.ask(&["namespace", "--inventory", &file.display().to_string()])
    };
    let enabled = |name: &str| {
        format!("[[namespace]]\nname = \"{name}\"\nlabels = {{ istio-injection = \"enabled\" }}\n")
    };
    tell(&format!("{}{}", enabled("shop"), enabled("bank")))?;
    assert_eq!((dials(&node, &shop)?, dials(&node, &bank)?), (MESHED, MESHED));
    // What is not in it has no labels.
    tell(&enabled("bank"))?;
    assert_eq!((dials(&node, &shop)?, dials(&node, &bank)?), (STRAIGHT, MESHED));
    Ok(())
}

#[test]
fn an_apply_hands_the_labels_of_its_inventory_to_the_node() -> Tested {
    let node = Node::new()?;
    let shop = pod(&node, "shop", "a")?;
    let policy = node.policy(MESH)?.display().to_string();
    let with = |command: &[&str], labels: &str, code: i32| -> Result<Value, Failure> {
        let text = format!("[[namespace]]\nname = \"shop\"\nlabels = {{ {labels} }}\n");
        let file = node.ground().write("cluster.toml", if labels.is_empty() { "" } else { &text })?;
        let mut meshc = node.meshc();
        meshc.args(["--format", "json"]).args(command).arg("--inventory").arg(file).arg(&policy);
        let answer = Answer::of(&mut meshc)?;
        assert_eq!(answer.code, code, "{answer:#?}");
        answer.json()
    };
    let (enabled, canary) =
        ("istio-injection = \"enabled\"", "istio-injection = \"enabled\", stage = \"canary\"");
    let one = |from: &Value, to: &str| json!([{ "name": "a", "namespace": "shop", "from": from, "to": to }]);
    assert_eq!(with(&["plan"], enabled, 3)?["moves"], one(&Value::Null, "shop/meshed"));
    assert_eq!(dials(&node, &shop)?, STRAIGHT);
    assert_eq!(with(&["apply"], enabled, 0)?["moves"], one(&Value::Null, "shop/meshed"));
    assert_eq!(dials(&node, &shop)?, MESHED);
    assert_eq!(with(&["plan"], enabled, 0)?["moves"], json!([]));
    // The same policy: other labels alone move it.
    assert_eq!(with(&["plan"], canary, 3)?["moves"], one(&json!("shop/meshed"), "shop/canary"));
    let moved = with(&["apply"], canary, 0)?;
    assert_eq!(
        (&moved["moves"], &moved["changed"]),
        (&one(&json!("shop/meshed"), "shop/canary"), &json!(false))
    );
    assert_eq!(dials(&node, &shop)?, CANARY);
    // Who would leave by it is no less in the mesh: nothing is done before that is meant.
    let refused = with(&["apply"], "stage = \"canary\"", 1)?;
    assert_eq!(refused["error"]["code"], "leaving");
    assert_eq!(dials(&node, &shop)?, CANARY);
    // One that says nothing of namespaces changes none.
    with(&["apply"], "", 0)?;
    assert_eq!(dials(&node, &shop)?, CANARY);
    Ok(())
}

#[test]
fn one_pod_is_attached_with_labels_of_its_namespace_and_again_with_others() -> Tested {
    let node = Node::new()?;
    node.apply(MESH)?;
    let one = pod(&node, "shop", "one")?;
    let netns = one.netns().path().display().to_string();
    let attach = |given: &[&str]| {
        let who = ["attach", "--netns", netns.as_str(), "--name", "one", "--namespace", "shop"];
        node.ask(&[&who, given].concat())
    };
    let attached = attach(&["--namespace-label", "istio-injection=enabled"])?;
    assert_eq!((&attached["workload"], dials(&node, &one)?), (&json!("shop/meshed"), MESHED));
    // It is one pod that was told of, and not its namespace.
    let two = pod(&node, "shop", "two")?;
    assert_eq!(dials(&node, &two)?, STRAIGHT);
    attach(&["--namespace-label", "istio-injection=enabled", "--namespace-label", "stage=canary"])?;
    assert_eq!(dials(&node, &one)?, CANARY);
    attach(&[])?;
    assert_eq!(dials(&node, &one)?, STRAIGHT);
    Ok(())
}

#[test]
fn labels_under_which_a_pod_would_be_two_workloads_are_refused_and_change_nothing() -> Tested {
    let node = Node::new()?;
    node.apply(
        "redirect outbound -> 15001
        workload meshed { namespace-label mesh = on }
        workload third { address 172.30.0.3; exclude outbound tcp 443 }",
    )?;
    let (first, second) = (pod(&node, "shop", "first")?, pod(&node, "shop", "second")?);
    assert_eq!((dials(&node, &first)?, dials(&node, &second)?), (STRAIGHT, CANARY));
    let arguments = ["--format", "json", "namespace", "shop", "--label", "mesh=on"];
    let answer = Answer::of(node.meshc().args(arguments))?;
    assert_eq!(
        (answer.code, &answer.json()?["error"]["code"]),
        (1, &json!("ambiguous-member")),
        "{answer:#?}"
    );
    assert_eq!((dials(&node, &first)?, dials(&node, &second)?), (STRAIGHT, CANARY));
    assert_eq!(node.ask(&["namespace"])?["namespaces"], json!([]));
    let third = pod(&node, "shop", "third")?;
    assert_eq!(dials(&node, &third)?, STRAIGHT);
    assert_eq!(node.ask(&["status"])?["drift"], json!([]));
    Ok(())
}
