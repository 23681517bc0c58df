//! What acceleration needs of a machine. Only with the feature of that name.

use std::path::Path;

use mesh_bpf::accelerator::{ACCELERATORS, AcceleratorDef, REPAIRS_COUNT};
use mesh_bpf::map::ACCELERATED;
use mesh_bpf::program::Hook;

use super::feature::{Feature, NEWER, NO_ACCELERATION, SK_MSG, part};
use super::findings::{Findings, Probe, words};
use crate::instance::Instance;
use crate::system::linux::{Kernel, KernelMap, counts_all, is_charged};
use crate::system::{Acceleration, Links, Maps, SysError, SysResult};

const CHARGED: Feature = part(
    "sk_msg charges the reader",
    "6.13",
    "a policy that accelerates is refused: a reader that never reads would fill the memory",
    "a newer kernel, or of 6.12 one from 6.12.8 on",
);
const COUNTS: Feature = part(
    "FIONREAD counts accelerated sockets",
    // As far as kernels were tried: Debian's 6.12.86 does not.
    "6.12.117",
    "on an accelerated connection it counts the bytes of one way only: a program that reads by it (nginx) may stall",
    "it is repaired, where `repairing FIONREAD` works",
);
const REPAIRS: Feature = part(
    "repairing FIONREAD",
    "5.5",
    "where FIONREAD counts wrong on accelerated sockets, it goes on doing so",
    "a kernel that is not locked down (`lockdown=none`; with Secure Boot most are locked down); else the agent, or an `apply`, \
     helps readers that were told too little",
);
const NOTES: Feature = part(
    "noticing FIONREAD",
    "5.5",
    "where FIONREAD counts wrong and is not repaired, nobody sees which readers stall",
    "do not accelerate towards nginx",
);
const UNREAD: Feature = part(
    "finding unread bytes",
    "5.10",
    "while accelerated connections are open, `detach --all` needs `--drop-unread`; a reader that stalled in `splice` is \
     neither named nor helped",
    NEWER,
);

/// The hook of one of the programs of acceleration.
fn of(def: &AcceleratorDef) -> Feature {
    match def.target {
        "sys_exit" if def.name == REPAIRS_COUNT => REPAIRS,
        "sys_exit" => NOTES,
        "sock_recv_length" => part("tracepoint sock_recv_length", "6.3", NO_ACCELERATION, NEWER),
        "tcp_rcv_space_adjust" => part("tracepoint tcp_rcv_space_adjust", "5.5", NO_ACCELERATION, NEWER),
        "file_permission" => part(
            "the security module bpf",
            "6.8",
            "a program that turns to `splice` on an accelerated connection is not kept from it, and may stall",
            "a kernel with CONFIG_BPF_LSM, and `bpf` in its list of modules (`lsm=` at boot)",
        ),
        _ => SK_MSG,
    }
}

/// What needs no program of ours.
pub(super) fn alone(findings: &mut Findings) {
    findings.note(CHARGED, is_charged().map_err(words));
    findings.note(COUNTS, counts());
}

/// What [`programs`] looks at.
pub(super) fn features() -> impl Iterator<Item = Feature> {
    ACCELERATORS.iter().map(of).chain([UNREAD])
}

/// The programs of acceleration, where they are attached while a policy accelerates.
pub(super) fn programs(kernel: &Kernel, instance: &Instance, cgroup: &Path, findings: &mut Findings) {
    let maps = instance.maps();
    let sockets = || -> SysResult<KernelMap> {
        let missing = || SysError::new("opening", ACCELERATED.name, std::io::ErrorKind::NotFound);
        kernel.open_map(&maps.join(ACCELERATED.name))?.ok_or_else(missing)
    };
    match kernel.try_accelerators(&maps) {
        Ok(tried) => {
            for (def, program) in tried {
                let attached = program.and_then(|program| match def.hook {
                    Hook::Message => kernel.attach_message(&program, &sockets()?).map(|()| None),
                    _ => kernel.attach(&program, def.hook, cgroup).map(Some),
                });
                let works = attached.map_err(words).and_then(|_attached| match def.name {
                    REPAIRS_COUNT => repairs(&sockets().map_err(words)?),
                    _ => Ok(()),
                });
                findings.note(of(def), works);
            }
        }
        Err(error) => {
            let why = error.to_string();
            ACCELERATORS.iter().for_each(|def| findings.untried(of(def), &why));
        }
    }
    // No socket has that cookie.
    let unread = kernel.unread(&maps, &[0]).map(drop);
    findings.note(UNREAD, unread.map_err(words));
}

/// While the program that repairs is attached.
fn repairs(sockets: &KernelMap) -> Probe {
    match counts_all(Some(sockets)).map_err(words)? {
        true => Ok(()),
        false => Err("it counts wrong all the same".into()),
    }
}

/// Whether the kernel needs that.
fn counts() -> Probe {
    match counts_all(None).map_err(words)? {
        true => Ok(()),
        false => Err("it counts the bytes of one way only".into()),
    }
}
