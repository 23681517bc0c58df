//! The program that each pod has of its own: it leaves the pod's cookie and goes on to the program that decides for all.
//!
//! It is put together here, and not compiled, since it is loaded whenever a pod comes: nothing has to be read or
//! parsed for it, and the verifier has forty instructions to look at.

use std::io;
use std::os::fd::OwnedFd;

use mesh_bpf::abi::{Counter, ENTRIES};
use mesh_bpf::program::Inbound;

use super::asm::{
    self, EXIT, R0, R1, R2, R3, R6, R7, STACK, add, call, copy, instruction, map, set, set_long,
    skip_if_zero, store, store_long_value, store_value,
};

/// Helpers.
const MAP_LOOKUP: i32 = 1;
const TAIL_CALL: i32 = 12;

/// `BPF_CMPXCHG`.
const COMPARE_AND_SWAP: i32 = 0xf1;
/// Where a key is on the stack.
const KEY: i16 = -4;
/// Bytes of a 64-bit word.
const WORD: i16 = 8;
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "a constant below 16")]
/// From a context to its pod in `mesh_entries`.
const POD: i16 = ENTRIES as i16 * WORD;

/// The maps that it uses.
#[derive(Debug)]
pub(super) struct Maps {
    /// `entries`.
    pub(super) entries: OwnedFd,
    /// `counters`.
    pub(super) counters: OwnedFd,
    /// That of [`Inbound::map`].
    pub(super) program: OwnedFd,
}

/// Looks up a number in a map; the value, or 0, is in the first register.
fn look_up(from: &OwnedFd, key: i32) -> Vec<u64> {
    let mut code = vec![store_value(STACK, KEY, key), copy(R2, STACK), add(R2, KEY.into())];
    code.extend(map(R1, from));
    code.push(call(MAP_LOOKUP));
    code
}

fn instructions(maps: &Maps, by: Inbound, pod: u64) -> Vec<u64> {
    let pass = match by {
        Inbound::SkLookup => 1,
        Inbound::Tc => -1,
    };
    // Goes on with the program that decides, which does not return.
    let mut go_on = set_long(R1, 0, pod).to_vec();
    go_on.extend([store(R7, POD, R1), copy(R1, R6)]);
    go_on.extend(map(R2, &maps.program));
    go_on.extend([set(R3, 0), call(TAIL_CALL), store_long_value(R7, 0, 0)]);
    // It came back, or never went.
    let mut lost = look_up(&maps.counters, Counter::EntryLost as i32);
    let count = [instruction(0x79, R1, R0, 0, 0), add(R1, 1), store(R0, 0, R1)];
    lost.push(skip_if_zero(R0, length(&count)));
    lost.extend(count);
    // One place after the other, until one is free.
    let mut claim = Vec::new();
    for place in (0..ENTRIES).rev() {
        let step = if place + 1 < ENTRIES { vec![add(R7, WORD.into())] } else { Vec::new() };
        let after: i16 = length(&step) + length(&claim);
        // Behind the last attempt it jumps over what goes on.
        let to_go_on = if claim.is_empty() { 1 } else { after };
        let mut attempt = vec![set(R0, 0), instruction(0xdb, R7, R6, 0, COMPARE_AND_SWAP)];
        attempt.push(skip_if_zero(R0, to_go_on));
        attempt.extend(step);
        if claim.is_empty() {
            attempt.push(instruction(0x05, 0, 0, length(&go_on), 0));
        }
        attempt.extend(claim);
        claim = attempt;
    }
    let mut code = vec![copy(R6, R1)];
    code.extend(look_up(&maps.entries, 0));
    code.extend([copy(R7, R0), skip_if_zero(R7, length(&claim) + length(&go_on))]);
    code.extend(claim);
    code.extend(go_on);
    code.extend(lost);
    code.extend([set(R0, pass), EXIT]);
    code
}

fn length(code: &[u64]) -> i16 {
    i16::try_from(code.len()).unwrap_or(i16::MAX)
}

/// Loads the program of a pod.
///
/// Its kind and hook are those of the program that decides: the kernel lets only such go on to it.
pub(super) fn load(maps: &Maps, by: Inbound, pod: u64) -> io::Result<OwnedFd> {
    let program = by.program();
    asm::load(program.name, program.hook, &instructions(maps, by, pod))
}
