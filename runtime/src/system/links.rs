//! Links.

use std::collections::BTreeSet;
use std::path::Path;

use mesh_bpf::program::{Hook, Inbound};

use super::error::SysResult;
use super::programs::Programs;

/// What a link attaches its program to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// It is gone, or the link was detached.
    #[default]
    Gone,
    /// A cgroup, by its id.
    Cgroup(u64),
    /// A network namespace, by the inode of its file.
    Netns(u64),
    /// An interface of a network namespace, by its number there.
    Interface(u32),
    /// Nothing: it is an iterator.
    Iterator,
    /// Something that no link of ours is attached to.
    Other,
}

/// What the kernel says of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkInfo {
    /// The kernel's id.
    pub id: u32,
    /// The id of the program that it attaches.
    pub program: u32,
    /// What it attaches it to.
    pub target: Target,
}

/// What the runtime does to links: where programs are attached.
pub trait Links: Programs {
    /// An open link.
    type Link;

    /// Attaches a program to a cgroup, or to the tracepoint that it was loaded for; an iterator to nothing.
    ///
    /// # Errors
    /// What the kernel says.
    fn attach(&self, program: &Self::Program, hook: Hook, cgroup: &Path) -> SysResult<Self::Link>;
    /// Attaches the program of a pod: to its network namespace, or to each interface there, loopback first, but for
    /// those that have it. Makes sure before that the file still stands for the namespace with this cookie.
    ///
    /// # Errors
    /// What the kernel says; `ESTALE` where it is another.
    fn attach_netns(
        &self,
        program: &Self::Program,
        by: Inbound,
        netns: &Path,
        cookie: u64,
        covered: &BTreeSet<u32>,
    ) -> SysResult<Vec<Self::Link>>;
    /// Runs an iterator over listening sockets to its end in a network namespace, with the same precaution. Where none
    /// listens there, it need not.
    ///
    /// # Errors
    /// What the kernel says; `ESTALE` where it is another.
    fn iterate(&self, iterator: &Self::Link, netns: &Path, cookie: u64) -> SysResult<()>;
    /// Pins a link.
    ///
    /// # Errors
    /// What the kernel says.
    fn pin_link(&self, link: &Self::Link, path: &Path) -> SysResult<()>;
    /// Opens a pinned link; `None` where there is no pin.
    ///
    /// # Errors
    /// What the kernel says.
    fn open_link(&self, path: &Path) -> SysResult<Option<Self::Link>>;
    /// What the kernel says of a link.
    ///
    /// # Errors
    /// What the kernel says.
    fn link_info(&self, link: &Self::Link) -> SysResult<LinkInfo>;
    /// Every link of the kernel, whoever made it and wherever it is pinned.
    ///
    /// # Errors
    /// What the kernel says.
    fn all_links(&self) -> SysResult<Vec<Self::Link>>;
    /// Puts another program into a link, without a gap.
    ///
    /// # Errors
    /// What the kernel says.
    fn replace(&self, link: &Self::Link, program: &Self::Program) -> SysResult<()>;
    /// Detaches a link from its cgroup now; the link stays until nobody holds it.
    ///
    /// # Errors
    /// What the kernel says.
    fn detach(&self, link: &Self::Link) -> SysResult<()>;
    /// Ids of the programs attached to a hook of a cgroup; with `effective` those of its ancestors too, in
    /// the order in which they run.
    ///
    /// # Errors
    /// What the kernel says.
    fn attached(&self, cgroup: &Path, hook: Hook, effective: bool) -> SysResult<Vec<u32>>;
    /// Ids of the programs attached to a hook of the cgroups below a cgroup.
    ///
    /// # Errors
    /// What the kernel says.
    fn attached_below(&self, cgroup: &Path, hook: Hook) -> SysResult<Vec<u32>>;
    /// Detaches the program of a map of sockets; none is no error.
    ///
    /// # Errors
    /// What the kernel says.
    fn detach_message(&self, sockets: &Self::Map) -> SysResult<()>;
}
