//! What meshc needs of a machine, since when kernels have it, and what is lost without it.

use mesh_bpf::program::{Hook, ProgramDef};

use crate::instance::Backend;

/// What a feature is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Without it no policy is enforced.
    Everything,
    /// Without it a part of the language is not, or is in another manner.
    Part,
}

/// One feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name, which scripts may rely on.
    pub name: &'static str,
    /// The first kernel that has it; empty where that is no question of the kernel.
    pub kernel: &'static str,
    /// What it is needed for.
    pub need: Need,
    /// By which backend alone it is used; `None`: by both.
    pub backend: Option<Backend>,
    /// What is lost without it.
    pub cost: &'static str,
    /// What to do about it, or what takes its place.
    pub instead: &'static str,
}

const fn all(name: &'static str, kernel: &'static str, cost: &'static str, instead: &'static str) -> Feature {
    Feature { name, kernel, need: Need::Everything, backend: Some(Backend::Bpf), cost, instead }
}

pub(super) const fn part(
    name: &'static str,
    kernel: &'static str,
    cost: &'static str,
    instead: &'static str,
) -> Feature {
    Feature { name, kernel, need: Need::Part, backend: Some(Backend::Bpf), cost, instead }
}

impl Feature {
    const fn of_both(self) -> Self {
        Self { backend: None, ..self }
    }

    const fn of_nftables(self) -> Self {
        Self { backend: Some(Backend::Nft), ..self }
    }
}

pub(super) const NEWER: &str = "a newer kernel";

pub(super) const RIGHTS: Feature = all(
    "capabilities",
    "5.8",
    "nothing can be loaded or attached",
    "run it as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN",
)
.of_both();
pub(super) const CGROUP: Feature = all(
    "cgroup v2",
    "4.5",
    "there is nothing that programs could be attached to",
    "mount -t cgroup2 none /sys/fs/cgroup/unified; `ip netns exec` hides it, `nsenter --net=FILE` does not",
)
.of_both();
pub(super) const BPFFS: Feature = all(
    "bpffs",
    "4.4",
    "programs and maps would end with the command that made them",
    "mount -t bpf bpf /sys/fs/bpf, or name a directory of one with --bpffs",
);
pub(super) const DETACHED: Feature = part(
    "detached mounts",
    "5.2",
    "only this check needs them: features that need a pin cannot be tried",
    NEWER,
);
pub(super) const BTF: Feature = all(
    "type information",
    "5.4",
    "programs that read structures of the kernel, and socket storage, cannot be loaded",
    "a kernel built with CONFIG_DEBUG_INFO_BTF",
);
pub(super) const MEMLOCK: Feature = part(
    "maps outside RLIMIT_MEMLOCK",
    "5.11",
    "tables count as locked memory: large policies are refused with EPERM",
    "ulimit -l unlimited for the command",
);
pub(super) const MMAP: Feature =
    all("memory-mapped arrays", "5.5", "tables cannot be filled, and nothing can be committed", NEWER);
pub(super) const FREEZE: Feature =
    all("frozen maps", "5.2", "tables could be changed behind the policy's back", NEWER);
pub(super) const INNER: Feature =
    all("inner maps of unequal size", "5.10", "generations of different size cannot take turns", NEWER);
pub(super) const BATCH: Feature = all(
    "batch operations",
    "5.6",
    "a generation cannot be put into its slot with one wait, nor counters be read in one go",
    NEWER,
);
pub(super) const STORAGE: Feature =
    all("socket storage", "5.2", "nothing can be remembered of a connection", NEWER);
pub(super) const RING: Feature =
    all("ring buffers in maps", "5.8", "`meshc observe` has nothing to read from", NEWER);
pub(super) const HASH: Feature = all("hash maps", "4.6", "members cannot be found", NEWER);
pub(super) const COOKIE: Feature =
    all("namespace cookies of sockets", "5.14", "pods cannot be told apart: `attach` fails", NEWER).of_both();
pub(super) const COOKIE_IN_PROGRAMS: Feature = all(
    "namespace cookies in programs",
    "5.15",
    "connect, sock_ops and getsockopt programs cannot tell whose socket it is",
    NEWER,
);
pub(super) const LINK: Feature = all("links to cgroups", "5.7", "programs end with the command", NEWER);
pub(super) const REPLACE: Feature =
    all("replacing a link's program", "5.7", "an upgrade would leave a gap without a policy", NEWER);
pub(super) const LISTENERS: Feature = part(
    "noting sockets that listen",
    "6.1.42",
    "a sidecar that listened before its pod was attached gets no inbound connections by sk_lookup",
    "Linux 6.1.42, 6.4.7, 6.5 or newer; or start sidecars after their pod is attached; or `--inbound tc`",
);
pub(super) const SK_LOOKUP: Feature = part(
    "sk_lookup",
    "5.9",
    "inbound connections cannot be given to sidecars by choosing the socket: a policy with inbound rules is refused",
    "`meshc apply --inbound tc` takes its place, where tcx works",
);
pub(super) const TCX: Feature = part(
    "tcx",
    "6.6",
    "`--inbound tc`, the fall-back of sk_lookup, has nothing to attach to: with it, a policy with inbound rules is refused",
    "sk_lookup serves inbound connections, where it works",
);
pub(super) const NO_ACCELERATION: &str = "a policy that accelerates is refused";
pub(super) const SK_MSG: Feature = part("sk_msg", "5.15", NO_ACCELERATION, NEWER);

