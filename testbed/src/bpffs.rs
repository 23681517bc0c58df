//! A BPF file system of one's own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// A mounted bpffs, unmounted on drop; with it everything that only its pins kept alive goes away.
#[derive(Debug)]
pub struct BpfFs {
    path: PathBuf,
}

impl BpfFs {
    /// Makes the directory `path` and mounts a bpffs there.
    ///
    /// # Errors
    /// If the directory cannot be made or the kernel refuses, as it does to anyone but root.
    pub fn mount(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        mount("bpf", path, "bpf", MountFlags::empty(), None)?;
        Ok(Self { path: path.to_owned() })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}
