//! What a cluster's objects say, as far as interception depends on it: names, labels, annotations, templates of pods.

use std::collections::{BTreeMap, BTreeSet};

use mesh_compiler::source::Span;

use crate::yaml::Value;

/// An object of a cluster, or a document without a kind, such as the values of a chart.
#[derive(Clone, Debug)]
pub struct Object<'y> {
    /// As it is written: `Deployment`. Empty for a document that is no object.
    pub kind: &'y str,
    /// Its name.
    pub name: &'y str,
    /// Its namespace; `default` where none is said, as for `kubectl`.
    pub namespace: &'y str,
    /// All of it.
    pub value: Value<'y>,
}

/// An annotation or a label, with the place of its value.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'y> {
    /// Its key.
    pub key: &'y str,
    /// Its value.
    pub value: &'y str,
    /// Where the value is written.
    pub span: Span,
}

/// Pods that are alike: a template of pods, or one pod.
#[derive(Clone, Debug)]
pub struct Unit<'y> {
    /// `deployment/cart`.
    pub object: String,
    /// The namespace of its pods.
    pub namespace: &'y str,
    /// Labels of its pods, without those that differ from pod to pod or from rollout to rollout.
    pub labels: BTreeMap<&'y str, &'y str>,
    /// The name, where it is one pod.
    pub pod: Option<&'y str>,
    /// Annotations of its pods.
    pub annotations: Vec<Entry<'y>>,
    /// Annotations of the object that has the template: these reach no pod.
    pub beside: Vec<Entry<'y>>,
    /// The `spec` of its pods.
    pub spec: Option<Value<'y>>,
}

/// Labels that controllers put on pods and that say nothing of what a pod is for.
const PASSING: [&str; 13] = [
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "controller-uid",
    "job-name",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
    "batch.kubernetes.io/job-completion-index",
    "rollouts-pod-template-hash",
    "security.istio.io/tlsMode",
    "service.istio.io/canonical-revision",
];

/// What of a list of objects, or one object, is there. Lists may lie in lists.
pub fn objects<'y>(document: Value<'y>, found: &mut Vec<Object<'y>>) {
    if document.is_list() {
        return document.items().for_each(|item| objects(item, found));
    }
    let kind = document.text_at("kind").unwrap_or_default();
    if let Some(items) = document.get("items").filter(|items| kind.ends_with("List") && items.is_list()) {
        return items.items().for_each(|item| objects(item, found));
    }
    if !document.is_map() {
        return;
    }
    let name = document.text_at("metadata.name").unwrap_or_default();
    let namespace = document.text_at("metadata.namespace").filter(|name| !name.is_empty());
    found.push(Object { kind, name, namespace: namespace.unwrap_or("default"), value: document });
}

impl<'y> Object<'y> {
    /// `configmap istio-system/istio`, as comments name it.
    #[must_use]
    pub fn title(&self) -> String {
        match (self.kind, self.name) {
            ("", _) => "the values".to_owned(),
            ("Namespace", name) => format!("namespace {name}"),
            (kind, name) => format!("{} {}/{name}", kind.to_lowercase(), self.namespace),
        }
    }

    /// Its labels.
    pub fn labels(&self) -> Vec<Entry<'y>> {
        entries(self.value.at("metadata.labels"))
    }

    /// Its annotations.
    pub fn annotations(&self) -> Vec<Entry<'y>> {
        entries(self.value.at("metadata.annotations"))
    }

    /// The object that it belongs to, as kind and name.
    fn owner(&self) -> Option<(&'y str, &'y str)> {
        let owner = self.value.at("metadata.ownerReferences")?.items().next()?;
        Some((owner.text_at("kind")?, owner.text_at("name")?))
    }

    /// Where its pods are described; itself, if it is a pod.
    fn template(&self) -> Option<Value<'y>> {
        match self.kind {
            "" => None,
            "Pod" => Some(self.value),
            "PodTemplate" => self.value.get("template"),
            _ => (self.value.at("spec.jobTemplate.spec.template"))
                .or_else(|| self.value.at("spec.template"))
                .filter(|template| template.at("spec.containers").is_some()),
        }
    }
}

fn entries(map: Option<Value<'_>>) -> Vec<Entry<'_>> {
    let entries = map.into_iter().flat_map(Value::entries);
    entries
        .filter_map(|(key, value)| Some(Entry { key: key.text()?, value: value.text()?, span: value.span() }))
        .collect()
}

/// The pods of all objects, those that are alike once, and what was left out, with the reason.
pub fn units<'y>(objects: &[Object<'y>]) -> (Vec<Unit<'y>>, Vec<(String, &'static str)>) {
    let there: BTreeSet<(&str, &str, &str)> =
        objects.iter().map(|object| (object.namespace, object.kind, object.name)).collect();
    let mut units = Vec::new();
    let mut left = Vec::new();
    for object in objects {
        let Some(template) = object.template() else { continue };
        let (is_pod, is_owned) = (object.kind == "Pod", object.owner().is_some());
        let object_name = format!("{}/{}", object.kind.to_lowercase(), object.name);
        let owner_is_there =
            object.owner().is_some_and(|(kind, name)| there.contains(&(object.namespace, kind, name)));
        // A deployment's old replica sets are kept with what pods were once.
        if !is_pod && (owner_is_there || (is_owned && object.value.text_at("spec.replicas") == Some("0"))) {
            continue;
        }
        if is_pod && matches!(object.value.text_at("status.phase"), Some("Succeeded" | "Failed")) {
            left.push((format!("{object_name} in {}", object.namespace), "it has ended"));
            continue;
        }
        let labels = entries(template.at("metadata.labels"));
        let labels = labels.iter().filter(|label| !PASSING.contains(&label.key));
        units.push(Unit {
            object: object_name,
            namespace: object.namespace,
            labels: labels.map(|label| (label.key, label.value)).collect(),
            pod: is_pod.then_some(object.name),
            annotations: entries(template.at("metadata.annotations")),
            beside: if is_pod { Vec::new() } else { object.annotations() },
            spec: template.get("spec"),
        });
    }
    (units, left)
}

impl<'y> Unit<'y> {
    /// A pod of which nothing is known but its namespace; not even that, where it is empty.
    #[must_use]
    pub const fn anybody(namespace: &'y str) -> Self {
        Self {
            object: String::new(),
            namespace,
            labels: BTreeMap::new(),
            pod: None,
            annotations: Vec::new(),
            beside: Vec::new(),
            spec: None,
        }
    }

    /// Whether nothing is known of it.
    #[must_use]
    pub const fn is_anybody(&self) -> bool {
        self.object.is_empty()
    }

    /// `deployment/cart in shop`.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} in {}", self.object, self.namespace)
    }

    /// An annotation of its pods.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<Entry<'y>> {
        self.annotations.iter().rev().find(|entry| entry.key == key).copied()
    }

    /// A container of its pods.
    #[must_use]
    pub fn container(&self, name: &str) -> Option<Value<'y>> {
        let spec = self.spec?;
        let all = ["containers", "initContainers"].into_iter().filter_map(|list| spec.get(list));
        all.flat_map(Value::items).find(|container| container.text_at("name") == Some(name))
    }

    /// Whether its pods are in the network of their node, where no mesh redirects anything.
    #[must_use]
    pub fn is_in_host_network(&self) -> bool {
        self.spec.and_then(|spec| spec.text_at("hostNetwork")) == Some("true")
    }
}
