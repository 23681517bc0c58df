//! Labels of Kubernetes namespaces, as the node was told: a file each of the state directory. They hold after a boot,
//! too, so that pods that are attached before anybody tells them again are selected by them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::instance::Instance;
use crate::members::pod::{Labels, Pod};
use crate::node::Node;
use crate::state::record;
use crate::system::System;

/// What is known of a namespace.
#[derive(Debug, Serialize, Deserialize)]
struct Namespace {
    name: String,
    labels: Labels,
}

fn file(instance: &Instance, name: &str) -> PathBuf {
    instance.namespaces().join(format!("namespace_{}", record::file_name(name)))
}

/// The labels of a namespace; none where nothing was told of it.
pub(crate) fn labels<S: System>(node: Node<'_, S>, name: &str) -> Result<Labels> {
    let known = record::read::<Namespace>(node.system, &file(node.instance, name))?;
    Ok(known.filter(|known| known.name == name).map(|known| known.labels).unwrap_or_default())
}

/// The labels of a pod's namespace: what was told with the pod, else what is known.
pub(crate) fn of<S: System>(node: Node<'_, S>, pod: &Pod) -> Result<Labels> {
    match (&pod.namespace_labels, &pod.namespace) {
        (Some(told), _) => Ok(told.clone()),
        (None, Some(name)) => labels(node, name),
        (None, None) => Ok(Labels::new()),
    }
}

/// Every namespace that has labels.
pub(crate) fn all<S: System>(node: Node<'_, S>) -> Result<BTreeMap<String, Labels>> {
    let dir = node.instance.namespaces();
    let mut all = BTreeMap::new();
    for name in node.system.list(&dir)?.unwrap_or_default() {
        // What a killed command was writing is not in its place yet.
        if name.ends_with(record::BESIDE) {
            continue;
        }
        let known = record::read::<Namespace>(node.system, &dir.join(name))?;
        all.extend(known.map(|known| (known.name, known.labels)));
    }
    Ok(all)
}

/// Notes what the labels of a namespace are.
pub(crate) fn note<S: System>(node: Node<'_, S>, name: &str, labels: &Labels) -> Result<()> {
    let file = file(node.instance, name);
    if labels.is_empty() {
        return Ok(node.system.remove(&file)?);
    }
    node.system.create_dir(&node.instance.namespaces())?;
    record::write(node.system, &file, &Namespace { name: name.to_owned(), labels: labels.clone() }, true)
}
