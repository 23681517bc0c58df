//! What became of a connection, as its client and the server that it reached saw it.

use std::net::SocketAddr;

use mesh_testbed::{Client, Dialled, Errno};
use serde::{Deserialize, Serialize};

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Seen {
    /// It reached the sidecar on this port, which was told where it was going.
    Redirected(u16),
    /// It reached its destination.
    Straight,
    /// `connect` failed with `EPERM`.
    Denied,
    /// Anything else, none of which may be.
    Wrong(Wrong),
}

/// How a connection can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Wrong {
    /// `connect` failed otherwise.
    Error(i32),
    /// `getpeername` does not tell what was dialled.
    Peer,
    /// The sidecar was not told where it was going.
    Original,
    /// It arrived somewhere else.
    Destination,
}

/// Dials and tells what became of it.
pub(crate) fn seen(client: &Client, target: SocketAddr) -> Seen {
    match client.dial() {
        Ok(dialled) => judged(&dialled, target),
        Err(Errno::EPERM) => Seen::Denied,
        Err(Errno(error)) => Seen::Wrong(Wrong::Error(error)),
    }
}

/// What became of a connection whose server has greeted.
pub(crate) fn judged(dialled: &Dialled, target: SocketAddr) -> Seen {
    let arrival = &dialled.arrival;
    if canonical(dialled.peer) != target {
        return Seen::Wrong(Wrong::Peer);
    }
    match arrival.who.as_str() {
        "sidecar" if arrival.original() == Some(target) => Seen::Redirected(arrival.local.port()),
        "sidecar" => Seen::Wrong(Wrong::Original),
        _ if canonical(arrival.local) == target && arrival.original().is_none() => Seen::Straight,
        _ => Seen::Wrong(Wrong::Destination),
    }
}

/// A v4-mapped address as the v4 address that it means.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
