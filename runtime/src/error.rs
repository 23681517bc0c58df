//! What can go wrong, in words: what, where, why, and what to do about it.

use std::io;
use std::path::PathBuf;

use mesh_bpf::membership::Ambiguous;
use mesh_bpf::program::Inbound;
use mesh_bpf::tables::Damaged;
use mesh_nft::{NotLowered, Unsupported};

use crate::instance::Backend;
use crate::owner::{Holder, Owner};
use crate::system::SysError;

/// The result of a command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it is, for exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The input is refused: exit code 1.
    Refused,
    /// This node cannot: exit code 4.
    Node,
    /// Busy, or planned against something else: try again; exit code 5.
    Busy,
}

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step failed.
    #[error(transparent)]
    System(#[from] SysError),
    /// The instance's name cannot be the name of a pin.
    #[error("`{0}` cannot be the name of an instance: letters, digits, `-` and `_` only")]
    BadName(String),
    /// There is no BPF file system where one should be.
    #[error("`{}` is not in a BPF file system", .0.display())]
    NotBpffs(PathBuf),
    /// The state directory holds what is not ours.
    #[error("`{}` cannot be the state directory: it holds other things", .0.display())]
    NotAStateDirectory(PathBuf),
    /// The cgroup to attach to is no directory of the version 2 hierarchy.
    #[error("`{}` is no cgroup of the version 2 hierarchy", .0.display())]
    NotACgroup(PathBuf),
    /// Another process has the lock.
    #[error("another command holds the instance's lock{}", held_by(.holder.as_ref(), *.now))]
    Held {
        /// Who, as far as it said so.
        holder: Option<Holder>,
        /// Milliseconds since 1970.
        now: u64,
    },
    /// While the command waited, `detach --all` removed everything.
    #[error("the mesh was detached while this command waited")]
    DetachedMeanwhile,
    /// Something else is live than what the command was planned against.
    #[error("this was planned against {}, and now {} is live", basis(*.expected), basis(*.live))]
    Stale {
        /// The generation it was planned against; 0 for none.
        expected: u64,
        /// The one that is live; 0 for none.
        live: u64,
    },
    /// Somebody else applied what is live.
    #[error("the live policy was applied by the {0}")]
    Owned(Owner),
    /// The command needs a policy.
    #[error("no policy is live")]
    NoPolicy,
    /// A pinned map is not what this version needs.
    #[error("the pinned map `{map}` does not fit this version of meshc: {what}")]
    Incompatible {
        /// Its name.
        map: String,
        /// In what it differs.
        what: String,
    },
    /// A table in the kernel or a file cannot be read.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// A table of the live generation is missing.
    #[error("the live generation has no table `{0}`")]
    MissingTable(&'static str),
    /// A table of the live generation was changed behind our back.
    #[error("the table `{0}` of the live generation was modified since it was applied")]
    NotAsApplied(&'static str),
    /// What was read back from a new map is not what was written.
    #[error("the table `{0}` reads back from the kernel differently than it was written")]
    Altered(&'static str),
    /// A file of the state directory cannot be understood.
    #[error("`{}` is damaged: {what}", .file.display())]
    DamagedFile {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// There is no workload of that name.
    #[error("the live policy has no workload `{name}`")]
    UnknownWorkload {
        /// The name.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// An endpoint falls under two workloads.
    #[error(transparent)]
    Ambiguous(#[from] Ambiguous),
    /// There is no such generation among the kept ones.
    #[error("generation {0} is not kept")]
    NotKept(u64),
    /// There is no earlier policy.
    #[error("no other policy was live before this one")]
    NothingBefore,
    /// Nothing waits to be confirmed.
    #[error("nothing waits to be confirmed")]
    NothingWaits,
    /// As many observers as there may be.
    #[error("{} observers of this instance run already", mesh_bpf::abi::WATCHES)]
    ManyObservers,
    /// Decisions are asked for that were made before, and none are kept.
    #[error("this instance keeps no decisions")]
    NothingKept,
    /// A pod without a name.
    #[error("a pod without a name cannot be attached")]
    NoName,
    /// A pod in the node's own network namespace.
    #[error(
        "`{0}` is in the node's own network namespace: as a member, every process of the node would be decided as if \
         it were that pod's"
    )]
    HostNetwork(String),
    /// A network namespace that is a member under another name.
    #[error(
        "the network namespace `{}` is a member already, as the pod `{known}`: it cannot be `{name}` too", .netns.display()
    )]
    OtherPod {
        /// The file that stands for it.
        netns: PathBuf,
        /// The pod that it is registered as, behind its Kubernetes namespace.
        known: String,
        /// The one that was to be attached.
        name: String,
    },
    /// A file that stands for no network namespace.
    #[error("`{}` is no network namespace{}", .netns.display(), no_netns(.cause))]
    NotANetns {
        /// The file.
        netns: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// No pod of that name is attached.
    #[error("{}", not_attached(.name, .namespace.as_deref()))]
    NotAttached {
        /// The name that was asked for.
        name: String,
        /// The Kubernetes namespace that was asked for.
        namespace: Option<String>,
        /// The namespaces in which there are pods of that name; `None` is a pod without one.
        elsewhere: Vec<Option<String>>,
    },
    /// A command that cannot be started.
    #[error("`{program}` cannot be run: {cause}")]
    CannotRun {
        /// Its first word.
        program: String,
        /// What the kernel said.
        cause: io::Error,
    },
    /// Who asked for it waits no longer.
    #[error("whoever asked for this has given up waiting, and it is not done")]
    TooLate,
    /// A name or label of a pod that would do something to a terminal.
    #[error("`{0}` cannot be a name or a label of a pod: it has control characters")]
    BadWord(String),
    /// Programs of another instance run for the same processes.
    #[error("programs of another meshc are attached to `{}`, above it or below it: {}", .cgroup.display(), .programs.join(", "))]
    AnotherMesh {
        /// The cgroup that ours are to be attached to.
        cgroup: PathBuf,
        /// Names and ids of the programs.
        programs: Vec<String>,
    },
    /// Programs of this instance run, and their pins are not to be seen.
    #[error("this instance's programs are attached, and `{}` has no pins of them: it was unmounted while they were, or another file system is mounted over it: {}", .bpffs.display(), .programs.join(", "))]
    LostPins {
        /// Where the pins were.
        bpffs: PathBuf,
        /// Names and ids of the programs.
        programs: Vec<String>,
    },
    /// The BPF file system goes away with this mount namespace.
    #[error("`{}` is mounted in this mount namespace only: what is pinned there goes away with it", .0.display())]
    PrivateBpffs(PathBuf),
    /// A map is too small for the policy.
    #[error("the policy needs {needed} entries of the map `{map}`, and it has room for {capacity}")]
    OverCapacity {
        /// Which.
        map: &'static str,
        /// Entries that the policy names.
        needed: usize,
        /// Entries that fit.
        capacity: u32,
    },
    /// The BPF file system cannot be written.
    #[error("`{}` is mounted read-only", .0.display())]
    ReadOnly(PathBuf),
    /// This process may not do what the command does.
    #[error("this process lacks {}", .0.join(", "))]
    NoRights(Vec<&'static str>),
    /// A limit that the policy cannot fit into.
    #[error("the policy needs {needed} bytes in the kernel, and `{}` allows {limit}", .file.display())]
    TooLittleMemory {
        /// Bytes that the new tables and maps need.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
        /// The file that says so.
        file: PathBuf,
    },
    /// The kernel cannot close a connection on demand.
    #[error("this kernel cannot close connections: it was built without CONFIG_INET_DIAG_DESTROY")]
    CannotClose,
    /// The policy accelerates, and this kernel cannot.
    #[error("the policy accelerates, and this kernel cannot: {cause}")]
    CannotAccelerate {
        /// What it said.
        cause: SysError,
    },
    /// The policy accelerates, and this build cannot.
    #[error("the policy accelerates, and this build of meshc cannot: it has no acceleration")]
    WithoutAcceleration,
    /// The policy decides inbound traffic, and this kernel cannot.
    #[error("the policy decides inbound traffic to its workloads by {}, and this kernel cannot: {cause}", .by.word())]
    CannotDecideInbound {
        /// How it was to be decided.
        by: Inbound,
        /// What it said.
        cause: SysError,
    },
    /// Whether sockets hold bytes that would be lost cannot be told.
    #[error("whether accelerated sockets hold bytes that their processes have not read cannot be told: {0}")]
    UnreadUnknown(SysError),
    /// Sockets hold bytes that would be lost.
    #[error(
        "{0} accelerated sockets hold bytes that their processes have not read; detaching would lose them"
    )]
    Unread(usize),
    /// The instance's connections are decided by the other backend.
    #[error("this instance is decided by {}, and was asked to be by {}", backend(*.live), backend(*.wanted))]
    OtherBackend {
        /// What decides.
        live: Backend,
        /// What was asked for.
        wanted: Backend,
    },
    /// A command that works with BPF programs only.
    #[error("{what} needs BPF programs, and this instance is decided by nftables")]
    NotByRulesets {
        /// What it is.
        what: &'static str,
        /// What there is in its place.
        instead: &'static str,
    },
    /// Nftables cannot decide as the policy says.
    #[error("nftables cannot decide as this policy says: {}", unsupported(.0))]
    Unsupported(Vec<Unsupported>),
    /// No ruleset can be made of the policy.
    #[error(transparent)]
    NotLowered(#[from] NotLowered),
    /// A ruleset does not decide as the policy.
    #[error("the ruleset for `{namespace}` would not decide as the policy says, and was not loaded: {what}")]
    Unproved {
        /// The pod, or `host`.
        namespace: String,
        /// A flow that it decides otherwise.
        what: String,
    },
    /// The kernel does not take a ruleset.
    #[error("the kernel refuses the ruleset for `{namespace}`: {}{}", .cause.source, at_message(.cause))]
    RulesetRefused {
        /// The pod, or `host`.
        namespace: String,
        /// What it said, and of which message.
        cause: SysError,
    },
    /// The policy that rulesets are of is not kept any more.
    #[error("generation {0} is live, and its policy is not kept in the state directory any more")]
    PolicyLost(u64),
    /// The network namespace has ended that policies of this instance are applied in.
    #[error("the network namespace in which this instance was first applied has ended")]
    HostGone,
    /// The live tables are of another version.
    #[error(
        "the live policy was applied by a meshc with policy ABI {found}, and this one has {}",
        mesh_bpf::abi::POLICY_ABI
    )]
    OtherAbi {
        /// The ABI of the live tables.
        found: u32,
    },
    /// What is kept for established connections is of another version.
    #[error(
        "the programs in the kernel keep connections by flow ABI {found}, and this meshc has {}",
        mesh_bpf::abi::FLOW_ABI
    )]
    OtherFlowAbi {
        /// The ABI of what is kept.
        found: u64,
    },
}

