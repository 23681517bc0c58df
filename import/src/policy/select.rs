//! Which workloads there are, and by what each selects its pods.

use std::collections::{BTreeMap, BTreeSet};

use mesh_grammar::statement::is_reserved;

use crate::kube::Unit;
use crate::origin::{Fate, Found};

/// A line of selectors.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector {
    is_not: bool,
    /// `label app`, `pod`.
    what: String,
    values: BTreeSet<String>,
}

/// A workload of the policy.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// Its selectors.
    pub selectors: Vec<Selector>,
    /// The objects whose pods these are.
    pub objects: BTreeSet<String>,
    /// Which of the chains its pods are under.
    pub chain: usize,
}

/// All workloads, and pods that are in none, by the reason.
#[derive(Debug, Default)]
pub struct Selected {
    /// Sorted by name.
    pub workloads: Vec<Workload>,
    /// Objects, by why their pods are in no workload.
    pub outside: BTreeMap<String, BTreeSet<String>>,
}

/// Pods with equal labels in one namespace.
struct Kind<'u> {
    labels: BTreeMap<&'u str, &'u str>,
    pods: Vec<&'u str>,
    objects: BTreeSet<String>,
    chain: Option<usize>,
    /// By name, since others have the same labels and are under something else.
    by_name: bool,
}

impl Selector {
    fn label(key: &str, value: &str) -> Self {
        Self { is_not: false, what: format!("label {key}"), values: BTreeSet::from([value.to_owned()]) }
    }

    fn not(mut self) -> Self {
        self.is_not = true;
        self
    }

    /// Whether it is everybody.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.values.is_empty()
    }

    /// As a policy has it.
    #[must_use]
    pub fn text(&self) -> String {
        if self.values.is_empty() {
            return self.what.clone();
        }
        let values: Vec<String> = self.values.iter().map(|value| quoted(value)).collect();
        let not = if self.is_not { "not " } else { "" };
        let is = if self.what.starts_with("label") { " =" } else { "" };
        format!("{not}{}{is} {}", self.what, values.join(", "))
    }
}

fn quoted(value: &str) -> String {
    let is_word = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && value.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && !value.ends_with(['-', '.']);
    if is_word { value.to_owned() } else { format!("\"{value}\"") }
}

/// Whether Kubernetes takes a text as a name or a label's value. Others cannot be selected, and nobody has them.
fn is_plain(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    (1..=316).contains(&text.len()) && text.bytes().all(is_part)
}

/// Namespaces, and objects in them.
type Pods<'n> = (BTreeSet<&'n str>, BTreeSet<String>);

