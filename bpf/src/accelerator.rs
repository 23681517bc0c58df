//! The programs that accelerate. Only with the feature `acceleration`: without it they are not compiled.

use crate::program::Hook;

/// A program that accelerates. Attached only where a policy accelerates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceleratorDef {
    /// The C function, also the name of its pin.
    pub name: &'static str,
    /// What kind of place it is attached to.
    pub hook: Hook,
    /// The tracepoint; the hook of the security modules; the map of sockets for [`Hook::Message`].
    pub target: &'static str,
    /// Whether acceleration goes without it.
    pub need: Need,
}

/// Whether acceleration goes without a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It does not.
    Always,
    /// It does where the kernel refuses it.
    IfAllowed,
    /// It does; and the program is of use only where the kernel miscounts what `FIONREAD` asks for. The first of
    /// these that the kernel allows is enough.
    IfMiscounted,
}

const fn accelerator(name: &'static str, hook: Hook, target: &'static str, need: Need) -> AcceleratorDef {
    AcceleratorDef { name, hook, target, need }
}

/// Repairs what `FIONREAD` told a reader.
pub const REPAIRS_COUNT: &str = "mesh_recount";

/// Takes note where `FIONREAD` told a reader too little.
pub const NOTES_COUNT: &str = "mesh_miscount";

/// Every program of acceleration, in the order in which they are attached: those that watch come before the one
/// that sends bytes over the fast path.
pub const ACCELERATORS: &[AcceleratorDef] = &[
    accelerator("mesh_may_read", Hook::Security, "file_permission", Need::IfAllowed),
    accelerator(REPAIRS_COUNT, Hook::Tracepoint, "sys_exit", Need::IfMiscounted),
    accelerator(NOTES_COUNT, Hook::Tracepoint, "sys_exit", Need::IfMiscounted),
    accelerator("mesh_taken", Hook::Tracepoint, "tcp_rcv_space_adjust", Need::Always),
    accelerator("mesh_received", Hook::Tracepoint, "sock_recv_length", Need::Always),
    accelerator("mesh_msg", Hook::Message, "accelerated", Need::Always),
];

/// The classifier that tells what of a socket is unread: user space runs it, and it is attached nowhere.
pub const UNREAD: &str = "mesh_unread";

/// The iterator that takes sockets of a network namespace out whose readers were told too little by `FIONREAD`.
pub const RELEASE: &str = "mesh_release";
