//! Names of things in the compiled output: owners of profiles, selectors, port tables.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::flow::Protocol;
use mesh_bpf::image::{MapImage, PortTableId, Side};
use mesh_bpf::prefix::Prefix;
use mesh_bpf::selector::{Condition, Selector, Subject};

/// Whose place a profile has in a map: its workload's, if one wrote in it alone, else its mesh's.
pub(super) fn owner(profile: &str) -> String {
    let mesh = profile.split(['+', '/']).next().unwrap_or_default();
    match profile.rsplit_once('/') {
        Some((_, workload)) => format!("{mesh}/{workload}"),
        None => mesh.to_owned(),
    }
}

/// Whether a profile is one workload's own, since that workload has something that no other has.
pub(super) fn is_of_workload(profile: &str) -> bool {
    profile.contains('/')
}

/// Every mesh and every workload, sorted: the places of a map.
pub(super) fn owners(image: &MapImage) -> BTreeSet<String> {
    let workloads = image.workloads.iter().map(|workload| workload.name.clone());
    let profiles = image.profiles.iter().map(|profile| owner(&profile.name));
    image.meshes.iter().cloned().chain(workloads).chain(profiles).collect()
}

/// Port tables of one direction of a profile, each by the first prefix and protocol that use it.
pub(super) struct TableNames {
    names: BTreeMap<PortTableId, TableName>,
    /// In order of first use.
    pub(super) order: Vec<PortTableId>,
}

/// The first use of a port table within one direction of a profile: its name in the compiled output.
#[derive(Clone, Copy, Debug)]
pub struct TableName {
    /// Whether it is in the tree of own addresses.
    pub own: bool,
    /// Index of the node in its tree.
    pub(super) node: usize,
    /// The node's prefix.
    pub prefix: Prefix,
    /// The protocol.
    pub protocol: Protocol,
}

impl TableName {
    /// What it is known by. The node's index is not part of it: it changes where another prefix comes.
    const fn key(&self) -> (bool, Prefix, Protocol) {
        (self.own, self.prefix, self.protocol)
    }
}

impl PartialEq for TableName {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for TableName {}

impl PartialOrd for TableName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TableName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.own {
            f.write_str("own ")?;
        }
        write!(f, "{} {}", self.prefix, self.protocol)
    }
}

impl TableNames {
    pub(super) fn of(side: &Side) -> Self {
        let mut names = Self { names: BTreeMap::new(), order: Vec::new() };
        let trees = [(false, &side.tree), (true, &side.own)];
        for (own, nodes) in trees {
            for (node, of) in nodes.iter().enumerate() {
                for protocol in Protocol::ALL {
                    let id = of.table(protocol);
                    names.names.entry(id).or_insert_with(|| {
                        names.order.push(id);
                        TableName { own, node, prefix: of.prefix, protocol }
                    });
                }
            }
        }
        names
    }

    pub(super) fn get(&self, id: PortTableId) -> Option<&TableName> {
        self.names.get(&id)
    }
}

/// The name of a port table that this direction of a profile uses.
#[must_use]
pub fn table_name(side: &Side, id: PortTableId) -> Option<TableName> {
    TableNames::of(side).get(id).copied()
}

/// A selector as a policy writes it, a line each.
#[must_use]
pub fn selector_lines(selector: &Selector) -> Vec<String> {
    let mut lines: Vec<String> =
        selector.addresses.iter().map(|prefix| format!("address {prefix}")).collect();
    lines.extend(selector.cgroups.iter().map(|path| format!("cgroup \"{path}\"")));
    lines.extend(selector.conditions.iter().map(condition));
    if lines.is_empty() {
        lines.push("any".to_owned());
    }
    lines
}

fn condition(condition: &Condition) -> String {
    let not = if condition.negated { "not " } else { "" };
    let values: Vec<String> = condition.values.iter().map(|value| word(value)).collect();
    let values = values.join(", ");
    match &condition.subject {
        Subject::Namespace => format!("{not}namespace {values}"),
        Subject::ServiceAccount => format!("{not}service-account {values}"),
        Subject::Pod => format!("{not}pod {values}"),
        Subject::Label(key) if values.is_empty() => format!("{not}label {}", word(key)),
        Subject::Label(key) => format!("{not}label {} = {values}", word(key)),
    }
}

/// A value that is no plain word is quoted.
fn word(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    if !value.is_empty() && value.chars().all(plain) { value.to_owned() } else { format!("\"{value}\"") }
}