/// Chooses workloads for all pods; `chains` says under which chain each unit is that is a member, and `plain` under which
/// a pod is that says nothing itself, in namespaces in which every pod gets a sidecar.
pub fn select(
    found: &Found,
    units: &[Unit<'_>],
    chains: &[Option<usize>],
    plain: &BTreeMap<&str, Option<usize>>,
) -> Selected {
    let mut selected = Selected::default();
    if let ([unit], [Some(chain)]) = (units, chains)
        && unit.is_anybody()
    {
        let any = Selector { is_not: false, what: "any".into(), values: BTreeSet::new() };
        let (name, selectors, objects) = ("members".to_owned(), vec![any], BTreeSet::new());
        selected.workloads.push(Workload { name, selectors, objects, chain: *chain });
        return selected;
    }
    let mut by_namespace: BTreeMap<&str, Vec<Kind<'_>>> = BTreeMap::new();
    for ((unit, fate), &chain) in units.iter().zip(&found.fates).zip(chains) {
        if let Fate::Outside(why) = fate {
            selected.outside.entry(why.clone()).or_default().insert(unit.title());
        }
        if !is_plain(unit.namespace) || unit.pod.is_some_and(|pod| !is_plain(pod)) {
            let why = "a name that Kubernetes does not take".to_owned();
            selected.outside.entry(why).or_default().insert(unit.title());
            continue;
        }
        by_namespace.entry(unit.namespace).or_default().push(Kind {
            labels: unit
                .labels
                .iter()
                .filter(|(key, value)| is_plain(key) && is_plain(value))
                .map(|(k, v)| (*k, *v))
                .collect(),
            pods: unit.pod.into_iter().collect(),
            objects: BTreeSet::from([unit.title()]),
            chain,
            by_name: false,
        });
    }
    // A pod may come to each of these tomorrow.
    for (namespace, _) in plain.iter().filter(|(name, chain)| chain.is_some() && is_plain(name)) {
        by_namespace.entry(namespace).or_default();
    }
    // The same selectors under the same chain are one workload, whatever the namespace.
    let mut workloads: BTreeMap<(usize, Vec<Selector>), Pods<'_>> = BTreeMap::new();
    for (&namespace, kinds) in &mut by_namespace {
        let kinds = merged(std::mem::take(kinds), &mut selected.outside);
        // Where a sidecar comes to every pod, those that say nothing are the namespace's, and the others are exceptions.
        let usual = plain.get(namespace).copied().flatten();
        let opt_out = found.opt_out.filter(|_| usual.is_some());
        for (chain, selectors, objects) in within(&kinds, usual, opt_out, &mut selected.outside) {
            let (namespaces, all) = workloads.entry((chain, selectors)).or_default();
            namespaces.insert(namespace);
            all.extend(objects);
        }
    }
    let mut names = Names { taken: BTreeSet::from([found.mesh.to_owned()]) };
    for ((chain, mut selectors), (namespaces, objects)) in workloads {
        let name = names.fresh(&wanted(&selectors, &namespaces));
        let values = namespaces.iter().map(|name| (*name).to_owned()).collect();
        selectors.insert(0, Selector { is_not: false, what: "namespace".into(), values });
        selected.workloads.push(Workload { name, selectors, objects, chain });
    }
    selected.workloads.sort_by(|a, b| a.name.cmp(&b.name));
    selected
}

/// Kinds with equal labels become one. Where they differ in what they are under, what a template says is what holds: pods
/// of it that are otherwise were made before it was changed. Without a template, they are told apart by their names.
fn merged<'u>(kinds: Vec<Kind<'u>>, outside: &mut BTreeMap<String, BTreeSet<String>>) -> Vec<Kind<'u>> {
    let mut by_labels: BTreeMap<BTreeMap<&str, &str>, Vec<Kind<'u>>> = BTreeMap::new();
    for kind in kinds {
        by_labels.entry(kind.labels.clone()).or_default().push(kind);
    }
    let mut all = Vec::new();
    for (labels, kinds) in by_labels {
        let template = kinds.iter().find(|kind| kind.pods.is_empty()).map(|kind| kind.chain);
        let chains: BTreeSet<Option<usize>> = kinds.iter().map(|kind| kind.chain).collect();
        let by_name = labels.is_empty() || (chains.len() > 1 && template.is_none());
        let mut joined: BTreeMap<Option<usize>, Kind<'u>> = BTreeMap::new();
        for kind in kinds {
            if template.is_some_and(|template| template != kind.chain) {
                let why =
                    "they have the labels of a template that says otherwise, and what it says is written";
                outside.entry(why.to_owned()).or_default().extend(kind.objects);
                continue;
            }
            match joined.get_mut(&kind.chain) {
                Some(into) => {
                    into.pods.extend(kind.pods);
                    into.objects.extend(kind.objects);
                }
                None => drop(joined.insert(kind.chain, Kind { by_name, ..kind })),
            }
        }
        all.extend(joined.into_values());
    }
    all
}

/// Labels by which people tell what a pod is, the best first.
const TELLING: [&str; 7] = [
    "app",
    "app.kubernetes.io/name",
    "k8s-app",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "name",
    "component",
];

type Chosen = (usize, Vec<Selector>, BTreeSet<String>);

/// The workloads of one namespace, without its name.
fn within(
    kinds: &[Kind<'_>],
    usual: Option<usize>,
    opt_out: Option<(&str, &str)>,
    outside: &mut BTreeMap<String, BTreeSet<String>>,
) -> Vec<Chosen> {
    let common: Vec<Selector> =
        opt_out.iter().map(|(key, value)| Selector::label(key, value).not()).collect();
    let leaves = |kind: &Kind<'_>| {
        kind.chain.is_none() && opt_out.is_some_and(|(key, value)| kind.labels.get(key) == Some(&value))
    };
    let apart: Vec<&Kind<'_>> =
        kinds.iter().filter(|kind| (usual.is_none() || kind.chain != usual) && !leaves(kind)).collect();
    let key = telling(kinds, &apart);
    let mut chosen: Vec<Chosen> = Vec::new();
    let mut nots: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    if let Some(key) = key {
        let mut by_chain: BTreeMap<Option<usize>, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
        for kind in &apart {
            let (values, objects) = by_chain.entry(kind.chain).or_default();
            values.extend(kind.labels.get(key).map(|value| (*value).to_owned()));
            objects.extend(kind.objects.iter().cloned());
        }
        let what = format!("label {key}");
        for (chain, (values, objects)) in by_chain {
            match chain {
                Some(chain) => {
                    let mut selectors = common.clone();
                    selectors.push(Selector { is_not: false, what: what.clone(), values });
                    chosen.push((chain, selectors, objects));
                }
                None => drop(nots.insert(what.clone(), values)),
            }
        }
        if usual.is_none() {
            nots.clear();
        }
    } else {
        // What tells strangers from all pods of the namespace's own workload.
        let of_usual: Vec<&Kind<'_>> =
            kinds.iter().filter(|kind| usual.is_some() && kind.chain == usual).collect();
        for stranger in apart.iter().filter(|kind| usual.is_some() && kind.chain.is_none()) {
            let own = |(key, value): &(&&str, &&str)| {
                of_usual.iter().all(|kind| kind.labels.get(*key) != Some(*value))
            };
            match stranger.labels.iter().find(own) {
                Some((key, value)) => {
                    nots.entry(format!("label {key}")).or_default().insert((*value).to_owned());
                }
                None => {
                    let why =
                        "but no label tells its pods from those of its namespace, which are: give it one"
                            .to_owned();
                    outside.entry(why).or_default().extend(stranger.objects.iter().cloned());
                }
            }
        }
        let not = |(what, values): (&String, &BTreeSet<String>)| Selector {
            is_not: true,
            what: what.clone(),
            values: values.clone(),
        };
        let common: Vec<Selector> = common.iter().cloned().chain(nots.iter().map(not)).collect();
        chosen = by_all_labels(kinds, &apart, &common, outside);
    }
    if let Some(usual) = usual {
        let not = |(what, values)| Selector { is_not: true, what, values };
        let selectors = common.iter().cloned().chain(nots.into_iter().map(not)).collect();
        let objects =
            kinds.iter().filter(|kind| kind.chain == Some(usual)).flat_map(|kind| kind.objects.clone());
        chosen.push((usual, selectors, objects.collect()));
    }
    chosen
}

