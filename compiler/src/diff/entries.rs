//! Entries that are added, removed or changed.

use std::collections::BTreeMap;

use mesh_bpf::flow::Direction;
use mesh_bpf::image::MapImage;

use crate::emit::{Key, Map, Value, for_each_entry};

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

type Place<'a> = (Map, &'a str, Option<Direction>, Key<'a>);

fn entries(image: &MapImage) -> BTreeMap<Place<'_>, Value> {
    let mut all = Vec::new();
    for_each_entry(image, |entry| {
        all.push(((entry.map, entry.profile, entry.direction, entry.key), entry.value));
    });
    all.into_iter().collect()
}

pub(super) fn changes(old: &MapImage, new: &MapImage) -> EntryChanges {
    let (old, new) = (entries(old), entries(new));
    let mut changes = EntryChanges::default();
    for (place, before) in &old {
        match new.get(place) {
            None => changes.removed.push(change(place, Some(before), None)),
            Some(after) if after != before => changes.changed.push(change(place, Some(before), Some(after))),
            Some(_) => {}
        }
    }
    for (place, after) in new.iter().filter(|(place, _)| !old.contains_key(*place)) {
        changes.added.push(change(place, None, Some(after)));
    }
    changes
}

fn change(place: &Place<'_>, before: Option<&Value>, after: Option<&Value>) -> EntryChange {
    let (map, profile, direction, key) = place;
    let direction = direction.map_or_else(String::new, |direction| format!(" {direction}"));
    let value = |value: Option<&Value>| value.map_or_else(String::new, ToString::to_string);
    EntryChange {
        map: map.name(),
        key: format!("{profile}{direction} {key}"),
        before: value(before),
        after: value(after),
    }
}
