//! Files, directories, pins and cgroups.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::{io, thread};

use rustix::fs::{FlockOperation, flock};

use super::kernel::Kernel;
use super::step::{absent, at};
use crate::system::{Files, Locked, SysResult};

impl Files for Kernel {
    type Lock = File;

    fn list(&self, dir: &Path) -> SysResult<Option<Vec<String>>> {
        at(
            "listing",
            dir,
            absent(fs::read_dir(dir)).and_then(|entries| {
                let Some(entries) = entries else { return Ok(None) };
                let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
                let mut names = names.collect::<io::Result<Vec<_>>>()?;
                names.sort();
                Ok(Some(names))
            }),
        )
    }

    fn create_dir(&self, dir: &Path) -> SysResult<()> {
        match DirBuilder::new().mode(OWNER_ONLY).create(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                at("closing to others", dir, close_to_others(dir))
            }
            result => at("making", dir, result),
        }
    }

    fn remove_dir(&self, dir: &Path) -> SysResult<()> {
        at("removing", dir, absent(fs::remove_dir(dir)).map(drop))
    }

    fn remove(&self, file: &Path) -> SysResult<()> {
        at("removing", file, absent(fs::remove_file(file)).map(drop))
    }

    fn rename(&self, from: &Path, to: &Path, durable: bool) -> SysResult<()> {
        let renamed = fs::rename(from, to);
        at("renaming", to, if durable { renamed.and_then(|()| sync_parent(to)) } else { renamed })
    }

    fn read(&self, file: &Path) -> SysResult<Option<Vec<u8>>> {
        at("reading", file, absent(fs::read(file)))
    }

    fn write(&self, file: &Path, content: &[u8], durable: bool) -> SysResult<()> {
        write_pieces(file, &[content], durable)
    }

    fn write_beside<T>(
        &self,
        file: &Path,
        pieces: &[&[u8]],
        meanwhile: impl FnOnce() -> T,
    ) -> (SysResult<()>, T) {
        thread::scope(|scope| {
            let write = || write_pieces(file, pieces, true);
            let writing = thread::Builder::new().spawn_scoped(scope, write);
            let done = meanwhile();
            let written = match writing {
                Ok(writing) => writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                // No thread can be had: one after the other.
                Err(_) => write(),
            };
            (written, done)
        })
    }

    fn inode(&self, path: &Path) -> SysResult<Option<u64>> {
        let inode = absent(fs::metadata(path)).map(|found| found.map(|found| found.ino()));
        at("the look-up", path, inode)
    }

    fn is_bpffs(&self, path: &Path) -> SysResult<bool> {
        let found = at("the look-up", path, absent(is_bpffs(path)))?;
        Ok(found.unwrap_or_default())
    }

    fn is_writable(&self, path: &Path) -> SysResult<bool> {
        let found = at("the look-up", path, rustix::fs::statvfs(path).map_err(io::Error::from))?;
        Ok(!found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
    }

    fn lock(&self, dir: &Path) -> SysResult<Locked<File>> {
        at("locking", dir, lock(dir))
    }

    fn is_populated(&self, cgroup: &Path) -> SysResult<bool> {
        let events = cgroup.join("cgroup.events");
        let text = at("reading", &events, absent(fs::read_to_string(&events)))?;
        Ok(text.is_some_and(|text| text.lines().any(|line| line == "populated 1")))
    }
}

/// Writes a file, one piece after the other.
fn write_pieces(file: &Path, pieces: &[&[u8]], durable: bool) -> SysResult<()> {
    let write = || {
        let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
        for piece in pieces {
            io::Write::write_all(&mut out, piece)?;
        }
        if durable { out.sync_all() } else { Ok(()) }
    };
    at("writing", file, write())
}

/// The mode of directories: who may enter one may also lock it, and keep every command waiting.
const OWNER_ONLY: u32 = 0o700;

/// Takes a directory that is there from all but its owner, as versions before did not.
fn close_to_others(dir: &Path) -> io::Result<()> {
    let found = fs::metadata(dir)?;
    if !found.is_dir() || found.mode() & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(OWNER_ONLY))
}

fn lock(dir: &Path) -> io::Result<Locked<File>> {
    let Some(file) = absent(File::open(dir))? else { return Ok(Locked::Gone) };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Locked::Busy),
        Err(error) => return Err(error.into()),
    }
    // Whoever held it before may have removed the directory, and a third may have made another.
    let here = absent(fs::metadata(dir))?.map(|here| (here.dev(), here.ino()));
    let held = file.metadata()?;
    Ok(if here == Some((held.dev(), held.ino())) { Locked::Held(file) } else { Locked::Gone })
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Whether a path is in a BPF file system.
///
/// # Errors
/// What the kernel says.
pub fn is_bpffs(path: &Path) -> io::Result<bool> {
    let found = rustix::fs::statfs(path)?;
    Ok(found.f_type == libc::BPF_FS_MAGIC)
}
