//! `meshc attach`: a pod, by its network namespace.

use mesh_runtime::{Labels, Pod};
use serde_json::json;

use crate::args::Attach;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::{failure, labels, open};
use crate::output::Output;

/// Registers a pod. It is a member before this returns.
pub fn run(output: &Output, args: &Attach) -> Result<Exit, Failure> {
    let pod = Pod {
        netns: args.netns.clone(),
        name: args.name.clone(),
        namespace: args.namespace.clone(),
        labels: labels(&args.labels)?,
        namespace_labels: given(&args.namespace_labels)?,
        service_account: args.service_account.clone(),
        addresses: args.addresses.iter().map(std::net::IpAddr::to_canonical).collect(),
        force: args.force,
        ..Pod::default()
    };
    let attached = open(&args.instance)?.attach(&pod).map_err(failure)?;
    let answer = json!({ "name": pod.name, "key": attached.key.to_string(), "workload": attached.workload });
    output.answer(&answer, || match &attached.workload {
        Some(workload) => format!("attached `{}` as a member of {workload}\n", pod.name),
        None => format!("attached `{}`: no workload of the live policy selects it\n", pod.name),
    });
    Ok(Exit::Done)
}

/// What was said of the namespace; where nothing was, what the node knows of it holds.
fn given(of_namespace: &[String]) -> Result<Option<Labels>, Failure> {
    (!of_namespace.is_empty()).then(|| labels(of_namespace)).transpose()
}
