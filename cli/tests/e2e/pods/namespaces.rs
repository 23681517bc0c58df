//! A network namespace is one pod's, and the node's own is nobody's.
#![expect(
    clippy::indexing_slicing,
    reason = "a key that is not in the JSON is null, and the comparison fails"
)]

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Failure, Netns, Place, Tested};
use serde_json::json;

use crate::fixtures::chain::{Call, Node, kubernetes};
use crate::fixtures::command::Answer;
use crate::fixtures::seen::Seen;

const MESH: &str = "redirect outbound -> 15001\nworkload shop { namespace shop }";

/// `meshc attach`, from the node's network.
fn attach(node: &Node, netns: &str, name: &str, more: &[&str]) -> Result<Answer, Failure> {
    let base = node.meshc();
    let mut command = Place::here().netns(node.netns()).command(base.get_program());
    command.envs(base.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.args(["--format", "json", "attach", "--netns", netns, "--name", name, "--namespace", "shop"]);
    Answer::of(command.args(more))
}

/// An ADD of the plugin alone.
fn add(node: &Node, netns: &str, container: &str, name: &str) -> Result<Answer, Failure> {
    let mut config = node.plugin();
    config["cniVersion"] = "1.0.0".into();
    config["name"] = "pods".into();
    node.call(&Call { command: "ADD", container, netns, arguments: &kubernetes("shop", name) }, &config)
}

fn refusal(answer: &Answer) -> Result<(i32, String, String), Failure> {
    let error = serde_json::from_str::<serde_json::Value>(&answer.stderr)
        .or_else(|_| serde_json::from_str(&answer.stdout))
        .map_err(|error| format!("{error}: {answer:#?}"))?;
    let word = |key: &str| error["error"][key].as_str().unwrap_or_default().to_owned();
    Ok((answer.code, word("code"), word("message") + "; " + &word("help")))
}

#[test]
fn the_nodes_own_network_is_attached_by_force_only() -> Tested {
    let node = Node::new()?;
    node.apply(MESH)?;
    let own = node.netns().path().display().to_string();
    for netns in [own.as_str(), "/proc/self/ns/net"] {
        let (code, word, said) = refusal(&attach(&node, netns, "host", &[])?)?;
        assert_eq!((code, word.as_str()), (1, "host-network"), "{netns}: {said}");
        assert!(said.contains("`host`") && said.contains("--force"), "{said}");
    }
    assert_eq!(node.members()?, Vec::<String>::new());
    attach(&node, &own, "host", &["--force"])?.done()?;
    assert_eq!(node.members()?, ["host"]);
    node.ask(&["detach", "--netns", &own])?;
    Ok(())
}

#[test]
fn a_runtimes_pod_of_the_nodes_network_starts_and_is_named() -> Tested {
    let node = Node::new()?;
    // Even where a workload selects it, and refuses who cannot be attached.
    node.apply(&format!("{MESH}\non failed-attach refuse"))?;
    let own = node.netns().path().display().to_string();
    let added = add(&node, &own, "c1", "proxy")?.done()?;
    assert!(added.stderr.contains("host-network") && added.stderr.contains("proxy"), "{added:#?}");
    let status = node.ask(&["status"])?;
    assert_eq!(status["members"], json!([]));
    assert_eq!(
        (&status["failed"][0]["name"], &status["failed"][0]["started"]),
        (&json!("proxy"), &json!(true))
    );
    let mut config = node.plugin();
    config["cniVersion"] = "1.0.0".into();
    config["name"] = "pods".into();
    let arguments = kubernetes("shop", "proxy");
    let call = Call { command: "DEL", container: "c1", netns: &own, arguments: &arguments };
    node.call(&call, &config)?.done()?;
    assert_eq!(node.ask(&["status"])?["failed"], json!([]));
    Ok(())
}

#[test]
fn a_namespace_is_not_attached_under_another_name_but_by_force() -> Tested {
    let node = Node::new()?;
    node.apply(MESH)?;
    let pod = Netns::new()?;
    let path = pod.path().display().to_string();
    attach(&node, &path, "first", &[])?.done()?;
    // Again as it is, with something else said of it.
    attach(&node, &path, "first", &["--label", "tier=web"])?.done()?;
    let (code, word, said) = refusal(&attach(&node, &path, "second", &[])?)?;
    assert_eq!((code, word.as_str()), (1, "other-pod"), "{said}");
    assert!(
        said.contains("shop/first") && said.contains("shop/second") && said.contains("--force"),
        "{said}"
    );
    assert_eq!(node.members()?, ["first"]);
    attach(&node, &path, "second", &["--force"])?.done()?;
    assert_eq!(node.members()?, ["second"]);
    assert_eq!(node.ask(&["status"])?["drift"], json!([]));
    Ok(())
}

#[test]
fn a_runtime_gives_a_namespace_to_another_pod_when_the_first_one_has_ended() -> Tested {
    let node = Node::new()?;
    node.apply(MESH)?;
    let pod = node.pod("c1", &kubernetes("shop", "first"), &json!({}))?;
    let path = pod.netns().path().display().to_string();
    // Its sidecar lives there.
    let refused = add(&node, &path, "c2", "second")?;
    assert!(refused.code != 0 && refused.stdout.contains("other-pod"), "{refused:#?}");
    assert_eq!(node.members()?, ["first"]);
    assert_eq!(node.dial(&pod, "10.0.3.9:80")?, Seen::Redirected(15001));
    let netns = pod.end();
    add(&node, &path, "c2", "second")?.done()?;
    assert_eq!(node.members()?, ["second"]);
    drop(netns);
    Ok(())
}
