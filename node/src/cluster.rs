//! What a node is told of the cluster that it is in. Whoever knows it stands behind one trait.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_runtime::Labels;

use crate::watch::Watch;

/// What is so in the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Labels of Kubernetes namespaces, by name. One that is not there has none.
    pub namespaces: BTreeMap<String, Labels>,
    /// Cluster addresses and endpoints of services, by namespace and name: `shop/cart`. One that is not there is not known.
    pub services: Services,
}

/// Addresses of services, by namespace and name.
pub type Services = BTreeMap<String, BTreeSet<IpAddr>>;

/// Who knows the cluster.
pub trait Cluster: fmt::Debug {
    /// What is so now, all of it.
    ///
    /// # Errors
    /// Why that is not known, for a log. Then what was known before is kept.
    fn facts(&mut self) -> Result<Facts, String>;

    /// Readable where something may have changed since [`Cluster::facts`] was asked.
    fn changed(&self) -> BorrowedFd<'_>;
}

/// Reads an inventory, or says why that cannot be.
pub type ReadInventory = fn(&Path) -> Result<Facts, String>;

/// A cluster that a file describes.
#[derive(Debug)]
pub struct InventoryFile {
    file: PathBuf,
    read: ReadInventory,
    watch: Watch,
}

impl InventoryFile {
    /// That of a file, which is read by a function.
    ///
    /// # Errors
    /// Where the kernel cannot watch one more directory for this user.
    pub fn new(file: PathBuf, read: ReadInventory) -> std::io::Result<Self> {
        Ok(Self { file, read, watch: Watch::new()? })
    }
}

impl Cluster for InventoryFile {
    fn facts(&mut self) -> Result<Facts, String> {
        // The directory, which may have been made again: who writes the file anew may rename it into place.
        self.watch.only(&self.file.parent().map(PathBuf::from).into_iter().collect());
        // Who writes it is not done at once.
        self.watch.wait(Duration::ZERO).map_err(|error| error.to_string())?;
        (self.read)(&self.file)
    }

    fn changed(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}
