//! Keeps the CNI plugin in place.

use std::collections::BTreeSet;
use std::path::PathBuf;

use tracing::{info, warn};

use super::log::LastSaid;
use crate::install::{self, InstallTarget};

/// Where the plugin belongs and the program that it is; none where it is not the agent's to keep.
#[derive(Debug)]
pub(super) struct PluginKeeper {
    plugin: Option<(InstallTarget, PathBuf)>,
    said: LastSaid,
}

impl PluginKeeper {
    pub(super) fn new(plugin: Option<(InstallTarget, PathBuf)>) -> Self {
        Self { plugin, said: LastSaid::default() }
    }

    pub(super) fn keep(&mut self) {
        let Some((target, program)) = &self.plugin else { return };
        let wrong = match install::put(target, program) {
            Ok(done) => {
                if done.changed() {
                    let files = done.files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>();
                    info!(files = files.join(", "), program = done.program, "the CNI plugin is in place");
                }
                None
            }
            Err(error) => Some(error),
        };
        let is_news = self.said.is_news(wrong.as_ref().map(|wrong| (wrong.code(), wrong.path())));
        if let Some(wrong) = wrong.filter(|_| is_news) {
            let (code, error, help) = (wrong.code(), wrong.message(), wrong.help());
            warn!(code, error, help, "the CNI plugin is not in place");
        }
    }

    /// The directories in which it is.
    pub(super) fn dirs(&self) -> BTreeSet<PathBuf> {
        self.plugin.iter().flat_map(|(target, _)| target.dirs()).collect()
    }
}
