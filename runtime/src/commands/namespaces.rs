//! Labels of Kubernetes namespaces: whoever knows them tells them here, and the pods move.

use std::collections::BTreeMap;

use mesh_bpf::membership::Membership;
use mesh_bpf::text::{is_obeyed, one_line};

use crate::commands::transition::Move;
use crate::error::{Error, Result};
use crate::maps::live::{self, membership};
use crate::maps::pinned::PinnedMaps;
use crate::maps::slot::PerSlot;
use crate::member::{Member, Origin};
use crate::members::pod::Labels;
use crate::members::registry::Registry;
use crate::members::{files, namespaces};
use crate::node::Node;
use crate::runtime::Runtime;
use crate::state::lock::lock;
use crate::state::record;
use crate::system::System;

impl<S: System> Runtime<S> {
    /// The labels of every namespace that has some, as the node was told.
    ///
    /// # Errors
    /// Where the state directory cannot be read.
    pub fn namespaces(&self) -> Result<BTreeMap<String, Labels>> {
        namespaces::all(self.node())
    }

    /// Takes over what all the labels of these namespaces are. Their pods have them from then on, also where others
    /// were told as one was attached, and so have those that will come. Returns the pods that joined, left or
    /// changed workload.
    ///
    /// # Errors
    /// Where two workloads would select a pod and neither is narrower, or a name or label has control characters;
    /// else what the kernel says. Then all is as it was before.
    pub fn label_namespaces(&self, told: &BTreeMap<String, Labels>) -> Result<Vec<Move>> {
        let labels = told.values().flatten().flat_map(|(key, value)| [key, value]);
        if let Some(word) = told.keys().chain(labels).find(|word| word.contains(is_obeyed)) {
            return Err(Error::BadWord(one_line(word).into_owned()));
        }
        let node = self.node();
        if self.is_by_rulesets() {
            return self.label_namespaces_rulesets(told);
        }
        let mut again = false;
        loop {
            let held = lock(node, &node.instance.maps(), self.options.lock_timeout)?;
            record::create_dirs(node)?;
            files::create_dir(node)?;
            let maps = if held.is_some() { PinnedMaps::open(node)? } else { None };
            let moved = relabel(node, maps.as_ref(), told, again)?;
            // A first apply may have read the members before they had these labels.
            if maps.is_some() || node.system.inode(&node.instance.maps())?.is_none() {
                return Ok(moved);
            }
            again = true;
        }
    }
}

/// A pod as it was, and as it is with other labels of its namespace.
struct Relabelled {
    before: Member,
    after: Member,
}

/// Gives pods the labels of their namespaces, and notes them: `again`, also pods that have them by their files. The
/// lock is held.
fn relabel<S: System>(
    node: Node<'_, S>,
    maps: Option<&PinnedMaps<S>>,
    told: &BTreeMap<String, Labels>,
    again: bool,
) -> Result<Vec<Move>> {
    let registry = maps.map(|maps| Registry::new(node, maps));
    let recover = || registry.as_ref().map_or(Ok(()), Registry::recover);
    recover()?;
    let live = maps.map(|maps| live::live(node.system, maps)).transpose()?.flatten();
    let policy =
        maps.zip(live.as_ref()).map(|(maps, live)| membership(node.system, maps, live)).transpose()?;
    let policies = PerSlot::of(live.as_ref().map_or(0, live::Live::slot), policy.as_ref(), None);
    let put = |member: &Member| match &registry {
        Some(registry) => registry.change(member, policies),
        None => record::write(node.system, &files::place(node, member.key), member, false),
    };
    relabel_with(node, policy.as_ref(), told, again, (put, recover))
}

/// The same, however a member is made what it is, and what was not finished is put back.
pub(super) fn relabel_with<S: System>(
    node: Node<'_, S>,
    policy: Option<&Membership>,
    told: &BTreeMap<String, Labels>,
    again: bool,
    (put, recover): (impl Fn(&Member) -> Result<()>, impl Fn() -> Result<()>),
) -> Result<Vec<Move>> {
    let pods: Vec<Relabelled> = (files::members(node)?.into_iter())
        .filter(|member| member.origin == Origin::Attached)
        .filter_map(|before| {
            let labels = told.get(before.namespace.as_ref()?)?.clone();
            let is_news = again || before.namespace_labels != labels;
            is_news
                .then(|| Relabelled { after: Member { namespace_labels: labels, ..before.clone() }, before })
        })
        .collect();
    let moves = moves(&pods, policy)?;
    let mut known = BTreeMap::new();
    for name in told.keys() {
        known.insert(name, namespaces::labels(node, name)?);
    }
    let moved = pods.iter().try_for_each(|pod| put(&pod.after));
    let noted = || told.iter().try_for_each(|(name, labels)| namespaces::note(node, name, labels));
    moved.and_then(|()| noted()).inspect_err(|_| {
        // As with an attach: who cannot be put back now is by the next command.
        drop(recover());
        pods.iter().for_each(|pod| drop(put(&pod.before)));
        known.iter().for_each(|(name, labels)| drop(namespaces::note(node, name, labels)));
    })?;
    Ok(moves)
}

/// Whose workload is another one then.
fn moves(pods: &[Relabelled], policy: Option<&Membership>) -> Result<Vec<Move>> {
    let Some(policy) = policy else { return Ok(Vec::new()) };
    let mut moves = Vec::new();
    for Relabelled { before, after } in pods {
        let name = |member: &Member| -> Result<Option<String>> {
            Ok(member.workload(policy)?.map(|workload| workload.name.clone()))
        };
        let (from, to) = (name(before).ok().flatten(), name(after)?);
        if from != to {
            moves.push(Move { name: before.name.clone(), namespace: before.namespace.clone(), from, to });
        }
    }
    moves.sort();
    Ok(moves)
}
