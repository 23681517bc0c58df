//! Where the rules are written that decided.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use mesh_runtime::{Decided, Reason, Runtime};

use crate::places::{Place, Places};

/// File and line of the items of all policies that decided, read again when an apply has written them.
#[derive(Default)]
pub struct Lines(BTreeMap<String, (Option<SystemTime>, Places)>);

impl Lines {
    /// Those of the item that decided, by its own policy.
    pub fn place(&mut self, runtime: &Runtime, decided: &Decided) -> Option<Place> {
        let Reason::Item { key, text, .. } = &decided.reason else { return None };
        let digest = decided.digest.as_ref()?;
        let file = runtime.instance().lines(digest);
        let written = written(&file);
        if self.0.get(digest).is_none_or(|(when, _)| *when != written) {
            let places = Places::decode(&std::fs::read(file).unwrap_or_default());
            self.0.insert(digest.clone(), (written, places));
        }
        let (_, places) = self.0.get(digest)?;
        places.find(*key, text)
    }
}

fn written(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|file| file.modified()).ok()
}
