//! A policy as the page reads it: everything once, and numbers for what occurs again.

use std::collections::BTreeMap;

use mesh_bpf::flow::{Direction, Verdict};
use mesh_bpf::image::{Classes, IdRange, Profile, SourceId, SourceKind, Workload, parents};
use mesh_bpf::item::counter_key;
use mesh_bpf::prefix::Prefix;
use mesh_bpf::selector::{Condition, Selector, Subject};
use serde::Serialize;

use crate::Policy;
use crate::numbers::Numbers;
use crate::rules::{Rules, rules};

/// A policy. What the fields mean for the page is said in `page/walk.js`.
#[derive(Serialize)]
pub(crate) struct Model<'a> {
    name: &'a str,
    sources: Vec<(u8, &'a str, &'a str, &'static str, &'a str)>,
    prefixes: Vec<String>,
    verdicts: Vec<(&'static str, u16, bool)>,
    ports: Vec<Vec<u32>>,
    trees: Vec<Vec<u32>>,
    profiles: Vec<ProfileModel<'a>>,
    workloads: Vec<WorkloadModel<'a>>,
    groups: Vec<(String, Vec<u32>)>,
    sets: Vec<(&'a str, Vec<u32>)>,
    rules: Option<Rules>,
    /// Source, its item's prefix, file and line, for items whose lines are known and whose rules are not here.
    lines: Vec<(u32, u32, String, u32)>,
}

#[derive(Serialize)]
struct ProfileModel<'a> {
    name: &'a str,
    /// For each direction: the tree on all addresses, and that on a member's own.
    sides: [[u32; 2]; 2],
    uids: Vec<(u32, u32, u32)>,
    gids: Vec<(u32, u32, u32)>,
    cgroups: Vec<(&'a str, u32)>,
    interfaces: Vec<(&'a str, u32)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    classes: Option<ClassesModel<'a>>,
    missing_sidecar_refuse: bool,
    failed_attach_refuse: bool,
}

#[derive(Serialize)]
struct ClassesModel<'a> {
    uids: Vec<(u32, u32, u32)>,
    gids: Vec<(u32, u32, u32)>,
    cgroups: Vec<(&'a str, u32)>,
    /// How many parts there are of groups, cgroups and other ends.
    parts: [u32; 3],
    cells: &'a [u32],
    sides: Vec<[u32; 2]>,
    /// What is decided about what comes from the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    from_node: Option<[u32; 2]>,
}

#[derive(Serialize)]
struct WorkloadModel<'a> {
    name: &'a str,
    profile: u32,
    /// What selects its members, a line each.
    selects: Vec<String>,
    /// Its addresses, where addresses alone select its members.
    addresses: Vec<u32>,
}

/// The model of a policy.
pub(crate) fn model<'a>(policy: &'a Policy<'a>) -> Model<'a> {
    let image = policy.image;
    let mut numbers = Numbers::default();
    let profiles = image.profiles.iter().map(|one| profile(one, &mut numbers)).collect();
    let ports = image.port_tables.iter().map(|table| numbers.ports(table)).collect();
    let workloads = image.workloads.iter().map(|one| workload(one, &mut numbers)).collect();
    let mut sets = Vec::new();
    for (name, prefixes) in &policy.sets {
        let prefixes = prefixes.iter().map(|&prefix| numbers.prefixes.of(prefix)).collect();
        sets.push((name.as_str(), prefixes));
    }
    let (rules, groups) = policy.source.as_ref().map_or((None, Vec::new()), |source| {
        let (rules, groups) = rules(source, image, &mut numbers);
        (Some(rules), groups)
    });
    let lines = if rules.is_some() { Vec::new() } else { lines(policy, &mut numbers) };
    let kind = |kind: SourceKind| kind as u8;
    let preposition = |direction: Option<Direction>| direction.map_or("", Direction::preposition);
    Model {
        name: policy.name,
        sources: (image.sources.iter())
            .map(|it| {
                (kind(it.kind), it.scope.as_str(), it.head.as_str(), preposition(it.direction), &*it.tail)
            })
            .collect(),
        profiles,
        ports,
        workloads,
        groups,
        sets,
        rules,
        lines,
        trees: numbers.trees.into_values(),
        prefixes: numbers.prefixes.into_values().iter().map(ToString::to_string).collect(),
        verdicts: (numbers.verdicts.into_values().into_iter())
            .map(|verdict| (verdict.word(), verdict.port().unwrap_or(0), is_transparent(verdict)))
            .collect(),
    }
}

const fn is_transparent(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Redirected { transparent: true, .. })
}

