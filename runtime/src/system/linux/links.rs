//! Links.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use aya_obj::generated::bpf_link_info;
use mesh_bpf::program::{Hook, Inbound};

use super::enter::{inside, open_netns};
use super::iterator::iterate;
use super::kernel::Kernel;
use super::map::KernelMap;
use super::netns::interfaces;
use super::step::{absent, at, on};
use super::{sock_diag, syscall};
use crate::system::{LinkInfo, Links, SysResult};

impl Links for Kernel {
    type Link = OwnedFd;

    fn attach(&self, program: &OwnedFd, hook: Hook, cgroup: &Path) -> SysResult<OwnedFd> {
        if !hook.is_of_cgroup() {
            return on(
                "attaching",
                "a tracepoint or iterator",
                syscall::link(program.as_fd(), None, hook as u32),
            );
        }
        let target = at("opening", cgroup, File::open(cgroup))?;
        at("attaching to", cgroup, syscall::link(program.as_fd(), Some(target.as_fd()), hook as u32))
    }

    fn attach_netns(
        &self,
        program: &OwnedFd,
        by: Inbound,
        netns: &Path,
        cookie: u64,
        covered: &BTreeSet<u32>,
    ) -> SysResult<Vec<OwnedFd>> {
        let target = at("opening", netns, open_netns(netns, cookie))?;
        let hook = by.program().hook as u32;
        let links = match by {
            Inbound::SkLookup => {
                syscall::link(program.as_fd(), Some(target.as_fd()), hook).map(|link| vec![link])
            }
            Inbound::Tc => inside(&target, || {
                let interfaces = interfaces()?.into_iter().filter(|number| !covered.contains(number));
                interfaces.map(|number| syscall::link_interface(program.as_fd(), number, hook)).collect()
            }),
        };
        let call = match by {
            Inbound::SkLookup => "the attachment to the network namespace",
            Inbound::Tc => "the attachment to interfaces (tcx, Linux 6.6)",
        };
        at(call, netns, links)
    }

    fn iterate(&self, iterator: &OwnedFd, netns: &Path, cookie: u64) -> SysResult<()> {
        let target = at("opening", netns, open_netns(netns, cookie))?;
        // It passes all places for connections of the whole machine, in milliseconds. A new pod has no socket yet.
        let body = || match sock_diag::somebody_listens() {
            Ok(false) => Ok(()),
            _ => iterate(iterator),
        };
        at("looking at the sockets", netns, inside(&target, body))
    }

    fn pin_link(&self, link: &OwnedFd, path: &Path) -> SysResult<()> {
        at("pinning", path, syscall::pin(link.as_fd(), path))
    }

    fn open_link(&self, path: &Path) -> SysResult<Option<OwnedFd>> {
        at("opening", path, absent(syscall::open_pin(path)))
    }

    fn link_info(&self, link: &OwnedFd) -> SysResult<LinkInfo> {
        let found: bpf_link_info = on("looking at", "a link", syscall::info(link.as_fd()))?;
        Ok(LinkInfo { id: found.id, program: found.prog_id, target: syscall::target(&found) })
    }

    fn all_links(&self) -> SysResult<Vec<OwnedFd>> {
        let mut links = Vec::new();
        let mut id = 0;
        while let Some(next) = on("listing", "links", absent(syscall::next_link(id)))? {
            // One that ended meanwhile is none.
            links.extend(on("opening", "a link", absent(syscall::link_by_id(next)))?);
            id = next;
        }
        Ok(links)
    }

    fn replace(&self, link: &OwnedFd, program: &OwnedFd) -> SysResult<()> {
        on("replacing the program of", "a link", syscall::replace(link.as_fd(), program.as_fd()))
    }

    fn detach(&self, link: &OwnedFd) -> SysResult<()> {
        match syscall::detach(link.as_fd()) {
            // Its cgroup is gone, and the attachment with it; or it is that of a tracepoint or iterator, which
            // ends with its last holder: its pin.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOLINK | libc::EOPNOTSUPP)) => Ok(()),
            result => on("detaching", "a link", result),
        }
    }

    fn attached(&self, cgroup: &Path, hook: Hook, effective: bool) -> SysResult<Vec<u32>> {
        let target = at("opening", cgroup, File::open(cgroup))?;
        at("asking what is attached to", cgroup, syscall::attached(target.as_fd(), hook as u32, effective))
    }

    fn attached_below(&self, cgroup: &Path, hook: Hook) -> SysResult<Vec<u32>> {
        let mut found = Vec::new();
        let mut left = vec![cgroup.to_owned()];
        while let Some(dir) = left.pop() {
            // One that ends meanwhile has nothing attached.
            let Some(entries) = at("listing", &dir, absent(fs::read_dir(&dir)))? else { continue };
            for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                let below = entry.path();
                let Some(target) = at("opening", &below, absent(File::open(&below)))? else { continue };
                let asked = syscall::attached(target.as_fd(), hook as u32, false);
                found.extend(at("asking what is attached to", &below, asked)?);
                left.push(below);
            }
        }
        Ok(found)
    }

    fn detach_message(&self, sockets: &KernelMap) -> SysResult<()> {
        let hook = Hook::Message as u32;
        let name = &sockets.info.name;
        for id in on("asking what is attached to", name, syscall::attached(sockets.fd.as_fd(), hook, false))?
        {
            let Some(program) = on("opening", name, absent(syscall::program_by_id(id)))? else { continue };
            let detached = syscall::detach_from_map(program.as_fd(), sockets.fd.as_fd(), hook);
            on("detaching from the map", name, absent(detached))?;
        }
        Ok(())
    }
}
