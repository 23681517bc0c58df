//! Commands on links.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use aya_obj::generated::{bpf_cmd, bpf_link_info, bpf_link_type};

use super::{attributes, bpf, bpf_fd, number};
use crate::system::Target;

/// Without a target for a tracepoint and an iterator. Minimum kernel 5.7.
pub(crate) fn link(
    program: BorrowedFd<'_>,
    target: Option<BorrowedFd<'_>>,
    hook: u32,
) -> io::Result<OwnedFd> {
    create(program, target.map_or(0, number), hook)
}

/// Attaches a program to a network interface of this thread's namespace. Minimum kernel 6.6.
pub(crate) fn link_interface(program: BorrowedFd<'_>, ifindex: u32, hook: u32) -> io::Result<OwnedFd> {
    create(program, ifindex, hook)
}

fn create(program: BorrowedFd<'_>, target: u32, hook: u32) -> io::Result<OwnedFd> {
    let mut create = attributes();
    create.link_create.__bindgen_anon_1.prog_fd = number(program);
    create.link_create.__bindgen_anon_2.target_fd = target;
    create.link_create.attach_type = hook;
    // SAFETY: no addresses.
    unsafe { bpf_fd(bpf_cmd::BPF_LINK_CREATE, &mut create) }
}

/// What an iterator says of this thread's namespace is read from the descriptor. Minimum kernel 5.8.
pub(crate) fn iterator(link: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut create = attributes();
    create.iter_create.link_fd = number(link);
    // SAFETY: no addresses.
    unsafe { bpf_fd(bpf_cmd::BPF_ITER_CREATE, &mut create) }
}

/// Minimum kernel 5.7.
pub(crate) fn replace(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut update = attributes();
    update.link_update.link_fd = number(link);
    update.link_update.__bindgen_anon_1.new_prog_fd = number(program);
    // SAFETY: no addresses.
    unsafe { bpf(bpf_cmd::BPF_LINK_UPDATE, &mut update) }.map(drop)
}

/// Minimum kernel 5.9.
pub(crate) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut detach = attributes();
    detach.link_detach.link_fd = number(link);
    // SAFETY: no addresses.
    unsafe { bpf(bpf_cmd::BPF_LINK_DETACH, &mut detach) }.map(drop)
}

const CGROUP: u32 = bpf_link_type::BPF_LINK_TYPE_CGROUP as u32;
const ITERATOR: u32 = bpf_link_type::BPF_LINK_TYPE_ITER as u32;
const NETNS: u32 = bpf_link_type::BPF_LINK_TYPE_NETNS as u32;
const TCX: u32 = bpf_link_type::BPF_LINK_TYPE_TCX as u32;

/// What a link is attached to.
pub(crate) fn target(link: &bpf_link_info) -> Target {
    let of = &link.__bindgen_anon_1;
    // SAFETY: all of it is plain data; which of it counts is by the type.
    let (cgroup, netns, interface) = unsafe { (of.cgroup.cgroup_id, of.netns.netns_ino, of.tcx.ifindex) };
    match (link.type_, cgroup, netns, interface) {
        (CGROUP, 0, ..) | (NETNS, _, 0, _) | (TCX, _, _, 0) => Target::Gone,
        (CGROUP, ..) => Target::Cgroup(cgroup),
        (ITERATOR, ..) => Target::Iterator,
        (NETNS, ..) => Target::Netns(netns.into()),
        (TCX, ..) => Target::Interface(interface),
        _ => Target::Other,
    }
}
