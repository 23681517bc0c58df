//! Real container runtimes call the plugin, in a chain with bridge and host-local: the very first connection of a
//! container's first process is redirected.

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Netns, Place, Tested, long_runs_are_wanted};
use serde_json::Value;

use crate::fixtures::chain::{PLUGINS, kubernetes, labels};
use crate::fixtures::command::Answer;
use crate::fixtures::runtime::Machine;
use crate::fixtures::seen::{Seen, seen};
use crate::fixtures::stage::address;

/// Two names of pods that are one workload's, for runtimes that know no labels.
const MESH: &str = "redirect outbound -> 15001\nworkload cart { pod cart-1, default-cart-1 }";

#[test]
fn a_container_of_podman_is_in_the_mesh_before_its_first_process() -> Tested {
    let machine = Machine::new(MESH)?;
    for _ in 0..if long_runs_are_wanted() { 20 } else { 1 } {
        assert_eq!(machine.podman("cart-1")?, "sidecar\n");
    }
    let straight = machine.podman("other-1")?;
    assert!(straight.contains("\"who\":\"application\""), "{straight}");
    machine.nothing_is_left()
}

/// A container in a container, as docs/datapath.md advises to run it: in the network of the pod around it.
#[test]
fn a_container_inside_a_pod_that_has_the_pods_network_is_decided_as_the_pod_is() -> Tested {
    let machine = Machine::new(MESH)?;
    let pod = machine.node.pod("c1", &kubernetes("shop", "cart-1"), &labels(&[]))?;
    let said = machine.podman_in(pod.netns(), "inner-1", "host")?;
    assert!(said.contains("\"who\":\"sidecar\""), "{said}");
    Ok(())
}

#[test]
fn a_container_of_containerd_is_in_the_mesh_before_its_first_process() -> Tested {
    let machine = Machine::new(MESH)?;
    let mut containerd = machine.containerd("disabled_plugins = ['io.containerd.grpc.v1.cri']\n")?;
    // Its namespace is of a process, and at DEL it is not told at all.
    for _ in 0..if long_runs_are_wanted() { 20 } else { 1 } {
        assert_eq!(machine.ctr("cart-1")?, "sidecar\n");
    }
    let straight = machine.ctr("other-1")?;
    assert!(straight.contains("\"who\":\"application\""), "{straight}");
    containerd.stop();
    machine.nothing_is_left()
}

/// `cnitool` of the CNI project, as `scripts/setup.sh --long` builds it.
const CNITOOL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/cnitool");

#[test(long)]
fn the_tool_of_the_cni_project_adds_checks_and_deletes_a_pod() -> Tested {
    let machine = Machine::new(MESH)?;
    let node = &machine.node;
    let pod = Netns::new()?;
    let call = |command: &str| {
        let mut tool = Place::here().netns(node.netns()).command(CNITOOL);
        tool.env("CNI_PATH", format!("{PLUGINS}:{}", node.bin().display()));
        tool.env("NETCONFPATH", &machine.networks);
        tool.env("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-1");
        Answer::of(tool.args([command, "pods"]).arg(pod.path()))
    };
    let added: Value = call("add")?.done()?.json()?;
    assert_eq!(added["ips"].as_array().map(Vec::len), Some(2), "{added}");
    assert_eq!(node.members()?, ["cart-1"]);
    call("check")?.done()?;
    let target = address("10.0.3.9:80")?;
    let _sidecar = node.sidecar(&pod)?;
    let place = Place::here().netns(&pod).cgroup(node.pods());
    assert_eq!(place.run(|| seen(&Client::to(target), target))?, Seen::Redirected(15001));
    // A member that is not what the policy says fails the check, in the plugin's words.
    node.ask(&["detach", "--netns", &pod.path().display().to_string()])?;
    let checked = call("check")?;
    assert!(checked.code != 0 && checked.words().contains("not registered"), "{checked:#?}");
    call("del")?.done()?;
    call("del")?.done()?;
    machine.nothing_is_left()
}