/// The label that tells these apart from all that are under something else.
fn telling<'u>(kinds: &[Kind<'u>], apart: &[&Kind<'u>]) -> Option<&'u str> {
    let first = apart.first()?;
    let rest = first.labels.keys().copied().filter(|key| !TELLING.contains(key));
    let known = TELLING.iter().filter_map(|key| first.labels.get_key_value(key).map(|(key, _)| *key));
    known.chain(rest).find(|key| {
        let mut chains: BTreeMap<&str, Option<usize>> = BTreeMap::new();
        apart.iter().all(|kind| !kind.by_name && kind.labels.contains_key(key))
            && kinds.iter().all(|kind| {
                let Some(value) = kind.labels.get(key) else { return true };
                *chains.entry(value).or_insert(kind.chain) == kind.chain
            })
    })
}

/// Each kind by all that it has, and by what others have and it has not: no two of them select one pod.
fn by_all_labels(
    kinds: &[Kind<'_>],
    apart: &[&Kind<'_>],
    common: &[Selector],
    outside: &mut BTreeMap<String, BTreeSet<String>>,
) -> Vec<Chosen> {
    let mut chosen = Vec::new();
    for kind in apart {
        let Some(chain) = kind.chain else { continue };
        if kind.by_name && kind.pods.is_empty() {
            let why = "no label tells its pods from others that are under something else".to_owned();
            outside.entry(why).or_default().extend(kind.objects.iter().cloned());
            continue;
        }
        let has = |selector: &Selector| {
            let label =
                kind.labels.iter().find(|(key, _)| selector.what.strip_prefix("label ") == Some(**key));
            label.is_some_and(|(_, value)| selector.values.contains(*value))
        };
        let mut selectors: BTreeSet<Selector> = common.iter().filter(|not| !has(not)).cloned().collect();
        if kind.by_name {
            let values = kind.pods.iter().map(|pod| (*pod).to_owned()).collect();
            selectors.insert(Selector { is_not: false, what: "pod".into(), values });
        } else {
            selectors.extend(kind.labels.iter().map(|(key, value)| Selector::label(key, value)));
        }
        for other in kinds {
            let agree =
                other.labels.iter().all(|(key, value)| kind.labels.get(key).is_none_or(|own| own == value));
            // Pods are told apart by their names from those with the same labels alone.
            let more = other.labels.iter().find(|(key, value)| kind.labels.get(*key) != Some(value));
            if let (true, Some((key, value))) = (agree || kind.by_name, more) {
                selectors.insert(Selector::label(key, value).not());
            }
        }
        chosen.push((chain, selectors.into_iter().collect(), kind.objects.clone()));
    }
    chosen
}

/// What a workload would best be called.
fn wanted(selectors: &[Selector], namespaces: &BTreeSet<&str>) -> String {
    let own = selectors.iter().find(|selector| !selector.is_not);
    let value = own.and_then(|selector| selector.values.first()).map(String::as_str);
    value.or_else(|| namespaces.first().copied()).unwrap_or("pods").to_owned()
}

struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// A name that nothing has yet.
    fn fresh(&mut self, wanted: &str) -> String {
        let letter = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
        let mut name: String = wanted.chars().map(letter).take(60).collect();
        while name.ends_with('-') {
            name.pop();
        }
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            name = format!("pods-{name}").trim_end_matches('-').to_owned();
        }
        if is_reserved(&name) {
            name.push_str("-pods");
        }
        let mut fresh = name.clone();
        let mut count = 2;
        while !self.taken.insert(fresh.clone()) {
            fresh = format!("{name}-{count}");
            count += 1;
        }
        fresh
    }
}
