//! Programs that are put together here, and not compiled: their instructions, and what they are loaded as.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use mesh_bpf::program::Hook;

use super::syscall::{self, NewProgram};

/// Registers.
pub(super) const R0: u8 = 0;
pub(super) const R1: u8 = 1;
pub(super) const R2: u8 = 2;
pub(super) const R3: u8 = 3;
pub(super) const R4: u8 = 4;
pub(super) const R6: u8 = 6;
pub(super) const R7: u8 = 7;
pub(super) const STACK: u8 = 10;

/// In the place of a source: the value is a map's descriptor.
const IS_MAP: u8 = 1;

/// Ends a program.
pub(super) const EXIT: u64 = instruction(0x95, 0, 0, 0, 0);

/// `struct bpf_insn`: code, registers, offset, immediate value.
#[expect(clippy::cast_sign_loss, reason = "the bits count")]
pub(super) const fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> u64 {
    code as u64
        | (to as u64) << 8
        | (from as u64) << 12
        | (offset as u16 as u64) << 16
        | (value as u32 as u64) << 32
}

pub(super) const fn copy(to: u8, from: u8) -> u64 {
    instruction(0xbf, to, from, 0, 0)
}

pub(super) const fn set(to: u8, value: i32) -> u64 {
    instruction(0xb7, to, 0, 0, value)
}

pub(super) const fn add(to: u8, value: i32) -> u64 {
    instruction(0x07, to, 0, 0, value)
}

pub(super) const fn call(helper: i32) -> u64 {
    instruction(0x85, 0, 0, 0, helper)
}

pub(super) const fn store(to: u8, offset: i16, from: u8) -> u64 {
    instruction(0x7b, to, from, offset, 0)
}

/// Goes on this many instructions later where a register is 0.
pub(super) const fn skip_if_zero(register: u8, by: i16) -> u64 {
    instruction(0x15, register, 0, by, 0)
}

#[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
pub(super) const fn set_long(to: u8, kind: u8, value: u64) -> [u64; 2] {
    [instruction(0x18, to, kind, 0, value as i32), instruction(0, 0, 0, 0, (value >> 32) as i32)]
}

/// Stores 32 bits.
pub(super) const fn store_value(to: u8, offset: i16, value: i32) -> u64 {
    instruction(0x62, to, 0, offset, value)
}

/// The same as 64 bits.
pub(super) const fn store_long_value(to: u8, offset: i16, value: i32) -> u64 {
    instruction(0x7a, to, 0, offset, value)
}

pub(super) fn map(to: u8, map: &impl AsRawFd) -> [u64; 2] {
    set_long(to, IS_MAP, map.as_raw_fd().unsigned_abs().into())
}

/// `enum bpf_prog_type` of the programs of a hook, and the hook that they are loaded for; 0 where the kernel does not
/// ask.
pub(super) const fn kind(hook: Hook) -> (u32, u32) {
    match hook {
        Hook::Ingress | Hook::Egress => (8, hook as u32),
        Hook::SockOps => (13, 0),
        Hook::Message => (16, 0),
        Hook::GetSockOpt => (25, hook as u32),
        Hook::Tracepoint | Hook::Iterator => (26, hook as u32),
        Hook::Security => (29, hook as u32),
        Hook::SkLookup => (30, hook as u32),
        Hook::TcxIngress => (3, 0),
        _ => (18, hook as u32),
    }
}

/// Loads instructions as a program of a hook.
pub(super) fn load(name: &str, hook: Hook, code: &[u64]) -> io::Result<OwnedFd> {
    let (kind, hook) = kind(hook);
    syscall::load_program(&NewProgram { name, kind, hook, code, types: None }, &mut [])
}
