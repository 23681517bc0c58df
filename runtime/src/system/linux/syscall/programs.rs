//! Commands on programs.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use aya_obj::generated::{BPF_F_QUERY_EFFECTIVE, bpf_cmd, bpf_func_info, bpf_insn, bpf_line_info};

use super::{address, address_mut, attributes, bpf, bpf_fd, kernel_name, length, number};

/// What a new program is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewProgram<'a> {
    pub(crate) name: &'a str,
    /// `enum bpf_prog_type`.
    pub(crate) kind: u32,
    /// `enum bpf_attach_type`.
    pub(crate) hook: u32,
    pub(crate) code: &'a [bpf_insn],
    /// What one that was compiled says of itself.
    pub(crate) types: Option<ProgramTypes<'a>>,
}

/// Type information of a program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProgramTypes<'a> {
    pub(crate) types: BorrowedFd<'a>,
    /// `struct bpf_func_info`, one after the other.
    pub(crate) functions: &'a [u8],
    /// `struct bpf_line_info`, one after the other.
    pub(crate) lines: &'a [u8],
    /// The type of the kernel that a program of tracing is for; 0 for others.
    pub(crate) target: u32,
}

/// Loads a program; what the verifier says is written to `log`, where that is not empty.
pub(crate) fn load_program(program: &NewProgram<'_>, log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut load = attributes();
    load.__bindgen_anon_3.prog_type = program.kind;
    load.__bindgen_anon_3.expected_attach_type = program.hook;
    load.__bindgen_anon_3.insns = program.code.as_ptr() as u64;
    load.__bindgen_anon_3.insn_cnt = length(program.code.len())?;
    load.__bindgen_anon_3.license = c"Dual MIT/GPL".as_ptr() as u64;
    load.__bindgen_anon_3.prog_name = kernel_name(program.name);
    if let Some(types) = program.types {
        let (function, line) = (size_of::<bpf_func_info>(), size_of::<bpf_line_info>());
        load.__bindgen_anon_3.prog_btf_fd = number(types.types);
        load.__bindgen_anon_3.func_info = address(types.functions);
        load.__bindgen_anon_3.func_info_rec_size = length(function)?;
        load.__bindgen_anon_3.func_info_cnt = length(types.functions.len() / function)?;
        load.__bindgen_anon_3.line_info = address(types.lines);
        load.__bindgen_anon_3.line_info_rec_size = length(line)?;
        load.__bindgen_anon_3.line_info_cnt = length(types.lines.len() / line)?;
        load.__bindgen_anon_3.attach_btf_id = types.target;
    }
    if !log.is_empty() {
        load.__bindgen_anon_3.log_level = 1;
        load.__bindgen_anon_3.log_buf = address_mut(log);
        load.__bindgen_anon_3.log_size = length(log.len())?;
    }
    // SAFETY: code, license, type information and log outlive the call.
    unsafe { bpf_fd(bpf_cmd::BPF_PROG_LOAD, &mut load) }
}

/// Detaches that very program from a map of sockets.
pub(crate) fn detach_from_map(program: BorrowedFd<'_>, map: BorrowedFd<'_>, hook: u32) -> io::Result<()> {
    attach(bpf_cmd::BPF_PROG_DETACH, program, map, hook)
}

pub(super) fn attach(
    command: bpf_cmd,
    program: BorrowedFd<'_>,
    map: BorrowedFd<'_>,
    hook: u32,
) -> io::Result<()> {
    let mut attach = attributes();
    attach.__bindgen_anon_5.__bindgen_anon_1.target_fd = number(map);
    attach.__bindgen_anon_5.attach_bpf_fd = number(program);
    attach.__bindgen_anon_5.attach_type = hook;
    // SAFETY: no addresses.
    unsafe { bpf(command, &mut attach) }.map(drop)
}

/// Ids of the programs attached to a hook; those above count where `effective`.
pub(crate) fn attached(target: BorrowedFd<'_>, hook: u32, effective: bool) -> io::Result<Vec<u32>> {
    let mut ids = vec![0u32; 64];
    loop {
        let mut query = attributes();
        query.query.__bindgen_anon_1.target_fd = number(target);
        query.query.attach_type = hook;
        query.query.query_flags = if effective { BPF_F_QUERY_EFFECTIVE } else { 0 };
        query.query.prog_ids = ids.as_mut_ptr() as u64;
        query.query.__bindgen_anon_2.prog_cnt = length(ids.len())?;
        // SAFETY: `ids` holds `prog_cnt` ids.
        match unsafe { bpf(bpf_cmd::BPF_PROG_QUERY, &mut query) } {
            Ok(_) => {
                // SAFETY: the kernel wrote it.
                ids.truncate(unsafe { query.query.__bindgen_anon_2.prog_cnt } as usize);
                return Ok(ids);
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => ids.resize(ids.len() * 2, 0),
            Err(error) => return Err(error),
        }
    }
}
