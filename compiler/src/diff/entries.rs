//! Entries that are added, removed or changed.

use std::collections::BTreeMap;

use mesh_bpf::flow::Direction;
use mesh_bpf::image::MapImage;

use crate::emit::{Map, Sets, entries};

/// Entries of the compiled output that differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryChanges {
    /// New keys.
    pub added: Vec<EntryChange>,
    /// Keys that are gone.
    pub removed: Vec<EntryChange>,
    /// Keys with another value.
    pub changed: Vec<EntryChange>,
}

/// One of them, as the compiled output writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryChange {
    /// The map.
    pub map: &'static str,
    /// Profile, direction and key.
    pub key: String,
    /// The old value; empty for a new key.
    pub before: String,
    /// The new value; empty for a key that is gone.
    pub after: String,
}

type Place = (Map, String, Option<Direction>, String);

fn all(image: &MapImage, sets: &Sets) -> BTreeMap<Place, String> {
    let entries = entries(image, sets).into_iter();
    entries.map(|entry| ((entry.map, entry.profile, entry.direction, entry.key), entry.value)).collect()
}

pub(super) fn changes(
    (old, old_sets): (&MapImage, &Sets),
    (new, new_sets): (&MapImage, &Sets),
) -> EntryChanges {
    let (old, new) = (all(old, old_sets), all(new, new_sets));
    let mut changes = EntryChanges::default();
    for (place, before) in &old {
        match new.get(place) {
            None => changes.removed.push(change(place, before, "")),
            Some(after) if after != before => changes.changed.push(change(place, before, after)),
            Some(_) => {}
        }
    }
    for (place, after) in new.iter().filter(|(place, _)| !old.contains_key(*place)) {
        changes.added.push(change(place, "", after));
    }
    changes
}

fn change(place: &Place, before: &str, after: &str) -> EntryChange {
    let (map, profile, direction, key) = place;
    let direction = direction.map_or_else(String::new, |direction| format!(" {direction}"));
    EntryChange {
        map: map.name(),
        key: format!("{profile}{direction} {key}"),
        before: before.to_owned(),
        after: after.to_owned(),
    }
}
