//! The one table of BPF programs: where each is attached, and in which order.

use crate::map::{self, MapDef};

/// An object file that `build.rs` compiled. aya-obj reads the ELF in place and wants 8-byte alignment.
#[cfg(feature = "programs")]
macro_rules! object {
    ($name:literal) => {{
        static OBJECT: &Aligned<[u8]> =
            &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".bpf.o")));
        &OBJECT.0
    }};
}
#[cfg(feature = "programs")]
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

/// Where a program is attached. Numbers are those of `enum bpf_attach_type` (`linux/bpf.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// A packet that a socket receives. Minimum kernel 4.10.
    Ingress = 0,
    /// A packet that a socket sends. Minimum kernel 4.10.
    Egress = 1,
    /// `sock_ops` on the instance's cgroup. Minimum kernel 4.13; socket storage 5.2, namespace cookie 5.14.
    SockOps = 3,
    /// `sendmsg(2)` on a socket of a sockhash. Minimum kernel 4.17; namespace cookie 5.15.
    Message = 7,
    /// `connect(2)` on an `AF_INET` socket. Minimum kernel 4.17.
    Connect4 = 10,
    /// `connect(2)` on an `AF_INET6` socket. Minimum kernel 4.17.
    Connect6 = 11,
    /// `sendmsg(2)` with an address on an `AF_INET` UDP socket. Minimum kernel 4.18.
    SendMsg4 = 14,
    /// `sendmsg(2)` with an address on an `AF_INET6` UDP socket. Minimum kernel 4.18.
    SendMsg6 = 15,
    /// `recvmsg(2)` on an `AF_INET` UDP socket. Minimum kernel 5.2.
    RecvMsg4 = 19,
    /// `recvmsg(2)` on an `AF_INET6` UDP socket. Minimum kernel 5.2.
    RecvMsg6 = 20,
    /// `getsockopt(2)`. Minimum kernel 5.3.
    GetSockOpt = 21,
    /// A tracepoint with types, `tp_btf`. Minimum kernel 5.5; attached by a link 5.19.
    Tracepoint = 23,
    /// A question of the Linux security modules. Minimum kernel 5.7; only where `bpf` is among the modules.
    Security = 27,
    /// An iterator over the TCP sockets of a network namespace; attached to nothing. Minimum kernel 5.9, to
    /// add what it finds to a map of sockets 5.11, to set options 5.16.
    Iterator = 28,
    /// `getpeername(2)` on an `AF_INET` socket. Minimum kernel 5.8.
    GetPeerName4 = 29,
    /// `getpeername(2)` on an `AF_INET6` socket. Minimum kernel 5.8.
    GetPeerName6 = 30,
    /// `getsockname(2)` on an `AF_INET` socket. Minimum kernel 5.8.
    GetSockName4 = 31,
    /// `getsockname(2)` on an `AF_INET6` socket. Minimum kernel 5.8.
    GetSockName6 = 32,
    /// The choice of a socket for a packet, in a network namespace. Minimum kernel 5.9.
    SkLookup = 36,
    /// A packet that comes in by an interface of a pod. Minimum kernel 6.6.
    TcxIngress = 46,
}

impl Hook {
    /// The name in messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::SockOps => "sock_ops",
            Self::Message => "sk_msg",
            Self::Connect4 => "connect4",
            Self::Connect6 => "connect6",
            Self::SendMsg4 => "sendmsg4",
            Self::SendMsg6 => "sendmsg6",
            Self::RecvMsg4 => "recvmsg4",
            Self::RecvMsg6 => "recvmsg6",
            Self::GetSockOpt => "getsockopt",
            Self::Tracepoint => "tracepoint",
            Self::Security => "lsm",
            Self::Iterator => "iterator",
            Self::GetPeerName4 => "getpeername4",
            Self::GetPeerName6 => "getpeername6",
            Self::GetSockName4 => "getsockname4",
            Self::GetSockName6 => "getsockname6",
            Self::SkLookup => "sk_lookup",
            Self::TcxIngress => "tcx_ingress",
        }
    }

    /// Whether it is attached to the instance's cgroup; else to the kernel itself, to a pod or to nothing.
    #[must_use]
    pub const fn is_of_cgroup(self) -> bool {
        !matches!(
            self,
            Self::Tracepoint
                | Self::Security
                | Self::Iterator
                | Self::SkLookup
                | Self::TcxIngress
                | Self::Message
        )
    }
}

/// What a program does for a flow: it decides, or it answers from what was decided. Answering programs
/// are attached before and detached after deciding ones, so that no flow is redirected that cannot be
/// told where it was going.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Looks at state kept with sockets.
    Answers,
    /// Looks at the policy.
    Decides,
}

