//! What is loaded, by markers, numbers of commits and counters.

use std::collections::BTreeSet;

use mesh_bpf::membership::Membership;

use crate::commands::status::{Head, LivePolicy, RulesetStatus, State, Status, shown, workloads};
use crate::drift::Drift;
use crate::error::{Error, Result};
use crate::member::{Key, Origin};
use crate::members::{addresses, files, reserved_ports};
use crate::rulesets::live::{self, beginning, host_marker, record_of};
use crate::rulesets::load::Fault;
use crate::rulesets::target::Target;
use crate::rulesets::{hits, publish};
use crate::runtime::Runtime;
use crate::state::record;
use crate::system::System;

/// A fault of a namespace, as drift.
pub(super) fn drift_of(namespace: &str, fault: Fault) -> Drift {
    let namespace = namespace.to_owned();
    match fault {
        Fault::Missing => Drift::RulesetMissing(namespace),
        Fault::Behind(generation) => Drift::RulesetBehind { namespace, generation },
        Fault::Stale => Drift::RulesetStale(namespace),
        Fault::Changed => Drift::RulesetChanged(namespace),
    }
}

impl<S: System> Runtime<S> {
    pub(crate) fn head_rulesets(&self) -> Result<Head> {
        let node = self.node();
        let mut head = Head::default();
        let Some(marker) = host_marker(node)? else { return Ok(head) };
        head.state = if marker.paused { State::Paused } else { State::Active };
        head.generation = marker.generation;
        head.digest = beginning(&marker);
        if let Some(record) = record_of(node, &marker)? {
            head.digest = record.digest;
            head.owner = record.owner;
        }
        Ok(head)
    }

    pub(crate) fn live_rulesets(&self) -> Result<Option<LivePolicy>> {
        Ok(live::live(self.node())?.map(|live| LivePolicy {
            generation: live.generation,
            paused: live.paused,
            owner: live.owner,
            tables: live.tables,
        }))
    }

    pub(crate) fn status_rulesets(&self) -> Result<Status> {
        let node = self.node();
        let mut status = Status {
            record: record::read(node.system, &node.instance.current()).ok().flatten(),
            waiting: self.pending().ok().flatten(),
            failed: self.failed()?,
            ..Status::of(self.head_rulesets()?)
        };
        if status.head.generation == 0 {
            return Ok(status);
        }
        for target in Target::all(node)? {
            let marker = live::marker(node, &target)?;
            status.rulesets.push(RulesetStatus {
                namespace: target.name,
                generation: marker.map(|marker| marker.generation),
                paused: marker.is_some_and(|marker| marker.paused),
                commits: node.system.commits(&target.netns, target.cookie)?,
            });
        }
        status.hits = hits::all(node)?;
        let live = match live::live(node) {
            Err(error @ Error::PolicyLost(_)) => {
                status.drift.push(Drift::unreadable(&error));
                return Ok(status);
            }
            live => live?,
        };
        let Some(live) = live else { return Ok(status) };
        status.drift = self.ruleset_drift(&live)?;
        for member in files::members(node)? {
            let shown = shown(&member, &live.membership, None);
            if member.origin != Origin::Selector || shown.workload.is_some() {
                status.members.push(shown);
            }
        }
        status.workloads = workloads(&live.membership, &status.members, None);
        status.meshes = live.membership.meshes;
        Ok(status)
    }

    fn ruleset_drift(&self, live: &live::Live) -> Result<Vec<Drift>> {
        let node = self.node();
        let (faults, missing) = publish::faults(node, live)?;
        let mut drift: Vec<Drift> = missing.into_iter().map(Drift::CgroupMissing).collect();
        drift.extend(faults.into_iter().map(|(target, fault)| drift_of(&target.name, fault)));
        for member in files::members(node)? {
            drift.extend(addresses::moves(node.system, &member)?);
            drift.extend(reserved_ports::drift_of(node, &member)?);
        }
        for name in node.system.list(&node.instance.moving())?.unwrap_or_default() {
            drift.extend(name.parse::<Key>().ok().map(Drift::CommandUnfinished));
        }
        Ok(drift)
    }

    /// The cgroups that the live policy names, by their paths.
    pub(crate) fn named_by_live_rulesets(&self) -> Result<BTreeSet<String>> {
        let live = live::live(self.node())?;
        let named = |policy: &Membership| {
            let members = policy.workloads.iter().flat_map(|workload| &workload.selector.cgroups);
            members.chain(policy.named_cgroups()).cloned().collect()
        };
        Ok(live.map(|live| named(&live.membership)).unwrap_or_default())
    }
}
