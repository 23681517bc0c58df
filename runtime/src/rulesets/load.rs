//! Loads the ruleset of one namespace, and tells whether it is still what was loaded.

use std::path::PathBuf;

use mesh_bpf::tables::Tables;
use mesh_nft::{Batch, Held as Names, Marker, Ruleset, Scene, batch};
use serde::{Deserialize, Serialize};

use super::hits;
use super::live::{Live, marker, table};
use super::scene::Stage;
use super::target::Target;
use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::member::Key;
use crate::node::Node;
use crate::state::record;
use crate::system::{Held, SysError, System};

/// What a policy is called in markers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) generation: u64,
    /// The beginning of the digest of its tables.
    pub(crate) tables: [u8; 8],
    pub(crate) paused: bool,
}

impl Version {
    pub(crate) fn of(generation: u64, tables: &Tables, paused: bool) -> Self {
        let digest = tables.digest();
        let mut beginning = [0; 8];
        beginning.iter_mut().zip(digest).for_each(|(to, byte)| *to = byte);
        Self { generation, tables: beginning, paused }
    }

    pub(crate) fn of_live(live: &Live) -> Self {
        Self::of(live.generation, &live.tables, live.paused)
    }

    pub(crate) const fn of_marker(marker: &Marker) -> Self {
        Self { generation: marker.generation, tables: marker.tables, paused: marker.paused }
    }

    fn marker(&self, ruleset: &Ruleset) -> Marker {
        let Self { generation, tables, paused } = *self;
        Marker { generation, tables, ruleset: ruleset.digest(), paused }
    }
}

/// What was loaded into a namespace: who finds the same number of commits there need not look closer.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    version: Version,
    /// The number of the commit.
    commits: u32,
    /// Of the scene.
    scene: String,
    /// Of what the table has.
    held: String,
}

/// In what a namespace does not have what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing is loaded there.
    Missing,
    /// Another generation.
    Behind(u64),
    /// Addresses or cgroups are others than those that it was loaded for.
    Stale,
    /// Somebody else changed the table.
    Changed,
}

fn note(instance: &Instance, pod: Option<Key>) -> PathBuf {
    let whose = pod.map_or_else(|| "host".into(), |key| key.to_string());
    instance.members().join(format!("loaded-{whose}"))
}

/// Loads a ruleset, unless it is loaded already; whether it was not. `again`: in any case. It is proved before it is sent.
pub(crate) fn load<S: System>(
    node: Node<'_, S>,
    target: &Target,
    scene: &Scene,
    (stage, version): (&Stage<'_>, Version),
    again: bool,
) -> Result<bool> {
    let ruleset = mesh_nft::lower(stage.tables, scene)?;
    let marker = version.marker(&ruleset);
    let name = table(node.instance);
    let held = node.system.table(&target.netns, target.cookie, name.as_str())?.unwrap_or_default();
    let is_there = held.chains.contains_key(&marker.name());
    if !is_there || again {
        stage.prove(scene, &ruleset, &target.name)?;
        let names = names(&held);
        let batch = match version.paused {
            true => batch::pause(&name, &marker, &names),
            false => ruleset.replace(&name, &marker, &names),
        };
        commit(node, target, &batch)?;
    }
    take_note(node, target, version, digest(&format!("{scene:?}")))?;
    Ok(!is_there || again)
}

/// Stops or brings back what is loaded, where the policy need not be known for that.
pub(crate) fn pause<S: System>(node: Node<'_, S>, target: &Target) -> Result<()> {
    let Some(found) = marker(node, target)? else { return Ok(()) };
    let name = table(node.instance);
    let held = node.system.table(&target.netns, target.cookie, name.as_str())?.unwrap_or_default();
    commit(node, target, &batch::pause(&name, &Marker { paused: true, ..found }, &names(&held)))?;
    let version = Version { paused: true, ..Version::of_marker(&found) };
    let noted = noted(node, target);
    take_note(node, target, version, noted.map(|noted| noted.scene).unwrap_or_default())
}

/// Takes the table of a namespace away, where it has one; what its counters have counted is kept.
pub(crate) fn unload<S: System>(node: Node<'_, S>, target: &Target) -> Result<()> {
    let name = table(node.instance);
    if !node.system.chains(&target.netns, target.cookie, name.as_str())?.is_empty() {
        hits::keep(node, target)?;
        commit(node, target, &batch::remove(&name))?;
    }
    forget(node, target.pod)
}

/// Forgets what was loaded into a namespace, which has ended.
pub(crate) fn forget<S: System>(node: Node<'_, S>, pod: Option<Key>) -> Result<()> {
    Ok(node.system.remove(&note(node.instance, pod))?)
}

fn commit<S: System>(node: Node<'_, S>, target: &Target, batch: &Batch) -> Result<()> {
    node.system.commit(&target.netns, target.cookie, batch).map_err(|cause| refused(target, cause))
}

/// What the kernel says of a namespace's ruleset; one that has ended is no refusal.
fn refused(target: &Target, cause: SysError) -> Error {
    match cause.errno() {
        Some(libc::ENOENT | libc::ESTALE | libc::EOWNERDEAD) if cause.log.is_empty() => cause.into(),
        _ => Error::RulesetRefused { namespace: target.name.clone(), cause },
    }
}

fn names(held: &Held) -> Names {
    Names { chains: held.chains.keys().cloned().collect(), sets: held.sets.keys().cloned().collect() }
}

fn noted<S: System>(node: Node<'_, S>, target: &Target) -> Option<Note> {
    record::read::<Note>(node.system, &note(node.instance, target.pod)).ok().flatten()
}

fn take_note<S: System>(node: Node<'_, S>, target: &Target, version: Version, scene: String) -> Result<()> {
    let commits = node.system.commits(&target.netns, target.cookie)?;
    let held = node.system.table(&target.netns, target.cookie, table(node.instance).as_str())?;
    let taken = Note { version, commits, scene, held: held.as_ref().map(digest_of).unwrap_or_default() };
    record::write(node.system, &note(node.instance, target.pod), &taken, false)
}

fn digest(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// Of the names in a table with their handles, which never come again: whatever is made again has another. What
/// counters count is left out, and so is which elements maps have.
fn digest_of(held: &Held) -> String {
    digest(&format!("{:?}", (&held.chains, &held.sets)))
}

/// In what a namespace does not have what it should. The number of commits tells at once, where nobody else changed
/// anything; else its table is looked at.
pub(crate) fn fault<S: System>(
    node: Node<'_, S>,
    target: &Target,
    scene: &Scene,
    (tables, version): (&Tables, Version),
) -> Result<Option<Fault>> {
    let noted = noted(node, target);
    let commits = node.system.commits(&target.netns, target.cookie)?;
    let is_scene = |noted: &Note| noted.scene == digest(&format!("{scene:?}"));
    if let Some(noted) = &noted
        && noted.commits == commits
        && noted.version == version
        && is_scene(noted)
    {
        return Ok(None);
    }
    let Some(marker) = marker(node, target)? else { return Ok(Some(Fault::Missing)) };
    if Version::of_marker(&marker) != version {
        return Ok(Some(Fault::Behind(marker.generation)));
    }
    if !noted.as_ref().is_some_and(is_scene) && marker.ruleset != mesh_nft::lower(tables, scene)?.digest() {
        return Ok(Some(Fault::Stale));
    }
    let held = node.system.table(&target.netns, target.cookie, table(node.instance).as_str())?;
    let held = held.as_ref().map(digest_of);
    let is_as_loaded = noted.is_some_and(|noted| Some(noted.held) == held);
    Ok((!is_as_loaded).then_some(Fault::Changed))
}
