//! Files, directories, pins and cgroups.

use std::path::{Path, PathBuf};

use super::world::{Memory, MemoryLock, Node, error};
use crate::system::{Files, Locked, SysResult};

impl Files for Memory {
    type Lock = MemoryLock;

    fn list(&self, dir: &Path) -> SysResult<Option<Vec<String>>> {
        Ok(self.node(dir).map(|_| self.children(dir)))
    }

    fn create_dir(&self, dir: &Path) -> SysResult<()> {
        if self.exists(dir) {
            return Ok(());
        }
        self.place("making", dir, Node::Directory, false)?;
        if dir.parent().is_some_and(|parent| self.is_cgroup(parent)) {
            self.make_cgroup(dir);
        }
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> SysResult<()> {
        // The files of a cgroup are no obstacle.
        if !self.is_cgroup(dir) && !self.children(dir).is_empty() {
            return Err(error("removing", dir, libc::ENOTEMPTY));
        }
        if self.is_populated(dir)? {
            return Err(error("removing", dir, libc::EBUSY));
        }
        self.remove_cgroup(dir);
        Ok(())
    }

    fn remove(&self, file: &Path) -> SysResult<()> {
        self.0.nodes.borrow_mut().remove(file);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path, _durable: bool) -> SysResult<()> {
        if !self.exists(from) {
            return Err(error("renaming", from, libc::ENOENT));
        }
        if matches!(self.node(to), Some((_, Node::Directory))) && !self.children(to).is_empty() {
            return Err(error("renaming", to, libc::ENOTEMPTY));
        }
        let mut nodes = self.0.nodes.borrow_mut();
        let moved: Vec<PathBuf> = nodes.keys().filter(|path| path.starts_with(from)).cloned().collect();
        for path in moved {
            if let (Some(node), Ok(rest)) = (nodes.remove(&path), path.strip_prefix(from)) {
                // Joining nothing would end the path with a slash.
                let place = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
                nodes.insert(place, node);
            }
        }
        Ok(())
    }

    fn read(&self, file: &Path) -> SysResult<Option<Vec<u8>>> {
        match self.node(file) {
            Some((_, Node::File(content))) => Ok(Some(content)),
            Some(_) => Err(error("reading", file, libc::EINVAL)),
            None => Ok(None),
        }
    }

    fn write(&self, file: &Path, content: &[u8], _durable: bool) -> SysResult<()> {
        self.place("writing", file, Node::File(content.to_vec()), true)
    }

    fn write_beside<T>(
        &self,
        file: &Path,
        pieces: &[&[u8]],
        meanwhile: impl FnOnce() -> T,
    ) -> (SysResult<()>, T) {
        (self.write(file, &pieces.concat(), true), meanwhile())
    }

    fn inode(&self, path: &Path) -> SysResult<Option<u64>> {
        Ok(self.node(path).map(|(inode, _)| inode))
    }

    fn is_bpffs(&self, path: &Path) -> SysResult<bool> {
        Ok(self.0.bpffs.borrow().keys().any(|mounted| path.starts_with(mounted)))
    }

    fn is_writable(&self, path: &Path) -> SysResult<bool> {
        let bpffs = self.0.bpffs.borrow();
        Ok(bpffs.iter().all(|(mounted, writable)| *writable || !path.starts_with(mounted)))
    }

    fn lock(&self, dir: &Path) -> SysResult<Locked<MemoryLock>> {
        let Some((inode, _)) = self.node(dir) else { return Ok(Locked::Gone) };
        let free = self.0.locks.borrow_mut().insert(inode);
        Ok(if free { Locked::Held(MemoryLock(self.clone(), inode)) } else { Locked::Busy })
    }

    fn is_populated(&self, cgroup: &Path) -> SysResult<bool> {
        let nodes = self.0.nodes.borrow();
        let mut below = nodes.iter().filter(|(path, _)| path.starts_with(cgroup));
        Ok(below.any(|(path, (_, node))| {
            path.ends_with("cgroup.procs") && matches!(node, Node::File(content) if !content.is_empty())
        }))
    }
}

impl Memory {
    fn is_cgroup(&self, dir: &Path) -> bool {
        self.exists(&dir.join("cgroup.procs"))
    }
}
