//! Keeps the CNI plugin in place.

use std::collections::BTreeSet;
use std::path::PathBuf;

use tracing::{info, warn};

use super::log::LastSaid;
use crate::install::{self, Place};

/// The plugin's place and the program that it is; none where it is not the agent's to keep.
#[derive(Debug)]
pub(super) struct PluginKeeper {
    plugin: Option<(Place, PathBuf)>,
    said: LastSaid,
}

impl PluginKeeper {
    pub(super) fn new(plugin: Option<(Place, PathBuf)>) -> Self {
        Self { plugin, said: LastSaid::default() }
    }

    pub(super) fn keep(&mut self) {
        let Some((place, program)) = &self.plugin else { return };
        let wrong = match install::put(place, program) {
            Ok(done) => {
                if done.changed() {
                    let files = done.files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>();
                    info!(files = files.join(", "), program = done.program, "the CNI plugin is in place");
                }
                String::new()
            }
            Err(error) => error.message(),
        };
        if self.said.is_news(wrong.clone()) {
            warn!(error = wrong, "the CNI plugin is not in place");
        }
    }

    /// The directories in which it is.
    pub(super) fn dirs(&self) -> BTreeSet<PathBuf> {
        self.plugin.iter().flat_map(|(place, _)| place.dirs()).collect()
    }
}
