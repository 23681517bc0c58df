//! The program that each network namespace has of its own: `bpf/programs/entry.bpf.c`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya_obj::generated::{BPF_DW, BPF_IMM, BPF_LD, bpf_insn};
use mesh_bpf::abi::ENTRY_NETNS;
use mesh_bpf::map::{COUNTERS, TAIL_CALL_SLOTS};
use mesh_bpf::program::{ENTRY, Inbound};

use super::small;

/// The maps that it uses.
#[derive(Debug)]
pub(super) struct Maps {
    /// `tail_call_slots`.
    pub(super) slots: OwnedFd,
    /// `counters`.
    pub(super) counters: OwnedFd,
    /// That of [`Inbound::map`].
    pub(super) program: OwnedFd,
}

/// Loads the program of a network namespace, by the namespace's cookie.
///
/// Its kind and hook are those of the program that decides: the kernel lets only such go on to it.
pub(super) fn load(maps: &Maps, by: Inbound, netns: u64) -> io::Result<OwnedFd> {
    let program = by.program();
    let maps = [
        (TAIL_CALL_SLOTS.name, maps.slots.as_fd()),
        (COUNTERS.name, maps.counters.as_fd()),
        (by.map().name, maps.program.as_fd()),
    ];
    let mut code = small::code(ENTRY, program.name, &maps)?;
    if write_netns(&mut code, netns) != 1 {
        return Err(io::Error::other("the program of a pod does not say once which namespace it is for"));
    }
    small::load(program.name, program.hook, &code)
}

/// Writes the cookie wherever [`ENTRY_NETNS`] is loaded; how often that is.
fn write_netns(code: &mut [bpf_insn], netns: u64) -> usize {
    const LOAD: u32 = BPF_LD | BPF_IMM | BPF_DW;
    let mut written = 0;
    let mut rest = code;
    while let [first, tail @ ..] = rest {
        if let [second, ..] = tail
            && u32::from(first.code) == LOAD
            && value(first, second) == ENTRY_NETNS
        {
            (first.imm, second.imm) = halves(netns);
            written += 1;
        }
        rest = tail;
    }
    written
}

#[expect(clippy::cast_sign_loss, reason = "the bits count")]
fn value(low: &bpf_insn, high: &bpf_insn) -> u64 {
    u64::from(low.imm as u32) | u64::from(high.imm as u32) << 32
}

#[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
const fn halves(value: u64) -> (i32, i32) {
    (value as i32, (value >> 32) as i32)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    const NETNS: u64 = 0xfedc_ba98_7654_3210;

    fn code(by: Inbound) -> Vec<bpf_insn> {
        let file = File::open("/dev/null").unwrap();
        let maps = [TAIL_CALL_SLOTS.name, COUNTERS.name, by.map().name].map(|name| (name, file.as_fd()));
        small::code(ENTRY, by.program().name, &maps).unwrap()
    }

    #[test]
    fn a_namespace_is_written_once_and_nothing_else_changes() {
        for by in Inbound::ALL {
            let compiled = code(by);
            let mut written = compiled.clone();
            assert_eq!(write_netns(&mut written, NETNS), 1);
            let values: Vec<u64> = written.windows(2).map(|two| value(&two[0], &two[1])).collect();
            assert!(values.contains(&NETNS) && !values.contains(&ENTRY_NETNS));
            let differ = compiled.iter().zip(&written).filter(|(a, b)| a.imm != b.imm);
            assert_eq!(differ.count(), 2);
            assert_eq!(write_netns(&mut written, 0), 0);
        }
    }
}
