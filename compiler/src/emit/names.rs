//! Names of things in the compiled output: owners of profiles, selectors.

use std::collections::BTreeSet;

use mesh_bpf::image::{Exempt, MapImage, SourceId};
use mesh_bpf::selector::{Condition, Selector, Subject};

/// Whose place a profile has among the entries: its workload's, if one wrote in it alone, else its mesh's.
pub(super) fn owner(profile: &str) -> String {
    let mesh = mesh(profile);
    match profile.rsplit_once('/') {
        Some((_, workload)) => format!("{mesh}/{workload}"),
        None => mesh.to_owned(),
    }
}

/// Whether a profile is one workload's own, since that workload has something that no other has.
pub(super) fn is_of_workload(profile: &str) -> bool {
    profile.contains('/')
}

/// Every mesh and every workload, sorted: the places of entries.
pub(super) fn owners(image: &MapImage) -> BTreeSet<String> {
    let workloads = image.workloads.iter().map(|workload| workload.name.clone());
    let profiles = image.profiles.iter().map(|profile| owner(&profile.name));
    image.meshes.iter().cloned().chain(workloads).chain(profiles).collect()
}

/// The mesh of a profile.
pub(super) fn mesh(profile: &str) -> &str {
    profile.split(['+', '/']).next().unwrap_or_default()
}

/// A scope, as it stands behind what it wrote.
pub(super) fn scope(name: &str) -> &str {
    if name.is_empty() { "top level" } else { name }
}

/// Exempt identities and interfaces as a policy writes them.
pub(super) fn identities(exempt: &Exempt) -> impl Iterator<Item = (String, SourceId)> + '_ {
    let uids = exempt.uids.iter().map(|&(range, source)| (format!("uid {range}"), source));
    let gids = exempt.gids.iter().map(|&(range, source)| (format!("gid {range}"), source));
    let cgroups = exempt.cgroups.iter().map(|(path, source)| (format!("cgroup \"{path}\""), *source));
    let interfaces =
        exempt.interfaces.iter().map(|(name, source)| (format!("interface \"{name}\""), *source));
    uids.chain(gids).chain(cgroups).chain(interfaces)
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
    let labelled = |subject, key| match values.as_str() {
        "" => format!("{not}{subject} {}", word(key)),
        values => format!("{not}{subject} {} = {values}", word(key)),
    };
    match &condition.subject {
        Subject::Namespace => format!("{not}namespace {values}"),
        Subject::ServiceAccount => format!("{not}service-account {values}"),
        Subject::Pod => format!("{not}pod {values}"),
        Subject::Label(key) => labelled("label", key),
        Subject::NamespaceLabel(key) => labelled("namespace-label", key),
    }
}

/// A value that is no plain word is quoted.
fn word(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    if !value.is_empty() && value.chars().all(plain) { value.to_owned() } else { format!("\"{value}\"") }
}
