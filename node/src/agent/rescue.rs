//! Helps readers of accelerated connections that stall.

use std::time::{Duration, Instant};

use mesh_runtime::Warning;
use tracing::warn;

use super::log::{self, LastSaid};
use super::state::Shared;

/// How often readers are looked for, while anything is accelerated.
pub(super) const RESCUE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Rescuer {
    /// When readers were last looked for.
    last: Option<Instant>,
    said: LastSaid,
}

impl Rescuer {
    /// Helps them; whether there may be any.
    pub(super) fn rescue(&mut self, shared: &Shared) -> bool {
        let runtime = &shared.runtime;
        if self.last.is_some_and(|last| last.elapsed() < RESCUE / 2) {
            return true;
        }
        if !matches!(runtime.accelerates(), Ok(true)) {
            return false;
        }
        let failed = match runtime.rescue() {
            Ok(helped) => {
                for one in helped {
                    let warning = Warning::ReaderHelped(one.clone());
                    warn!(
                        code = warning.code(), name = one.name, process = one.process, client = %one.client,
                        server = %one.server, why = one.why.word(), unread = one.unread,
                        "{}", (shared.wording.warning)(&warning)
                    );
                }
                None
            }
            Err(error) => Some(error),
        };
        let is_news = self.said.is_new_error(failed.as_ref());
        if let Some(error) = failed.filter(|_| is_news) {
            log::failed("stalled readers cannot be helped", &error);
        }
        self.last = Some(Instant::now());
        true
    }
}
