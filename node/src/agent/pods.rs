//! Keeps the registry of pods true.

use tracing::info;

use super::log;
use super::state::Shared;

/// Pods that ended without a word go, and those that were let in without the mesh are tried again.
pub(super) fn keep(shared: &Shared) {
    match shared.runtime.sweep() {
        Ok(gone) => {
            shared.change(|state| state.swept += gone.len() as u64);
            for pod in gone {
                info!(pod = %pod, "a pod that ended was swept");
            }
        }
        Err(error) => log::failed("pods that ended cannot be swept", &error),
    }
    for failed in shared.runtime.failed().unwrap_or_default().into_iter().filter(|failed| failed.started) {
        if shared.runtime.attach(&failed.pod).is_ok() {
            info!(pod = failed.pod.name, namespace = failed.pod.namespace, "pod attached after all");
        }
    }
}
