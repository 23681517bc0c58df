//! The program that each pod has of its own: it leaves the pod's cookie and goes on to the program that decides for all.
//!
//! It is put together here, and not compiled, since it is loaded whenever a pod comes: nothing has to be read or
//! parsed for it, and the verifier has forty instructions to look at.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use mesh_bpf::abi::{Counter, ENTRIES};
use mesh_bpf::program::{Hook, Inbound};

use super::sys::{self, NewProgram};

/// Registers.
const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const R3: u8 = 3;
const R6: u8 = 6;
const R7: u8 = 7;
const STACK: u8 = 10;

/// Helpers.
const MAP_LOOKUP: i32 = 1;
const TAIL_CALL: i32 = 12;

/// `BPF_CMPXCHG`.
const COMPARE_AND_SWAP: i32 = 0xf1;
/// In the place of a source: the value is a map's descriptor.
const IS_MAP: u8 = 1;
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

/// `struct bpf_insn`: code, registers, offset, immediate value.
#[expect(clippy::cast_sign_loss, reason = "the bits count")]
const fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> u64 {
    code as u64
        | (to as u64) << 8
        | (from as u64) << 12
        | (offset as u16 as u64) << 16
        | (value as u32 as u64) << 32
}

const fn copy(to: u8, from: u8) -> u64 {
    instruction(0xbf, to, from, 0, 0)
}

const fn set(to: u8, value: i32) -> u64 {
    instruction(0xb7, to, 0, 0, value)
}

const fn add(to: u8, value: i32) -> u64 {
    instruction(0x07, to, 0, 0, value)
}

const fn call(helper: i32) -> u64 {
    instruction(0x85, 0, 0, 0, helper)
}

const fn store(to: u8, offset: i16, from: u8) -> u64 {
    instruction(0x7b, to, from, offset, 0)
}

/// Goes on so many instructions later where a register is 0.
const fn skip_if_zero(register: u8, by: i16) -> u64 {
    instruction(0x15, register, 0, by, 0)
}

#[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
const fn set_long(to: u8, kind: u8, value: u64) -> [u64; 2] {
    [instruction(0x18, to, kind, 0, value as i32), instruction(0, 0, 0, 0, (value >> 32) as i32)]
}

fn map(to: u8, map: &OwnedFd) -> [u64; 2] {
    set_long(to, IS_MAP, map.as_raw_fd().unsigned_abs().into())
}

/// Looks up a number in a map; the value, or 0, is in the first register.
fn look_up(from: &OwnedFd, key: i32) -> Vec<u64> {
    let mut code = vec![instruction(0x62, STACK, 0, KEY, key), copy(R2, STACK), add(R2, KEY.into())];
    code.extend(map(R1, from));
    code.push(call(MAP_LOOKUP));
    code
}

fn code(maps: &Maps, by: Inbound, pod: u64) -> Vec<u64> {
    let pass = match by {
        Inbound::SkLookup => 1,
        Inbound::Tc => -1,
    };
    // Goes on with the program that decides, which does not return.
    let mut go_on = set_long(R1, 0, pod).to_vec();
    go_on.extend([store(R7, POD, R1), copy(R1, R6)]);
    go_on.extend(map(R2, &maps.program));
    go_on.extend([set(R3, 0), call(TAIL_CALL), instruction(0x7a, R7, 0, 0, 0)]);
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
    code.extend([set(R0, pass), instruction(0x95, 0, 0, 0, 0)]);
    code
}

fn length(code: &[u64]) -> i16 {
    i16::try_from(code.len()).unwrap_or(i16::MAX)
}

/// `BPF_PROG_TYPE_SCHED_CLS`.
const CLASSIFIER: u32 = 3;
/// `BPF_PROG_TYPE_SK_LOOKUP`.
const SK_LOOKUP: u32 = 30;

/// Loads the program of a pod.
///
/// Its kind and hook are those of the program that decides: the kernel lets only such go on to it.
pub(super) fn load(maps: &Maps, by: Inbound, pod: u64) -> io::Result<OwnedFd> {
    let (kind, hook) = match by {
        Inbound::SkLookup => (SK_LOOKUP, Hook::SkLookup as u32),
        Inbound::Tc => (CLASSIFIER, 0),
    };
    let code = code(maps, by, pod);
    sys::load_program(&NewProgram { name: by.program().name, kind, hook, code: &code, types: None }, &mut [])
}