impl Error {
    /// Whether another version of meshc made what is in the kernel.
    pub(crate) const fn is_of_another_version(&self) -> bool {
        matches!(self, Self::Incompatible { .. } | Self::OtherAbi { .. } | Self::OtherFlowAbi { .. })
    }

    /// What kind of failure it is.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Self::Held { .. }
            | Self::DetachedMeanwhile
            | Self::Stale { .. }
            | Self::ManyObservers
            | Self::TooLate
            | Self::Unread(_) => Class::Busy,
            Self::OtherBackend { .. }
            | Self::NotByRulesets { .. }
            | Self::Unsupported(_)
            | Self::BadName(_)
            | Self::Owned(_)
            | Self::NoPolicy
            | Self::UnknownWorkload { .. }
            | Self::Ambiguous(_)
            | Self::NotKept(_)
            | Self::NothingBefore
            | Self::NothingWaits
            | Self::NothingKept
            | Self::HostNetwork(_)
            | Self::OtherPod { .. }
            | Self::NotANetns { .. }
            | Self::NotAttached { .. }
            | Self::CannotRun { .. }
            | Self::NoName
            | Self::BadWord(_) => Class::Refused,
            Self::System(_)
            | Self::NotLowered(_)
            | Self::Unproved { .. }
            | Self::RulesetRefused { .. }
            | Self::PolicyLost(_)
            | Self::HostGone
            | Self::NotBpffs(_)
            | Self::NotAStateDirectory(_)
            | Self::NotACgroup(_)
            | Self::Incompatible { .. }
            | Self::OtherAbi { .. }
            | Self::OtherFlowAbi { .. }
            | Self::CannotAccelerate { .. }
            | Self::WithoutAcceleration
            | Self::CannotDecideInbound { .. }
            | Self::UnreadUnknown(_)
            | Self::AnotherMesh { .. }
            | Self::LostPins { .. }
            | Self::ReadOnly(_)
            | Self::PrivateBpffs(_)
            | Self::OverCapacity { .. }
            | Self::NoRights(_)
            | Self::TooLittleMemory { .. }
            | Self::CannotClose
            | Self::Damaged(_)
            | Self::MissingTable(_)
            | Self::NotAsApplied(_)
            | Self::Altered(_)
            | Self::DamagedFile { .. } => Class::Node,
        }
    }

    /// A word that scripts may rely on.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::System(_) => "kernel",
            Self::OtherBackend { .. } => "other-backend",
            Self::NotByRulesets { .. } => "needs-bpf",
            Self::Unsupported(_) => "unsupported",
            Self::NotLowered(_) => "not-lowered",
            Self::Unproved { .. } => "unproved",
            Self::RulesetRefused { .. } => "ruleset-refused",
            Self::PolicyLost(_) => "policy-lost",
            Self::HostGone => "host-gone",
            Self::BadName(_) => "instance-name",
            Self::NotBpffs(_) => "no-bpffs",
            Self::NotAStateDirectory(_) => "state-directory",
            Self::NotACgroup(_) => "no-cgroup",
            Self::Held { .. } => "locked",
            Self::DetachedMeanwhile => "detached",
            Self::Stale { .. } => "stale",
            Self::Owned(_) => "owner",
            Self::NoPolicy => "no-policy",
            Self::Incompatible { .. } => "incompatible",
            Self::Damaged(_) | Self::MissingTable(_) | Self::NotAsApplied(_) | Self::DamagedFile { .. } => {
                "damaged"
            }
            Self::Altered(_) => "read-back",
            Self::UnknownWorkload { .. } => "unknown-workload",
            Self::Ambiguous(_) => "ambiguous-member",
            Self::NotKept(_) => "not-kept",
            Self::NothingBefore => "nothing-before",
            Self::NothingWaits => "nothing-waits",
            Self::NothingKept => "nothing-kept",
            Self::NoName => "no-name",
            Self::HostNetwork(_) => "host-network",
            Self::OtherPod { .. } => "other-pod",
            Self::NotANetns { .. } => "no-netns",
            Self::NotAttached { .. } => "not-attached",
            Self::CannotRun { .. } => "cannot-run",
            Self::TooLate => "too-late",
            Self::BadWord(_) => "bad-word",
            Self::ManyObservers => "many-observers",
            Self::AnotherMesh { .. } => "another-mesh",
            Self::ReadOnly(_) => "read-only",
            Self::PrivateBpffs(_) => "private-bpffs",
            Self::LostPins { .. } => "lost-pins",
            Self::OverCapacity { .. } => "over-capacity",
            Self::NoRights(_) => "no-rights",
            Self::TooLittleMemory { .. } => "memory-limit",
            Self::OtherAbi { .. } => "other-abi",
            Self::OtherFlowAbi { .. } => "other-flow-abi",
            Self::CannotClose => "cannot-close",
            Self::CannotAccelerate { .. } | Self::WithoutAcceleration => "cannot-accelerate",
            Self::CannotDecideInbound { .. } => "cannot-decide-inbound",
            Self::UnreadUnknown(_) => "unread-unknown",
            Self::Unread(_) => "unread",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::System(cause) => system_help(cause),
            Self::OtherBackend { live, .. } => format!(
                "`meshc detach --all` first, and apply again: for a moment nothing is decided; or go on with `--backend {}`",
                live.word()
            ),
            Self::NotByRulesets { instead, .. } => (*instead).into(),
            Self::Unsupported(_) => {
                "leave it out of the policy, or apply with `--backend bpf`, where `meshc doctor` says that this node has it"
                    .into()
            }
            Self::NotLowered(_) | Self::Unproved { .. } => {
                "this is a mistake of meshc: please report it with the policy; `--backend bpf` does without rulesets".into()
            }
            Self::RulesetRefused { cause, .. } => ruleset_help(cause).into(),
            Self::PolicyLost(_) => {
                "`meshc apply` the policy again; `meshc pause` and `meshc detach --all` work without it".into()
            }
            Self::HostGone => "`meshc detach --all` forgets it; then apply where members by cgroup live".into(),
            Self::BadName(_) => "choose another name with `--instance`".into(),
            Self::NotBpffs(path) => format!(
                "mount one (`mount -t bpf bpf {}`), or name another directory with `--bpffs`",
                path.display()
            ),
            Self::NotAStateDirectory(_) => {
                "name a directory of its own with `--state`: others are kept out of it".into()
            }
            Self::NotACgroup(_) => "name a directory below a cgroup2 mount with `--cgroup`; one that was removed can be made again, or `meshc detach --all` \
                 forgets it".into(),
            Self::Held { .. } => "wait for it, or give this one more time with `--lock-timeout`".into(),
            Self::DetachedMeanwhile => "if the mesh is still wanted, run the command again".into(),
            Self::Stale { .. } => "plan again, and look at what changed".into(),
            Self::Owned(_) => "`--override` takes over; the agent then waits for `meshc resume`".into(),
            Self::NoPolicy => "`meshc apply` a policy first".into(),
            Self::Incompatible { .. } | Self::OtherAbi { .. } | Self::OtherFlowAbi { .. } => {
                "`meshc apply --drop-flows` starts over: for a moment nothing is intercepted, and established \
                 connections lose their sidecar's answers; or use the meshc that applied it"
                    .into()
            }
            Self::Damaged(_) | Self::MissingTable(_) | Self::NotAsApplied(_) | Self::Altered(_) => {
                "`meshc apply --repair` rewrites all tables".into()
            }
            Self::DamagedFile { .. } => {
                "remove that file: the kernel knows the live policy, and the record is made again".into()
            }
            Self::UnknownWorkload { known, .. } => format!("it has: {}", known.join(", ")),
            Self::Ambiguous(_) => {
                "let one of the workloads ask for more, so that it is the narrower one".into()
            }
            Self::NotKept(_) => "`meshc history` lists the kept generations".into(),
            Self::NothingBefore => "`meshc history` lists the kept generations".into(),
            Self::NothingWaits => "`apply --confirm-within` makes a policy wait".into(),
            Self::ManyObservers => {
                "end one of them; one that was killed gives its place free in seconds".into()
            }
            Self::NothingKept => {
                "`meshc apply --keep-decisions on` keeps them from then on; without `--since` they are shown as they \
                 happen"
                    .into()
            }
            Self::NoName => "name it with `--name`".into(),
            Self::HostNetwork(_) => {
                "leave it alone: name its cgroup in the policy (`workload w { cgroup \"…\" }`) where it is to be in \
                 the mesh; `--force` attaches the whole node all the same"
                    .into()
            }
            Self::OtherPod { known, .. } => format!(
                "`meshc detach` the pod `{known}` first, if it is gone; `--force` puts the new one in its place"
            ),
            Self::NotANetns { .. } => {
                "name the file of one: `/run/netns/NAME` (`ip netns list`), `/proc/PID/ns/net`, or what `lsns -t net` shows"
                    .into()
            }
            Self::NotAttached { elsewhere, .. } => not_attached_help(elsewhere),
            Self::CannotRun { .. } => "what follows `--` is run as it is, without a shell: give the path of a program, or \
                                       `sh -c '…'`"
                .into(),
            Self::TooLate => "ask again".into(),
            Self::BadWord(_) => "give it another, as Kubernetes would".into(),
            Self::PrivateBpffs(path) => format!(
                "mount it where the machine lives (`nsenter -t 1 -m mount -t bpf bpf {}`), or name another \
                 directory with `--bpffs`",
                path.display()
            ),
            Self::OverCapacity { .. } => "let workloads share a cgroup above theirs".into(),
            Self::ReadOnly(path) => format!("`mount -o remount,rw {}`", path.display()),
            Self::NoRights(_) => "run it as root, or with these capabilities".into(),
            Self::CannotClose => {
                "leave out `--reset-changed`, and restart what must not go on as it is".into()
            }
            Self::TooLittleMemory { .. } => "raise that limit, or run it in another cgroup".into(),
            Self::CannotAccelerate { .. } => {
                "remove the `accelerate` statements, or use a kernel (6.13 or newer, or 6.12.8) with \
                 CONFIG_DEBUG_INFO_BTF and CONFIG_BPF_STREAM_PARSER; `meshc doctor` says what it lacks"
                    .into()
            }
            Self::WithoutAcceleration => {
                "remove the `accelerate` statements, or use a build with the cargo feature `acceleration`, which is \
                 on unless it is switched off"
                    .into()
            }
            Self::CannotDecideInbound { by: Inbound::SkLookup, .. } => {
                "`meshc apply --inbound tc` decides at the interfaces of pods, where `meshc doctor` says that tcx \
                 works; or remove the inbound rules"
                    .into()
            }
            Self::CannotDecideInbound { by: Inbound::Tc, .. } => {
                "`meshc apply --inbound sk_lookup` takes its place, where `meshc doctor` says that it works; or \
                 remove the inbound rules"
                    .into()
            }
            Self::UnreadUnknown(_) => {
                "`meshc pause` stops interception now; detach when those connections have ended, or give \
                 `--drop-unread`"
                    .into()
            }
            Self::Unread(_) => {
                "`meshc pause` stops interception now; detach when they have read or ended, or give \
                 `--drop-unread`"
                    .into()
            }
            Self::AnotherMesh { .. } => {
                "detach that instance first, or attach this one elsewhere with `--cgroup`; where its pins and its state \
                 directory are gone, `bpftool link list` names the links of these programs, and `bpftool link detach id ID` \
                 takes each away"
                    .into()
            }
            Self::LostPins { .. } => {
                "where it is only covered, `umount` shows it again; else `meshc detach --all` finds and detaches them, and \
                 nobody is decided until you apply and attach again"
                    .into()
            }
        }
    }
}

