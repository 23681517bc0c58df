//! Links.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};

use mesh_bpf::program::{Hook, Inbound};

use super::world::{Memory, MemoryLink, MemoryMap, MemoryProgram, Node, error};
use crate::system::{LinkInfo, Links, Netns, SysResult, Target};

impl Links for Memory {
    type Link = MemoryLink;

    fn attach(&self, program: &MemoryProgram, hook: Hook, cgroup: &Path) -> SysResult<MemoryLink> {
        let Some((cgroup, _)) = self.node(cgroup) else {
            return Err(error("attaching to", cgroup, libc::ENOENT));
        };
        Ok(self.link(program, hook, cgroup))
    }

    fn attach_netns(
        &self,
        program: &MemoryProgram,
        by: Inbound,
        netns: &Path,
        cookie: u64,
        covered: &BTreeSet<u32>,
    ) -> SysResult<Vec<MemoryLink>> {
        let interfaces = match by {
            Inbound::SkLookup => vec![0],
            Inbound::Tc => self.interfaces(netns, cookie)?,
        };
        self.inside(netns, cookie)?;
        let new = interfaces.into_iter().filter(|number| !covered.contains(number));
        Ok(new.map(|number| self.link_at(program, by.program().hook, cookie, number)).collect())
    }

    fn iterate(&self, _iterator: &MemoryLink, netns: &Path, cookie: u64) -> SysResult<()> {
        self.inside(netns, cookie).map(drop)
    }

    fn pin_link(&self, link: &MemoryLink, path: &Path) -> SysResult<()> {
        self.place("pinning", path, Node::Link(Rc::clone(&link.0)), false)
    }

    fn open_link(&self, path: &Path) -> SysResult<Option<MemoryLink>> {
        Ok(match self.node(path) {
            Some((_, Node::Link(link))) => Some(MemoryLink(link)),
            _ => None,
        })
    }

    fn link_info(&self, link: &MemoryLink) -> SysResult<LinkInfo> {
        let target = link.0.target;
        let is_there = self.0.nodes.borrow().values().any(|(inode, _)| *inode == target);
        let target = match link.0.hook {
            _ if !is_there || !link.0.attached.get() => Target::Gone,
            Hook::Iterator => Target::Iterator,
            Hook::SkLookup => Target::Netns(target),
            Hook::TcxIngress => Target::Interface(link.0.interface),
            _ => Target::Cgroup(target),
        };
        Ok(LinkInfo { id: link.0.id, program: link.0.program.borrow().info.id, target })
    }

    fn all_links(&self) -> SysResult<Vec<MemoryLink>> {
        Ok(self.0.links.borrow().iter().filter_map(Weak::upgrade).map(MemoryLink).collect())
    }

    fn replace(&self, link: &MemoryLink, program: &MemoryProgram) -> SysResult<()> {
        *link.0.program.borrow_mut() = Rc::clone(&program.0);
        Ok(())
    }

    fn detach(&self, link: &MemoryLink) -> SysResult<()> {
        link.0.attached.set(false);
        Ok(())
    }

    fn attached(&self, cgroup: &Path, hook: Hook, effective: bool) -> SysResult<Vec<u32>> {
        // Those of the cgroup itself run first.
        let levels = if effective { usize::MAX } else { 1 };
        let targets = cgroup.ancestors().take(levels).filter_map(|cgroup| self.node(cgroup));
        let links: Vec<_> = self.0.links.borrow().iter().filter_map(Weak::upgrade).collect();
        let attached = targets.flat_map(|(target, _)| {
            let here = links.iter().filter(move |link| link.target == target && link.hook == hook);
            here.filter(|link| link.attached.get()).map(|link| link.program.borrow().info.id)
        });
        Ok(attached.collect())
    }

    fn attached_below(&self, cgroup: &Path, hook: Hook) -> SysResult<Vec<u32>> {
        let nodes: Vec<PathBuf> = self.0.nodes.borrow().keys().cloned().collect();
        let below = nodes.iter().filter(|path| path.starts_with(cgroup) && *path != cgroup);
        let attached = below.map(|path| self.attached(path, hook, false)).collect::<SysResult<Vec<_>>>()?;
        Ok(attached.concat())
    }

    fn detach_message(&self, sockets: &MemoryMap) -> SysResult<()> {
        sockets.0.message.borrow_mut().take();
        Ok(())
    }
}
