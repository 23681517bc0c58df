//! The files of the state directory: what was live when, and the policies themselves by digest.
//!
//! The manifest in the kernel is the truth; a record that differs is made again. Each file is written beside
//! its place and renamed, so it is there whole or not at all.

use std::path::{Path, PathBuf};

use mesh_bpf::abi::name_hash;
use mesh_bpf::artifact;
use mesh_bpf::image::MapImage;
use mesh_bpf::tables::Tables;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::instance::{AGENT, DIRS, FILES, LEFT, LINES, MEMBERS, MOVING};
use crate::node::Node;
use crate::owner::Owner;
use crate::system::{Locked, SysResult, System};

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
    /// It waited to be confirmed, and was taken back.
    #[serde(default)]
    pub taken_back: bool,
}

/// The record of a generation that goes live now, with who applied it and where it came from.
pub(crate) fn new(
    node: Node<'_, impl System>,
    generation: u64,
    digest: String,
    (owner, origin): (Owner, &str),
) -> Record {
    Record {
        generation,
        digest,
        owner,
        applied: node.system.wall_clock(),
        boot_id: node.instance.boot_id.clone(),
        origin: origin.to_owned(),
        taken_back: false,
    }
}

/// Where a policy came from that the state directory knew nothing of.
pub(crate) const FOUND: &str = "found in the kernel";

/// Remembers for the next boot whether the mesh is paused.
pub(crate) fn mark_paused(node: Node<'_, impl System>, paused: bool) -> Result<()> {
    let file = node.instance.paused();
    match (paused, node.system.inode(&file)?.is_some()) {
        (true, false) => Ok(node.system.write(&file, b"", true)?),
        (false, true) => Ok(node.system.remove(&file)?),
        _ => Ok(()),
    }
}

/// A digest, or its beginning, in hexadecimal.
#[must_use]
pub fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a JSON file; `None` where there is none.
pub(crate) fn read<T: DeserializeOwned>(system: &impl System, file: &Path) -> Result<Option<T>> {
    let Some(bytes) = system.read(file)? else { return Ok(None) };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|error| Error::DamagedFile { file: file.into(), what: error.to_string() })
}

/// Puts a JSON file in place at once.
pub(crate) fn write<T: Serialize>(
    system: &impl System,
    file: &Path,
    content: &T,
    durable: bool,
) -> Result<()> {
    Ok(write_bytes(system, file, &json(file, content)?, durable)?)
}

/// The content of a JSON file.
pub(crate) fn json<T: Serialize>(file: &Path, content: &T) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(content)
        .map_err(|error| Error::DamagedFile { file: file.into(), what: error.to_string() })
}

fn write_bytes(system: &impl System, file: &Path, content: &[u8], durable: bool) -> SysResult<()> {
    let beside = beside(file);
    system.write(&beside, content, durable)?;
    system.rename(&beside, file, durable)
}

/// How the name of a file ends that is not in its place yet.
pub(crate) const BESIDE: &str = ".new";

/// Where a file is written before it is in its place.
fn beside(file: &Path) -> PathBuf {
    file.with_added_extension(BESIDE.trim_start_matches('.'))
}

/// As much of a name as a file is named for: file systems take 255 bytes.
const NAMED: usize = 160;

/// A file's name for something whose name came from elsewhere: it must not lead anywhere, may be of any length, and
/// what is left of two of them may be the same. None ends as those that are not in their place.
pub(crate) fn file_name(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') { c } else { '_' };
    let shown: String = name.chars().take(NAMED).map(safe).collect();
    let is_whole = shown == name && !name.ends_with(BESIDE);
    if is_whole { shown } else { format!("{shown}_{:08x}", name_hash(name)) }
}

/// Whether the state directory holds things, and none of ours.
pub(crate) fn is_foreign(node: Node<'_, impl System>) -> SysResult<bool> {
    let is_ours = |name: &str| FILES.contains(&name) || DIRS.contains(&name) || AGENT.contains(&name);
    let names = node.system.list(&node.instance.state)?.unwrap_or_default();
    Ok(!names.is_empty() && !names.iter().any(|name| is_ours(name)))
}

/// Makes the directories that records go to. Nobody but the owner enters them: who could, could hold the lock.
pub(crate) fn create_dirs(node: Node<'_, impl System>) -> Result<()> {
    for dir in node.instance.state.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
        if node.system.inode(dir)?.is_none() {
            node.system.create_dir(dir)?;
        }
    }
    if is_foreign(node)? {
        return Err(Error::NotAStateDirectory(node.instance.state.clone()));
    }
    for dir in [node.instance.state.clone(), node.instance.history(), node.instance.artifacts()] {
        node.system.create_dir(&dir)?;
    }
    Ok(())
}

/// Keeps a policy with its lines, unless it is kept already, and does something else meanwhile.
pub(crate) fn keep_artifact<T>(
    node: Node<'_, impl System>,
    tables: &Tables,
    lines: Option<&[u8]>,
    meanwhile: impl FnOnce() -> Result<T>,
) -> Result<(String, T)> {
    let digest = hex(&tables.digest());
    keep_lines(node, &digest, lines)?;
    let file = node.instance.artifacts().join(&digest);
    if node.system.inode(&file)?.is_some() {
        return Ok((digest, meanwhile()?));
    }
    let head = artifact::head(tables);
    let pieces: Vec<&[u8]> = [head.as_slice()].into_iter().chain(artifact::contents(tables)).collect();
    let beside = beside(&file);
    let (written, done) = node.system.write_beside(&beside, &pieces, meanwhile);
    let done = done?;
    written?;
    node.system.rename(&beside, &file, true)?;
    Ok((digest, done))
}

