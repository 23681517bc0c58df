//! The program of the host, where the live policy needs it no more.

use mesh_bpf::map::Table;

use crate::attach::host;
use crate::error::Result;
use crate::maps::live::{self, membership};
use crate::maps::slot;
use crate::members::files;
use crate::members::registry::Registry;
use crate::system::System;

/// Takes the host's program away where no command and no service of the live policy needs it. The registry's lock is
/// held.
pub(crate) fn leave<S: System>(registry: &Registry<'_, S>) -> Result<()> {
    let Registry { node, maps, .. } = *registry;
    if maps.control.load(node.system).host == 0 {
        return Ok(());
    }
    let Some(live) = live::live(node.system, maps)? else { return Ok(()) };
    let policy = membership(node.system, maps, &live)?;
    let profiles = slot::read_table(node.system, maps, live.slot(), &live.manifest, Table::Profiles)?;
    if host::is_wanted(&profiles, &policy, &files::members_by_cgroup(node)?) {
        return Ok(());
    }
    host::detach(node, &maps.control)
}
