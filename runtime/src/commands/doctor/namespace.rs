//! Network namespaces that probes have for themselves.

use std::net::IpAddr;

use crate::system::linux::{apart, new_network};

/// The namespace that a thread is in, as a file that stands for it.
pub(super) const HERE: &str = "/proc/thread-self/ns/net";

/// Runs a probe in a network namespace of its own, which has these addresses: that of a thread which ends at once.
pub(super) fn in_a_namespace<T: Send>(
    addresses: &[IpAddr],
    probe: impl FnOnce() -> Result<T, String> + Send,
) -> Result<T, String> {
    let inside = apart(|| {
        Ok(match new_network(addresses) {
            Ok(()) => probe(),
            Err(error) => Err(format!("a network namespace cannot be made: {error}")),
        })
    });
    inside.unwrap_or_else(|error| Err(error.to_string()))
}
