//! What changes for a workload beside the verdicts of its flows.

use std::collections::BTreeSet;

use mesh_bpf::image::{MapImage, Profile};

use crate::emit::selector_lines;

/// An identity that is exempt on one side alone: with it, all outbound flows go straight.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExemptionChange {
    /// `mesh/workload`.
    pub workload: String,
    /// `uid 1500`
    pub identity: String,
    /// Whether it is exempt now, else it was.
    pub exempt: bool,
}

/// A workload with other selectors, or that only one side has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberChange {
    /// `mesh/workload`.
    pub workload: String,
    /// Its selectors before, a line each; none where it is new.
    pub before: Option<Vec<String>>,
    /// Its selectors now; none where it is gone.
    pub after: Option<Vec<String>>,
}

/// What `on` or `accelerate` says on one side alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SettingChange {
    /// `mesh/workload`.
    pub workload: String,
    /// `on missing-sidecar pass`, `accelerate local tcp`
    pub setting: String,
    /// Whether it is so now, else it was.
    pub now: bool,
}

/// All exemptions that differ.
pub(super) fn exemptions(old: &MapImage, new: &MapImage) -> Vec<ExemptionChange> {
    let change = |workload, identity, exempt| ExemptionChange { workload, identity, exempt };
    compare(old, new, |_, profile| identities(profile), change)
}

/// All settings that differ, of workloads that both sides have.
pub(super) fn changes(old: &MapImage, new: &MapImage) -> Vec<SettingChange> {
    let both = |name: &str| old.workload(name).is_some() && new.workload(name).is_some();
    let change = |workload, setting, now| SettingChange { workload, setting, now };
    let mut changes = compare(old, new, settings, change);
    changes.retain(|change| both(&change.workload));
    changes
}

/// All workloads whose selectors differ.
pub(super) fn members(old: &MapImage, new: &MapImage) -> Vec<MemberChange> {
    let selectors =
        |image: &MapImage, name: &str| image.workload(name).map(|one| selector_lines(&one.selector));
    (super::workloads(old, new).into_iter())
        .map(|name| (name, selectors(old, name), selectors(new, name)))
        .filter(|(_, before, after)| before != after)
        .map(|(name, before, after)| MemberChange { workload: name.to_owned(), before, after })
        .collect()
}

/// What one side alone says of a workload.
fn compare<C>(
    old: &MapImage,
    new: &MapImage,
    words: impl Fn(&MapImage, &Profile) -> BTreeSet<String>,
    change: impl Fn(String, String, bool) -> C,
) -> Vec<C> {
    let mut changes = Vec::new();
    for name in super::workloads(old, new) {
        let of = |image: &MapImage| {
            let profile = image.workload(name).and_then(|workload| image.profile(workload.profile));
            profile.map_or_else(BTreeSet::new, |profile| words(image, profile))
        };
        let (before, after) = (of(old), of(new));
        changes.extend(before.difference(&after).map(|word| change(name.to_owned(), word.clone(), false)));
        changes.extend(after.difference(&before).map(|word| change(name.to_owned(), word.clone(), true)));
    }
    changes
}

fn identities(profile: &Profile) -> BTreeSet<String> {
    let exempt = &profile.exempt;
    let uids = exempt.uids.iter().map(|(range, _)| format!("uid {range}"));
    let gids = exempt.gids.iter().map(|(range, _)| format!("gid {range}"));
    let cgroups = exempt.cgroups.iter().map(|(path, _)| format!("cgroup \"{path}\""));
    uids.chain(gids).chain(cgroups).collect()
}

fn settings(image: &MapImage, profile: &Profile) -> BTreeSet<String> {
    let answer = |refuse, other| if refuse { "refuse" } else { other };
    let acceleration = &profile.acceleration;
    let accelerated = acceleration.local.iter().chain(acceleration.peers.values().flatten());
    let mut settings: BTreeSet<String> =
        accelerated.map(|(_, source)| image.source(*source).head.clone()).collect();
    settings.insert(format!("on missing-sidecar {}", answer(profile.missing_sidecar_refuse, "pass")));
    settings.insert(format!("on failed-attach {}", answer(profile.failed_attach_refuse, "start")));
    settings
}
