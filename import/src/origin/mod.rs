//! The meshes whose settings are read, a file each: how a mesh orders its rules, and what each of its settings makes.

pub mod consul;
pub mod iptables;
pub mod istio;
pub mod kuma;
pub mod linkerd;
pub mod osm;

use std::collections::BTreeMap;

use mesh_bpf::flow::Direction;
use mesh_compiler::source::Span;

use crate::chain::{Rule, Verdict};
use crate::kube::{Entry, Object, Unit};
use crate::settings::{Chain, Reader, Setting};
use crate::value::prefixes;
use crate::yaml::Value;

/// What there is to read.
#[derive(Debug)]
pub struct World<'y> {
    /// All objects.
    pub objects: &'y [Object<'y>],
    /// The pods that they describe.
    pub units: &'y [Unit<'y>],
    /// Whether what a mesh does by mistake is kept.
    pub as_it_behaves: bool,
}

/// Whether pods of a namespace are members without saying so themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Injected {
    /// Yes, by a label or annotation of the namespace, which a comment names.
    Yes(String),
    /// No.
    No,
}

/// Whether some pods are members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They are, and under this.
    Member(Chain),
    /// They are not, and why.
    Outside(String),
}

/// What was read of a mesh.
#[derive(Debug)]
pub struct Found {
    /// The name of the mesh, as people write it.
    pub title: &'static str,
    /// The name that the policy gives it.
    pub mesh: &'static str,
    /// Of each unit of the world.
    pub fates: Vec<Fate>,
    /// Namespaces that are among the objects.
    pub namespaces: BTreeMap<String, Injected>,
    /// A label of pods by which they stay outside, for workloads that select whole namespaces.
    pub opt_out: Option<(&'static str, &'static str)>,
    /// Where a policy means something else than the mesh's own rules, on purpose.
    pub differences: &'static [&'static str],
}

impl Found {
    /// Namespaces in which every pod gets a sidecar.
    pub fn injected(&self) -> impl Iterator<Item = &str> {
        let injected = self.namespaces.iter().filter(|(_, injected)| matches!(injected, Injected::Yes(_)));
        injected.map(|(name, _)| name.as_str())
    }
}

/// What all pods take from shared objects, by name. The first object that has a value gives it.
#[derive(Debug, Default)]
pub struct Shared {
    settings: BTreeMap<String, Setting>,
}

impl Shared {
    /// Takes what lies at these paths below a value.
    pub fn take(&mut self, value: Value<'_>, paths: &[&str], prefix: &str, of: &str) {
        for path in paths {
            self.take_as(value, path, &format!("{prefix}{path}"), of);
        }
    }

    /// Takes what lies at a path, under another name.
    pub fn take_as(&mut self, value: Value<'_>, path: &str, name: &str, of: &str) {
        let Some(found) = value.at(path) else { return };
        // A list is written as annotations write one: those of users have lists in them.
        let between = if path.ends_with("ForUIDs") { ";" } else { "," };
        let text = match found.text() {
            Some(text) => text.to_owned(),
            None if found.is_list() => {
                found.items().filter_map(Value::text).collect::<Vec<_>>().join(between)
            }
            None => return,
        };
        self.put(name, &text, found.span(), of);
    }

    /// One of them, unless there is one already.
    pub fn put(&mut self, name: &str, value: &str, span: Span, of: &str) {
        let setting = || Setting::shared(name, value, span, of);
        self.settings.entry(name.to_owned()).or_insert_with(setting);
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.settings.get(name)
    }
}

/// The pods' own annotation, else what they share, else the default of the mesh.
#[must_use]
pub fn setting(
    unit: &Unit<'_>,
    annotation: &str,
    shared: Option<&Setting>,
    default: (&str, &str),
) -> Setting {
    own(unit, annotation)
        .or_else(|| shared.cloned())
        .unwrap_or_else(|| Setting::default_of(default.0, default.1))
}

/// The pods' own annotation.
#[must_use]
pub fn own(unit: &Unit<'_>, annotation: &str) -> Option<Setting> {
    unit.annotation(annotation).map(|entry| Setting::own(&entry, &unit.title()))
}

/// Annotations that stand beside a template, where they reach no pod.
pub fn beside<'u, 'y>(
    unit: &'u Unit<'y>,
    is_ours: impl Fn(&str) -> bool + 'u,
) -> impl Iterator<Item = Setting> + 'u {
    let ours = unit.beside.iter().filter(move |entry: &&Entry<'y>| is_ours(entry.key));
    // One that the template has as well is no mistake.
    ours.filter(|entry| unit.annotation(entry.key).is_none()).map(|entry| Setting::own(entry, &unit.title()))
}

/// Why pods are in no mesh; `None` where they are. What they say themselves goes before what their namespace says, and
/// a sidecar that is there before both.
pub fn outside(
    unit: &Unit<'_>,
    said: Option<&Setting>,
    namespaces: &BTreeMap<String, Injected>,
    sidecars: &[&str],
) -> Option<String> {
    if unit.is_in_host_network() {
        return Some("hostNetwork: its pods are in the network of the node".into());
    }
    match said {
        Some(said) if is_true(&said.value) => None,
        Some(said) => Some(said.cite()),
        None => {
            let has_sidecar = sidecars.iter().any(|name| unit.container(name).is_some());
            (namespaces.get(unit.namespace) == Some(&Injected::No) && !has_sidecar)
                .then(|| format!("nothing injects a sidecar in the namespace {}", unit.namespace))
        }
    }
}

/// The user that the sidecar runs as: as its container says, where that is not what every pod's says.
pub fn sidecar_of(unit: &Unit<'_>, containers: &[&str], default: u32, reader: &mut Reader<'_>) {
    let container = containers.iter().find_map(|name| Some((name, unit.container(name)?)));
    let said =
        container.and_then(|(name, container)| Some((name, container.at("securityContext.runAsUser")?)));
    match said.and_then(|(name, said)| Some((name, said, said.text()?))) {
        Some((name, said, text)) if text != default.to_string() => {
            let name = format!("runAsUser of {name}");
            reader.sidecar(&Setting::shared(&name, text, said.span(), &unit.title()), default);
        }
        _ => reader.sidecar(&Setting::default_of("the sidecar's user", &default.to_string()), default),
    }
}

/// The rule of a mesh that leaves a family alone, in both directions: it comes before all others.
pub fn leaves_alone(family: &str) -> [Rule; 2] {
    [Direction::Outbound, Direction::Inbound].map(|direction| {
        Rule::tcp(direction, Verdict::Exclude).both().addresses(prefixes(family, false).items)
    })
}

/// The pods' own label, else their annotation.
pub fn label_or_annotation(unit: &Unit<'_>, key: &str) -> Option<Setting> {
    let label = unit.labels.get(key);
    let label =
        label.map(|value| Setting { of: unit.title(), is_own: true, ..Setting::default_of(key, value) });
    // A place that is shown nowhere: labels are not reported.
    label.or_else(|| own(unit, key))
}

/// The namespaces among the objects, and what each says of injection.
pub fn namespaces(
    objects: &[Object<'_>],
    injected: impl Fn(&Object<'_>) -> Injected,
) -> BTreeMap<String, Injected> {
    let namespaces = objects.iter().filter(|object| object.kind == "Namespace");
    namespaces.map(|object| (object.name.to_owned(), injected(object))).collect()
}

/// A yes or no as meshes write them.
#[must_use]
pub fn is_true(text: &str) -> bool {
    matches!(text.trim().to_ascii_lowercase().as_str(), "true" | "enabled" | "yes" | "1" | "on")
}
