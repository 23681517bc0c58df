//! The files of the state directory: what was live when, and the policies themselves by digest.
//!
//! The manifest in the kernel is the truth; a record that differs is made again. Each file is written beside
//! its place and renamed, so it is there whole or not at all.

use std::path::{Path, PathBuf};

use mesh_bpf::artifact;
use mesh_bpf::image::MapImage;
use mesh_bpf::tables::{Digest, Tables};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::instance::{AGENT, DIRS, FILES, Instance, LINES, MEMBERS, MOVING};
use crate::owner::Owner;
use crate::system::{Locked, Step, System};

/// One generation, as the state directory remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number.
    pub generation: u64,
    /// The policy's digest, in hexadecimal.
    pub digest: String,
    /// Who applied it.
    pub owner: Owner,
    /// Milliseconds since 1970.
    pub applied: u64,
    /// The boot that it went live in.
    pub boot_id: String,
    /// Where it came from, in words: `apply shop.mesh`, `rollback to 3`.
    pub origin: String,
}

/// A digest in hexadecimal.
#[must_use]
pub fn hex(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a JSON file; `None` where there is none.
pub(crate) fn read<T: DeserializeOwned>(store: &impl System, file: &Path) -> Result<Option<T>> {
    let Some(bytes) = store.read(file)? else { return Ok(None) };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|error| Error::DamagedFile { file: file.into(), what: error.to_string() })
}

/// Puts a JSON file in place at once.
pub(crate) fn write<T: Serialize>(
    store: &impl System,
    file: &Path,
    content: &T,
    durable: bool,
) -> Result<()> {
    Ok(write_bytes(store, file, &json(file, content)?, durable)?)
}

/// The content of a JSON file.
pub(crate) fn json<T: Serialize>(file: &Path, content: &T) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(content)
        .map_err(|error| Error::DamagedFile { file: file.into(), what: error.to_string() })
}

fn write_bytes(store: &impl System, file: &Path, content: &[u8], durable: bool) -> Step<()> {
    let beside = beside(file);
    store.write(&beside, content, durable)?;
    store.rename(&beside, file, durable)
}

/// Where a file is written before it is in its place.
fn beside(file: &Path) -> PathBuf {
    file.with_added_extension("new")
}

/// Whether the state directory holds things, and none of ours.
pub(crate) fn is_foreign(store: &impl System, instance: &Instance) -> Step<bool> {
    let is_ours = |name: &str| FILES.contains(&name) || DIRS.contains(&name) || AGENT.contains(&name);
    let names = store.list(&instance.state)?.unwrap_or_default();
    Ok(!names.is_empty() && !names.iter().any(|name| is_ours(name)))
}

/// Makes the directories that records go to. Nobody but the owner enters them: who could, could hold the lock.
pub(crate) fn create_dirs(store: &impl System, instance: &Instance) -> Result<()> {
    for dir in instance.state.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
        if store.inode(dir)?.is_none() {
            store.create_dir(dir)?;
        }
    }
    if is_foreign(store, instance)? {
        return Err(Error::NotAStateDirectory(instance.state.clone()));
    }
    for dir in [instance.state.clone(), instance.history(), instance.artifacts()] {
        store.create_dir(&dir)?;
    }
    Ok(())
}

/// Keeps a policy with its lines, unless it is kept already, and does something else meanwhile.
pub(crate) fn keep_artifact<T>(
    store: &impl System,
    instance: &Instance,
    tables: &Tables,
    lines: Option<&[u8]>,
    meanwhile: impl FnOnce() -> Result<T>,
) -> Result<(String, T)> {
    let digest = hex(&tables.digest());
    keep_lines(store, instance, &digest, lines)?;
    let file = instance.artifacts().join(&digest);
    if store.inode(&file)?.is_some() {
        return Ok((digest, meanwhile()?));
    }
    let head = artifact::head(tables);
    let pieces: Vec<&[u8]> = [head.as_slice()].into_iter().chain(artifact::contents(tables)).collect();
    let beside = beside(&file);
    let (written, done) = store.write_beside(&beside, &pieces, meanwhile);
    let done = done?;
    written?;
    store.rename(&beside, &file, true)?;
    Ok((digest, done))
}