/// One program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramDef {
    /// The C function, also the name of its pins.
    pub name: &'static str,
    /// Where it is attached.
    pub hook: Hook,
    /// What it does.
    pub role: Role,
    /// The kernel's tracepoint, for [`Hook::Tracepoint`].
    pub tracepoint: &'static str,
    /// What it is attached for.
    pub policies: Policies,
}

/// The policies that a program is attached for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policies {
    /// Whatever is live.
    All,
    /// Those that decide datagrams that members receive.
    InboundDatagrams,
}

const fn program(name: &'static str, hook: Hook, role: Role) -> ProgramDef {
    ProgramDef { name, hook, role, tracepoint: "", policies: Policies::All }
}

const fn tracer(name: &'static str, tracepoint: &'static str) -> ProgramDef {
    ProgramDef { name, hook: Hook::Tracepoint, role: Role::Answers, tracepoint, policies: Policies::All }
}

/// Every program that an instance has, in the order in which they are attached.
pub const PROGRAMS: &[ProgramDef] = &[
    tracer("mesh_cgroup_made", "cgroup_mkdir"),
    tracer("mesh_cgroup_gone", "cgroup_rmdir"),
    program("mesh_listeners", Hook::Iterator, Role::Answers),
    program("mesh_sockops", Hook::SockOps, Role::Answers),
    program("mesh_getsockopt", Hook::GetSockOpt, Role::Answers),
    program("mesh_peername4", Hook::GetPeerName4, Role::Answers),
    program("mesh_peername6", Hook::GetPeerName6, Role::Answers),
    program("mesh_sockname4", Hook::GetSockName4, Role::Answers),
    program("mesh_sockname6", Hook::GetSockName6, Role::Answers),
    program("mesh_recvmsg4", Hook::RecvMsg4, Role::Answers),
    program("mesh_recvmsg6", Hook::RecvMsg6, Role::Answers),
    program("mesh_egress", Hook::Egress, Role::Decides),
    ProgramDef {
        policies: Policies::InboundDatagrams,
        ..program("mesh_ingress", Hook::Ingress, Role::Decides)
    },
    program("mesh_sendmsg4", Hook::SendMsg4, Role::Decides),
    program("mesh_sendmsg6", Hook::SendMsg6, Role::Decides),
    program("mesh_connect4", Hook::Connect4, Role::Decides),
    program("mesh_connect6", Hook::Connect6, Role::Decides),
];

/// How inbound traffic to pods is decided. Each pod has a small program of its own that says which pod it is, and goes
/// on to the one that decides for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inbound {
    /// Where the kernel looks for a packet's socket: established connections never come there.
    #[default]
    SkLookup,
    /// At the pod's interfaces, where every packet comes.
    Tc,
}

impl Inbound {
    /// The word of the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::SkLookup => "sk_lookup",
            Self::Tc => "tc",
        }
    }

    /// Both ways.
    pub const ALL: [Self; 2] = [Self::SkLookup, Self::Tc];

    /// The map with the program that decides.
    #[must_use]
    pub const fn map(self) -> &'static MapDef {
        match self {
            Self::SkLookup => &map::INBOUND_PROGRAM,
            Self::Tc => &map::ARRIVAL_PROGRAM,
        }
    }

    /// Its program that decides; those of pods have the same name.
    #[must_use]
    pub const fn program(self) -> ProgramDef {
        match self {
            Self::SkLookup => program("mesh_inbound", Hook::SkLookup, Role::Decides),
            Self::Tc => program("mesh_arrival", Hook::TcxIngress, Role::Decides),
        }
    }

    /// The object file with its program, compiled by `build.rs`. Only with the feature `programs`.
    #[cfg(feature = "programs")]
    #[must_use]
    pub fn object(self) -> &'static [u8] {
        match self {
            Self::SkLookup => object!("inbound"),
            Self::Tc => object!("arrival"),
        }
    }
}

/// The object file with [`PROGRAMS`]. Only with the feature `programs`.
#[cfg(feature = "programs")]
pub static OBJECT: &[u8] = object!("mesh");

/// The object file with the programs that network namespaces have of their own: for each way of [`Inbound`] one, of the
/// name of the program that decides. Where [`ENTRY_NETNS`](crate::abi::ENTRY_NETNS) stands in its instructions, its
/// loader writes the namespace's cookie. Only with the feature `programs`.
#[cfg(feature = "programs")]
pub static ENTRY: &[u8] = object!("entry");

/// The object file with programs that try what a kernel can do. Only with the feature `programs`.
#[cfg(feature = "programs")]
pub static PROBES: &[u8] = object!("probes");