/// The parts of the trial: IPv4, IPv6, datagrams, a denial.
pub(super) const TRIALS: [Feature; 4] = [
    trial("a redirected IPv4 connection"),
    trial("a redirected IPv6 connection"),
    trial("a redirected datagram, answered"),
    trial("a denied connection"),
];

const fn trial(name: &'static str) -> Feature {
    all(name, "6.1", "what the programs are for does not work, though each of them loads", "a report of this")
}

pub(super) const NFT_RULESETS: Feature = all(
    "nftables: rulesets",
    "5.2",
    "`--backend nft` has nothing to decide with",
    "a kernel built with CONFIG_NF_TABLES_INET, CONFIG_NFT_NAT, CONFIG_NFT_REDIR and CONFIG_NFT_REJECT_INET",
)
.of_nftables();
pub(super) const NFT_CGROUPS: Feature = part(
    "nftables: cgroups of sockets",
    "5.13",
    "by `--backend nft`, policies whose workloads or exemptions are cgroups are refused",
    "a kernel built with CONFIG_NFT_SOCKET; pods need none",
)
.of_nftables();
pub(super) const NFT_TRACKING: Feature = all(
    "nftables: listing connections",
    "2.6.14",
    "by `--backend nft`, a new policy would not reach flows of datagrams that are open",
    "a kernel built with CONFIG_NF_CT_NETLINK (`modprobe nf_conntrack_netlink`)",
)
.of_nftables();
pub(super) const NFT_ROOM: Feature = part(
    "nftables: room for connections",
    "2.6.14",
    "the kernel drops connections that it has no room to track, also those that go straight",
    "a higher net.netfilter.nf_conntrack_max",
)
.of_nftables();
/// In the order of [`TRIALS`].
pub(super) const NFT_TRIALS: [Feature; 4] = [
    nft_trial("nftables: a redirected IPv4 connection"),
    nft_trial("nftables: a redirected IPv6 connection"),
    nft_trial("nftables: a redirected datagram, answered"),
    nft_trial("nftables: a denied connection"),
];
pub(super) const NFT_ALL: [Feature; 8] = {
    let [tcp4, tcp6, udp, denied] = NFT_TRIALS;
    [NFT_RULESETS, NFT_CGROUPS, NFT_TRACKING, NFT_ROOM, tcp4, tcp6, udp, denied]
};

const fn nft_trial(name: &'static str) -> Feature {
    all(name, "5.2", "what a ruleset is for does not work, though the kernel takes it", "a report of this")
        .of_nftables()
}

/// The hook of one of the programs.
pub(super) fn of(program: &ProgramDef) -> Feature {
    match program.hook {
        Hook::Tracepoint if program.tracepoint == "cgroup_mkdir" => all(
            "tracepoint cgroup_mkdir",
            "5.19",
            "a unit that is restarted is no member until the next apply",
            NEWER,
        ),
        Hook::Tracepoint => all(
            "tracepoint cgroup_rmdir",
            "5.19",
            "the entries of cgroups that are gone stay until the next apply",
            NEWER,
        ),
        Hook::Iterator => {
            all("iterator over sockets", "5.16", "sockets that listen cannot be looked for", NEWER)
        }
        Hook::SkLookup => SK_LOOKUP,
        Hook::Message | Hook::Security => SK_MSG,
        Hook::TcxIngress => TCX,
        Hook::Ingress => part(
            "hook ingress",
            "5.7",
            "broadcasts, multicasts and datagrams that claim a pod's own address get past inbound rules",
            NEWER,
        ),
        Hook::Egress => all(
            "hook egress",
            "5.7",
            "packets that carry a route get past the rules for where they go",
            NEWER,
        ),
        Hook::SockOps => {
            all("hook sock_ops", "5.15", "a sidecar cannot ask where a connection was going", NEWER)
        }
        Hook::GetSockOpt => {
            all("hook getsockopt", "5.3", "a sidecar cannot ask where a connection was going", NEWER)
        }
        Hook::Connect4 => all("hook connect4", "5.7", "IPv4 connections cannot be decided", NEWER),
        Hook::Connect6 => all("hook connect6", "5.7", "IPv6 connections cannot be decided", NEWER),
        Hook::SendMsg4 => all("hook sendmsg4", "5.7", "IPv4 datagrams cannot be decided", NEWER),
        Hook::SendMsg6 => all("hook sendmsg6", "5.7", "IPv6 datagrams cannot be decided", NEWER),
        Hook::RecvMsg4 => all("hook recvmsg4", "5.2", "answers seem to come from the sidecar", NEWER),
        Hook::RecvMsg6 => all("hook recvmsg6", "5.2", "answers seem to come from the sidecar", NEWER),
        Hook::GetPeerName4 => {
            all("hook getpeername4", "5.8", "an application is told 127.0.0.1, not what it dialled", NEWER)
        }
        Hook::GetPeerName6 => {
            all("hook getpeername6", "5.8", "an application is told ::1, not what it dialled", NEWER)
        }
        Hook::GetSockName4 => all("hook getsockname4", "5.8", "`transparent` has no effect", NEWER),
        Hook::GetSockName6 => all("hook getsockname6", "5.8", "`transparent` has no effect", NEWER),
    }
}