/// Keeps which line each item of a policy is from, where that is known and not as it was. It is not waited for: after a
/// power failure the lines may be missing, and the policy is whole.
pub(crate) fn keep_lines(
    store: &impl System,
    instance: &Instance,
    digest: &str,
    lines: Option<&[u8]>,
) -> Result<()> {
    let Some(lines) = lines else { return Ok(()) };
    let file = instance.lines(digest);
    if store.read(&file)?.is_some_and(|kept| kept == lines) {
        return Ok(());
    }
    Ok(write_bytes(store, &file, lines, false)?)
}

/// Reads a kept policy, and checks all of it; `None` where it is not kept.
pub(crate) fn artifact(
    store: &impl System,
    instance: &Instance,
    digest: &str,
) -> Result<Option<(Tables, MapImage)>> {
    let file = instance.artifacts().join(digest);
    let Some(bytes) = store.read(&file)? else { return Ok(None) };
    let decoded = artifact::decode(&bytes);
    let (tables, image) =
        decoded.map_err(|error| Error::DamagedFile { file: file.clone(), what: error.to_string() })?;
    if hex(&tables.digest()) == digest {
        Ok(Some((tables, image)))
    } else {
        Err(Error::DamagedFile { file, what: "it holds another policy than its name says".into() })
    }
}

/// No instance comes as far. A larger number is damage: the one after it might be 0, which means that nothing is
/// decided.
const MOST_GENERATIONS: u64 = u64::MAX >> 1;

/// Every generation that is remembered, oldest first. What cannot be read is left out, and so is a number that cannot
/// be.
pub(crate) fn history(store: &impl System, instance: &Instance) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for name in store.list(&instance.history())?.unwrap_or_default() {
        if let Ok(number) = name.parse::<u64>()
            && let Ok(Some(record)) = read::<Record>(store, &instance.history().join(name))
            && record.generation == number
            && number <= MOST_GENERATIONS
        {
            records.push(record);
        }
    }
    records.sort_by_key(|record: &Record| record.generation);
    Ok(records)
}

/// Notes that `record` is live: in the history, and as `current`.
pub(crate) fn settle(store: &impl System, instance: &Instance, record: &Record) -> Result<()> {
    write(store, &instance.history().join(record.generation.to_string()), record, false)?;
    match read::<Record>(store, &instance.pending()) {
        Ok(Some(pending)) if pending == *record => {
            Ok(store.rename(&instance.pending(), &instance.current(), true)?)
        }
        _ => write(store, &instance.current(), record, true),
    }
}

/// Removes the oldest records beyond `keep`, and artifacts and lines that no record names.
pub(crate) fn prune(store: &impl System, instance: &Instance, keep: usize) -> Result<()> {
    let records = history(store, instance)?;
    let (old, kept) = records.split_at(records.len().saturating_sub(keep));
    for record in old {
        store.remove(&instance.history().join(record.generation.to_string()))?;
    }
    let artifacts = store.list(&instance.artifacts())?.unwrap_or_default();
    for name in artifacts {
        let digest = name.strip_suffix(LINES).unwrap_or(&name);
        if !kept.iter().any(|record| record.digest == digest) {
            store.remove(&instance.artifacts().join(name))?;
        }
    }
    Ok(())
}

/// Removes all that is ours in the state directory, and the directory where nothing else is in it.
pub(crate) fn purge(store: &impl System, instance: &Instance) -> Result<()> {
    let members = instance.state.join(MEMBERS);
    for boot in store.list(&members)?.unwrap_or_default() {
        forget_boot(store, &members.join(boot))?;
    }
    for name in DIRS {
        empty(store, &instance.state.join(name))?;
    }
    for name in FILES {
        let file = instance.state.join(name);
        store.remove(&file)?;
        store.remove(&beside(&file))?;
    }
    // An agent that goes on keeps what says that it is the only one.
    let [lock, socket] = AGENT.map(|name| instance.state.join(name));
    if !matches!(store.lock(&lock)?, Locked::Busy) {
        store.remove(&lock)?;
        store.remove(&socket)?;
    }
    match store.list(&instance.state)? {
        Some(names) if names.is_empty() => Ok(store.remove_dir(&instance.state)?),
        _ => Ok(()),
    }
}

/// Removes what was registered in a boot.
pub(crate) fn forget_boot(store: &impl System, members: &Path) -> Step<()> {
    empty(store, &members.join(MOVING))?;
    empty(store, members)
}

fn empty(store: &impl System, dir: &Path) -> Step<()> {
    for name in store.list(dir)?.unwrap_or_default() {
        store.remove(&dir.join(name))?;
    }
    store.remove_dir(dir)
}
