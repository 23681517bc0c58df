//! What is live, by the marker in the host's table, and the policy that it names.

use mesh_bpf::map::Table;
use mesh_bpf::membership::Membership;
use mesh_bpf::tables::Tables;
use mesh_nft::{Marker, TableName};

use super::target::Target;
use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::node::Node;
use crate::owner::Owner;
use crate::state::record::{self, Record};
use crate::system::System;

/// The instance's table, in every namespace.
pub(crate) fn table(instance: &Instance) -> TableName {
    // Names of instances begin with it already.
    TableName::of(instance.name.strip_prefix("meshc-").unwrap_or(&instance.name))
}

/// The marker of a namespace; `None` where nothing is loaded there.
pub(crate) fn marker<S: System>(node: Node<'_, S>, target: &Target) -> Result<Option<Marker>> {
    let chains = node.system.chains(&target.netns, target.cookie, table(node.instance).as_str())?;
    Ok(chains.iter().find_map(|name| Marker::parse(name)))
}

/// That of the host.
pub(crate) fn host_marker<S: System>(node: Node<'_, S>) -> Result<Option<Marker>> {
    Target::host(node)?.map_or(Ok(None), |host| marker(node, &host))
}

/// What is live, with its policy.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) generation: u64,
    /// It is kept, and decides nothing.
    pub(crate) paused: bool,
    /// Of the policy, in hexadecimal.
    pub(crate) digest: String,
    pub(crate) owner: Owner,
    pub(crate) tables: Tables,
    pub(crate) membership: Membership,
}

/// What is live; `None` where nothing is.
///
/// # Errors
/// Where the policy that a marker names is not kept any more.
pub(crate) fn live<S: System>(node: Node<'_, S>) -> Result<Option<Live>> {
    host_marker(node)?.map(|marker| policy(node, &marker)).transpose()
}

/// The policy of a marker.
pub(crate) fn policy<S: System>(node: Node<'_, S>, marker: &Marker) -> Result<Live> {
    let lost = || Error::PolicyLost(marker.generation);
    let digest = digest(node, marker)?.ok_or_else(lost)?;
    let (tables, _) = record::artifact(node, &digest)?.ok_or_else(lost)?;
    let membership = Membership::read(tables.get(Table::Names))?;
    let owner = record_of(node, marker)?.map_or(Owner::Cli, |record| record.owner);
    let (generation, paused) = (marker.generation, marker.paused);
    Ok(Live { generation, paused, digest, owner, tables, membership })
}

/// The whole digest that a marker has the beginning of, by the policies that are kept.
fn digest<S: System>(node: Node<'_, S>, marker: &Marker) -> Result<Option<String>> {
    let beginning = beginning(marker);
    let names = node.system.list(&node.instance.artifacts())?.unwrap_or_default();
    Ok(names.into_iter().find(|name| name.starts_with(&beginning) && !name.contains('.')))
}

/// The beginning of the digest that a marker has, in hexadecimal.
pub(crate) fn beginning(marker: &Marker) -> String {
    record::hex(&marker.tables)
}

/// Whether a record is of what a marker names.
pub(crate) fn is_of(record: &Record, marker: &Marker) -> bool {
    record.generation == marker.generation && record.digest.starts_with(&beginning(marker))
}

/// What is remembered of what a marker names.
pub(crate) fn record_of<S: System>(node: Node<'_, S>, marker: &Marker) -> Result<Option<Record>> {
    let history = node.instance.history().join(marker.generation.to_string());
    for file in [node.instance.current(), node.instance.pending(), history] {
        if let Ok(Some(record)) = record::read::<Record>(node.system, &file)
            && is_of(&record, marker)
        {
            return Ok(Some(record));
        }
    }
    Ok(None)
}
