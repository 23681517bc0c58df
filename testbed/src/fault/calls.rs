//! Which system calls count.

use libc::{O_CREAT, O_RDWR, O_TRUNC, O_WRONLY, c_long};

/// A set of system calls to count and to strike at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// `bpf(2)`, and all that changes files, mounts and locks.
    Changing,
    /// Every call: also the store into mapped memory between two calls comes to lie between two strikes.
    All,
}

/// Calls that count in [`Calls::Changing`], whatever their arguments.
const CHANGING: &[(c_long, &str)] = &[
    (libc::SYS_bpf, "bpf"),
    (libc::SYS_renameat2, "renameat2"),
    (libc::SYS_mkdirat, "mkdirat"),
    (libc::SYS_unlinkat, "unlinkat"),
    (libc::SYS_linkat, "linkat"),
    (libc::SYS_symlinkat, "symlinkat"),
    (libc::SYS_fchmod, "fchmod"),
    (libc::SYS_fchmodat, "fchmodat"),
    (libc::SYS_fchown, "fchown"),
    (libc::SYS_ftruncate, "ftruncate"),
    (libc::SYS_truncate, "truncate"),
    (libc::SYS_fallocate, "fallocate"),
    (libc::SYS_fsync, "fsync"),
    (libc::SYS_fdatasync, "fdatasync"),
    (libc::SYS_syncfs, "syncfs"),
    (libc::SYS_msync, "msync"),
    (libc::SYS_flock, "flock"),
    (libc::SYS_mount, "mount"),
    (libc::SYS_umount2, "umount2"),
    (libc::SYS_setns, "setns"),
    (libc::SYS_copy_file_range, "copy_file_range"),
    (libc::SYS_sendfile, "sendfile"),
];

/// The older forms, which newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const OLDER: &[(c_long, &str)] = &[
    (libc::SYS_rename, "rename"),
    (libc::SYS_renameat, "renameat"),
    (libc::SYS_mkdir, "mkdir"),
    (libc::SYS_rmdir, "rmdir"),
    (libc::SYS_unlink, "unlink"),
    (libc::SYS_link, "link"),
    (libc::SYS_symlink, "symlink"),
    (libc::SYS_chmod, "chmod"),
    (libc::SYS_creat, "creat"),
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[(c_long, &str)] = &[(libc::SYS_renameat, "renameat")];

/// Calls that write to the descriptor in their first argument.
const WRITING: &[(c_long, &str)] = &[
    (libc::SYS_write, "write"),
    (libc::SYS_writev, "writev"),
    (libc::SYS_pwrite64, "pwrite64"),
    (libc::SYS_pwritev, "pwritev"),
];

impl Calls {
    /// The name of the call if it counts.
    pub(super) fn counted(self, number: c_long, arguments: [u64; 6]) -> Option<&'static str> {
        let changing = changing(number, arguments);
        match self {
            Self::Changing => changing,
            Self::All => Some(changing.unwrap_or("other")),
        }
    }
}

fn changing(number: c_long, arguments: [u64; 6]) -> Option<&'static str> {
    let named = |table: &[(c_long, &'static str)]| {
        table.iter().find(|(call, _)| *call == number).map(|(_, name)| *name)
    };
    // What a command prints changes nothing.
    let prints = (0..=2).contains(&arguments[0]);
    named(CHANGING)
        .or_else(|| named(OLDER))
        .or_else(|| named(WRITING).filter(|_| !prints))
        .or_else(|| opening(number, arguments))
}

/// An `open` counts where it may make a file or open one for writing.
fn opening(number: c_long, arguments: [u64; 6]) -> Option<&'static str> {
    let (name, flags) = match number {
        libc::SYS_openat => ("openat", arguments[2]),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => ("open", arguments[1]),
        _ => return None,
    };
    let writes = (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR).cast_unsigned();
    (flags & u64::from(writes) != 0).then_some(name)
}