/// What decides, in words.
const fn backend(backend: Backend) -> &'static str {
    match backend {
        Backend::Bpf => "BPF programs",
        Backend::Nft => "nftables",
    }
}

fn unsupported(all: &[Unsupported]) -> String {
    let words = |one: &Unsupported| match one {
        Unsupported::Accelerate { workload } => format!(
            "connections of `{workload}` are to be accelerated, and bytes pass the TCP/IP stack only between sockets that \
             BPF programs know"
        ),
        Unsupported::Transparent { rule } => {
            format!(
                "`{rule}` is `transparent`, and a redirect of nftables does not change the sidecar's own address"
            )
        }
        Unsupported::MissingSidecarPass { workload } => format!(
            "inbound connections of `{workload}` are to pass where no sidecar listens, which nftables does not know"
        ),
    };
    all.iter().map(words).collect::<Vec<_>>().join("; ")
}

/// At which message of a batch it was.
fn at_message(cause: &SysError) -> String {
    if cause.log.is_empty() { String::new() } else { format!(", at {}", cause.log) }
}

fn ruleset_help(cause: &SysError) -> &'static str {
    match cause.errno() {
        Some(libc::EPERM | libc::EACCES) => "this needs root, or CAP_NET_ADMIN and CAP_SYS_ADMIN",
        Some(libc::ENOMEM | libc::ENOBUFS) => {
            "the memory limit of this cgroup or machine is too small for the ruleset"
        }
        Some(libc::EBUSY | libc::EEXIST) => {
            "somebody else changes this table: leave it to meshc, and run it again"
        }
        _ => {
            "nothing was changed; this kernel may lack what the ruleset needs (nftables with nat, conntrack, \
             `socket cgroupv2`): `nft list ruleset` shows what there is, and `--backend bpf` does without"
        }
    }
}

