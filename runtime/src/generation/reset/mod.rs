//! Established connections keep the path that was decided when they were opened. Those of them that the live
//! policy decides otherwise are closed where that is asked for.

mod inbound;
mod judge;

use mesh_bpf::map::{CLIENT_FLOWS, LISTENING, MapDef};
use mesh_bpf::tables::Tables;

use self::judge::Judge;
use crate::error::Result;
use crate::maps::pinned::PinnedMaps;
use crate::node::Node;
use crate::system::{Noted, System};

/// Closes the connections of members that `tables`, which are live, decide otherwise than when they were
/// opened; how many.
pub(crate) fn close_changed<S: System>(
    node: Node<'_, S>,
    maps: &PinnedMaps<S>,
    tables: &Tables,
) -> Result<usize> {
    let open = |def: &MapDef| node.system.open_map(&node.instance.maps().join(def.name));
    let (Some(flows), Some(listening)) = (open(&CLIENT_FLOWS)?, open(&LISTENING)?) else { return Ok(0) };
    // Programs that read the word before the commit may still be about to keep what they decided.
    maps.grace_period(node.system)?;
    let judge = Judge::new(node, maps, tables)?;
    let mut changed = Vec::new();
    for (noted, socket) in node.system.connections(&flows, &listening)? {
        let otherwise = match &noted {
            Noted::Opened(flow) => judge.decides_otherwise(flow),
            Noted::Accepted(accepted) => judge.decides_inbound_otherwise(accepted)?,
        };
        if otherwise {
            changed.push(socket);
        }
    }
    Ok(if changed.is_empty() { 0 } else { node.system.close(&changed)? })
}
