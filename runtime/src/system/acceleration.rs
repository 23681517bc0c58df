//! Acceleration. Only with the feature of that name.

use std::path::Path;

use mesh_bpf::abi::Unread;
use mesh_bpf::accelerator::AcceleratorDef;

use super::error::SysResult;
use super::links::Links;
use super::programs::ProgramInfo;

/// What acceleration needs beside maps, programs and links. A machine that has none of it accelerates nothing.
pub trait Acceleration: Links {
    /// Loads all programs of acceleration, as [`System::load_programs`].
    ///
    /// # Errors
    /// What the kernel says, with the verifier's log.
    fn load_accelerators(&self, maps: &Path) -> SysResult<Vec<(&'static AcceleratorDef, Self::Program)>>;
    /// Attaches a program to a map of sockets: it is asked of every message that they send. Replaces another.
    ///
    /// # Errors
    /// What the kernel says.
    fn attach_message(&self, program: &Self::Program, sockets: &Self::Map) -> SysResult<()>;
    /// The program of a map of sockets.
    ///
    /// # Errors
    /// What the kernel says.
    fn message_program(&self, sockets: &Self::Map) -> SysResult<Option<ProgramInfo>>;
    /// What of the accelerated sockets with these cookies is unread, where anything is.
    ///
    /// # Errors
    /// What the kernel says.
    fn unread(&self, maps: &Path, cookies: &[u64]) -> SysResult<Vec<Unread>>;
    /// Whether `FIONREAD` of an accelerated socket tells another number than there is: tried.
    ///
    /// # Errors
    /// What the kernel says.
    fn miscounts(&self) -> SysResult<bool>;
    /// Takes the sockets of a network namespace off the fast path whose readers were told too little by `FIONREAD`, and
    /// the next time out of the map of sockets; wakes their readers. Makes sure before that the file still stands for
    /// the namespace with this cookie.
    ///
    /// # Errors
    /// What the kernel says; `ESTALE` where it is another.
    fn release(&self, maps: &Path, netns: &Path, cookie: u64) -> SysResult<()>;
}