fn system_help(cause: &SysError) -> String {
    match cause.errno() {
        Some(libc::EPERM | libc::EACCES) => {
            "this needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN; what the kernel refuses root, too, \
             `meshc doctor` tells"
        }
        Some(libc::ENOMEM) => "the memory limit of this cgroup or machine is too small for the policy",
        Some(libc::ENOSPC | libc::EDQUOT) => "make room on the disk of the state directory",
        Some(libc::EROFS) => "the file system is mounted read-only; name another directory",
        Some(libc::ENOTDIR | libc::EEXIST) => "a file is where a directory should be: name another directory",
        Some(libc::ENOENT) => "something was removed while the command ran; run it again",
        _ => "meshc needs Linux 6.1 or newer with BTF, cgroup v2 and a BPF file system",
    }
    .into()
}

/// What is wrong with a file that stands for no network namespace; nothing where it is of another kind.
fn no_netns(cause: &io::Error) -> String {
    if cause.raw_os_error() == Some(libc::EINVAL) { String::new() } else { format!(": {cause}") }
}

fn not_attached(name: &str, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("no pod `{name}` of the namespace `{namespace}` is attached"),
        None => format!("no pod `{name}` without a namespace is attached"),
    }
}

fn not_attached_help(elsewhere: &[Option<String>]) -> String {
    let choices: Vec<String> = (elsewhere.iter())
        .map(|namespace| {
            namespace.as_ref().map_or_else(
                || "one without a namespace (leave out `--namespace`)".into(),
                |namespace| format!("one in `{namespace}` (`--namespace {namespace}`)"),
            )
        })
        .collect();
    match choices.as_slice() {
        [] => "`meshc status` lists the pods that are".into(),
        _ => format!("there is {}", choices.join(", and ")),
    }
}

fn held_by(holder: Option<&Holder>, now: u64) -> String {
    holder.map_or_else(String::new, |holder| {
        let seconds = now.saturating_sub(holder.since) / 1000;
        format!(": `{}`, process {}, for {seconds} s", holder.command, holder.process.pid)
    })
}

fn basis(generation: u64) -> String {
    if generation == 0 { "no policy".into() } else { format!("generation {generation}") }
}
