//! Flows of datagrams that go on by what was decided before: the kernel decides the first datagram of each, and tracks
//! the others.

use std::collections::BTreeSet;

use mesh_bpf::tables::Tables;

use super::target::Target;
use crate::error::{Error, Result};
use crate::members::reserved_ports;
use crate::node::Node;
use crate::system::{System, Tracked};
use crate::warning::Warning;

/// Forgets the flows that one policy decided and another takes over: the next datagram of each is decided by that. What
/// somebody else translates is left alone.
pub(crate) fn forget<S: System>(
    node: Node<'_, S>,
    before: Option<&Tables>,
    after: &Tables,
) -> Option<Warning> {
    let tables: Vec<&Tables> = before.into_iter().chain([after]).collect();
    let ports: BTreeSet<u16> = tables.iter().flat_map(|tables| reserved_ports::ports(tables)).collect();
    let is_ours =
        |flow: &Tracked| flow.answered_by == flow.destination || ports.contains(&flow.answered_by.port());
    forget_such(node, is_ours).err().map(|error| Warning::FlowsNotForgotten((&error).into()))
}

/// Forgets the flows that go to sidecars, now that they are to go straight. Where the kernel does not tell of them, they
/// end by themselves.
pub(crate) fn forget_redirected<S: System>(node: Node<'_, S>) {
    let ports = reserved_ports::wanted(node).unwrap_or_default();
    let is_ours =
        |flow: &Tracked| flow.answered_by != flow.destination && ports.contains(&flow.answered_by.port());
    let _ = forget_such(node, is_ours);
}

fn forget_such<S: System>(node: Node<'_, S>, is_ours: impl Fn(&Tracked) -> bool) -> Result<()> {
    for Target { netns, cookie, .. } in Target::all(node)? {
        let forgotten = node.system.tracked(&netns, cookie).and_then(|mut flows| {
            flows.retain(|flow| flow.is_udp && is_ours(flow));
            node.system.forget(&netns, cookie, &flows)
        });
        match forgotten {
            // It ended just now.
            Err(cause) if cause.has_ended() => {}
            forgotten => forgotten.map_err(Error::from)?,
        }
    }
    Ok(())
}
