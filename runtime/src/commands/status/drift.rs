//! What differs from what was applied.

use mesh_bpf::map::Table;

use crate::acceleration;
use crate::attach::{hooks, host};
use crate::drift::Drift;
use crate::error::Result;
use crate::maps::live::{Live, membership};
use crate::maps::pinned::PinnedMaps;
use crate::maps::slot;
use crate::members;
use crate::members::node_addresses;
use crate::node::Node;
use crate::system::System;

/// What differs from what was applied: tables, programs, members.
pub(super) fn drift<S: System>(node: Node<'_, S>, maps: &PinnedMaps<S>, live: &Live) -> Result<Vec<Drift>> {
    let mut drift = Vec::new();
    for table in Table::ALL.into_iter().skip(1) {
        let intact = slot::read_table(node.system, maps, live.slot(), &live.manifest, table)
            .is_ok_and(|data| data.digest() == live.manifest.table(table).digest);
        if !intact {
            drift.push(Drift::TableChanged(table));
        }
    }
    let profiles = slot::read_table(node.system, maps, live.slot(), &live.manifest, Table::Profiles);
    // Without it no program is attached, and that is said once.
    let is_there = node.is_cgroup()?;
    let missing = match &profiles {
        _ if !is_there => Vec::new(),
        Ok(profiles) => hooks::missing_for(node, profiles)?,
        Err(_) => hooks::missing(node)?,
    };
    if !is_there {
        drift.push(Drift::AttachedCgroupGone(node.instance.cgroup.clone()));
    }
    drift.extend(missing.into_iter().map(hooks::drift));
    drift.extend(host::drift_of(node, &maps.control)?);
    if profiles.as_ref().is_ok_and(node_addresses::are_asked) {
        drift.extend(node_addresses::drift(node.system, maps)?);
    }
    if is_there && profiles.is_ok_and(|profiles| acceleration::wanted(profiles.bytes())) {
        drift.extend(acceleration::missing(node)?.into_iter().map(Drift::AcceleratorMissing));
    }
    if let Ok(policy) = membership(node.system, maps, live) {
        drift.extend(members::drift::drift(node, maps, live.slot(), &policy)?);
    }
    Ok(drift)
}