/// Keeps which line each item of a policy is from, where that is known and not as it was. It is not waited for: after a
/// power failure the lines may be missing, and the policy is whole.
pub(crate) fn keep_lines(node: Node<'_, impl System>, digest: &str, lines: Option<&[u8]>) -> Result<()> {
    let Some(lines) = lines else { return Ok(()) };
    let file = node.instance.lines(digest);
    if node.system.read(&file)?.is_some_and(|kept| kept == lines) {
        return Ok(());
    }
    Ok(write_bytes(node.system, &file, lines, false)?)
}

/// Reads a kept policy, and checks all of it; `None` where it is not kept.
pub(crate) fn artifact(node: Node<'_, impl System>, digest: &str) -> Result<Option<(Tables, MapImage)>> {
    let file = node.instance.artifacts().join(digest);
    let Some(bytes) = node.system.read(&file)? else { return Ok(None) };
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
pub(crate) fn history(node: Node<'_, impl System>) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for name in node.system.list(&node.instance.history())?.unwrap_or_default() {
        if let Ok(number) = name.parse::<u64>()
            && let Ok(Some(record)) = read::<Record>(node.system, &node.instance.history().join(name))
            && record.generation == number
            && number <= MOST_GENERATIONS
        {
            records.push(record);
        }
    }
    records.sort_by_key(|record: &Record| record.generation);
    Ok(records)
}

/// Notes where the instance is, for later commands.
pub(crate) fn keep_placement(node: Node<'_, impl System>) -> Result<()> {
    let (file, placement) = (node.instance.placement_file(), node.instance.placement());
    if read(node.system, &file).ok().flatten().as_ref() == Some(&placement) {
        return Ok(());
    }
    write(node.system, &file, &placement, false)
}

/// Notes that `record` is live: in the history, and as `current`.
pub(crate) fn settle(node: Node<'_, impl System>, record: &Record) -> Result<()> {
    write(node.system, &node.instance.history().join(record.generation.to_string()), record, false)?;
    match read::<Record>(node.system, &node.instance.pending()) {
        Ok(Some(pending)) if pending == *record => {
            Ok(node.system.rename(&node.instance.pending(), &node.instance.current(), true)?)
        }
        _ => write(node.system, &node.instance.current(), record, true),
    }
}

/// Generations that the state directory remembers.
const KEPT: usize = 20;

/// Removes the oldest records, and artifacts and lines that no record names.
pub(crate) fn prune(node: Node<'_, impl System>) -> Result<()> {
    let records = history(node)?;
    let (old, kept) = records.split_at(records.len().saturating_sub(KEPT));
    for record in old {
        node.system.remove(&node.instance.history().join(record.generation.to_string()))?;
    }
    let artifacts = node.system.list(&node.instance.artifacts())?.unwrap_or_default();
    for name in artifacts {
        let digest = name.strip_suffix(LINES).unwrap_or(&name);
        if !kept.iter().any(|record| record.digest == digest) {
            node.system.remove(&node.instance.artifacts().join(name))?;
        }
    }
    Ok(())
}

/// Removes all that is ours in the state directory, and the directory where nothing else is in it.
pub(crate) fn purge(node: Node<'_, impl System>) -> Result<()> {
    let members = node.instance.state.join(MEMBERS);
    for boot in node.system.list(&members)?.unwrap_or_default() {
        forget_boot(node.system, &members.join(boot))?;
    }
    for name in DIRS {
        empty(node.system, &node.instance.state.join(name))?;
    }
    for name in FILES {
        let file = node.instance.state.join(name);
        node.system.remove(&file)?;
        node.system.remove(&beside(&file))?;
    }
    // An agent that goes on keeps what says that it is the only one.
    let [lock, socket] = AGENT.map(|name| node.instance.state.join(name));
    if !matches!(node.system.lock(&lock)?, Locked::Busy) {
        node.system.remove(&lock)?;
        node.system.remove(&socket)?;
    }
    match node.system.list(&node.instance.state)? {
        Some(names) if names.is_empty() => Ok(node.system.remove_dir(&node.instance.state)?),
        _ => Ok(()),
    }
}

/// Removes what was registered in a boot.
pub(crate) fn forget_boot(system: &impl System, members: &Path) -> SysResult<()> {
    empty(system, &members.join(MOVING))?;
    empty(system, &members.join(LEFT))?;
    empty(system, members)
}

fn empty(system: &impl System, dir: &Path) -> SysResult<()> {
    for name in system.list(dir)?.unwrap_or_default() {
        system.remove(&dir.join(name))?;
    }
    system.remove_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_lead_nowhere_and_differ_where_what_they_are_of_does() {
        for plain in ["cart-1", "shop.cart-1", "a.new.b", "A9"] {
            assert_eq!(file_name(plain), plain);
        }
        let long = "x".repeat(NAMED + 1);
        let strange = ["../../etc/passwd", "..?..?etc?passwd", "a/b", "a_b", "a b", "cart.new", &long];
        let names: Vec<String> = strange.iter().map(|name| file_name(name)).collect();
        for name in &names {
            assert!(!name.contains('/') && !name.ends_with(BESIDE) && name.len() <= NAMED + 9, "{name}");
        }
        let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), strange.len());
        assert!(names.iter().any(|name| name.starts_with("cart.new_")));
    }
}