fn profile<'a>(of: &'a Profile, numbers: &mut Numbers) -> ProfileModel<'a> {
    let [outbound, inbound] = &of.sides;
    let sides = [numbers.side(outbound), numbers.side(inbound)];
    ProfileModel {
        name: &of.name,
        sides,
        uids: ids(&of.exempt.uids, |source| source.0),
        gids: ids(&of.exempt.gids, |source| source.0),
        cgroups: of.exempt.cgroups.iter().map(|(path, source)| (path.as_str(), source.0)).collect(),
        interfaces: of.exempt.interfaces.iter().map(|(name, source)| (name.as_str(), source.0)).collect(),
        classes: (of.classes != Classes::default()).then(|| classes(&of.classes, numbers)),
        missing_sidecar_refuse: of.missing_sidecar_refuse,
        failed_attach_refuse: of.failed_attach_refuse,
    }
}

fn classes<'a>(of: &'a Classes, numbers: &mut Numbers) -> ClassesModel<'a> {
    let [_, gids, cgroups, ends] = of.parts();
    ClassesModel {
        uids: ids(&of.uids, |part| part),
        gids: ids(&of.gids, |part| part),
        cgroups: of.cgroups.iter().map(|(path, part)| (path.as_str(), *part)).collect(),
        parts: [gids, cgroups, ends],
        cells: &of.cells,
        sides: of.sides.iter().map(|side| numbers.side(side)).collect(),
        from_node: of.from_node.as_ref().map(|side| numbers.side(side)),
    }
}

fn ids<T: Copy>(ranges: &[(IdRange, T)], value: impl Fn(T) -> u32) -> Vec<(u32, u32, u32)> {
    ranges.iter().map(|&(range, of)| (range.first, range.last, value(of))).collect()
}

fn workload<'a>(of: &'a Workload, numbers: &mut Numbers) -> WorkloadModel<'a> {
    let by_address = of.selector.is_by_address().then_some(&of.selector.addresses);
    WorkloadModel {
        name: &of.name,
        profile: of.profile.0,
        selects: selects(&of.selector),
        addresses: by_address.into_iter().flatten().map(|&prefix| numbers.prefixes.of(prefix)).collect(),
    }
}

/// The lines of a selector, as a policy writes them.
fn selects(selector: &Selector) -> Vec<String> {
    let addresses: Vec<String> = selector.addresses.iter().map(ToString::to_string).collect();
    let addresses = (!addresses.is_empty()).then(|| format!("address {}", addresses.join(", ")));
    let cgroups = selector.cgroups.iter().map(|path| format!("cgroup \"{path}\""));
    let all: Vec<String> =
        addresses.into_iter().chain(cgroups).chain(selector.conditions.iter().map(condition)).collect();
    if all.is_empty() { vec!["any".to_owned()] } else { all }
}

fn condition(of: &Condition) -> String {
    let (subject, between) = match &of.subject {
        Subject::Namespace => ("namespace".to_owned(), " "),
        Subject::Label(key) => (format!("label {key}"), " = "),
        Subject::NamespaceLabel(key) => (format!("namespace-label {key}"), " = "),
        Subject::ServiceAccount => ("service-account".to_owned(), " "),
        Subject::Pod => ("pod".to_owned(), " "),
    };
    let not = if of.negated { "not " } else { "" };
    let between = if of.values.is_empty() { "" } else { between };
    format!("{not}{subject}{between}{}", of.values.join(", "))
}

/// The lines of all items that decide something.
fn lines(policy: &Policy<'_>, numbers: &mut Numbers) -> Vec<(u32, u32, String, u32)> {
    let image = policy.image;
    let mut items: BTreeMap<(SourceId, Prefix), ()> = BTreeMap::new();
    let sides = image.profiles.iter().flat_map(|one| Direction::ALL.map(|of| one.trees(of))).flatten();
    for tree in sides.flat_map(|side| [&side.tree, &side.own]) {
        let parents = parents(tree);
        for (at, node) in tree.iter().enumerate() {
            let tables = node.ports.iter().filter_map(|&id| image.port_table(id));
            for &(_, decision) in tables.flat_map(|table| &table.stretches) {
                let above = (0..decision.up).try_fold(at, |at, _| Some((*parents.get(at)?)? as usize));
                if let Some(item) = above.and_then(|at| tree.get(at)) {
                    items.insert((decision.source, item.prefix), ());
                }
            }
        }
    }
    let exempt = image.profiles.iter().flat_map(|one| {
        let ids = one.exempt.uids.iter().chain(&one.exempt.gids).map(|&(_, source)| source);
        let cgroups = one.exempt.cgroups.iter().map(|&(_, source)| source);
        ids.chain(cgroups).chain(one.exempt.interfaces.iter().map(|&(_, source)| source))
    });
    items.extend(exempt.map(|source| ((source, Prefix::Any), ())));
    (items.into_keys())
        .filter_map(|(id, prefix)| {
            let source = image.source(id);
            let hash = source.stable_hash();
            let key = if source.kind == SourceKind::Exempt { hash } else { counter_key(hash, prefix) };
            let (file, line) = (policy.place)(key, &source.text(prefix))?;
            Some((id.0, numbers.prefixes.of(prefix), file, line))
        })
        .collect()
}
